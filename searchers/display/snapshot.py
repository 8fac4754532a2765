"""What a sweep is like at one moment, as plain data: the live table and the live page show the same."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from analysis.charts.text import duration, flag_words
from searchers.display.standing import WAITING, brief, standing_of, why
from searchers.record.schema import RUNNING, STOPPED
from searchers.record.trials import TrialRecord, ranked
from searchers.scheduling.rule import PauseRule

ENOUGH = 1.25  # the least and the most that is left are told as one number where they are this close


@dataclass(frozen=True)
class Told:
    """What a sweep's trials are told by."""

    metric: str
    mode: str
    dimensions: Sequence[str]
    epochs: int
    further: Sequence[str] = ()
    """further objectives"""
    derived: Callable[[dict[str, Any]], Mapping[str, float]] = lambda config: {}
    """further columns that follow from a trial's configuration"""
    references: Mapping[str, float] = field(default_factory=dict)
    """the metric of images that no model made, by name"""

    @property
    def sign(self) -> float:
        """1 where the metric is minimized, −1 where it is maximized."""
        return 1.0 if self.mode == "min" else -1.0


@dataclass(frozen=True)
class Row:
    """A trial: what it is, how far it is, what it scores, and why it does not go on."""

    number: int
    settings: tuple[Any, ...]
    epoch: int
    score: float
    std: float
    further: tuple[float, ...]
    derived: Mapping[str, float]
    state: str
    why: str
    """what its last rung says of it, where it was halted"""
    brief: str
    """the same in a few letters"""
    wrong: str
    """what looks wrong with its model, or its error"""
    best: bool


def rows_of(
    records: Sequence[TrialRecord],
    told: Told,
    running: frozenset[str] = frozenset(),
    rule: PauseRule | None = None,
    unfinished: str = WAITING,
    best: TrialRecord | None = None,
) -> list[Row]:
    """Return a row a trial: the best one, those that run, then the others, the best first.

    `unfinished` is the state of those without an end that do not run; `best` is by score, if it isn't given.
    """
    order = ranked(list(records), told.metric, told.mode)
    places = {record.trial: place for place, record in enumerate(order)}
    best = best or (order[0] if order else None)
    rows = []
    for record in records:
        state = record.status or (RUNNING if record.trial in running else unfinished)
        standing = None
        if rule is not None and record.trial in rule.trials and state in (STOPPED, unfinished):
            standing = standing_of(rule, record.trial, told.sign)
        row = Row(
            number=record.number,
            settings=tuple(record.config[name] for name in told.dimensions),
            epoch=record.epoch,
            score=record.last(told.metric),
            std=record.last(f"{told.metric}_std"),
            further=tuple(record.last(name) for name in told.further),
            derived=told.derived(record.config),
            state=state,
            why=why(standing, state, told.sign),
            brief=brief(standing),
            wrong=record.error or flag_words(record.flags.get(record.epoch, "")),
            best=record is best,
        )
        rows.append(((not row.best, state != RUNNING, places.get(record.trial, len(order)), row.number), row))
    return [row for _, row in sorted(rows, key=lambda pair: pair[0])]


def time_left(bounds: tuple[float, float] | None) -> str:
    """Say how long the rest takes, by its least and most seconds."""
    if bounds is None:
        return "time left is known after the first result"
    least, most = bounds
    if not math.isfinite(most):
        return "time left is unknown"
    if most <= 0:
        return "ending"
    if most <= ENOUGH * least or duration(least) == duration(most):
        return f"about {duration(most)} left"
    return f"{duration(least)} to {duration(most)} left"


def spent_and_saved(
    records: Sequence[TrialRecord], pace: Mapping[str, float], epochs: int, running: frozenset[str]
) -> tuple[float, float]:
    """Return the seconds that trials were trained for, and those that stopped and paused ones were not."""
    known = {r.trial: r.epoch * pace[r.trial] for r in records if math.isfinite(pace[r.trial])}
    halted = [
        r for r in records if r.status == STOPPED or (r.status is None and r.trial not in running and r.epoch)
    ]
    saved = sum((epochs - r.epoch) * pace[r.trial] for r in halted if r.trial in known)
    return sum(known.values()), saved
