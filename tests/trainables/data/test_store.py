"""The image store: written whole, mapped without a copy, refused when it differs from its manifest."""

import json
import pickle

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainables.data.store import _METADATA, DataError, ImageStore, digest, write_store


def made(path, n=12, size=8, channels=3, seed=0, rejects=()):
    g = np.random.default_rng(seed)
    images = g.integers(0, 256, (n, size, size, channels), np.uint8)
    digests = np.array([np.frombuffer(digest(image), np.uint8) for image in images]).reshape(n, 16)
    labels, splits = g.integers(0, 5, n), g.integers(0, 3, n).astype(np.uint8)
    factors = {"smile": g.random(n, np.float32), "tilt": g.random(n, np.float32)}
    manifest = {
        "name": "made",
        "class_names": [],
        "rejected": len(rejects),
        "rejects": list(rejects),
        "notes": [],
    }
    write_store(path, images, digests, labels, splits, factors, manifest)
    return images, labels, splits, factors


@settings(max_examples=30, deadline=None)
@given(
    n=st.integers(1, 40),
    size=st.integers(1, 12),
    channels=st.sampled_from([1, 3]),
    seed=st.integers(0, 2**32),
    name=st.text(max_size=20),
)
def test_what_is_written_is_read(tmp_path_factory, n, size, channels, seed, name):
    path = tmp_path_factory.mktemp("store") / "s.arrow"
    images, labels, splits, factors = made(path, n, size, channels, seed, rejects=[[name, "why"]])
    store = ImageStore.open(path)
    np.testing.assert_array_equal(store.images, images)
    np.testing.assert_array_equal(store.labels, labels)
    assert store.factors.keys() == factors.keys()
    for factor, values in factors.items():
        np.testing.assert_array_equal(store.factors[factor], values)
    for k, split in enumerate(("train", "validation", "test")):
        np.testing.assert_array_equal(store.split(split), np.flatnonzero(splits == k))
        assert store.manifest["splits"][split] == (splits == k).sum()
    assert store.manifest["rejects"] == [[name, "why"]]
    store.verify()


def test_images_are_the_files_pages_and_read_only(tmp_path):
    made(tmp_path / "s.arrow", n=500, size=32)
    before = pa.total_allocated_bytes()
    store = ImageStore(tmp_path / "s.arrow")
    images = store.images
    assert not images.flags.owndata
    assert not images.flags.writeable
    assert pa.total_allocated_bytes() - before < images.nbytes / 10
    start, end = images.__array_interface__["data"][0], images.nbytes
    with open("/proc/self/maps") as maps:
        mapped = [line for line in maps if line.rstrip().endswith(str(tmp_path / "s.arrow"))]
    spans = [[int(x, 16) for x in line.split()[0].split("-")] for line in mapped]
    assert any(low <= start and start + end <= high for low, high in spans)


def test_it_is_pickled_as_its_path(tmp_path):
    made(tmp_path / "s.arrow", n=200, size=32)
    store = ImageStore(tmp_path / "s.arrow")
    pickled = pickle.dumps(store)
    assert len(pickled) < 500
    assert pickle.loads(pickled).content_hash == store.content_hash


def test_the_hash_is_of_the_content_not_of_names(tmp_path):
    made(tmp_path / "a.arrow", rejects=[["x", "y"]])
    made(tmp_path / "b.arrow")
    made(tmp_path / "c.arrow", seed=1)
    a, b, c = (ImageStore(tmp_path / f"{name}.arrow").content_hash for name in "abc")
    assert a == b != c


def rewritten(path, change):
    """Write the store again with another manifest or other columns."""
    with pa.memory_map(str(path)) as file:
        batch = pa.ipc.open_file(file).get_batch(0)
        manifest = json.loads(batch.schema.metadata[_METADATA])
        columns = {name: batch.column(name) for name in batch.schema.names}
        manifest = change(manifest, columns) or manifest
        changed = pa.RecordBatch.from_pydict(columns)
        changed = changed.replace_schema_metadata({_METADATA: json.dumps(manifest)})
        target = path.with_name("changed.arrow")
        with pa.OSFile(str(target), "wb") as out, pa.ipc.new_file(out, changed.schema) as writer:
            writer.write_batch(changed)
    return target


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m, c: m | {"count": 5}, "its manifest says 5 of 192"),
        (lambda m, c: m | {"image_size": 16}, "holds 12 images of 192 bytes, its manifest says 12 of 768"),
        (lambda m, c: m | {"content_hash": "0"}, "doesn't match its manifest's hash"),
        (lambda m, c: c.update(label=pa.array([9] * 12)), "doesn't match its manifest's hash"),
        (lambda m, c: c.update({"factor:smile": pa.array([0.5] * 12, pa.float32())}), "doesn't match"),
        (lambda m, c: c.pop("split") and None, "lacks the column 'split'"),
    ],
)
def test_a_store_that_differs_from_its_manifest_is_refused(tmp_path, change, message):
    made(tmp_path / "s.arrow")
    with pytest.raises(DataError, match=message) as error:
        ImageStore(rewritten(tmp_path / "s.arrow", change))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "change",
    [
        lambda m: [m],
        lambda m: 7,
        lambda m: {k: v for k, v in m.items() if k != "content_hash"},
        lambda m: {k: v for k, v in m.items() if k != "notes"},
        lambda m: m | {"count": "12"},
        lambda m: m | {"class_names": None},
        lambda m: m | {"rejects": [["name"]]},
        lambda m: m | {"rejects": 3},
        lambda m: m | {"rejected": 2},
        lambda m: m | {"rejects": [["name", "why"]]},
    ],
)
def test_a_damaged_manifest_is_one_sentence(tmp_path, change):
    made(tmp_path / "s.arrow")
    with pytest.raises(
        DataError, match=r"the manifest of .* is damaged \(.*delete it to convert again"
    ) as error:
        ImageStore(rewritten(tmp_path / "s.arrow", lambda m, c: change(m)))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m, c: c.update(label=pa.array([0.5] * 12)), "column 'label' of .* is of the type double"),
        (lambda m, c: c.update(label=pa.array([None] * 12, pa.int64())), "or has gaps"),
        (lambda m, c: c.update(digest=c["image"]), "column 'digest'"),
        (lambda m, c: c.update(image=pa.array([b"x"] * 12)), "column 'image' of .* is of the type binary"),
        (lambda m, c: m | {"class_names": ["a", "b"]}, "has labels beyond its 2 classes"),
    ],
)
def test_columns_of_another_kind_are_refused(tmp_path, change, message):
    made(tmp_path / "s.arrow")
    with pytest.raises(DataError, match=message):
        ImageStore(rewritten(tmp_path / "s.arrow", change))


@pytest.mark.parametrize("kept", [0, 7, 100, 0.5, 0.95])
def test_a_file_that_breaks_off_is_refused(tmp_path, kept):
    made(tmp_path / "s.arrow", n=100)
    data = (tmp_path / "s.arrow").read_bytes()
    (tmp_path / "s.arrow").write_bytes(data[: int(kept * len(data)) if kept < 1 else kept])
    with pytest.raises(
        DataError, match=r"s.arrow is no readable image store \(.*can be deleted to be made again"
    ):
        ImageStore(tmp_path / "s.arrow")


def test_another_arrow_file_is_refused(tmp_path):
    batch = pa.RecordBatch.from_pydict({"a": [1]})
    with pa.OSFile(str(tmp_path / "a.arrow"), "wb") as out, pa.ipc.new_file(out, batch.schema) as writer:
        writer.write_batch(batch)
    with pytest.raises(DataError, match="without our manifest"):
        ImageStore(tmp_path / "a.arrow")


def test_a_damaged_pixel_is_found(tmp_path):
    images, *_ = made(tmp_path / "s.arrow", n=50)
    data = bytearray((tmp_path / "s.arrow").read_bytes())
    data[data.index(images[31].tobytes()) + 77] ^= 1
    (tmp_path / "s.arrow").write_bytes(data)
    with pytest.raises(DataError, match=r"image 31 of .* is damaged"):
        ImageStore(tmp_path / "s.arrow").verify()


def test_splits_that_do_not_exist_are_answered_with_those_that_do(tmp_path):
    made(tmp_path / "s.arrow")
    with pytest.raises(DataError, match="no split 'val'; the splits are train, validation, test"):
        ImageStore(tmp_path / "s.arrow").split("val")


def test_nothing_is_left_of_a_write_that_failed(tmp_path, monkeypatch):
    made(tmp_path / "s.arrow")
    whole = (tmp_path / "s.arrow").read_bytes()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("trainables.data.store.sync", full)
    with pytest.raises(OSError, match="No space left"):
        made(tmp_path / "s.arrow", seed=1)
    assert [path.name for path in tmp_path.iterdir()] == ["s.arrow"]
    assert (tmp_path / "s.arrow").read_bytes() == whole
