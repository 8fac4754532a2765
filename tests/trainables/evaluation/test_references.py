"""What images that no model made score, beside closed forms."""

import numpy as np
import pytest

from tests.fixtures.files import classes, write
from trainables.data.sources import load
from trainables.evaluation.inputs import cache_of, load_reference
from trainables.evaluation.references import real_images, reference_scores
from trainables.metrics.extractors.features import load_extractor
from trainables.metrics.frechet import frechet_distance
from trainables.metrics.reference import ReferenceStatistics, reference_statistics


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    folder = tmp_path_factory.mktemp("references")
    return load(write(folder / "classes", classes()), image_size=16, cache_dir=folder)


def test_repeated_images_have_no_covariance_and_real_ones_are_training_images(store):
    extractor, train = load_extractor("random"), store.images[store.split("train")]
    counted = []
    reference = load_reference(store, extractor, advance=counted.append)
    assert sum(counted) == len(train)
    features = extractor(train)
    mean_image = np.rint(train.mean(0, dtype=np.float64)).astype(np.uint8)
    far = np.square(extractor(mean_image[None])[0] - features.mean(0)).sum()
    found = reference_scores(store, extractor, reference, samples=500)
    assert found["mean_image"] == pytest.approx(far + np.trace(np.cov(features.T)), rel=1e-6)
    half = real_images(reference, 500)
    assert half == len(train) // 2
    kept = reference.features[:half]
    others = np.array([f for f in features.astype(np.float32) if not (kept == f).all(1).any()])
    expected = frechet_distance(kept, ReferenceStatistics.of_features(others))
    assert found["real"] == pytest.approx(expected, rel=1e-3)


def test_of_three_images_no_half_is_compared_with_the_other(store):
    extractor = load_extractor("random")
    reference = reference_statistics(store.images[:3], extractor, cache_dir=None, key="")
    assert reference_scores(store, extractor, reference, samples=500).keys() == {"grey", "mean_image"}
    reference = reference_statistics(store.images[:4], extractor, cache_dir=None, key="")
    assert np.isfinite(reference_scores(store, extractor, reference, samples=500)["real"])


def test_a_folder_that_cannot_be_written_is_left_alone(store, tmp_path, monkeypatch):
    assert cache_of(store) == store.path.parent
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr("os.access", lambda path, mode: False)
    assert cache_of(store) == tmp_path / "latentune"
    assert cache_of(store, "elsewhere").name == "elsewhere"
