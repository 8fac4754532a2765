"""The model of `curve_gp.py` averaged over its hyperparameters: what people are told, with honest bands.

One set of hyperparameters, the likeliest, is right where a search needs the order of candidates in
milliseconds. Its bands are too narrow: a short history leaves open how much trainings differ. Here sets are
drawn from a Gaussian approximation of their posterior density (MacKay 1992, "A Practical Bayesian Framework
for Backpropagation Networks", sec. 2) and weighted by the density itself.
"""

from dataclasses import replace

import numpy as np

from searchers.bayesopt.curve_gp import (
    CurveHyperparameters,
    CurveProcess,
    Rows,
    negative_log_posterior,
    prior,
)

DRAWS = 24
STEP = 1e-3  # of the differences that give the density's curvature


def draw_hyperparameters(
    hyper: CurveHyperparameters, rows: Rows, draws: int = DRAWS
) -> tuple[list[CurveHyperparameters], np.ndarray]:
    """Return `draws` sets of hyperparameters, the first `hyper`, and their weights, which sum to 1.

    `hyper` should be near the density's highest point. No direction is drawn wider than the widest prior.
    """
    theta, rng = hyper.theta, np.random.default_rng(0)
    n = len(theta)
    steps = STEP * np.eye(n)
    slopes = [
        negative_log_posterior(theta + step, rows)[1] - negative_log_posterior(theta - step, rows)[1]
        for step in steps
    ]
    curvature = np.array(slopes) / (2 * STEP)
    values, directions = np.linalg.eigh(0.5 * (curvature + curvature.T))
    values = np.maximum(values, 1 / np.square(prior(n)[1]).max())
    normal = np.vstack([np.zeros(n), rng.standard_normal((draws - 1, n))])
    thetas = theta + (normal / np.sqrt(values)) @ directions.T
    density = np.array([-negative_log_posterior(t, rows)[0] for t in thetas])
    log_weights = density + 0.5 * np.square(normal).sum(1)
    weights = np.exp(log_weights - log_weights.max())
    return [CurveHyperparameters.from_theta(t) for t in thetas], weights / weights.sum()


class CurveMixture:
    """Curve processes of the same rows with other hyperparameters; `weights` (k,) sum to 1.

    Means and variances are those of the mixture. `hyper` is the likeliest set, with the luck and the noise of
    the mixture's mean.
    """

    def __init__(self, process: CurveProcess, rows: Rows):
        hypers, self.weights = draw_hyperparameters(process.hyper, rows)
        p = process
        self.processes = [
            process, *(CurveProcess(p.X, p.s, p.run, p.y, p.noise, h, p.levels) for h in hypers[1:])
        ]  # fmt: skip
        luck, noise = (self.weights @ [getattr(h, name) for h in hypers] for name in ("luck", "noise"))
        self.hyper = replace(process.hyper, luck=float(luck), noise=float(noise))
        self.noise = process.noise

    def of_runs(self, U: np.ndarray, s: np.ndarray, run: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return mean and variance, (m,) each, of these runs' values at s, with their luck."""
        return self._moments([p.of_runs(U, s, run) for p in self.processes])

    def posterior(self, U: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return mean and variance, (m,) each, of a new run's final value at U, with its luck."""
        return self._moments([p.posterior(U) for p in self.processes])

    def covariance_of_runs(
        self, U: np.ndarray, s: np.ndarray, run: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the joint mean (m,) and covariance (m, m) of these runs' values at s, without ε."""
        parts = [p.covariance_of_runs(U, s, run) for p in self.processes]
        mean = self.weights @ np.array([m for m, _ in parts])
        return mean, sum(
            w * (C + np.outer(m - mean, m - mean)) for w, (m, C) in zip(self.weights, parts, strict=True)
        )

    def _moments(self, parts: list[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
        means, variances = (np.array(part) for part in zip(*parts, strict=True))
        mean = self.weights @ means
        return mean, self.weights @ (variances + np.square(means - mean))
