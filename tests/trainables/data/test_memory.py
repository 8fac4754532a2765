"""Images in memory become a file that `load` reads: the same pixels and labels, whatever held them."""

import numpy as np
import pytest
import torch
from PIL import Image

from trainables.data.memory import kept
from trainables.data.sources import load
from trainables.data.store import DataError

PIXELS = np.random.default_rng(0).integers(0, 256, (24, 16, 16, 3), np.uint8)
LABELS = np.arange(24) % 3


class Items:
    """A data set as torch and `datasets` have them: a length and items."""

    def __init__(self, items):
        self.items = items

    def __len__(self):
        return len(self.items)

    def __getitem__(self, number):
        return self.items[number]


def stored(images, tmp_path):
    return load(str(kept(images, tmp_path / "memory")), image_size=16, cache_dir=tmp_path / "cache")


FORMS = {
    "array": PIXELS,
    "floats": PIXELS / 255,
    "tensor": torch.from_numpy(PIXELS),
    "a gradient's": torch.from_numpy(PIXELS / 255).requires_grad_(),
    "channels first": torch.from_numpy(PIXELS).permute(0, 3, 1, 2),
    "pictures": Items([Image.fromarray(p) for p in PIXELS]),
    "pictures and labels": Items([(Image.fromarray(p), int(k)) for p, k in zip(PIXELS, LABELS, strict=True)]),
    "torch's own": torch.utils.data.TensorDataset(
        torch.from_numpy(PIXELS).permute(0, 3, 1, 2) / 255, torch.from_numpy(LABELS)
    ),
    "rows": Items(
        [{"image": Image.fromarray(p), "label": k, "id": "x"} for p, k in zip(PIXELS, LABELS, strict=True)]
    ),
}


@pytest.mark.parametrize("form", FORMS)
def test_each_form_gives_the_same_pixels_and_its_labels(form, tmp_path):
    store = stored(FORMS[form], tmp_path)
    np.testing.assert_array_equal(store.images, PIXELS)
    known = "label" in form or form in ("torch's own", "rows")
    assert store.labels.tolist() == (LABELS.tolist() if known else [-1] * 24)


@pytest.mark.parametrize(
    ("labels", "class_names", "numbers"),
    [
        (["cat", "dog", None], ["cat", "dog"], [0, 1, -1]),
        ([1.0, 2.0, None], ["1", "2"], [0, 1, -1]),
        ([torch.tensor(3), np.int64(5), None], ["3", "5"], [0, 1, -1]),
        ([3, 5, 3], ["3", "5"], [0, 1, 0]),
        ([None, [1, 2], None], [], [-1, -1, -1]),
    ],
)
def test_labels_are_words_and_numbers_and_may_have_gaps(labels, class_names, numbers, tmp_path):
    store = stored(Items([(p, labels[i % 3]) for i, p in enumerate(PIXELS)]), tmp_path)
    assert store.manifest["class_names"] == class_names
    assert store.labels.tolist() == numbers * 8
    gaps = ["8 of 24 images have no label"] if numbers[2] == -1 and class_names else []
    assert store.notes == gaps


def test_it_is_written_once_and_named_by_its_content(tmp_path):
    first = kept(PIXELS, tmp_path)
    written = first.stat().st_mtime_ns
    assert kept(torch.from_numpy(PIXELS), tmp_path) == first and first.stat().st_mtime_ns == written
    assert kept(255 - PIXELS, tmp_path) != first
    assert len(list(tmp_path.iterdir())) == 2


def test_a_data_set_of_the_hub_s_library(tmp_path):
    datasets = pytest.importorskip("datasets")
    rows = {"image": [Image.fromarray(p) for p in PIXELS], "label": LABELS.tolist()}
    found = stored(datasets.Dataset.from_dict(rows).cast_column("image", datasets.Image()), tmp_path)
    np.testing.assert_array_equal(found.images, PIXELS)
    assert found.labels.tolist() == LABELS.tolist()


@pytest.mark.parametrize(
    ("images", "sentence"),
    [
        (np.zeros((0, 8, 8, 3), np.uint8), "ndarray holds no images"),
        (Items([]), "Items holds no images"),
        (Items([Image.new("L", (8, 8)), Image.new("L", (9, 8))]), r"shape \(\(8, 8\) and, number 1"),
        (Items(["a.png"]), "item 0 of Items is no image"),
        (Items([{"text": "x"}]), "item 0 of Items is no image"),
        ({"train": PIXELS}, "dict holds train: give one of them"),
        (3, "int is no data set: it takes a path"),
    ],
)
def test_what_holds_no_images_is_told(images, sentence, tmp_path):
    with pytest.raises(DataError, match=sentence):
        kept(images, tmp_path)


def pictures_of_kinds():
    """A picture of each kind that is read in its own way."""
    clear = Image.new("RGBA", (16, 16), (255, 0, 0, 0))
    levels = Image.fromarray(np.full((16, 16), 20_000, np.uint16))
    turned = Image.fromarray(np.repeat(np.arange(16, dtype=np.uint8)[:, None] * 16, 16, axis=1))
    exif = turned.getexif()
    exif[0x0112] = 6  # a quarter turn
    turned.info["exif"] = exif.tobytes()
    return {"clear": clear, "16 bits": levels, "turned": turned}


@pytest.mark.parametrize("kind", ["clear", "16 bits", "turned"])
def test_pictures_are_read_as_files_are(kind, tmp_path):
    image = pictures_of_kinds()[kind]
    folder = tmp_path / "files"
    folder.mkdir()
    for number in range(8):
        image.save(folder / f"{number}.png", exif=image.info.get("exif", b""))
    files = load(folder, image_size=16, cache_dir=tmp_path / "cache")
    before = np.asarray(image).copy()
    np.testing.assert_array_equal(stored(Items([image] * 8), tmp_path).images, files.images)
    np.testing.assert_array_equal(np.asarray(image), before)
