"""A search space as plain data that JSON holds, and back: a saved searcher knows its space by itself."""

import importlib
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from searchers.bayesopt.space import Choice, Dimension, Real, Space, SpaceError


def to_json(space: Space) -> list[dict[str, Any]]:
    """Return the dimensions as plain data; equal lists mean equal spaces."""
    return [_describe(d) for d in space.dimensions]


def from_json(described: list[dict[str, Any]]) -> Space:
    """Return the space, without constants, that `to_json` described.

    Raises SpaceError where a choice is neither plain nor importable by its name.
    """
    return Space([_dimension(d) for d in described])


def _describe(d: Dimension) -> dict[str, Any]:
    if isinstance(d, Real):
        return {"kind": "real", **asdict(d)}
    choices = [_choice_to_json(choice) for choice in d.choices]
    return {"kind": "choice", "name": d.name, "choices": choices, "ordered": d.ordered}


def _dimension(described: dict[str, Any]) -> Dimension:
    values = {key: value for key, value in described.items() if key != "kind"}
    if described["kind"] == "real":
        return Real(**values)
    choices = tuple(_choice_from_json(c, values["name"]) for c in values["choices"])
    return Choice(values["name"], choices, values["ordered"])


def _choice_to_json(choice: Any) -> Any:
    if choice is None or isinstance(choice, bool | int | float | str):
        return choice
    if isinstance(choice, list | tuple):
        return [_choice_to_json(c) for c in choice]
    if isinstance(choice, Mapping) and all(isinstance(key, str) for key in choice):
        return {"mapping": {key: _choice_to_json(c) for key, c in choice.items()}}
    name = getattr(choice, "__qualname__", None)
    if name:  # functions and classes: their repr holds an address, which is another one in each process
        return {"named": f"{choice.__module__}:{name}"}
    return {"opaque": repr(choice)}


def _choice_from_json(described: Any, name: str) -> Any:
    if isinstance(described, list):
        return tuple(_choice_from_json(c, name) for c in described)
    if not isinstance(described, dict):
        return described
    if "mapping" in described:
        return {key: _choice_from_json(c, name) for key, c in described["mapping"].items()}
    if "named" in described:
        module, path = described["named"].split(":")
        try:
            found: Any = importlib.import_module(module)
            for part in path.split("."):
                found = getattr(found, part)
            return found
        except (ImportError, AttributeError):
            pass
    raise SpaceError(f"{name}: the choice {described} cannot be built again; give the search space itself")
