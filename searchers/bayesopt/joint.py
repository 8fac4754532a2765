"""What a stopped trial teaches, by a Gaussian process over configuration and epoch together.

After Swersky, Snoek & Adams (2014), "Freeze-Thaw Bayesian Optimization", whose kernel over epochs is
replaced by a lengthscale on the epoch's logarithm. Pure: no Ray here.
"""

import math
from collections.abc import Sequence

import numpy as np

from searchers.bayesopt.gp import GaussianProcess, fit
from searchers.bayesopt.history import WHOLE, History, Rows, Trial, last_value
from searchers.bayesopt.space import Space
from searchers.bayesopt.surrogate import FITTING_ROWS, cap

CONDITIONING_ROWS = 600  # of the latest trials; the cost grows with the cube


def joint(space: Space, history: History, signs: np.ndarray, floor: Sequence[float] | None = None) -> Rows:
    """A stopped trial counts with the posterior mean of its final value, the posterior variance as its error.

    The rows of all trials, running ones too, at the epochs 1, 2, 4, … and at their last, condition the
    process; its hyperparameters are learned anew each time. `signs` (objectives,): 1 for what is minimised,
    −1 for what is maximised; `floor` (objectives,): standard deviation of the rows' sampling noise where they
    tell none.
    """
    rows, final = last_value(history, floor), history.final_epoch()
    stopped = [i for i, trial in enumerate(rows.trials) if trial.epoch not in (final, WHOLE)]
    if not stopped:
        return rows
    seen = [(t, e) for t in history.trials.values() for e in _epochs(t)][-CONDITIONING_ROWS:]
    X = np.array([_point(space, trial, epoch, final) for trial, epoch in seen])
    ahead = np.array([_point(space, rows.trials[i], final, final) for i in stopped])
    levels = np.array([d.size if d.categorical else 0 for d in space.dimensions] + [0])
    values, variances = rows.values.copy(), rows.variances.copy()
    for k in range(values.shape[1]):
        y = cap(signs[k] * np.array([trial.rows[epoch][k] for trial, epoch in seen]))
        centre, scale = float(y.mean()), float(y.std()) or 1.0
        known = [trial.errors.get(epoch, floor) for trial, epoch in seen]
        noise = np.array([0.0 if errors is None else (errors[k] / scale) ** 2 for errors in known])
        standard = (y - centre) / scale
        some = slice(-FITTING_ROWS, None)
        hyper, _ = fit(X[some], standard[some], noise[some], levels)
        mean, variance = GaussianProcess(X, standard, noise, hyper, levels).posterior(ahead)
        values[stopped, k] = signs[k] * (centre + scale * mean)
        variances[stopped, k] = scale**2 * variance
    return Rows(rows.trials, values, variances)


def _epochs(trial: Trial) -> list[int]:
    """Return those of a trial's epochs that teach about the next: powers of two, and the last."""
    finite = trial.finite_rows()
    return [e for e in finite if e in (WHOLE, max(finite)) or e & (e - 1) == 0]


def _point(space: Space, trial: Trial, epoch: int, final: int) -> np.ndarray:
    """Return the unit cube's point of a configuration with the epoch's place behind it, (d + 1,)."""
    place = 1.0 if epoch == WHOLE else math.log1p(epoch) / math.log1p(final)
    return np.append(space.unit(trial.codes), place)
