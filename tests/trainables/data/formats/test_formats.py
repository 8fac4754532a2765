"""MNIST's files, arrays, Parquet, and CelebA as it is found in the wild."""

import gzip
import json
import os
import resource
import struct

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from tests.fixtures.files import celeba, encoded, pack_zip, picture, write
from tests.fixtures.real_data import REAL
from trainables.data import download
from trainables.data.catalogue import find
from trainables.data.decoding import CROPS
from trainables.data.formats import arrays, readers
from trainables.data.sources import load
from trainables.data.store import DataError


def random_images(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def idx(array):
    return bytes((0, 0, 8, array.ndim)) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def mnist_files(train, test, suffix=".gz"):
    pack = gzip.compress if suffix else bytes
    return {
        f"{part}-{kind}-idx{array.ndim}-ubyte{suffix}": pack(idx(array))
        for part, images in (("train", train), ("t10k", test))
        for kind, array in (("images", images), ("labels", (np.arange(len(images)) % 10).astype(np.uint8)))
    }


@pytest.mark.parametrize("suffix", ["", ".gz"])
@pytest.mark.parametrize("folder", ["", "mnist", "MNIST/raw"])
def test_mnist_in_its_own_files(tmp_path, suffix, folder):
    train, test = random_images(50, 28, 28), random_images(7, 28, 28, seed=1)
    write(tmp_path / "root" / folder, mnist_files(train, test, suffix))
    store = load("mnist", image_size=28, data_root=tmp_path / "root", cache_dir=tmp_path)
    np.testing.assert_array_equal(store.images[:50, ..., 0], train)
    np.testing.assert_array_equal(store.images[50:, ..., 0], test)
    assert store.split("test").tolist() == list(range(50, 57))
    assert 0 < len(store.split("validation")) < 15
    np.testing.assert_array_equal(store.labels, [*np.arange(50) % 10, *np.arange(7) % 10])


@pytest.mark.parametrize("damage", [lambda data: data[:-30], lambda data: b"\0\0\x0b" + data[3:]])
def test_a_damaged_idx_file_is_named(tmp_path, damage):
    files = mnist_files(random_images(5, 28, 28), random_images(5, 28, 28), "")
    files["train-images-idx3-ubyte"] = damage(files["train-images-idx3-ubyte"])
    write(tmp_path / "mnist", files)
    with pytest.raises(DataError, match="train-images-idx3-ubyte can't be read as an idx file"):
        load("mnist", data_root=tmp_path, cache_dir=tmp_path / "cache")


@pytest.mark.skipif(not (REAL / "mnist").is_dir(), reason=f"{REAL}/mnist is absent")
def test_mnist_whole(tmp_path):
    store = load("mnist", image_size=28, limit=3000, data_root=REAL, cache_dir=tmp_path)
    assert len(store) == 3000
    assert 2400 < len(store.split("train")) + len(store.split("validation")) < 2700  # 6 of 7
    assert np.bincount(store.labels).min() > 200
    assert 0.1 < store.images.mean() / 255 < 0.16  # MNIST's mean is 0.1307


def test_digits_are_scikit_learns(tmp_path):
    store = load("digits", image_size=8, cache_dir=tmp_path)
    digits = load_digits()
    np.testing.assert_array_equal(np.rint(store.images[..., 0] * (16 / 255)), digits.images)
    np.testing.assert_array_equal(store.labels, digits.target)


@pytest.mark.parametrize("kind", ["NHW", "NHWC", "NCHW", "floats", "binary"])
def test_arrays(tmp_path, kind):
    images = random_images(20, 16, 16) if kind == "NHW" else random_images(20, 16, 16, 3)
    given = expected = images
    if kind == "NCHW":
        given = images.transpose(0, 3, 1, 2)
    if kind == "floats":
        given = (images / 255).astype(np.float32)
    if kind == "binary":
        given, expected = (images > 127).astype(np.uint8), (images > 127) * 255
    np.save(tmp_path / "set.npy", given)
    store = load(tmp_path / "set.npy", image_size=16, cache_dir=tmp_path)
    np.testing.assert_array_equal(store.images.squeeze(), expected)
    np.savez_compressed(tmp_path / "set.npz", images=given, labels=np.arange(20) % 3, height=np.arange(20.0))
    store = load(tmp_path / "set.npz", image_size=16, cache_dir=tmp_path)
    np.testing.assert_array_equal(store.images.squeeze(), expected)
    np.testing.assert_array_equal(store.labels, np.arange(20) % 3)
    np.testing.assert_array_equal(store.factors["height"], np.arange(20))


def test_keras_archives_keep_their_split(tmp_path):
    train, test = random_images(30, 16, 16), random_images(5, 16, 16)
    np.savez(
        tmp_path / "k.npz", x_train=train, y_train=np.zeros(30, int), x_test=test, y_test=np.ones(5, int)
    )
    store = load(tmp_path / "k.npz", image_size=16, cache_dir=tmp_path)
    np.testing.assert_array_equal(store.images[..., 0], np.concatenate([train, test]))
    assert store.labels.tolist() == [0] * 30 + [1] * 5
    assert store.split("test").tolist() == list(range(30, 35))


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((4, 5), np.uint8), r"have the shape \(4, 5\)"),
        (np.zeros((4, 16, 16), np.int32), "are int32"),
        (np.full((4, 16, 16), 2.5), "are floats from 2.5 to 2.5"),
        (np.array([{}], object), "can't be read as an array"),
        (np.zeros((0, 16, 16), np.uint8), r"have the shape \(0, 16, 16\)"),
    ],
)
def test_arrays_that_are_no_images(tmp_path, array, message):
    np.save(tmp_path / "set.npy", array)
    with pytest.raises(DataError, match=message):
        load(tmp_path / "set.npy", image_size=16, cache_dir=tmp_path)


def hub_table(first, n, null_at=None):
    cells = [
        None if i == null_at else {"bytes": encoded(picture(i)), "path": f"{i}.png"}
        for i in range(first, first + n)
    ]
    table = pa.table(
        {
            "image": cells,
            "label": pa.array([i % 2 for i in range(n)], pa.int64()),
            "Young": pa.array([i % 3 == 0 for i in range(n)]),
        }
    )
    features = {"label": {"names": ["frown", "smile"], "_type": "ClassLabel"}}
    metadata = {"huggingface": json.dumps({"info": {"features": features}})}
    return table.replace_schema_metadata(metadata)


def test_parquet_as_the_hub_writes_it(tmp_path):
    folder = tmp_path / "faces" / "data"
    folder.mkdir(parents=True)
    pq.write_table(hub_table(0, 12), folder / "train-00000-of-00002.parquet", row_group_size=5)
    pq.write_table(hub_table(12, 8), folder / "train-00001-of-00002.parquet")
    pq.write_table(hub_table(20, 6, null_at=22), folder / "validation-00000-of-00001.parquet")
    store = load(tmp_path / "faces", image_size=16, cache_dir=tmp_path)
    kept = [i for i in range(26) if i != 22]
    for row, i in enumerate(kept):
        expected = picture(i).resize((16, 16), Image.Resampling.BILINEAR)
        np.testing.assert_array_equal(store.images[row], np.asarray(expected))
    assert store.manifest["class_names"] == ["frown", "smile"]
    assert store.labels[:12].tolist() == [0, 1] * 6
    assert store.factors["Young"][:4].tolist() == [1, 0, 0, 1]
    assert store.split("validation").tolist() == list(range(20, 25))
    assert store.manifest["rejects"] == [
        ["validation-00000-of-00001.parquet row 2", "the cell holds no bytes"]
    ]


def test_parquet_beside_the_files_that_name_splits_is_left_out(tmp_path, caplog):
    folder = tmp_path / "faces"
    folder.mkdir()
    for k, name in enumerate(("train-0", "test-0", "extra")):
        pq.write_table(hub_table(12 * k, 12), folder / f"{name}.parquet")
    store = load(folder, image_size=16, cache_dir=tmp_path)
    assert len(store) == 24
    assert len(store.split("test")) == 12
    (reject,) = store.manifest["rejects"]
    assert reject == ["extra.parquet", "it lies beside the files that name the splits, and may belong to any"]


def test_a_row_group_larger_than_the_memory_is_read_by_parts(tmp_path, monkeypatch):
    """Forwards, as a conversion reads it, and from its beginning where a row before is asked for."""
    monkeypatch.setattr(readers, "ROWS", 4)
    pq.write_table(hub_table(0, 20, null_at=6), tmp_path / "t.parquet", row_group_size=15)
    reader = find(tmp_path / "t.parquet").open(tmp_path).reader
    for row in (0, 9, 10, 14, 3, 19, 15, 2):
        assert reader.read(row) == encoded(picture(row))
        assert len(readers._row_group(tmp_path / "t.parquet", int(row > 14), "image").cells) <= 4
    with pytest.raises(ValueError, match="holds no bytes"):
        reader.read(6)


def test_more_parquet_files_than_may_be_open(tmp_path):
    folder = tmp_path / "set"
    folder.mkdir()
    for k in range(40):
        pq.write_table(hub_table(2 * k, 2), folder / f"{k:02}.parquet")
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) + 15, before[1]))
    try:
        store = load(folder, image_size=16, cache_dir=tmp_path, workers=1)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    assert len(store) == 80 and store.labels.tolist() == [0, 1] * 40


def test_what_is_missing_beside_parquet_and_idx_files_is_told(tmp_path):
    pq.write_table(hub_table(0, 8), write(tmp_path / "parquet", {".hidden": b""}) / "0.parquet")
    write(
        tmp_path / "idx", mnist_files(random_images(20, 28, 28), random_images(4, 28, 28)) | {".hidden": b""}
    )
    for kind in ("parquet", "idx"):
        (tmp_path / kind / "1.parquet").symlink_to(tmp_path / "nowhere")
        store = load(tmp_path / kind, image_size=16, cache_dir=tmp_path / "cache")
        why = "neither a file nor a folder, or a link that leads nowhere"
        assert store.manifest["rejects"] == [["1.parquet", why]]
        assert store.manifest["notes"] == ["1 hidden files and folders, or a sweep's, ignored"]


def test_labels_in_parquet_that_floats_would_round(tmp_path):
    cells = [{"bytes": encoded(picture(i))} for i in range(4)]
    pq.write_table(pa.table({"image": cells, "label": [2**60 + i for i in range(4)]}), tmp_path / "t.parquet")
    store = load(tmp_path / "t.parquet", image_size=16, cache_dir=tmp_path)
    assert store.labels.tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (pa.table({"image": pa.array([], pa.binary())}), "its tables have no rows"),
        (
            pa.table([pa.array([b""]), pa.array([1]), pa.array([2])], ["image", "x", "x"]),
            "columns of one name",
        ),
    ],
    ids=["no rows", "two columns of one name"],
)
def test_parquet_that_cannot_be_read(tmp_path, table, message):
    pq.write_table(table, tmp_path / "t.parquet")
    with pytest.raises(DataError, match=message):
        load(tmp_path / "t.parquet", cache_dir=tmp_path)


def test_parquet_with_metadata_of_a_nesting_beyond_reading(tmp_path):
    table = hub_table(0, 4).replace_schema_metadata({"huggingface": "[" * 100_000})
    pq.write_table(table, tmp_path / "t.parquet")
    store = load(tmp_path / "t.parquet", image_size=16, cache_dir=tmp_path)
    assert store.manifest["class_names"] == ["0", "1"]


def test_an_idx_file_that_is_a_bomb_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(arrays, "SMALL", 1000)
    images = np.arange(12 * 64, dtype=np.uint8).reshape(12, 8, 8)
    write(tmp_path / "set", mnist_files(images, images))
    load(tmp_path / "set", image_size=16, cache_dir=tmp_path)
    write(tmp_path / "set", mnist_files(np.zeros((2000, 8, 8), np.uint8), images))
    with pytest.raises(DataError, match="is taken for a bomb"):
        load(tmp_path / "set", image_size=16, cache_dir=tmp_path)


def test_parquet_without_images(tmp_path):
    pq.write_table(pa.table({"a": [1], "b": ["x"]}), tmp_path / "t.parquet")
    with pytest.raises(DataError, match="has the columns a, b; none holds encoded images"):
        load(tmp_path / "t.parquet", cache_dir=tmp_path)


def partition(n):
    return "\n".join(f"{i:06}.jpg {0 if i <= 20 else 1 if i <= 25 else 2}" for i in range(1, n + 1)).encode()


@pytest.mark.parametrize("packed", [False, True])
def test_celeba_by_name_in_torchvisions_layout(tmp_path, packed):
    files = celeba() | {"list_eval_partition.txt": partition(30)}
    root = write(tmp_path / "root" / "celeba", {k: v for k, v in files.items() if k.endswith(".txt")})
    images = {k: v for k, v in files.items() if not k.endswith(".txt")}
    pack_zip(root / "img_align_celeba.zip", images) if packed else write(root, images)
    store = load("celeba", image_size=16, data_root=tmp_path / "root", cache_dir=tmp_path)
    assert store.manifest["splits"] == {"train": 20, "validation": 5, "test": 5}
    assert store.labels.tolist() == [i % 3 == 0 for i in range(1, 31)]
    again = load(root, image_size=16, cache_dir=tmp_path / "by path")
    assert again.content_hash == store.content_hash


def test_celebas_tables_as_csv(tmp_path):
    files = celeba(6)
    text = files.pop("list_attr_celeba.txt").decode().splitlines()[1:]
    rows = [",".join(line.split()) for line in text]
    files["list_attr_celeba.csv"] = "\n".join([f"image_id,{rows[0]}", *rows[1:]]).encode()
    lines = ["image_id,partition", *(f"{i:06}.jpg,{i % 3}" for i in range(1, 7))]
    files["list_eval_partition.csv"] = "\n".join(lines).encode()
    store = load(write(tmp_path / "kaggle", files), image_size=16, cache_dir=tmp_path)
    assert store.labels.tolist() == [0, 0, 1, 0, 0, 1]
    assert store.split("train").tolist() == [2, 5]


def test_celeba_dialogs_degrees_are_the_label_where_they_are_known(tmp_path):
    files = celeba(6)
    lines = ["name Bangs Eyeglasses No_Beard Smiling Young"]
    lines += [f"{i:06}.jpg 0 1 2 {i - 1} 4" for i in range(1, 6)]
    files["combined_annotation.txt"] = "\n".join(lines).encode()
    store = load(write(tmp_path / "dialog", files), image_size=16, cache_dir=tmp_path)
    assert store.labels.tolist() == [0, 1, 2, 3, 4, -1]
    assert store.manifest["class_names"] == list("012345")
    np.testing.assert_array_equal(store.factors["smile_degree"], [0, 1, 2, 3, 4, np.nan])
    assert store.factors["Smiling"].tolist() == [0, 0, 1, 0, 0, 1]


@pytest.mark.parametrize(
    ("table", "text", "message"),
    [
        ("list_eval_partition.txt", b"000001.jpg 0\n000002.jpg 7\n", "for 5 of 6 images"),
        ("list_attr_celeba.txt", b"6\nSmiling\n000001.jpg yes\n", "can't be read at '000001.jpg yes'"),
        ("list_attr_celeba.txt", b"6\nSmiling Young\n000001.jpg 1\n", "takes 2 numbers"),
    ],
)
def test_broken_tables_are_named(tmp_path, table, text, message):
    with pytest.raises(DataError, match=message):
        load(write(tmp_path / "set", celeba(6) | {table: text}), image_size=16, cache_dir=tmp_path)


def test_larsens_crop(tmp_path):
    image = picture(0, size=(178, 218))
    (tmp_path / "set").mkdir()
    for i in range(3):
        image.save(tmp_path / "set" / f"{i}.png")
    store = load(tmp_path / "set", image_size=64, crop="larsen", cache_dir=tmp_path)
    left, upper, right, lower = 15, 40, 163, 188  # rows 40:188, columns 15:163 of the aligned images
    expected = image.crop((left, upper, right, lower)).resize((64, 64), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(store.images[0], np.asarray(expected))
    assert set(CROPS) == {"larsen"}


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "celeba",
            "CelebA is not in .*: put img_align_celeba.zip, list_attr_celeba.txt, list_eval_partition",
        ),
        ("mnist", "mnist is not in .* was not downloaded .no way out.*: put train-images-idx3-ubyte"),
        ("lego", "no LEGO heads in .*: put the pictures"),
    ],
)
def test_named_sets_that_are_absent_say_what_to_put_where(tmp_path, monkeypatch, name, message):
    def offline():
        raise OSError("no way out\nTraceback …")

    monkeypatch.setattr(download, "_torchvision_datasets", offline)
    with pytest.raises(DataError, match=message) as error:
        load(name, data_root=tmp_path, cache_dir=tmp_path / "cache")
    assert "\n" not in str(error.value)


def test_lego_heads(tmp_path):
    files = {f"{i}.png": encoded(picture(i, size=(128, 128))) for i in range(10)}
    write(tmp_path / "lego", files)
    store = load("lego", image_size=128, data_root=tmp_path, cache_dir=tmp_path / "cache")
    assert (store.name, len(store)) == ("lego", 10)
    np.testing.assert_array_equal(store.images[3], np.asarray(picture(3, size=(128, 128))))
