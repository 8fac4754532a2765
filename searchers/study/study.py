"""A study: what is tuned."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from searchers.study.config import UsageError


@dataclass(frozen=True)
class Study:
    """What is tuned: a trainable, its search space in Tune's notation, and what the trials share."""

    trainable: Any
    """a class of `trainables.tune`, whose `model_of` says what a configuration trains"""
    space: dict[str, Any] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    metric: str = ""
    """reported key that is searched by; `searchers.tune` puts the Fréchet distance for none"""
    experiment: str = ""
    """in MLflow; `searchers.tune` names it after the model"""
    points_to_evaluate: tuple[dict[str, Any], ...] = ()
    mode: Literal["min", "max"] = "min"
    objectives: dict[str, Literal["min", "max"]] = field(default_factory=dict)
    """further reported keys and their modes: the search is for the Pareto front of all"""
    random_starts: int | None = None
    points: tuple[dict[str, Any], ...] | None = None
    """settings to train to the end, where there is nothing to search"""
    provenance: dict[str, Any] | None = None
    derived: Callable[[dict[str, Any]], dict[str, float]] = lambda config: {}
    """further columns that follow from a trial's configuration, as β_norm from β"""

    def __post_init__(self) -> None:
        """Raise UsageError where a mode is neither least nor greatest."""
        for name, mode in {"mode": self.mode, **self.objectives}.items():
            if mode not in ("min", "max"):
                raise UsageError(f"The study's {name} is {mode!r}; it must be min or max")
