"""Which store belongs to a source: never another one's, and what of the source is not in it is counted."""

import os
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.fixtures.files import encoded, picture, write
from trainables.data.__main__ import main
from trainables.data.catalogue import fingerprint
from trainables.data.sources import load
from trainables.data.store import DataError


def flat(first, n=12):
    """Images of one size in bytes, whatever they show."""
    return {f"{i:02}.bmp": encoded(picture(first + i), "BMP") for i in range(n)}


def dated(folder, files, time=1_700_000_000):
    write(folder, files)
    for name in files:
        os.utime(folder / name, (time, time))
    return folder


def test_folders_of_one_name_with_equal_names_sizes_and_times_are_told_apart(tmp_path):
    stores = [
        load(dated(tmp_path / above / "train", flat(first)), image_size=16, cache_dir=tmp_path / "cache")
        for above, first in (("one", 0), ("two", 100))
    ]
    assert stores[0].path != stores[1].path
    assert (stores[0].images != stores[1].images).any()


def test_other_pixels_in_the_same_files_are_converted_anew(tmp_path):
    folder = dated(tmp_path / "set", flat(0))
    before = load(folder, image_size=16, cache_dir=tmp_path / "cache")
    dated(folder, flat(100))  # in place, with the times that the files had
    after = load(folder, image_size=16, cache_dir=tmp_path / "cache")
    expected = load(dated(tmp_path / "fresh", flat(100)), image_size=16, cache_dir=tmp_path / "cache")
    assert (after.images != before.images).any()
    np.testing.assert_array_equal(after.images, expected.images)


def test_an_archive_that_was_replaced_is_converted_anew(tmp_path):
    archives = []
    for first in (0, 100):
        path = shutil.make_archive(tmp_path / f"set{first}", "tar", dated(tmp_path / f"{first}", flat(first)))
        os.utime(path, (1_700_000_000, 1_700_000_000))
        archives.append(path)
    place = tmp_path / "set.tar"
    shutil.copy2(archives[0], place)
    before = load(place, image_size=16, cache_dir=tmp_path / "cache")
    shutil.copy2(archives[1], place)
    assert (load(place, image_size=16, cache_dir=tmp_path / "cache").images != before.images).any()


def test_files_that_are_no_images_are_counted_by_their_ending(tmp_path, capsys, caplog):
    others = {f"IMG_{i:02}.HEIC": b"x" for i in range(20)} | {"notes.txt": b"", "LICENSE": b""}
    store = load(write(tmp_path / "set", flat(0) | others), image_size=16, cache_dir=tmp_path / "cache")
    assert store.notes == [
        "20 files ending in .heic ignored, the first IMG_00.HEIC",
        "1 file without an ending ignored, the first LICENSE",
        "1 file ending in .txt ignored, the first notes.txt",
    ]
    assert "20 files ending in .heic ignored" in caplog.text
    assert main(["info", str(store.path)]) == 0
    assert "20 files ending in .heic ignored" in capsys.readouterr().out


def test_a_table_about_the_images_does_not_hide_them(tmp_path):
    folder = write(tmp_path / "set", flat(0))
    pq.write_table(pa.table({"file": ["00.bmp"], "age": [3]}), folder / "meta.parquet")
    store = load(folder, image_size=16, cache_dir=tmp_path / "cache")
    assert len(store) == 12
    assert store.notes == ["1 file ending in .parquet ignored, the first meta.parquet"]


def test_images_beside_a_table_of_images_are_counted(tmp_path):
    folder = write(tmp_path / "set", {"preview.png": encoded(picture(1))})
    cells = [{"bytes": encoded(picture(i)), "path": f"{i}.png"} for i in range(12)]
    pq.write_table(pa.table({"image": cells, "text": ["a"] * 12}), folder / "train.parquet")
    store = load(folder, image_size=16, cache_dir=tmp_path / "cache")
    assert len(store) == 12
    assert store.notes == [
        "the column text holds no numbers: ignored",
        "1 file ending in .png ignored, the first preview.png",
    ]


@pytest.mark.parametrize("name", ["", "  "])
def test_an_empty_name_is_no_data_set(tmp_path, monkeypatch, name):
    monkeypatch.chdir(write(tmp_path / "set", flat(0)))
    with pytest.raises(DataError, match=f"the data set is named '{name}'; choose faces"):
        load(name, image_size=16, cache_dir=tmp_path / "cache")


@pytest.mark.parametrize("name", ["x" * 300, "x" * 300 + ".arrow", "~nobody-of-this-name/set"])
def test_a_name_that_the_system_refuses_is_one_sentence(tmp_path, name):
    with pytest.raises(DataError, match="can't be looked at") as error:
        load(name, image_size=16, cache_dir=tmp_path)
    assert len(str(error.value)) < 200


def test_names_beyond_utf_8_can_be_printed(tmp_path):
    folder = write(tmp_path / "set", {f"{k}/{i}.png": encoded(picture(i)) for k in "ab" for i in range(6)})
    os.rename(folder / "b", os.fsencode(folder) + b"/\xff")
    for name in (b"\xfe.png", b"\xfd.HEIC"):
        with open(os.fsencode(folder) + b"/a/" + name, "wb") as file:
            file.write(b"x")
    store = load(folder, image_size=16, cache_dir=tmp_path / "cache")
    assert len(store) == 12
    assert store.manifest["class_names"] == ["a", "?"]
    assert all(note.encode() for note in store.notes) and len(store.notes) == 2
    with pytest.raises(DataError) as error:
        load("nowhere/\udcff", cache_dir=tmp_path)
    assert str(error.value).encode()


def test_equal_times_do_not_make_two_folders_one(tmp_path):
    """Files that are written in one tick of the clock have one time of change; so have links to one file."""
    first, second = tmp_path / "one" / "train", tmp_path / "two" / "train"
    write(first, {"0.png": encoded(picture(0))})
    second.mkdir(parents=True)
    os.link(first / "0.png", second / "0.png")
    assert fingerprint(first) == fingerprint(first)
    assert fingerprint(first) != fingerprint(second)
