"""From the names in a folder or an archive to a data set: its images, and what is known of each."""

import posixpath
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from trainables.data.decoding import SUFFIXES
from trainables.data.formats.celeba import describe, is_table
from trainables.data.formats.containers import Listing
from trainables.data.formats.folders import place
from trainables.data.formats.labels import Labels
from trainables.data.formats.readers import Reader
from trainables.data.formats.shards import labels_beside
from trainables.data.formats.tables import text_of
from trainables.data.store import SPLITS, DataError, first_line

GROUPS = 8  # kinds of ignored files that are told one by one


@dataclass(frozen=True)
class Source:
    """A data set before conversion: a reader of N images, and for each its name and what is known of it.

    `labels` int64 (N,), indices into `class_names` or `UNKNOWN`; `factors` float32 (N,) each, NaN where
    unknown; `splits` uint8 (N,), indices into `SPLITS`, or None where the source has none; `rejects`: names
    and reasons of what was left out already; `notes`: sentences on what was ignored or not understood, with
    counts. `channels`: 1 or 3, None where only the images tell.
    """

    name: str
    reader: Reader
    names: Sequence[str]
    labels: NDArray[np.int64]
    class_names: Sequence[str] = ()
    factors: dict[str, NDArray[np.float32]] = field(default_factory=dict)
    splits: NDArray[np.uint8] | None = None
    rejects: Sequence[tuple[str, str]] = ()
    notes: Sequence[str] = ()
    channels: int | None = None

    def __len__(self) -> int:
        return len(self.reader)

    def part(self, rows: NDArray[np.int64]) -> "Source":
        """Return the source of these images alone."""
        return replace(
            self,
            reader=self.reader.part(rows.tolist()),
            names=[self.names[i] for i in rows],
            labels=self.labels[rows],
            factors={name: values[rows] for name, values in self.factors.items()},
            splits=None if self.splits is None else self.splits[rows],
        )


def arrange(name: str, listing: Listing, tables: Mapping[str, str] | None = None) -> Source:
    """Recognize CelebA's tables, folders of splits, and classes: of files beside the images
    (`shards.labels_beside`) or of folders; anything else is images alone.

    `tables`: texts of CelebA's tables, by file name, that lie beside an archive of its images.

    Raises DataError where there is no image file, or where CelebA's tables can't be read.
    """
    rows = [i for i, file in enumerate(listing.names) if is_image(file)]
    if not rows:
        raise DataError(f"{name} holds no images ({_found(listing)}); images end in .jpg, .png, .webp or so")
    names = [listing.names[i] for i in rows]
    found = {file: i for i, file in enumerate(listing.names) if is_table(file)}
    try:
        tables = dict(tables or {}) | {file: text_of(listing.reader.read(i)) for file, i in found.items()}
    except Exception as error:  # of a broken archive: OSError, tarfile.ReadError, zipfile.BadZipFile, …
        raise DataError(
            f"a table of {name} can't be read ({first_line(error)}): {', '.join(found)}"
        ) from error
    placed = place(names)
    aside = None if tables or placed.class_names else labels_beside(listing, names)
    taken = {*tables, *(aside.files if aside else ())}
    others = (file for file in listing.names if not (is_image(file) or file in taken))
    told = ignored(others, listing.hidden)
    reader = listing.reader.part(rows)
    if tables:
        known = describe(names, tables)
        return Source(
            name,
            reader,
            names,
            known.labels,
            known.class_names,
            known.factors,
            known.splits,
            listing.rejects,
            [*told, *known.notes],
        )
    classes = aside.labels if aside else Labels(placed.labels, placed.class_names, placed.notes)
    source = Source(
        name,
        reader,
        names,
        classes.values,
        classes.class_names,
        splits=placed.splits,
        rejects=listing.rejects,
        notes=[*told, *classes.notes],
    )
    if not placed.left_out:
        return source
    why = "it lies beside the folders that name the splits, and may belong to any"
    rejects = [*listing.rejects, *((names[row], why) for row in placed.left_out)]
    return replace(source.part(np.delete(np.arange(len(names)), placed.left_out)), rejects=rejects)


def is_image(name: str) -> bool:
    """Tell by its ending whether a file is an image that is read."""
    return posixpath.splitext(name)[1].lower() in SUFFIXES


def ignored(names: Iterable[str], hidden: int = 0) -> list[str]:
    """Return a sentence for each kind of file that was ignored, by ending, the most frequent first.

    The last one is of as many as a listing has `hidden`.
    """
    kinds: dict[str, list[str]] = defaultdict(list)
    for name in names:
        kinds[posixpath.splitext(name)[1].lower()].append(name)
    by_count = sorted(kinds.items(), key=lambda kind: -len(kind[1]))
    notes = [
        f"{_files(len(files))} {f'ending in {ending}' if ending else 'without an ending'} ignored, "
        f"the first {files[0]}"
        for ending, files in by_count[:GROUPS]
    ]
    if rest := sum(len(files) for _, files in by_count[GROUPS:]):
        notes.append(f"{_files(rest)} with other endings ignored")
    if hidden:
        notes.append(f"{hidden} hidden files and folders, or a sweep's, ignored")
    return notes


def _files(count: int) -> str:
    return f"{count} file{'s' * (count > 1)}"


def _found(listing: Listing) -> str:
    if listing.names:
        return f"its {len(listing.names)} files have other endings"
    if listing.rejects:
        first, why = listing.rejects[0]
        return f"{_files(len(listing.rejects))} left out, the first {first}: {why}"
    return f"it holds {listing.hidden} hidden files" if listing.hidden else "it is empty"


def complete_splits(splits: NDArray[np.uint8] | None, identities: NDArray[np.uint64]) -> NDArray[np.uint8]:
    """Return a split for each image; where a source lacks a split, a tenth of its training images becomes it.

    An image's content hash decides, so that copies of an image share a split, and one keeps its split when
    others join the set. In a set so small that fewer than two different images would come into a split, which
    a score compares, the lowest hashes fill it, as far as two are left to train on, and one for the other
    split.
    """
    n = len(identities)
    splits = np.zeros(n, np.uint8) if splits is None else splits.copy()
    for split, bounds in ((SPLITS.index("validation"), (0.8, 0.9)), (SPLITS.index("test"), (0.9, 1.0))):
        hashes = np.unique(identities[splits == 0])
        if (splits == split).any() or hashes.size < 2:
            continue
        share = hashes / 2.0**64
        inside = (bounds[0] <= share) & (share < bounds[1])
        most = max(1, hashes.size - 3)
        missing = max(0, min(2, most) - int(inside.sum()))
        chosen = np.concatenate([hashes[inside], hashes[~inside][:missing]])[:most]
        splits[(splits == 0) & np.isin(identities, chosen)] = split
    return splits
