"""Labels as data sets write them (numbers of any kind, words, gaps), made into indices of class names."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainables.data.formats.folders import UNKNOWN


@dataclass(frozen=True)
class Labels:
    """`values` int64 (N,), indices into `class_names` or `UNKNOWN`; `notes` say what was not understood."""

    values: NDArray[np.int64]
    class_names: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def as_labels(raw: NDArray[Any], class_names: Sequence[str] = ()) -> Labels:
    """Return the labels that an array (N,) of numbers or words stands for.

    Of numbers, whole ones from 0 on are labels; others are unknown. Without `class_names` the names are the
    distinct numbers or words themselves. NaN, -1 and the empty word say that an image has no label.
    """
    values = np.full(len(raw), UNKNOWN, np.int64)
    if raw.dtype.kind == "U":
        known = raw != ""
        words, values[known] = np.unique(raw[known], return_inverse=True)
        return Labels(values, [str(word) for word in words], _gaps(~known))
    numbers = raw.astype(np.float64)
    limit = float(len(class_names)) if class_names else np.inf
    known = (numbers == np.floor(numbers)) & (numbers >= 0) & (numbers < limit)
    gaps = np.isnan(numbers) | (numbers == UNKNOWN)
    wrong = ~known & ~gaps
    notes = _gaps(gaps)
    if wrong.any():
        of = f"none of the {len(class_names)} classes" if class_names else "no whole number from 0 on"
        first = numbers[wrong][0]
        notes.append(f"{int(wrong.sum())} of {len(numbers)} labels are {of}, the first {first:g}: unknown")
    if class_names:
        values[known] = numbers[known]
        return Labels(values, list(class_names), notes)
    # Whole numbers above 2**53, such as hashes, differ by less than floats can tell.
    exact = raw if raw.dtype.kind in "iu" else numbers
    distinct, values[known] = np.unique(exact[known], return_inverse=True)
    return Labels(values, [f"{int(number)}" for number in distinct], notes)


def _gaps(missing: NDArray[np.bool_]) -> list[str]:
    """Return a sentence on the images that have no label where others have one."""
    count = int(missing.sum())
    return [f"{count} of {len(missing)} images have no label"] if 0 < count < len(missing) else []
