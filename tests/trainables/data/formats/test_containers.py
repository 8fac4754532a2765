"""Archives that are joined, locked or bombs: nothing is missing without a word, nothing fills the disk."""

import errno
import gzip
import io
import os
import tarfile
import zipfile
from types import SimpleNamespace

import numpy as np
import pytest

from tests.fixtures.files import encoded, pack_tar, pack_zip, picture, write
from trainables.data.formats import containers, readers
from trainables.data.sources import load
from trainables.data.store import DataError

FILES = {f"{i}.png": encoded(picture(i)) for i in range(12)}
FIRST, SECOND = dict(list(FILES.items())[:5]), dict(list(FILES.items())[5:])


def converted(path, tmp_path):
    return load(path, image_size=16, cache_dir=tmp_path / "cache")


@pytest.mark.parametrize("packed", [False, True])
def test_tars_that_were_joined_are_read_whole(tmp_path, packed):
    """As by `cat a.tar b.tar`, and `cat a.tar.gz b.tar.gz`."""
    ending, mode = (".tar.gz", "w:gz") if packed else (".tar", "w")
    parts = [pack_tar(tmp_path / f"{k}{ending}", files, mode) for k, files in enumerate((FIRST, SECOND))]
    both = tmp_path / f"both{ending}"
    both.write_bytes(b"".join(part.read_bytes() for part in parts))
    whole = converted(pack_tar(tmp_path / "whole.tar", FILES), tmp_path)
    store = converted(both, tmp_path)
    assert len(store) == 12
    assert store.notes == []
    np.testing.assert_array_equal(store.images, whole.images)


def test_what_stands_behind_a_tar_and_is_none_is_told(tmp_path):
    path = pack_tar(tmp_path / "set.tar", FILES)
    path.write_bytes(path.read_bytes() + b"no tar" * 1000)
    store = converted(path, tmp_path)
    assert len(store) == 12
    assert store.manifest["rejects"][0][0] == "set.tar"
    assert "breaks off" in store.notes[0]


def test_a_damaged_header_within_a_tar_is_told(tmp_path):
    """tarfile takes it for the end."""
    path = pack_tar(tmp_path / "set.tar", FILES)
    data = bytearray(path.read_bytes())
    with tarfile.open(path) as archive:
        damaged = archive.getmember("6.png").offset
    data[damaged + 150] ^= 64  # in the checksum
    path.write_bytes(data)
    store = converted(path, tmp_path)
    assert len(store) == 6
    assert f"the archive breaks off: no header at byte {damaged}" in store.notes[0]


def test_zips_that_were_joined_are_told(tmp_path):
    """A zip's directory is at its end: of two, the first has none that counts."""
    first = pack_zip(tmp_path / "a.zip", FIRST).read_bytes()
    path = pack_zip(tmp_path / "b.zip", SECOND)
    path.write_bytes(first + path.read_bytes())
    store = converted(path, tmp_path)
    assert len(store) == 7
    assert f"{len(first)} bytes before its first file; is another zip joined to it?" in store.notes[0]


def lock(path):
    """Mark all members of a zip as encrypted."""
    data = bytearray(path.read_bytes())
    for mark, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        place = data.find(mark)
        while place >= 0:
            data[place + offset] |= 1
            place = data.find(mark, place + 4)
    path.write_bytes(data)
    return path


def test_an_archive_that_is_encrypted_is_called_that(tmp_path):
    path = lock(pack_zip(tmp_path / "set.zip", FILES))
    with pytest.raises(DataError, match=r"holds no images \(12 files left out, the first 0.png: encrypted\)"):
        converted(path, tmp_path)


def test_hidden_files_are_counted(tmp_path):
    extra = {".ipynb_checkpoints/0-checkpoint.png": FILES["0.png"], "a/._0.png": b"\0"}
    for path in (
        pack_zip(tmp_path / "set.zip", FILES | extra),
        pack_tar(tmp_path / "set.tar", FILES | extra),
    ):
        store = converted(path, tmp_path)
        assert len(store) == 12
        assert store.notes == ["2 hidden files and folders, or a sweep's, ignored"]


def test_what_a_sweep_writes_among_its_own_images_is_none_of_them(tmp_path):
    """`cd photos; latentune sweep … --dataset .`: the next one has the same images, from the same store."""
    before = converted(write(tmp_path / "set", FILES), tmp_path)
    grid = {"0001.png": encoded(picture(99)), "samples/1.png": encoded(picture(98))}
    write(tmp_path / "set/results/faces", {"ledger.jsonl": b"{}", "sweep.json": b"{}", **grid})
    write(tmp_path / "set/results/begun", {"sweep.json": b"{}", **grid})
    write(tmp_path / "set/mlruns/1", grid)
    write(
        tmp_path / "set",
        {f"mlflow.db{end}": b"x" for end in ("", "-journal", ".lock")} | {"mlartifacts/1/a.png": b"x"},
    )
    assert converted(tmp_path / "set", tmp_path).path == before.path
    assert sorted(containers.list_folder(tmp_path / "set").names) == sorted(FILES)
    assert len(containers.list_folder(tmp_path / "set/results/faces").names) == 4  # who names it means it


def test_a_network_s_failure_is_no_reason_to_leave_a_folder_out(tmp_path, monkeypatch):
    write(tmp_path / "set", {f"a/{name}": data for name, data in FILES.items()})
    scandir = containers.os.scandir

    def stale(path):
        if path.name == "a":
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
        return scandir(path)

    monkeypatch.setattr(containers.os, "scandir", stale)
    with pytest.raises(DataError, match="can't be looked at"):
        converted(tmp_path / "set", tmp_path)


def tar_of_zeros(path, size):
    with gzip.open(path, "wb") as file, tarfile.open(fileobj=file, mode="w") as archive:
        member = tarfile.TarInfo("a.png")
        member.size = size
        archive.addfile(member, io.BytesIO(bytes(size)))
    return path


def test_a_compressed_tar_that_is_a_bomb_is_refused_and_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(containers, "SMALL", 1_000_000)
    monkeypatch.setattr(containers, "BLOCK", 65_536)
    path = tar_of_zeros(tmp_path / "set.tar.gz", 20_000_000)
    with pytest.raises(DataError, match=r"unpacks to 1 MB or more, over 50 times its own size"):
        converted(path, tmp_path)
    assert sum(file.stat().st_size for file in (tmp_path / "cache").rglob("*")) < 100_000
    monkeypatch.setattr(containers, "SMALL", 100_000_000)
    with pytest.raises(DataError, match="none of the 1 images"):
        converted(path, tmp_path)


def test_arrays_that_are_a_bomb_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(containers, "SMALL", 1_000_000)
    np.savez_compressed(tmp_path / "set.npz", images=np.zeros((20, 512, 512), np.uint8))
    with pytest.raises(DataError, match="over 150 times its own size"):
        converted(tmp_path / "set.npz", tmp_path)


@pytest.mark.parametrize("kind", ["zip", "tar", "folder"])
def test_a_member_larger_than_any_image_is_never_read(tmp_path, monkeypatch, kind):
    monkeypatch.setattr(readers, "MAX_BYTES", 50_000)
    if kind == "zip":
        path = tmp_path / "set.zip"
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, data in (FILES | {"z.png": bytes(100_000)}).items():
                archive.writestr(name, data)
    elif kind == "tar":
        path = pack_tar(tmp_path / "set.tar", FILES | {"z.png": bytes(100_000)})
    else:
        path = tmp_path / "set"
        path.mkdir()
        for name, data in (FILES | {"z.png": bytes(100_000)}).items():
            (path / name).write_bytes(data)
    store = converted(path, tmp_path)
    assert len(store) == 12
    assert dict(store.manifest["rejects"])["z.png"].startswith("0 MB, more than the 0 MB an image may take")


def test_an_archive_that_does_not_fit_the_disk_is_refused_before_it_fills_it(tmp_path, monkeypatch):
    monkeypatch.setattr(containers.shutil, "disk_usage", lambda folder: SimpleNamespace(free=1000))
    path = tar_of_zeros(tmp_path / "set.tar.gz", 100_000)
    with pytest.raises(DataError, match=r"has 0 MB free; free some, or name another folder as cache_dir"):
        converted(path, tmp_path)


def test_a_member_with_holes_is_left_out(tmp_path):
    """GNU tar leaves out their zeros; what lies in the archive are not the file's bytes."""
    path = pack_tar(tmp_path / "set.tar", FILES)
    with tarfile.open(path, "a") as archive:
        member = tarfile.TarInfo("holes.bmp")
        member.pax_headers = {"GNU.sparse.map": "0,512,100000,512", "GNU.sparse.size": "100512"}
        member.size = 1024
        archive.addfile(member, io.BytesIO(bytes(1024)))
    store = converted(path, tmp_path)
    assert len(store) == 12
    assert store.manifest["rejects"] == [["holes.bmp", "stored with holes, as by tar --sparse"]]
