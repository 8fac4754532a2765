"""Shards as webdataset writes them: tars in which the files of one sample lie side by side under one key.

A key is a file's path up to the first dot of its last part: `0001.jpg`, `0001.cls` and `0001.json` are one.
Dots in the name of the tar, which stands before a colon, do not count.
"""

import json
import posixpath
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainables.data.formats.containers import Listing, list_tar
from trainables.data.formats.folders import are_splits, split_of
from trainables.data.formats.labels import Labels, as_labels
from trainables.data.formats.readers import BytesReader
from trainables.data.formats.tables import text_of
from trainables.data.store import raise_the_machines

LABELS = ("label", "labels", "cls", "class")  # of a sample's .json
ASIDE = (".cls", ".json")


@dataclass(frozen=True)
class JoinedReader:
    """The files of several readers; `places` (N, 2): the reader, and the file's number in it."""

    readers: Sequence[BytesReader]
    places: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.places)

    def read(self, i: int) -> bytes:
        """Return file i; raises what its storage raises."""
        reader, row = self.places[i]
        return self.readers[reader].read(int(row))

    def part(self, rows: Sequence[int]) -> "JoinedReader":
        """Return a reader of these files, which holds those of no other reader."""
        places = self.places[list(rows)]
        used, numbers = np.unique(places[:, 0], return_inverse=True)
        renumbered = np.stack([numbers, np.empty_like(numbers)], axis=1)
        readers = []
        for number, reader in enumerate(used):
            mine = numbers == number
            readers.append(self.readers[reader].part(places[mine, 1].tolist()))
            renumbered[mine, 1] = np.arange(mine.sum())
        return JoinedReader(readers, renumbered)


@dataclass(frozen=True)
class Aside:
    """What files beside the images say: `labels` (N,), and the names of those `files`."""

    labels: Labels
    files: set[str]


def list_shards(folder: Path, tars: Sequence[str], scratch: Path) -> Listing:
    """List the files of several tars below a folder as one: `<split>/<folders in the tar>/<tar>:<file>`.

    `<tar>` is its path below the folder, with colons between the parts. A split is there where the tars'
    names, or those of the folders that they lie in, tell a training split and another one; a tar beside them
    that names none is left out. Raises DataError as `list_tar`.
    """
    named = [_split_of(tar) for tar in tars]
    splits = named if are_splits(named) else None
    names, places, hidden = [], [], 0
    readers: list[BytesReader] = []
    rejects: list[tuple[str, str]] = []
    for number, (tar, split) in enumerate(zip(tars, named, strict=True)):
        if splits and split is None:
            rejects.append((tar, "it lies beside the tars that name the splits, and may belong to any"))
            continue
        own = scratch / str(number)  # tars of one name in two folders are decompressed into two
        own.mkdir(exist_ok=True)
        listing = list_tar(folder / tar, own)
        rejects += [(f"{tar}:{name}", why) for name, why in listing.rejects]
        for row, member in enumerate(listing.names):
            within, file = posixpath.split(member)
            above = (split or "") if splits else ""
            names.append(posixpath.join(above, within, f"{tar.replace('/', ':')}:{file}"))
            places.append((len(readers), row))
        readers.append(listing.reader)
        hidden += listing.hidden
    return Listing(names, JoinedReader(readers, np.array(places, np.int64).reshape(-1, 2)), rejects, hidden)


def _split_of(tar: str) -> str | None:
    """Return the split of a tar below a set's folder: its name says it, or else the nearest folder's."""
    return next((split for part in reversed(tar.split("/")) if (split := split_of(part))), None)


def labels_beside(listing: Listing, images: Sequence[str]) -> Aside | None:
    """Return the labels that files beside the images hold.

    A sample's `.cls` is its label, a number or a word; without one, `label`, `cls` or `class` in its `.json`.
    There are none unless half the images have one.
    """
    by_key = {
        (posixpath.join(folder, base), f".{ending}"): row
        for row, name in enumerate(listing.names)
        for folder, (base, _, ending) in [_parts(name)]
        if f".{ending}" in ASIDE
    }
    if not by_key:
        return None
    found: list[Any] = []
    taken: set[str] = set()
    for image in images:
        folder, (base, _, _) = _parts(image)
        value = None
        for ending in ASIDE:
            row = by_key.get((posixpath.join(folder, base), ending))
            if row is not None and value is None:
                value = _label_in(_contents(listing.reader, row), ending)
                taken |= {listing.names[row]} if value is not None else set()
        found.append(value)
    if sum(value is not None for value in found) < len(images) / 2:
        return None
    if any(isinstance(value, str) for value in found):
        words = sorted({str(value) for value in found if value is not None})
        numbers = [np.nan if value is None else words.index(str(value)) for value in found]
        return Aside(as_labels(np.array(numbers), words), taken)
    numbers = [np.nan if value is None else value for value in found]
    return Aside(as_labels(np.array(numbers, float)), taken)


def _parts(name: str) -> tuple[str, tuple[str, str, str]]:
    folder, file = posixpath.split(name)
    tar, colon, file = file.rpartition(":")
    base, dot, ending = file.partition(".")
    return folder, (tar + colon + base, dot, ending)


def _contents(reader: BytesReader, row: int) -> bytes:
    """Return a file's bytes, none where it can't be read: it holds no label then."""
    try:
        return reader.read(row)
    except Exception as error:  # of a broken archive: tarfile.ReadError, zipfile.BadZipFile, zlib.error, …
        raise_the_machines(error)
        return b""


def _label_in(data: bytes, ending: str) -> float | str | None:
    """Return the label that a file beside an image holds, None where it holds none."""
    text: Any = text_of(data).strip()
    if ending == ".json":
        try:
            content = json.loads(text)
        except ValueError:
            return None
        known = content if isinstance(content, dict) else {}
        text = next((known[name] for name in LABELS if name in known), None)
        if isinstance(text, bool) or not isinstance(text, str | int | float):
            return None
    try:
        return float(text)
    except ValueError:
        return str(text) or None
