"""Searchers with their rules of early stopping behind one interface: ask → trial, report → whether it goes
on.

A trial is a number; `ask` returns a new one or one that goes on from where it was halted.
"""

import math
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np

from benchmarks.searchers.tables import Table
from searchers.bayesopt.searcher import BayesOptSearch
from searchers.bayesopt.space import Integer, Real, Space
from searchers.scheduling.rule import PauseRule, decide, rungs

REDUCTION = 3


class Method:
    """A search of a table: `points` (d,) of its trials, what they reported, and which are over."""

    def __init__(self, table: Table, seed: int, **settings: Any):
        self.table, self.seed = table, seed
        self.rng = np.random.default_rng([seed, 5])
        self.points: list[np.ndarray] = []
        self.rows: list[dict[int, float]] = []
        self.taken: set[int] = set()
        self.rungs = rungs(table.epochs, 1)
        self.setup(**settings)

    def setup(self) -> None:
        """Prepare."""

    def new(self, u: np.ndarray) -> int:
        """Note a trial of the configuration that the table holds for u (d,); return its number."""
        return self.add(self.table.take(u, self.taken))

    def add(self, point: np.ndarray) -> int:
        """Note a trial of a configuration (d,) that the table holds; return its number."""
        self.points.append(point)
        self.rows.append({})
        return len(self.points) - 1

    def ask(self) -> int:
        """Return the trial that a free worker trains."""
        raise NotImplementedError

    def report(self, trial: int, epoch: int, value: float, diverged: bool) -> bool:
        """Take in a value; return whether the trial goes on at once."""
        raise NotImplementedError

    def said(self) -> int:
        """Return the trial that is called the best: unless a method says more, that of the lowest value."""
        return min((i for i, rows in enumerate(self.rows) if rows), key=lambda i: min(self.rows[i].values()))


class Random(Method):
    """Random configurations; `stop`: ASHA's rule as Tune has it, `promote`: ASHA as it was published."""

    def setup(self, rule: str = "none") -> None:
        self.rule = rule
        self.reached: dict[int, dict[int, float]] = {r: {} for r in self.rungs}
        self.promoted: dict[int, set[int]] = {r: set() for r in self.rungs}
        self.over: set[int] = set()

    def ask(self) -> int:
        if self.rule == "promote":
            for rung in reversed(self.rungs[:-1]):
                values = self.reached[rung]
                for trial in sorted(values, key=values.get)[: len(values) // REDUCTION]:
                    if trial not in self.promoted[rung] and trial not in self.over:
                        self.promoted[rung].add(trial)
                        return trial
        return self.new(self.rng.random(self.table.d))

    def report(self, trial: int, epoch: int, value: float, diverged: bool) -> bool:
        if diverged or epoch >= self.table.epochs:
            self.over.add(trial)
            return False
        if epoch not in self.reached or self.rule == "none":
            return True
        others = self.reached[epoch]
        cut = np.percentile(list(others.values()), 100 / REDUCTION) if others else math.inf
        others[trial] = value
        return self.rule == "stop" and value <= cut


def unit_of(config: Mapping[str, Any], table: Table) -> np.ndarray:
    """Return the point (d,) of the unit cube that a configuration of x0, x1, … stands for."""
    values = (float(config[f"x{j}"]) for j in range(table.d))
    return np.array([(v + 0.5) / n if n else v for v, n in zip(values, table.levels, strict=True)])


def config_of(point: np.ndarray, table: Table) -> dict[str, float]:
    """Return the configuration of a point (d,): whole numbers where a dimension has levels."""
    return {f"x{j}": int(point[j] * n) if n else float(point[j]) for j, n in enumerate(table.levels)}


class Ours(Method):
    """This project's searcher and rule, as a sweep uses them, without Ray."""

    def setup(self, **settings: Any) -> None:
        d, epochs = self.table.d, self.table.epochs
        self.space = Space(
            [
                Integer(f"x{j}", 0, count - 1) if count else Real(f"x{j}", 0.0, 1.0)
                for j, count in enumerate(self.table.levels)
            ]
        )
        self.search = BayesOptSearch(self.space, "loss", "min", seed=self.seed, max_epochs=epochs, **settings)
        self.rule = PauseRule(epochs, first_trials=d + 2)

    def ask(self) -> int:
        choice = decide(self.rule, self.search, str(len(self.points)))
        if isinstance(choice, str):
            self.rule.resume(choice)
            self.search.on_unpause(choice)
            return int(choice)
        trial = self.new(unit_of(choice, self.table))
        codes = self.space.encode(config_of(self.points[trial], self.table))
        self.search.history.trials[str(trial)].codes = codes
        return trial

    def report(self, trial: int, epoch: int, value: float, diverged: bool) -> bool:
        name, row = str(trial), {"loss": value, "training_iteration": epoch}
        if diverged:
            self.rule.end(name)
            self.search.on_trial_complete(name, {"diverged": True, "training_iteration": epoch})
            return False
        action = self.rule.report(name, epoch, value)
        if action == "stop":
            self.search.on_trial_complete(name, row)
            return False
        if action == "pause":
            self.search.on_pause(name)
        self.search.on_trial_result(name, row)
        return action == "continue"

    def said(self) -> int:
        return int(self.search.best_trial())


class Optuna(Method):
    """A sampler and a pruner of Optuna. It is told which configuration of the table was trained."""

    def setup(self, sampler: str = "tpe", pruner: str = "halving") -> None:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        samplers = {
            "tpe": lambda: optuna.samplers.TPESampler(seed=self.seed, multivariate=True, constant_liar=True),
            "gp": lambda: optuna.samplers.GPSampler(seed=self.seed),
        }
        pruners = {
            "halving": lambda: optuna.pruners.SuccessiveHalvingPruner(
                min_resource=1, reduction_factor=REDUCTION
            ),
            "hyperband": lambda: optuna.pruners.HyperbandPruner(
                min_resource=1, max_resource=self.table.epochs, reduction_factor=REDUCTION
            ),
        }
        self.optuna = optuna
        self.study = optuna.create_study(sampler=samplers[sampler](), pruner=pruners[pruner]())
        self.trials: dict[int, Any] = {}
        self.distributions = {
            f"x{j}": optuna.distributions.IntDistribution(0, count - 1)
            if count
            else optuna.distributions.FloatDistribution(0.0, 1.0)
            for j, count in enumerate(self.table.levels)
        }

    def ask(self) -> int:
        asked = self.study.ask(self.distributions)
        u = unit_of(asked.params, self.table)
        trial = self.new(u)
        if not np.allclose(self.points[trial], u):
            self.study.tell(asked, state=self.optuna.trial.TrialState.FAIL)
            self.study.enqueue_trial(config_of(self.points[trial], self.table))
            asked = self.study.ask(self.distributions)
        self.trials[trial] = asked
        return trial

    def report(self, trial: int, epoch: int, value: float, diverged: bool) -> bool:
        asked = self.trials[trial]
        asked.report(value, epoch)
        if epoch >= self.table.epochs or diverged:
            self.study.tell(asked, value)
            return False
        if asked.should_prune():
            self.study.tell(asked, state=self.optuna.trial.TrialState.PRUNED)
            return False
        return True


METHODS = {
    "ours": Ours,
    "random": Random,
    "random + ASHA": lambda table, seed: Random(table, seed, rule="stop"),
    "random + ASHA, promotion": lambda table, seed: Random(table, seed, rule="promote"),
    "Optuna TPE + halving": Optuna,
    "Optuna TPE + Hyperband": lambda table, seed: Optuna(table, seed, pruner="hyperband"),
    "Optuna GP + halving": lambda table, seed: Optuna(table, seed, sampler="gp"),
}
