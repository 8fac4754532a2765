"""Syne Tune's methods of several fidelities behind the interface of `partial_methods.py`.

Syne Tune is not in this project's environment: LATENTUNE_PEERS names a folder of packages that has version
0.13, the last one with MOBSTER, HyperTune and DyHPO (pip install --target PEERS --no-deps syne-tune==0.13.0
autograd sortedcontainers dill ujson statsmodels patsy). Their Gaussian processes are fitted
anew after every fifth decision.
"""

import logging
import os
import sys
from datetime import datetime
from typing import Any

import numpy as np

from benchmarks.searchers.partial_methods import REDUCTION, Method


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

    def ask(self) -> int:
        suggested = self.scheduler.suggest(len(self.points))
        if suggested is None:
            return self.new(self.rng.random(self.table.d))
        if not suggested.spawn_new_trial_id:
            return int(suggested.checkpoint_trial_id)
        u = [
            (suggested.config[f"x{j}"] + 0.5) / count if count else suggested.config[f"x{j}"]
            for j, count in enumerate(self.table.levels)
        ]
        trial = self.new(np.array(u))
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
}
