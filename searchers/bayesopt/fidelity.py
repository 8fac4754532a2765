"""What partial training teaches of final values: from a history's rows to the model of `curve_gp.py`.

Values of all epochs pass one monotone warp, so that neither a trial that nearly diverged nor the fall that
all curves begin with hides the differences between good trials. Trials that were stopped, paused or still run
count with what they have shown. Pure: no Ray here.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from scipy.special import ndtri

from searchers.bayesopt.curve_gp import CurveHyperparameters, CurveProcess, Rows, fit
from searchers.bayesopt.curve_mixture import CurveMixture
from searchers.bayesopt.history import ENDED, FAILED, LIMIT, PAUSED, WHOLE, History, Trial, usable
from searchers.bayesopt.space import Space
from searchers.bayesopt.surrogate import Forecast, cap, scalarize

FITTING_ROWS = 160  # more improve the hyperparameters little, at cubic cost
CONDITIONING_ROWS = 1000
REFIT = 1.15  # hyperparameters are learned anew when there are so many times the rows
MILESTONES = 6  # epochs whose rows are kept of every trial, beside its last
REDUCTION = 3  # between two of them where the trials' ends name none


class Warp:
    """A monotone map to standardized values: half the capped value, half the normal score of its rank.

    Ranks alone would lose how much better the best is; values alone give the early epochs, which are bad for
    everybody, most of the scale. Between the known values it is linear, beyond them it goes on with the slope
    of its ends. It takes values that are minimized.
    """

    def __init__(self, y: np.ndarray):
        y = np.where(np.abs(y) < 1 / LIMIT, 0.0, y)  # differences whose inverse is no number
        grain = 8 * np.finfo(float).eps * float(np.ptp(cap(y)))
        if grain > 0:  # values that differ by rounding alone are equal
            y = y.min() + np.round((y - y.min()) / grain) * grain
        tame = cap(y)
        spread = float(tame.std())
        value = (tame - tame.mean()) / spread if spread > 0 else np.zeros(len(y))
        known, rank, count = np.unique(y, return_inverse=True, return_counts=True)
        middle = np.cumsum(count) - 0.5 * count  # equal values share the middle of their ranks
        z = 0.5 * value + 0.5 * ndtri(middle / len(y))[rank.ravel()]
        scale = float(z.std())
        self._y = known
        self._z = np.zeros(len(known))
        self._z[rank.ravel()] = (z - z.mean()) / scale if scale > 0 else 0.0

    def __call__(self, y: np.ndarray) -> np.ndarray:
        """Return the standardized values of y, (n,)."""
        return _interpolate(y, self._y, self._z)

    def inverse(self, z: np.ndarray) -> np.ndarray:
        """Return the values whose standardized ones are z, of any shape."""
        return _interpolate(z, self._z, self._y)

    def deviation(self, y: np.ndarray, std: np.ndarray) -> np.ndarray:
        """Return what standard deviations of values y, (n,) each, come to on the standardized scale."""
        result: np.ndarray = 0.5 * (self(y + std) - self(y - std))
        return result


def _interpolate(x: np.ndarray, known: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Return the piecewise linear function through (known, values) at x, its ends' slopes going on."""
    x = np.asarray(x, dtype=float)
    if len(known) == 1:
        return np.asarray(values[0] + (x - known[0]))
    result: np.ndarray = np.interp(x, known, values)
    # The slope of an end is taken over a tenth of the points: two neighbors may be next to equal.
    step = max(1, len(known) // 10)
    for end, inner, beyond in ((0, step, x < known[0]), (-1, -1 - step, x > known[-1])):
        slope = (values[end] - values[inner]) / (known[end] - known[inner])
        result = np.where(beyond, values[end] + slope * (x - known[end]), result)
    return result


@dataclass(frozen=True)
class CurveModel:
    """The curve process of a history, and the trials whose final values it predicts.

    `trials` (t) reported a usable value and did not fail; `U` (t, d) their points, `runs` (t,) their numbers.
    `pending` (p, d) and `pending_runs` (p,): those that run, whatever they have reported. `averaged`: the
    process over its hyperparameters, where people are told what the model believes.
    """

    process: CurveProcess
    warp: Warp
    trials: list[Trial]
    U: np.ndarray
    runs: np.ndarray
    pending: np.ndarray
    pending_runs: np.ndarray
    averaged: CurveMixture | None = None

    # Chosen on the tables of `benchmarks/searchers/partial.py`: few trials are fully trained, and the best of
    # few is less lucky than that of many.
    sure: ClassVar[float] = 1.0

    @property
    def belief(self) -> CurveProcess | CurveMixture:
        """The process that answers are of."""
        return self.averaged or self.process

    def of_trials(self) -> tuple[np.ndarray, np.ndarray]:
        """Return mean and variance, (t,) each, of the trials' standardized final values."""
        return self.belief.of_runs(self.U, np.ones(len(self.U)), self.runs)

    def means(self, process: CurveProcess) -> np.ndarray:
        """Return the means, (t,), of the trials' standardized final values by this process."""
        return process.means_of_runs(self.U, np.ones(len(self.U)), self.runs)

    def predict(self, U: np.ndarray) -> Forecast:
        """Return what the model says of new runs at U (m, d); the band is of their quality alone."""
        hyper = self.belief.hyper
        mean, variance = self.belief.posterior(U)
        quality = np.sqrt(np.maximum(variance - hyper.luck, 1e-12))
        return self._forecast(mean, quality, variance + hyper.noise + float(np.median(self.process.noise)))

    def _forecast(self, mean: np.ndarray, std: np.ndarray, of_run: np.ndarray) -> Forecast:
        """Return standardized means, deviations and variances, (m,) each, in the metric's units."""
        sigmas = np.array([[-1.0], [1.0]])
        low, high = self.warp.inverse(mean + sigmas * std)
        return Forecast(
            self.warp.inverse(mean),
            0.5 * (high - low),
            self.warp.inverse(mean + 2 * sigmas * std),
            self.warp.inverse(mean + 2 * sigmas * np.sqrt(of_run)),
        )

    def expected_improvement(self, U: np.ndarray) -> np.ndarray:
        """Return the expected improvement of a new run's final value on the best trial's mean, (m,).

        It is in the metric's units: the integral over the standardized value is Gauss and Hermite's sum.
        """
        mean, variance = self.belief.posterior(U)
        nodes, weights = np.polynomial.hermite_e.hermegauss(64)
        values = self.warp.inverse(mean[:, None] + np.sqrt(variance)[:, None] * nodes)
        best = self.warp.inverse(self.of_trials()[0].min())
        result: np.ndarray = np.maximum(best - values, 0.0) @ weights / weights.sum()
        return result

    def difference(self, a: int, b: int) -> tuple[float, float]:
        """Return mean and deviation of trial a's standardized final value less trial b's."""
        pair = [a, b]
        mean, covariance = self.belief.covariance_of_runs(self.U[pair], np.ones(2), self.runs[pair])
        variance = covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1]
        return float(mean[0] - mean[1]), math.sqrt(max(variance, 0.0))

    def finals(self) -> tuple[list[Trial], Forecast]:
        """Return the trials, and what the model says of each: of its own run, whose luck is in both bands."""
        mean, variance = self.of_trials()
        return self.trials, self._forecast(mean, np.sqrt(variance), variance + self.belief.hyper.noise)


def learns_from_training(history: History) -> bool:
    """Whether usable values of different epochs are known; otherwise one value is all that a trial tells."""
    first = None
    for trial in history.trials.values():
        for epoch, values in trial.rows.items():
            if usable(values):
                if first is not None and epoch != first:
                    return True
                first = epoch
    return False


def milestones(history: History, final: int) -> set[int]:
    """Return the epochs whose rows are kept of every trial: those at which trials were halted and might be.

    A scheduler halts at a few, its rungs; where these are e, 3e, 9e, …, those ahead count, too. Where nothing
    was halted before the end, or where trials ended anywhere, they are final, final/3, final/9, …
    """
    halted = {t.epoch for t in history.trials.values() if t.state in (PAUSED, ENDED) and t.rows} - {WHOLE}
    if halted - {final} and len(halted) <= MILESTONES:
        rungs = {min(halted) * REDUCTION**k for k in range(MILESTONES)}
        ahead = {epoch for epoch in rungs if epoch < final} if halted <= rungs | {final} else set()
        return halted | ahead | {final}
    spaced = (round(final / REDUCTION**k) for k in range(MILESTONES))
    return {epoch for epoch in spaced if epoch >= 1}


def fit_curves(
    space: Space,
    history: History,
    signs: np.ndarray,
    *,
    floor: Sequence[float] | None = None,
    weights: np.ndarray | None = None,
    max_epochs: int | None = None,
    last_fit: dict[str, Any] | None = None,
    averaged: bool = False,
) -> tuple[CurveModel | None, dict[str, Any] | None]:
    """Return the model of what is known, None before the first value, and the fit's state for the next call.

    `signs` (objectives,): 1 for what is minimized, −1 for what is maximized; `floor` (objectives,): standard
    deviation of the rows' noise where they tell none; `weights` (objectives,): of several objectives that
    become one. Without `max_epochs` the last epoch that any trial reached counts as the end of training. A
    failed trial has, beside what it reported, a value one standard deviation worse than the worst where it
    failed. `averaged`: over hyperparameters, too.
    """
    final = max_epochs or history.final_epoch()
    kept = milestones(history, final)
    trials = list(history.trials.values())
    seen, failed = [], []
    rows: list[tuple[int, int]] = []  # of trials' numbers and epochs
    for number, trial in enumerate(trials):
        usable = trial.finite_rows()
        if trial.state == FAILED:
            failed.append(number)
        elif usable:
            seen.append(number)
        if usable:
            rows += [(number, epoch) for epoch in usable if epoch in kept or epoch in (WHOLE, max(usable))]
    if not seen:
        return None, last_fit
    pending = {id(trial) for trial in history.pending()}
    running = [number for number, trial in enumerate(trials) if id(trial) in pending]
    units = space.units([trial.codes for trial in trials])
    y, variances = _values(trials, rows, signs, floor, weights, final)
    most = _conditioning(y, np.array([number for number, _ in rows]))
    rows, y, variances = [rows[i] for i in most], y[most], variances[most]
    warp = Warp(y)
    z = warp(y)
    noise = np.square(warp.deviation(y, np.sqrt(variances)))
    run = np.array([number for number, _ in rows] + failed)
    fell = [_epoch_of_failure(trials[number]) for number in failed]
    s = np.array(_progress([epoch for _, epoch in rows] + fell, final, history))
    z = np.concatenate([z, np.full(len(failed), z.max() + 1.0)])
    noise = np.concatenate([noise, np.zeros(len(failed))])
    levels = np.array([d.size if d.categorical else 0 for d in space.dimensions])
    some = _some(z)
    hyper, state = _refit(units[run], s, run, z, noise, levels, last_fit, some)
    process = CurveProcess(units[run], s, run, z, noise, hyper, levels)
    mixture = None
    if averaged:
        rows_of_fit = Rows.of(units[run][some], s[some], run[some], z[some], noise[some], levels)
        mixture = CurveMixture(process, rows_of_fit)
    return (
        CurveModel(
            process,
            warp,
            [trials[i] for i in seen],
            units[seen],
            np.array(seen),
            units[running],
            np.array(running, dtype=int),
            mixture,
        ),
        state,
    )


def _epoch_of_failure(trial: Trial) -> int:
    """Return the epoch that a failed trial did not survive."""
    good = max(trial.finite_rows(), default=0)
    return trial.epoch if trial.epoch > good else good + 1


def _progress(epochs: Sequence[int], final: int, history: History) -> list[float]:
    """Return how far epochs are towards the last, s in [0, 1], on a logarithmic scale that begins at the
    first epoch that any trial reported."""
    first = min((min(t.rows) for t in history.trials.values() if t.rows and WHOLE not in t.rows), default=1)
    scale = math.log(final / first) if final > first else 1.0
    return [1.0 if e == WHOLE or e >= final else math.log(max(e, first) / first) / scale for e in epochs]


def _values(
    trials: list[Trial],
    rows: list[tuple[int, int]],
    signs: np.ndarray,
    floor: Sequence[float] | None,
    weights: np.ndarray | None,
    final: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows' values to be minimized and their known variances, (n,) each."""
    values = signs * np.array([trials[i].rows[epoch] for i, epoch in rows])
    variances = np.zeros_like(values)
    for row, (i, epoch) in enumerate(rows):
        known = trials[i].errors.get(epoch, floor)
        if known is not None:
            variances[row] = np.square(known)
    if weights is None or len(signs) == 1:
        return values[:, 0], variances[:, 0]
    return scalarize(values, variances, weights, np.array([e >= final or e == WHOLE for _, e in rows]))


def _conditioning(y: np.ndarray, run: np.ndarray) -> np.ndarray:
    """Return the rows that the process is conditioned on, of these values and trials' numbers.

    Of too many they are a third the best, then trials' last ones, then others, the latest trials' first.
    """
    if len(y) <= CONDITIONING_ROWS:
        return np.arange(len(y))
    best = np.argsort(y, kind="stable")[: CONDITIONING_ROWS // 3]
    is_last = np.diff(run, append=-1) != 0
    order = np.concatenate([best, np.lexsort((-np.arange(len(y)), ~is_last))])
    _, place = np.unique(order, return_index=True)
    return np.sort(order[np.sort(place)][:CONDITIONING_ROWS])


def _some(z: np.ndarray) -> np.ndarray:
    """Return the rows to learn hyperparameters from: a third the best, the others spread over time."""
    if len(z) <= FITTING_ROWS:
        return np.arange(len(z))
    best = np.argsort(z, kind="stable")[: FITTING_ROWS // 3]
    result: np.ndarray = np.union1d(best, np.linspace(0, len(z) - 1, FITTING_ROWS - len(best)).astype(int))
    return result


def _refit(
    X: np.ndarray,
    s: np.ndarray,
    run: np.ndarray,
    z: np.ndarray,
    noise: np.ndarray,
    levels: np.ndarray,
    last_fit: dict[str, Any] | None,
    some: np.ndarray,
) -> tuple[CurveHyperparameters, dict[str, Any]]:
    """Learn the hyperparameters anew, from the last ones on, once there are enough new rows."""
    last = CurveHyperparameters.from_json(last_fit["curves"]) if last_fit and "curves" in last_fit else None
    if last is not None and last_fit and last_fit["rows"] <= len(z) < REFIT * last_fit["rows"]:
        return last, last_fit
    hyper = fit(X[some], s[some], run[some], z[some], noise[some], levels, start=last)
    return hyper, {"curves": hyper.to_json(), "rows": len(z)}
