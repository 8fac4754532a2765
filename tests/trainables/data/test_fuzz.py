"""Damaged tables, archives, arrays, stores, images end in a result or in one sentence, never a traceback."""

import gzip
import io

import numpy as np
import pyarrow.parquet as pq
import pytest

from tests.fixtures.files import celeba, classes, encoded, pack_tar, pack_zip, picture
from tests.fixtures.fuzz import Subject, check
from tests.trainables.data.formats.test_formats import hub_table, idx
from tests.trainables.data.test_store import made
from trainables.data.__main__ import describe as describe_store
from trainables.data.decoding import decode, reason
from trainables.data.formats.celeba import describe
from trainables.data.formats.folders import place
from trainables.data.formats.tables import text_of
from trainables.data.sources import load
from trainables.data.store import DataError, ImageStore

IMAGES = [f"img_align_celeba/{i:06}.jpg" for i in range(1, 13)]
ATTRIBUTES = celeba(12)["list_attr_celeba.txt"]
ARCHIVES = ("tar", "tar.gz", "zip")
LEVELS = np.random.default_rng(0).integers(0, 256, (12, 8, 8), np.uint8)


def read_table(path):
    describe(IMAGES, {path.name: text_of(path.read_bytes())})


def read_names(path):
    place(path.read_text(errors="replace").split("\n"))


def convert(path):
    """Convert a damaged source, and describe what came of it."""
    list(describe_store(load(path, image_size=8, workers=1, cache_dir=path.parent / "cache")))


def convert_folder(path):
    """As `convert`, where the set is the folder that the file lies in."""
    list(describe_store(load(path.parent, image_size=8, workers=1, cache_dir=path.parent.parent / "cache")))


def read_store(path):
    """Open a store and look at all that it holds."""
    store = ImageStore(path)
    store.verify()
    list(describe_store(store))
    for name in ("train", "validation", "test"):
        store.images[store.split(name)].sum()


class Refused(Exception):  # noqa: N818  no error of the project's
    pass


def read_image(path):
    """Decode as a conversion does: whatever is raised has a reason of one line."""
    try:
        decode(path.read_bytes())
    except Exception as error:
        raise Refused(reason(error)) from error


def packed(tmp_path):
    """Whole inputs, small ones."""
    files = {name: data for name, data in list(classes(8).items())}
    npz, npy = io.BytesIO(), io.BytesIO()
    np.savez(npz, images=LEVELS, labels=np.arange(12), height=np.arange(12.0))
    np.save(npy, LEVELS)
    pq.write_table(hub_table(0, 6), tmp_path / "t.parquet")
    made(tmp_path / "s.arrow", n=12)
    return {
        "tar": pack_tar(tmp_path / "a.tar", files).read_bytes(),
        "tar.gz": pack_tar(tmp_path / "a.tar.gz", files, "w:gz").read_bytes(),
        "zip": pack_zip(tmp_path / "a.zip", files).read_bytes(),
        "npz": npz.getvalue(),
        "npy": npy.getvalue(),
        "parquet": (tmp_path / "t.parquet").read_bytes(),
        "arrow": (tmp_path / "s.arrow").read_bytes(),
    }


def subjects(tmp_path):
    whole = packed(tmp_path)
    csv = b"image_id,Smiling,Young\n" + b"".join(b"%06d.jpg,1,-1\n" % i for i in range(1, 13))
    partition = b"".join(b"%06d.jpg %d\n" % (i, i % 3) for i in range(1, 13))
    dialog = b"".join(b"%06d.jpg 0 1 2 3 4\n" % i for i in range(1, 13))
    tables = {
        "list_attr_celeba.txt": ATTRIBUTES,
        "list_attr_celeba.csv": csv,
        "list_eval_partition.txt": partition,
        "combined_annotation.txt": dialog,
    }
    images = {
        f"a.{kind.lower()}": encoded(picture(1), kind)
        for kind in ("PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF")
    }
    images["f.tiff"] = encoded(picture(2, mode="L").convert("F"), "TIFF")
    names = "\n".join(["train/cats/1.png", "train/dogs/2.png", "test/cats/3.png", "4.png"]).encode()
    mnist = {
        f"{part}-{kind}-idx{array.ndim}-ubyte{suffix}": gzip.compress(idx(array)) if suffix else idx(array)
        for part, suffix in (("train", ""), ("t10k", ".gz"))
        for kind, array in (("images", LEVELS), ("labels", np.arange(12).astype(np.uint8)))
    }

    def read_mnist(path):
        for name, data in mnist.items():
            if name != path.name:
                (path.parent / name).write_bytes(data)
        convert_folder(path)

    return [
        Subject(
            "tables", tables, lambda p: describe(IMAGES, {p.name: text_of(p.read_bytes())}), (DataError,), 400
        ),
        Subject(
            "names", {"names.txt": names}, lambda p: place(p.read_text(errors="replace").split("\n")), (), 200
        ),
        Subject(
            "archives", {f"set.{k}": whole[k] for k in ("tar", "tar.gz", "zip")}, convert, (DataError,), 300
        ),
        Subject("arrays", {f"set.{k}": whole[k] for k in ("npy", "npz")}, convert, (DataError,), 300),
        Subject("idx files", mnist, read_mnist, (DataError,), 100),
        Subject("Parquet", {"set.parquet": whole["parquet"]}, convert, (DataError,), 150),
        Subject("stores", {"s.arrow": whole["arrow"]}, read_store, (DataError,), 300),
        Subject("images", images, read_image, (Refused,), 400),
    ]


@pytest.mark.filterwarnings("ignore")  # of decoders, about the damage
@pytest.mark.parametrize("number", range(8))
def test_damage_is_refused_in_one_sentence(tmp_path, number):
    (tmp_path / "whole").mkdir()
    subject = subjects(tmp_path / "whole")[number]
    refused, read = check(subject, tmp_path)
    assert refused + read == subject.count
    assert refused > 0 or not subject.refusals, subject.name  # else nothing was damaged
