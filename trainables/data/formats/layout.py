"""From the names in a folder or an archive to a data set: its images, and what is known of each."""

import posixpath
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from trainables.data.formats.celeba import UNKNOWN, describe, is_table
from trainables.data.formats.containers import Listing
from trainables.data.formats.readers import Reader
from trainables.data.store import SPLITS, DataError

SPLIT_FOLDERS = {
    "train": "train",
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "test": "test",
    "testing": "test",
}


@dataclass(frozen=True)
class Source:
    """A data set before conversion: a reader of N images, and for each its name and what is known of it.

    `labels` int64 (N,), indices into `class_names` or `UNKNOWN`; `factors` float32 (N,) each, NaN where
    unknown; `splits` uint8 (N,), indices into `SPLITS`, or None where the source has none; `rejects`: names
    and reasons of what was left out already. `channels`: 1 or 3, None where only the images tell.
    """

    name: str
    reader: Reader
    names: Sequence[str]
    labels: NDArray[np.int64]
    class_names: Sequence[str] = ()
    factors: dict[str, NDArray[np.float32]] = field(default_factory=dict)
    splits: NDArray[np.uint8] | None = None
    rejects: Sequence[tuple[str, str]] = ()
    channels: int | None = None

    def __len__(self) -> int:
        return len(self.reader)

    def part(self, rows: NDArray[np.int64]) -> "Source":
        """Return the source of these images alone."""
        return Source(
            self.name,
            self.reader.part(rows.tolist()),
            [self.names[i] for i in rows],
            self.labels[rows],
            self.class_names,
            {name: values[rows] for name, values in self.factors.items()},
            None if self.splits is None else self.splits[rows],
            self.rejects,
            self.channels,
        )


def arrange(name: str, listing: Listing, tables: Mapping[str, str] | None = None) -> Source:
    """Recognise CelebA's layout, folders of splits and folders of classes; anything else is images alone.

    `tables`: texts of CelebA's tables, by file name, that lie beside an archive of its images.

    Raises DataError where there is no image file, or where CelebA's tables can't be read.
    """
    suffixes = _image_suffixes()
    rows = [i for i, n in enumerate(listing.names) if posixpath.splitext(n)[1].lower() in suffixes]
    if not rows:
        found = f"its {len(listing.names)} files have other endings" if listing.names else "it is empty"
        raise DataError(f"{name} holds no images ({found}); images end in .jpg, .png, .webp and the like")
    names = [listing.names[i] for i in rows]
    reader = listing.reader.part(rows)
    tables = dict(tables or {}) | {
        n: listing.reader.read(i).decode(errors="replace") for i, n in enumerate(listing.names) if is_table(n)
    }
    if tables:
        known = describe(names, tables)
        return Source(
            name, reader, names, known.labels, known.class_names, known.factors, known.splits, listing.rejects
        )
    folders = _folders(names)
    splits = None
    if {folder[0] for folder in folders if folder} <= SPLIT_FOLDERS.keys() and all(folders):
        parts = [SPLITS.index(SPLIT_FOLDERS[folder[0]]) for folder in folders]
        if len(set(parts)) > 1:
            splits, folders = np.array(parts, np.uint8), [folder[1:] for folder in folders]
    class_names = sorted({folder[0] for folder in folders if folder})
    if len(class_names) < 2 or not all(folders):
        labels = np.full(len(names), UNKNOWN, np.int64)
        return Source(name, reader, names, labels, splits=splits, rejects=listing.rejects)
    number = {class_name: k for k, class_name in enumerate(class_names)}
    labels = np.array([number[folder[0]] for folder in folders], np.int64)
    return Source(name, reader, names, labels, class_names, splits=splits, rejects=listing.rejects)


def _folders(names: Sequence[str]) -> list[list[str]]:
    """Return the folders each file lies in, without those that all share."""
    folders = [n.split("/")[:-1] for n in names]
    shared = len(posixpath.commonprefix(folders))
    return [folder[shared:] for folder in folders]


@cache
def _image_suffixes() -> frozenset[str]:
    Image.init()
    readable = {suffix for suffix, kind in Image.registered_extensions().items() if kind in Image.OPEN}
    return frozenset(readable - {".pdf", ".mpg", ".mpeg", ".h5", ".hdf", ".bufr", ".grib"})


def complete_splits(splits: NDArray[np.uint8] | None, identities: NDArray[np.uint64]) -> NDArray[np.uint8]:
    """Return a split for each image; where a source lacks a split, a tenth of its training images becomes it.

    An image's content hash decides, so that copies of an image share a split, and one keeps its split when
    others join the set. In a set so small that a split would come out empty the lowest hashes are taken.
    """
    n = len(identities)
    splits = np.zeros(n, np.uint8) if splits is None else splits.copy()
    for split, bounds in ((SPLITS.index("validation"), (0.8, 0.9)), (SPLITS.index("test"), (0.9, 1.0))):
        if (splits == split).any():
            continue
        share = identities / 2.0**64
        chosen = (splits == 0) & (bounds[0] <= share) & (share < bounds[1])
        if not chosen.any() and (hashes := np.unique(identities[splits == 0])).size > 1:
            chosen = (splits == 0) & (identities == hashes[0])
        splits[chosen] = split
    return splits
