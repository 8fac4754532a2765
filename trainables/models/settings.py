"""What a setting may be by its type, and which name was meant where one is unknown."""

import math
from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any

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
