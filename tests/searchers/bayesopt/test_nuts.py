"""The GP with sampled hyperparameters: its moments and gradient, NUTS against importance sampling."""

import sys

import numpy as np
import pytest

from searchers.bayesopt.gp import GaussianProcess, Hyperparameters, Prior, negative_log_posterior
from searchers.bayesopt.nuts import MissingPyroError, SampledGaussianProcess, sample_hyperparameters

LEVELS = np.zeros(2, dtype=int)


def data(n=9, d=2, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.random((n, d))
    y = np.sin(5 * X[:, 0]) + 0.1 * rng.normal(size=n)
    return X, (y - y.mean()) / y.std(), np.zeros(n)


def mixture(fantasies=0):
    X, y, noise = data()
    hypers = [Hyperparameters(np.array(w), s, 1e-3) for w, s in (((0.3, 2.0), 1.0), ((0.9, 0.4), 3.0))]
    mixed = SampledGaussianProcess([GaussianProcess(X, y, noise, h, LEVELS) for h in hypers])
    if fantasies:
        normals = np.random.default_rng(1).normal(size=(fantasies, 2))
        mixed = mixed.fantasize(np.array([[0.2, 0.8], [0.6, 0.1]]), normals)
    return mixed


def test_moments_are_those_of_draws_from_the_members():
    mixed, U = mixture(), np.random.default_rng(3).random((4, 2))
    rng = np.random.default_rng(4)
    drawn = np.concatenate(
        [rng.normal(m, np.sqrt(v), (200_000, 4)) for m, v in (gp.posterior(U) for gp in mixed.members)]
    )
    mean, variance = mixed.posterior(U)
    np.testing.assert_allclose(mean, drawn.mean(0), atol=0.01)
    np.testing.assert_allclose(variance, drawn.var(0), rtol=0.02)
    assert np.all(variance > np.mean([gp.posterior(U)[1] for gp in mixed.members], axis=0))


def test_fantasies_are_the_members_own():
    mixed, U = mixture(fantasies=3), np.random.default_rng(3).random((4, 2))
    mean, variance = mixed.posterior(U)
    assert mean.shape == (4, 3)
    assert variance.shape == (4,)
    one, two = (gp.posterior(U) for gp in mixed.members)
    np.testing.assert_allclose(mean, (one[0] + two[0]) / 2)
    # Two equal members differ by half their distance from the mean of both.
    between = ((one[0] - two[0]) / 2) ** 2
    np.testing.assert_allclose(variance, (one[1] + two[1]) / 2 + between.mean(1))


@pytest.mark.parametrize("fantasies", [0, 3])
def test_gradient_is_the_posteriors(fantasies):
    mixed, u, step = mixture(fantasies), np.array([0.37, 0.52]), 1e-5
    mean, variance, mean_gradient, variance_gradient = mixed.gradient(u)
    np.testing.assert_allclose(mean, np.ravel(mixed.posterior(u[None])[0]))
    np.testing.assert_allclose(variance, mixed.posterior(u[None])[1][0])
    for j in range(2):
        move = np.eye(2)[j] * step
        (above, wide), (below, narrow) = (mixed.posterior((u + s * move)[None]) for s in (1, -1))
        np.testing.assert_allclose(mean_gradient[j], np.ravel(above - below) / (2 * step), atol=1e-6)
        np.testing.assert_allclose(variance_gradient[j], (wide - narrow)[0] / (2 * step), atol=1e-6)


def test_draws_follow_the_posterior():
    """Moments of log θ against self-normalized importance sampling from the prior."""
    pytest.importorskip("pyro", reason="Pyro is an extra: pip install '.[pyro]'")
    X, y, noise = data(n=8, d=1)
    levels, prior = np.zeros(1, dtype=int), Prior()
    chain = sample_hyperparameters(X, y, noise, levels, samples=600, warmup=100, draws=600, seed=1)
    drawn = np.log([[h.lengthscales[0], h.scale, h.noise] for h in chain])
    means, stds = prior.parameters(1)
    theta = np.random.default_rng(0).normal(means, stds, (20_000, 3))
    D = (X.T[:, :, None] - X.T[:, None, :]) ** 2
    log_prior = -0.5 * (((theta - means) / stds) ** 2).sum(1)
    log_weights = np.array([-negative_log_posterior(t, D, y, noise, prior)[0] for t in theta]) - log_prior
    weights = np.exp(log_weights - log_weights.max())
    weights /= weights.sum()
    assert 1 / np.square(weights).sum() > 300  # draws that the reference is worth
    expected = weights @ theta
    spread = np.sqrt(weights @ (theta - expected) ** 2)
    np.testing.assert_allclose(drawn.mean(0), expected, atol=0.25)
    np.testing.assert_allclose(drawn.std(0), spread, rtol=0.3)
    assert abs(expected - means).max() > 0.5  # the data did move the posterior


def test_equal_seeds_give_equal_draws_and_leave_the_process_alone():
    torch = pytest.importorskip("torch")
    pytest.importorskip("pyro", reason="Pyro is an extra: pip install '.[pyro]'")
    X, y, noise = data()
    before = torch.get_rng_state()
    one, two = (sample_hyperparameters(X, y, noise, LEVELS, seed=3) for _ in range(2))
    assert torch.equal(before, torch.get_rng_state())
    assert [hyper.to_json() for hyper in one] == [hyper.to_json() for hyper in two]
    assert len({hyper.lengthscales[0] for hyper in one}) > 8


def test_without_pyro_a_sentence_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "pyro.infer", None)
    with pytest.raises(MissingPyroError, match=r"pip install '\.\[pyro\]'"):
        sample_hyperparameters(*data(), LEVELS)
