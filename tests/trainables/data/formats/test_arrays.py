"""Arrays whose parts do not belong together are refused in one sentence, or told with a count."""

import zipfile
from pathlib import Path

import numpy as np
import pytest

from trainables.data.__main__ import main
from trainables.data.formats import arrays
from trainables.data.sources import load
from trainables.data.store import DataError


def images(n, size=16, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (n, size, size), np.uint8)


def opened(tmp_path, **arrays):
    np.savez(tmp_path / "set.npz", **arrays)
    return load(tmp_path / "set.npz", image_size=16, cache_dir=tmp_path / "cache")


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"images": images(8), "labels": np.arange(7)}, "8 images, and 7 labels; each image needs one"),
        ({"x_train": images(8), "x_test": images(4, 24)}, r"are of the shapes \(16, 16\) and \(24, 24\)"),
        (
            {"x_train": images(8), "x_test": images(4), "y_train": np.zeros(8), "y_test": np.zeros(3)},
            "8 and 4 images, and 8 and 3 labels",
        ),
        ({"x_train": images(8), "x_test": images(4), "y_train": np.zeros(8)}, "8 and 4 images, and 8 labels"),
        ({"images": np.array([{}], object)}, "can't be read as an array"),
        ({"images": np.uint8(3)}, r"have the shape \(\)"),
        ({"images": np.zeros((3, 0, 16), np.uint8)}, r"have the shape \(3, 0, 16\)"),
        ({"images": np.full((4, 16, 16), np.nan)}, "are floats from nan to nan"),
        ({"pixels": images(4)}, "has the arrays pixels; its images should be called images"),
    ],
)
def test_arrays_that_do_not_fit(tmp_path, arrays, message):
    with pytest.raises(DataError, match=message) as error:
        opened(tmp_path, **arrays)
    assert "\n" not in str(error.value)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_a_full_disk_is_an_error_and_no_crash():
    """Who fills a map of a file with holes is ended by the system."""
    with pytest.raises(OSError, match="No space left"):
        arrays._write(Path("/dev/full"), (8, 64, 64), [images(8, 64)])


def test_labels_that_are_unknown_or_large(tmp_path, capsys):
    labels = np.array([0, 1, np.nan, 3e9, 3e9, 0, 1, 1])
    store = opened(tmp_path, images=images(8), labels=labels)
    assert store.manifest["class_names"] == ["0", "1", "3000000000"]
    assert store.labels.tolist() == [0, 1, -1, 2, 2, 0, 1, 1]
    assert main(["info", str(store.path)]) == 0
    assert "0 2, 1 3, 3000000000 2" in capsys.readouterr().out


def test_labels_in_a_column_and_in_words(tmp_path):
    words = np.array(["cat", "dog"] * 4)
    store = opened(tmp_path, images=images(8), labels=words)
    assert store.manifest["class_names"] == ["cat", "dog"]
    train, test = np.arange(8)[:, None] % 2, np.ones((4, 1), int)  # as Keras gives CIFAR's
    store = opened(tmp_path, x_train=images(8), y_train=train, x_test=images(4), y_test=test)
    assert store.labels.tolist() == [0, 1] * 4 + [1] * 4


def test_arrays_that_are_not_used_are_told(tmp_path):
    store = opened(
        tmp_path, images=images(8), height=np.arange(8.0), boxes=np.zeros((8, 4)), other=np.arange(3)
    )
    assert list(store.factors) == ["height"]
    assert store.notes == [
        "the array boxes does not hold one number an image: ignored",
        "the array other does not hold one number an image: ignored",
    ]


def test_members_that_are_no_arrays(tmp_path):
    opened(tmp_path, images=images(8))
    with zipfile.ZipFile(tmp_path / "set.npz", "a") as archive:
        archive.writestr("notes.npy", b"no array")
        archive.writestr("readme.txt", b"text")
        archive.writestr("labels.npy", b"")
    store = load(tmp_path / "set.npz", image_size=16, cache_dir=tmp_path / "cache")
    assert (store.labels == -1).all()
    assert len(store.notes) == 2


def test_levels_of_0_and_1_are_spread_only_where_there_are_no_others(tmp_path):
    """The first thousands of images may be dark: all decide."""
    dark = np.zeros((5000, 8, 8), np.uint8)
    dark[0, 0, 0] = 1
    dark[4999] = 200
    np.save(tmp_path / "dark.npy", dark)
    store = load(tmp_path / "dark.npy", image_size=8, cache_dir=tmp_path / "cache")
    np.testing.assert_array_equal(store.images[..., 0], dark)
