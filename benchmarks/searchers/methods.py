"""Searchers behind one interface: ask(trial) → configuration, tell(trial, value), best() → configuration.

All get what they recommend for noisy values and waiting trials; none is told of the noise's size.
"""

import logging
import math
import warnings
from typing import Any

import numpy as np

from searchers.bayesopt.searcher import BayesOptSearch
from searchers.bayesopt.space import Choice, Real, Space


class Ours:
    """This project's searcher as a user gets it."""

    def __init__(self, space: Space, seed: int, **settings: Any):
        self.search = BayesOptSearch(space, "value", "min", seed=seed, **settings)

    def ask(self, trial: int) -> dict:
        return self.search.suggest(str(trial))

    def report(self, trial: int, epoch: int, value: float) -> None:
        self.search.on_trial_result(str(trial), {"value": value, "training_iteration": epoch})

    def tell(self, trial: int, value: float) -> None:
        self.search.on_trial_complete(str(trial), {"value": value, "training_iteration": 1})

    def stop(self, trial: int) -> None:
        self.search.on_trial_complete(str(trial))

    def best(self) -> dict:
        return self.search.best()[0]


class Random:
    """Independent uniform draws."""

    def __init__(self, space: Space, seed: int):
        self.space, self.rng = space, np.random.default_rng(seed)
        self.configs, self.values = {}, {}

    def ask(self, trial: int) -> dict:
        codes = self.space.codes(self.space.fill(self.rng.random((1, len(self.space))))[0])
        self.configs[trial] = self.space.configuration(codes)
        return self.configs[trial]

    def report(self, trial: int, epoch: int, value: float) -> None:
        self.values[trial] = value if math.isfinite(value) else math.inf

    def tell(self, trial: int, value: float) -> None:
        self.values[trial] = value

    def stop(self, trial: int) -> None:
        pass

    def best(self) -> dict:
        return self.configs[min(self.values, key=self.values.get)]


class Optuna:
    """A sampler of Optuna through ask and tell; trials that were asked and not told are running."""

    def __init__(self, space: Space, seed: int, sampler: str):
        import optuna

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        samplers = {
            "gp": lambda: optuna.samplers.GPSampler(seed=seed),
            "tpe": lambda: optuna.samplers.TPESampler(seed=seed, multivariate=True, constant_liar=True),
        }
        self.optuna, self.space, self.trials = optuna, space, {}
        self.study = optuna.create_study(sampler=samplers[sampler]())

    def ask(self, trial: int) -> dict:
        asked = self.trials[trial] = self.study.ask()
        config = {}
        for d in self.space.dimensions:
            if isinstance(d, Choice):
                config[d.name] = asked.suggest_categorical(d.name, d.choices)
            elif d.integer:
                config[d.name] = asked.suggest_int(d.name, d.low, d.high, log=d.log)
            else:
                config[d.name] = asked.suggest_float(d.name, d.low, d.high, log=d.log, step=d.step)
        return config

    def report(self, trial: int, epoch: int, value: float) -> None:
        self.trials[trial].report(value, epoch)

    def tell(self, trial: int, value: float) -> None:
        self.study.tell(self.trials[trial], value)

    def stop(self, trial: int) -> None:
        """Tell what `OptunaSearch` tells of a stopped trial: complete, with its last value."""
        frozen = self.study.trials[self.trials[trial].number]
        value = frozen.intermediate_values[frozen.last_step]
        if math.isfinite(value):
            self.study.tell(self.trials[trial], value)
        else:
            self.study.tell(self.trials[trial], state=self.optuna.trial.TrialState.FAIL)

    def best(self) -> dict:
        return self.study.best_params


class OptunaInTune:
    """Ray Tune's own `OptunaSearch` around Optuna's GPSampler."""

    def __init__(self, space: Space, seed: int):
        import optuna
        from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
        from ray.tune.search.optuna import OptunaSearch

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        self.space, self.configs, self.values = space, {}, {}
        distributions = {}
        for d in space.dimensions:
            if isinstance(d, Choice):
                distributions[d.name] = CategoricalDistribution(d.choices)
            elif d.integer:
                distributions[d.name] = IntDistribution(d.low, d.high, log=d.log)
            else:
                distributions[d.name] = FloatDistribution(d.low, d.high, log=d.log, step=d.step)
        sampler = optuna.samplers.GPSampler(seed=seed)
        self.search = OptunaSearch(distributions, metric="value", mode="min", sampler=sampler)

    def ask(self, trial: int) -> dict:
        self.configs[trial] = self.search.suggest(str(trial))
        return self.configs[trial]

    def tell(self, trial: int, value: float) -> None:
        self.values[trial] = value
        self.search.on_trial_complete(str(trial), {"value": value, "training_iteration": 1})

    def best(self) -> dict:
        return self.configs[min(self.values, key=self.values.get)]


class Ax:
    """Ax 1.x as its documentation uses it: a centre point, Sobol points, then BoTorch's log noisy EI."""

    def __init__(self, space: Space, seed: int):
        from ax.api.client import Client
        from ax.api.configs import ChoiceParameterConfig, RangeParameterConfig

        logging.disable(logging.WARNING)
        parameters = []
        for d in space.dimensions:
            if isinstance(d, Choice):
                choices = ChoiceParameterConfig(
                    name=d.name, values=list(d.choices), parameter_type="str", is_ordered=False
                )
                parameters.append(choices)
                continue
            extent = RangeParameterConfig(
                name=d.name,
                bounds=(d.low, d.high),
                parameter_type="int" if d.integer else "float",
                step_size=None if d.integer else d.step,
                scaling="log" if d.log else "linear",
            )
            parameters.append(extent)
        self.client, self.indices = Client(random_seed=seed), {}
        self.client.configure_experiment(name="benchmark", parameters=parameters)
        self.client.configure_optimization(objective="-value")
        self.client.configure_generation_strategy(allow_exceeding_initialization_budget=True)  # 16 at once

    def ask(self, trial: int) -> dict:
        ((self.indices[trial], config),) = self.client.get_next_trials(max_trials=1).items()
        return dict(config)

    def tell(self, trial: int, value: float) -> None:
        self.client.complete_trial(trial_index=self.indices[trial], raw_data={"value": value})

    def best(self) -> dict:
        return dict(self.client.get_best_parameterization()[0])


class BayesianOptimization:
    """The package of that name, EI as shipped; logarithms by hand; waiting trials are passed over, which is
    better than its own ConstantLiar."""

    def __init__(self, space: Space, seed: int):
        from bayes_opt import BayesianOptimization as Package
        from bayes_opt.acquisition import ExpectedImprovement

        logging.getLogger("bayes_opt").setLevel(logging.ERROR)
        self.space, self.points, self.starts = space, {}, np.random.default_rng(seed)
        self.package = Package(
            f=None,
            pbounds={d.name: self._bounds(d) for d in space.dimensions},
            acquisition_function=ExpectedImprovement(xi=0.0, random_state=seed),
            random_state=seed,
            verbose=0,
            allow_duplicate_points=True,
        )

    @staticmethod
    def _bounds(d: Real | Choice) -> tuple:
        if isinstance(d, Choice):
            return d.choices
        if d.log:
            return (math.log(d.low), math.log(d.high))
        return (d.low, d.high, int) if d.integer else (d.low, d.high)

    def ask(self, trial: int) -> dict:
        if trial < len(self.space) + 2:
            point = self.package.space.array_to_params(self.package.space.random_sample(1)[0])
        else:
            point = self.package.suggest()
        self.points[trial] = point
        return self._config(point)

    def _config(self, point: dict) -> dict:
        config = {}
        for d in self.space.dimensions:
            value = point[d.name]
            if isinstance(d, Real):
                value = d.value(d.unit(min(max(math.exp(value) if d.log else value, d.low), d.high)))
            config[d.name] = value
        return config

    def tell(self, trial: int, value: float) -> None:
        self.package.register(params=self.points[trial], target=-value)

    def best(self) -> dict:
        return self._config(self.package.max["params"])


METHODS = {
    "ours": Ours,
    "Optuna GPSampler": lambda space, seed: Optuna(space, seed, "gp"),
    "Optuna TPE": lambda space, seed: Optuna(space, seed, "tpe"),
    "OptunaSearch(GPSampler) in Tune": OptunaInTune,
    "Ax": Ax,
    "bayesian-optimization": BayesianOptimization,
    "random": Random,
}
