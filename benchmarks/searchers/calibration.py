"""Whether bands around predicted finals are true: `python -m benchmarks.searchers.calibration [design|judge]`

After searches over recorded curves (`partial.py`: two workers, the epochs of twelve trainings, three seeds),
the final values of the trials that were not trained to their end are looked up in the table. Printed: the
share of them that lies within one and two standard deviations of their prediction (68 % and 95 % where a
model is right), and the root mean square of their standardized errors, at most 10 each; by the likeliest
hyperparameters and by their average.
"""

import os
import sys

os.environ.setdefault("OMP_NUM_THREADS", "1")

from dataclasses import replace

import numpy as np

from benchmarks.searchers.partial import simulate
from benchmarks.searchers.partial_methods import Ours
from benchmarks.searchers.tables import DESIGN, JUDGE, Table
from searchers.bayesopt.fidelity import CurveModel

SEEDS, TRAININGS, WORKERS = 3, 12, 2
FARTHEST = 10.0


def standardized_errors(table: Table, seed: int) -> np.ndarray:
    """Return errors over deviations of the stopped trials, (t, 2): by one set of hyperparameters, by all."""
    search = Ours(table, seed)
    simulate(search, table, seed, WORKERS, TRAININGS)
    averaged = search.search.model()
    assert isinstance(averaged, CurveModel)
    ids = {id(trial): int(name) for name, trial in search.search.history.trials.items()}
    stopped = [k for k, trial in enumerate(averaged.trials) if trial.epoch < table.epochs]
    ends = [table.curve(search.points[ids[id(averaged.trials[k])]])[-1] for k in stopped]
    z = averaged.warp(np.minimum(ends, table.worst))
    errors = []
    for model in (replace(averaged, averaged=None), averaged):
        mean, variance = model.of_trials()
        errors.append((z - mean[stopped]) / np.sqrt(variance[stopped] + model.belief.hyper.noise))
    return np.array(errors).T


def row(name: str, errors: np.ndarray) -> str:
    """Return a line of the table."""
    cells = [
        f"{np.mean(np.abs(e) < 1):.0%} | {np.mean(np.abs(e) < 2):.0%} | "
        f"{np.sqrt(np.mean(np.minimum(np.abs(e), FARTHEST) ** 2)):.2f}"
        for e in errors.T
    ]
    return f"| {name} | {len(errors)} | {' | '.join(cells)} |"


def main(arguments: list[str]) -> None:
    """Print the table."""
    tables = {"design": DESIGN, "judge": JUDGE}[arguments[0] if arguments else "judge"]
    print("| table | stopped trials | 1σ | 2σ | rms | 1σ, averaged | 2σ, averaged | rms, averaged |")
    print("|---|--:|--:|--:|--:|--:|--:|--:|")
    every = []
    for name, make in tables.items():
        table = make()
        every.append(np.concatenate([standardized_errors(table, seed) for seed in range(SEEDS)]))
        print(row(name, every[-1]), flush=True)
    print(row("all", np.concatenate(every)))


if __name__ == "__main__":
    main(sys.argv[1:])
