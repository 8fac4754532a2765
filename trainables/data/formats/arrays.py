"""Images that come as arrays: MNIST's idx files, NumPy's .npy and .npz, scikit-learn's digits."""

import gzip
import struct
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from trainables.data.formats.celeba import UNKNOWN
from trainables.data.formats.layout import Source
from trainables.data.formats.readers import ArrayReader
from trainables.data.store import SPLITS, DataError

IDX_PARTS = {"train": "train", "t10k": "test"}
IMAGE_KEYS, LABEL_KEYS = ("images", "imgs", "x", "X", "data", "arr_0"), ("labels", "label", "y", "arr_1")
CLOTHES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
BLOCK = 4096  # images copied at a time


def idx_files(folder: Path) -> dict[str, Path]:
    """Return MNIST's files in a folder, keyed "train-images", "train-labels", "t10k-images", "t10k-labels".

    Files may be gzipped, and have a dot or a hyphen before `idx`. Empty where one is missing.
    """
    files = {}
    for part in IDX_PARTS:
        for kind, rank in (("images", 3), ("labels", 1)):
            for suffix in ("", ".gz"):
                for mark in ("-", "."):
                    path = folder / f"{part}-{kind}{mark}idx{rank}-ubyte{suffix}"
                    if path.is_file():
                        files.setdefault(f"{part}-{kind}", path)
    return files if len(files) == 4 else {}


def open_idx(name: str, files: dict[str, Path], class_names: Sequence[str], scratch: Path) -> Source:
    """Return MNIST, or a set in its format: its training images, then its test images.

    Raises DataError where a file is damaged.
    """
    labels = {part: _read_idx(files[f"{part}-labels"], 1) for part in IDX_PARTS}
    parts = {part: _read_idx(files[f"{part}-images"], 3) for part in IDX_PARTS}
    for part in IDX_PARTS:
        if len(labels[part]) != len(parts[part]):
            raise DataError(
                f"{files[f'{part}-images']} holds {len(parts[part])} images, its label file "
                f"{len(labels[part])} labels; the two don't belong together"
            )
    np.save(scratch / "images.npy", np.concatenate(list(parts.values())))
    splits = [SPLITS.index(IDX_PARTS[part]) for part in IDX_PARTS for _ in labels[part]]
    return _source(
        name,
        scratch / "images.npy",
        np.concatenate(list(labels.values())).astype(np.int64),
        class_names,
        splits=np.array(splits, np.uint8),
    )


def _read_idx(path: Path, rank: int) -> NDArray[np.uint8]:
    opener = gzip.open if path.suffix == ".gz" else open
    try:
        with opener(path, "rb") as file:
            data = file.read()
        shape = struct.unpack(f">{rank}I", data[4 : 4 + 4 * rank])
        values = np.frombuffer(data, np.uint8, offset=4 + 4 * rank)
        if data[:4] != bytes((0, 0, 8, rank)) or len(values) != np.prod(shape):
            raise ValueError("its header doesn't fit its content")
        return values.reshape(shape)
    except (OSError, EOFError, ValueError, struct.error, zlib.error) as error:
        raise DataError(f"{path} can't be read as an idx file ({error}); fetch it again") from error


def open_digits(scratch: Path) -> Source:
    """Return scikit-learn's 1797 digits, 8×8, their 17 levels spread over 0 to 255."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    np.save(scratch / "images.npy", np.rint(digits.images * (255 / 16)).astype(np.uint8))
    names = [str(k) for k in digits.target_names]
    return _source("digits", scratch / "images.npy", digits.target.astype(np.int64), names)


def open_npy(path: Path, scratch: Path) -> Source:
    """Return the images of a .npy file, (N, H, W), (N, H, W, C) or (N, C, H, W) with C = 1 or 3.

    uint8 is mapped as it is; bool, floats in [0, 1], and uint8 of 0 and 1 alone are spread over 0 to 255.
    Raises DataError for anything else.
    """
    ready = _as_uint8(path, scratch / "images.npy", path)
    n = len(np.load(ready, mmap_mode="r"))
    return _source(path.stem, ready, np.full(n, UNKNOWN, np.int64), ())


def open_npz(path: Path, scratch: Path) -> Source:
    """Return the images of a .npz file: `images` or Keras's `x_train` and `x_test`; `labels`.

    Further arrays of one number an image become factors. Raises DataError as `open_npy`.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            keys = [name.removesuffix(".npy") for name in archive.namelist()]
            archive.extractall(scratch)  # zipfile keeps members below the folder
    except (zipfile.BadZipFile, zlib.error) as error:
        raise DataError(f"{path} can't be read as .npz ({error}); is the file whole?") from error
    if {"x_train", "x_test"} <= set(keys):
        images, labels = ["x_train", "x_test"], ["y_train", "y_test"]
    else:
        images = [key for key in IMAGE_KEYS if key in keys][:1]
        labels = [key for key in LABEL_KEYS if key in keys and key not in images][:1]
    if not images:
        raise DataError(
            f"{path} has the arrays {', '.join(keys) or '(none)'}; its images should be called images"
        )
    ready = [_as_uint8(scratch / f"{key}.npy", scratch / f"{key}.uint8.npy", path) for key in images]
    counts = [len(np.load(file, mmap_mode="r")) for file in ready]
    n = sum(counts)
    whole = ready[0] if len(ready) == 1 else _joined(ready, scratch / "joined.npy")
    columns = {key: _column(scratch / f"{key}.npy") for key in keys if key not in images}
    labels = [columns[key] for key in labels if columns.get(key) is not None]
    label = np.concatenate(labels) if labels and sum(map(len, labels)) == n else np.full(n, UNKNOWN)
    factors = {
        key: column.astype(np.float32)
        for key, column in columns.items()
        if column is not None and len(column) == n and key not in LABEL_KEYS
    }
    splits = None if len(counts) == 1 else np.repeat([0, SPLITS.index("test")], counts).astype(np.uint8)
    classes = [str(k) for k in range(int(label.max()) + 1)]
    return _source(path.stem, whole, label.astype(np.int64), classes, factors, splits)


def _column(path: Path) -> NDArray | None:
    """Return an array of one number an image, or None where it is something else."""
    try:
        array = np.load(path, mmap_mode="r")
    except ValueError:
        return None
    return np.asarray(array) if array.ndim == 1 and array.dtype.kind in "biuf" else None


def _joined(paths: Sequence[Path], target: Path) -> Path:
    parts = [np.load(path, mmap_mode="r") for path in paths]
    shape = (sum(map(len, parts)), *parts[0].shape[1:])
    joined = np.lib.format.open_memmap(target, "w+", np.uint8, shape)
    np.concatenate(parts, out=joined)
    return target


def _as_uint8(path: Path, target: Path, named: Path) -> Path:
    """Return a .npy file of uint8 images, (N, H, W) or (N, H, W, C): `path` itself if it is one."""
    try:
        images = np.load(path, mmap_mode="r")
    except (ValueError, EOFError, OSError) as error:
        raise DataError(f"{named} can't be read as an array ({error}); is the file whole?") from error
    first = images.ndim == 4 and images.shape[1] in (1, 3) and images.shape[3] not in (1, 3)
    if not len(images) or not (images.ndim == 3 or first or (images.ndim == 4 and images.shape[3] in (1, 3))):
        raise DataError(
            f"the images of {named} have the shape {images.shape}; it should be (N, H, W), (N, H, W, C) or "
            "(N, C, H, W) with 1 or 3 channels C"
        )
    scale = _scale(images, named)
    if scale == 1 and not first:
        return path
    shape = (len(images), *images.shape[2:], images.shape[1]) if first else images.shape
    levels = np.lib.format.open_memmap(target, "w+", np.uint8, shape)
    for start in range(0, len(images), BLOCK):
        block = images[start : start + BLOCK]
        block = np.moveaxis(block, 1, -1) if first else block
        if block.dtype.kind == "f" and not (block.min() >= 0 and block.max() <= 1):
            raise DataError(
                f"the images of {named} are floats from {block.min():.3g} to {block.max():.3g}; they should "
                "be in [0, 1], or uint8"
            )
        levels[start : start + BLOCK] = np.rint(block * np.float64(scale))
    return target


def _scale(images: NDArray, named: Path) -> int:
    if images.dtype == np.uint8:
        return 255 if images[:BLOCK].max() == 1 else 1
    if images.dtype.kind in "bf":
        return 255
    raise DataError(
        f"the images of {named} are {images.dtype}; they should be uint8, bool or floats in [0, 1]"
    )


def _source(
    name: str,
    path: Path,
    labels: NDArray[np.int64],
    class_names: Sequence[str],
    factors: dict[str, NDArray[np.float32]] | None = None,
    splits: NDArray[np.uint8] | None = None,
) -> Source:
    images = np.load(path, mmap_mode="r")
    rows = np.arange(len(images))
    return Source(
        name,
        ArrayReader(path, rows),
        [f"image {i}" for i in rows],
        labels,
        class_names,
        factors or {},
        splits,
        channels=3 if images.shape[3:] == (3,) else 1,
    )
