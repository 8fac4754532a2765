"""Where the encoded images lie: each reader gives image i, and is pickled in parts to decoding processes.

A reader has a length, `read(i)`, which returns an encoded image's bytes or a decoded uint8 array (H, W) or
(H, W, C), and `part(rows)`, a reader of those images alone.
"""

import os
import tarfile
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from trainables.data.synthetic.drawing import BATCH, Drawing

MAX_BYTES = 256_000_000  # an encoded image of more bytes is taken for something else
ROWS, BUFFER = 64, 1 << 22  # of Parquet: rows decoded, and bytes read, at a time


class Reader(Protocol):
    """A source's images, each read on its own."""

    def __len__(self) -> int: ...

    def read(self, i: int) -> bytes | NDArray[np.uint8]:
        """Return image i; raises what its storage raises."""

    def part(self, rows: Sequence[int]) -> "Reader":
        """Return a reader of these images."""


class BytesReader(Reader, Protocol):
    """A reader of files, whatever they hold."""

    def read(self, i: int) -> bytes:
        """Return file i; raises what its storage raises."""

    def part(self, rows: Sequence[int]) -> "BytesReader":
        """Return a reader of these files."""


@dataclass(frozen=True)
class FileReader:
    """Image files below a folder."""

    root: Path
    names: Sequence[str]

    def __len__(self) -> int:
        return len(self.names)

    def read(self, i: int) -> bytes:
        """Return the file's bytes."""
        with open(f"{self.root}/{self.names[i]}", "rb", buffering=0) as file:
            require_size(os.fstat(file.fileno()).st_size)
            return file.read()

    def part(self, rows: Sequence[int]) -> "FileReader":
        """Return a reader of these files."""
        return replace(self, names=[self.names[i] for i in rows])


@dataclass(frozen=True)
class TarReader:
    """Members of an uncompressed tar, by their places in it: nothing is ever unpacked to a path."""

    path: Path
    names: Sequence[str]
    offsets: NDArray[np.int64]
    sizes: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.names)

    def read(self, i: int) -> bytes:
        """Return the member's bytes."""
        require_size(int(self.sizes[i]))
        with open(self.path, "rb", buffering=0) as file:
            data = os.pread(file.fileno(), int(self.sizes[i]), int(self.offsets[i]))
        if len(data) < self.sizes[i]:
            raise tarfile.ReadError(f"the archive ends within this member, after {len(data)} bytes")
        return data

    def part(self, rows: Sequence[int]) -> "TarReader":
        """Return a reader of these members."""
        names = [self.names[i] for i in rows]
        return TarReader(self.path, names, self.offsets[list(rows)], self.sizes[list(rows)])


@dataclass(frozen=True)
class ZipReader:
    """Members of a zip."""

    path: Path
    names: Sequence[str]

    def __len__(self) -> int:
        return len(self.names)

    def read(self, i: int) -> bytes:
        """Return the member's bytes, whose checksum zipfile compares."""
        archive = _zip(self.path)
        require_size(archive.getinfo(self.names[i]).file_size)  # zipfile inflates no more than that
        return archive.read(self.names[i])

    def part(self, rows: Sequence[int]) -> "ZipReader":
        """Return a reader of these members."""
        return replace(self, names=[self.names[i] for i in rows])


@dataclass(frozen=True)
class ParquetReader:
    """Encoded images in a column of Parquet files, as Hugging Face writes them: bytes, or a struct with them.

    `places` (N, 3): file, row group, row within the group.
    """

    paths: Sequence[Path]
    column: str
    places: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.places)

    def read(self, i: int) -> bytes:
        """Return the cell's bytes."""
        file, group, row = (int(k) for k in self.places[i])
        value = _row_group(self.paths[file], group, self.column).cell(row)
        value = value.get("bytes") if isinstance(value, dict) else value
        if value is None:
            raise ValueError("the cell holds no bytes")
        require_size(len(value))
        return value

    def part(self, rows: Sequence[int]) -> "ParquetReader":
        """Return a reader of these rows."""
        return replace(self, places=self.places[list(rows)])


@dataclass(frozen=True)
class ArrayReader:
    """Images of one shape in a .npy file, mapped into memory; `rows` (N,) are the ones meant."""

    path: Path
    rows: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.rows)

    def read(self, i: int) -> NDArray[np.uint8]:
        """Return the image, (H, W) or (H, W, C)."""
        return _array(self.path)[self.rows[i]]

    def part(self, rows: Sequence[int]) -> "ArrayReader":
        """Return a reader of these rows."""
        return replace(self, rows=self.rows[list(rows)])


@dataclass(frozen=True)
class DrawingReader:
    """Pictures that are drawn when they are read; `rows` are their numbers."""

    drawing: Drawing
    image_size: int
    rows: Sequence[int]

    def __len__(self) -> int:
        return len(self.rows)

    def read(self, i: int) -> NDArray[np.uint8]:
        """Return the picture."""
        block, place = divmod(self.rows[i], BATCH)
        return _drawn(self.drawing, self.image_size, block)[place]

    def part(self, rows: Sequence[int]) -> "DrawingReader":
        """Return a reader of these pictures."""
        return replace(self, rows=[self.rows[i] for i in rows])


def require_size(size: int) -> None:
    """Raise ValueError where an encoded image is of more than `MAX_BYTES` bytes."""
    if size > MAX_BYTES:
        raise ValueError(f"{size / 1e6:.0f} MB, more than the {MAX_BYTES // 10**6} MB an image may take")


# Consecutive chunks read the same file, so a decoding process keeps open what it opened last.
@lru_cache(maxsize=1)
def _zip(path: Path) -> zipfile.ZipFile:
    return zipfile.ZipFile(path)


@lru_cache(maxsize=1)
def _array(path: Path) -> NDArray[np.uint8]:
    return np.load(path, mmap_mode="r")


class _RowGroup:
    """A column of one row group, which may be larger than the memory: read forwards, some rows at a time."""

    def __init__(self, path: Path, group: int, column: str):
        self.path = path
        self.asked: dict[str, Any] = {"row_groups": [group], "columns": [column]}
        self._begin()

    def _begin(self) -> None:
        from pyarrow.parquet import ParquetFile  # slow to import, and few decoding processes need it

        file = ParquetFile(self.path, buffer_size=BUFFER)  # else all its bytes are read at first
        self.batches = file.iter_batches(ROWS, **self.asked)
        self.first = self.end = 0

    def cell(self, row: int) -> Any:
        """Return what the cell of a row holds."""
        if row < self.first:
            self._begin()
        try:
            while row >= self.end:
                self.cells = next(self.batches).column(0)
                self.first, self.end = self.end, self.end + len(self.cells)
        except Exception:
            self._begin()  # an iterator that failed gives no more
            raise
        return self.cells[row - self.first].as_py()


@lru_cache(maxsize=1)
def _row_group(path: Path, group: int, column: str) -> _RowGroup:
    return _RowGroup(path, group, column)


def close_files() -> None:
    """Close what is kept open."""
    for kept in (_zip, _array, _row_group):
        kept.cache_clear()


@lru_cache(maxsize=1)
def _drawn(drawing: Drawing, image_size: int, block: int) -> NDArray[np.uint8]:
    return drawing.render(BATCH, image_size=image_size, first=block * BATCH)[0]
