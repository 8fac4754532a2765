"""torch's compiler, imported where something is compiled: import this module before an optimizer is built.

An optimizer of torch asks `torch._dynamo` for two things that do nothing outside compiled code, and that
import takes 2.5 s of CPU time, as long as torch itself, in every process that trains (torch 2.13). Until
another name is asked of it, as `torch.compile` and `torch.export` do, this module's stand-in answers.
"""

import sys
from importlib import import_module
from types import ModuleType
from typing import Any

NAME = "torch._dynamo"


class StandIn(ModuleType):
    """Stands for `torch._dynamo` until more is asked of it than an optimizer asks."""

    @staticmethod
    def graph_break(*words: object, **options: object) -> None:
        """Nothing is being compiled."""

    @staticmethod
    def disable(function: Any = None, *arguments: Any, wrapping: bool = True, **options: Any) -> Any:
        """Return torch's own function as it is; it is called in no compiled code."""
        if wrapping:  # a person's function, which may be compiled later
            return compiler().disable(function, *arguments, **options)
        return function

    def __getattr__(self, name: str) -> Any:
        """Import the compiler for all else, but for what Python asks of any module."""
        if name.startswith("__") and name != "__path__":
            raise AttributeError(name)
        return getattr(compiler(), name)


def compiler() -> ModuleType:
    """Return the real module, imported now if it was not before."""
    if isinstance(sys.modules.get(NAME), StandIn):
        del sys.modules[NAME]
    return import_module(NAME)


def stand_in() -> None:
    """Put the stand-in where the compiler is not imported yet."""
    if NAME not in sys.modules:
        sys.modules[NAME] = StandIn(NAME)


stand_in()
