"""Bayesian optimisation as a Ray Tune searcher: right about noise, waiting trials and early stops.

How a proposal comes about is in `proposal.py`; here is what Tune calls, and the state. Whatever is in
`get_state` is all there is: a restored searcher proposes what the unrestored one would.
"""

import json
import logging
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from ray.tune.search import Searcher

from searchers.bayesopt.acquisition import best_of, expected_improvement
from searchers.bayesopt.history import ENDED, FAILED, RUNNING, WHOLE, History
from searchers.bayesopt.proposal import Settings, model_of, propose, spread
from searchers.bayesopt.space import Dimension, Space, SpaceError
from searchers.bayesopt.surrogate import Model
from searchers.bayesopt.tune_space import has_dimensions, read_space

logger = logging.getLogger(__name__)
MODES = ("min", "max")


@dataclass(frozen=True)
class Observation:
    """A trial as the searcher sees it: the value is the last one, in the metric's own units.

    `others`: the further objectives' values, in the order they were named.
    """

    trial_id: str
    config: dict[str, Any]
    value: float
    epoch: int
    state: Literal["running", "stopped", "finished", "failed"]
    others: tuple[float, ...] = ()


class BayesOptSearch(Searcher):
    """Bayesian optimisation of one reported key.

    Args:
        space: Tune's notation (a nested dictionary) or a list of dimensions; None takes Tune's `param_space`.
        metric, mode: the reported key and "min" or "max"; None takes Tune's.
        points_to_evaluate: configurations to try first; dimensions they leave out are chosen.
        random_starts: trials, those first points among them, before the model proposes; d + 2, if None.
            Nothing ever waits for their results.
        surrogate: "fitted" (hyperparameters and noise are learned), "report" (RBF, σ_f = 50, ℓ = 30 on the
            raw axis, fixed), "matern" (ν = 5/2, ℓ = 1 on the unit cube, fixed) or "nuts" (hyperparameters
            are drawn from their posterior; needs Pyro).
        acquisition: "log_ei", "noisy_ei" (f is drawn at noisy rows, too) or "ucb".
        early_stops: what a trial teaches that was stopped early: "last_value", "finals_only",
            "highest_rung", "extrapolated", "joint".
        noise: standard deviation of the metric's own sampling noise, where it is known.
        noise_key: reported key that holds it for each result; results without the key take `noise`.
        seed: of everything random.
        warm_start: pairs (configuration, value) from an earlier sweep; of a trial that was stopped early, a
            list of values, epoch by epoch. Those outside the space are left out. See `warm_start.py`.
        objectives: further reported keys and their modes; proposals then look for the whole Pareto front.
        time_attr: the reported key that counts epochs.

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
        early_stops: str = "last_value",
        noise: float | None = None,
        noise_key: str | None = None,
        seed: int = 0,
        warm_start: Sequence[tuple[Mapping[str, Any], float | Sequence[float]]] | None = None,
        objectives: Mapping[str, Literal["min", "max"]] | None = None,
        time_attr: str = "training_iteration",
    ):
        self.objectives = dict(objectives or {})
        for name, value in (("mode", mode or "min"), *self.objectives.items()):
            if value not in MODES:
                raise ValueError(f"{name} is {value!r}; it must be one of 'min', 'max'")
        super().__init__(metric=metric, mode=mode)
        self.settings = Settings(
            surrogate, acquisition, early_stops, random_starts, noise, noise_key, seed, time_attr
        )
        self.points_to_evaluate = [dict(p) for p in points_to_evaluate or ()]
        self.first: list[dict[str, Any]] = []  # those points' codes
        self.history = History()
        self.suggested = 0
        self._fit: dict[str, Any] | None = None  # the last fit's hyperparameters and number of rows
        self._waiting: list[tuple] = []  # what was known before the space was
        self.space: Space | None = None
        self._described: list[str] | None = None  # what must be the space
        self._space_given = space is not None
        if space is not None:
            self._take_space(read_space(space))
        for config, value in warm_start or ():
            curve = [float(v) for v in value] if isinstance(value, Sequence) else []
            self.add_evaluated_point(dict(config), curve[-1] if curve else value, False, bool(curve), curve)

    # What Tune calls

    def set_search_properties(self, metric: str | None, mode: str | None, config: dict, **spec) -> bool:
        """Take Tune's metric, mode and space. False where a space is given twice, as Tune expects it."""
        if config and has_dimensions(config):
            if self._space_given:
                return False
            space = read_space(config)
            self._take_space(Space(space.dimensions))  # Tune itself adds the constants
        self._metric, self._mode = metric or self._metric, mode or self._mode
        return True

    def suggest(self, trial_id: str) -> dict[str, Any] | None:
        """Return the next configuration to try, never None."""
        if self.space is None:
            raise SpaceError("There is no search space: give BayesOptSearch(space=…) or Tune's param_space")
        if self._metric is None or self._mode is None:
            raise ValueError(
                f"metric is {self._metric!r} and mode {self._mode!r}: name a reported key, and 'min' or 'max'"
            )
        index, self.suggested = self.suggested, self.suggested + 1
        if index < len(self.first):
            u = spread(self.space, self.history, self.settings.seed, index)
            codes = {**self.space.codes(u), **self.first[index]}
        else:
            codes, self._fit = propose(self.space, self.history, self.settings, self._signs, self._fit, index)
        self.history.start(trial_id, codes)
        return self.space.configuration(codes)

    def on_trial_result(self, trial_id: str, result: dict) -> None:
        """Note a row. A trial that is not known (its searcher was rolled back) is taken in.

        A result that says `diverged` need not hold the scores: those that are missing count as NaN.
        """
        if trial_id not in self.history.trials and not self._adopt(trial_id, result):
            return
        names = [self._metric, *self.objectives]
        if not result.get("diverged") and any(name not in result for name in names):
            return
        noise_key = self.settings.noise_key
        error = result.get(noise_key) if noise_key else None
        known = error is not None and math.isfinite(error) and error >= 0
        epoch = result.get(self.settings.time_attr) or self.history.trials[trial_id].epoch + 1
        errors = [error] + [0.0] * len(self.objectives) if known else None
        self.history.report(trial_id, epoch, [_number(result.get(name)) for name in names], errors)

    def on_trial_complete(self, trial_id: str, result: dict | None = None, error: bool = False) -> None:
        """Note a trial's end: finished, stopped or, `error`, failed. Tune tells the first two not apart."""
        if result:
            self.on_trial_result(trial_id, result)
        if trial_id in self.history.trials:
            self.history.end(trial_id, failed=error)

    def add_evaluated_point(
        self,
        parameters: dict,
        value: float,
        error: bool = False,
        pruned: bool = False,
        intermediate_values: list[float] | None = None,
    ) -> None:
        """Take in a value known from elsewhere; configurations outside the space are left out.

        It is that of a fully trained trial or, `pruned`, of one stopped after so many intermediate values.
        Raises ValueError where there are several objectives.
        """
        if self.objectives:
            raise ValueError(f"One value is known, of {self._metric!r}, and none of {list(self.objectives)}")
        if self.space is None:
            self._waiting.append((parameters, value, error, pruned, intermediate_values))
            return
        try:
            codes = self.space.encode(parameters)
        except SpaceError as reason:
            logger.warning("A known value is left out: %s", reason)
            return
        number = len(self.history.trials)
        while (trial_id := f"known-{number}") in self.history.trials:
            number += 1
        self.history.start(trial_id, codes)
        for epoch, intermediate in enumerate(intermediate_values or (), start=1):
            self.history.report(trial_id, epoch, [intermediate], None)
        if not (pruned and intermediate_values):
            self.history.trials[trial_id].rows.clear()
            self.history.report(trial_id, WHOLE, [_number(value)], None)
        self.history.end(trial_id, failed=error)

    def get_state(self) -> dict[str, Any]:
        """Return all there is to know, settings too, as plain data for JSON."""
        return {
            "version": 1,
            "space": self._described if self.space is None else self.space.describe(),
            "metric": self._metric,
            "mode": self._mode,
            "objectives": self.objectives,
            "settings": asdict(self.settings),
            "first": self.first,
            "suggested": self.suggested,
            "fit": self._fit,
            "history": self.history.to_json(),
        }

    def set_state(self, state: dict[str, Any]) -> None:
        """Take what `get_state` returned, in place of all that was given or learned before.

        Raises SpaceError where the space is another one.
        """
        if state["space"] is not None:  # else it was saved before it knew any space: there is nothing to take
            if self.space is not None:
                self._check_space(self.space, state["space"])
            state = json.loads(json.dumps(state))  # a copy
            self._described, self.first, self._waiting = state["space"], state["first"], []
            self._fit, self.history = state["fit"], History.from_json(state["history"])
        self._metric, self._mode = state["metric"], state["mode"]
        self.suggested = state["suggested"]
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

    # What people and figures ask

    def posterior(self, configs: Sequence[Mapping[str, Any]]) -> tuple[np.ndarray, np.ndarray]:
        """Return the model's mean and standard deviation of the noise-free metric, (m,) each."""
        model = self._need_model()
        mean, variance = model.gp.posterior(self._units(configs))
        return self._signs[0] * model.value(mean), model.scale * np.sqrt(variance)

    def expected_improvement(self, configs: Sequence[Mapping[str, Any]]) -> np.ndarray:
        """Return the expected improvement on the incumbent, (m,), in the metric's units; nothing pending."""
        model = self._need_model()
        mean, variance = model.gp.posterior(self._units(configs))
        return model.scale * expected_improvement(mean, variance, best_of(model.gp, model.X)[0])

    def observations(self) -> list[Observation]:
        """Return all trials that reported, in the order they were suggested."""
        final = self.history.final_epoch()
        seen = []
        for trial_id, trial in self.history.trials.items():
            if trial.rows:
                whole = trial.epoch in (final, WHOLE)
                names = {RUNNING: "running", FAILED: "failed", ENDED: "finished" if whole else "stopped"}
                config, (value, *others) = self.space.configuration(trial.codes), trial.last
                seen.append(
                    Observation(trial_id, config, value, trial.epoch, names[trial.state], tuple(others))
                )
        return seen

    def best(self) -> tuple[dict[str, Any], float]:
        """Return the tried configuration of best posterior mean, not of luckiest value, and that mean."""
        model = self._need_model()
        mean, _ = model.gp.posterior(model.X)
        mean = np.where(model.good, mean, np.inf)
        at = int(np.argmin(mean))
        return self.space.configuration(model.trials[at].codes), float(self._signs[0] * model.value(mean[at]))

    def pareto_front(self) -> list[Observation]:
        """Return the trials that no other one is better than in one objective and as good as in the rest."""
        ended = [o for o in self.observations() if o.state in ("stopped", "finished")]
        if not ended:
            return []
        values = np.array([(o.value, *o.others) for o in ended]).reshape(len(ended), -1) * self._signs
        beaten = [((values <= v).all(axis=1) & (values < v).any(axis=1)).any() for v in values]
        return [o for o, worse in zip(ended, beaten, strict=True) if not worse]

    # How it is done

    @property
    def _signs(self) -> np.ndarray:
        return np.array([-1.0 if mode == "max" else 1.0 for mode in (self._mode, *self.objectives.values())])

    @staticmethod
    def _check_space(space: Space, described: list[str]) -> None:
        if space.describe() != described:
            raise SpaceError(f"The saved sweep searched {described}, not {space.describe()}")

    def _take_space(self, space: Space) -> None:
        if self._described is not None:
            self._check_space(space, self._described)
            self.space = space
            return
        first = []
        for i, point in enumerate(self.points_to_evaluate):
            try:
                first.append(space.encode(point, partial=True))
            except SpaceError as reason:
                raise SpaceError(f"points_to_evaluate[{i}]: {reason}") from None
        self.space, self.first = space, first
        self._described = space.describe()
        waiting, self._waiting = self._waiting, []
        for known in waiting:
            self.add_evaluated_point(*known)

    def _adopt(self, trial_id: str, result: dict) -> bool:
        """Take in a trial whose suggestion was lost, from the configuration that is in each result."""
        config = result.get("config") or {k[7:]: v for k, v in result.items() if k.startswith("config/")}
        try:
            self.history.start(trial_id, self.space.encode(config))
        except (SpaceError, AttributeError):
            return False
        return True

    def _units(self, configs: Sequence[Mapping[str, Any]]) -> np.ndarray:
        return np.array([self.space.unit(self.space.encode(c)) for c in configs])

    def _need_model(self) -> Model:
        model = None
        if self.space is not None:
            model, _ = model_of(self.space, self.history, self.settings, self._signs, self._fit)
        if model is None:
            raise ValueError("The searcher has no model before a trial has reported a finite value")
        return model


def _number(value: Any) -> float:
    """Return the value as a float; what is none counts as not finite, and the sweep goes on."""
    try:
        return float(value)
    except (TypeError, ValueError):
        return math.nan
