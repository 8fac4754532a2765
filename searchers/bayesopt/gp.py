"""Gaussian-process regression on the unit cube, with learned noise and gradients for the acquisition search.

Own code, since what the acquisition needs is in neither scikit-learn's GaussianProcessRegressor nor the
bayesian-optimization package on top of it: priors on hyperparameters, a noise level that is learned above a
measured one, a distance for categories, warm-started refits, draws at waiting trials, and the posterior's
gradient in x. scikit-learn's is the reference in the tests.

Symbols: n rows, d dimensions, m query points, p pending points, S draws.
X (n, d), y (n,), noise (n,): points of the unit cube, values, variances that are known of their errors.
w (d,): lengthscales. scale: variance of f. K = k(X, X) + diag(noise + learned noise), L its Cholesky factor.
Pure: numpy and scipy alone.
"""

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy.linalg import cho_solve, cholesky, solve_triangular
from scipy.linalg.lapack import dpotri
from scipy.optimize import minimize

JITTER = 1e-8
LENGTHSCALE_BOUNDS = (5e-3, 1e3)
SCALE_BOUNDS = (1e-2, 1e2)
NOISE_BOUNDS = (1e-6, 4.0)


@dataclass(frozen=True)
class Hyperparameters:
    """Lengthscales (d,), variance of f, variance of the learned noise, variance of the constant mean."""

    lengthscales: np.ndarray
    scale: float = 1.0
    noise: float = 1e-3
    mean: float = 0.0

    def to_json(self) -> dict[str, Any]:
        """Return plain numbers; floats survive JSON exactly."""
        return {
            "lengthscales": [float(w) for w in self.lengthscales],
            "scale": float(self.scale),
            "noise": float(self.noise),
            "mean": float(self.mean),
        }

    @classmethod
    def from_json(cls, state: dict[str, Any]) -> "Hyperparameters":
        """Read what `to_json` wrote."""
        return cls(np.array(state["lengthscales"]), state["scale"], state["noise"], state["mean"])


@dataclass(frozen=True)
class Prior:
    """Normal priors on the hyperparameters' logarithms, (mean, standard deviation), and a rate of the noise.

    The lengthscales' prior grows with √d (Hvarfner, Hellsten & Nardi 2024, "Vanilla Bayesian Optimization
    Performs Great in High Dimensions", eq. 5), so that the model's complexity does not grow with d; its
    center is lower than theirs. The learned noise may be next to none: a narrower prior, N(−6, 2), lost two
    pairs of three on functions without noise. Its density falls as exp(−rate · noise), too. With their
    center and without the rate, few rows of a function of six variables look like noise on a plane, and the
    search never recovers: median regret 1.7 on Hartmann6 after 40 trials, against 0.02.
    """

    lengthscale: tuple[float, float] = (-0.9, 1.0)
    scale: tuple[float, float] = (0.0, 1.0)
    noise: tuple[float, float] = (-9.0, 3.5)
    noise_rate: float = 30.0

    def parameters(self, d: int) -> tuple[np.ndarray, np.ndarray]:
        """Return means and standard deviations of log(lengthscales, scale, noise), each (d + 2,)."""
        mean, std = self.lengthscale
        means = [mean + 0.5 * math.log(d)] * d + [self.scale[0], self.noise[0]]
        return np.array(means), np.array([std] * d + [self.scale[1], self.noise[1]])


def kernel(kind: str, squared: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the correlation at scaled squared distances and its derivative in the squared distance.

    `matern`: ν = 5/2, (1 + √5 r + 5/3 r²) exp(−√5 r); `rbf`: exp(−r²/2) (Rasmussen & Williams 2006, §4.2).
    """
    if kind == "rbf":
        k = np.exp(-0.5 * squared)
        return k, -0.5 * k
    root = np.sqrt(5.0 * squared)
    decay = np.exp(-root)
    return (1.0 + root + (5.0 / 3.0) * squared) * decay, (-5.0 / 6.0) * (1.0 + root) * decay


class GaussianProcess:
    """A GP conditioned on rows, with given hyperparameters.

    `levels` (d,): 0 for an ordered dimension, the number of categories for a categorical one (whose
    coordinates are (i + ½)/levels); two different categories are at distance 1, whichever they are.
    """

    def __init__(
        self,
        X: np.ndarray,
        y: np.ndarray,
        noise: np.ndarray,
        hyper: Hyperparameters,
        levels: np.ndarray,
        kind: str = "matern",
    ):
        self.X, self.y, self.noise, self.hyper, self.levels, self.kind = X, y, noise, hyper, levels, kind
        self.Z = self._embed(X)
        K = self._kernel(self.Z, self.Z)[0]
        K[np.diag_indices_from(K)] += noise + hyper.noise + JITTER * hyper.scale
        self.L = cholesky(K, lower=True)
        self.alpha = cho_solve((self.L, True), y)

    @property
    def inverse(self) -> np.ndarray:
        """K⁻¹, (n, n), computed once: products with it are cheaper than triangular solutions."""
        if not hasattr(self, "_inverse"):
            self._inverse = inverse_of(self.L)
        return self._inverse

    def _embed(self, U: np.ndarray) -> np.ndarray:
        return embed(U, self.hyper.lengthscales, self.levels)

    def _kernel(self, A: np.ndarray, B: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        k, slope = kernel(self.kind, squared_distances(A, B))
        return self.hyper.scale * k + self.hyper.mean, self.hyper.scale * slope

    @property
    def prior_variance(self) -> float:
        """Variance of f before any row."""
        return self.hyper.scale + self.hyper.mean

    def posterior(self, U: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return mean and variance of f at U (m, d): (m,) or, for several columns of y, (m, S); and (m,)."""
        k = self._kernel(self._embed(U), self.Z)[0]
        variance = self.prior_variance - np.einsum("ij,ij->i", k @ self.inverse, k)
        return k @ self.alpha, np.maximum(variance, 1e-12 * self.prior_variance)

    def covariance(self, U: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the joint mean (m,) and covariance (m, m) of f at U."""
        Z = self._embed(U)
        k = self._kernel(Z, self.Z)[0]
        v = solve_triangular(self.L, k.T, lower=True)
        return k @ self.alpha, self._kernel(Z, Z)[0] - v.T @ v

    def gradient(self, u: np.ndarray) -> tuple[np.ndarray, float, np.ndarray, np.ndarray]:
        """Return mean (S,), variance, and their gradients (d, S) and (d,) at one point u (d,).

        Categorical coordinates have gradient 0.
        """
        Z = self._embed(u[None])
        k, slope = (v[0] for v in self._kernel(Z, self.Z))
        alpha = self.alpha.reshape(len(k), -1)
        slopes = slope[:, None] * distance_gradient(u, self.X, self.hyper.lengthscales, self.levels)
        return posterior_gradient(k, slopes, alpha, self.inverse, self.prior_variance)

    def fantasize(self, P: np.ndarray, normals: np.ndarray) -> "GaussianProcess":
        """Return this GP with joint draws of noisy values at pending points P (p, d) taken as observed.

        `normals` (S, p) are standard normal numbers. Rows X come to n + p; y to (n + p, S).
        """
        mean, covariance = self.covariance(P)
        covariance[np.diag_indices_from(covariance)] += self.hyper.noise + JITTER * self.hyper.scale
        draws = mean + normals @ cholesky(covariance, lower=True).T
        y = np.vstack([np.repeat(self.y[:, None], len(normals), axis=1), draws.T])
        noise = np.concatenate([self.noise, np.zeros(len(P))])
        return GaussianProcess(np.vstack([self.X, P]), y, noise, self.hyper, self.levels, self.kind)

    def draw(self, points: np.ndarray, normals: np.ndarray) -> "GaussianProcess":
        """Return the GP of joint draws of f itself, free of noise, at points (p, d), taken as observed.

        `normals` (S, p) are standard normal numbers; y comes to (p, S). As f at the rows is drawn too, there
        is an incumbent in each draw (Letham et al. 2019, "Constrained Bayesian Optimization with Noisy
        Experiments", eq. 5).
        """
        mean, covariance = self.covariance(points)
        still = 1e-6 * self.hyper.scale
        covariance[np.diag_indices_from(covariance)] += still
        y = (mean + normals @ cholesky(covariance, lower=True).T).T
        hyper = replace(self.hyper, noise=still)
        return GaussianProcess(points, y, np.zeros(len(points)), hyper, self.levels, self.kind)


def embed(U: np.ndarray, lengthscales: np.ndarray, levels: np.ndarray) -> np.ndarray:
    """Return coordinates whose Euclidean distance is the scaled one; categories become one-hot."""
    if not levels.any():
        result: np.ndarray = U / lengthscales
        return result
    columns = [U[:, levels == 0] / lengthscales[levels == 0]]
    for j in np.flatnonzero(levels):
        index = np.minimum(U[:, j] * levels[j], levels[j] - 1).astype(int)
        columns.append(np.eye(levels[j])[index] / (lengthscales[j] * math.sqrt(2.0)))
    return np.hstack(columns)


def distances_by_dimension(X: np.ndarray, levels: np.ndarray) -> np.ndarray:
    """Return squared distances in each dimension, (d, n, n); 1 between different categories."""
    D = (X.T[:, :, None] - X.T[:, None, :]) ** 2
    for j in np.flatnonzero(levels):
        D[j] = D[j] > 1e-12
    result: np.ndarray = D
    return result


def distance_gradient(
    u: np.ndarray, X: np.ndarray, lengthscales: np.ndarray, levels: np.ndarray
) -> np.ndarray:
    """Return the gradient in u (d,) of the scaled squared distances to the rows X (n, d), (n, d)."""
    result: np.ndarray = 2.0 * np.where(levels == 0, u - X, 0.0) / lengthscales**2
    return result


def posterior_gradient(
    k: np.ndarray, slopes: np.ndarray, alpha: np.ndarray, inverse: np.ndarray, prior_variance: float
) -> tuple[np.ndarray, float, np.ndarray, np.ndarray]:
    """Return mean (S,), variance, and their gradients (d, S) and (d,) at a point u.

    Its covariances with the rows are k (n,), and `slopes` (n, d) their gradients in u; `inverse` (n, n)
    times the rows' values is alpha (n, S).
    """
    projected = inverse @ k
    variance = max(prior_variance - k @ projected, 1e-12 * prior_variance)
    return k @ alpha, float(variance), slopes.T @ alpha, -2.0 * (slopes.T @ projected)


def squared_distances(A: np.ndarray, B: np.ndarray) -> np.ndarray:
    """Return squared Euclidean distances, (m, n), of the rows of A (m, d) and B (n, d)."""
    squared = np.sum(A * A, axis=1)[:, None] + np.sum(B * B, axis=1)[None, :] - 2.0 * (A @ B.T)
    result: np.ndarray = np.maximum(squared, 0.0, out=squared)
    return result


def negative_log_posterior(
    theta: np.ndarray,
    D: np.ndarray,
    y: np.ndarray,
    noise: np.ndarray,
    prior: Prior,
    kind: str = "matern",
    mean: float = 0.0,
) -> tuple[float, np.ndarray]:
    """Return −log p(y | θ) − log p(θ) and its gradient in θ = log(lengthscales, scale, noise), (d + 2,).

    D (d, n, n): squared distances in each dimension. Rasmussen & Williams 2006, eqs. 5.8 and 5.9.
    """
    d, n = D.shape[:2]
    inverse_squared = np.exp(-2.0 * theta[:d])
    scale, learned = math.exp(theta[d]), math.exp(theta[d + 1])
    k, slope = kernel(kind, np.tensordot(inverse_squared, D, axes=1))
    K = scale * k + mean
    K[np.diag_indices(n)] += noise + learned + JITTER * scale
    try:
        L = cholesky(K, lower=True, check_finite=False)
    except np.linalg.LinAlgError:
        return 1e10, np.zeros_like(theta)
    alpha = cho_solve((L, True), y)
    A = np.outer(alpha, alpha) - inverse_of(L)  # d log p / dK = A/2
    AS = A * slope
    gradient = np.empty_like(theta)
    gradient[:d] = -scale * inverse_squared * (D.reshape(d, -1) @ AS.ravel())
    gradient[d] = 0.5 * scale * (np.vdot(A, k) + JITTER * np.trace(A))
    gradient[d + 1] = 0.5 * learned * np.trace(A)
    means, stds = prior.parameters(d)
    z = (theta - means) / stds
    prior_slope = z / stds
    prior_slope[d + 1] += prior.noise_rate * learned
    log_likelihood = -0.5 * y @ alpha - np.log(np.diag(L)).sum() - 0.5 * n * math.log(2 * math.pi)
    return -log_likelihood + 0.5 * z @ z + prior.noise_rate * learned, prior_slope - gradient


def fit(
    X: np.ndarray,
    y: np.ndarray,
    noise: np.ndarray,
    levels: np.ndarray,
    *,
    kind: str = "matern",
    prior: Prior | None = None,
    mean: float = 0.0,
    starts: tuple[Hyperparameters, ...] = (),
    max_iterations: int = 60,
) -> tuple[Hyperparameters, float]:
    """Return the hyperparameters of highest posterior density and that log density, up to p(θ)'s constant.

    y should have mean 0 and variance about 1. The search begins at the prior's mean and at each of `starts`.
    """
    d = X.shape[1]
    prior = prior or Prior()
    D = distances_by_dimension(X, levels)
    begin = [prior.parameters(d)[0]]
    begin += [np.log(np.concatenate([h.lengthscales, [h.scale, h.noise]])) for h in starts]
    limits = [LENGTHSCALE_BOUNDS] * d + [SCALE_BOUNDS, NOISE_BOUNDS]
    bounds = [tuple(math.log(b) for b in pair) for pair in limits]
    best: Any = None
    for theta in begin:
        found = minimize(
            negative_log_posterior,
            np.clip(theta, *np.array(bounds).T),
            args=(D, y, noise, prior, kind, mean),
            jac=True,
            method="L-BFGS-B",
            bounds=bounds,
            options={"maxiter": max_iterations, "ftol": 1e-6, "gtol": 1e-3},
        )
        if best is None or found.fun < best.fun:
            best = found
    values = np.exp(best.x)
    return Hyperparameters(values[:d], float(values[d]), float(values[d + 1]), mean), -float(best.fun)


def inverse_of(L: np.ndarray) -> np.ndarray:
    """Return (L Lᵀ)⁻¹ from the lower Cholesky factor."""
    half, info = dpotri(np.asfortranarray(L), lower=1)
    if info:
        raise np.linalg.LinAlgError(f"LAPACK's dpotri returned {info}")
    half = np.tril(half)
    result: np.ndarray = half + np.tril(half, -1).T
    return result
