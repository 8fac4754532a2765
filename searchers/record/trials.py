"""What is known of a sweep's trials, and their order."""

import math
from dataclasses import dataclass, field
from typing import Any

from searchers.record.schema import DIVERGED, FINISHED


@dataclass
class TrialRecord:
    """What the ledger knows of one trial; `metrics` and `flags` by epoch."""

    trial: str
    number: int
    config: dict[str, Any]
    metrics: dict[int, dict[str, float]] = field(default_factory=dict)
    status: str | None = None
    error: str | None = None
    flags: dict[int, str] = field(default_factory=dict)
    checkpoints: dict[str, int] = field(default_factory=dict)
    """names of the saved checkpoints' folders and the epochs that they are of, the latest last"""

    @property
    def epoch(self) -> int:
        """The last epoch that was reported; 0 before the first."""
        return max(self.metrics, default=0)

    def last(self, metric: str) -> float:
        """The metric's value at the last epoch; nan where there is none."""
        return self.metrics.get(self.epoch, {}).get(metric, float("nan"))


def ranked(records: list[TrialRecord], metric: str, mode: str) -> list[TrialRecord]:
    """Return the trials with a finite last value of the metric that did not diverge, the best first.

    Scores at different epochs are different numbers: fully trained trials come first, then those that are
    trained further.
    """
    sign = 1 if mode == "min" else -1

    def place(record: TrialRecord) -> tuple[bool, int, float]:
        whole = record.status == FINISHED
        return not whole, 0 if whole else -record.epoch, sign * record.last(metric)

    scored = (r for r in records if r.status != DIVERGED and math.isfinite(r.last(metric)))
    return sorted(scored, key=place)


def best_record(records: list[TrialRecord], metric: str, mode: str) -> TrialRecord | None:
    """Return the first of `ranked`; None before the first finite value."""
    return next(iter(ranked(records, metric, mode)), None)
