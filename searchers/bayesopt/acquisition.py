"""Expected improvement: what a trial at x would be worth, and the search for the best x.

All functions here are to be maximized and think of an objective that is minimized: `best` is the incumbent's
value, an improvement is below it. Symbols as in `gp.py`; z = (best − mean)/std.
"""

import math
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from scipy.optimize import minimize
from scipy.spatial import cKDTree
from scipy.special import erfcx, log_ndtr, logsumexp, ndtr
from scipy.stats import qmc

from searchers.bayesopt.gp import Hyperparameters
from searchers.bayesopt.space import Space

CANDIDATES = 512
POLISHED = 4
SAMPLES = 192
SAME = 1e-6  # coordinates that differ by less are equal
MOST_APART = 0.02  # a wider ban on replicates would keep proposals from an optimum
EXHAUSTIVE = 32  # discrete dimensions of at most so many values are tried one by one


def log_h(z: np.ndarray) -> np.ndarray:
    """Return log(φ(z) + z Φ(z)), accurate far below zero (Ament et al. 2023, eq. 9)."""
    z = np.asarray(z, dtype=float)
    near = np.maximum(z, -1.0)
    far = np.minimum(z, -1.0)
    direct = np.log(np.exp(-0.5 * near**2) / math.sqrt(2 * math.pi) + near * ndtr(near))
    # φ + zΦ = φ (1 + z √(π/2) erfcx(−z/√2)), a difference of nearly equal numbers below −1e3: there it is
    # φ/z² to seven digits.
    ratio = np.log1p(
        np.maximum(far, -1e3) * math.sqrt(math.pi / 2) * erfcx(-np.maximum(far, -1e3) / math.sqrt(2))
    )
    tail = -0.5 * far**2 - 0.5 * math.log(2 * math.pi) + np.where(far < -1e3, -2 * np.log(-far), ratio)
    result: np.ndarray = np.where(z > -1.0, direct, tail)
    return result


def log_expected_improvement(mean: np.ndarray, variance: np.ndarray, best: float | np.ndarray) -> np.ndarray:
    """Return log E[max(best − f, 0)] for f ~ N(mean, variance)."""
    std = np.sqrt(variance)
    result: np.ndarray = np.log(std) + log_h((best - mean) / std)
    return result


def expected_improvement(mean: np.ndarray, variance: np.ndarray, best: float) -> np.ndarray:
    """Return E[max(best − f, 0)] for f ~ N(mean, variance) (Jones, Schonlau & Welch 1998, eq. 15)."""
    result: np.ndarray = np.exp(log_expected_improvement(mean, variance, best))
    return result


class Process(Protocol):
    """A posterior that an acquisition asks: one Gaussian process, a mixture, or that of learning curves."""

    hyper: Any  # with lengthscales (d,)

    def posterior(self, U: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return mean, (m,) or (m, S), and variance, (m,), at U (m, d)."""

    def gradient(self, u: np.ndarray) -> tuple[np.ndarray, float, np.ndarray, np.ndarray]:
        """Return mean (S,), variance, and their gradients (d, S) and (d,) at one point u (d,)."""


@dataclass(frozen=True)
class LogEI:
    """Log expected improvement, averaged over the GP's S draws at pending points, if it has any.

    `best` (S,): each draw's incumbent.
    """

    gp: Process
    best: np.ndarray

    def values(self, U: np.ndarray) -> np.ndarray:
        """Return the acquisition at U (m, d), shape (m,)."""
        mean, variance = self.gp.posterior(U)
        each = log_expected_improvement(mean.reshape(len(U), -1), variance[:, None], self.best)
        result: np.ndarray = logsumexp(each, axis=1) - math.log(each.shape[1])
        return result

    def value_and_gradient(self, u: np.ndarray) -> tuple[float, np.ndarray]:
        """Return the acquisition and its gradient at u (d,)."""
        mean, variance, mean_gradient, variance_gradient = self.gp.gradient(u)
        std = math.sqrt(variance)
        z = (self.best - mean) / std
        lh = log_h(z)
        each = math.log(std) + lh
        total = logsumexp(each)
        weights = np.exp(each - total)
        slope = np.exp(log_ndtr(z) - lh)  # d log h / dz
        std_gradient = variance_gradient / (2 * std)
        gradient = std_gradient * (weights @ (1 - z * slope)) / std - mean_gradient @ (weights * slope) / std
        return float(total - math.log(len(each))), gradient


@dataclass(frozen=True)
class LowerConfidenceBound:
    """−(mean − √κ std), averaged over draws (Srinivas et al. 2010; upper bound where one maximizes)."""

    gp: Process
    kappa: float = 4.0

    def values(self, U: np.ndarray) -> np.ndarray:
        """Return the acquisition at U (m, d), shape (m,)."""
        mean, variance = self.gp.posterior(U)
        result: np.ndarray = math.sqrt(self.kappa) * np.sqrt(variance) - mean.reshape(len(U), -1).mean(axis=1)
        return result

    def value_and_gradient(self, u: np.ndarray) -> tuple[float, np.ndarray]:
        """Return the acquisition and its gradient at u (d,)."""
        mean, variance, mean_gradient, variance_gradient = self.gp.gradient(u)
        std = math.sqrt(variance)
        root = math.sqrt(self.kappa)
        return root * std - mean.mean(), root * variance_gradient / (2 * std) - mean_gradient.mean(axis=1)


Acquisition = LogEI | LowerConfidenceBound


def sobol(m: int, d: int, rng: np.random.Generator) -> np.ndarray:
    """Return m scrambled Sobol points of the unit cube, (m, d)."""
    engine = qmc.Sobol(d, rng=rng)
    result: np.ndarray = engine.random_base2(max(math.ceil(math.log2(m)), 0))[:m]
    return result


def candidates(space: Space, around: np.ndarray, rng: np.random.Generator, m: int = CANDIDATES) -> np.ndarray:
    """Return m points that fill the space and m near the points `around` (a, d), at scales 0.3 … 0.001.

    Spaces of at most m points are returned whole.
    """
    d = len(space)
    if space.size <= m:
        return space.every()
    spread = space.fill(sobol(m, d, rng))
    if not len(around):
        return spread
    centers = around[rng.integers(len(around), size=m)]
    steps = rng.standard_normal((m, d)) * 10 ** rng.uniform(-3, -0.5, size=(m, 1))
    moved = rng.random((m, d)) < np.maximum(rng.random((m, 1)), 1.0 / d)
    near = centers + steps * moved
    for j in np.flatnonzero(space.categorical):
        grid = space.dimensions[j].grid()
        assert grid is not None  # a category's values are few
        near[:, j] = np.where(moved[:, j] & (rng.random(m) < 0.3), rng.choice(grid, m), centers[:, j])
    return np.vstack([spread, space.snap(near)])


def maximize(
    acquisition: Acquisition,
    space: Space,
    around: np.ndarray,
    rng: np.random.Generator,
    *,
    polished: int = POLISHED,
    taken: np.ndarray | None = None,
    radius: float | np.ndarray = SAME,
) -> np.ndarray:
    """Return the point of the space, (d,), where the acquisition is highest.

    Candidates everywhere and near `around` (promising points, (a, d)); the best `polished` ones that are far
    from another are moved by gradient in the continuous dimensions, in turn with each discrete dimension's
    other values, until neither helps. Points within `radius` (d,) of `taken` (t, d) are not returned, unless
    nothing else is left.
    """
    U = candidates(space, around, rng)
    values = acquisition.values(U)
    starts = _apart(U, values, polished, acquisition.gp.hyper.lengthscales)
    found = [_climb(acquisition, space, U[i]) for i in starts]
    ends = np.array([u for u, _ in found])
    pool = np.vstack([ends, U])
    scores = np.concatenate([[v for _, v in found], values])
    if taken is not None and len(taken):
        pool_free = ~contains(taken, pool, radius)
        if pool_free.any():
            scores = np.where(pool_free, scores, -np.inf)
    result: np.ndarray = pool[int(np.argmax(scores))]
    return result


def best_sample(
    acquisition: Acquisition,
    space: Space,
    around: np.ndarray,
    rng: np.random.Generator,
    *,
    taken: np.ndarray,
    radius: float | np.ndarray,
) -> np.ndarray:
    """Return the point, (d,), where the acquisition is highest among samples; arguments as of `maximize`.

    Samples fill the space, lie near `around` and, in a second round, near the best of the first. A model that
    knows a few curves in many dimensions is most promising in the cube's corners, of which it knows nothing:
    a climb by gradient ends there, and samples do not.
    """
    U = candidates(space, around, rng, SAMPLES)[: SAMPLES + SAMPLES // 2]
    values = acquisition.values(U)
    best = U[np.argsort(-values, kind="stable")[:3]]
    steps = rng.standard_normal((SAMPLES // 2, len(space))) * 10 ** rng.uniform(-2.5, -1, (SAMPLES // 2, 1))
    near = space.snap(best[np.arange(len(steps)) % len(best)] + steps)
    pool = np.vstack([U, near])
    scores = np.concatenate([values, acquisition.values(near)])
    free = ~contains(taken, pool, radius)
    result: np.ndarray = pool[int(np.argmax(np.where(free, scores, -np.inf) if free.any() else scores))]
    return result


def _apart(U: np.ndarray, values: np.ndarray, count: int, lengthscales: np.ndarray) -> list[int]:
    """Return indices of the best candidates that are not next to one another, best first."""
    chosen: list[int] = []
    order = np.argsort(-values, kind="stable")
    radius = 0.1 * np.minimum(lengthscales, 1.0)
    for i in order[:200]:
        if all(np.any(np.abs(U[i] - U[j]) > radius) for j in chosen):
            chosen.append(int(i))
        if len(chosen) == count:
            break
    return chosen


def _climb(acquisition: Acquisition, space: Space, u: np.ndarray) -> tuple[np.ndarray, float]:
    """Return a local maximum on the space's own points, and its value."""
    moving = np.array([grid is None or len(grid) > EXHAUSTIVE for grid in space.grids]) & ~space.categorical
    value = float(acquisition.values(u[None])[0])
    for _ in range(4):
        before = value
        if moving.any():
            u, value = _ascend(acquisition, space, u, value, moving)
        u, value = _try_neighbors(acquisition, space, u, value)
        if value <= before + 1e-6 or moving.all():
            break
    return u, value


def _ascend(
    acquisition: Acquisition, space: Space, u: np.ndarray, value: float, moving: np.ndarray
) -> tuple[np.ndarray, float]:
    """L-BFGS-B over the `moving` coordinates, then rounding to points that exist."""

    def negative(x: np.ndarray) -> tuple[float, np.ndarray]:
        point = u.copy()
        point[moving] = x
        v, g = acquisition.value_and_gradient(point)
        return -v, -g[moving]

    # In units of the lengthscales all directions are about as steep.
    w = np.clip(acquisition.gp.hyper.lengthscales[moving], 1e-2, 1e2)

    def scaled(x: np.ndarray) -> tuple[float, np.ndarray]:
        v, g = negative(x * w)
        return v, g * w

    result = minimize(
        scaled,
        u[moving] / w,
        jac=True,
        method="L-BFGS-B",
        bounds=[(0.0, 1.0 / s) for s in w],
        options={"maxiter": 40, "ftol": 1e-8, "gtol": 1e-6},
    )
    reached = u.copy()
    reached[moving] = np.clip(result.x * w, 0.0, 1.0)
    snapped = space.snap(reached)[0]
    reached_value = float(acquisition.values(snapped[None])[0])
    return (snapped, reached_value) if reached_value > value else (u, value)


def _try_neighbors(
    acquisition: Acquisition, space: Space, u: np.ndarray, value: float
) -> tuple[np.ndarray, float]:
    """For each discrete dimension in turn: all its values, or the nearest two where they are many."""
    for j, grid in enumerate(space.grids):
        if grid is None or len(grid) == 1:
            continue
        if space.categorical[j] or len(grid) <= EXHAUSTIVE:
            options = grid
        else:
            at = int(np.argmin(np.abs(grid - u[j])))
            options = grid[max(at - 2, 0) : at + 3]
        options = options[options != u[j]]
        U = np.repeat(u[None], len(options), axis=0)
        U[:, j] = options
        values = acquisition.values(U)
        if values.max() > value + 1e-12:
            u, value = U[int(np.argmax(values))], float(values.max())
    return u, value


def contains(taken: np.ndarray, U: np.ndarray, radius: float | np.ndarray = SAME) -> np.ndarray:
    """Return whether each row of U (m, d) is within `radius` (d,) of a row of `taken` (t, d), (m,)."""
    nearest, _ = cKDTree(taken / radius).query(U / radius, p=np.inf, distance_upper_bound=1.0)
    result: np.ndarray = np.isfinite(nearest)
    return result


def replicate_radius(hyper: Hyperparameters, noise: np.ndarray, space: Space) -> np.ndarray:
    """Return within what distance of a tried point another one would only replicate it, (d,).

    There f differs by less than a tenth of the noise: 2 (k(0) − k(r)) ≈ (5/3) scale (r/w)² < noise/100 for
    Matérn's kernel. `noise` (n,): known variances. Without noise nothing is a replicate but the point itself;
    discrete values stay apart.
    """
    radius = hyper.lengthscales * math.sqrt(0.006 * (hyper.noise + float(np.median(noise))) / hyper.scale)
    continuum = np.array([grid is None for grid in space.grids])
    return np.where(continuum, np.clip(radius, SAME, MOST_APART), SAME)


def best_of(gp: Process, X: np.ndarray) -> np.ndarray:
    """Return the lowest posterior mean at X (n, d) in each draw, (S,): the incumbent's value."""
    mean, _ = gp.posterior(X)
    result: np.ndarray = mean.reshape(len(X), -1).min(axis=0)
    return result


def normals(count: int, p: int, rng: np.random.Generator) -> np.ndarray:
    """Return `count`, a power of two, quasi-random standard normal vectors, (count, p)."""
    result: np.ndarray = qmc.MultivariateNormalQMC(np.zeros(p), rng=rng, inv_transform=True).random(count)
    return result
