"""Images that come as arrays: MNIST's idx files, NumPy's .npy and .npz, scikit-learn's digits."""

import gzip
import struct
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainables.data.formats.containers import MAX_RATIO, SMALL, require_unpackable
from trainables.data.formats.folders import UNKNOWN
from trainables.data.formats.labels import Labels, as_labels
from trainables.data.formats.layout import Source
from trainables.data.formats.readers import ArrayReader
from trainables.data.store import DISK_FULL, SPLITS, DataError, first_line, raise_the_machines

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
    files: dict[str, Path] = {}
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

    Without `class_names` the classes are called by their numbers.

    Raises DataError where a file is damaged.
    """
    labels = {part: _read_idx(files[f"{part}-labels"], 1) for part in IDX_PARTS}
    parts = {part: _read_idx(files[f"{part}-images"], 3) for part in IDX_PARTS}
    if len(shapes := {part.shape[1:] for part in parts.values()}) > 1:
        raise DataError(f"the images of {name} are of the shapes {' and '.join(map(str, sorted(shapes)))}")
    for part in IDX_PARTS:
        if len(labels[part]) != len(parts[part]):
            raise DataError(
                f"{files[f'{part}-images']} holds {len(parts[part])} images, its label file "
                f"{len(labels[part])} labels; the two don't belong together"
            )
    shape = (sum(map(len, parts.values())), *shapes.pop())
    _write(scratch / "images.npy", shape, parts.values())
    splits = [SPLITS.index(IDX_PARTS[part]) for part in IDX_PARTS for _ in labels[part]]
    known = as_labels(np.concatenate(list(labels.values())), class_names)
    return _source(
        name,
        scratch / "images.npy",
        known.values,
        known.class_names,
        splits=np.array(splits, np.uint8),
        notes=known.notes,
    )


def _read_idx(path: Path, rank: int) -> NDArray[np.uint8]:
    opener = gzip.open if path.suffix == ".gz" else open
    try:
        most = max(SMALL, MAX_RATIO["arrays"] * path.stat().st_size)
        with opener(path, "rb") as file:
            data = file.read(most + 1)
        if len(data) > most:
            raise ValueError(f"it unpacks to more than {most / 1e6:.0f} MB, and is taken for a bomb")
        shape = struct.unpack(f">{rank}I", data[4 : 4 + 4 * rank])
        values = np.frombuffer(data, np.uint8, offset=4 + 4 * rank)
        if data[:4] != bytes((0, 0, 8, rank)) or len(values) != np.prod(shape):
            raise ValueError("its header doesn't fit its content")
        return values.reshape(shape)
    except (OSError, EOFError, ValueError, struct.error, zlib.error) as error:
        raise DataError(
            f"{path} can't be read as an idx file ({first_line(error)}); fetch it again"
        ) from error


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
    n = len(load_array(ready, path))
    return _source(path.stem, ready, np.full(n, UNKNOWN, np.int64), ())


def open_npz(path: Path, scratch: Path) -> Source:
    """Return the images of a .npz file: `images` or Keras's `x_train` and `x_test`; `labels`.

    Further arrays of one number an image become factors. Raises DataError as `open_npy`, and where labels and
    images differ in number.
    """
    arrays = _unpacked(path, scratch)
    if {"x_train", "x_test"} <= arrays.keys():
        images, labels = ["x_train", "x_test"], ["y_train", "y_test"]
    else:
        images = [key for key in IMAGE_KEYS if key in arrays][:1]
        labels = [key for key in LABEL_KEYS if key in arrays and key not in images][:1]
    if not images:
        raise DataError(
            f"{path} has the arrays {', '.join(arrays) or '(none)'}; its images should be called images"
        )
    ready = [_as_uint8(arrays[key], scratch / f"{k}.uint8.npy", path) for k, key in enumerate(images)]
    counts = [len(load_array(file, path)) for file in ready]
    whole = ready[0] if len(ready) == 1 else _joined(ready, scratch / "joined.npy", path)
    columns = {key: _column(arrays[key]) for key in arrays if key not in images}
    n = sum(counts)
    taken = [key for key in labels if columns.get(key) is not None]
    values = [column for key in taken if (column := columns.pop(key)) is not None]
    if values and [len(part) for part in values] != counts:
        raise DataError(
            f"{path} has {' and '.join(str(count) for count in counts)} images, and "
            f"{' and '.join(str(len(part)) for part in values)} labels; each image needs one"
        )
    known = as_labels(np.concatenate(values)) if values else Labels(np.full(n, UNKNOWN, np.int64))
    factors = {
        key: column.astype(np.float32)
        for key, column in columns.items()
        if column is not None and len(column) == n and column.dtype.kind in "biuf"
    }
    unused = [key for key in columns if key not in factors]
    notes = [f"the array {key} does not hold one number an image: ignored" for key in unused]
    splits = None if len(counts) == 1 else np.repeat([0, SPLITS.index("test")], counts).astype(np.uint8)
    return _source(path.stem, whole, known.values, known.class_names, factors, splits, [*notes, *known.notes])


def _unpacked(path: Path, scratch: Path) -> dict[str, Path]:
    """Unpack a .npz file's arrays; return their files by name."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = [info for info in archive.infolist() if info.filename.endswith(".npy")]
            size = sum(info.file_size for info in members)
            require_unpackable(path, size, "arrays", size, scratch)
            files = [Path(archive.extract(info, scratch)) for info in members]  # zipfile keeps them below it
    except DataError:
        raise
    except Exception as error:  # BadZipFile, zlib.error, an encrypted member's RuntimeError, …
        if isinstance(error, OSError) and error.errno in DISK_FULL:
            raise
        raise DataError(f"{path} can't be read as .npz ({first_line(error)}); is the file whole?") from error
    return {info.filename.removesuffix(".npy"): file for info, file in zip(members, files, strict=True)}


def load_array(path: Path, named: Path) -> NDArray[Any]:
    """Map a .npy file; raises DataError, which names the file `named`, where it is none."""
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except Exception as error:  # a damaged header can raise any exception
        raise_the_machines(error)  # a column of labels would count as none
        raise DataError(
            f"{named} can't be read as an array ({first_line(error)}); is the file whole?"
        ) from error


def _column(path: Path) -> NDArray[Any] | None:
    """Return an array of one number or one word an image, or None where it is something else."""
    try:
        array = load_array(path, path)
    except DataError:
        return None
    array = array[:, 0] if array.ndim == 2 and array.shape[1] == 1 else array
    return np.asarray(array) if array.ndim == 1 and array.dtype.kind in "biufU" else None


def _joined(paths: Sequence[Path], target: Path, named: Path) -> Path:
    parts = [np.load(path, mmap_mode="r") for path in paths]
    if len(shapes := {part.shape[1:] for part in parts}) > 1:
        raise DataError(
            f"the images of {named} are of the shapes {' and '.join(map(str, sorted(shapes)))}; they should "
            "be of one"
        )
    shape = (sum(map(len, parts)), *parts[0].shape[1:])
    blocks = (part[first : first + BLOCK] for part in parts for first in range(0, len(part), BLOCK))
    return _write(target, shape, blocks)


def _write(target: Path, shape: tuple[int, ...], blocks: Iterable[NDArray[np.uint8]]) -> Path:
    """Write a .npy file of uint8, block by block: on a full disk that fails, and filling a map is a crash."""
    with open(target, "wb") as file:
        header = {"descr": np.lib.format.dtype_to_descr(np.dtype(np.uint8)), "fortran_order": False}
        np.lib.format.write_array_header_1_0(file, {**header, "shape": shape})
        for block in blocks:
            file.write(np.ascontiguousarray(block).data)
    return target


def _as_uint8(path: Path, target: Path, named: Path) -> Path:
    """Return a .npy file of uint8 images, (N, H, W) or (N, H, W, C): `path` itself if it is one."""
    images = load_array(path, named)
    first = images.ndim == 4 and images.shape[1] in (1, 3) and images.shape[3] not in (1, 3)
    last = images.ndim == 4 and images.shape[3] in (1, 3)
    if not (images.size and (images.ndim == 3 or first or last)):
        raise DataError(
            f"the images of {named} have the shape {images.shape}; it should be (N, H, W), (N, H, W, C) or "
            "(N, C, H, W) with 1 or 3 channels C"
        )
    scale = _scale(images, named)
    if scale == 1 and not first:
        return path
    shape = (len(images), *images.shape[2:], images.shape[1]) if first else images.shape

    def levels() -> Iterator[NDArray[np.uint8]]:
        for start in range(0, len(images), BLOCK):
            block = images[start : start + BLOCK]
            block = np.moveaxis(block, 1, -1) if first else block
            if block.dtype.kind == "f" and not (block.min() >= 0 and block.max() <= 1):
                raise DataError(
                    f"the images of {named} are floats from {block.min():.3g} to {block.max():.3g}; they "
                    "should be in [0, 1], or uint8"
                )
            yield np.rint(block * np.float64(scale)).astype(np.uint8)

    return _write(target, shape, levels())


def _scale(images: NDArray[Any], named: Path) -> int:
    if images.dtype == np.uint8:
        blocks = range(0, len(images), BLOCK)
        binary = images.any() and all(images[first : first + BLOCK].max() <= 1 for first in blocks)
        return 255 if binary else 1
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
    notes: Sequence[str] = (),
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
        notes=notes,
        channels=3 if images.shape[3:] == (3,) else 1,
    )
