"""Labels as data sets write them (numbers of any kind, words, gaps), made into indices of class names."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainables.data.formats.folders import UNKNOWN

NAMED = 1000  # numbers below this are taken for indices; larger ones are numbered anew


@dataclass(frozen=True)
class Labels:
    """`values` int64 (N,), indices into `class_names` or `UNKNOWN`; `notes` say what was not understood."""

    values: NDArray[np.int64]
    class_names: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def as_labels(raw: NDArray[Any], class_names: Sequence[str] = ()) -> Labels:
    """Return the labels that an array (N,) of numbers or words stands for.

    Of numbers, whole ones from 0 on are labels; others, NaN among them, are unknown, and noted unless they
    are NaN or -1. Without `class_names` the names are the numbers or words themselves.
    """
    if raw.dtype.kind == "U":
        words, values = np.unique(raw, return_inverse=True)
        return Labels(values.astype(np.int64), [str(word) for word in words])
    numbers = raw.astype(np.float64)
    limit = float(len(class_names)) if class_names else np.inf
    known = (numbers == np.floor(numbers)) & (numbers >= 0) & (numbers < limit)
    wrong = ~known & ~np.isnan(numbers) & (numbers != UNKNOWN)
    notes = []
    if wrong.any():
        of = f"none of the {len(class_names)} classes" if class_names else "no whole number from 0 on"
        first = numbers[wrong][0]
        notes.append(f"{int(wrong.sum())} of {len(numbers)} labels are {of}, the first {first:g}: unknown")
    values = np.full(len(numbers), UNKNOWN, np.int64)
    if class_names or not known.any():
        values[known] = numbers[known]
        return Labels(values, list(class_names), notes)
    if numbers[known].max() < NAMED:
        values[known] = numbers[known]
        return Labels(values, [str(k) for k in range(int(values.max()) + 1)], notes)
    # Whole numbers above 2**53, such as hashes, differ by less than floats can tell.
    exact = raw if raw.dtype.kind in "iu" else numbers
    distinct, values[known] = np.unique(exact[known], return_inverse=True)
    return Labels(values, [f"{int(number)}" for number in distinct], notes)
