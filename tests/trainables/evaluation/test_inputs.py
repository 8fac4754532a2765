"""Settings out of range, and sets that nothing can be learned from, are refused before anything begins."""

import numpy as np
import pytest
from PIL import Image

from searchers.study.config import SweepConfig
from tests.fixtures.files import encoded, picture, write
from trainables.data.store import DataError
from trainables.evaluation.inputs import TrainingConfig, lacking, load_store, require_fit
from trainables.metrics.frechet import FEWEST
from trainables.models.vae import VAE


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"batch_size": 1}, "batch_size is 1; choose a whole number from 2 to 1000000: batch norm has no"),
        ({"batch_size": 2.5}, "batch_size is 2.5"),
        ({"batch_size": True}, "batch_size is True"),
        ({"evaluation_samples": 10**15}, "evaluation_samples is 1000000000000000"),
        ({"evaluation_samples": 1}, "evaluation_samples is 1"),
        ({"seed": -1}, "seed is -1"),
        ({"seed": 2**70}, "seed is 1180591620717411303424"),
        ({"seed": float("nan")}, "seed is nan"),
    ],
    ids=str,
)
def test_numbers_out_of_range(wrong, words):
    with pytest.raises(DataError, match=words):
        TrainingConfig(**wrong)


def test_samples_too_few_for_a_score_are_refused_before_an_epoch_is_spent():
    with pytest.raises(ValueError, match="evaluation_samples is 19; a score with its deviation takes 20 or"):
        require_fit(VAE, TrainingConfig(evaluation_samples=19))
    require_fit(VAE, TrainingConfig(evaluation_samples=FEWEST))
    require_fit(VAE, TrainingConfig(evaluation_samples=2, features="none"))
    assert SweepConfig(evaluation_samples=FEWEST).evaluation_samples == FEWEST
    with pytest.raises(ValueError, match=r"--evaluation-samples is 19; it must be .*20"):
        SweepConfig(evaluation_samples=FEWEST - 1)


def test_a_set_of_equal_images_is_refused(tmp_path):
    """Copies share a split, so nothing is left to hold out; each trial would divide by zero."""
    write(tmp_path / "set", {f"{i:02}.png": encoded(picture(1)) for i in range(64)})
    training = TrainingConfig(dataset=str(tmp_path / "set"), cache_dir=str(tmp_path / "cache"))
    with pytest.raises(DataError, match=r"none of the 64 images of set is in the split 'validation'"):
        load_store(training, 16, 3)


def test_two_pictures_are_enough(tmp_path):
    write(tmp_path / "set", {f"{i:02}.png": encoded(picture(i % 2)) for i in range(8)})
    training = TrainingConfig(dataset=str(tmp_path / "set"), cache_dir=str(tmp_path / "cache"))
    store = load_store(training, 16, 3)
    assert {len(store.split(name)) for name in ("train", "validation")} == {4}


def test_the_middle_of_wide_pictures_is_taken_or_that_they_are_squashed_is_said(tmp_path):
    wide = np.zeros((20, 60, 3), np.uint8)
    wide[:, 20:40] = 200  # the middle is bright, the ends are black
    files = {f"{i}.png": encoded(Image.fromarray(wide + np.uint8(i))) for i in range(8)}
    folder = write(tmp_path / "wide", files)
    settings = {"dataset": str(folder), "cache_dir": str(tmp_path / "cache")}
    squashed = load_store(TrainingConfig(**settings), 8, 3)
    assert squashed.notes == [
        "8 of 8 images are not square, and are squashed: the crop square takes their middle"
    ]
    square = load_store(TrainingConfig(**settings, crop="square"), 8, 3)
    assert square.notes == []
    assert squashed.images.mean() < 90 < 150 < square.images.mean()
    with pytest.raises(DataError, match="there is no crop 'middle'"):
        load_store(TrainingConfig(**settings, crop="middle"), 8, 3)


def test_what_a_machine_lacks_is_told(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    there = {"dataset": "faces", "data_root": None, "features": "random", "feature_weights": None}
    assert (
        lacking(there) == lacking({}) == lacking({"dataset": "s3://bucket/x.arrow", "features": "none"}) == ""
    )
    assert "no LEGO heads in" in lacking({**there, "dataset": "lego"})
    missing = str(tmp_path / "w.pth")
    assert lacking({**there, "features": "inception", "feature_weights": missing}).endswith(missing)
    assert "no network at" in lacking({**there, "features": f"classifier:{missing}"})
    assert "No module" in lacking({**there, "features": "nowhere_to_be_found:Net"})
