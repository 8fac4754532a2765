"""Gaussian-process regression on learning curves: what a configuration is worth, from how its training goes.

A row is one trial's value at one epoch. The model is a sum of independent Gaussian processes,

    z = mean + c(s) + f(x) + g(x, s) + e_run(s) + ε,

c the curve that all trials share, f the lasting quality of a configuration, g how it changes with training,
e the luck of this run, ε the noise of one evaluation. Their covariances, between (x, s) and (x′, s′):

    mean 1    c: shared RBF(s, s′; 1/2)    f + g: [quality + change RBF(s, s′; pace)] Matérn5/2(x, x′)
    e: luck 1[same run] exp(−|s − s′|)     ε: 1[same row] (noise + what is known of the row's variance)

After Swersky, Snoek & Adams (2014), "Freeze-Thaw Bayesian Optimization", whose exponential decay is replaced
by c and g: curves need not fall. Bad trials stop early, but their early rows stay in: no selection
bias. The components' sizes and the priors on them were chosen on learning curves (`benchmarks/searchers`).

Symbols: n rows, d dimensions, m query points, p pending points.
X (n, d), s (n,), run (n,), z (n,), noise (n,): points of the unit cube, progress of training in [0, 1], the
trial's number, standardized values, known variances. U (m, d): query points. w (d,): lengthscales.
K (n, n): covariance of z. L: its Cholesky factor. θ (d + 6,): logarithms of the hyperparameters.
Pure: numpy and scipy alone.
"""

import math
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from scipy.linalg import cho_solve, cholesky, solve_triangular
from scipy.optimize import minimize

from searchers.bayesopt.gp import (
    JITTER,
    distance_gradient,
    distances_by_dimension,
    embed,
    inverse_of,
    kernel,
    posterior_gradient,
    squared_distances,
)

SHARED_LENGTHSCALE = 0.5  # of the curve that all trials share, in s
NEW = -1  # the run of a trial that has not begun

# Normal priors on the logarithms: (mean, standard deviation). The lengthscales' mean grows with √d (Hvarfner,
# Hellsten & Nardi 2024, "Vanilla Bayesian Optimization Performs Great in High Dimensions", eq. 5).
LENGTHSCALE_PRIOR = (-0.9, 1.0)
PRIORS = {
    "quality": (math.log(0.7), 1.0),
    "change": (math.log(0.3), 1.0),
    "pace": (math.log(0.5), 0.5),
    "shared": (math.log(0.3), 1.0),
    "luck": (math.log(0.03), 1.5),
    "noise": (-6.0, 2.5),
}
NOISE_RATE = 30.0  # the noise's density falls as exp(−rate · noise), too: see `gp.Prior`
WIDEST = 4.0  # hyperparameters stay within so many standard deviations of their prior's mean


@dataclass(frozen=True)
class CurveHyperparameters:
    """Lengthscales (d,); variances of f, g, c, e and ε; `pace`: g's lengthscale in s."""

    lengthscales: np.ndarray
    quality: float = 0.7
    change: float = 0.3
    pace: float = 0.5
    shared: float = 0.3
    luck: float = 0.03
    noise: float = 2.5e-3

    @property
    def theta(self) -> np.ndarray:
        """Return the logarithms, (d + 6,), in the order of the fields."""
        result: np.ndarray = np.log(
            np.concatenate([self.lengthscales, [getattr(self, name) for name in PRIORS]])
        )
        return result

    @classmethod
    def from_theta(cls, theta: np.ndarray) -> "CurveHyperparameters":
        """Return the hyperparameters of these logarithms."""
        values = np.exp(theta)
        d = len(values) - len(PRIORS)
        return cls(values[:d], *(float(v) for v in values[d:]))

    def to_json(self) -> dict[str, Any]:
        """Return plain numbers; floats survive JSON exactly."""
        return {f.name: np.asarray(getattr(self, f.name)).tolist() for f in fields(self)}

    @classmethod
    def from_json(cls, state: dict[str, Any]) -> "CurveHyperparameters":
        """Read what `to_json` wrote."""
        return cls(**{**state, "lengthscales": np.array(state["lengthscales"])})


def prior(d: int) -> tuple[np.ndarray, np.ndarray]:
    """Return means and standard deviations of θ, each (d + 6,)."""
    mean, std = LENGTHSCALE_PRIOR
    means = [mean + 0.5 * math.log(d)] * d + [m for m, _ in PRIORS.values()]
    return np.array(means), np.array([std] * d + [s for _, s in PRIORS.values()])


def over_training(s: np.ndarray, other: np.ndarray, lengthscale: float) -> np.ndarray:
    """Return exp(−(s − s′)²/(2 ℓ²)) for s (m,) and s′ (n,), (m, n).

    Trials are halted at a few epochs: the exponential is taken of different values alone.
    """
    values, place = np.unique(s, return_inverse=True)
    others, other_place = np.unique(other, return_inverse=True)
    table = np.exp(-0.5 * ((values[:, None] - others[None, :]) / lengthscale) ** 2)
    result: np.ndarray = table[:, other_place][place]
    return result


def covariance(
    matern: np.ndarray,
    s: np.ndarray,
    run: np.ndarray,
    other_s: np.ndarray,
    other_run: np.ndarray,
    hyper: CurveHyperparameters,
) -> np.ndarray:
    """Return the covariance of values without ε, (m, n), from Matérn's correlation of their points, (m,
    n)."""
    K = (hyper.quality + hyper.change * over_training(s, other_s, hyper.pace)) * matern
    K += 1.0 + hyper.shared * over_training(s, other_s, SHARED_LENGTHSCALE)
    i, j = np.nonzero(run[:, None] == other_run[None, :])
    K[i, j] += hyper.luck * np.exp(-np.abs(s[i] - other_s[j]))
    result: np.ndarray = K
    return result


class CurveProcess:
    """The model conditioned on rows, with given hyperparameters; it predicts values at any s.

    `levels` (d,): 0 for an ordered dimension, the number of categories for a categorical one. As a surrogate
    of final values (`posterior`, `gradient`) it speaks of s = 1 and of a run that has not begun.
    """

    def __init__(
        self,
        X: np.ndarray,
        s: np.ndarray,
        run: np.ndarray,
        z: np.ndarray,
        noise: np.ndarray,
        hyper: CurveHyperparameters,
        levels: np.ndarray,
    ):
        self.X, self.s, self.run, self.y, self.noise = X, s, run, z, noise
        self.hyper, self.levels = hyper, levels
        # Rows of one trial share its point: distances are computed once a trial.
        _, first, self._of_row = np.unique(X, axis=0, return_index=True, return_inverse=True)
        self._of_row = self._of_row.ravel()
        self._Z = self._embed(X[first])
        K = covariance(self._matern(self._Z)[self._of_row], s, run, s, run, hyper)
        K[np.diag_indices_from(K)] += noise + hyper.noise + JITTER
        self.L = cholesky(K, lower=True, check_finite=False)
        self.alpha = cho_solve((self.L, True), z, check_finite=False)
        at_end = over_training(np.ones(1), s, hyper.pace)[0]
        self._weight = hyper.quality + hyper.change * at_end  # of Matérn's kernel, between s = 1 and each row
        self._offset = 1.0 + hyper.shared * over_training(np.ones(1), s, SHARED_LENGTHSCALE)[0]
        self._inverse: np.ndarray | None = None

    @property
    def inverse(self) -> np.ndarray:
        """K⁻¹, (n, n), computed once: products with it are cheaper than triangular solutions."""
        if self._inverse is None:
            self._inverse = inverse_of(self.L)
        return self._inverse

    def _matern(self, Z: np.ndarray) -> np.ndarray:
        """Return Matérn's correlation of embedded points with the rows, (m, n)."""
        return kernel("matern", squared_distances(Z, self._Z))[0][:, self._of_row]

    def _embed(self, U: np.ndarray) -> np.ndarray:
        return embed(U, self.hyper.lengthscales, self.levels)

    @property
    def prior_variance(self) -> float:
        """Variance before any row of a trial's value without ε."""
        h = self.hyper
        return 1.0 + h.quality + h.change + h.shared + h.luck

    def of_runs(self, U: np.ndarray, s: np.ndarray, run: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return mean and variance, (m,) each, of these runs' values at s, with their luck."""
        k = covariance(self._matern(self._embed(U)), s, run, self.s, self.run, self.hyper)
        variance = self.prior_variance - np.einsum("ij,ij->i", k @ self.inverse, k)
        return k @ self.alpha, np.maximum(variance, 1e-12 * self.prior_variance)

    def means_of_runs(self, U: np.ndarray, s: np.ndarray, run: np.ndarray) -> np.ndarray:
        """Return `of_runs`' mean alone: without the variance it costs a tenth."""
        result: np.ndarray = (
            covariance(self._matern(self._embed(U)), s, run, self.s, self.run, self.hyper) @ self.alpha
        )
        return result

    def posterior(self, U: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return mean and variance, (m,) each, of a new run's final value at U, with its luck."""
        k = self._matern(self._embed(U)) * self._weight + self._offset
        variance = self.prior_variance - np.einsum("ij,ij->i", k @ self.inverse, k)
        return k @ self.alpha, np.maximum(variance, 1e-12 * self.prior_variance)

    def gradient(self, u: np.ndarray) -> tuple[np.ndarray, float, np.ndarray, np.ndarray]:
        """Return `posterior`'s mean (1,), variance, and their gradients (d, 1) and (d,) at one point u (d,).

        Categorical coordinates have gradient 0.
        """
        values, slopes = kernel("matern", squared_distances(self._embed(u[None]), self._Z))
        k = values[0][self._of_row] * self._weight + self._offset
        slope = slopes[0][self._of_row] * self._weight
        slopes = slope[:, None] * distance_gradient(u, self.X, self.hyper.lengthscales, self.levels)
        return posterior_gradient(k, slopes, self.alpha[:, None], self.inverse, self.prior_variance)

    def covariance_of_runs(
        self, U: np.ndarray, s: np.ndarray, run: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the joint mean (m,) and covariance (m, m) of these runs' values at s, without ε."""
        Z = self._embed(U)
        k = covariance(self._matern(Z), s, run, self.s, self.run, self.hyper)
        v = solve_triangular(self.L, k.T, lower=True, check_finite=False)
        between = kernel("matern", squared_distances(Z, Z))[0]
        return k @ self.alpha, covariance(between, s, run, s, run, self.hyper) - v.T @ v

    def believe(self, P: np.ndarray, run: np.ndarray) -> "CurveProcess":
        """Return this process with the final values of runs at P (p, d) taken as observed at their means.

        Rows come to n + p. Joint draws instead of the means, which `gp.GaussianProcess.fantasize` has, were
        worse on recorded curves: the best of many draws of unfinished trials sets a bar that only unknown
        corners of the space promise to pass.
        """
        ends = np.ones(len(P))
        return CurveProcess(
            np.vstack([self.X, P]),
            np.concatenate([self.s, ends]),
            np.concatenate([self.run, run]),
            np.concatenate([self.y, self.means_of_runs(P, ends, run)]),
            np.concatenate([self.noise, np.zeros(len(P))]),
            self.hyper,
            self.levels,
        )


@dataclass(frozen=True)
class Rows:
    """What the likelihood needs of rows, computed once for a fit."""

    distances: np.ndarray  # (d, n, n), squared, in each dimension
    apart: np.ndarray  # (n, n), |s − s′|
    same: np.ndarray  # (n, n), 1 where two rows are of one run
    z: np.ndarray
    noise: np.ndarray

    @classmethod
    def of(
        cls,
        X: np.ndarray,
        s: np.ndarray,
        run: np.ndarray,
        z: np.ndarray,
        noise: np.ndarray,
        levels: np.ndarray,
    ) -> "Rows":
        """Compute it of rows as `CurveProcess` takes them."""
        same = (run[:, None] == run[None, :]).astype(float)
        return cls(distances_by_dimension(X, levels), np.abs(s[:, None] - s[None, :]), same, z, noise)


def negative_log_posterior(theta: np.ndarray, rows: Rows) -> tuple[float, np.ndarray]:
    """Return −log p(z | θ) − log p(θ), up to constants, and its gradient in θ, (d + 6,).

    Rasmussen & Williams 2006, eqs. 5.8 and 5.9.
    """
    d, n = rows.distances.shape[:2]
    inverse_squared = np.exp(-2.0 * theta[:d])
    quality, change, pace, shared, luck, learned = np.exp(theta[d:])
    matern, slope = kernel("matern", np.tensordot(inverse_squared, rows.distances, axes=1))
    squared = rows.apart**2
    paced = np.exp(-0.5 * squared / pace**2)
    common = np.exp(-0.5 * squared / SHARED_LENGTHSCALE**2)
    own = rows.same * np.exp(-rows.apart)
    weight = quality + change * paced
    K = weight * matern + shared * common + luck * own + 1.0
    K[np.diag_indices(n)] += rows.noise + learned + JITTER
    try:
        L = cholesky(K, lower=True, check_finite=False)
    except np.linalg.LinAlgError:
        return 1e10, np.zeros_like(theta)
    alpha = cho_solve((L, True), rows.z, check_finite=False)
    A = inverse_of(L) - np.outer(alpha, alpha)  # d(−log p) / dK = A/2
    of_matern = A * matern
    gradient = np.empty_like(theta)
    gradient[:d] = -inverse_squared * (rows.distances.reshape(d, -1) @ (A * weight * slope).ravel())
    gradient[d] = 0.5 * quality * of_matern.sum()
    gradient[d + 1] = 0.5 * change * np.vdot(of_matern, paced)
    gradient[d + 2] = 0.5 * change * np.vdot(of_matern, paced * squared) / pace**2
    gradient[d + 3] = 0.5 * shared * np.vdot(A, common)
    gradient[d + 4] = 0.5 * luck * np.vdot(A, own)
    gradient[d + 5] = 0.5 * learned * np.trace(A)
    means, stds = prior(d)
    standard = (theta - means) / stds
    of_prior = standard / stds
    of_prior[-1] += NOISE_RATE * learned
    value = 0.5 * rows.z @ alpha + np.log(np.diag(L)).sum() + 0.5 * standard @ standard + NOISE_RATE * learned
    return value, gradient + of_prior


def fit(
    X: np.ndarray,
    s: np.ndarray,
    run: np.ndarray,
    z: np.ndarray,
    noise: np.ndarray,
    levels: np.ndarray,
    *,
    start: CurveHyperparameters | None = None,
    max_iterations: int = 25,
) -> CurveHyperparameters:
    """Return the hyperparameters of highest posterior density, searched from `start` or the priors' means.

    z should have mean 0 and variance about 1.
    """
    means, stds = prior(X.shape[1])
    rows = Rows.of(X, s, run, z, noise, levels)
    low, high = means - WIDEST * stds, means + WIDEST * stds
    found = minimize(
        negative_log_posterior,
        np.clip(means if start is None else start.theta, low, high),
        args=(rows,),
        jac=True,
        method="L-BFGS-B",
        bounds=list(zip(low, high, strict=True)),
        options={"maxiter": max_iterations, "ftol": 1e-5},
    )
    return CurveHyperparameters.from_theta(found.x)
