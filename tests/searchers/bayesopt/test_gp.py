"""The Gaussian process against scikit-learn's, against finite differences and against its definitions."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import approx_fprime
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, ConstantKernel, Matern, WhiteKernel

from searchers.bayesopt.gp import (
    JITTER,
    GaussianProcess,
    Hyperparameters,
    Prior,
    fit,
    negative_log_posterior,
    squared_distances,
)


def rows(n=12, d=3, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.random((n, d))
    y = np.sin(4 * X[:, 0]) + X.sum(1) ** 2 / 4 + 0.1 * rng.standard_normal(n)
    return X, y - y.mean(), rng.uniform(0.0, 0.2, n) ** 2


HYPER = Hyperparameters(np.array([0.3, 0.8, 2.0]), scale=1.7, noise=0.02)


def reference(X, y, noise, hyper=HYPER, kind="matern"):
    """scikit-learn's regressor with the same fixed kernel; its own noise is in alpha, ours in hyper.noise."""
    shape = RBF(hyper.lengthscales) if kind == "rbf" else Matern(hyper.lengthscales, nu=2.5)
    kernel = ConstantKernel(hyper.scale) * shape + ConstantKernel(max(hyper.mean, 1e-300))
    alpha = noise + hyper.noise + JITTER * hyper.scale
    return GaussianProcessRegressor(kernel, alpha=alpha, optimizer=None).fit(X, y)


def squared_by_dimension(X):
    return (X.T[:, :, None] - X.T[:, None, :]) ** 2


@pytest.mark.parametrize("kind", ["matern", "rbf"])
@pytest.mark.parametrize("mean", [0.0, 2.5])
def test_posterior_is_scikit_learns(kind, mean):
    X, y, noise = rows()
    hyper = Hyperparameters(HYPER.lengthscales, HYPER.scale, HYPER.noise, mean)
    gp = GaussianProcess(X, y, noise, hyper, np.zeros(3, int), kind)
    U = np.random.default_rng(1).random((20, 3))
    expected_mean, expected_cov = reference(X, y, noise, hyper, kind).predict(U, return_cov=True)
    mean, variance = gp.posterior(U)
    joint_mean, covariance = gp.covariance(U)
    np.testing.assert_allclose(mean, expected_mean, rtol=1e-7, atol=1e-8)
    np.testing.assert_allclose(joint_mean, expected_mean, rtol=1e-7, atol=1e-8)
    np.testing.assert_allclose(covariance, expected_cov, atol=1e-7)
    np.testing.assert_allclose(variance, np.diag(expected_cov), atol=1e-7)


@pytest.mark.parametrize("kind", ["matern", "rbf"])
def test_marginal_likelihood_and_its_gradient_are_scikit_learns(kind):
    X, y, noise = rows()
    shape = RBF(HYPER.lengthscales) if kind == "rbf" else Matern(HYPER.lengthscales, nu=2.5)
    kernel = ConstantKernel(HYPER.scale) * shape + WhiteKernel(HYPER.noise)
    regressor = GaussianProcessRegressor(kernel, alpha=noise + JITTER * HYPER.scale, optimizer=None).fit(X, y)
    # scikit-learn's order: log of (scale, lengthscales, noise); ours: (lengthscales, scale, noise)
    likelihood, slope = regressor.log_marginal_likelihood(kernel.theta, eval_gradient=True)
    theta = np.log([*HYPER.lengthscales, HYPER.scale, HYPER.noise])
    flat = Prior((0.0, 1e9), (0.0, 1e9), (0.0, 1e9), 0.0)
    value, gradient = negative_log_posterior(theta, squared_by_dimension(X), y, noise, flat, kind)
    assert -value == pytest.approx(likelihood, rel=1e-9)
    np.testing.assert_allclose(-gradient, slope[[1, 2, 3, 0, 4]], rtol=1e-5, atol=1e-6)


@settings(deadline=None, max_examples=25)
@given(
    seed=st.integers(0, 10**6),
    d=st.integers(1, 4),
    n=st.integers(1, 9),
    kind=st.sampled_from(["matern", "rbf"]),
)
def test_gradient_of_the_log_posterior_is_the_finite_difference(seed, d, n, kind):
    rng = np.random.default_rng(seed)
    X, y = rng.random((n, d)), rng.standard_normal(n)
    D, noise = squared_by_dimension(X), rng.uniform(0, 0.1, n)
    theta = rng.normal([0.0] * (d + 1) + [-3.0], 0.5)

    def value(t):
        return negative_log_posterior(t, D, y, noise, Prior(), kind, mean=0.3)[0]

    gradient = negative_log_posterior(theta, D, y, noise, Prior(), kind, mean=0.3)[1]
    np.testing.assert_allclose(gradient, approx_fprime(theta, value, 1e-6), rtol=1e-3, atol=1e-4)


def test_prior_is_log_normal_with_an_exponential_tail_of_the_noise():
    X, y, noise = rows()
    D = squared_by_dimension(X)
    theta = np.log([*HYPER.lengthscales, HYPER.scale, HYPER.noise])
    flat = Prior((0.0, 1e9), (0.0, 1e9), (0.0, 1e9), 0.0)
    only_prior = (
        negative_log_posterior(theta, D, y, noise, Prior())[0]
        - negative_log_posterior(theta, D, y, noise, flat)[0]
    )
    z = [math.log(w) - (-0.9 + math.log(3) / 2) for w in HYPER.lengthscales]
    z += [math.log(HYPER.scale), (math.log(HYPER.noise) + 9) / 3.5]
    assert only_prior == pytest.approx(0.5 * sum(v * v for v in z) + 30 * HYPER.noise, rel=1e-9)


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 10**6), kind=st.sampled_from(["matern", "rbf"]))
def test_posterior_gradient_is_the_finite_difference(seed, kind):
    rng = np.random.default_rng(seed)
    X = rng.random((8, 3))
    X[:, 1] = (rng.integers(3, size=8) + 0.5) / 3
    levels = np.array([0, 3, 0])
    gp = GaussianProcess(X, rng.standard_normal((8, 2)), np.zeros(8), HYPER, levels, kind)
    u = np.array([rng.random(), 0.5, rng.random()])
    mean, variance, mean_gradient, variance_gradient = gp.gradient(u)
    expected_mean, expected_variance = gp.posterior(u[None])
    np.testing.assert_allclose(mean, expected_mean[0])
    assert variance == pytest.approx(expected_variance[0])
    for s in range(2):
        expected = approx_fprime(u, lambda v, s=s: gp.posterior(v[None])[0][0, s], 1e-7)
        np.testing.assert_allclose(mean_gradient[:, s], expected, atol=2e-5)
    expected = approx_fprime(u, lambda v: gp.posterior(v[None])[1][0], 1e-7)
    np.testing.assert_allclose(variance_gradient, expected, atol=2e-5)
    assert not mean_gradient[1].any() and variance_gradient[1] == 0


def test_categories_are_equally_far_apart():
    X = np.array([[0.3, (i + 0.5) / 4] for i in range(4)])
    hyper = Hyperparameters(np.array([0.5, 0.7]), noise=0.0)
    gp = GaussianProcess(X, np.zeros(4), np.full(4, 0.1), hyper, np.array([0, 4]))
    K = gp.L @ gp.L.T - 0.1 * np.eye(4) - JITTER * np.eye(4)
    r = 1 / 0.7
    expected = (1 + math.sqrt(5) * r + 5 / 3 * r**2) * math.exp(-math.sqrt(5) * r)
    np.testing.assert_allclose(K, expected + (1 - expected) * np.eye(4), atol=1e-12)


def test_fantasies_are_joint_draws_that_leave_the_mean_as_it_is():
    X, y, noise = rows()
    gp = GaussianProcess(X, y, noise, HYPER, np.zeros(3, int))
    rng = np.random.default_rng(2)
    P, U = rng.random((3, 3)), rng.random((10, 3))
    z = rng.standard_normal((4000, 3))
    drawn = gp.fantasize(P, z)
    values = drawn.y[len(y) :]
    _, joint = reference(X, y, noise).predict(P, return_cov=True)
    np.testing.assert_allclose(np.cov(values), joint + HYPER.noise * np.eye(3), atol=0.06)
    mean, variance = drawn.posterior(U)
    assert mean.shape == (10, 4000)
    # E[E[f | pending]] = E[f]; each draw is what a GP with that value as a row says.
    np.testing.assert_allclose(mean.mean(1), gp.posterior(U)[0], atol=0.03)
    one = reference(
        np.vstack([X, P]), np.concatenate([y, values[:, 7]]), np.concatenate([noise, np.zeros(3)])
    )
    expected_mean, expected_std = one.predict(U, return_std=True)
    np.testing.assert_allclose(mean[:, 7], expected_mean, atol=1e-6)
    np.testing.assert_allclose(variance, expected_std**2, atol=1e-6)
    assert (variance <= gp.posterior(U)[1] + 1e-9).all()


def test_draws_of_f_are_its_posterior_and_are_held_without_noise():
    X, y, noise = rows()
    gp = GaussianProcess(X, y, noise, HYPER, np.zeros(3, int))
    points = np.random.default_rng(2).random((4, 3))
    drawn = gp.draw(points, np.random.default_rng(3).standard_normal((4000, 4)))
    mean, covariance = reference(X, y, noise).predict(points, return_cov=True)
    np.testing.assert_allclose(drawn.y.mean(1), mean, atol=0.05)
    np.testing.assert_allclose(np.cov(drawn.y), covariance, atol=0.05)
    held, variance = drawn.posterior(points)
    np.testing.assert_allclose(held, drawn.y, atol=1e-3)
    assert (variance < 1e-5).all()


def test_fit_learns_the_noise_and_which_dimension_matters():
    rng = np.random.default_rng(0)
    X = rng.random((120, 2))
    y = np.sin(6 * X[:, 0]) + 0.3 * rng.standard_normal(120)
    y = (y - y.mean()) / y.std()
    hyper, _ = fit(X, y, np.zeros(120), np.zeros(2, int))
    assert math.sqrt(hyper.noise) * np.std(np.sin(6 * X[:, 0])) == pytest.approx(0.3, rel=0.35)
    assert hyper.lengthscales[1] > 3 * hyper.lengthscales[0]


def test_fit_with_measured_noise_learns_only_the_rest():
    rng = np.random.default_rng(0)
    X = rng.random((120, 1))
    y = np.sin(6 * X[:, 0]) + 0.5 * rng.standard_normal(120)
    hyper, _ = fit(X, y, np.full(120, 0.25), np.zeros(1, int))
    assert hyper.noise < 0.05


def test_fit_is_a_maximum_that_no_other_start_exceeds():
    X, y, noise = rows(n=15)
    y = y / y.std()
    D = squared_by_dimension(X)
    hyper, density = fit(X, y, noise, np.zeros(3, int), max_iterations=200)
    theta = np.log([*hyper.lengthscales, hyper.scale, hyper.noise])
    value, gradient = negative_log_posterior(theta, D, y, noise, Prior())
    assert -value == pytest.approx(density)
    assert np.abs(gradient).max() < 0.05
    rng = np.random.default_rng(0)
    others = [
        negative_log_posterior(theta + rng.normal(0, s, 5), D, y, noise, Prior())[0]
        for s in (0.1, 0.5, 1)
        for _ in range(30)
    ]
    assert value <= min(others) + 1e-3


def test_one_row_and_equal_rows_are_no_problem():
    X = np.full((6, 2), 0.5)
    hyper, _ = fit(X, np.zeros(6), np.zeros(6), np.zeros(2, int))
    gp = GaussianProcess(X, np.zeros(6), np.zeros(6), hyper, np.zeros(2, int))
    mean, variance = gp.posterior(np.random.default_rng(0).random((5, 2)))
    assert np.isfinite(mean).all() and (variance > 0).all()


def test_hyperparameters_survive_json_exactly():
    import json

    again = Hyperparameters.from_json(json.loads(json.dumps(HYPER.to_json())))
    assert again.to_json() == HYPER.to_json()


def test_squared_distances():
    A, B = np.random.default_rng(0).random((4, 3)), np.random.default_rng(1).random((5, 3))
    np.testing.assert_allclose(squared_distances(A, B), ((A[:, None] - B[None]) ** 2).sum(2), atol=1e-12)
