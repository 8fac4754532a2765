"""What a trial that ASHA stops early teaches: sweeps replayed on recorded learning curves (`curves.jsonl`).

Configurations are the grids' points, given to every searcher as integers. Four simulated workers, an epoch a
unit of time; ASHA is Tune's own rule. A sweep has the epochs of so many full trainings.
"""

import heapq
from types import SimpleNamespace

import numpy as np
from ray.tune.schedulers import AsyncHyperBandScheduler, TrialScheduler

from benchmarks.searchers.curves import EPOCHS, GRIDS, load
from searchers.bayesopt.space import Integer, Space

TRAININGS = (3, 6)


def space_of(model: str) -> Space:
    """The grid's indices."""
    betas, rates = GRIDS[model]
    return Space([Integer("beta", 0, len(betas) - 1), Integer("learning_rate", 0, len(rates) - 1)])


def replay(
    method, model: str, seed: int, trainings: int, workers: int = 4, early_stopping: bool = True
) -> dict:
    """Return the regret of what the searcher calls the best: its Fréchet distance when fully trained, less
    that of the grid's best configuration."""
    curves = np.where(np.isfinite(load(model)[0]), load(model)[0], np.nan)
    finals = curves[..., -1]
    scheduler = AsyncHyperBandScheduler(max_t=EPOCHS, grace_period=1, reduction_factor=3)
    (bracket,) = scheduler._brackets
    rng = np.random.default_rng([seed, 11])
    running, asked, spent, budget = [], 0, 0, EPOCHS * trainings
    configs = {}
    while spent < budget or running:
        while len(running) < workers and spent < budget:
            configs[asked] = method.ask(asked)
            heapq.heappush(running, (spent / workers + rng.uniform(0.8, 1.2), asked, 1))
            asked += 1
        now, trial, epoch = heapq.heappop(running)
        spent += 1
        value = float(curves[configs[trial]["beta"], configs[trial]["learning_rate"], epoch - 1])
        method.report(trial, epoch, value)
        stop = epoch == EPOCHS or not np.isfinite(value)
        if not stop and early_stopping:
            action = bracket.on_result(SimpleNamespace(trial_id=str(trial)), epoch, -value)
            stop = action == TrialScheduler.STOP
        if stop or spent >= budget:
            method.stop(trial)
        else:
            heapq.heappush(running, (now + rng.uniform(0.8, 1.2), trial, epoch + 1))
    best = method.best()
    regret = finals[best["beta"], best["learning_rate"]] - np.nanmin(finals)
    return {"said": float(f"{regret:.4g}"), "trials": asked}
