"""CelebA's tables: attributes, official split, and CelebA-Dialog's degrees, matched to images by file name.

Attributes (Liu et al. 2015) are -1 or 1 and become factors 0 or 1; a smile is the label. CelebA-Dialog (Jiang
et al. 2021) grades five attributes from 0 to 5; where it is there, the factor `smile_degree` is the label.
"""

import posixpath
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from trainables.data.formats.folders import UNKNOWN
from trainables.data.formats.tables import Table, read_table
from trainables.data.store import DataError

ATTRIBUTES, PARTITION = "list_attr_celeba", "list_eval_partition"  # .txt, or .csv as some copies have it
DIALOG = ("combined_annotation", "train_attr_list", "val_attr_list", "test_attr_list")
DEGREES = ("Bangs_degree", "Eyeglasses_degree", "No_Beard_degree", "smile_degree", "Young_degree")
SMILING, SMILE_DEGREES = ("not smiling", "smiling"), ("0", "1", "2", "3", "4", "5")


@dataclass
class Knowledge:
    """What is known of N images: labels int64 (N,), factors float32 (N,), splits uint8 (N,) or None.

    `notes`: sentences on what the tables leave open.
    """

    labels: NDArray[np.int64]
    class_names: Sequence[str] = ()
    factors: dict[str, NDArray[np.float32]] = field(default_factory=dict)
    splits: NDArray[np.uint8] | None = None
    notes: list[str] = field(default_factory=list)


def is_table(name: str) -> bool:
    """Tell whether a file is one of the tables, by its name."""
    suffix = posixpath.splitext(name)[1]
    return suffix in (".txt", ".csv") and _stem(name) in (ATTRIBUTES, PARTITION, *DIALOG)


def describe(names: Sequence[str], tables: Mapping[str, str]) -> Knowledge:
    """Return what the tables, file name to text, say of the images `names`.

    Raises DataError where a table can't be read or names none of the images, or the partition leaves one out.
    """
    known = Knowledge(np.full(len(names), UNKNOWN, np.int64))
    graded = np.zeros(len(names), bool)
    dialog = [file for file in tables if _stem(file) in DIALOG]
    for file in sorted(tables, key=lambda file: file in dialog):
        if _stem(file) == PARTITION:
            known.splits = _partition(read_table(file, tables[file], names, ("partition",)), names)
        elif _stem(file) == ATTRIBUTES:
            table = read_table(file, tables[file], names)
            _require_matches(table.file, table.matched, table.example, names, known.notes)
            values = np.where(np.isnan(table.values), np.nan, table.values > 0).astype(np.float32)
            known.notes += [
                f"the column {name} of {file} stands before the file names: ignored" for name in table.passed
            ]
            known.factors |= dict(zip(table.columns, values.T.copy(), strict=True))
            _label(known, "Smiling", SMILING)
        else:
            table = read_table(file, tables[file], names, DEGREES)
            graded |= table.matched
            for degree, column in zip(DEGREES, table.values.T, strict=True):
                before = known.factors.get(degree, np.full(len(names), np.nan, np.float32))
                known.factors[degree] = np.where(np.isnan(column), before, column)
            _label(known, "smile_degree", SMILE_DEGREES)
    if dialog:  # its parts for training, validation and test name a part of the images each
        _require_matches(" and ".join(sorted(dialog)), graded, table.example, names, known.notes)
    return known


def _stem(file: str) -> str:
    return posixpath.splitext(posixpath.basename(file))[0]


def _require_matches(
    file: str, matched: NDArray[np.bool_], example: str, names: Sequence[str], notes: list[str]
) -> None:
    count, n = int(matched.sum()), len(names)
    if count == 0:
        raise DataError(
            f"0 of {n} images are in the table {file}: it names {example!r}, the images {names[0]!r}; their "
            "file names should be the same, or remove the table"
        )
    if count < n:
        first = names[int(np.argmin(matched))]
        notes.append(f"{n - count} of {n} images are not in the table {file}, the first {first}")


def _label(known: Knowledge, factor: str, class_names: Sequence[str]) -> None:
    if factor in known.factors:
        values = known.factors[factor]
        in_range = np.isin(values, range(len(class_names)))
        known.labels = np.where(in_range, values, UNKNOWN).astype(np.int64)
        known.class_names = class_names
        if wrong := int((~in_range & ~np.isnan(values)).sum()):
            known.notes.append(f"{wrong} values of {factor} are none of {', '.join(class_names)}: no label")


def _partition(table: Table, names: Sequence[str]) -> NDArray[np.uint8]:
    wrong = np.flatnonzero(~np.isin(table.values[:, 0], (0, 1, 2)))
    if wrong.size:
        raise DataError(
            f"{table.file} gives no split (0, 1 or 2) for {wrong.size} of {len(names)} images, the first "
            f"{names[wrong[0]]}; complete the table, or remove it for splits by content"
        )
    return table.values[:, 0].astype(np.uint8)
