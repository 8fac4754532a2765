"""What a setting may be: its type, and the rule beside it, as in `beta: NotNegative = 1.0`.

And which name was meant where one is unknown.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields
from difflib import SequenceMatcher, get_close_matches
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

SHOWN = 8  # names, where one is wrong
KINDS = {bool: "True or False", int: "a whole number", float: "a number", str: "a word"}


@dataclass(frozen=True)
class Rule:
    """A condition on a setting, and its words: "NAME is VALUE; it must be WORDS"."""

    words: str
    holds: Callable[[Any], bool]


AT_LEAST_0 = Rule("0 or more", lambda value: value >= 0)

Count = Annotated[int, Rule("1 or more", lambda value: value >= 1)]
Whole = Annotated[int, AT_LEAST_0]
Positive = Annotated[float, Rule("above 0", lambda value: value > 0)]
NotNegative = Annotated[float, AT_LEAST_0]
Share = Annotated[float, Rule("from 0 to 1", lambda value: 0 <= value <= 1)]
BelowOne = Annotated[float, Rule("from 0 to below 1", lambda value: 0 <= value < 1)]


def kinds_of(config: type, rules: bool = False) -> dict[str, Any]:
    """Return the types of a dataclass's fields by name, of those that are written as texts, too.

    With `rules` those that stand beside a type come with it, as `Annotated`.
    """
    try:
        hints = get_type_hints(config, include_extras=rules)
    except Exception:  # a text may name what is not there when it is read
        hints = {}
    return {field.name: hints.get(field.name, field.type) for field in fields(config)}


def check_values(config: Any) -> None:
    """Raise ValueError where a dataclass's value is none of its `Literal` or breaks a rule beside its type.

    None may stand for any.
    """
    for name, kind in kinds_of(type(config), rules=True).items():
        if (value := getattr(config, name)) is None:
            continue
        if get_origin(kind) is Literal:
            check_kind(name, value, kind)
        for rule in rules_of(kind):
            if not rule.holds(value):
                raise ValueError(f"{name} is {value}; it must be {rule.words}")


def rules_of(kind: Any) -> list[Rule]:
    """Return the rules beside a type, of `X | None` those beside X."""
    parts = get_args(kind) if get_origin(kind) in (Union, UnionType) else (kind,)
    besides = (beside for part in parts for beside in getattr(part, "__metadata__", ()))
    return [beside for beside in besides if isinstance(beside, Rule)]


def check_kind(name: str, value: Any, kind: Any) -> None:
    """Raise ValueError where a value is not of a plain type, or none of a `Literal`.

    Of `X | None` it may be None, too; of another type it may be anything. A whole number is a number, too;
    what is not finite is none.
    """
    if get_origin(kind) in (Union, UnionType):
        others = [other for other in get_args(kind) if other is not NoneType]
        if len(others) == 1 and value is not None:
            check_kind(name, value, others[0])
        return
    if get_origin(kind) is Literal:
        if not any(value == known and type(value) is type(known) for known in get_args(kind)):
            raise ValueError(f"{name} is {value!r}; choose {', '.join(map(str, get_args(kind)))}")
        return
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
