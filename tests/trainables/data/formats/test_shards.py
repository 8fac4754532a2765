"""Tars in a folder are one data set, and files beside an image are its label."""

import gzip
import io
import json
import pickle
import tarfile

import numpy as np
import pytest
from PIL import Image

from trainables.data.catalogue import find
from trainables.data.sources import load

COLORS = {"red": (255, 0, 0), "blue": (0, 0, 255)}


def shard(path, samples):
    """Write a tar of samples: (key, color, files beside it by their ending)."""
    with tarfile.open(path, "w") as archive:
        for key, color, beside in samples:
            file = io.BytesIO()
            Image.new("RGB", (8, 8), COLORS[color]).save(file, "PNG")
            for name, data in (
                (f"{key}.png", file.getvalue()),
                *((f"{key}.{e}", d) for e, d in beside.items()),
            ):
                member = tarfile.TarInfo(name)
                member.size = len(data)
                archive.addfile(member, io.BytesIO(data))


def colors_of(source):
    return [Image.open(io.BytesIO(source.reader.read(i))).getpixel((0, 0)) for i in range(len(source))]


def opened(path, tmp_path):
    return find(path).open(tmp_path)


def by_color(number, beside):
    """Samples of both colors by turns, and what lies beside each."""
    names = ["red", "blue"] * 5
    return [(f"{number}-{k}", color, beside(color)) for k, color in enumerate(names)]


def shards(tmp_path, names, beside=lambda _: {}):
    """A folder of tars of ten samples each, their numbers in the keys."""
    folder = tmp_path / "set"
    folder.mkdir()
    for number, name in enumerate(names):
        shard(folder / f"{name}.tar", by_color(number, beside))
    return folder


@pytest.mark.parametrize(
    ("beside", "class_names"),
    [
        (lambda c: {"cls": str(int(c == "blue")).encode()}, ["0", "1"]),
        (lambda c: {"cls": f"{c}\n".encode()}, ["blue", "red"]),
        (lambda c: {"json": json.dumps({"label": c, "caption": "a face"}).encode()}, ["blue", "red"]),
        (lambda c: {"cls": c.encode(), "json": b"{broken", "txt": b"a caption"}, ["blue", "red"]),
    ],
)
def test_labels_lie_beside_the_images(tmp_path, beside, class_names):
    folder = shards(tmp_path, [f"part-{number:06d}" for number in range(3)], beside)
    source = opened(folder, tmp_path)
    assert len(source) == 30 and source.splits is None
    assert list(source.class_names) == class_names
    blue = class_names.index("blue") if "blue" in class_names else 1
    for label, pixel in zip(source.labels, colors_of(source), strict=True):
        assert (label == blue) == (pixel == COLORS["blue"])
    part = source.part(np.array([29, 3]))
    assert colors_of(part) == [colors_of(source)[29], colors_of(source)[3]]


def test_a_part_takes_no_other_tar_along(tmp_path):
    """What goes to a decoding process is as large as its part, whatever the set's size."""
    folder = shards(tmp_path, [f"{number:03d}" for number in range(40)])
    source = opened(folder, tmp_path)
    rows = [399, 3, 395, 7]
    part = source.reader.part(rows)
    assert [part.read(i) for i in range(4)] == [source.reader.read(row) for row in rows]
    assert sorted(len(reader) for reader in part.readers) == [2, 2]
    assert [part.part([2, 1]).read(i) for i in range(2)] == [source.reader.read(row) for row in (395, 3)]
    assert len(pickle.dumps(part)) < len(pickle.dumps(source.reader)) / 20


def test_a_shard_that_is_missing_is_told(tmp_path):
    folder = shards(tmp_path, ["0"])
    (folder / "1.tar").symlink_to(tmp_path / "nowhere.tar")
    (folder / ".2.tar").touch()
    source = opened(folder, tmp_path)
    assert source.rejects == [("1.tar", "neither a file nor a folder, or a link that leads nowhere")]
    assert source.notes == ["1 hidden files and folders, or a sweep's, ignored"]


def test_names_of_shards_are_splits_and_no_classes(tmp_path):
    folder = tmp_path / "set"
    folder.mkdir()
    for name in ("pets-train-0000", "pets-train-0001", "pets-val-0000", "odd"):
        shard(folder / f"{name}.tar", by_color(0, lambda color: {"cls": color.encode()}))
    source = opened(folder, tmp_path)
    assert len(source) == 30
    assert np.bincount(source.splits).tolist() == [20, 10]
    assert list(source.class_names) == ["blue", "red"]
    assert source.rejects == [
        ("odd.tar", "it lies beside the tars that name the splits, and may belong to any")
    ]


def test_shards_without_labels_have_no_classes(tmp_path):
    folder = shards(tmp_path, ["0", "1"])
    source = opened(folder, tmp_path)
    assert len(source) == 20 and not source.class_names and (source.labels == -1).all()


def test_class_folders_in_the_tars_are_classes_and_a_stray_json_is_not(tmp_path):
    folder = tmp_path / "set"
    folder.mkdir()
    for number in range(2):
        samples = [(f"{color}/{k}", color, {}) for k, color in enumerate(["red", "blue"] * 3)]
        shard(folder / f"{number}.tar", [*samples, ("red/9", "red", {"json": b'{"label": "odd"}'})])
    source = opened(folder, tmp_path)
    assert list(source.class_names) == ["blue", "red"] and (source.labels >= 0).all()
    assert any(".json" in note for note in source.notes)


def test_they_become_a_store_with_labels(tmp_path):
    folder = tmp_path / "set"
    folder.mkdir()
    for number in range(2):
        shard(folder / f"{number}.tar", by_color(number, lambda color: {"cls": color.encode()}))
    store = load(str(folder), image_size=8, channels=3, cache_dir=tmp_path / "cache")
    means = store.images.reshape(len(store), -1, 3).mean(1)
    names = np.array(store.manifest["class_names"])[store.labels]
    assert ((means[:, 2] > 127) == (names == "blue")).all()


def test_a_label_file_that_breaks_off_is_no_label(tmp_path):
    path = tmp_path / "a.tar"
    shard(
        path, [*by_color(0, lambda color: {"cls": color.encode()}), ("last", "red", {"cls": b"red" * 2000})]
    )
    data = path.read_bytes()
    path.write_bytes(data[: data.index(b"red" * 100) + 600])
    source = opened(path, tmp_path / "scratch")
    assert source.class_names == ["blue", "red"]
    assert len(source) == 11 and source.labels[-1] == -1


def test_shards_of_one_name_in_two_folders_stay_apart_and_the_folders_name_splits(tmp_path):
    folder = tmp_path / "set"
    for split, color in (("train", "red"), ("val", "blue")):
        (folder / split).mkdir(parents=True)
        samples = [(f"{k:04d}", color, {"cls": color.encode()}) for k in range(4)]
        shard(folder / split / "000.tar", samples)
    shard(folder / "odd.tar", by_color(0, lambda _: {}))
    source = opened(folder, tmp_path)
    assert len(set(source.names)) == len(source) == 8
    assert [source.class_names[label] for label in source.labels] == ["red"] * 4 + ["blue"] * 4
    assert colors_of(source) == [COLORS["red"]] * 4 + [COLORS["blue"]] * 4
    assert source.splits.tolist() == [0] * 4 + [1] * 4
    assert [name for name, _ in source.rejects] == ["odd.tar"]


def test_compressed_shards_of_one_name_are_each_read(tmp_path):
    folder = tmp_path / "set"
    for part, color in (("p", "red"), ("q", "blue")):
        (folder / part).mkdir(parents=True)
        path = folder / part / "000.tar"
        shard(path, [(f"{k:04d}", color, {}) for k in range(4)])
        path.with_suffix(".tar.gz").write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()
    assert colors_of(opened(folder, tmp_path)) == [COLORS["red"]] * 4 + [COLORS["blue"]] * 4


@pytest.mark.parametrize("name", ["x-0.tar.gz", "faces-v1.0-0.tar"])
def test_a_dot_in_a_shard_s_name_begins_no_ending(tmp_path, name):
    folder = tmp_path / "set"
    folder.mkdir()
    shard(folder / "plain.tar", by_color(0, lambda color: {"cls": color.encode()}))
    data = (folder / "plain.tar").read_bytes()
    (folder / "plain.tar").unlink()
    (folder / name).write_bytes(gzip.compress(data) if name.endswith("gz") else data)
    source = opened(folder, tmp_path)
    labels = [source.class_names[label] for label in source.labels]
    assert labels == ["red", "blue"] * 5
