"""Sweeps over the trainables: one module a search space, with the searcher and the record they share.

From Python: `from searchers import Study, sweep`; `searchers.tune` shows how.
"""

from importlib import import_module
from typing import Any

_PUBLIC = {"Study": "searchers.study.study", "sweep": "searchers.tune"}
__all__ = ["Study", "sweep"]


def __getattr__(name: str) -> Any:
    """Import what is asked for: commands that do not need it start without."""
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_PUBLIC[name]), name)
