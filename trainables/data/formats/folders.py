"""What folder names say of the images in them: splits first, then classes."""

import posixpath
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trainables.data.store import SPLITS

UNKNOWN = -1  # the label of an image whose class is not known
SPLIT_WORDS = {
    **dict.fromkeys(("train", "training", "trainset", "trn"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "valset", "dev", "devset"), "validation"),
    **dict.fromkeys(("test", "testing", "testset", "tst", "holdout"), "test"),
}
DEPTH = 4  # folders deep: where the names of splits are looked for


@dataclass(frozen=True)
class Placement:
    """What folders say of N images: `labels` int64 (N,), `splits` uint8 (N,) or None, `class_names`.

    `left_out`: rows whose split is unknown although the others have one. `notes`: what was not understood.
    """

    labels: NDArray[np.int64]
    class_names: list[str]
    splits: NDArray[np.uint8] | None
    left_out: list[int]
    notes: list[str]


def split_of(name: str) -> str | None:
    """Return the split that a folder or file is named after, in any case: Testing, seg_train, val2017."""
    words = re.findall(r"[A-Z]?[a-z]+|[A-Z]+", name)
    found = {SPLIT_WORDS[word.lower()] for word in words if word.lower() in SPLIT_WORDS}
    return found.pop() if len(found) == 1 else None


def place(names: Sequence[str]) -> Placement:
    """Return what the folders of the images `names` say of them.

    Folders name splits where, at one depth, one names the training split and another names another one. An
    image beside them is left out: it may be a copy of a test image. Of what remains of the paths, the first
    folders in which they differ are the classes, if there are two; an image beside these has none. There are
    no classes where most training images have none.
    """
    folders = [name.split("/")[:-1] for name in names]
    depth = next(
        (d for d in range(DEPTH) if are_splits({split_of(f[d]) for f in folders if len(f) > d})), None
    )
    splits: NDArray[np.uint8] | None = None
    left_out: set[int] = set()
    if depth is not None:
        found = [split_of(f[depth]) if len(f) > depth else None for f in folders]
        splits = np.array([SPLITS.index(split or "train") for split in found], np.uint8)
        left_out = {row for row, split in enumerate(found) if split is None}
        folders = [
            [part for part in f if part.lower() != f[depth].lower()] if split else f
            for f, split in zip(folders, found, strict=True)
        ]
    kept = [f for row, f in enumerate(folders) if row not in left_out]
    shared = len(posixpath.commonprefix(kept))
    folders = [f[shared:] for f in folders]
    shared = len(posixpath.commonprefix([f[shared:] for f in kept if f[shared:]]))
    firsts = [f[shared] if len(f) > shared else None for f in folders]
    trained = {row for row in range(len(names)) if splits is None or splits[row] == 0} - left_out
    labels, class_names, notes = _classes(names, firsts, left_out, trained)
    if splits is None and (named := [name for name in class_names if split_of(name)]):
        notes.append(f"the folder {named[0]!r} was taken for a class: no other folder names another split")
    return Placement(labels, class_names, splits, sorted(left_out), notes)


def are_splits(named: Iterable[str | None]) -> bool:
    """Tell whether among the splits that names stand for is the training split and another one."""
    found = set(named) - {None}
    return "train" in found and len(found) > 1


def _classes(
    names: Sequence[str], firsts: Sequence[str | None], left_out: set[int], trained: set[int]
) -> tuple[NDArray[np.int64], list[str], list[str]]:
    """Return labels, class names and notes, by each image's folder that names its class, or None."""
    kept = [first for row, first in enumerate(firsts) if row not in left_out]
    class_names = sorted({first for first in kept if first is not None})
    stray = [row for row, first in enumerate(firsts) if first is None and row not in left_out]
    unknown = np.full(len(names), UNKNOWN, np.int64)
    if len(class_names) < 2:
        return unknown, [], []
    if len(trained.intersection(stray)) > len(trained) // 2:
        there, which = _listed(class_names), "images" if len(trained) == len(kept) else "training images"
        return unknown, [], [f"most {which} lie beside the folders {there}, which were not taken for classes"]
    number = {name: k for k, name in enumerate(class_names)}
    labels = np.array([number.get(first, UNKNOWN) if first else UNKNOWN for first in firsts], np.int64)
    notes = []
    if stray:
        notes.append(
            f"{len(stray)} of {len(kept)} images lie beside the class folders {_listed(class_names)} and "
            f"have no class, the first {names[stray[0]]}"
        )
    return labels, class_names, notes


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (", …" if len(names) > 5 else "")
