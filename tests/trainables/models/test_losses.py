import math

import pytest
import torch
from torch.distributions import Independent, Normal
from torch.distributions import kl_divergence as reference_kl

from trainables.models import losses


def test_kl_divergence_is_that_of_torch_distributions():
    mean, log_variance = torch.randn(7, 5, dtype=torch.float64), torch.randn(7, 5, dtype=torch.float64)
    posterior = Normal(mean, (0.5 * log_variance).exp())
    expected = reference_kl(posterior, Normal(torch.zeros(()), torch.ones(())))
    torch.testing.assert_close(losses.kl_divergence(mean, log_variance), expected)


def test_gaussian_log_likelihood_is_that_of_torch_distributions():
    x, reconstruction = (
        torch.randn(3, 2, 4, 4, dtype=torch.float64),
        torch.randn(3, 2, 4, 4, dtype=torch.float64),
    )
    expected = Independent(Normal(reconstruction, 1.0), 3).log_prob(x)
    torch.testing.assert_close(losses.gaussian_log_likelihood(x, reconstruction), expected)


def test_reparameterized_draws_have_the_posteriors_mean_and_deviation():
    mean, log_variance = (
        torch.tensor([[2.0, -1.0]]).expand(200_000, 2),
        torch.tensor([[0.0, -2.0]]).expand(200_000, 2),
    )
    z = losses.reparameterize(mean, log_variance, torch.Generator().manual_seed(0))
    torch.testing.assert_close(z.mean(0), torch.tensor([2.0, -1.0]), atol=0.01, rtol=0)
    torch.testing.assert_close(z.std(0), torch.tensor([1.0, math.exp(-1)]), atol=0.01, rtol=0)


@pytest.mark.parametrize("target", [0.0, 0.05, 0.95, 1.0])
def test_binary_cross_entropy_closed_form(target):
    logit = torch.tensor([0.3, -1.2], dtype=torch.float64)
    p = 1 / (1 + (-logit).exp())
    expected = -(target * p.log() + (1 - target) * (1 - p).log()).mean()
    torch.testing.assert_close(
        losses.binary_cross_entropy(logit, torch.tensor(target, dtype=torch.float64)), expected
    )


@pytest.mark.parametrize(
    ("beta", "expected"), [(75, 0.78125), (50, 0.521), (100, 1.042), (150, 1.563), (192, 2.0)]
)
def test_normalized_beta_of_the_paper(beta, expected):
    assert losses.normalized_beta(beta, 128, 64 * 64 * 3) == pytest.approx(expected, abs=5e-4)
