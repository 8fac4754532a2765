"""Bayesian optimization as a Ray Tune searcher that models noise, waiting trials and partial training.

`proposal.py` makes the decisions; this file has what Tune calls, and the state. `get_state` is the
complete state; restoring it reproduces the next proposals.
"""

import json
import logging
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from itertools import zip_longest
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from ray.tune.search import Searcher

from searchers.bayesopt import space_json
from searchers.bayesopt.answers import Answers
from searchers.bayesopt.history import FAILED, WHOLE, History, not_begun
from searchers.bayesopt.proposal import Settings, decide, spread
from searchers.bayesopt.space import Dimension, Space, SpaceError
from searchers.bayesopt.tune_space import has_dimensions, read_space

logger = logging.getLogger(__name__)
MODES = ("min", "max")
VERSION = 3  # of the state


class Record(Protocol):
    """What `replay` reads of a trial; `status` is None for one without an end."""

    trial: str
    config: dict[str, Any]
    metrics: dict[int, dict[str, float]]
    status: str | None


class BayesOptSearch(Answers, Searcher):
    """Bayesian optimization of one reported key.

    Args:
        space: Tune's notation (a nested dictionary) or a list of dimensions; None takes Tune's `param_space`.
        metric: the reported key; None takes Tune's.
        mode: "min" or "max"; None takes Tune's.
        points_to_evaluate: configurations to try first; dimensions they leave out are chosen.
        random_starts: trials, those first points among them, before the model proposes; d + 2, if None.
            Nothing ever waits for their results.
        surrogate: "fitted" (hyperparameters and noise are learned), "report" (RBF, σ_f = 50, ℓ = 30 on the
            raw axis, fixed), "matern" (ν = 5/2, ℓ = 1 on the unit cube, fixed) or "nuts" (hyperparameters
            are drawn from their posterior; needs Pyro).
        acquisition: "log_ei", "noisy_ei" (f is drawn at noisy rows, too) or "ucb".
        noise: standard deviation of the metric's own sampling noise, where it is known.
        noise_key: reported key that holds it for each result; results without the key take `noise`.
        seed: of everything random.
        warm_start: pairs (configuration, value) from an earlier sweep, of fully trained trials; or triples of
            a configuration, its values epoch by epoch, and their standard deviations, nan where one is not
            known. Those outside the space are left out. See `warm_start.py`.
        objectives: further reported keys and their modes; proposals then look for the whole Pareto front.
        time_attr: the reported key that counts epochs.
        max_epochs: the epochs of a full training; None takes Tune's stopping criterion, or else the most that
            any trial reached.
        seed_key: the setting that holds a trial's own seed, which `replicate` changes.

    Raises SpaceError for a space or a first point that cannot be used, ValueError for an unknown setting.
    """

    def __init__(
        self,
        space: Mapping[str, Any] | Sequence[Dimension] | Space | None = None,
        metric: str | None = None,
        mode: Literal["min", "max"] | None = None,
        *,
        points_to_evaluate: Sequence[Mapping[str, Any]] | None = None,
        random_starts: int | None = None,
        surrogate: str = "fitted",
        acquisition: str = "log_ei",
        noise: float | None = None,
        noise_key: str | None = None,
        seed: int = 0,
        warm_start: Sequence[tuple[Any, ...]] | None = None,
        objectives: Mapping[str, Literal["min", "max"]] | None = None,
        time_attr: str = "training_iteration",
        max_epochs: int | None = None,
        seed_key: str = "seed",
    ):
        self.objectives = dict(objectives or {})
        for name, value in (("mode", mode or "min"), *self.objectives.items()):
            _check_mode(name, value)
        super().__init__(metric=metric, mode=mode)
        self.settings = Settings(
            surrogate, acquisition, random_starts, noise, noise_key, seed, time_attr, max_epochs
        )
        self.seed_key = seed_key
        self.points_to_evaluate = [dict(p) for p in points_to_evaluate or ()]
        self.first: list[dict[str, Any]] = []  # codes of those points that are not suggested yet
        self.history = History()
        self.suggested = 0
        self.decisions = 0
        self._fit: dict[str, Any] | None = None  # the last fit's hyperparameters and number of rows
        self._waiting: list[tuple[Any, ...]] = []  # what was known before the space was
        self.space: Space | None = None
        self._replayed: list[dict[str, Any]] = []  # codes of trials that were not suggested here
        self._restored: list[dict[str, Any]] | None = None  # the space of a restored state
        self._space_given = space is not None
        if space is not None:
            self._take_space(read_space(space))
        for config, known, *errors in warm_start or ():
            curve = [float(v) for v in known] if isinstance(known, Sequence) else []
            last = curve[-1] if curve else float(known)
            self.add_evaluated_point(dict(config), last, False, bool(curve), curve, *errors)

    # What Tune calls

    def set_search_properties(
        self, metric: str | None, mode: str | None, config: dict[str, Any], **spec: Any
    ) -> bool:
        """Take Tune's metric, mode and space. False where a space is given twice, as Tune expects it."""
        if config and has_dimensions(config):
            if self._space_given:
                return False
            space = read_space(config)
            self._take_space(Space(space.dimensions), space.constants)  # Tune itself adds the constants
        if mode is not None:
            _check_mode("mode", mode)
        self._metric, self._mode = metric or self._metric, mode or self._mode
        stop = spec.get("stop")
        if self.settings.max_epochs is None and isinstance(stop, Mapping):
            self.settings = replace(self.settings, max_epochs=stop.get(self.settings.time_attr))
        return True

    def suggest(self, trial_id: str) -> dict[str, Any] | None:
        """Return the next configuration to try, never None."""
        config = self.next_trial(trial_id)
        assert isinstance(config, dict)
        return config

    def next_trial(
        self, trial_id: str, paused: Sequence[str] = (), begin: bool = True
    ) -> dict[str, Any] | str | None:
        """Return the configuration of a new trial or, where it promises more, the id of a paused one to go
        on.

        Without `begin` no trial is new; None where none is paused either.
        """
        space = self._known_space
        if self._metric is None or self._mode is None:
            raise ValueError(
                f"metric is {self._metric!r} and mode {self._mode!r}: name a reported key, and 'min' or 'max'"
            )
        paused = [i for i in paused if i in self.history.trials]
        if not (begin or paused):
            return None
        number, self.decisions = self.decisions, self.decisions + 1
        if begin and self.first:
            u = spread(space, self.history, self.settings.seed, self.suggested)
            codes = {**space.codes(u), **self.first.pop(0)}
        else:
            decision = decide(
                space,
                self.history,
                self.settings,
                self._signs,
                self._fit,
                self.suggested,
                number,
                paused,
                begin,
            )
            self._fit = decision.fit
            if decision.codes is None:
                return decision.resumes
            codes = decision.codes
        self.suggested += 1
        return self._begin(trial_id, codes)

    def replicate(self, trial_id: str) -> dict[str, Any] | None:
        """Return the configuration of the most promising fully trained trial, with another seed, to train
        again.

        Each trial of this sweep is trained again once. None where there is no fully trained one that was
        not. What differs between the two is the luck of training, which the model learns from them.
        """
        try:
            model = self.model()
        except ValueError:  # no trial has reported a finite value
            return None
        trials, forecast = model.finals()
        runs = [t.codes for t in self.history.trials.values() if not t.elsewhere]
        final = self._final_epoch
        for k in np.argsort(forecast.mean, kind="stable"):
            trial = trials[k]
            if not trial.elsewhere and trial.epoch >= final and runs.count(trial.codes) == 1:
                return {**self._begin(trial_id, dict(trial.codes)), self.seed_key: self.settings.seed + 1}
        return None

    def on_pause(self, trial_id: str) -> None:
        """Note that a trial was paused by the scheduler."""
        if trial_id in self.history.trials:
            self.history.pause(trial_id)

    def on_unpause(self, trial_id: str) -> None:
        """Note that a paused trial goes on."""
        if trial_id in self.history.trials:
            self.history.resume(trial_id)

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Note a row. A trial that is not known (its searcher was rolled back) is taken in.

        All scores of a result that says `diverged` are NaN: those that are finite, an own one's say, are of
        a model that is lost.
        """
        if trial_id not in self.history.trials and not self._adopt(trial_id, result):
            return
        names = [self._metric, *self.objectives]
        diverged = result.get("diverged")
        if not diverged and any(n is None or n not in result for n in names):
            return
        noise_key = self.settings.noise_key
        error = result.get(noise_key) if noise_key else None
        deviation = _number(error)
        known = math.isfinite(deviation) and deviation >= 0
        epoch = result.get(self.settings.time_attr) or self.history.trials[trial_id].epoch + 1
        errors = [deviation] + [0.0] * len(self.objectives) if known else None
        values = [math.nan if diverged else _number(result.get(str(n))) for n in names]
        self.history.report(trial_id, epoch, values, errors)

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Note a trial's end: finished or stopped, which Tune does not tell apart, or (`error`) failed."""
        if result:
            self.on_trial_result(trial_id, result)
        if trial_id in self.history.trials:
            self.history.end(trial_id, failed=error)

    def add_evaluated_point(
        self,
        parameters: dict[str, Any],
        value: float,
        error: bool = False,
        pruned: bool = False,
        intermediate_values: list[float] | None = None,
        errors: Sequence[float] | None = None,
    ) -> None:
        """Take in a value known from elsewhere; configurations outside the space are left out.

        It is that of a fully trained trial or, `pruned`, of one of so many intermediate values, one an epoch,
        nan where an epoch was not evaluated; `errors` are their standard deviations, nan where one is not
        known. Raises ValueError where there are several objectives.
        """
        if self.objectives:
            raise ValueError(f"One value is known, of {self._metric!r}, and none of {list(self.objectives)}")
        if self.space is None:
            self._waiting.append((parameters, value, error, pruned, intermediate_values, errors))
            return
        try:
            codes = self.space.encode(parameters)
        except SpaceError as reason:
            logger.warning("A known value is left out: %s", reason)
            return
        number = len(self.history.trials)
        while (trial_id := f"known-{number}") in self.history.trials:
            number += 1
        self.history.start(trial_id, codes, elsewhere=True)
        if math.isfinite(_number(value)) and not error:
            self._has_begun(codes)
        curve = intermediate_values or []
        for epoch, (intermediate, deviation) in enumerate(zip_longest(curve, errors or ()), start=1):
            if math.isfinite(intermediate) or epoch == len(curve):
                known = deviation is not None and math.isfinite(deviation)
                self.history.report(trial_id, epoch, [intermediate], [deviation] if known else None)
        if not (pruned and intermediate_values):
            self.history.trials[trial_id].rows.clear()
            self.history.report(trial_id, WHOLE, [_number(value)], None)
        self.history.end(trial_id, failed=error)

    def replay(self, records: Iterable[Record]) -> None:
        """Take in the trials that a ledger knows, in the order in which they were suggested.

        Their further proposals are those of a searcher that has learned the same, not bit for bit those of
        the one that suggested them: where its last fit began is not known.
        """
        for record in records:
            codes = self._known_space.encode(record.config)
            self.history.start(record.trial, codes)
            self._has_begun(codes)
            for epoch, metrics in sorted(record.metrics.items()):
                self.on_trial_result(record.trial, {**metrics, self.settings.time_attr: epoch})
            if record.status is not None:
                self.history.end(record.trial, failed=record.status == FAILED)
            self.suggested += 1
        # At most one decision a row was made: the random numbers of earlier ones are not drawn again.
        self.decisions = sum(1 + len(trial.rows) for trial in self.history.trials.values())

    def learn(self, record: Record) -> None:
        """Take in a trial of another sweep, or what is new of it, while both run.

        It counts as running until its end is told. A failed one counts by the rows it has: another cluster's
        accidents say nothing of the settings. Raises SpaceError where the settings are outside the space.
        """
        if record.trial not in self.history.trials:
            codes = self._known_space.encode(record.config)
            self.history.start(record.trial, codes, elsewhere=True)
            self._has_begun(codes)
        for epoch, metrics in sorted(record.metrics.items()):
            self.on_trial_result(record.trial, {**metrics, self.settings.time_attr: epoch})
        if record.status is not None:
            self.on_trial_complete(record.trial)

    def get_state(self) -> dict[str, Any]:
        """Return all there is to know, settings too, as plain data for JSON."""
        return {
            "version": VERSION,
            "space": self._restored if self.space is None else space_json.to_json(self.space),
            "metric": self._metric,
            "mode": self._mode,
            "objectives": self.objectives,
            "settings": asdict(self.settings),
            "first": list(self.first),
            "suggested": self.suggested,
            "decisions": self.decisions,
            "fit": self._fit,
            "history": self.history.to_json(),
        }

    def set_state(self, state: dict[str, Any]) -> None:
        """Take what `get_state` returned, in place of all that was given or learned before.

        It brings its space along. Raises SpaceError where a space is known and is another one, ValueError
        where another version of this searcher wrote it.
        """
        if state.get("version") != VERSION:
            raise ValueError(f"The state is of version {state.get('version')}; this searcher reads {VERSION}")
        if state["space"] is not None:  # else it was saved before it knew any space: there is nothing to take
            if self.space is not None:
                self._check_space(self.space, state["space"])
            state = json.loads(json.dumps(state))  # a copy
            self._restored, self.first, self._waiting = state["space"], list(state["first"]), []
            self._fit, self.history = state["fit"], History.from_json(state["history"])
            if self.space is None:
                try:
                    self.space = space_json.from_json(state["space"])
                except SpaceError as reason:  # it waits for the space to be given
                    logger.warning("%s", reason)
        self._metric, self._mode = state["metric"], state["mode"]
        self.suggested, self.decisions = state["suggested"], state["decisions"]
        self.objectives, self.settings = dict(state["objectives"]), Settings(**state["settings"])

    def save(self, checkpoint_path: str) -> None:
        """Write the state as JSON, whole or not at all."""
        path = Path(checkpoint_path)
        temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
        temporary.write_text(json.dumps(self.get_state()))
        temporary.replace(path)

    def restore(self, checkpoint_path: str) -> None:
        """Read what `save` wrote."""
        self.set_state(json.loads(Path(checkpoint_path).read_text()))

    # How it is done

    @staticmethod
    def _check_space(space: Space, described: list[dict[str, Any]]) -> None:
        if space_json.to_json(space) != described:
            raise SpaceError(f"The saved sweep searched {described}, not {space_json.to_json(space)}")

    def _take_space(self, space: Space, constants: Mapping[str, Any] | None = None) -> None:
        if self._restored is not None:
            self._check_space(space, self._restored)
            self.space = space
            return
        first = []
        for i, point in enumerate(self.points_to_evaluate):
            try:
                Space(space.dimensions, constants or space.constants).check(point)
                first.append(space.encode(point, partial=True))
            except SpaceError as reason:
                raise SpaceError(f"points_to_evaluate[{i}]: {reason}") from None
        # Tune tells the space again after a replay.
        self.space, self.first = space, not_begun(first, self._replayed)
        waiting, self._waiting = self._waiting, []
        for known in waiting:
            self.add_evaluated_point(*known)

    def _has_begun(self, codes: dict[str, Any]) -> None:
        """Strike the first point that a trial which was not suggested here has begun."""
        self._replayed.append(codes)
        self.first = not_begun(self.first, [codes])

    def _begin(self, trial_id: str, codes: dict[str, Any]) -> dict[str, Any]:
        self.history.start(trial_id, codes)
        return self._known_space.configuration(codes)

    def _adopt(self, trial_id: str, result: dict[str, Any]) -> bool:
        """Take in a trial whose suggestion was lost, from the configuration that is in each result."""
        config = result.get("config") or {k[7:]: v for k, v in result.items() if k.startswith("config/")}
        try:
            self.history.start(trial_id, self._known_space.encode(config))
        except (SpaceError, AttributeError):
            return False
        return True


def _check_mode(name: str, value: str) -> None:
    if value not in MODES:
        raise ValueError(f"{name} is {value!r}; it must be one of 'min', 'max'")


def _number(value: Any) -> float:
    """Return the value as a float; what is none counts as not finite, and the sweep goes on."""
    try:
        return float(value)
    except (TypeError, ValueError):
        return math.nan
