"""What people and figures ask of a searcher."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from searchers.bayesopt.fidelity import CurveModel
from searchers.bayesopt.history import ENDED, FAILED, PAUSED, RUNNING, WHOLE, History
from searchers.bayesopt.proposal import Settings, model_of
from searchers.bayesopt.recommendation import recommended
from searchers.bayesopt.space import Space, SpaceError
from searchers.bayesopt.surrogate import Forecast, Model
from searchers.bayesopt.threads import one_thread

State = Literal["running", "paused", "stopped", "finished", "failed"]


@dataclass(frozen=True)
class Observation:
    """A trial as the searcher sees it: the value is the last one, in the metric's own units.

    `others`: the further objectives' values, in the order they were named.
    """

    trial_id: str
    config: dict[str, Any]
    value: float
    epoch: int
    state: State
    others: tuple[float, ...] = ()


class Answers:
    """The part of `BayesOptSearch` that changes nothing: predictions, what was seen, what is best."""

    space: Space | None
    history: History
    settings: Settings
    objectives: dict[str, Literal["min", "max"]]
    _mode: str | None
    _fit: dict[str, Any] | None

    def posterior(self, configs: Sequence[Mapping[str, Any]]) -> tuple[np.ndarray, np.ndarray]:
        """Return the model's mean and standard deviation of the noise-free metric, (m,) each.

        Where training is partial, it is the metric after full training.
        """
        forecast = self.forecast(configs)
        return forecast.mean, forecast.std

    @one_thread
    def model(self) -> Model | CurveModel:
        """Return the model of what is known now; who asks several questions makes it once for all.

        Raises ValueError before a trial has reported a finite value.
        """
        model = None
        if self.space is not None:
            model, _ = model_of(
                self.space, self.history, self.settings, self._signs, self._fit, averaged=True
            )
        if model is None:
            raise ValueError("The searcher has no model before a trial has reported a finite value")
        return model

    @one_thread
    def forecast(
        self, configs: Sequence[Mapping[str, Any]], model: Model | CurveModel | None = None
    ) -> Forecast:
        """Return what the model says of the metric after full training."""
        return (model or self.model()).predict(self._units(configs)).signed(self._signs[0])

    def foretells(self, model: Model | CurveModel) -> bool:
        """Whether a model speaks of full training: it knows curves, or scores of the last epoch alone."""
        final = self._final_epoch
        return isinstance(model, CurveModel) or all(
            t.epoch >= final or t.epoch == WHOLE for t in model.finals()[0]
        )

    @one_thread
    def predicted_finals(
        self, model: Model | CurveModel | None = None
    ) -> dict[str, tuple[float, float, float]]:
        """Return each trial's fully trained metric by trial id: its mean, and the values two standard
        deviations below and above."""
        trials, forecast = (model or self.model()).finals()
        ids = {id(trial): trial_id for trial_id, trial in self.history.trials.items()}
        said = forecast.signed(self._signs[0])
        return {
            ids[id(t)]: (float(mean), float(low), float(high))
            for t, mean, low, high in zip(trials, said.mean, *said.band, strict=True)
        }

    @one_thread
    def expected_improvement(
        self, configs: Sequence[Mapping[str, Any]], model: Model | CurveModel | None = None
    ) -> np.ndarray:
        """Return the expected improvement on the incumbent, (m,), in the metric's units; nothing pending."""
        return (model or self.model()).expected_improvement(self._units(configs))

    def observations(self) -> list[Observation]:
        """Return all trials that reported, in the order they were suggested."""
        final = self._final_epoch
        seen = []
        for trial_id, trial in self.history.trials.items():
            if trial.rows:
                whole = trial.epoch >= final or trial.epoch == WHOLE
                ended: State = "finished" if whole else "stopped"
                names: dict[str, State] = {
                    RUNNING: "running",
                    PAUSED: "paused",
                    FAILED: "failed",
                    ENDED: ended,
                }
                config, (value, *others) = self._known_space.configuration(trial.codes), trial.last
                seen.append(
                    Observation(trial_id, config, value, trial.epoch, names[trial.state], tuple(others))
                )
        return seen

    @one_thread
    def best_trial(self, model: Model | CurveModel | None = None, trained: bool = False) -> str:
        """Return the id of the trial to be recommended.

        It is the fully trained one of best value unless the model is sure of another; with `trained` both are
        fully trained ones of this sweep: see `recommended`.
        """
        model = model or self.model()
        trial = model.finals()[0][recommended(model, self._signs[0], self._final_epoch, trained)]
        return next(trial_id for trial_id, t in self.history.trials.items() if t is trial)

    def best(self) -> tuple[dict[str, Any], float]:
        """Return the configuration of `best_trial`, and the model's mean of its fully trained metric."""
        model = self.model()
        trial_id = self.best_trial(model)
        config = self._known_space.configuration(self.history.trials[trial_id].codes)
        return config, self.predicted_finals(model)[trial_id][0]

    def pareto_front(self) -> list[Observation]:
        """Return the ended trials that no other dominates: is as good in all objectives, better in one.

        Of several sweeps that share they are this one's alone.
        """
        own = [o for o in self.observations() if not self.history.trials[o.trial_id].elsewhere]
        ended = [o for o in own if o.state in ("stopped", "finished")]
        if not ended:
            return []
        values = np.array([(o.value, *o.others) for o in ended]).reshape(len(ended), -1) * self._signs
        beaten = [((values <= v).all(axis=1) & (values < v).any(axis=1)).any() for v in values]
        return [o for o, worse in zip(ended, beaten, strict=True) if not worse]

    @property
    def _signs(self) -> np.ndarray:
        return np.array([-1.0 if mode == "max" else 1.0 for mode in (self._mode, *self.objectives.values())])

    @property
    def _known_space(self) -> Space:
        if self.space is None:
            raise SpaceError("There is no search space: give BayesOptSearch(space=…) or Tune's param_space")
        return self.space

    @property
    def _final_epoch(self) -> int:
        return self.settings.max_epochs or self.history.final_epoch()

    def _units(self, configs: Sequence[Mapping[str, Any]]) -> np.ndarray:
        space = self._known_space
        return np.array([space.unit(space.encode(c)) for c in configs])
