"""Ray Tune's notation for search spaces, read into a `Space`."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from ray.tune.search.sample import (
    Categorical,
    Domain,
    Float,
    Function,
    Integer,
    LogUniform,
    Normal,
    Quantized,
)

from searchers.bayesopt.space import Choice, Dimension, Real, Space, SpaceError
from searchers.bayesopt.space import Integer as IntegerDimension


def read_space(space: Mapping[str, Any] | Sequence[Dimension] | Space) -> Space:
    """Return the `Space` of a (nested) dictionary in Tune's notation or of a list of dimensions.

    What is not a range or a choice is a constant. Choices that are numbers in rising order count as ordered.
    Raises SpaceError for conditional dimensions (`sample_from`, ranges inside a choice), grids and unbounded
    ranges.
    """
    if isinstance(space, Space):
        return space
    if not isinstance(space, Mapping):
        return Space(space)
    dimensions: list[Dimension] = []
    constants: dict[str, Any] = {}
    _read(space, (), dimensions, constants)
    return Space(dimensions, constants)


def has_dimensions(space: Mapping[str, Any]) -> bool:
    """Whether anything in a (nested) dictionary is to be searched."""
    return any(
        isinstance(v, Domain) or (isinstance(v, Mapping) and ("grid_search" in v or has_dimensions(v)))
        for v in space.values()
    )


def _read(
    node: Mapping[str, Any], path: tuple[str, ...], dimensions: list[Dimension], constants: dict[str, Any]
) -> None:
    for key, value in node.items():
        name = "/".join((*path, str(key)))
        if (not isinstance(key, str) or "/" in key) and has_dimensions({key: value}):
            raise SpaceError(f"{name}: {key!r} leads to a range; such a key must be a string without a slash")
        if isinstance(value, Domain):
            dimensions.append(_dimension(name, value))
        elif isinstance(value, Mapping) and "grid_search" in value:
            raise SpaceError(f"{name}: grid_search belongs to no searcher; use tune.choice")
        elif isinstance(value, Mapping):
            _read(value, (*path, str(key)), dimensions, constants.setdefault(key, {}))
        elif isinstance(value, list | tuple) and _holds_domain(value):
            raise SpaceError(f"{name}: a range inside a list cannot be searched; give it a key of its own")
        else:
            constants[key] = value


def _dimension(name: str, domain: Domain) -> Dimension:
    sampler, step = domain.get_sampler(), None
    if isinstance(domain, Function):
        raise SpaceError(
            f"{name}: sample_from makes it depend on other values or on code; conditional dimensions cannot "
            "be searched here. Give a range that holds for every trial, or run one sweep a branch"
        )
    if isinstance(sampler, Quantized):
        step, sampler = sampler.q, sampler.sampler
    if isinstance(domain, Categorical):
        if domain.is_grid():
            raise SpaceError(f"{name}: grid_search belongs to no searcher; use tune.choice")
        if _holds_domain(domain.categories):
            raise SpaceError(
                f"{name}: a choice holds ranges of its own; conditional dimensions cannot be searched here. "
                "Give each range a key of its own, or run one sweep a branch"
            )
        return Choice(name, tuple(domain.categories), ordered=_rising(domain.categories))
    if isinstance(sampler, Normal):
        raise SpaceError(f"{name}: a normal distribution has no bounds; use tune.uniform or tune.loguniform")
    log = isinstance(sampler, LogUniform)
    if isinstance(domain, Integer):
        # Tune leaves the upper bound out, unless the values are multiples of a number above 1.
        high = domain.upper if step is not None and step > 1 else domain.upper - 1
        return IntegerDimension(name, domain.lower, high, log=log, step=int(step or 1))
    if isinstance(domain, Float):
        return Real(name, domain.lower, domain.upper, log=log, step=step)
    raise SpaceError(f"{name}: a {type(domain).__name__} cannot be searched; use a range or tune.choice")


def _holds_domain(value: Any) -> bool:
    if isinstance(value, Mapping):
        return "grid_search" in value or any(_holds_domain(v) for v in value.values())
    if isinstance(value, list | tuple):
        return any(_holds_domain(v) for v in value)
    return isinstance(value, Domain)


def _rising(choices: Sequence[Any]) -> bool:
    numbers = all(isinstance(c, int | float) and not isinstance(c, bool) for c in choices)
    return numbers and len(choices) > 2 and all(a < b for a, b in pairwise(choices))
