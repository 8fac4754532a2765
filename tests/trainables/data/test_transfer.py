"""Stores behind storage URIs: one checked copy a machine."""

import threading

import numpy as np
import pytest
from pyarrow import fs

from tests.fixtures.files import classes, pack_tar
from tests.trainables.data.test_store import made
from trainables.data import transfer
from trainables.data.sources import load
from trainables.data.store import DataError, ImageStore
from trainables.data.transfer import fetch, publish


@pytest.fixture
def published(tmp_path):
    made(tmp_path / "s.arrow", n=40)
    store = ImageStore(tmp_path / "s.arrow")
    return store, publish(store, f"file://{tmp_path}/bucket/s.arrow")


def test_a_published_store_is_loaded_by_its_uri(tmp_path, published):
    store, uri = published
    assert uri == f"file://{tmp_path}/bucket/s.arrow#{store.content_hash}"
    copy = load(uri, image_size=8, cache_dir=tmp_path / "node")
    assert copy.path.parent == tmp_path / "node"
    np.testing.assert_array_equal(copy.images, store.images)
    assert copy.content_hash == store.content_hash


def test_a_machine_that_has_it_asks_the_storage_no_more(tmp_path, published):
    _, uri = published
    path = fetch(uri, tmp_path / "node")
    (tmp_path / "bucket" / "s.arrow").unlink()
    assert fetch(uri, tmp_path / "node") == path


def test_all_processes_of_a_machine_share_one_copy(tmp_path, published, monkeypatch):
    _, uri = published
    copies, paths = [], []
    copy = transfer._copy
    monkeypatch.setattr(transfer, "_copy", lambda *args: (copies.append(1), copy(*args)))
    threads = [threading.Thread(target=lambda: paths.append(fetch(uri, tmp_path / "node"))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(copies) == 1
    assert len(paths) == 4 and len(set(paths)) == 1


def test_a_damaged_store_is_refused_and_not_kept(tmp_path, published):
    store, uri = published
    file = tmp_path / "bucket" / "s.arrow"
    data = bytearray(file.read_bytes())
    data[data.index(store.images[3].tobytes()) + 5] ^= 1
    file.write_bytes(data)
    with pytest.raises(DataError, match="is damaged; convert and publish it again"):
        fetch(uri, tmp_path / "node")
    assert not list((tmp_path / "node").glob("*.arrow*[!k]"))


def test_a_store_that_was_replaced_is_refused(tmp_path, published):
    _, uri = published
    made(tmp_path / "t.arrow", seed=5)
    new = publish(ImageStore(tmp_path / "t.arrow"), uri.partition("#")[0])
    with pytest.raises(DataError, match="it was replaced; use its new address"):
        fetch(uri, tmp_path / "node")
    assert len(ImageStore(fetch(new, tmp_path / "node"))) == 12


def test_without_a_hash_a_changed_file_is_copied_anew(tmp_path, published):
    store, uri = published
    address = uri.partition("#")[0]
    assert ImageStore(fetch(address, tmp_path / "node")).content_hash == store.content_hash
    made(tmp_path / "t.arrow", seed=5)
    new = ImageStore(tmp_path / "t.arrow")
    publish(new, address)
    assert ImageStore(fetch(address, tmp_path / "node")).content_hash == new.content_hash


def test_an_archive_at_a_uri_is_copied_and_converted(tmp_path):
    pack_tar(tmp_path / "set.tar.gz", classes(), "w:gz")
    store = load(f"file://{tmp_path}/set.tar.gz", image_size=16, cache_dir=tmp_path / "node")
    here = load(tmp_path / "set.tar.gz", image_size=16, cache_dir=tmp_path / "here")
    assert store.content_hash == here.content_hash


def test_options_of_an_address_are_no_part_of_a_name(tmp_path, monkeypatch):
    archive = pack_tar(tmp_path / "set.tar", classes())
    real = fs.LocalFileSystem()
    monkeypatch.setattr(transfer, "_filesystem", lambda uri: (real, str(archive)))
    address = "s3://bucket/set.tar?region=eu-central-1&endpoint_override=http://host:9000"
    assert fetch(address, tmp_path / "node").name.endswith(".tar")
    store = load(address, image_size=16, cache_dir=tmp_path / "node")
    assert len(store) == 40 and store.name.startswith("set-")


def test_an_object_store(tmp_path, published, monkeypatch):
    """Any pyarrow file system serves; this one, like S3, has no folders to make and no renaming."""
    store, _ = published
    memory = fs._MockFileSystem()
    monkeypatch.setattr(transfer, "_filesystem", lambda uri: (memory, "s.arrow"))
    uri = publish(store, "s3://bucket/s.arrow")
    assert ImageStore(fetch(uri, tmp_path / "node")).content_hash == store.content_hash


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("file:///nowhere/s.arrow", "there is no file at file:///nowhere/s.arrow"),
        (
            "ftp://host/s.arrow",
            "'ftp://host/s.arrow' is no storage address .*it should look like file:///path",
        ),
        ("file:///a b", "is no storage address"),
        ("s3://KEY:SE/CRET@bucket/s.arrow", "holds a secret, a password before the @: leave it out"),
    ],
)
def test_addresses_that_lead_nowhere(tmp_path, uri, message):
    with pytest.raises(DataError, match=message) as error:
        load(uri, cache_dir=tmp_path)
    assert "\n" not in str(error.value)


def test_a_place_that_cannot_be_written(tmp_path, published):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(DataError, match=r"file/s.arrow can't be written"):
        publish(published[0], f"file://{tmp_path}/file/s.arrow")
