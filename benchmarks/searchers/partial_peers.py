"""Methods of several fidelities of Syne Tune and SMAC behind the interface of `partial_methods.py`.

Neither is in this project's environment: LATENTUNE_PEERS names a folder of packages that has Syne Tune 0.13,
the last one with MOBSTER, HyperTune and DyHPO, and SMAC 2.4, which is built by swig (pip install --target
PEERS --no-deps syne-tune==0.13.0 autograd sortedcontainers dill ujson statsmodels patsy smac==2.4.1 pyrfr
ConfigSpace pynisher emcee dask distributed toolz tornado tblib locket zict more_itertools regex). The
Gaussian processes of Syne Tune are fitted anew after every fifth decision. All are told which configuration
of a table was trained.
"""

import logging
import os
import sys
import tempfile
import warnings
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.searchers.partial_methods import REDUCTION, Method, config_of, unit_of


class SyneTune(Method):
    """One of Syne Tune's baselines."""

    def setup(self, name: str = "BOHB", **options: Any) -> None:
        logging.disable(logging.WARNING)
        sys.path.append(os.environ.get("LATENTUNE_PEERS", ""))
        for alias in (float, int, bool):  # which numpy had when that version was written
            if not hasattr(np, alias.__name__):
                setattr(np, alias.__name__, alias)
        from syne_tune.backend.trial_status import Trial
        from syne_tune.config_space import randint, uniform
        from syne_tune.optimizer import baselines
        from syne_tune.optimizer.scheduler import SchedulerDecision

        self.trial_of, self.halts = Trial, (SchedulerDecision.STOP, SchedulerDecision.PAUSE)
        space = {
            f"x{j}": randint(0, count - 1) if count else uniform(0.0, 1.0)
            for j, count in enumerate(self.table.levels)
        }
        if name != "DyHPO":  # its rungs are all epochs
            options["reduction_factor"] = REDUCTION
        self.scheduler = getattr(baselines, name)(
            space,
            metric="loss",
            mode="min",
            resource_attr="epoch",
            max_t=self.table.epochs,
            grace_period=1,
            random_seed=self.seed,
            **options,
        )
        self.trials: dict[int, Any] = {}
        propose = self.scheduler.searcher.get_config

        def trained(**about: Any) -> dict[str, Any] | None:
            """Propose what the table holds instead, which the scheduler and its model then know as theirs."""
            config = propose(**about)
            if config is None:
                return None
            point = self.table.take(unit_of(config, self.table), self.taken)
            return {**config, **config_of(point, self.table)}

        self.scheduler.searcher.get_config = trained

    def ask(self) -> int:
        suggested = self.scheduler.suggest(len(self.points))
        if suggested is None:
            return self.new(self.rng.random(self.table.d))
        if not suggested.spawn_new_trial_id:
            return int(suggested.checkpoint_trial_id)
        trial = self.add(unit_of(suggested.config, self.table))
        self.trials[trial] = self.trial_of(
            trial_id=trial, config=suggested.config, creation_time=datetime.now()
        )
        self.scheduler.on_trial_add(self.trials[trial])
        return trial

    def report(self, trial: int, epoch: int, value: float, diverged: bool) -> bool:
        if trial not in self.trials:
            return False
        running, result = self.trials[trial], {"loss": float(value), "epoch": epoch}
        decision = self.scheduler.on_trial_result(running, result)
        if diverged or epoch >= self.table.epochs:
            self.scheduler.on_trial_complete(running, result)
            return False
        if decision in self.halts:
            self.scheduler.on_trial_remove(running)
            return False
        return True


class SMAC(Method):
    """SMAC's facade for several fidelities: random forests of all budgets' values within Hyperband."""

    def setup(self) -> None:
        sys.path.append(os.environ.get("LATENTUNE_PEERS", ""))
        from ConfigSpace import Configuration, ConfigurationSpace, Float, Integer
        from smac import MultiFidelityFacade, Scenario
        from smac.main.config_selector import ConfigSelector
        from smac.runhistory.dataclasses import TrialValue

        warnings.simplefilter("ignore")
        self.value_of = TrialValue
        space = ConfigurationSpace(seed=self.seed)
        for j, count in enumerate(self.table.levels):
            name = f"x{j}"
            space.add(Integer(name, (0, count - 1)) if count else Float(name, (0.0, 1.0)))
        table, taken = self.table, self.taken

        class Trained(ConfigSelector):
            """Proposes what the table holds instead, which intensifier and model then know as theirs."""

            def __iter__(self) -> Any:
                for config in super().__iter__():
                    point = table.take(unit_of(config, table), taken)
                    yield Configuration(space, values=config_of(point, table))

        self.folder = tempfile.TemporaryDirectory()
        scenario = Scenario(
            space,
            min_budget=1,
            max_budget=self.table.epochs,
            n_trials=1_000_000,
            deterministic=True,
            seed=self.seed,
            output_directory=Path(self.folder.name),
        )
        self.smac = MultiFidelityFacade(
            scenario,
            lambda config, seed, budget: 0.0,
            config_selector=Trained(scenario),
            overwrite=True,
            logging_level=False,
        )
        self.trials: dict[Any, int] = {}  # by their configurations
        self.running: dict[int, Any] = {}

    def ask(self) -> int:
        info = self.smac.ask()
        if info.config not in self.trials:
            self.trials[info.config] = self.add(unit_of(info.config, self.table))
        trial = self.trials[info.config]
        self.running[trial] = info
        return trial

    def report(self, trial: int, epoch: int, value: float, diverged: bool) -> bool:
        info = self.running[trial]
        if epoch < round(info.budget) and not diverged:
            return True
        self.smac.tell(info, self.value_of(value))
        return False


def gaussian(name: str) -> Any:
    """Return a method of Gaussian processes. Its options are its own: HyperTune writes into them."""
    return lambda table, seed: SyneTune(
        table, seed, name=name, search_options={"debug_log": False, "opt_skip_period": 5}
    )


METHODS: dict[str, Any] = {
    "Syne Tune BOHB": lambda table, seed: SyneTune(table, seed, name="BOHB"),
    "Syne Tune MOBSTER": gaussian("MOBSTER"),
    "Syne Tune HyperTune": gaussian("HyperTune"),
    "Syne Tune DyHPO": gaussian("DyHPO"),
    "SMAC": SMAC,
}
