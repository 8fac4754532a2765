"""The rule of a sweep's trials: at rungs all but the best pause; a free worker resumes or begins one.

ASHA's rule (Li et al. 2020, "A System for Massively Parallel Hyperparameter Tuning", alg. 2), PAUSE for STOP:
a trial that reaches a rung goes on where its value is among the best 1/η of those that did before. A pause
can be taken back, so a comparison that was made too early, or by luck, costs little. Trials that have not
begun to draw are not compared.

Epochs are counted from 1, values are minimized. Pure: no Ray here; `tune_scheduler.py` applies it in Tune.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import numpy as np

REDUCTION_FACTOR = 3  # η: a third of the trials that reach a rung go on
SHORTEST = 17  # the first rung is at max_epochs / SHORTEST where none is given
TELLING = 1.5  # variance over trials, in units of that of a curve's own noise, from which values are compared
COLLAPSED = "collapsed"  # the flag of a model whose samples are nearly identical

Action = Literal["continue", "pause", "stop"]
State = Literal["running", "paused", "ended"]
ROUNDING = 1e-6  # epochs that are none: what is left of sums of fractions
STATES: dict[Action, State] = {"continue": "running", "pause": "paused", "stop": "ended"}


@dataclass
class Progress:
    """What the rule knows of a trial: its values by epoch, and what it does."""

    values: dict[int, float] = field(default_factory=dict)
    state: State = "running"
    whole: bool = False  # it trains to its last epoch whatever it reaches
    epoch: int = 0


class Record(Protocol):
    """What `replay` reads of a trial: the ledger's `TrialRecord` has it."""

    @property
    def trial(self) -> str:
        """Its id."""

    @property
    def metrics(self) -> Mapping[int, Mapping[str, float]]:
        """Its scores, by epoch and name."""

    @property
    def flags(self) -> Mapping[int, str]:
        """What was wrong with its model, by epoch."""

    @property
    def status(self) -> str | None:
        """How it ended; None where it did not."""


def rungs(max_epochs: int, first: int) -> list[int]:
    """Return first, first·η, first·η², … below max_epochs, and max_epochs itself."""
    found, rung = [], first
    while rung < max_epochs:
        found.append(rung)
        rung *= REDUCTION_FACTOR
    return [*found, max_epochs]


def least_rung(max_epochs: int) -> int:
    """Return the first rung where none is given, before it has moved up."""
    return max(1, round(max_epochs / SHORTEST))


class PauseRule:
    """Decides at each result whether a trial goes on, and keeps the sweep's budget.

    Args:
        max_epochs: the epochs of a full training.
        first_rung: the first epoch at which trials are compared, one that they report at: the budget counts
            epochs up to a rung. None: max_epochs/17, and three times that and so on, as long as the first
            trials' values differ by less than the noise of their own curves.
        first_trials: so many trials pause at the first rung whatever their values: what they teach decides
            which of them goes on.
        budget: epochs that the sweep may train in all; inf for as many as it takes.
        max_trials: trials that may begin.
        replicates: trials for which training budget is set aside until the end, to repeat the best ones.

    Raises ValueError for numbers that make no rule.
    """

    def __init__(
        self,
        max_epochs: int,
        first_rung: int | None = None,
        *,
        first_trials: int = 0,
        budget: float = math.inf,
        max_trials: float = math.inf,
        replicates: int = 0,
    ):
        if max_epochs < 1 or (first_rung is not None and not 1 <= first_rung <= max_epochs):
            raise ValueError(f"first_rung is {first_rung}; it must lie in 1 … {max_epochs}, the last epoch")
        if budget <= 0:
            raise ValueError(f"budget is {budget}; it must be above 0")
        self.max_epochs = max_epochs
        self.first_trials, self.budget, self.max_trials = first_trials, budget, max_trials
        self.learned = first_rung is None
        self.rungs = rungs(max_epochs, first_rung or least_rung(max_epochs))
        # At least half of the budget is for the search itself.
        affordable = replicates if math.isinf(budget) else int(budget / (2 * max_epochs))
        self.replicates = min(replicates, affordable)
        # Of a sweep whose trials were all halted none could be recommended, and none repeated.
        half = (budget - self.replicates * max_epochs) / (2 * max_epochs)
        self.to_the_end = max(1, int(min(self.replicates, half)))
        self.trials: dict[str, Progress] = {}
        self.reached: dict[int, dict[str, float]] = {}  # rung → trial → value

    # What happens

    def begin(self, trial: str, whole: bool = False) -> None:
        """Note that a trial begins; a `whole` one will not be halted before its last epoch."""
        self.trials[trial] = Progress(whole=whole)

    def resume(self, trial: str) -> None:
        """Note that a paused trial goes on."""
        self.trials[trial].state = "running"

    def rewind(self, trial: str, epoch: int) -> None:
        """Note that a trial whose process died goes on from this epoch: what came later will come again."""
        progress = self.trials[trial]
        progress.values = {e: value for e, value in progress.values.items() if e <= epoch}
        progress.epoch = min(progress.epoch, epoch)
        for rung in self.rungs:
            if rung > epoch:
                self.reached.get(rung, {}).pop(trial, None)
        self.resume(trial)

    def end(self, trial: str) -> None:
        """Note that a trial is over."""
        if trial in self.trials:
            self.trials[trial].state = "ended"

    def report(self, trial: str, epoch: int, value: float, flags: str = "") -> Action:
        """Take in a result and decide how its trial goes on."""
        progress = self.trials[trial]
        progress.values[epoch] = value
        progress.epoch = max(progress.epoch, epoch)
        action = self._act(trial, progress, epoch, value, COLLAPSED in flags.split(","))
        progress.state = STATES[action]
        return action

    def _act(self, trial: str, progress: Progress, epoch: int, value: float, collapsed: bool) -> Action:
        if epoch >= self.max_epochs:
            return "stop"
        rung = self._rung_of(trial, epoch)
        if rung is None:
            return "continue"
        if not math.isfinite(value):
            return "stop"
        others = self.reached.setdefault(rung, {})
        if collapsed and not progress.whole:
            # Where others draw already, it is behind; where none does, it is too early to compare.
            return "pause" if others else self._go_on(trial, progress)
        cut = self.cut(rung, trial)
        others[trial] = value
        if progress.whole:
            return "continue"
        if rung == self.rungs[0] and self.is_first(trial):
            self._learn_first_rung()
            return "pause"
        return "pause" if value > cut else self._go_on(trial, progress)

    def _go_on(self, trial: str, progress: Progress) -> Action:
        """Return "continue" where the budget has room for the way to the next rung, else "pause"."""
        progress.state = "paused"  # its own way ahead is not to be counted as committed
        return "continue" if self.affords() and self.leaves_enough(trial) else "pause"

    def _rung_of(self, trial: str, epoch: int) -> int | None:
        """Return the highest rung that the trial has reached with this result and not before."""
        passed = [r for r in self.rungs[:-1] if r <= epoch]
        if not passed or trial in self.reached.get(passed[-1], {}):
            return None
        earlier = [e for e in self.trials[trial].values if e < epoch]
        return passed[-1] if not earlier or max(earlier) < passed[-1] else None

    def cut(self, rung: int, trial: str) -> float:
        """Return the value up to which a trial goes on at a rung, by the others there; inf before them."""
        others = [value for other, value in self.reached.get(rung, {}).items() if other != trial]
        return float(np.percentile(others, 100 / REDUCTION_FACTOR)) if others else math.inf

    def is_first(self, trial: str) -> bool:
        """Whether it is one of the first trials, which pause at the first rung whatever their values."""
        return trial in list(self.trials)[: self.first_trials]

    def _learn_first_rung(self) -> None:
        """Move the first rung up where the first trials, all there, differ by less than their curves' noise.

        The noise is measured by how trials' values move against another in the epoch before the rung.
        """
        rung = self.rungs[0]
        first = [self.trials[t].values for t in list(self.trials)[: self.first_trials]]
        pairs = np.array([(v[rung - 1], v[rung]) for v in first if rung in v and rung - 1 in v])
        if not self.learned or len(self.rungs) < 3 or len(pairs) < max(3, self.first_trials):
            return
        noise = np.var(pairs[:, 1] - pairs[:, 0]) / 2
        if np.var(pairs[:, 1]) < TELLING * noise:
            self.reached.pop(rung, None)
            self.rungs = self.rungs[1:]

    # What is to be done

    @property
    def spent(self) -> int:
        """Epochs trained so far."""
        return sum(p.epoch for p in self.trials.values())

    @property
    def committed(self) -> int:
        """Epochs that running trials have before them until they can be halted."""
        return sum(self.halt(p) - p.epoch for p in self.trials.values() if p.state == "running")

    def halt(self, progress: Progress) -> int:
        """Return the epoch at which a trial that goes on can be halted next."""
        return self.max_epochs if progress.whole else next(r for r in self.rungs if r > progress.epoch)

    @property
    def aside(self) -> int:
        """Epochs that are set aside for replicates."""
        return max(0, self.replicates - sum(p.whole for p in self.trials.values())) * self.max_epochs

    @property
    def left(self) -> float:
        """Epochs that the search may still spend."""
        return self.budget - self.spent - self.committed - self.aside

    def affords(self, whole: bool = False) -> bool:
        """Whether the budget lets a trial begin or go on; a `whole` one may use what is set aside."""
        return self.left + (self.aside if whole else 0) > ROUNDING

    def _ahead(self) -> dict[str, int]:
        """Return how far each trial of the search is from its end once it can be halted."""
        ahead = {}
        for trial, p in self.trials.items():
            trained = p.epoch >= self.max_epochs and math.isfinite(p.values.get(p.epoch, math.nan))
            if not p.whole and (p.state != "ended" or trained):
                ahead[trial] = self.max_epochs - (self.halt(p) if p.state == "running" else p.epoch)
        return ahead

    def leaves_enough(self, trial: str | None = None) -> bool:
        """Whether the budget trains `to_the_end` trials after the way of `trial` to its next rung.

        None: after a new one's.
        """
        progress = Progress() if trial is None else self.trials[trial]
        halt = self.halt(progress)
        moved = self._ahead() | {trial or "": self.max_epochs - halt}
        nearest = sorted(moved.values())[: self.to_the_end]
        nearest += [self.max_epochs] * (self.to_the_end - len(nearest))
        return not any(nearest) or halt - progress.epoch + sum(nearest) <= self.left

    @property
    def resumable(self) -> list[str]:
        """The paused trials that may go on: where the budget is short, the one nearest to its end alone."""
        if not (self.paused and self.affords()):
            return []
        done = sum(not ahead for ahead in self._ahead().values())
        if done >= self.to_the_end or self.left >= (self.to_the_end + 1) * self.max_epochs:
            return self.paused  # whichever goes on, it is enough: most decisions need no look at each trial
        return [t for t in self.paused if self.leaves_enough(t)] or [self.best_paused()][: not self.running]

    @property
    def paused(self) -> list[str]:
        """The trials that may be resumed, in the order they were begun."""
        return [t for t, p in self.trials.items() if p.state == "paused"]

    @property
    def running(self) -> list[str]:
        """The trials that run."""
        return [t for t, p in self.trials.items() if p.state == "running"]

    @property
    def may_begin(self) -> bool:
        """Whether a further trial of the search may begin."""
        if sum(not p.whole for p in self.trials.values()) >= self.max_trials or not self.affords():
            return False
        return self.leaves_enough() or not (self.paused or self.running)

    @property
    def may_resume(self) -> bool:
        """Whether a paused trial may go on."""
        return bool(self.paused) and self.affords()

    @property
    def may_replicate(self) -> bool:
        """Whether the search is over, all its trials are halted and a replicate may begin."""
        if self.may_begin or self.may_resume or any(not self.trials[t].whole for t in self.running):
            return False
        return sum(p.whole for p in self.trials.values()) < self.replicates and self.affords(whole=True)

    @property
    def settled(self) -> bool:
        """Whether nothing runs and nothing of the search can begin or go on."""
        return not (self.running or self.may_begin or self.may_resume)

    def best_paused(self, among: Sequence[str] | None = None) -> str:
        """Return the paused trial that came furthest and is best there: whom ASHA would promote next."""

        def standing(trial: str) -> tuple[int, float]:
            values = self.trials[trial].values
            return -self.trials[trial].epoch, values[max(values)] if values else math.inf

        return min(self.paused if among is None else among, key=standing)

    def promotable(self) -> str | None:
        """Return a paused trial that is by now among the best 1/η of its rung; None where there is none."""
        for rung in reversed(self.rungs[:-1]):
            values = self.reached.get(rung, {})
            best = sorted(values, key=lambda t: values[t])[: len(values) // REDUCTION_FACTOR]
            for trial in best:
                progress = self.trials[trial]
                if progress.state == "paused" and max(r for r in self.rungs if r <= progress.epoch) == rung:
                    return trial
        return None

    def replay(
        self, records: Iterable[Record], metric: str, sign: float = 1.0, replicates: Iterable[str] = ()
    ) -> None:
        """Take in what a ledger holds. A trial without an end is paused at a rung, and runs between two.

        One that has reported its last epoch comes to it again: its last checkpoint is not on record.

        `sign`: 1 for a metric that is minimized, −1 for one that is maximized.
        """
        whole = set(replicates)
        for record in records:
            self.begin(record.trial, record.trial in whole)
            for epoch, metrics in sorted(record.metrics.items()):
                if (value := value_of(metrics, metric)) is not None:
                    self.report(record.trial, epoch, sign * value, record.flags.get(epoch, ""))
            progress = self.trials[record.trial]
            *_, before, progress.epoch = [0, 0, *sorted(record.metrics)]
            if record.status is None and progress.epoch >= self.max_epochs:
                self.rewind(record.trial, before)
                continue
            at_rung = any(before < rung <= progress.epoch for rung in self.rungs)
            going_on: State = "paused" if at_rung and not progress.whole else "running"
            progress.state = going_on if record.status is None else "ended"


def value_of(result: Mapping[str, Any], metric: str | None) -> float | None:
    """Return what a result says of the metric: nan of a model that `diverged`, None where it says nothing."""
    return math.nan if result.get("diverged") else result.get(str(metric))


def decide(rule: PauseRule, searcher: Any, trial: str) -> dict[str, Any] | str | None:
    """Return what a free worker does: a new trial's configuration, or the id of a paused one to resume.

    None where there is nothing to do now. `searcher` is ours, which weighs both by expected improvement
    (`next_trial`), or any with Tune's `suggest`: then a paused trial goes first that is by now among the best
    of its rung. `trial` is the id that a new one gets.
    """
    if rule.may_replicate and hasattr(searcher, "replicate"):
        config = searcher.replicate(trial)
        if config is not None:
            rule.begin(trial, whole=True)
        return config
    begin, paused = rule.may_begin, rule.resumable
    if not (begin or paused):
        return None
    choice: dict[str, Any] | str | None
    if hasattr(searcher, "next_trial"):
        choice = searcher.next_trial(trial, paused, begin)
    else:
        choice = rule.promotable() if paused else None
        if choice not in paused:
            choice = searcher.suggest(trial) if begin else None
            if choice is None and paused:  # a limit of one's own may count paused trials as running
                choice = rule.best_paused(paused)
    if isinstance(choice, dict):
        rule.begin(trial)
    return choice
