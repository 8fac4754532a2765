"""What a setting may be by its type, and which name was meant where one is unknown."""

import math
from collections.abc import Iterable
from difflib import SequenceMatcher, get_close_matches
from typing import Any

SHOWN = 8  # names, where one is wrong
KINDS = {bool: "True or False", int: "a whole number", float: "a number", str: "a word"}


def check_kind(name: str, value: Any, kind: Any) -> None:
    """Raise ValueError where a value is not of a plain type; of another type than those it may be anything.

    A whole number is a number, too; what is not finite is none.
    """
    if kind not in KINDS:
        return
    kinds = (int, float) if kind is float else (kind,)
    if isinstance(value, bool) != (kind is bool) or not isinstance(value, kinds):
        raise ValueError(f"{name} is {value!r}; it must be {KINDS[kind]}")
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{name} is {value}; it must be finite")


def nearest(name: str, known: Iterable[str]) -> str:
    """Return " (did you mean …?)" where a known name is near, else nothing."""
    found = get_close_matches(name, list(known), 1)
    return f" (did you mean {found[0]}?)" if found else ""


def some_of(name: str, known: Iterable[str]) -> str:
    """Return the known names that are most like a wrong one, and how many there are: not a page of them."""
    names = sorted(known)
    if len(names) <= SHOWN:
        return ", ".join(names)
    near = sorted(names, key=lambda other: -SequenceMatcher(None, name, other).ratio())[:SHOWN]
    return f"{', '.join(near)}, … ({len(names)} in all)"
