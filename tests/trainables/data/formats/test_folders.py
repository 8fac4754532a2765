"""Folders name splits and classes in the ways that published sets do, and what they leave open is said."""

import pytest

from tests.fixtures.files import encoded, picture, write
from trainables.data.formats.folders import place, split_of
from trainables.data.sources import load
from trainables.data.store import SPLITS


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("train", "train"),
        ("Training", "train"),
        ("TESTING", "test"),
        ("seg_train", "train"),
        ("val2017", "validation"),
        ("Validation Set", "validation"),
        ("testImages", "test"),
        ("dev", "validation"),
        ("trn", "train"),
        ("tst", "test"),
        ("holdout", "test"),
        ("trainer", None),
        ("latest", None),
        ("train_test", None),
        ("cats", None),
        ("", None),
    ],
)
def test_a_split_is_known_by_its_words(name, split):
    assert split_of(name) == split


def placed(folders):
    """Where two images of each folder come to lie: split, class."""
    names = [f"{folder}/{i}.png".lstrip("/") for folder in folders for i in range(2)]
    found = place(names)
    splits = [SPLITS[split] for split in ([0] * len(names) if found.splits is None else found.splits)]
    kinds = [found.class_names[label] if label >= 0 else None for label in found.labels]
    return {
        folder: "left out" if 2 * k in found.left_out else (splits[2 * k], kinds[2 * k])
        for k, folder in enumerate(folders)
    }, found


TREES = {
    "Kaggle's brain tumours": {
        "Training/glioma": ("train", "glioma"),
        "Training/none": ("train", "none"),
        "Testing/glioma": ("test", "glioma"),
        "Testing/none": ("test", "none"),
    },
    "Intel's scenes": {
        "seg_train/seg_train/sea": ("train", "sea"),
        "seg_train/seg_train/forest": ("train", "forest"),
        "seg_test/seg_test/sea": ("test", "sea"),
        "seg_pred/seg_pred": "left out",
    },
    "parents": {
        "data/images/train/a": ("train", "a"),
        "data/images/train/b": ("train", "b"),
        "data/images/Val/a": ("validation", "a"),
        "data/images/test/b": ("test", "b"),
    },
    "splits below classes": {
        "cats/train": ("train", "cats"),
        "cats/test": ("test", "cats"),
        "dogs/train": ("train", "dogs"),
        "dogs/test": ("test", "dogs"),
    },
    "a stray file beside the splits": {
        "": "left out",
        "train/a": ("train", "a"),
        "train/b": ("train", "b"),
        "test/a": ("test", "a"),
    },
    "a stray file beside the classes": {
        "": ("train", None),
        "cats": ("train", "cats"),
        "dogs": ("train", "dogs"),
    },
    "splits without classes": {"train": ("train", None), "test": ("test", None)},
    "no split": {"cats": ("train", "cats"), "test": ("train", "test")},
}


@pytest.mark.parametrize("tree", TREES)
def test_folders_of_published_sets(tree):
    found, _ = placed(TREES[tree])
    assert found == TREES[tree]


def test_what_was_not_understood_is_said():
    _, found = placed(TREES["a stray file beside the classes"])
    assert found.notes == [
        "2 of 6 images lie beside the class folders cats, dogs and have no class, the first 0.png"
    ]
    _, found = placed(TREES["no split"])
    assert found.notes == ["the folder 'test' was taken for a class: no other folder names another split"]
    found = place(["0.png", "1.png", "2.png", "a/0.png", "b/0.png"])
    assert (found.labels == -1).all() and found.class_names == []
    assert found.notes == ["most images lie beside the folders a, b, which were not taken for classes"]


def test_classes_are_those_of_the_training_images():
    tested = [f"test/{kind}/{i}.png" for kind in ("cats", "dogs") for i in range(4)]
    found = place([*(f"train/{i}.png" for i in range(3)), *tested])
    assert (found.labels == -1).all() and found.class_names == [] and set(found.splits) == {0, 2}
    assert found.notes == [
        "most training images lie beside the folders cats, dogs, which were not taken for classes"
    ]
    trained = [name.replace("test", "train") for name in tested]
    found = place([*trained, *(f"test/{i}.png" for i in range(20))])
    assert found.labels.tolist() == [0] * 4 + [1] * 4 + [-1] * 20 and found.class_names == ["cats", "dogs"]


def test_test_images_are_not_trained_on(tmp_path):
    names = sorted(
        f"{split}/{kind}/{i}.png" for split in ("Training", "Testing") for kind in "ab" for i in range(8)
    )
    files = {name: encoded(picture(seed)) for seed, name in enumerate([*names, "preview.png"])}
    store = load(write(tmp_path / "set", files), image_size=16, cache_dir=tmp_path)
    assert store.split("test").tolist() == [
        row for row, name in enumerate(names) if name.startswith("Testing")
    ]
    assert store.manifest["rejects"][0][0] == "preview.png"
    assert "beside the folders that name the splits" in store.notes[0]
