"""The prior with the aggregate posterior's moments, against closed forms and PyTorch's distributions."""

import pytest
import torch
from torch.distributions import MultivariateNormal, kl_divergence

from trainables.models.fitted_prior import WINDOW, FittedPrior, fit
from trainables.models.losses import kl_divergence as standard_kl


def posteriors(n=4000, units=3, seed=0):
    """Return correlated, displaced means and varying log-variances."""
    generator = torch.Generator().manual_seed(seed)
    mix = torch.randn(units, units, generator=generator, dtype=torch.float64)
    means = torch.randn(n, units, generator=generator, dtype=torch.float64) @ mix + torch.arange(units)
    log_variances = torch.randn(n, units, generator=generator, dtype=torch.float64) - 1
    return means, log_variances


def test_fit_has_the_moments_of_the_aggregate_posterior():
    means, log_variances = posteriors()
    prior = fit(means, log_variances)
    torch.testing.assert_close(prior.mean, means.mean(0))
    expected = torch.cov(means.T, correction=0) + log_variances.exp().mean(0).diag()
    torch.testing.assert_close(prior.covariance(), expected)


def test_samples_have_the_priors_moments():
    prior = fit(*posteriors())
    noise = torch.randn(200_000, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    z = prior.from_noise(noise)
    torch.testing.assert_close(z.mean(0), prior.mean, atol=0.02, rtol=0)
    torch.testing.assert_close(torch.cov(z.T), prior.covariance(), atol=0.05, rtol=0.02)


def test_kl_is_that_of_multivariate_normals_and_its_parts_sum_to_it():
    means, log_variances = posteriors(n=50)
    prior = fit(means, log_variances)
    found = prior.kl_divergence(means, log_variances)
    assert found.shape == (50, 3)
    posterior = MultivariateNormal(means, covariance_matrix=torch.diag_embed(log_variances.exp()))
    expected = kl_divergence(posterior, MultivariateNormal(prior.mean, covariance_matrix=prior.covariance()))
    torch.testing.assert_close(found.sum(1), expected, rtol=1e-4, atol=1e-4)


def test_kl_to_the_standard_prior_splits_as_documented():
    means, log_variances = posteriors()
    prior = fit(means, log_variances)
    to_standard = standard_kl(means, log_variances).sum(1).mean()
    own = prior.kl_divergence(means, log_variances).sum(1).mean()
    fitted = MultivariateNormal(prior.mean, covariance_matrix=prior.covariance())
    standard = MultivariateNormal(torch.zeros(3).double(), torch.eye(3).double())
    torch.testing.assert_close(to_standard, own + kl_divergence(fitted, standard), rtol=1e-4, atol=1e-4)


def test_running_moments_reach_the_aggregates_and_forget_what_is_long_past():
    prior = FittedPrior(3).double()
    elsewhere = posteriors(n=32 * 40, seed=5)
    means, log_variances = posteriors(n=32 * 10 * WINDOW)
    for mean, log_variance in zip(elsewhere[0].split(32), elsewhere[1].split(32), strict=True):
        prior.follow(mean + 50, log_variance)
    for mean, log_variance in zip(means.split(32), log_variances.split(32), strict=True):
        prior.follow(mean, log_variance)
    exact = fit(means, log_variances)
    torch.testing.assert_close(prior.mean, exact.mean, atol=0.25, rtol=0)
    torch.testing.assert_close(prior.covariance(), exact.covariance(), atol=0.5, rtol=0.1)


def test_early_moments_are_plain_means_over_batches():
    prior = FittedPrior(2).double()
    batches = [posteriors(n=8, units=2, seed=seed) for seed in range(3)]
    for means, log_variances in batches:
        prior.follow(means, log_variances)
    expected = torch.cat([means for means, _ in batches]).mean(0)
    torch.testing.assert_close(prior.mean, expected)
    variances = torch.cat([log_variances for _, log_variances in batches]).exp().mean(0)
    torch.testing.assert_close(prior.variance, variances)


def test_no_gradient_passes_through_the_moments():
    means, log_variances = (t.requires_grad_() for t in posteriors(n=10))
    prior = FittedPrior(3).double()
    prior.follow(means, log_variances)
    assert not any(buffer.requires_grad for buffer in prior.buffers())


def test_before_the_first_batch_it_is_standard():
    noise = torch.randn(5, 3)
    torch.testing.assert_close(FittedPrior(3).from_noise(noise), noise, atol=1e-5, rtol=0)
    assert FittedPrior(3).kl_divergence(torch.zeros(1, 3), torch.zeros(1, 3)).sum().item() == pytest.approx(
        0, abs=1e-5
    )
