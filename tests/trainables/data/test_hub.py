"""Data sets by the name that the hub's library takes: here a folder on this machine, since no network is."""

import sys

import numpy as np
import pytest
from PIL import Image

from tests.fixtures.files import encoded, picture, write
from trainables.data.sources import load
from trainables.data.store import DataError


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


def test_images_and_classes_of_a_set_are_read_and_it_is_fetched_once(tmp_path, monkeypatch):
    datasets = pytest.importorskip("datasets")
    files = {f"train/{kind}/{i}.png": encoded(picture(i)) for i, kind in enumerate(["cat", "dog"] * 6)}
    folder = write(tmp_path / "pets", files)
    store = load(f"hf:{folder}", image_size=20)
    assert len(store) == 12 and store.manifest["class_names"] == ["cat", "dog"]
    expected = {np.asarray(Image.open(folder / name)).tobytes() for name in files}
    assert {image.tobytes() for image in store.images} == expected
    assert store.name == f"hf:{folder}"
    monkeypatch.setattr(datasets, "load_dataset", None)
    assert load(f"hf:{folder}", image_size=20).content_hash == store.content_hash
    with pytest.raises(DataError, match="can't be loaded"):
        load(f"hf:{folder}:validation", image_size=20)


def test_what_is_missing_is_told(monkeypatch):
    with pytest.raises(DataError, match="names no data set of the hub"):
        load("hf:", image_size=16)
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(DataError, match="pip install datasets"):
        load("hf:mnist", image_size=16)
