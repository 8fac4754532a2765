"""The search space as the surrogate sees it: every dimension a coordinate of the unit cube.

Symbols: d dimensions; u in [0, 1]^d a point of the unit cube; a *value* is what the trainable gets (a native
Python float, int or one of the choices); a *configuration* is a (nested) dictionary of values.
Pure: no Ray here. `tune_space.py` reads Tune's own notation.
"""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

LISTED = 4096  # a dimension of more values has no list of them


class SpaceError(ValueError):
    """A search space, or a configuration for it, that cannot be used; the message says what can."""


@dataclass(frozen=True)
class Real:
    """A number in [low, high]; `log`: uniform in its logarithm; `step`: multiples of it only.

    `name` is the path in a nested configuration, joined by "/".
    """

    name: str
    low: float
    high: float
    log: bool = False
    step: float | None = None
    integer: bool = False
    categorical = False

    def __post_init__(self) -> None:
        if not (math.isfinite(self.low) and math.isfinite(self.high) and self.low <= self.high):
            raise SpaceError(
                f"{self.name}: the bounds are [{self.low}, {self.high}]; they must be finite and in order"
            )
        if self.log and self.low <= 0:
            raise SpaceError(f"{self.name}: a logarithmic dimension starts at {self.low}; it must be above 0")
        if self.step is not None and not self.step > 0:
            raise SpaceError(f"{self.name}: the step is {self.step}; it must be above 0")
        if self.step is not None and self._last_index < self._first_index:
            raise SpaceError(f"{self.name}: no multiple of {self.step} lies in [{self.low}, {self.high}]")

    @property
    def _first_index(self) -> int:
        return math.ceil(self.low / (self.step or 1) - 1e-9)

    @property
    def _last_index(self) -> int:
        return math.floor(self.high / (self.step or 1) + 1e-9)

    @property
    def size(self) -> int | None:
        """Number of values; None where they are a continuum."""
        if self.low == self.high:
            return 1
        return None if self.step is None else self._last_index - self._first_index + 1

    def value(self, u: float) -> float | int:
        """Return the value at u in [0, 1], the nearest one where values are discrete."""
        u = min(max(float(u), 0.0), 1.0)
        if self.log:
            number = math.exp(math.log(self.low) + u * (math.log(self.high) - math.log(self.low)))
        else:
            number = self.low + u * (self.high - self.low)
        if self.step is not None:
            index = min(max(round(number / self.step), self._first_index), self._last_index)
            number = index * self.step
        number = min(max(number, self.low), self.high)
        return round(number) if self.integer else float(number)

    def unit(self, value: Any) -> float:
        """Return where a value lies in [0, 1]. Raises SpaceError outside the bounds."""
        if isinstance(value, bool) or not isinstance(value, int | float | np.integer | np.floating):
            raise SpaceError(f"{self.name} = {value!r} is not a number")
        slack = 1e-9 * max(abs(self.low), abs(self.high))
        if not self.low - slack <= value <= self.high + slack:
            raise SpaceError(f"{self.name} = {value!r} lies outside [{self.low}, {self.high}]")
        if self.size == 1:
            return 0.5
        part: float
        if self.log:
            part = math.log(max(value, self.low) / self.low) / math.log(self.high / self.low)
        else:
            part = float(value - self.low) / (self.high - self.low)
        return min(max(part, 0.0), 1.0)

    def units(self, codes: Sequence[float] | np.ndarray) -> np.ndarray:
        """Return where valid codes lie in [0, 1], (n,)."""
        value = np.array(codes, dtype=float)
        if self.size == 1:
            return np.full(len(value), 0.5)
        low, high = self.low, self.high
        if self.log:
            value, low, high = np.log(np.maximum(value, low)), math.log(low), math.log(high)
        return np.clip((value - low) / (high - low), 0.0, 1.0)

    def snap(self, u: np.ndarray) -> np.ndarray:
        """Return coordinates u (n,) moved to the nearest ones that a value has."""
        if self.size == 1:
            return np.full_like(u, 0.5)
        if self.step is None:
            return u
        low, high = (math.log(b) if self.log else b for b in (self.low, self.high))
        number = low + u * (high - low)
        below = np.floor((np.exp(number) if self.log else number) / self.step)
        at = []
        for index in (below, below + 1):
            value = np.clip(index, self._first_index, self._last_index) * self.step
            at.append(self.units(np.clip(value, self.low, self.high)))
        nearest: np.ndarray = np.where(u - at[0] <= at[1] - u, at[0], at[1])
        return nearest

    def check(self, value: Any) -> None:
        """Raise SpaceError where a trial could not be given this value: outside the bounds, between steps."""
        nearest = self.value(self.unit(value))
        if self.step is not None and abs(nearest - value) > 1e-9 * max(abs(value), self.step):
            raise SpaceError(
                f"{self.name} = {value!r} is no multiple of {self.step}; the nearest is {nearest}"
            )

    def encode(self, value: Any) -> float | int:
        """Return a number that JSON can hold. Raises SpaceError outside the bounds."""
        self.unit(value)
        return int(value) if self.integer and value == int(value) else float(value)

    def decode(self, code: float | int) -> float | int:
        """Return the value that `encode` was given."""
        return code

    def grid(self) -> np.ndarray | None:
        """Return all unit coordinates in order, (size,); None for a continuum or more than LISTED values."""
        if (self.step is None and self.size != 1) or (self.size or 0) > LISTED:
            return None
        if self.size == 1:
            return np.array([0.5])
        values = np.arange(self._first_index, self._last_index + 1) * (self.step or 1)
        return np.array([self.unit(v) for v in np.clip(values, self.low, self.high)])


def Integer(name: str, low: int, high: int, log: bool = False, step: int = 1) -> Real:  # noqa: N802  a kind
    """Return the dimension of the integers low … high, both included; multiples of `step` only."""
    for bound in (low, high, step):
        if int(bound) != bound:
            raise SpaceError(f"{name}: {bound!r} bounds an integer dimension; it must be an integer")
    return Real(name, int(low), int(high), log=log, step=int(step), integer=True)


@dataclass(frozen=True)
class Choice:
    """One of `choices`. `ordered`: near-by choices behave alike; otherwise all differ equally."""

    name: str
    choices: tuple[Any, ...]
    ordered: bool = False
    integer = False

    def __post_init__(self) -> None:
        different: list[Any] = []  # a copy would be a category that no value leads to
        for choice in self.choices:
            if not any(type(choice) is type(other) and _same(choice, other) for other in different):
                different.append(choice)
        object.__setattr__(self, "choices", tuple(different))
        if not self.choices:
            raise SpaceError(f"{self.name}: there are no choices")

    @property
    def categorical(self) -> bool:
        """Whether distances between different choices are all the same."""
        return not self.ordered

    @property
    def size(self) -> int:
        """Number of choices."""
        return len(self.choices)

    def value(self, u: float) -> Any:
        """Return the choice at u in [0, 1]."""
        return self.choices[int(np.argmin(np.abs(self.grid() - u)))]

    def unit(self, value: Any) -> float:
        """Return where a choice lies in [0, 1]. Raises SpaceError if it is none of them."""
        return float(self.grid()[self.encode(value)])

    def units(self, codes: Sequence[int]) -> np.ndarray:
        """Return where valid codes lie in [0, 1], (n,)."""
        result: np.ndarray = self.grid()[np.array(codes, dtype=int)]
        return result

    def snap(self, u: np.ndarray) -> np.ndarray:
        """Return coordinates u (n,) moved to the nearest ones that a choice has."""
        grid = self.grid()
        result: np.ndarray = grid[np.argmin(np.abs(u[:, None] - grid), axis=1)]
        return result

    def check(self, value: Any) -> None:
        """Raise SpaceError where the value is none of the choices."""
        self.encode(value)

    def encode(self, value: Any) -> int:
        """Return the choice's index. Raises SpaceError if it is none of them."""
        for index, choice in enumerate(self.choices):
            if type(choice) is type(value) and _same(choice, value):
                return index
        for index, choice in enumerate(self.choices):  # 1 for 1.0, a list for a tuple as JSON brings it back
            if _same(choice, value):
                return index
        raise SpaceError(f"{self.name} = {value!r} is none of {list(self.choices)}")

    def decode(self, code: int) -> Any:
        """Return the choice of an index."""
        if not 0 <= code < self.size:
            raise SpaceError(f"{self.name} has {self.size} choices; there is no number {code}")
        return self.choices[code]

    def grid(self) -> np.ndarray:
        """Return all unit coordinates, shape (size,)."""
        if self.ordered and self.size > 1:
            return np.linspace(0.0, 1.0, self.size)
        return (np.arange(self.size) + 0.5) / self.size


def Ordinal(name: str, choices: Sequence[Any]) -> Choice:  # noqa: N802  a kind of dimension
    """Return the dimension of choices whose order matters."""
    return Choice(name, tuple(choices), ordered=True)


Dimension = Real | Choice


class Space:
    """An ordered list of dimensions. `constants` (a nested dictionary) go into every configuration."""

    def __init__(self, dimensions: Sequence[Dimension], constants: Mapping[str, Any] | None = None):
        self.dimensions = tuple(dimensions)
        self.constants = dict(constants or {})
        if not self.dimensions:
            raise SpaceError("The search space has no dimension to search; give at least one range or choice")
        names = [d.name for d in self.dimensions]
        if len(set(names)) < len(names):
            raise SpaceError(
                f"Two dimensions have one name: {sorted(n for n in names if names.count(n) > 1)[0]}"
            )
        self.categorical = np.array([d.categorical for d in self.dimensions])
        self.grids = [d.grid() for d in self.dimensions]

    def __len__(self) -> int:
        return len(self.dimensions)

    @property
    def size(self) -> float:
        """Number of different configurations; inf where any dimension is a continuum."""
        return math.prod(math.inf if d.size is None else d.size for d in self.dimensions)

    def check(self, point: Mapping[str, Any]) -> None:
        """Raise SpaceError where a trial could not be given these values, or where one is no dimension's."""
        names = [d.name for d in self.dimensions]
        for key in _paths(point, set(names)):
            known, value = _get(self.constants, key)
            if key not in names and not (known and _same(value, _get(point, key)[1])):
                raise SpaceError(f"{key!r} is not searched; the dimensions are {', '.join(names)}")
        for d in self.dimensions:
            found, value = _get(point, d.name)
            if found:
                d.check(value)

    def configuration(self, codes: Mapping[str, Any]) -> dict[str, Any]:
        """Return the nested configuration, with the constants, of name → code as `encode` gives it."""
        config = _copy(self.constants)
        for dimension in self.dimensions:
            _put(config, dimension.name, dimension.decode(codes[dimension.name]))
        return config

    def encode(self, config: Mapping[str, Any], partial: bool = False) -> dict[str, Any]:
        """Return name → code, which JSON can hold, of a nested or a flat ("a/b") configuration.

        Keys that are no dimensions are passed over. Raises SpaceError where a value is outside its dimension
        or, unless `partial`, missing.
        """
        codes = {}
        for dimension in self.dimensions:
            found, value = _get(config, dimension.name)
            if found:
                codes[dimension.name] = dimension.encode(value)
            elif not partial:
                raise SpaceError(
                    f"The configuration has no {dimension.name}; it has {sorted(map(str, config))}"
                )
        return codes

    def unit(self, codes: Mapping[str, Any]) -> np.ndarray:
        """Return the point of the unit cube, shape (d,)."""
        return np.array([d.unit(d.decode(codes[d.name])) for d in self.dimensions])

    def units(self, codes: Sequence[Mapping[str, Any]]) -> np.ndarray:
        """Return the points of the unit cube of several trials' codes, (n, d); `unit` of one after
        another."""
        return np.column_stack([d.units([c[d.name] for c in codes]) for d in self.dimensions])

    def codes(self, u: np.ndarray) -> dict[str, Any]:
        """Return name → code of the configuration nearest to u, shape (d,)."""
        return {d.name: d.encode(d.value(x)) for d, x in zip(self.dimensions, u, strict=True)}

    def snap(self, U: np.ndarray) -> np.ndarray:
        """Return points, shape (n, d), moved to the nearest ones that exist; continua stay as they are."""
        U = np.clip(np.array(U, dtype=float, ndmin=2), 0.0, 1.0)
        for j, d in enumerate(self.dimensions):
            U[:, j] = d.snap(U[:, j])
        return U

    def every(self) -> np.ndarray:
        """Return all points of a discrete space, (size, d)."""
        return np.array(list(itertools.product(*(grid for grid in self.grids if grid is not None))))

    def fill(self, U: np.ndarray) -> np.ndarray:
        """Return points of the space that are as uniform as the points U of the cube, shape (n, d).

        Unlike `snap` it gives each discrete value an equal share, those at the ends, too.
        """
        U = np.array(U, dtype=float, ndmin=2)
        for j, grid in enumerate(self.grids):
            if grid is not None and (self.categorical[j] or not self.dimensions[j].__dict__.get("log")):
                U[:, j] = grid[np.minimum((U[:, j] * len(grid)).astype(int), len(grid) - 1)]
        return self.snap(U)


def _paths(node: Mapping[str, Any], whole: set[str], path: tuple[str, ...] = ()) -> list[str]:
    """Return the names, joined by "/", of the values in a nested configuration; `whole` ones are one
    value."""
    names = []
    for key, value in node.items():
        name = "/".join((*path, str(key)))
        inner = isinstance(value, Mapping) and value and name not in whole
        names += _paths(value, whole, (*path, str(key))) if inner else [name]
    return names


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, list | tuple) and isinstance(b, list | tuple):
        return len(a) == len(b) and all(map(_same, a, b))
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        return a.keys() == b.keys() and all(_same(a[key], b[key]) for key in a)
    try:
        return bool(a == b) and isinstance(a, bool) == isinstance(b, bool)
    except ValueError:  # arrays
        return False


def _get(config: Mapping[str, Any], name: str) -> tuple[bool, Any]:
    if name in config:
        return True, config[name]
    node: Any = config
    for key in name.split("/"):
        if not isinstance(node, Mapping) or key not in node:
            return False, None
        node = node[key]
    return True, node


def _put(config: dict[str, Any], name: str, value: Any) -> None:
    *parents, key = name.split("/")
    for parent in parents:
        config = config.setdefault(parent, {})
    config[key] = value


def _copy(config: Mapping[str, Any]) -> dict[str, Any]:
    return {k: _copy(v) if isinstance(v, Mapping) else v for k, v in config.items()}
