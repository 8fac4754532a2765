"""The valid values of each setting, beside its type: `epochs: Annotated[int, between(1, 9)] = 3`."""

from dataclasses import fields
from os import PathLike, fspath
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from trainables.models.settings import KINDS, Rule, rules_of

LONGEST_NAME = 200  # bytes; file names may have 255, and a sweep's parts and retrainings append to its name


def between(low: float, high: float) -> Rule:
    """Return the rule of a number from `low` to `high`, both included; NaN breaks it."""
    return Rule(f"from {low:,} to {high:,}", lambda value: low <= value <= high)


def multiple_of(step: int, low: int, high: int) -> Rule:
    """Return the rule of a whole number from `low` to `high` that `step` divides."""
    return Rule(
        f"a multiple of {step} from {low:,} to {high:,}",
        lambda value: low <= value <= high and value % step == 0,
    )


def one_of(*values: int) -> Rule:
    """Return the rule of a number that is one of `values`."""
    return Rule(f"one of {', '.join(map(str, values))}", lambda value: value in values)


def each(rule: Rule) -> Rule:
    """Return the rule of several values, one at least, of which each keeps `rule`."""
    return Rule(
        f"one number or more, each {rule.words}",
        lambda values: len(values) > 0 and all(rule.holds(value) for value in values),
    )


def _is_share(value: float) -> bool:
    return value == 0 or 0.0001 <= value <= 1 or (1 <= value <= 1024 and value == int(value))


def _is_plain(name: str) -> bool:
    """Whether a name is one of a file below a folder, on any machine and in any terminal."""
    plain = name.isprintable() and not name.startswith((".", "-")) and "\\" not in name
    return plain and Path(name).name == name and len(name.encode()) <= LONGEST_NAME


SEVERAL = Rule("one or more, each once", lambda values: 0 < len(values) == len(set(values)))
COUNT = between(1, 1_000_000)
SEED = between(0, 2**32 - 1)  # NumPy's and scikit-learn's seeds
CPUS = between(0.0001, 1024)  # Ray counts resources in steps of 0.0001
GPUS = Rule("0, a share from 0.0001 to 1, or a whole number to 1,024", _is_share)  # as Ray counts them
ONE_GPU = Rule("0, a share from 0.0001 to 1", lambda value: value <= 1 and _is_share(value))
WIDTH = between(0.01, 100)
PLAIN_NAME = Rule(f"a plain name without slashes, of {LONGEST_NAME} bytes at most", _is_plain)


def check(config: Any) -> None:
    """Hold each setting of a dataclass to its type and to the rules beside it; None keeps these.

    What stands for a value becomes it: a list a tuple, NumPy's number Python's, 12.0 the whole number, a path
    its text. Raises ValueError with the flag, its value and what it must be.
    """
    hints = get_type_hints(type(config), include_extras=True)
    for name in (field.name for field in fields(config)):
        kind = get_args(hints[name])[0] if get_origin(hints[name]) is Annotated else hints[name]
        given, flag = getattr(config, name), f"--{name.replace('_', '-')}"
        try:
            value = as_kind(given, kind)
        except TypeError as error:
            raise ValueError(f"{flag} is {_shown(given)}; it must be {error}") from None
        object.__setattr__(config, name, value)
        rules = rules_of(hints[name])
        if isinstance(value, str):
            rules.append(Rule("left out or not empty", lambda value: value != ""))
        for rule in rules:
            if value is not None and not _keeps(value, rule):
                raise ValueError(f"{flag} is {_shown(value)}; it must be {rule.words}")


def as_kind(value: Any, kind: Any) -> Any:
    """Return a value as one of a type. Raises TypeError, whose message is what it must be."""
    if getattr(value, "shape", None) == ():  # a number of NumPy or torch
        value = value.item()
    if get_origin(kind) in (Union, UnionType):  # with None, as all here are
        return None if value is None else as_kind(value, get_args(kind)[0])
    if get_origin(kind) is Literal:
        if not isinstance(value, str | int) or value not in get_args(kind):
            raise TypeError(f"one of {', '.join(map(str, get_args(kind)))}")
        return value
    if get_origin(kind) is tuple:
        if not isinstance(value, list | tuple):
            raise TypeError("a list")
        return tuple(as_kind(each, get_args(kind)[0]) for each in value)
    if kind is str and isinstance(value, PathLike):
        return fspath(value)
    if kind is int and isinstance(value, float) and value.is_integer():
        return int(value)
    numbers = (int, float) if kind is float else kind
    if isinstance(value, bool) != (kind is bool) or not isinstance(value, numbers):
        raise TypeError(KINDS[kind])
    return value


def _keeps(value: Any, rule: Rule) -> bool:
    try:
        return rule.holds(value)
    except OverflowError:  # of infinity
        return False


def _shown(value: Any) -> str:
    """Format a value for a sentence; only the start of a long one."""
    text = repr(value) if isinstance(value, str) else str(value)
    if isinstance(value, tuple | list):
        text = " ".join(map(str, value)) or "empty"
    return text if len(text) <= 80 else f"{text[:77]}…"
