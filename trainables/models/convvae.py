"""The convolutional VAE of [HP], Tables 5–7, whose β rises during training."""

import math
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn

from trainables.models.base import GenerativeModel
from trainables.models.losses import kl_divergence, reparameterize
from trainables.models.networks import channels_at
from trainables.models.settings import Count, Positive, Whole


@dataclass(frozen=True)
class ConvVAEConfig:
    """Hyperparameters of `ConvVAE`. The defaults are those of [HP], Tables 5–7.

    β stays at `beta_start` for `beta_warm_up` steps, then grows by `beta_growth` every `beta_every` steps, up
    to `beta`.
    """

    image_size: Count = 64
    channels: Count = 3
    width: Positive = 1.0
    latent_dim: Count = 64
    beta: Positive = 0.21471
    beta_start: Positive = 1e-6
    beta_warm_up: Whole = 5000
    beta_growth: Positive = 1.1
    beta_every: Count = 50
    learning_rate: Positive = 1e-4


class ConvVAE(GenerativeModel):
    """A VAE of 3×3 convolutions down to 2×2, each with LeakyReLU and batch norm, and a sigmoid at the end."""

    Config = ConvVAEConfig
    config: ConvVAEConfig
    steps: Tensor
    has_encoder = True
    likelihood = "gaussian, identity covariance, pixels in [-1, 1]"

    def build(self) -> None:
        """Build encoder and decoder. Raises ValueError unless the image size is a power of two from 8 on."""
        c = self.config
        stages = int(math.log2(c.image_size)) - 1 if c.image_size >= 8 else 0
        if 2 ** (stages + 1) != c.image_size:
            raise ValueError(f"image_size is {c.image_size}; it must be 8, 16, 32, 64, …")
        widths = [channels_at(c.width, 32 * 2**k) for k in range(stages)]
        self.encoder = nn.Sequential(
            *(
                layer
                for inputs, outputs in zip([c.channels, *widths[:-1]], widths, strict=True)
                for layer in _block(nn.Conv2d(inputs, outputs, 3, stride=2, padding=1))
            ),
            nn.Flatten(),
            nn.Linear(4 * widths[-1], 2 * c.latent_dim),
        )
        back = [*widths[::-1], widths[0]]
        self.decoder = nn.Sequential(
            nn.Linear(c.latent_dim, 4 * widths[-1]),
            nn.LeakyReLU(),
            nn.BatchNorm1d(4 * widths[-1]),
            nn.Unflatten(1, (widths[-1], 2, 2)),
            *(
                layer
                for inputs, outputs in pairwise(back)
                for layer in _block(
                    nn.ConvTranspose2d(inputs, outputs, 3, stride=2, padding=1, output_padding=1)
                )
            ),
            nn.Conv2d(widths[0], c.channels, 3, padding=1),
            nn.Sigmoid(),
        )
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))

    def build_optimizers(self) -> dict[str, torch.optim.Optimizer]:
        """Return one Adam over both networks."""
        return {"autoencoder": torch.optim.Adam(self.parameters(), lr=self.config.learning_rate, fused=True)}

    def current_beta(self) -> float:
        """Return the β of the next training step."""
        c = self.config
        increases = max(0, int(self.steps) - c.beta_warm_up) // c.beta_every
        if increases * math.log(c.beta_growth) >= math.log(c.beta / c.beta_start):
            return c.beta
        return float(c.beta_start * c.beta_growth**increases)

    def training_step(self, x: Tensor) -> dict[str, Tensor]:
        """Descend ‖x − x̂‖² on [0, 1] + β·KL, summed over an image, averaged over the batch."""
        self.train()
        mean, log_variance = self.encode(x)
        reconstruction = self.decode(reparameterize(mean, log_variance, self.generator))
        error = (reconstruction - x).square().flatten(1).sum(1).mean() / 4  # [−1, 1] to [0, 1]
        kl = kl_divergence(mean, log_variance).sum(1).mean()
        beta = self.current_beta()
        self.descend("autoencoder", error + beta * kl)
        self.steps += 1
        return {"squared_error": error.detach(), "kl": kl.detach(), "beta": error.new_tensor(beta)}

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the mean and the log-variance of q(z|x), each (B, M)."""
        mean, log_variance = self.encoder(x).chunk(2, 1)
        return mean, log_variance

    def decode(self, z: Tensor) -> Tensor:
        """Return the images of latents (B, M)."""
        images: Tensor = 2 * self.decoder(z) - 1
        return images


def _block(convolution: nn.Conv2d | nn.ConvTranspose2d) -> list[nn.Module]:
    return [convolution, nn.LeakyReLU(), nn.BatchNorm2d(convolution.out_channels)]
