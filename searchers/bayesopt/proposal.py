"""What to do with a free worker, from what is known: the searcher without Ray.

The history's rows train a Gaussian process: one value of each trial (`surrogate.py`, `gp.py`) or, where
values of several epochs are known, the learning curves (`fidelity.py`, `curve_gp.py`). Trials that run are
taken in as joint draws (of curves, as means); the point of highest acquisition (`acquisition.py`) is
proposed, unless a paused trial promises more. Pure functions of the history, the settings and the number of
the decision: that is why a restored searcher proposes what the unrestored one would.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import qmc

from searchers.bayesopt.acquisition import (
    LogEI,
    LowerConfidenceBound,
    best_of,
    best_sample,
    candidates,
    contains,
    log_expected_improvement,
    maximize,
    normals,
    replicate_radius,
)
from searchers.bayesopt.fidelity import CurveModel, fit_curves, learns_from_training
from searchers.bayesopt.gp import GaussianProcess, Hyperparameters
from searchers.bayesopt.history import FAILED, WHOLE, History, last_value, usable
from searchers.bayesopt.space import Space
from searchers.bayesopt.surrogate import SURROGATES, Model, fit_model, scalarize
from searchers.bayesopt.threads import one_thread

FANTASIES = 16
ACQUISITIONS = ("log_ei", "noisy_ei", "ucb")
EXPLORED = 0.2  # share of decisions that begin a trial anywhere: early epochs alone can mislead a model


@dataclass(frozen=True)
class Settings:
    """What decides proposals beside the history; `BayesOptSearch` documents each. Raises ValueError."""

    surrogate: str = "fitted"
    acquisition: str = "log_ei"
    random_starts: int | None = None
    noise: float | None = None
    noise_key: str | None = None
    seed: int = 0
    time_attr: str = "training_iteration"
    max_epochs: int | None = None

    def __post_init__(self) -> None:
        for name, valid in (("surrogate", SURROGATES), ("acquisition", ACQUISITIONS)):
            value = getattr(self, name)
            if value not in valid:
                raise ValueError(f"{name} is {value!r}; it must be one of {', '.join(map(repr, valid))}")
        if self.acquisition == "noisy_ei" and self.surrogate == "nuts":
            raise ValueError(
                "acquisition 'noisy_ei' draws from one Gaussian process, and surrogate 'nuts' is many"
            )
        if self.noise is not None and not self.noise >= 0:
            raise ValueError(f"noise is {self.noise}; it must be a standard deviation, 0 or more")


@dataclass(frozen=True)
class Decision:
    """Begin a trial with `codes`, or go on with the paused trial `resumes`; `fit`: for the next decision."""

    codes: dict[str, Any] | None
    resumes: str | None
    fit: dict[str, Any] | None


@one_thread
def decide(
    space: Space,
    history: History,
    settings: Settings,
    signs: np.ndarray,
    last_fit: dict[str, Any] | None,
    begun: int,
    number: int,
    paused: Sequence[str] = (),
    begin: bool = True,
) -> Decision:
    """Return the `number`-th decision, after `begun` proposals; `paused` trials may be gone on with.

    `signs` (objectives,): 1 for what is minimized, −1 for what is maximized. Without `begin` only paused
    trials are weighed, one of which there must be.
    """
    rng = np.random.default_rng([settings.seed, number])
    starts = len(space) + 2 if settings.random_starts is None else settings.random_starts
    model: Model | CurveModel | None = None
    explores = rng.random() < EXPLORED
    waiting = len(history.pending())
    if not begin or max(begun, len(history.trials)) >= starts:
        weights = rng.dirichlet(np.ones(len(signs)))
        model, last_fit = model_of(space, history, settings, signs, last_fit, weights, waiting)
    known = [trial_id for trial_id in paused if history.trials[trial_id].finite_rows()]
    if not begin and not (isinstance(model, CurveModel) and known):
        return Decision(None, furthest(history, paused, signs[0]), last_fit)
    if model is None or (begin and explores and isinstance(model, CurveModel)):
        return Decision(space.codes(spread(space, history, settings.seed, begun)), None, last_fit)
    if isinstance(model, CurveModel):
        return _by_curves(space, history, settings, model, rng, known, begin, last_fit)
    return Decision(space.codes(_by_values(space, history, settings, model, rng)), None, last_fit)


def furthest(history: History, trial_ids: Sequence[str], sign: float) -> str:
    """Return the trial that came furthest and is best there, by the first objective."""

    def standing(trial_id: str) -> tuple[int, float]:
        trial = history.trials[trial_id]
        finite = trial.rows and usable(trial.last)
        return -trial.epoch, sign * trial.last[0] if finite else math.inf

    return min(trial_ids, key=standing)


def _by_values(
    space: Space, history: History, settings: Settings, model: Model, rng: np.random.Generator
) -> np.ndarray:
    """Return the most promising point, (d,), where each trial tells one value."""
    gp, seen = model.gp, model.X
    acquisition: LogEI | LowerConfidenceBound
    P = space.units([t.codes for t in history.pending()])
    if settings.acquisition == "noisy_ei" and isinstance(gp, GaussianProcess):
        seen = np.vstack([seen, P])
        gp = gp.draw(seen, normals(FANTASIES, len(seen), rng))
    elif len(P):
        seen = np.vstack([seen, P])
        gp = gp.fantasize(P, normals(FANTASIES, len(P), rng))
    acquisition = LowerConfidenceBound(gp) if settings.acquisition == "ucb" else LogEI(gp, best_of(gp, seen))
    mean, _ = model.gp.posterior(model.X)
    around = model.X[np.argsort(mean, kind="stable")[:5]]
    radius = replicate_radius(model.gp.hyper, model.noise, space)
    return maximize(acquisition, space, around, rng, taken=proposed(space, history), radius=radius)


def _by_curves(
    space: Space,
    history: History,
    settings: Settings,
    model: CurveModel,
    rng: np.random.Generator,
    paused: list[str],
    begin: bool,
    fit: dict[str, Any] | None,
) -> Decision:
    """Return the decision of the highest expected improvement of a final value, by the model of curves."""
    process = model.process
    if len(model.pending):
        process = process.believe(model.pending, model.pending_runs)
    best = model.means(process).min(keepdims=True)
    resumes, promise = None, -math.inf
    if paused:
        place = {id(trial): k for k, trial in enumerate(model.trials)}
        places = [place[id(history.trials[i])] for i in paused]
        mean, variance = process.of_runs(model.U[places], np.ones(len(places)), model.runs[places])
        promises = log_expected_improvement(mean, variance, best)
        resumes, promise = paused[int(np.argmax(promises))], float(promises.max())
    if not begin:
        return Decision(None, resumes, fit)
    hyper = model.process.hyper
    acquisition = LowerConfidenceBound(process) if settings.acquisition == "ucb" else LogEI(process, best)
    one_run = Hyperparameters(hyper.lengthscales, hyper.quality + hyper.change, hyper.luck + hyper.noise)
    u = best_sample(
        acquisition,
        space,
        model.U[np.argsort(model.means(model.process), kind="stable")[:5]],
        rng,
        taken=proposed(space, history),
        radius=replicate_radius(one_run, model.process.noise, space),
    )
    if resumes is not None and promise > float(LogEI(process, best).values(u[None])[0]):
        return Decision(None, resumes, fit)
    return Decision(space.codes(u), None, fit)


def model_of(
    space: Space,
    history: History,
    settings: Settings,
    signs: np.ndarray,
    last_fit: dict[str, Any] | None,
    weights: np.ndarray | None = None,
    waiting: int = 0,
    averaged: bool = False,
) -> tuple[Model | CurveModel | None, dict[str, Any] | None]:
    """Return the surrogate of what is known, None before the first value, and the fit's state.

    Several objectives become one by `weights` (objectives,); without weights it is of the first one.
    `waiting`: the trials in flight, for a model that is to propose; see `fit_model`. `averaged`: a model of
    curves is averaged over its hyperparameters, for a person.
    """
    floor = None if settings.noise is None else [settings.noise] * len(signs)
    if last_fit and len(signs) > 1:  # it was of other weights: a start for this one, no more
        last_fit = {**last_fit, "rows": math.inf}
    if settings.surrogate == "fitted" and learns_from_training(history):
        return fit_curves(
            space,
            history,
            signs,
            floor=floor,
            weights=weights,
            max_epochs=settings.max_epochs,
            last_fit=last_fit,
            averaged=averaged,
        )
    rows = last_value(history, floor)
    if not len(rows):
        return None, last_fit
    failed = [t for t in history.trials.values() if t.state == FAILED]
    if weights is None or len(signs) == 1:
        y, variances = signs[0] * rows.values[:, 0], rows.variances[:, 0]
    else:
        last = settings.max_epochs or history.final_epoch()
        final = np.array([t.epoch >= last or t.epoch == WHOLE for t in rows.trials])
        y, variances = scalarize(signs * rows.values, rows.variances, weights, final)
    return fit_model(settings.surrogate, space, rows.trials, failed, y, variances, last_fit, waiting)


def spread(space: Space, history: History, seed: int, index: int) -> np.ndarray:
    """Return the `index`-th point of a scrambled Sobol sequence, (d,), or one that is not taken."""
    engine = qmc.Sobol(len(space), rng=np.random.default_rng(seed))
    points = space.fill((engine.fast_forward(index) if index else engine).random(1))
    taken = proposed(space, history)
    if len(taken) and contains(taken, points)[0]:
        later = candidates(space, points[:0], np.random.default_rng([seed, index]))
        points = np.vstack([later[~contains(taken, later)], points])
    result: np.ndarray = points[0]
    return result


def proposed(space: Space, history: History) -> np.ndarray:
    """Return every point that was proposed, whatever came of it, (t, d)."""
    return space.units([t.codes for t in history.trials.values()])
