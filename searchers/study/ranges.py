"""The valid values of each setting, beside its type: `epochs: Annotated[int, between(1, 9)] = 3`."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args, get_type_hints

LONGEST_NAME = 200  # bytes; file names may have 255, and a sweep's parts and retrainings append to its name


@dataclass(frozen=True)
class Rule:
    """A condition on a setting, and its words: "--NAME is VALUE; it must be WORDS"."""

    words: str
    holds: Callable[[Any], bool]


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
WIDTH = between(0.01, 100)
PLAIN_NAME = Rule(f"a plain name without slashes, of {LONGEST_NAME} bytes at most", _is_plain)


def check(config: object) -> None:
    """Hold each setting of a dataclass to the rules beside its type; those that are None keep them all.

    Raises ValueError with the flag, its value and what it must be.
    """
    for name, hint in get_type_hints(type(config), include_extras=True).items():
        value = getattr(config, name)
        if value is None:
            continue
        rules = [rule for rule in get_args(hint) if isinstance(rule, Rule)]
        if isinstance(value, str):
            rules.append(Rule("left out or not empty", lambda value: value != ""))
        for rule in rules:
            if not _keeps(value, rule):
                flag = f"--{name.replace('_', '-')}"
                raise ValueError(f"{flag} is {_shown(value)}; it must be {rule.words}")


def _keeps(value: Any, rule: Rule) -> bool:
    try:
        return rule.holds(value)
    except (TypeError, AttributeError, OverflowError):  # of another type, in a damaged sweep.json; infinity
        return False


def _shown(value: Any) -> str:
    """Format a value for a sentence; only the start of a long one."""
    text = repr(value) if isinstance(value, str) else str(value)
    if isinstance(value, tuple | list):
        text = " ".join(map(str, value)) or "empty"
    return text if len(text) <= 80 else f"{text[:77]}…"
