"""EDM (Karras et al. 2022, "Elucidating the Design Space of Diffusion-Based Generative Models").

A noisy image is x + σε, ε of N(0, I). With σ_d the deviation of the data's pixels, the denoiser is

    D(x; σ) = c_skip·x + c_out·F(c_in·x; ln(σ)/4),    c_in² (σ² + σ_d²) = 1,    c_skip = σ_d²/(σ² + σ_d²),
    c_out = σ·σ_d/√(σ² + σ_d²)                                                            (eq. 7, table 1)

where F is the network. Training draws ln σ of N(−1.2, 1.2²) and descends E λ(σ)‖D(x + σε; σ) − x‖² with
λ = 1/c_out²: what F sees and what it is to answer have variance 1 at any σ. An image is where
dx/dσ = (x − D(x; σ))/σ leads from σ_max·ε, in Heun's steps, evenly spaced in σ^(1/ρ) (eq. 5, algorithm 1).
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from trainables.models.denoising import DenoisingModel
from trainables.models.ode import Solver, solve
from trainables.models.settings import Count, Positive, Whole


@dataclass(frozen=True)
class EDMConfig:
    """Hyperparameters of `EDM`. Those from `sampler` on count when images are drawn alone."""

    image_size: Count = 64
    channels: Count = 3
    classes: Whole = 0
    width: Positive = 1.0
    learning_rate: Positive = 2e-3
    data_deviation: Positive = 0.5  # σ_d
    noise_mean: float = -1.2  # of ln σ in training
    noise_deviation: Positive = 1.2
    sampler: Solver = "heun"
    steps: Count = 10
    guidance: float = 1.0
    rho: Positive = 7.0
    sigma_min: Positive = 0.002
    sigma_max: Positive = 80.0

    def __post_init__(self) -> None:
        """Raise ValueError where the levels of noise have no order."""
        least, most = self.sigma_min, self.sigma_max
        if 0 < most <= least:
            raise ValueError(f"sigma_max is {most:g}, sigma_min {least:g}; sigma_max must be above sigma_min")


class EDM(DenoisingModel):
    """Its network is F."""

    Config = EDMConfig
    config: EDMConfig
    sampling_settings = (*DenoisingModel.sampling_settings, "rho", "sigma_min", "sigma_max")

    def loss(self, x: Tensor, labels: Tensor | None = None) -> Tensor:
        """Return the mean over images and pixels of λ(σ)·(D(x + σε; σ) − x)², ()."""
        c = self.config
        normal = torch.randn(len(x), generator=self.generator, device=x.device)
        sigma = (c.noise_mean + c.noise_deviation * normal).exp().to(x)
        noisy = x + sigma[:, None, None, None] * self.noise_like(x)
        error = self.denoise(noisy, sigma, self.some_left_out(labels)) - x
        return (error.square().flatten(1).mean(1) / self.scalings(sigma)[1].square()).mean()

    def scalings(self, sigma: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return c_skip, c_out and c_in of levels of noise, each of their shape."""
        deviation = self.config.data_deviation
        total = (sigma**2 + deviation**2).sqrt()
        return deviation**2 / total**2, sigma * deviation / total, 1 / total

    def denoise(self, x: Tensor, sigma: Tensor, labels: Tensor | None = None) -> Tensor:
        """Return D(x; σ) of noisy images (B, C, H, W) and their levels (B,), guided as `output` is."""
        skip, out, into = (scaling[:, None, None, None] for scaling in self.scalings(sigma))
        return skip * x + out * self.output(into * x, sigma.log() / 4, labels)

    def sigmas(self) -> list[float]:
        """Return the levels of noise that images are drawn through: from σ_max to σ_min, then 0 (eq. 5)."""
        c = self.config
        high, low = c.sigma_max ** (1 / c.rho), c.sigma_min ** (1 / c.rho)
        between = [high + step / max(1, c.steps - 1) * (low - high) for step in range(c.steps)]
        return [*(root**c.rho for root in between), 0.0]

    @torch.no_grad()
    def sample(
        self, n: int, generator: torch.Generator | None = None, labels: Tensor | None = None
    ) -> Tensor:
        """Remove the noise from n images, (n, C, H, W) in [−1, 1], step by step."""
        sigmas, (noise, labels) = self.sigmas(), self.start(n, generator, labels)

        def field(x: Tensor, sigma: float) -> Tensor:
            return (x - self.denoise(x, torch.full_like(x[:, 0, 0, 0], sigma), labels)) / sigma

        return solve(field, sigmas[0] * noise, sigmas, self.config.sampler).clamp(-1, 1)
