"""Data sets by name and by path, from images written here."""

import errno
import io
import os
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from tests.fixtures.files import celeba, classes, encoded, pack_tar, pack_zip, picture, write
from tests.fixtures.real_data import REAL
from trainables.data import conversion, sources
from trainables.data import store as store_module
from trainables.data.sources import load, load_same
from trainables.data.store import DataError
from trainables.data.synthetic.faces import FACES


def test_faces_are_those_of_render_with_their_factors(tmp_path):
    store = load("faces", image_size=16, limit=300, cache_dir=tmp_path)
    images, factors = FACES.render(300, image_size=16)
    np.testing.assert_array_equal(store.images, images)
    np.testing.assert_array_equal(store.factors["smile_degree"], factors["smile_degree"])
    np.testing.assert_array_equal(store.labels, np.rint(factors["smile_degree"]))
    assert store.manifest["splits"] == {"train": 240, "validation": 30, "test": 30}


def test_a_folder_and_its_archives_give_the_same_store(tmp_path):
    files = classes()
    stores = [
        load(path, image_size=16, cache_dir=tmp_path / "cache")
        for path in (
            write(tmp_path / "folder", files),
            pack_tar(tmp_path / "a.tar", files),
            pack_tar(tmp_path / "b.tar.gz", files, "w:gz"),
            pack_zip(tmp_path / "c.zip", files),
        )
    ]
    assert {store.content_hash for store in stores} == {stores[0].content_hash}
    names = sorted(files)
    assert stores[0].manifest["class_names"] == ["cats", "dogs"]
    assert stores[0].labels.tolist() == [name.startswith("dogs") for name in names]
    for row, name in enumerate(names):
        image = Image.open(io.BytesIO(files[name])).resize((16, 16), Image.Resampling.BILINEAR)
        np.testing.assert_array_equal(stores[0].images[row], np.asarray(image))


def test_images_without_folders_have_no_class(tmp_path):
    files = {f"{i}.png": encoded(picture(i)) for i in range(20)}
    store = load(write(tmp_path / "flat", files), image_size=16, cache_dir=tmp_path)
    assert (store.labels == -1).all()
    assert store.manifest["class_names"] == []


@pytest.mark.parametrize("name", ["長" * 80, "e" * 255])
def test_a_long_name_is_cut_in_the_stores(tmp_path, name):
    files = {f"{i}.png": encoded(picture(i)) for i in range(20)}
    store = load(write(tmp_path / name, files), image_size=16, cache_dir=tmp_path)
    assert store.manifest["name"] == name and len(store.path.name.encode()) < 140
    part = load(store.path, image_size=16, limit=10, cache_dir=tmp_path)
    assert len(part) == 10


def test_celebas_attributes_become_factors_and_smiling_the_label(tmp_path):
    store = load(write(tmp_path / "celeba", celeba()), image_size=16, cache_dir=tmp_path)
    smiling = [i % 3 == 0 for i in range(1, 31)]
    assert store.labels.tolist() == smiling
    assert store.factors["Smiling"].tolist() == smiling
    assert store.factors["Young"].tolist() == [i % 2 == 0 for i in range(1, 31)]


def test_celebas_partition_is_its_split(tmp_path):
    files = celeba()
    lines = [f"{i:06}.jpg {0 if i <= 20 else 1 if i <= 25 else 2}" for i in range(1, 31)]
    files["list_eval_partition.txt"] = "\n".join(lines).encode()
    store = load(pack_tar(tmp_path / "celeba.tar", files), image_size=16, cache_dir=tmp_path)
    assert store.split("train").tolist() == list(range(20))
    assert store.split("validation").tolist() == list(range(20, 25))
    assert store.split("test").tolist() == list(range(25, 30))


def test_split_folders_are_splits_and_their_folders_classes(tmp_path):
    files = {f"{('train', 'val')[i % 2]}/{name}": data for i, (name, data) in enumerate(classes().items())}
    store = load(write(tmp_path / "imagenet", files), image_size=16, cache_dir=tmp_path)
    names = sorted(files)
    assert store.split("validation").tolist() == [i for i, n in enumerate(names) if n.startswith("val")]
    assert 0 < len(store.split("test")) < 10  # a tenth of train, which the source lacks


def test_an_image_keeps_its_split_when_others_join_and_copies_share_it(tmp_path):
    files = {f"{i:03}.png": encoded(picture(i)) for i in range(100)}
    few = load(write(tmp_path / "few", files), image_size=16, cache_dir=tmp_path)
    more = (
        files | {f"{i:03}.png": encoded(picture(i)) for i in range(100, 200)} | {"zz.png": files["000.png"]}
    )
    more = load(write(tmp_path / "more", more), image_size=16, cache_dir=tmp_path)

    def splits(store):
        return {row: name for name in ("train", "validation", "test") for row in store.split(name).tolist()}

    before, after = splits(few), splits(more)
    assert all(after[row] == split for row, split in before.items())
    assert after[200] == after[0]
    assert 10 <= len(more.split("test")) <= 31  # binomial(200, 0.1): more than 3 deviations are unlikely


def test_a_tiny_set_has_all_splits(tmp_path):
    files = {f"{i}.png": encoded(picture(i)) for i in range(3)}
    store = load(write(tmp_path / "tiny", files), image_size=16, cache_dir=tmp_path)
    assert store.manifest["splits"] == {"train": 1, "validation": 1, "test": 1}


def test_a_limit_takes_the_same_images_of_all_classes(tmp_path):
    folder = write(tmp_path / "folder", classes())
    first = load(folder, image_size=16, limit=12, cache_dir=tmp_path / "1")
    again = load(folder, image_size=16, limit=12, cache_dir=tmp_path / "2")
    assert len(first) == 12
    assert first.content_hash == again.content_hash
    assert set(first.labels) == {0, 1}
    assert first.notes == ["12 of 40 images are taken, chosen at random: dataset_limit sets how many"]


def test_a_limit_takes_a_part_of_a_store_that_is_named(tmp_path):
    whole = load(write(tmp_path / "folder", classes()), image_size=16, cache_dir=tmp_path)
    part, again = (
        load(whole.path, image_size=16, limit=12, cache_dir=tmp_path / name) for name in ("1", "2")
    )
    assert part.path.parent == tmp_path / "1" and part.content_hash == again.content_hash
    part.verify()
    rows = [int(np.flatnonzero((whole.images == image).all((1, 2, 3)))[0]) for image in part.images]
    assert len(set(rows)) == 12 and rows == sorted(rows)
    np.testing.assert_array_equal(part.labels, whole.labels[rows])
    np.testing.assert_array_equal(part.splits, whole.splits[rows])
    assert part.notes == ["12 of 40 images are taken, chosen at random: dataset_limit sets how many"]
    assert load(whole.path, image_size=16, limit=40, cache_dir=tmp_path).path == whole.path


def test_a_part_of_a_store_is_gathered_by_slabs_where_the_disk_has_room(tmp_path, monkeypatch):
    whole = load(write(tmp_path / "folder", classes()), image_size=16, cache_dir=tmp_path)
    first = load(whole.path, image_size=16, limit=12, cache_dir=tmp_path / "1")
    monkeypatch.setattr(store_module, "SLAB", 5)
    slabs = load(whole.path, image_size=16, limit=12, cache_dir=tmp_path / "2")
    assert slabs.content_hash == first.content_hash
    slabs.verify()
    assert sorted(path.suffix for path in (tmp_path / "2").iterdir()) == [".arrow", ".lock"]
    full = SimpleNamespace(free=2 * 12 * 16 * 16 * 3 - 1)
    monkeypatch.setattr(conversion.shutil, "disk_usage", lambda folder: full)
    with pytest.raises(DataError, match=r"converting folder takes .* free some"):
        load(whole.path, image_size=16, limit=12, cache_dir=tmp_path / "3")


def test_a_store_that_is_named_keeps_its_crop(tmp_path):
    store = load(write(tmp_path / "folder", classes()), image_size=16, crop="square", cache_dir=tmp_path)
    assert load(store.path, image_size=16, cache_dir=tmp_path).path == store.path
    assert load(store.path, image_size=16, crop="square", cache_dir=tmp_path).path == store.path
    with pytest.raises(DataError, match="was converted with the crop square, not larsen"):
        load(store.path, image_size=16, crop="larsen", cache_dir=tmp_path)


@pytest.mark.parametrize(("mode", "channels"), [("L", 1), ("RGB", 3)])
def test_channels_follow_the_source_where_none_are_named(tmp_path, mode, channels):
    files = {f"{i}.png": encoded(picture(i, mode=mode)) for i in range(5)}
    folder = write(tmp_path / mode, files)
    assert load(folder, image_size=16, cache_dir=tmp_path).manifest["channels"] == channels
    assert load(folder, image_size=16, channels=3, cache_dir=tmp_path).images.shape == (5, 16, 16, 3)


def test_colored_images_behind_grey_ones_keep_their_color(tmp_path):
    files = {f"{i:03}.png": encoded(picture(i, mode="L" if i < 60 else "RGB")) for i in range(64)}
    store = load(write(tmp_path / "mixed", files), image_size=16, cache_dir=tmp_path)
    assert store.manifest["channels"] == 3


def test_conversion_happens_once_and_again_when_the_source_changes(tmp_path):
    folder = write(tmp_path / "folder", classes())
    path = load(folder, image_size=16, cache_dir=tmp_path / "cache").path
    written = path.stat().st_mtime_ns
    assert load(folder, image_size=16, cache_dir=tmp_path / "cache").path.stat().st_mtime_ns == written
    assert load(folder, image_size=24, cache_dir=tmp_path / "cache").path != path
    write(folder, {"cats/new.png": encoded(picture(99))})
    assert len(load(folder, image_size=16, cache_dir=tmp_path / "cache")) == 41


def test_a_sweep_s_images_are_found_again_by_their_hash(tmp_path):
    """Although its source has changed since, or is gone; the cache tells other sets apart."""
    folder, cache = write(tmp_path / "folder", classes()), tmp_path / "cache"
    first = load(folder, image_size=16, cache_dir=cache)
    write(folder, {"cats/new.png": encoded(picture(99))})
    settings = {"image_size": 16, "cache_dir": cache}
    assert load_same(folder, first.content_hash, **settings).path == first.path
    assert len(list(cache.glob("*.arrow"))) == 1  # nothing was converted anew
    assert load_same(tmp_path / "gone", first.content_hash, **settings).path == first.path
    assert len(load_same(folder, None, **settings)) == 41
    elsewhere = {**settings, "cache_dir": tmp_path / "elsewhere"}
    with pytest.raises(DataError, match=r"folder on this machine are not those .* or have changed since"):
        load_same(folder, first.content_hash, **elsewhere)
    (folder / "cats/new.png").unlink()
    assert load_same(folder, first.content_hash, **elsewhere).content_hash == first.content_hash


def test_equal_images_of_other_classes_are_not_taken_for_a_sweep_s(tmp_path):
    """The hash says nothing of the classes' names."""
    files = {"cats": classes()}
    files["apes"] = {name.replace("cats", "apes"): data for name, data in files["cats"].items()}
    cache = tmp_path / "cache"
    stores = {
        name: load(write(tmp_path / name, files[name]), image_size=16, cache_dir=cache) for name in files
    }
    assert stores["cats"].content_hash == stores["apes"].content_hash
    for name, store in stores.items():
        again = load_same(tmp_path / name, store.content_hash, image_size=16, cache_dir=cache)
        assert again.manifest["class_names"] == store.manifest["class_names"]


@pytest.mark.skipif(os.name != "posix", reason="names of bytes are the system's")
def test_names_beyond_utf_8(tmp_path):
    files = {os.fsdecode(b"caf\xe9 %d.png" % i): encoded(picture(i)) for i in range(8)}
    folder = write(tmp_path / os.fsdecode(b"\xe9t\xe9"), files)
    store = load(folder, image_size=16, cache_dir=tmp_path / "cache")
    assert len(store) == 8 and store.path.name.startswith("t-16px-")


def test_what_was_unpacked_is_closed_before_it_is_removed(tmp_path, monkeypatch):
    """A network's disk refuses to remove a folder whose files are open; the store is whole all the same."""
    np.savez(tmp_path / "set.npz", images=np.random.default_rng(0).integers(0, 256, (8, 16, 16), np.uint8))
    left = []

    def refuse(path, ignore_errors=False):
        maps = Path("/proc/self/maps").read_text().splitlines()
        left.append((str(path), [line for line in maps if str(path) in line]))
        if not ignore_errors:
            raise OSError(errno.ENOTEMPTY, "Directory not empty")

    monkeypatch.setattr(sources.shutil, "rmtree", refuse)
    store = load(tmp_path / "set.npz", image_size=16, cache_dir=tmp_path / "cache", workers=1)
    assert len(store) == 8
    scratch = [lines for path, lines in left if path.endswith(".source")]
    assert scratch == [[]]


def test_the_users_cache_folder_is_the_default(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert load("faces", image_size=16, limit=20).path.parent == tmp_path / "latentune"


def test_an_unreadable_image_is_counted_and_named(tmp_path, caplog):
    files = classes() | {"cats/broken.png": b"no image", "dogs/empty.jpg": b""}
    store = load(write(tmp_path / "folder", files), image_size=16, cache_dir=tmp_path)
    assert len(store) == 40
    assert store.manifest["rejects"] == [
        ["cats/broken.png", "not an image, or of a kind that Pillow does not know"],
        ["dogs/empty.jpg", "the file is empty"],
    ]
    assert "2 of 42 images left out, the first cats/broken.png" in caplog.text


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "it is empty"),
        ({"notes.txt": b"text"}, "its 1 files have other endings"),
        ({"a.png": b"text", "b.png": b""}, r"none of the 2 images of .* can be read \(a.png: not an image"),
    ],
)
def test_a_set_without_images_is_one_sentence(tmp_path, files, message):
    (tmp_path / "set").mkdir()
    with pytest.raises(DataError, match=message) as error:
        load(write(tmp_path / "set", files), image_size=16, cache_dir=tmp_path / "cache")
    assert "\n" not in str(error.value)


def test_an_unknown_name_is_answered_with_the_known_ones(tmp_path):
    with pytest.raises(DataError, match=r"no data set or path 'celebra'; choose faces"):
        load("celebra", cache_dir=tmp_path)


@pytest.mark.parametrize(
    "wrong", [{"image_size": 4}, {"channels": 2}, {"crop": "middle"}, {"limit": 0}], ids=str
)
def test_wrong_settings_name_the_right_ones(tmp_path, wrong):
    with pytest.raises(DataError, match="choose"):
        load("faces", **({"image_size": 16} | wrong), cache_dir=tmp_path)


def test_a_cache_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(DataError, match=r"can't be written to .*file"):
        load("faces", image_size=16, limit=20, cache_dir=tmp_path / "file")


@pytest.mark.skipif(not REAL.is_dir(), reason=f"{REAL} with the real images is absent")
@pytest.mark.parametrize(("archive", "channels"), [("celeba10k", 3), ("smiles", 1)])
def test_real_archives(tmp_path, archive, channels):
    store = load(REAL / f"{archive}.tar", image_size=32, limit=400, cache_dir=tmp_path)
    assert store.images.shape == (400, 32, 32, channels)
    assert store.manifest["rejects"] == []
    assert set(store.labels) == {0, 1}
    assert os.path.samefile(store.path.parent, tmp_path)
