"""The Gaussian process of learning curves, against closed forms and finite differences."""

import json
import math

import numpy as np
import pytest
from scipy.stats import multivariate_normal

from searchers.bayesopt.curve_gp import (
    NEW,
    NOISE_RATE,
    CurveHyperparameters,
    CurveProcess,
    Rows,
    fit,
    negative_log_posterior,
    prior,
)
from searchers.bayesopt.gp import distances_by_dimension

HYPER = CurveHyperparameters(np.array([0.4, 0.7, 0.9]), 0.8, 0.5, 0.6, 0.4, 0.1, 0.02)
LEVELS = np.array([0, 0, 3])  # the last dimension is a category


def data(trials=8, seed=0):
    """Rows at three epochs of each trial: X, s, run, z, noise."""
    rng = np.random.default_rng(seed)
    points = rng.random((trials, 3))
    points[:, 2] = (np.floor(3 * points[:, 2]) + 0.5) / 3
    X, run = np.repeat(points, 3, axis=0), np.repeat(np.arange(trials), 3)
    s = np.tile([0.0, 0.5, 1.0], trials)
    return X, s, run, rng.standard_normal(3 * trials), 0.1 * rng.random(3 * trials)


def covariance(a, b, h=HYPER):
    """The model's covariance of two values (x, s, run), written out for one pair."""
    (x, s, i), (other, t, j) = a, b
    distance = sum(
        ((x[k] - other[k]) / h.lengthscales[k]) ** 2
        if LEVELS[k] == 0
        else (x[k] != other[k]) / h.lengthscales[k] ** 2
        for k in range(3)
    )
    r = math.sqrt(5 * distance)
    matern = (1 + r + r**2 / 3) * math.exp(-r)
    gap = (s - t) ** 2
    value = 1.0 + h.shared * math.exp(-gap / 0.5)
    value += (h.quality + h.change * math.exp(-gap / (2 * h.pace**2))) * matern
    return value + (h.luck * math.exp(-abs(s - t)) if i == j else 0.0)


def test_the_posterior_is_that_of_the_written_out_covariance():
    X, s, run, z, noise = data()
    rows = list(zip(X, s, run, strict=True))
    K = np.array([[covariance(a, b) for b in rows] for a in rows])
    K += np.diag(noise + HYPER.noise + 1e-8)
    process = CurveProcess(X, s, run, z, noise, HYPER, LEVELS)
    asked = [(np.array([0.2, 0.8, 0.5]), 1.0, NEW), (X[4], 1.0, 1), (X[4], 0.7, 1), (X[4], 1.0, NEW)]
    U, at, of = (np.array(column) for column in zip(*asked, strict=True))
    k = np.array([[covariance(a, b) for b in rows] for a in asked])
    mean, variance = process.of_runs(U, at, of)
    np.testing.assert_allclose(mean, k @ np.linalg.solve(K, z), atol=1e-8)
    expected = np.array([[covariance(a, b) for b in asked] for a in asked]) - k @ np.linalg.solve(K, k.T)
    np.testing.assert_allclose(variance, np.diag(expected), atol=1e-8)
    joint_mean, joint = process.covariance_of_runs(U, at, of)
    np.testing.assert_allclose(joint_mean, mean)
    np.testing.assert_allclose(joint, expected, atol=1e-8)


def test_a_new_run_shares_no_luck_with_the_ones_before():
    X, s, run, z, noise = data()
    process = CurveProcess(X, s, run, z, noise, HYPER, LEVELS)
    same = process.of_runs(X[:1], np.ones(1), run[:1])[1][0]
    other = process.of_runs(X[:1], np.ones(1), np.array([NEW]))[1][0]
    assert other > same + 0.5 * HYPER.luck
    mean, variance = process.posterior(X[:1])
    assert (mean[0], variance[0]) == pytest.approx(
        [v[0] for v in process.of_runs(X[:1], np.ones(1), np.array([NEW]))]
    )


def test_the_density_and_its_gradient():
    X, s, run, z, noise = data()
    rows = Rows(
        distances_by_dimension(X, LEVELS),
        np.abs(s[:, None] - s),
        (run[:, None] == run).astype(float),
        z,
        noise,
    )
    means, stds = prior(3)
    for seed in range(3):
        theta = means + 0.7 * np.random.default_rng(seed).standard_normal(9)
        h = CurveHyperparameters.from_theta(theta)
        pairs = list(zip(X, s, run, strict=True))
        K = np.array([[covariance(a, b, h) for b in pairs] for a in pairs]) + np.diag(noise + h.noise + 1e-8)
        likelihood = multivariate_normal(np.zeros(len(z)), K).logpdf(z) + 0.5 * len(z) * math.log(2 * math.pi)
        of_prior = -0.5 * np.sum(((theta - means) / stds) ** 2) - NOISE_RATE * h.noise
        value, gradient = negative_log_posterior(theta, rows)
        assert value == pytest.approx(-likelihood - of_prior, rel=1e-9)
        steps = 1e-5 * np.eye(9)
        numeric = [
            (negative_log_posterior(theta + e, rows)[0] - negative_log_posterior(theta - e, rows)[0]) / 2e-5
            for e in steps
        ]
        np.testing.assert_allclose(gradient, numeric, atol=1e-5, rtol=1e-5)


def test_the_gradient_in_x():
    X, s, run, z, noise = data()
    process = CurveProcess(X, s, run, z, noise, HYPER, LEVELS)
    process = process.believe(X[[3]] * 0.9, np.array([1]))
    u = np.array([0.3, 0.6, 0.5])
    mean, variance, mean_gradient, variance_gradient = process.gradient(u)
    expected_mean, expected_variance = process.posterior(u[None])
    np.testing.assert_allclose(mean, expected_mean[0])
    assert variance == pytest.approx(expected_variance[0])
    for j, e in enumerate(1e-5 * np.eye(3)[:2]):
        ahead, behind = process.posterior((u + e)[None]), process.posterior((u - e)[None])
        np.testing.assert_allclose(mean_gradient[j], (ahead[0] - behind[0])[0] / 2e-5, atol=1e-6)
        assert variance_gradient[j] == pytest.approx((ahead[1] - behind[1])[0] / 2e-5, abs=1e-6)
    assert not mean_gradient[2].any() and variance_gradient[2] == 0


def test_believed_finals_leave_all_means_and_narrow_the_variance():
    X, s, run, z, noise = data()
    process = CurveProcess(X, s, run, z, noise, HYPER, LEVELS)
    P, of = np.vstack([X[3], [0.9, 0.1, 0.5]]), np.array([1, 20])
    after = process.believe(P, of)
    U = np.vstack([P, np.random.default_rng(3).random((5, 3))])
    np.testing.assert_allclose(after.posterior(U)[0], process.posterior(U)[0], atol=1e-6)
    assert (after.posterior(U)[1] <= process.posterior(U)[1] + 1e-9).all()
    assert after.of_runs(P, np.ones(2), of)[1].max() < 1.1 * HYPER.noise


def test_fitting_finds_what_made_the_data():
    """Curves drawn from the model: its predictions of finals are better than the last values, and as sure as
    they say."""
    rng = np.random.default_rng(5)
    points, true = (
        rng.random((40, 2)),
        CurveHyperparameters(np.array([0.3, 2.0]), 1.0, 0.2, 0.4, 0.5, 0.02, 0.01),
    )
    s = np.tile([0.0, 0.4, 0.7, 1.0], 40)
    X, run = np.repeat(points, 4, axis=0), np.repeat(np.arange(40), 4)
    empty = CurveProcess(
        X[:1], np.array([9.0]), np.array([99]), np.zeros(1), np.array([1e6]), true, np.zeros(2, int)
    )
    _, K = empty.covariance_of_runs(X, s, run)
    z = np.linalg.cholesky(K + (true.noise + 1e-6) * np.eye(160)) @ rng.standard_normal(160)
    z = (z - z.mean()) / z.std()
    seen = (s < 0.5) | (run < 20)
    hyper = fit(X[seen], s[seen], run[seen], z[seen], np.zeros(seen.sum()), np.zeros(2, int))
    process = CurveProcess(
        X[seen], s[seen], run[seen], z[seen], np.zeros(seen.sum()), hyper, np.zeros(2, int)
    )
    late = (s == 1.0) & (run >= 20)
    mean, variance = process.of_runs(X[late], s[late], run[late])
    error, last = z[late] - mean, z[late] - z[(s == 0.4) & (run >= 20)]
    assert np.sqrt(np.mean(error**2)) < 0.6 * last.std()
    assert 0.5 < np.sqrt(np.mean(error**2 / (variance + hyper.noise))) < 1.6
    assert hyper.lengthscales[0] < hyper.lengthscales[1]


def test_hyperparameters_survive_json_and_logarithms_exactly():
    again = CurveHyperparameters.from_json(json.loads(json.dumps(HYPER.to_json())))
    assert again.to_json() == HYPER.to_json() and (again.lengthscales == HYPER.lengthscales).all()
    np.testing.assert_allclose(CurveHyperparameters.from_theta(HYPER.theta).theta, HYPER.theta)
