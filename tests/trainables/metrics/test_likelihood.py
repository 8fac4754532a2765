import math

import pytest
import torch

from trainables.metrics.likelihood import bits_per_dim, importance_weighted_bound


def linear_gaussian(n=2000, K=1, seed=0):
    """Log-weights (K, n) and log p(x) (n,) of z ~ N(0, 1), x|z ~ N(z, 1), under q(z|x) = N(0.3 x, 0.8²)."""
    generator = torch.Generator().manual_seed(seed)
    x = math.sqrt(2) * torch.randn(n, generator=generator, dtype=torch.float64)
    q = torch.distributions.Normal(0.3 * x, torch.full_like(x, 0.8))
    z = q.mean + q.stddev * torch.randn(K, n, generator=generator, dtype=torch.float64)
    prior, standard = torch.distributions.Normal(0.0, 1.0), torch.distributions.Normal(z, 1.0)
    log_weights = standard.log_prob(x) + prior.log_prob(z) - q.log_prob(z)
    evidence = torch.distributions.Normal(torch.zeros_like(x), math.sqrt(2)).log_prob(x)
    return log_weights, evidence


def test_the_bound_rises_with_k_to_the_evidence():
    gaps = []
    for K in (1, 8, 256):
        log_weights, evidence = linear_gaussian(K=K)
        gaps.append(float((evidence - importance_weighted_bound(log_weights)).mean()))
    # One sample leaves KL(q ‖ posterior), the posterior being N(x/2, ½), with x² = 2 on average.
    kl = 0.5 * (0.64 / 0.5 + 0.04 * 2 / 0.5 - 1 + math.log(0.5 / 0.64))
    assert gaps[0] == pytest.approx(kl, abs=0.02)
    assert gaps[0] > 4 * gaps[1] > 16 * abs(gaps[2])


def test_the_exact_posterior_gives_the_evidence_from_one_sample():
    x = torch.linspace(-3, 3, 7, dtype=torch.float64)
    posterior = torch.distributions.Normal(x / 2, math.sqrt(0.5))
    z = posterior.sample((4,))
    log_weights = (
        torch.distributions.Normal(z, 1.0).log_prob(x)
        + torch.distributions.Normal(0.0, 1.0).log_prob(z)
        - posterior.log_prob(z)
    )
    evidence = torch.distributions.Normal(torch.zeros_like(x), math.sqrt(2)).log_prob(x)
    torch.testing.assert_close(importance_weighted_bound(log_weights), evidence)


def test_weights_of_any_size_neither_overflow_nor_vanish():
    bound = importance_weighted_bound(torch.tensor([[-9000.0, 800.0], [-math.inf, 800.0]]))
    torch.testing.assert_close(bound, torch.tensor([-9000.0 - math.log(2), 800.0], dtype=torch.float64))
    assert importance_weighted_bound(torch.tensor([[math.nan, 1.0], [2.0, 1.0]])).isnan().tolist() == [
        True,
        False,
    ]
    with pytest.raises(ValueError, match=r"shape \(3,\); \(K, N\)"):
        importance_weighted_bound(torch.zeros(3))


def test_bits_per_dim():
    # Uniform over 256 levels: 8 bits a value, on whatever scale the density is written.
    assert bits_per_dim(-784 * math.log(256), 784) == pytest.approx(8)
    assert bits_per_dim(784 * math.log(255 / 256), 784, levels_per_unit=255) == pytest.approx(8)
    # PPCA's log-likelihood on 0–255 and on [0, 1] is one model's: +784 ln 255 = 4344.36 nats apart.
    assert 784 * math.log(255) == pytest.approx(4344.36, abs=0.01)
    on_levels, on_unit = bits_per_dim(-4329.66, 784), bits_per_dim(14.70, 784, levels_per_unit=255)
    assert on_unit == pytest.approx(on_levels, abs=1e-4)
    with pytest.raises(ValueError, match="dims is 0"):
        bits_per_dim(-1.0, 0)
