"""Probabilistic PCA and the Gaussian mixture against direct evaluations of their densities."""

import gzip
import math
from dataclasses import asdict

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import logsumexp
from scipy.stats import multivariate_normal

from tests.fixtures.real_data import REAL
from trainables.models.densities import PPCA, GaussianMixture, GaussianMixtureConfig, PPCAConfig, images, rows
from trainables.models.storage import load_model, save_model

MNIST = REAL / "mnist"
SHAPE = (3, 2, 2)
IMAGE = {"image_size": 2, "channels": 3}
D = math.prod(SHAPE)


def sample_images(n=200, seed=0):
    """Return images whose pixels vary together in three directions."""
    rng = np.random.default_rng(seed)
    X = 0.5 + rng.normal(size=(n, 3)) @ rng.normal(size=(3, D)) * 0.1 + rng.normal(size=(n, D)) * 0.02
    return images(X, SHAPE)


def fitted(model_class, config, x, **options):
    model = model_class(config, **options)
    model.fit(x)
    return model


def ppca_by_hand(X, q):
    """Return μ and C = WWᵀ + σ²I of highest likelihood (Tipping & Bishop 1999, eqs. 7 and 8), by NumPy."""
    mean = X.mean(0)
    variances, axes = np.linalg.eigh(np.cov(X.T))
    noise = variances[:-q].mean()
    W = axes[:, -q:] * np.sqrt(variances[-q:] - noise)
    return mean, W, noise


@given(q=st.integers(1, D - 1), seed=st.integers(0, 5))
@settings(max_examples=15, deadline=None)
def test_ppca_is_the_density_and_the_posterior_mean_of_the_paper(q, seed):
    x, held_out = sample_images(seed=seed), sample_images(20, seed=seed + 100)
    model = fitted(PPCA, PPCAConfig(**IMAGE, latent_dim=q), x)
    mean, W, noise = ppca_by_hand(rows(x), q)
    X = rows(held_out)
    density = multivariate_normal(mean, W @ W.T + noise * np.eye(D))
    np.testing.assert_allclose(model.log_likelihood(held_out), density.logpdf(X), rtol=1e-8)
    posterior = np.linalg.solve(W.T @ W + noise * np.eye(q), W.T @ (X - mean).T).T
    np.testing.assert_allclose(rows(model.reconstruct(held_out)), posterior @ W.T + mean, atol=1e-10)
    np.testing.assert_allclose(model.encode(held_out).abs(), np.abs(posterior)[:, ::-1], atol=1e-8)


def test_ppca_samples_have_the_models_mean_and_signal():
    model = fitted(PPCA, PPCAConfig(**IMAGE, latent_dim=2), sample_images())
    mean, W, _ = ppca_by_hand(rows(sample_images()), 2)
    X = rows(model.sample(40_000, torch.Generator().manual_seed(0)))
    np.testing.assert_allclose(X.mean(0), mean, atol=0.01)
    np.testing.assert_allclose(np.cov(X.T), W @ W.T, atol=0.002)


def mixture_by_hand(model, X):
    """Return log Σ wₖ N(x | μₖ, Σₖ) with each Σₖ written out over the pixels."""
    k = model.config.subspace or D
    each = []
    for weight, mean, covariance in zip(
        model.estimator.weights_, model.estimator.means_, model.estimator.covariances_, strict=True
    ):
        block = np.diag(np.concatenate([np.zeros(k), model.rest]))
        block[:k, :k] = np.diag(covariance) if covariance.ndim == 1 else covariance
        centre = model.mean + model.axes[:, :k] @ mean
        density = multivariate_normal(centre, model.axes @ block @ model.axes.T)
        each.append(math.log(weight) + density.logpdf(X))
    return logsumexp(each, axis=0)


@pytest.mark.parametrize("covariance", ["full", "diag"])
@pytest.mark.parametrize("subspace", [None, 4, D])
def test_the_mixture_is_its_density(covariance, subspace):
    x = torch.cat([sample_images(seed=1), sample_images(seed=2)])
    config = GaussianMixtureConfig(**IMAGE, components=3, covariance=covariance, subspace=subspace)
    model = fitted(GaussianMixture, config, x)
    held_out = sample_images(30, seed=1)
    assert np.allclose(model.axes.T @ model.axes, np.eye(D))
    np.testing.assert_allclose(
        model.log_likelihood(held_out), mixture_by_hand(model, rows(held_out)), rtol=1e-7
    )


def test_one_component_is_the_gaussian_of_highest_likelihood_with_its_floor():
    x = sample_images()
    floor = 0.5
    config = GaussianMixtureConfig(**IMAGE, components=1, subspace=None, variance_floor=floor)
    model = fitted(GaussianMixture, config, x)
    X = rows(x)
    covariance = np.cov(X.T, bias=True) + floor / 255**2 * np.eye(D)
    density = multivariate_normal(X.mean(0), covariance)
    np.testing.assert_allclose(model.log_likelihood(x), density.logpdf(X), rtol=1e-6)
    # One Gaussian has the same density in every subspace, since the axes are the principal ones.
    narrow = fitted(
        GaussianMixture, GaussianMixtureConfig(**IMAGE, components=1, subspace=3, variance_floor=floor), x
    )
    np.testing.assert_allclose(narrow.log_likelihood(x), density.logpdf(X), rtol=1e-6)


def test_a_pixel_that_never_changes_has_the_grey_levels_own_density():
    """It is N(0 | 0, 1/12) on the scale of levels, where a Gaussian without variance would be infinite."""
    x = sample_images()
    dead = x.clone()
    dead[:, 0] = -1.0
    config = GaussianMixtureConfig(image_size=2, channels=2, components=1, subspace=None)
    alive = fitted(GaussianMixture, config, x[:, 1:]).log_likelihood(x[:, 1:])
    config = GaussianMixtureConfig(**IMAGE, components=1, subspace=None)
    whole = fitted(GaussianMixture, config, dead).log_likelihood(dead)
    each = -0.5 * math.log(2 * math.pi / 12) + math.log(255)
    np.testing.assert_allclose(whole - alive, 4 * each, rtol=1e-6)


def test_a_mixture_of_two_far_clusters_reconstructs_each_by_its_own_mean():
    low, high = sample_images(seed=1) * 0.1 - 0.8, sample_images(seed=2) * 0.1 + 0.8
    model = fitted(
        GaussianMixture, GaussianMixtureConfig(**IMAGE, components=2, subspace=4), torch.cat([low, high])
    )
    assert model.responsibilities(low).argmax(1).unique().numel() == 1
    np.testing.assert_allclose(model.reconstruct(low)[0], low.mean(0), atol=0.01)
    np.testing.assert_allclose(model.means().sort(0).values[1], high.mean(0), atol=0.02)
    drawn = model.sample(400, torch.Generator().manual_seed(1))
    assert drawn.shape == (400, *SHAPE)
    assert 0.3 < (drawn.mean((1, 2, 3)) > 0).double().mean() < 0.7
    assert torch.equal(drawn, model.sample(400, torch.Generator().manual_seed(1)))


@pytest.mark.parametrize(
    ("model_class", "config"),
    [
        (PPCA, PPCAConfig(**IMAGE, latent_dim=3)),
        (GaussianMixture, GaussianMixtureConfig(**IMAGE, components=2, subspace=5)),
    ],
)
def test_restores_what_was_fitted(tmp_path, model_class, config):
    x = sample_images()
    model = fitted(model_class, config, x)
    save_model(tmp_path, model_class, asdict(config), model.training_state()["networks"])
    restored = load_model(tmp_path)
    assert type(restored) is model_class
    assert restored.config == config
    # They agree only to rounding, since the arrays come back in another order in memory.
    torch.testing.assert_close(restored.log_likelihood(x), model.log_likelihood(x))
    torch.testing.assert_close(restored.reconstruct(x), model.reconstruct(x))


def test_settings_that_cannot_be():
    x = sample_images(20)
    with pytest.raises(ValueError, match="latent_dim is 12; 20 images of 12 pixels allow 1 … 11"):
        PPCA(PPCAConfig(**IMAGE, latent_dim=12)).fit(x)
    with pytest.raises(ValueError, match="components is 21; 20 images allow 1 … 20"):
        GaussianMixture(GaussianMixtureConfig(**IMAGE, components=21)).fit(x)
    with pytest.raises(ValueError, match="subspace is 13; images of 12 pixels"):
        GaussianMixture(GaussianMixtureConfig(**IMAGE, components=2, subspace=13)).fit(x)
    with pytest.raises(ValueError, match="covariance is 'round'"):
        GaussianMixture(GaussianMixtureConfig(covariance="round"))


@pytest.mark.skipif(not MNIST.exists(), reason=f"MNIST is not at {MNIST}")
def test_ppca_on_mnist_is_the_papers_row():
    """The −4329.66 of [PML] is 0.33 nats above the exact fit, and its MSE, 3629.25, is of drawn latents."""

    def read(name):
        with gzip.open(MNIST / f"{name}-images-idx3-ubyte.gz") as file:
            levels = np.frombuffer(file.read(), np.uint8, offset=16)
        return torch.from_numpy(levels.reshape(-1, 1, 28, 28).astype(np.float32) / 127.5 - 1)

    train, test = read("train"), read("t10k")
    model = fitted(PPCA, PPCAConfig(latent_dim=2), train)
    in_levels = float(model.log_likelihood(test).mean()) - 784 * math.log(255)
    assert in_levels == pytest.approx(-4329.99, abs=0.01)
    error = (rows(model.reconstruct(test)) - rows(test)) * 255
    assert np.square(error).mean() == pytest.approx(3620.04, abs=0.05)
    noise, variances = model.estimator.noise_variance_, model.estimator.explained_variance_
    drawn = (noise * (variances - noise) / variances).sum() * 255**2 / 784
    assert np.square(error).mean() + drawn == pytest.approx(3629.25, abs=0.05)
