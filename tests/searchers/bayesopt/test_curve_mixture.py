"""The model of curves averaged over its hyperparameters: weights, moments, and what the average is worth."""

import numpy as np
import pytest
from scipy.stats import multivariate_normal, norm

from searchers.bayesopt.curve_gp import (
    CurveHyperparameters,
    CurveProcess,
    Rows,
    covariance,
    fit,
    negative_log_posterior,
    prior,
)
from searchers.bayesopt.curve_mixture import CurveMixture, draw_hyperparameters
from searchers.bayesopt.gp import distances_by_dimension, kernel

LEVELS = np.zeros(1, dtype=int)
EPOCHS = np.array([0.0, 0.5, 1.0])


def drawn(seed, trials=9, hyper=None):
    """A history of trials, six of them stopped at once, drawn from the model; and all their final values."""
    rng = np.random.default_rng(seed)
    means, stds = prior(1)
    hyper = hyper or CurveHyperparameters.from_theta(means + 0.7 * stds * rng.standard_normal(len(means)))
    X, run = np.repeat(rng.random((trials, 1)), 3, axis=0), np.repeat(np.arange(trials), 3)
    s = np.tile(EPOCHS, trials)
    matern = kernel("matern", distances_by_dimension(X / hyper.lengthscales, LEVELS)[0])[0]
    K = covariance(matern, s, run, s, run, hyper) + hyper.noise * np.eye(len(s))
    z = np.linalg.cholesky(K + 1e-8 * np.eye(len(s))) @ rng.standard_normal(len(s))
    z = (z - z.mean()) / z.std()
    seen = (run < 3) | (s == 0)
    return X, s, run, z, seen


def conditioned(seed, **options):
    X, s, run, z, seen = drawn(seed, **options)
    rows = (X[seen], s[seen], run[seen], z[seen], np.zeros(seen.sum()))
    hyper = fit(*rows, LEVELS, max_iterations=100)
    return CurveProcess(*rows, hyper, LEVELS), Rows.of(*rows, LEVELS), (X, s, run, z, seen)


def test_weights_are_the_density_over_that_of_the_gaussian_they_were_drawn_from():
    process, rows, _ = conditioned(1)
    hypers, weights = draw_hyperparameters(process.hyper, rows, draws=12)
    center, step = process.hyper.theta, 1e-3
    n = len(center)
    moves = step * np.eye(n)

    def value(theta):
        return negative_log_posterior(theta, rows)[0]

    curvature = np.array(
        [
            [value(center + a + b) - value(center + a - b) - value(center - a + b) + value(center - a - b)]
            for a in moves
            for b in moves
        ]
    ).reshape(n, n) / (4 * step**2)
    values, directions = np.linalg.eigh(curvature)
    spread = (directions / np.maximum(values, 1 / prior(1)[1].max() ** 2)) @ directions.T
    gaussian = multivariate_normal(center, spread)
    expected = np.exp([-value(h.theta) - gaussian.logpdf(h.theta) for h in hypers])
    np.testing.assert_allclose(weights, expected / expected.sum(), rtol=0.02)
    assert hypers[0].theta == pytest.approx(center)


def test_moments_are_those_of_a_mixture():
    process, rows, (X, s, run, _, _) = conditioned(2)
    mixture = CurveMixture(process, rows)
    U, ends, runs = X[s == 1], np.ones(9), run[s == 1]
    rng = np.random.default_rng(0)
    which = rng.choice(len(mixture.weights), 40_000, p=mixture.weights)
    means, variances = zip(*(p.of_runs(U, ends, runs) for p in mixture.processes), strict=True)
    sampled = np.array(means)[which] + np.sqrt(variances)[which] * rng.standard_normal((len(which), 9))
    mean, variance = mixture.of_runs(U, ends, runs)
    assert np.abs(mean - sampled.mean(0)).max() < 5 * sampled.std(0).max() / np.sqrt(len(which))
    np.testing.assert_allclose(variance, sampled.var(0), rtol=0.1)
    joint_mean, joint = mixture.covariance_of_runs(U, ends, runs)
    np.testing.assert_allclose(joint_mean, mean)
    np.testing.assert_allclose(np.diag(joint), variance, rtol=1e-6)
    new = [p.posterior(U) for p in mixture.processes]
    np.testing.assert_allclose(mixture.posterior(U)[0], mixture.weights @ [m for m, _ in new])
    lucks = [p.hyper.luck for p in mixture.processes]
    assert mixture.hyper.luck == pytest.approx(mixture.weights @ lucks)


def test_final_values_are_foretold_with_more_honest_bands_than_by_one_set_of_hyperparameters():
    gains, standardized = [], []
    for seed in range(14):
        process, rows, (X, s, run, z, seen) = conditioned(seed)
        asked = (s == 1) & ~seen
        mixture = CurveMixture(process, rows)
        of_one, of_all = (
            norm(m, np.sqrt(v + p.hyper.noise))
            for p in (process, mixture)
            for m, v in [p.of_runs(X[asked], s[asked], run[asked])]
        )
        gains.append(np.mean(of_all.logpdf(z[asked]) - of_one.logpdf(z[asked])))
        standardized += [*zip(of_one.cdf(z[asked]), of_all.cdf(z[asked]), strict=True)]
    outside = np.mean(np.abs(np.array(standardized) - 0.5) > 0.477, axis=0)  # two standard deviations
    assert np.mean(gains) > 0
    assert outside[1] < outside[0]
