"""Which scores may be ranked together."""

import pandas as pd
import pytest

import trainables.torchvision_shim  # noqa: F401  before torchvision
from analysis.judgement import comparable
from trainables.metrics.extractors.features import NAMES
from trainables.metrics.statistics import Identity


def test_scores_of_two_scorers_are_two_rankings():
    """Each sweep trains its own scorer where none is given; only the hash tells them apart."""
    trials = pd.DataFrame({"params.scorer_hash": ["0a1b", "0a1b", "2c3d"], "params.scorer_weights": "None"})
    found = comparable.groups(trials, "top10")
    assert [list(group.index) for _, group in found] == [[0, 1], [2]]
    assert [depends["scorer"] for depends, _ in found] == ["0a1b", "2c3d"]


@pytest.mark.parametrize("name", ["inception", "efficientnet_lite0", "random", "dinov2"])
def test_a_recorded_extractor_is_loaded_by_its_name(name):
    network = {"dinov2": "dinov2_vitb14"}.get(name, name)
    assert comparable.extractor_name(str(Identity(network, "0" * 64, "uint8-bilinear-224"))) == name
    assert name in NAMES
