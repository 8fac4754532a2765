"""Which scores may be ranked together."""

import re

import pandas as pd
import pytest
from mlflow.exceptions import MlflowException
from mlflow.utils.validation import _validate_metric

import trainables.torchvision_shim  # noqa: F401  before torchvision
from analysis.judgement import comparable
from trainables.metrics.extractors.features import NAMES
from trainables.metrics.statistics import Identity
from trainables.own import OwnCodeError, numbers_of


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


CONDITIONS = {"params.data_hash": ["a", "a", "b"], "params.image_size": 32, "params.features": "x-1-y"}


@pytest.mark.parametrize(
    "metric", ["sharpness", "disentanglement/mig", "kl", "elbow", "topology", "fidelity"]
)
def test_a_metric_that_nobody_described_is_not_compared_across_data(metric):
    found = comparable.groups(pd.DataFrame(CONDITIONS), metric)
    assert [list(group.index) for _, group in found] == [[0, 1], [2]]
    other_size = pd.DataFrame(CONDITIONS).assign(**{"params.image_size": [32, 64, 32]})
    assert len(comparable.groups(other_size, metric)) == 3


@pytest.mark.parametrize(
    "metric", ["fid", "fd_dinov2_std", "kid_x", "elbo", "validation_loss_last3", "top50"]
)
def test_known_metrics_depend_on_their_data(metric):
    assert len(comparable.groups(pd.DataFrame(CONDITIONS), metric)) == 2


def test_a_reconstruction_is_compared_whatever_the_extractor():
    same_data = pd.DataFrame(CONDITIONS).assign(
        **{"params.data_hash": "a", "params.features": ["x-1-y", "z-1-y", "x-1-y"]}
    )
    assert len(comparable.groups(same_data, "reconstruction_mse")) == 1
    assert len(comparable.groups(same_data, "fid")) == 2


def test_data_without_a_hash_are_told_apart_by_their_names():
    trials = pd.DataFrame({"params.dataset": ["faces", "digits", "faces"]})
    assert [list(group.index) for _, group in comparable.groups(trials, "fid")] == [[0, 2], [1]]


def test_no_score_of_a_persons_own_takes_the_rules_of_a_known_one():
    """What such a score depends on is its own code, which `fd_…` and the like do not."""
    names = ["fd_mine", "fid", "kid_mine_std", "elbo_small", "reconstruction_mse_l1", "top5"]
    for pattern, _ in comparable.DEPENDS_ON:
        assert any(re.fullmatch(pattern, name) for name in names)
    for name in names:
        with pytest.raises(OwnCodeError, match=f"m:f returns {name}, named like what a trial reports itself"):
            numbers_of("m:f", {name: 1.0})
    for name in ("größe 100%", "", ".", "..", "a/../b", "a//b", "/a", "a/", "a" * 251):
        with pytest.raises(MlflowException):
            _validate_metric(name, 1.0, 0, 0)  # MLflow's own rule
        with pytest.raises(OwnCodeError, match=r"m:f returns .*, a name that MLflow refuses"):
            numbers_of("m:f", {name: 1.0})
    for name in ("größe", "a/b c", "a:b", "a.b", "-", "A/b/c.d"):
        _validate_metric(f"loss/{name}", 1.0, 0, 0)
        assert numbers_of("m:f", {name: 1.0}) == {name: 1.0}
    assert numbers_of("m:f", {"topology": 1, "fdr": 2, "my_kid": 3}) == {"topology": 1, "fdr": 2, "my_kid": 3}
