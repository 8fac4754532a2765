"""Evaluating a winner again: the trials' own scores with other noise, and never on other data or features."""

import numpy as np
import pandas as pd
import pytest

import trainables.torchvision_shim  # noqa: F401  before torchvision

# isort: split
from analysis.judgement.evaluation import Evaluation
from analysis.record.store import AnalysisError
from analysis.record.trained_model import TrainedModel
from trainables.data.batches import to_uint8
from trainables.data.sources import load
from trainables.data.store import DataError
from trainables.metrics.extractors.features import load_extractor
from trainables.metrics.frechet import frechet_distance
from trainables.metrics.reference import reference_statistics
from trainables.models.vaegan import VAEGAN

SAMPLES = 60


@pytest.fixture(scope="module")
def extractor():
    return load_extractor("random")


@pytest.fixture(scope="module")
def trial(extractor, tmp_path_factory):
    """A trial's row of the record."""
    cache = tmp_path_factory.mktemp("data")
    store = load("faces", image_size=16, limit=120, cache_dir=cache)
    columns = {
        "params.dataset": "faces",
        "params.dataset_limit": 120,
        "params.data_root": "None",
        "params.cache_dir": str(cache),
        "params.image_size": 16,
        "params.features": str(extractor.identity),
        "params.feature_weights": "None",
        "params.data_hash": store.content_hash,
        "metrics.evaluated_images": float(SAMPLES),
    }
    return pd.Series(columns, dtype=object)


@pytest.fixture(scope="module")
def model():
    settings = {"image_size": 16, "width": 0.1, "latent_dim": 5}
    return TrainedModel(VAEGAN(VAEGAN.configure(settings), seed=3).eval(), {})


def test_the_scores_are_the_trials_own_with_other_noise(trial, extractor, model):
    evaluation = Evaluation.of(trial)
    found = [evaluation.scores(model, seed)[extractor.metric] for seed in (1, 1, 2)]
    assert found[0] == found[1] != found[2]
    images = to_uint8(model.network.sample(SAMPLES, model.generator(1)))
    store = evaluation.store
    reference = reference_statistics(store.images[store.split("train")], extractor, cache_dir=None, key="")
    assert found[0] == pytest.approx(frechet_distance(extractor(images), reference), rel=1e-6)
    assert np.isfinite(found).all()


def test_other_images_are_refused(trial):
    other = pd.Series({**trial, "params.data_hash": "f" * 64})
    with pytest.raises(DataError, match="the images of faces on this machine are not those"):
        Evaluation.of(other)


def test_another_extractor_is_refused(trial):
    other = pd.Series({**trial, "params.features": "random-0000-of-other-weights"})
    with pytest.raises(AnalysisError, match=r"The extractor here is .*: their scores cannot be compared"):
        Evaluation.of(other)
