"""Acquisitions against Monte Carlo and finite differences; their maximum against a dense grid."""

import itertools

import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import approx_fprime

from searchers.bayesopt.acquisition import (
    LogEI,
    LowerConfidenceBound,
    best_of,
    expected_improvement,
    log_expected_improvement,
    log_h,
    maximize,
    normals,
    replicate_radius,
    sobol,
)
from searchers.bayesopt.gp import GaussianProcess, Hyperparameters, kernel
from searchers.bayesopt.space import Choice, Integer, Real, Space


def process(d=2, n=8, seed=0, levels=None, lengthscale=0.3):
    rng = np.random.default_rng(seed)
    X = rng.random((n, d))
    levels = np.zeros(d, int) if levels is None else levels
    for j in np.flatnonzero(levels):
        X[:, j] = (rng.integers(levels[j], size=n) + 0.5) / levels[j]
    y = np.sin(5 * X[:, 0]) + X[:, -1]
    hyper = Hyperparameters(np.full(d, lengthscale), 1.0, 1e-2)
    return GaussianProcess(X, y - y.mean(), np.zeros(n), hyper, levels)


@settings(deadline=None, max_examples=30)
@given(mean=st.floats(-2, 2), std=st.floats(0.1, 3), best=st.floats(-2, 2))
def test_expected_improvement_is_its_monte_carlo_mean(mean, std, best):
    draws = mean + std * normals(2**14, 1, np.random.default_rng(0))[:, 0]
    expected = np.maximum(best - draws, 0.0).mean()
    assert expected_improvement(np.array(mean), np.array(std**2), best) == pytest.approx(
        expected, abs=2e-3 * std
    )


@pytest.mark.parametrize("z", [8.0, 0.5, 0.0, -0.5, -0.999, -1.001, -5, -30, -500, -999, -1001, -1e5, -1e8])
def test_log_h_is_exact_where_the_improvement_itself_underflows(z):
    mpmath.mp.dps = 60
    x = mpmath.mpf(z)
    if z > -40:
        exact = mpmath.log(mpmath.npdf(x) + x * mpmath.ncdf(x))
    else:  # φ(z)/z² (1 − 3/z² + 15/z⁴ …)
        exact = (
            -x * x / 2
            - mpmath.log(2 * mpmath.pi) / 2
            - 2 * mpmath.log(-x)
            + mpmath.log(1 - 3 / x**2 + 15 / x**4)
        )
    assert float(log_h(np.array(z))) == pytest.approx(float(exact), rel=1e-8, abs=1e-8)


def test_log_h_rises():
    z = np.concatenate([-np.logspace(6, -3, 400), np.linspace(0, 10, 100)])
    assert (np.diff(log_h(z)) > 0).all()


@pytest.mark.parametrize("pending", [0, 3])
def test_gradients_are_finite_differences(pending):
    gp = process(d=3)
    if pending:
        rng = np.random.default_rng(1)
        gp = gp.fantasize(rng.random((pending, 3)), normals(4, pending, rng))
    for acquisition in (LogEI(gp, best_of(gp, gp.X)), LowerConfidenceBound(gp)):
        for u in np.random.default_rng(2).random((5, 3)):
            value, gradient = acquisition.value_and_gradient(u)
            assert value == pytest.approx(acquisition.values(u[None])[0], rel=1e-9)
            expected = approx_fprime(u, lambda v, a=acquisition: a.values(v[None])[0], 1e-7)
            np.testing.assert_allclose(gradient, expected, rtol=1e-3, atol=1e-3)


def test_with_draws_it_is_the_mean_over_draws():
    gp = process().fantasize(np.array([[0.2, 0.7]]), normals(8, 1, np.random.default_rng(0)))
    best = best_of(gp, gp.X)
    U = np.random.default_rng(1).random((4, 2))
    mean, variance = gp.posterior(U)
    each = [np.exp(log_expected_improvement(mean[:, s], variance, best[s])) for s in range(8)]
    np.testing.assert_allclose(np.exp(LogEI(gp, best).values(U)), np.mean(each, axis=0), rtol=1e-9)


def test_waiting_trials_push_the_next_one_away():
    gp = process(n=4, seed=3)
    space = Space([Real("a", 0, 1), Real("b", 0, 1)])
    rng = np.random.default_rng(0)
    first = maximize(LogEI(gp, best_of(gp, gp.X)), space, gp.X, rng)
    fantasy = gp.fantasize(first[None], normals(16, 1, rng))
    X = np.vstack([gp.X, first])
    second = maximize(LogEI(fantasy, best_of(fantasy, X)), space, gp.X, rng, taken=X)
    assert np.abs(first - second).max() > 0.05


@settings(deadline=None, max_examples=12)
@given(seed=st.integers(0, 10**6))
def test_maximize_reaches_the_best_of_a_dense_grid(seed):
    gp = process(seed=seed)
    acquisition = LogEI(gp, best_of(gp, gp.X))
    line = np.linspace(0, 1, 101)
    best = acquisition.values(np.array(list(itertools.product(line, line)))).max()
    space = Space([Real("a", 0, 1), Real("b", 0, 1)])
    found = maximize(acquisition, space, gp.X, np.random.default_rng(seed))
    assert acquisition.values(found[None])[0] >= best - 1e-2


MIXED = Space([Real("a", 0, 1), Integer("b", 1, 40), Choice("c", ("x", "y", "z"))])


@settings(deadline=None, max_examples=12)
@given(seed=st.integers(0, 10**6))
def test_maximize_in_a_mixed_space_finds_the_best_combination(seed):
    gp = process(d=3, n=10, seed=seed, levels=np.array([0, 0, 3]))
    acquisition = LogEI(gp, best_of(gp, gp.X))
    grid = itertools.product(np.linspace(0, 1, 101), MIXED.grids[1], MIXED.grids[2])
    best = acquisition.values(np.array(list(grid))).max()
    found = maximize(acquisition, MIXED, gp.X, np.random.default_rng(seed))
    np.testing.assert_array_equal(MIXED.snap(found)[0], found)
    assert acquisition.values(found[None])[0] >= best - 1e-2


def test_what_is_taken_is_proposed_again_only_when_nothing_else_is_left():
    space = Space([Integer("a", 1, 4), Choice("b", ("x", "y", "z"))])
    every = np.array(list(itertools.product(*space.grids)))
    gp = process(levels=np.array([0, 3]))
    acquisition = LogEI(gp, best_of(gp, gp.X))
    taken = np.empty((0, 2))
    for _ in range(12):
        found = maximize(acquisition, space, gp.X, np.random.default_rng(0), taken=taken)
        assert not (np.abs(taken - found).max(axis=1) < 1e-9).any()
        taken = np.vstack([taken, found])
    again = maximize(acquisition, space, gp.X, np.random.default_rng(0), taken=taken)
    np.testing.assert_allclose(again, every[np.argmax(acquisition.values(every))])


def test_within_the_radius_f_differs_by_a_tenth_of_the_noise():
    space = Space([Real("a", 0, 1), Integer("b", 1, 5)])
    hyper = Hyperparameters(np.array([0.2, 0.2]), scale=2.0, noise=0.01)
    radius = replicate_radius(hyper, np.full(4, 0.03), space)
    r2 = np.array([(radius[0] / 0.2) ** 2])
    difference = 2 * 2.0 * (1 - kernel("matern", r2)[0][0])
    assert difference == pytest.approx((0.1**2) * 0.04, rel=0.1)
    assert radius[1] == 1e-6  # discrete values stay apart
    assert replicate_radius(Hyperparameters(np.array([9.0, 9.0]), noise=1.0), np.zeros(4), space)[0] == 0.02
    assert replicate_radius(Hyperparameters(np.array([0.2, 0.2]), noise=0.0), np.zeros(4), space)[0] == 1e-6


@pytest.mark.parametrize("m", [1, 3, 8, 100])
def test_sobol_points_fill_the_cube(m):
    U = sobol(m, 3, np.random.default_rng(0))
    assert U.shape == (m, 3) and (U >= 0).all() and (U < 1).all()
    if m == 8:
        assert all(sorted((U[:, j] * 8).astype(int)) == list(range(8)) for j in range(3))
