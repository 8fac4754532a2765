"""What the searcher knows of each trial: its configuration, every row it reported, and how it ended.

Plain data that JSON holds exactly, and the rules by which rows become the surrogate's training set.
Pure: no Ray here.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

RUNNING, ENDED, FAILED = "running", "ended", "failed"
LIMIT = 1e100  # its square is still a number: beyond it, a value is a diverged model's
WHOLE = 0  # the epoch of a value from elsewhere, which counts as fully trained


@dataclass
class Trial:
    """One configuration (name → code) and its rows: epoch → the objectives' values, epoch → their errors.

    `errors` hold the standard deviation of a row's sampling noise where the trainable reports it.
    `heard`: the history's count of ended trials when the trial was last heard of.
    """

    codes: dict[str, Any]
    state: str = RUNNING
    rows: dict[int, list[float]] = field(default_factory=dict)
    errors: dict[int, list[float]] = field(default_factory=dict)
    heard: int = 0

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

    def __init__(self):
        self.trials: dict[str, Trial] = {}
        self.ended = 0

    def start(self, trial_id: str, codes: dict[str, Any]) -> None:
        """Note that a trial runs."""
        self.trials[trial_id] = Trial(codes, heard=self.ended)

    def report(
        self, trial_id: str, epoch: int, values: Sequence[float], errors: Sequence[float] | None
    ) -> None:
        """Note a row; the last of several with one epoch stays."""
        trial = self.trials[trial_id]
        trial.rows[int(epoch)] = [float(v) for v in values]
        trial.heard = self.ended
        if errors is not None:
            trial.errors[int(epoch)] = [float(e) for e in errors]

    def end(self, trial_id: str, failed: bool) -> None:
        """Note that a trial is over: `failed`, or its last row not `usable`, marks its configuration as bad.

        A trial that ends without a row and without an error was cancelled: nothing is learned, it is dropped.
        """
        trial = self.trials[trial_id]
        if not failed and not trial.rows:
            del self.trials[trial_id]
            return
        if trial.state == RUNNING:
            self.ended += 1
        broken = bool(trial.rows) and not usable(trial.last)
        trial.state = FAILED if failed or broken else ENDED

    def pending(self) -> list[Trial]:
        """Return the trials that run.

        A trial counts no longer after ten times as many others have ended as run now and it was not heard of:
        a driver that was killed can leave trials which Tune never created.
        """
        running = [t for t in self.trials.values() if t.state == RUNNING]
        return [t for t in running if self.ended - t.heard <= 10 * len(running)]

    def final_epoch(self) -> int:
        """Return the largest epoch that any trial reached: what counts as fully trained."""
        return max((t.epoch for t in self.trials.values()), default=0)

    def to_json(self) -> dict:
        """Return plain data."""
        return {"ended": self.ended, "trials": {k: asdict(t) for k, t in self.trials.items()}}

    @classmethod
    def from_json(cls, state: dict) -> "History":
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
    """A stopped trial counts with its last value, as if it had been trained to the end."""
    ended = [t for t in history.trials.values() if t.state == ENDED]
    return _rows(ended, [t.epoch for t in ended], floor)


def finals_only(history: History, floor: Sequence[float] | None = None) -> Rows:
    """A stopped trial teaches nothing; until a trial is finished, all count with their last values."""
    final = history.final_epoch()
    whole = [t for t in history.trials.values() if t.state == ENDED and t.epoch in (final, WHOLE)]
    return _rows(whole, [t.epoch for t in whole], floor) if whole else last_value(history, floor)


def highest_rung(history: History, floor: Sequence[float] | None = None) -> Rows:
    """All that reached it count with their value at one epoch, the latest that enough have reached.

    Enough is d + 2, d dimensions (Falkner, Klein & Hutter 2018, BOHB, §3.2). Running trials count, too,
    and of failed ones none.
    """
    trials = [t for t in history.trials.values() if t.state != FAILED]
    enough = len(trials[0].codes) + 2 if trials else 0
    reached: dict[int, list[Trial]] = {}
    for trial in trials:
        for epoch in trial.finite_rows():
            reached.setdefault(epoch, []).append(trial)
    epochs = [epoch for epoch, those in reached.items() if len(those) >= enough and epoch != WHOLE]
    if not epochs:
        return last_value(history, floor)
    rung = max(epochs)
    chosen = reached[rung] + [t for t in reached.get(WHOLE, []) if t not in reached[rung]]
    return _rows(chosen, [rung if rung in t.rows else WHOLE for t in chosen], floor)


def extrapolated(history: History, floor: Sequence[float] | None = None) -> Rows:
    """A stopped trial counts with its last value, less what others still gained from that epoch to the end.

    The gain is the median over trials that went further, from rung to rung; its spread adds to the error.
    """
    rows = last_value(history, floor)
    final = history.final_epoch()
    values, variances = rows.values.copy(), rows.variances.copy()
    finite = [t.finite_rows() for t in history.trials.values()]
    for i, trial in enumerate(rows.trials):
        epoch = trial.epoch
        while epoch not in (final, WHOLE):
            further = [(max(f), f) for f in finite if epoch in f and max(f) > epoch]
            if len(further) < 2:
                break
            goal = max(e for e, _ in further)
            gains = [np.subtract(f[goal], f[epoch]) for _, f in further if goal in f]
            if len(gains) < 3:  # too few went so far: take the epoch to which three went
                goal = sorted((e for e, _ in further), reverse=True)[min(2, len(further) - 1)]
                gains = [np.subtract(f[goal], f[epoch]) for _, f in further if goal in f]
            if not gains:
                break
            values[i] += np.median(gains, axis=0)
            variances[i] += np.square(1.4826 * np.median(np.abs(gains - np.median(gains, axis=0)), axis=0))
            epoch = goal
    return Rows(rows.trials, values, variances)


EARLY_STOPS: dict[str, Callable[..., Rows]] = {
    "last_value": last_value,
    "finals_only": finals_only,
    "highest_rung": highest_rung,
    "extrapolated": extrapolated,
}
