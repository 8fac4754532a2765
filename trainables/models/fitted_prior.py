"""A prior N(m, S) with the moments of the aggregate posterior, followed while a VAE trains.

A VAE samples well where its aggregate posterior q(z) = E_x q(z|x) is its prior. Of all Gaussian priors the
one with the aggregate's own moments has the lowest KL:

    E_x KL(q(z|x) ‖ N(0, I)) = E_x KL(q(z|x) ‖ N(m, S)) + KL(N(m, S) ‖ N(0, I)),
    m = E μ(x),   S = Cov μ(x) + diag(E σ²(x)),

so that training against N(0, I) descends this prior's ELBO, too, and pulls m and S to 0 and I besides. A
short training leaves them far from there, the main reason why samples of N(0, I) are worse than
samples of a Gaussian fitted afterwards (ex post density estimation; Ghosh et al. 2020, "From Variational to
Deterministic Autoencoders", sec. 3). With z = m + Lε, LLᵀ = S, it is a VAE whose latents ε are N(0, I) and
whose decoder begins with one more linear map.
"""

import torch
from torch import Tensor, nn

from trainables.models.losses import single

WINDOW = 100  # batches that the running moments reach back
JITTER = 1e-6  # added to variances before a Cholesky decomposition


class FittedPrior(nn.Module):
    """Running m and S of an encoder's posteriors, N(0, I) before the first; no gradient passes through."""

    mean: Tensor
    mean_covariance: Tensor
    variance: Tensor
    batches: Tensor

    def __init__(self, latent_dim: int):
        super().__init__()
        self.register_buffer("mean", torch.zeros(latent_dim))
        self.register_buffer("mean_covariance", torch.eye(latent_dim))  # of the posteriors' means
        self.register_buffer("variance", torch.zeros(latent_dim))  # of the posteriors, averaged
        self.register_buffer("batches", torch.zeros((), dtype=torch.long))

    @torch.no_grad()
    def follow(self, mean: Tensor, log_variance: Tensor) -> None:
        """Move the moments towards those of a batch of posteriors, (B, M) and (B, M)."""
        mean, log_variance = single(mean), single(log_variance)
        share = 1 / (self.batches + 1).clamp(max=WINDOW)
        deviation = mean - self.mean
        self.mean += share * deviation.mean(0)
        self.mean_covariance += share * (deviation.mT @ deviation / len(mean) - self.mean_covariance)
        self.variance += share * (log_variance.exp().mean(0) - self.variance)
        self.batches += 1

    def covariance(self) -> Tensor:
        """Return S, (M, M)."""
        return self.mean_covariance + self.variance.diag()

    def factor(self) -> Tensor:
        """Return L, lower triangular, with LLᵀ = S, (M, M); nan where the encoder's codes have diverged."""
        covariance = self.covariance()
        factor, wrong = torch.linalg.cholesky_ex(
            covariance + JITTER * torch.eye(len(covariance)).to(covariance)
        )
        return torch.where(wrong == 0, factor, torch.nan)

    def from_noise(self, noise: Tensor) -> Tensor:
        """Return m + Lε for ε of N(0, I), (B, M) -> (B, M)."""
        return self.mean + noise.to(self.mean.dtype) @ self.factor().mT

    def kl_divergence(self, mean: Tensor, log_variance: Tensor) -> Tensor:
        """Return KL(q(z|x) ‖ N(m, S)) in nats, split by units: the parts of an image sum to its KL.

        Shapes: (B, M), (B, M) -> (B, M). log det S is split by the factor's diagonal, the quadratic forms by
        their terms.
        """
        factor = self.factor()
        inverse = torch.cholesky_inverse(factor)
        deviation = mean - self.mean
        spread = inverse.diagonal() * log_variance.exp()
        distance = deviation * (deviation @ inverse)
        return 0.5 * (spread + distance - 1 + 2 * factor.diagonal().log() - log_variance)


@torch.no_grad()
def fit(means: Tensor, log_variances: Tensor) -> FittedPrior:
    """Return the prior with the exact moments of n images' posteriors, (n, M) and (n, M)."""
    prior = FittedPrior(means.shape[1]).to(means)
    prior.follow(means, log_variances)
    deviation = means - prior.mean
    prior.mean_covariance.copy_(deviation.mT @ deviation / len(means))
    return prior
