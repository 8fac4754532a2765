"""Searchers of other packages over the same space and the same budget, to compare on one's own problem.

Each proposal is made from what is known by then, with the package's own defaults: nothing but the history is
kept, so that a resumed sweep goes on as it was. What is known of a trial that was stopped or paused: Optuna's
TPE takes its learning curve, as it takes a pruned trial's; its GP, which leaves pruned trials out, and
bayesian-optimization take its last value, as [LEGO] did. All but the grid begin with the
study's first points.
"""

import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ray.tune.search import Searcher

from searchers.bayesopt.history import ENDED, FAILED, PAUSED, RUNNING, History, not_begun, usable
from searchers.bayesopt.space import Choice, Real, Space
from searchers.bayesopt.tune_space import read_space
from searchers.record.schema import FAILED as FAILED_STATUS
from searchers.record.trials import TrialRecord
from searchers.scheduling.rule import value_of

# The searcher's name and what it needs, module: package.
PEERS: dict[str, dict[str, str]] = {
    "bayesian-optimization": {"bayes_opt": "bayesian-optimization"},
    "optuna-tpe": {"optuna": "optuna"},
    "optuna-gp": {"optuna": "optuna"},
    "random": {},
    "grid": {},
}


@dataclass(frozen=True)
class Known:
    """What a proposal is made from: `sign` is 1 where the least value is the best, else −1."""

    space: Space
    history: History
    sign: int
    seed: int
    starts: int
    """trials drawn at random at first"""
    epochs: int
    """of a full training"""
    number: int
    """of this proposal, from 0"""

    @property
    def rng(self) -> np.random.Generator:
        """Random numbers of this proposal alone."""
        return np.random.default_rng([self.seed, self.number])


def at_random(known: Known) -> dict[str, Any]:
    """Return codes drawn uniformly: on a logarithmic scale where the dimension has one."""
    u = known.rng.random((1, len(known.space)))
    return known.space.codes(known.space.fill(u)[0])


def by_bayesian_optimization(known: Known) -> dict[str, Any]:
    """Return the package's suggestion, by expected improvement; a running trial counts as the mean value.

    It searches numbers, each on its own scale, in [0, 1]: categories are experimental there.
    """
    from bayes_opt import BayesianOptimization
    from bayes_opt.acquisition import ExpectedImprovement

    trials = list(known.history.trials.values())
    halted = [t for t in trials if t.state in (ENDED, PAUSED) and t.rows and usable(t.last)]
    if len(trials) < known.starts or not halted:
        return at_random(known)
    names = [d.name for d in known.space.dimensions]
    optimizer = BayesianOptimization(
        None,
        dict.fromkeys(names, (0.0, 1.0)),
        acquisition_function=ExpectedImprovement(xi=0.01),
        random_state=int(known.rng.integers(2**31)),
        verbose=0,
        allow_duplicate_points=True,
    )
    targets = [-known.sign * t.last[0] for t in halted]
    running = [t for t in trials if t.state == RUNNING]
    believed = [*targets, *[float(np.mean(targets))] * len(running)]
    for trial, target in zip([*halted, *running], believed, strict=True):
        optimizer.register(dict(zip(names, known.space.unit(trial.codes), strict=True)), target)
    found = optimizer.suggest()
    return known.space.codes(np.array([found[name] for name in names], dtype=float))


def by_optuna(sampler: str) -> Callable[[Known], dict[str, Any]]:
    """Return the proposals of a sampler of Optuna."""

    def propose(known: Known) -> dict[str, Any]:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        seed = int(known.rng.integers(2**31))
        options = {"constant_liar": True} if sampler == "TPESampler" else {}
        chosen = getattr(optuna.samplers, sampler)(seed=seed, n_startup_trials=known.starts, **options)
        study = optuna.create_study(sampler=chosen)
        axes = {d.name: _distribution(d) for d in known.space.dimensions}
        steps = {d.name: d for d in known.space.dimensions if isinstance(d, Real) and d.step}
        for trial in known.history.trials.values():
            curve = {epoch: known.sign * row[0] for epoch, row in trial.finite_rows().items()}
            whole = known.epochs in curve or sampler == "GPSampler"
            complete = whole and bool(curve) and trial.state in (ENDED, PAUSED)
            if trial.state == RUNNING:
                state = optuna.trial.TrialState.RUNNING
            elif trial.state == FAILED or not curve:
                state = optuna.trial.TrialState.FAIL
            else:
                state = optuna.trial.TrialState.COMPLETE if complete else optuna.trial.TrialState.PRUNED
            study.add_trial(
                optuna.trial.create_trial(
                    state=state,
                    params=trial.codes | {n: round(trial.codes[n] / d.step) for n, d in steps.items()},
                    distributions=axes,
                    intermediate_values=curve,
                    value=curve[max(curve)] if complete else None,
                )
            )
        asked = study.ask(axes).params
        return asked | {n: d.value(d.unit(asked[n] * d.step)) for n, d in steps.items()}

    return propose


def _distribution(dimension: Any) -> Any:
    """Return Optuna's own of a dimension; of one with a step it is of the multiples' numbers, as Optuna's
    steps begin at the lower bound."""
    import optuna

    if isinstance(dimension, Choice) and dimension.categorical:
        return optuna.distributions.CategoricalDistribution(range(dimension.size))
    if isinstance(dimension, Choice):
        return optuna.distributions.IntDistribution(0, dimension.size - 1)
    if dimension.step is None:
        return optuna.distributions.FloatDistribution(dimension.low, dimension.high, log=dimension.log)
    low, high = (round(dimension.value(u) / dimension.step) for u in (0.0, 1.0))
    return optuna.distributions.IntDistribution(low, high, log=dimension.log)


def grid_of(space: Space, most: int) -> list[dict[str, Any]]:
    """Return the codes of a grid of at most so many points, as many levels in one dimension as in another."""
    levels = [1] * len(space)
    while True:
        by_count = sorted(range(len(space)), key=lambda j: levels[j])
        more = next(
            (
                j
                for j in by_count
                if levels[j] < (space.dimensions[j].size or most)
                and math.prod(levels) // levels[j] * (levels[j] + 1) <= most
            ),
            None,
        )
        if more is None:
            break
        levels[more] += 1
    axes = [np.linspace(0, 1, n) if n > 1 else np.array([0.5]) for n in levels]
    points = [space.codes(np.array(u)) for u in itertools.product(*axes)]
    return [codes for n, codes in enumerate(points) if codes not in points[:n]]  # levels may be one value


PROPOSALS: dict[str, Callable[[Known], dict[str, Any]]] = {
    "bayesian-optimization": by_bayesian_optimization,
    "optuna-tpe": by_optuna("TPESampler"),
    "optuna-gp": by_optuna("GPSampler"),
    "random": at_random,
}


class PeerSearch(Searcher):
    """Suggests as another package does, and starts a trial only where the sweep's scheduler lets it.

    `kind`: a key of `PROPOSALS`. `starts`: trials drawn at random at first. `first`: points to begin with,
    whose missing dimensions are drawn.
    """

    def __init__(
        self,
        kind: str,
        metric: str,
        mode: str,
        *,
        seed: int,
        starts: int,
        first: Sequence[dict[str, Any]] = (),
    ):
        super().__init__(metric=metric, mode=mode)
        self.first = [dict(point) for point in first]
        self.kind, self.seed, self.starts = kind, seed, starts
        self.history, self.number, self.epochs = History(), 0, 0
        self.space: Space | None = None

    def set_search_properties(self, metric: str | None, mode: str | None, config: dict, **spec: Any) -> bool:
        """Take the space and the epochs of a full training. Raises SpaceError."""
        space = read_space(config)
        self.space = Space(space.dimensions)  # Tune itself adds the constants
        self.epochs = int((spec.get("stop") or {}).get("training_iteration", 0))
        return True

    def suggest(self, trial_id: str) -> dict[str, Any]:
        """Return the next configuration."""
        assert self.space is not None
        sign = 1 if self.mode == "min" else -1
        known = Known(self.space, self.history, sign, self.seed, self.starts, self.epochs, self.number)
        if self.first:
            codes = {**at_random(known), **self.space.encode(self.first.pop(0), partial=True)}
        else:
            codes = PROPOSALS[self.kind](known)
        self.number += 1
        self.history.start(trial_id, codes)
        return self.space.configuration(codes)

    def on_pause(self, trial_id: str) -> None:
        """Note that a trial was paused by the scheduler."""
        self.history.pause(trial_id)

    def on_unpause(self, trial_id: str) -> None:
        """Note that a paused trial goes on."""
        self.history.resume(trial_id)

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Note a row; one without the metric, or of a model that diverged, makes the trial a bad one."""
        if trial_id in self.history.trials:
            value = value_of(result, self.metric)
            row = [math.nan if value is None else float(value)]
            self.history.report(trial_id, result["training_iteration"], row, None)

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Note a trial's end."""
        if trial_id in self.history.trials:
            if result:
                self.on_trial_result(trial_id, result)
            self.history.end(trial_id, failed=error)

    def replay(self, records: Iterable[TrialRecord]) -> None:
        """Take in the trials that a ledger knows, in the order in which they were begun."""
        assert self.space is not None
        records = list(records)
        self.first = not_begun(self.first, (record.config for record in records))
        for record in records:
            self.history.start(record.trial, self.space.encode(record.config))
            self.number += 1
            for epoch, metrics in sorted(record.metrics.items()):
                self.on_trial_result(record.trial, {**metrics, "training_iteration": epoch})
            if record.status is not None:
                self.history.end(record.trial, failed=record.status == FAILED_STATUS)

    def save(self, checkpoint_path: str) -> None:
        """Write an empty file: the ledger tells it all."""
        Path(checkpoint_path).touch()

    def restore(self, checkpoint_path: str) -> None:
        """Read nothing."""
