"""What to try next, from what is known: the searcher without Ray.

The history's rows (`history.py`) train a Gaussian process on the unit cube (`surrogate.py`, `gp.py`); trials
that still run are taken in as joint draws of what they may yield; the point of highest acquisition
(`acquisition.py`) is proposed. Pure functions of the history, the settings and the number of the proposal:
that is why a restored searcher proposes what the unrestored one would.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import qmc

from searchers.bayesopt.acquisition import (
    LogEI,
    LowerConfidenceBound,
    best_of,
    candidates,
    contains,
    maximise,
    normals,
    replicate_radius,
)
from searchers.bayesopt.history import EARLY_STOPS, FAILED, History
from searchers.bayesopt.joint import joint
from searchers.bayesopt.space import Space
from searchers.bayesopt.surrogate import SURROGATES, Model, fit_model, scalarise

FANTASIES = 16
ACQUISITIONS = ("log_ei", "noisy_ei", "ucb")
STRATEGIES = (*EARLY_STOPS, "joint")  # for early stops


@dataclass(frozen=True)
class Settings:
    """What decides proposals beside the history; `BayesOptSearch` documents each. Raises ValueError."""

    surrogate: str = "fitted"
    acquisition: str = "log_ei"
    early_stops: str = "last_value"
    random_starts: int | None = None
    noise: float | None = None
    noise_key: str | None = None
    seed: int = 0
    time_attr: str = "training_iteration"

    def __post_init__(self):
        for name, valid in (
            ("surrogate", SURROGATES),
            ("acquisition", ACQUISITIONS),
            ("early_stops", STRATEGIES),
        ):
            value = getattr(self, name)
            if value not in valid:
                raise ValueError(f"{name} is {value!r}; it must be one of {', '.join(map(repr, valid))}")
        if self.acquisition == "noisy_ei" and self.surrogate == "nuts":
            raise ValueError(
                "acquisition 'noisy_ei' draws from one Gaussian process, and surrogate 'nuts' is many"
            )
        if self.noise is not None and not self.noise >= 0:
            raise ValueError(f"noise is {self.noise}; it must be a standard deviation, 0 or more")


def propose(
    space: Space,
    history: History,
    settings: Settings,
    signs: np.ndarray,
    last_fit: dict[str, Any] | None,
    index: int,
) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """Return the `index`-th proposal's codes, and the fit's state for the next call.

    `signs` (objectives,): 1 for what is minimised, −1 for what is maximised.
    """
    rng = np.random.default_rng([settings.seed, index])
    starts = len(space) + 2 if settings.random_starts is None else settings.random_starts
    model, pending = None, history.pending()
    if max(index, len(history.trials)) >= starts:
        weights = rng.dirichlet(np.ones(len(signs)))
        model, last_fit = model_of(space, history, settings, signs, last_fit, weights, len(pending))
    if model is None:
        return space.codes(spread(space, history, settings.seed, index)), last_fit
    gp, seen = model.gp, model.X
    P = np.array([space.unit(t.codes) for t in pending]).reshape(-1, len(space))
    if settings.acquisition == "noisy_ei":
        seen = np.vstack([seen, P])
        gp = gp.draw(seen, normals(FANTASIES, len(seen), rng))
    elif len(P):
        seen = np.vstack([seen, P])
        gp = gp.fantasise(P, normals(FANTASIES, len(P), rng))
    acquisition = LowerConfidenceBound(gp) if settings.acquisition == "ucb" else LogEI(gp, best_of(gp, seen))
    mean, _ = model.gp.posterior(model.X)
    around = model.X[np.argsort(mean, kind="stable")[:5]]
    u = maximise(
        acquisition,
        space,
        around,
        rng,
        taken=proposed(space, history),
        radius=replicate_radius(model.gp.hyper, model.noise, space),
    )
    return space.codes(u), last_fit


def model_of(
    space: Space,
    history: History,
    settings: Settings,
    signs: np.ndarray,
    last_fit: dict[str, Any] | None,
    weights: np.ndarray | None = None,
    waiting: int = 0,
) -> tuple[Model | None, dict[str, Any] | None]:
    """Return the surrogate of what is known, None before the first value, and the fit's state.

    Several objectives become one by `weights` (objectives,); without weights it is of the first one.
    `waiting`: the trials in flight, for a model that is to propose; see `fit_model`.
    """
    floor = None if settings.noise is None else [settings.noise] * len(signs)
    if settings.early_stops == "joint":
        rows = joint(space, history, signs, floor)
    else:
        rows = EARLY_STOPS[settings.early_stops](history, floor)
    if not len(rows):
        return None, last_fit
    failed = [t for t in history.trials.values() if t.state == FAILED]
    if weights is None or len(signs) == 1:
        y, variances = signs[0] * rows.values[:, 0], rows.variances[:, 0]
    else:
        y, variances = scalarise(signs * rows.values, rows.variances, weights)
    if last_fit and len(signs) > 1:  # it was of other weights: a start for this one, no more
        last_fit = {**last_fit, "rows": math.inf}
    return fit_model(settings.surrogate, space, rows.trials, failed, y, variances, last_fit, waiting)


def spread(space: Space, history: History, seed: int, index: int) -> np.ndarray:
    """Return the `index`-th point of a scrambled Sobol sequence, (d,), or one that is not taken."""
    engine = qmc.Sobol(len(space), rng=np.random.default_rng(seed))
    points = space.fill((engine.fast_forward(index) if index else engine).random(1))
    taken = proposed(space, history)
    if len(taken) and contains(taken, points)[0]:
        later = candidates(space, points[:0], np.random.default_rng([seed, index]))
        points = np.vstack([later[~contains(taken, later)], points])
    return points[0]


def proposed(space: Space, history: History) -> np.ndarray:
    """Return every point that was proposed, whatever came of it, (t, d)."""
    return np.array([space.unit(t.codes) for t in history.trials.values()])
