"""The image store: one Arrow IPC file, memory-mapped, that all trials of a machine share.

The file holds a single record batch, so that each column is one piece of memory: `image` (fixed-size binary,
H·W·C bytes a row), `digest` (BLAKE2b-128 of those bytes), `label` (int64), `split` (uint8, an index into
`SPLITS`) and a float32 column `factor:<name>` for each factor. The manifest is JSON in the schema's metadata:
the two can't be separated.
"""

import errno
import hashlib
import json
import os
import re
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

SPLITS = ("train", "validation", "test")
DIGEST_BYTES = 16
FORMAT = 4  # raise it where the same source would give other bytes: that redoes older conversions
DISK_FULL = (errno.ENOSPC, errno.EDQUOT)
# Numbers of errors that tell of one file, not of the machine: a damaged zip asks for places before its start.
OF_A_FILE = (
    *(None, errno.ENOENT, errno.EACCES, errno.EPERM, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG),
    *(errno.EINVAL, errno.EOVERFLOW),
)
SLAB = 256  # images that are copied at a time
_METADATA = b"latentune"
_FACTOR = "factor:"


class DataError(ValueError):
    """A data set, a store or a setting can't be used; the message is one sentence that says what would be."""

    def __init__(self, message: str):
        super().__init__(printable(message))


_MANIFEST = {  # what a manifest must hold, and of which type
    "name": str,
    "count": int,
    "image_size": int,
    "channels": int,
    "content_hash": str,
    "class_names": list,
    "splits": dict,
    "rejected": int,
    "rejects": list,
    "notes": list,
}


def _is_digest(kind: pa.DataType) -> bool:
    return pa.types.is_fixed_size_binary(kind) and kind.byte_width == DIGEST_BYTES


_COLUMNS = {  # what a store must hold beside its factors
    "image": pa.types.is_fixed_size_binary,
    "digest": _is_digest,
    "label": pa.types.is_int64,
    "split": pa.types.is_uint8,
}


def spread(rows: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """Return up to `count` of these rows, evenly spread over them; all of them where they are no more."""
    count = min(count, len(rows))
    return rows[np.arange(count) * len(rows) // max(count, 1)]


class ImageStore:
    """Images with labels, factors and splits, read-only, zero-copy from a memory-mapped file.

    `images` uint8 (N, H, W, C), `labels` int64 (N,), `factors` float32 (N,) each, by name, and `manifest`:
    name, count, image_size, channels, content_hash, class_names, splits (their counts), rejected (a count),
    rejects (name and reason each), notes (sentences on what was ignored), settings. A store is pickled as its
    path.
    """

    def __init__(self, path: str | os.PathLike):
        self.path = Path(path).absolute()
        try:
            with pa.memory_map(str(self.path)) as file:
                reader = pa.ipc.open_file(file)
                batch = reader.get_batch(0) if reader.num_record_batches else None
                metadata = reader.schema.metadata or {}
                if batch is not None:
                    batch.validate()  # of the buffers' sizes, not of what they hold
                    self._columns = list(batch.schema.names)  # damaged ones are no UTF-8
        except (OSError, ValueError, pa.ArrowException) as error:
            raise DataError(
                f"{self.path} is no readable image store ({first_line(error)}): one that latentune made can "
                "be deleted to be made again, other sets are read as Parquet or as a folder of images"
            ) from error
        if _METADATA not in metadata or batch is None:
            raise DataError(f"{self.path} is an Arrow file without our manifest; convert its source again")
        self._batch = batch
        self.manifest = self._read_manifest(metadata[_METADATA])
        self._check()

    @classmethod
    def open(cls, path: str | os.PathLike) -> "ImageStore":
        """Map the store at `path`; raises DataError where it is broken or its manifest doesn't match."""
        return cls(path)

    def __len__(self) -> int:
        return self._batch.num_rows

    def __reduce__(self):
        return ImageStore, (str(self.path),)

    def __repr__(self) -> str:
        size = self.manifest["image_size"]
        return f"ImageStore({self.name}: {len(self)} images, {size}×{size}×{self.manifest['channels']})"

    @property
    def name(self) -> str:
        """The data set's name."""
        return self.manifest["name"]

    @property
    def notes(self) -> list[str]:
        """What of the source is not in the store, a sentence each with a count; empty where all is."""
        count, notes = self.manifest["rejected"], list(self.manifest["notes"])
        if count:
            first, why = self.manifest["rejects"][0]
            notes.insert(0, f"{count} of {len(self) + count} images left out, the first {first}: {why}")
        return notes

    @property
    def content_hash(self) -> str:
        """SHA-256 over images, labels, factors and splits, whatever source and settings were called."""
        return self.manifest["content_hash"]

    @cached_property
    def images(self) -> NDArray[np.uint8]:
        """The pixels, uint8 (N, H, W, C)."""
        size, channels = self.manifest["image_size"], self.manifest["channels"]
        return self._bytes("image").reshape(len(self), size, size, channels)

    @property
    def digests(self) -> NDArray[np.uint8]:
        """A digest of each image's pixels, (N, 16)."""
        return self._bytes("digest").reshape(-1, DIGEST_BYTES)

    @property
    def splits(self) -> NDArray[np.uint8]:
        """The splits, (N,): indices into `SPLITS`."""
        return self._batch.column("split").to_numpy()

    @cached_property
    def labels(self) -> NDArray[np.int64]:
        """The classes, int64 (N,): indices into the manifest's `class_names` where it has them."""
        return self._batch.column("label").to_numpy()

    @cached_property
    def factors(self) -> dict[str, NDArray[np.float32]]:
        """What is known of each image, float32 (N,), by name; NaN where it is unknown."""
        names = [name for name in self._columns if name.startswith(_FACTOR)]
        return {name.removeprefix(_FACTOR): self._batch.column(name).to_numpy() for name in names}

    def split(self, name: str) -> NDArray[np.int64]:
        """Return the rows of a split, ascending; raises DataError where there is no such split."""
        if name not in SPLITS:
            raise DataError(f"there is no split {name!r}; the splits are {', '.join(SPLITS)}")
        return np.flatnonzero(self.splits == SPLITS.index(name))

    def some(self, name: str, count: int) -> NDArray[np.int64]:
        """Return up to `count` rows of a split, ascending and evenly spread: images may lie in the order of
        their classes. Raises DataError where there is no such split."""
        return spread(self.split(name), count)

    def verify(self) -> None:
        """Read all pixels and compare them with their digests; raises DataError at the first that differs."""
        for row, (image, expected) in enumerate(zip(self.images, self.digests, strict=True)):
            if digest(image) != expected.tobytes():
                raise DataError(f"image {row} of {self.path} is damaged; delete the file to convert again")

    def _bytes(self, column: str) -> NDArray[np.uint8]:
        array = self._batch.column(column)
        width = array.type.byte_width
        return np.frombuffer(array.buffers()[1], np.uint8)[: len(self) * width].reshape(len(self), width)

    def _read_manifest(self, data: bytes) -> dict[str, Any]:
        try:
            manifest = json.loads(data)
            wrong = [key for key, kind in _MANIFEST.items() if not isinstance(manifest[key], kind)]
            if any(len(reject) != 2 for reject in manifest["rejects"]):
                wrong.append("rejects")
            if wrong or bool(manifest["rejects"]) != bool(manifest["rejected"]):
                raise TypeError((*wrong, "rejected")[0])
        except (ValueError, TypeError, LookupError, RecursionError) as error:
            raise DataError(
                f"the manifest of {self.path} is damaged ({first_line(error)}); delete it to convert again"
            ) from error
        return manifest

    def _check(self) -> None:
        manifest, schema = self.manifest, self._batch.schema
        if missing := _COLUMNS.keys() - set(self._columns):
            raise DataError(f"{self.path} lacks the column {min(missing)!r}; delete it to convert again")
        kinds = _COLUMNS | {name: pa.types.is_float32 for name in self._columns if name.startswith(_FACTOR)}
        for name, is_right in kinds.items():
            column = self._batch.column(schema.get_field_index(name))
            if not is_right(column.type) or column.null_count:
                raise DataError(
                    f"the column {name!r} of {self.path} is of the type {column.type}, or has gaps; delete "
                    "the file to convert again"
                )
        pixels = manifest["image_size"] ** 2 * manifest["channels"]
        width = schema.field("image").type.byte_width
        if (manifest["count"], pixels) != (len(self), width):
            raise DataError(
                f"{self.path} holds {len(self)} images of {width} bytes, its manifest says "
                f"{manifest['count']} of {pixels}; delete it to convert again"
            )
        names = manifest["class_names"]
        if names and not (self.labels.min() >= -1 and self.labels.max() < len(names)):
            raise DataError(f"{self.path} has labels beyond its {len(names)} classes; convert it again")
        arrays = (self.digests, self.labels, self.splits)
        if content_hash(manifest, *arrays, self.factors) != self.content_hash:
            raise DataError(f"{self.path} doesn't match its manifest's hash; delete it to convert again")


def printable(text: str) -> str:
    """Return a text with a question mark for what no terminal can print: bytes of file names beyond UTF-8."""
    return text.encode(errors="replace").decode()


def digest(image: NDArray[np.uint8]) -> bytes:
    """Return the digest of an image's pixels."""
    return hashlib.blake2b(np.ascontiguousarray(image).data, digest_size=DIGEST_BYTES).digest()


def content_hash(
    manifest: Mapping[str, Any],
    digests: NDArray[np.uint8],
    labels: NDArray[np.int64],
    splits: NDArray[np.uint8],
    factors: Mapping[str, NDArray[np.float32]],
) -> str:
    """Return the hash of a store's content: shape, digests of the images, labels, splits, factors."""
    shape = [manifest["count"], manifest["image_size"], manifest["channels"], sorted(factors)]
    state = hashlib.sha256(json.dumps(shape).encode())
    for array in (digests, labels, splits, *(factors[name] for name in sorted(factors))):
        state.update(np.ascontiguousarray(array).data)
    return state.hexdigest()


def write_store(
    path: Path,
    images: NDArray[np.uint8],
    digests: NDArray[np.uint8],
    labels: NDArray[np.int64],
    splits: NDArray[np.uint8],
    factors: Mapping[str, NDArray[np.float32]],
    manifest: Mapping[str, Any],
) -> None:
    """Write a store, whole or not at all; `images` (N, H, W, C) may be a memory map larger than the memory.

    `digests` (N, 16). Counts, shape and hash are added to the manifest. Raises OSError on a full disk.
    """
    count, size, _, channels = images.shape
    counts = {name: int(np.sum(splits == k)) for k, name in enumerate(SPLITS)}
    manifest = dict(manifest) | {"count": count, "image_size": size, "channels": channels, "splits": counts}
    manifest["content_hash"] = content_hash(manifest, digests, labels, splits, factors)
    columns = {
        "image": _fixed_size(images.reshape(count, -1)),
        "digest": _fixed_size(digests),
        "label": pa.array(labels, pa.int64()),
        "split": pa.array(splits, pa.uint8()),
    } | {_FACTOR + name: pa.array(values, pa.float32()) for name, values in factors.items()}
    about = printable(json.dumps(manifest, ensure_ascii=False))
    batch = pa.RecordBatch.from_pydict(columns).replace_schema_metadata({_METADATA: about})
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    try:
        with pa.OSFile(str(partial), "wb") as file, pa.ipc.new_file(file, batch.schema) as writer:
            writer.write_batch(batch)
        sync(partial)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def write_part(path: Path, store: ImageStore, rows: NDArray[np.int64], note: str) -> None:
    """Write these rows of a store as a store of its own, with a note. Raises OSError on a full disk.

    They may be more than the memory holds: their pixels are gathered in a file beside it first.
    """
    manifest = store.manifest | {"rejected": 0, "rejects": [], "notes": [*store.notes, note]}
    gathered = path.with_name(f"{path.name}.{os.getpid()}.rows")
    try:
        with open(gathered, "wb") as file:
            for first in range(0, len(rows), SLAB):
                file.write(store.images[rows[first : first + SLAB]].data)
        write_store(
            path,
            np.memmap(gathered, np.uint8, "r", shape=(len(rows), *store.images.shape[1:])),
            store.digests[rows],
            store.labels[rows],
            store.splits[rows],
            {name: values[rows] for name, values in store.factors.items()},
            manifest,
        )
    finally:
        gathered.unlink(missing_ok=True)


def manifest_of(path: Path) -> dict[str, Any]:
    """Return the manifest of the store in a file, unchecked; empty where it can't be read."""
    try:
        with pa.memory_map(str(path)) as file:
            return dict(json.loads((pa.ipc.open_file(file).schema.metadata or {})[_METADATA]))
    except (OSError, ValueError, LookupError, TypeError, RecursionError, pa.ArrowException):
        return {}


def sync(path: Path) -> None:
    """Wait until a file's bytes are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _fixed_size(rows: NDArray[np.uint8]) -> pa.FixedSizeBinaryArray:
    """Return rows (N, width) as an Arrow array over the same memory."""
    buffers = [None, pa.py_buffer(rows)]
    return pa.Array.from_buffers(pa.binary(rows.shape[1]), len(rows), buffers)


def raise_the_machines(error: Exception) -> None:
    """Raise an error again where it tells of the machine: of a disk, a network, memory, too many open files.

    What an image gives then is not what it gives at another time, and must get into no store.
    """
    if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno not in OF_A_FILE):
        raise error


def first_line(error: BaseException) -> str:
    """Return what an error of another library says, in one line without addresses in memory."""
    words = (getattr(error, "strerror", None) or str(error)).strip()
    line = words.splitlines()[0].rstrip(":") if words else type(error).__name__
    return re.sub(r" at 0x[0-9a-fA-F]+", "", line)
