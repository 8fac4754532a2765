"""What the searcher knows of each trial: its configuration, every row it reported, and how it ended.

Plain data that JSON holds exactly, and the training set of a surrogate that takes one value of each trial.
Pure: no Ray here.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

RUNNING, PAUSED, ENDED, FAILED = "running", "paused", "ended", "failed"
LIMIT = 1e100  # its square is still a number: beyond it, a value is a diverged model's
WHOLE = 0  # the epoch of a value from elsewhere, which counts as fully trained


def not_begun(points: Iterable[dict[str, Any]], begun: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the points without those that trials have begun, each of which was one of them at most.

    Workers begin in any order: a point whose trial is not among the begun ones is still to come. Both are
    compared as JSON has them, which knows no tuples: a ledger brings lists back.
    """
    left = [(_plain(point), point) for point in points]
    for config in begun:
        known = _plain(config).items()
        found = next((n for n, (plain, _) in enumerate(left) if plain.items() <= known), None)
        if found is not None:
            del left[found]
    return [point for _, point in left]


def _plain(config: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(json.dumps(config))
    return found


@dataclass
class Trial:
    """One configuration (name → code) and its rows: epoch → the objectives' values, epoch → their errors.

    `errors` hold the standard deviation of a row's sampling noise where the trainable reports it.
    `heard`: the history's count of ended trials when the trial was last heard of. `elsewhere`: it was
    another sweep's.
    """

    codes: dict[str, Any]
    state: str = RUNNING
    rows: dict[int, list[float]] = field(default_factory=dict)
    errors: dict[int, list[float]] = field(default_factory=dict)
    heard: int = 0
    elsewhere: bool = False

    @property
    def epoch(self) -> int:
        """The last epoch that was reported; 0 before the first."""
        return max(self.rows, default=0)

    @property
    def last(self) -> list[float]:
        """The values at the last epoch."""
        return self.rows[self.epoch]

    def finite_rows(self) -> dict[int, list[float]]:
        """Return the rows without a NaN, an infinity or a magnitude beyond LIMIT."""
        return {e: v for e, v in sorted(self.rows.items()) if usable(v)}


def usable(values: Sequence[float]) -> bool:
    """Whether a surrogate can learn from a row: no NaN, no infinity, no magnitude beyond LIMIT."""
    return all(abs(v) <= LIMIT for v in values)


class History:
    """All trials by id, in the order they were suggested."""

    def __init__(self) -> None:
        self.trials: dict[str, Trial] = {}
        self.ended = 0

    def start(self, trial_id: str, codes: dict[str, Any], elsewhere: bool = False) -> None:
        """Note that a trial runs, here or `elsewhere`."""
        self.trials[trial_id] = Trial(codes, heard=self.ended, elsewhere=elsewhere)

    def report(
        self, trial_id: str, epoch: int, values: Sequence[float], errors: Sequence[float] | None
    ) -> None:
        """Note a row; the last of several with one epoch stays.

        A trial that had failed runs again. One that had ended is over; its row may make it bad.
        """
        trial = self.trials[trial_id]
        trial.rows[int(epoch)] = [float(v) for v in values]
        trial.heard = self.ended
        if errors is not None:
            trial.errors[int(epoch)] = [float(e) for e in errors]
        if trial.state == FAILED:
            trial.state = RUNNING
        elif trial.state == ENDED and not usable(trial.last):
            trial.state = FAILED

    def pause(self, trial_id: str) -> None:
        """Note that a trial waits to be gone on with: what it has shown counts, and it is not pending."""
        if self.trials[trial_id].state == RUNNING:
            self.trials[trial_id].state = PAUSED

    def resume(self, trial_id: str) -> None:
        """Note that a paused trial goes on."""
        trial = self.trials[trial_id]
        trial.state, trial.heard = RUNNING, self.ended

    def end(self, trial_id: str, failed: bool) -> None:
        """Note that a trial is over: `failed`, or its last row not `usable`, marks its configuration as bad.

        A trial that ends without a row and without an error was cancelled: nothing is learned, it is dropped.
        """
        trial = self.trials[trial_id]
        if not failed and not trial.rows:
            del self.trials[trial_id]
            return
        if trial.state in (RUNNING, PAUSED):
            self.ended += 1
        broken = bool(trial.rows) and not usable(trial.last)
        trial.state = FAILED if failed or broken else ENDED

    def pending(self) -> list[Trial]:
        """Return the trials that run.

        A trial stops counting once ten times as many others as run now have ended since it was heard of:
        a driver that was killed can leave trials that Tune never created.
        """
        running = [t for t in self.trials.values() if t.state == RUNNING]
        return [t for t in running if self.ended - t.heard <= 10 * len(running)]

    def final_epoch(self) -> int:
        """Return the largest epoch that any trial reached: what counts as fully trained."""
        return max((t.epoch for t in self.trials.values()), default=0)

    def to_json(self) -> dict[str, Any]:
        """Return plain data."""
        return {"ended": self.ended, "trials": {k: asdict(t) for k, t in self.trials.items()}}

    @classmethod
    def from_json(cls, state: dict[str, Any]) -> "History":
        """Read what `to_json` wrote."""
        history = cls()
        history.ended = state["ended"]
        for trial_id, stored in state["trials"].items():
            for key in ("rows", "errors"):
                stored[key] = {int(epoch): values for epoch, values in stored[key].items()}
            history.trials[trial_id] = Trial(**stored)
        return history


@dataclass(frozen=True)
class Rows:
    """A training set: trials (n), their values (n, objectives) and known error variances, of one epoch."""

    trials: list[Trial]
    values: np.ndarray
    variances: np.ndarray

    def __len__(self) -> int:
        return len(self.trials)


def _rows(trials: list[Trial], epochs: list[int], floor: Sequence[float] | None) -> Rows:
    values = np.array([t.rows[e] for t, e in zip(trials, epochs, strict=True)])
    if not len(values):
        values = np.empty((0, 1))
    variances = np.zeros_like(values)
    for i, (trial, epoch) in enumerate(zip(trials, epochs, strict=True)):
        known = trial.errors.get(epoch, floor)
        if known is not None:
            variances[i] = np.square(known)
    return Rows(trials, values, variances)


def last_value(history: History, floor: Sequence[float] | None = None) -> Rows:
    """A stopped or paused trial counts with its last value, as if it had been trained to the end."""
    halted = [t for t in history.trials.values() if t.state in (ENDED, PAUSED)]
    ended = [t for t in halted if t.rows and usable(t.last)]
    return _rows(ended, [t.epoch for t in ended], floor)
