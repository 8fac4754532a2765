"""CelebA's tables: attributes, official split, and CelebA-Dialog's degrees, matched to images by file name.

Attributes (Liu et al. 2015) are -1 or 1 and become factors 0 or 1; a smile is the label. CelebA-Dialog (Jiang
et al. 2021) grades five attributes from 0 to 5; where it is there, the factor `smile_degree` is the label.
"""

import posixpath
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from trainables.data.store import DataError

UNKNOWN = -1  # the label of an image whose class is not known
ATTRIBUTES, PARTITION = "list_attr_celeba", "list_eval_partition"  # .txt, or .csv as some copies have it
DIALOG = ("combined_annotation", "train_attr_list", "val_attr_list", "test_attr_list")
DEGREES = ("Bangs_degree", "Eyeglasses_degree", "No_Beard_degree", "smile_degree", "Young_degree")
SMILING, SMILE_DEGREES = ("not smiling", "smiling"), ("0", "1", "2", "3", "4", "5")


@dataclass
class Knowledge:
    """What is known of N images: labels int64 (N,), factors float32 (N,), splits uint8 (N,) or None."""

    labels: NDArray[np.int64]
    class_names: Sequence[str] = ()
    factors: dict[str, NDArray[np.float32]] = field(default_factory=dict)
    splits: NDArray[np.uint8] | None = None


def is_table(name: str) -> bool:
    """Tell whether a file is one of the tables, by its name."""
    stem, suffix = posixpath.splitext(posixpath.basename(name))
    return suffix in (".txt", ".csv") and stem in (ATTRIBUTES, PARTITION, *DIALOG)


def describe(names: Sequence[str], tables: Mapping[str, str]) -> Knowledge:
    """Return what the tables, file name to text, say of the images `names`.

    Raises DataError where a table can't be read, or the partition leaves an image out.
    """
    files = [posixpath.basename(name) for name in names]
    known = Knowledge(np.full(len(names), UNKNOWN, np.int64))
    for file in sorted(tables, key=lambda file: posixpath.basename(file).startswith(DIALOG)):
        stem = posixpath.splitext(posixpath.basename(file))[0]
        if stem == PARTITION:
            known.splits = _partition(file, tables[file], files)
        elif stem == ATTRIBUTES:
            columns, values = _table(file, tables[file], files)
            values = np.where(np.isnan(values), values, values > 0).astype(np.float32)
            known.factors |= dict(zip(columns, values.T.copy(), strict=True))
            _label(known, "Smiling", SMILING)
        else:
            _, values = _table(file, tables[file], files, DEGREES)
            for degree, column in zip(DEGREES, values.T, strict=True):
                before = known.factors.get(degree, np.full(len(names), np.nan, np.float32))
                known.factors[degree] = np.where(np.isnan(column), before, column)
            _label(known, "smile_degree", SMILE_DEGREES)
    return known


def _label(known: Knowledge, factor: str, class_names: Sequence[str]) -> None:
    if factor in known.factors:
        values = known.factors[factor]
        known.labels = np.where(np.isnan(values), UNKNOWN, np.nan_to_num(values)).astype(np.int64)
        known.class_names = class_names


def _partition(file: str, text: str, files: Sequence[str]) -> NDArray[np.uint8]:
    _, values = _table(file, text, files, ("partition",))
    wrong = np.flatnonzero(~np.isin(values[:, 0], (0, 1, 2)))
    if wrong.size:
        raise DataError(
            f"{file} gives no split (0, 1 or 2) for {wrong.size} of {len(files)} images, the first "
            f"{files[wrong[0]]}; complete the table, or remove it for splits by content"
        )
    return values[:, 0].astype(np.uint8)


def _table(file: str, text: str, files: Sequence[str], columns: Sequence[str] = ()):
    """Return the column names and the values (N, columns), NaN where an image has no line.

    The names are in the table's header where `columns` are not given.
    """
    rows = _rows(text)
    if not columns:
        # Before it may stand the number of lines.
        columns = next((cells for cells in rows if len(cells) > 1 or not cells[0].isdigit()), [])
        columns = columns[1:] if columns[:1] == ["image_id"] else columns  # a .csv names the first, too
    place = {name: i for i, name in enumerate(dict.fromkeys(files))}
    values = np.full((len(place), len(columns)), np.nan, np.float32)
    for cells in rows:
        row = place.get(cells[0])
        if row is None:
            continue  # a header, or an image that this part of the set lacks
        try:
            values[row] = np.array(cells[1:], np.float32).reshape(len(columns))
        except ValueError as error:
            raise DataError(
                f"{file} can't be read at {' '.join(cells)[:40]!r}: after the file name it takes "
                f"{len(columns)} number{'s' * (len(columns) > 1)}"
            ) from error
    return columns, values[[place[name] for name in files]]


def _rows(text: str) -> Iterator[list[str]]:
    for line in text.splitlines():
        if cells := line.replace(",", " ").split():
            yield cells
