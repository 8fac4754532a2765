"""The variational autoencoder with the networks of [BVG]. With β ≠ 1 it is a β-VAE (Higgins et al. 2017)."""

from dataclasses import dataclass

import torch
from torch import Tensor

from trainables.models.base import GenerativeModel
from trainables.models.losses import kl_divergence, reparameterize, squared_error
from trainables.models.networks import Decoder, Encoder, initialize
from trainables.models.settings import Count, NotNegative, Positive


@dataclass(frozen=True)
class VAEConfig:
    """Hyperparameters of `VAE`. The defaults are those of [BVG], Tables 1 and 3."""

    image_size: Count = 64
    channels: Count = 3
    width: Positive = 1.0
    hidden: Count = 2048
    latent_dim: Count = 128
    beta: NotNegative = 1.0
    learning_rate: Positive = 3e-4


class VAE(GenerativeModel):
    """The VAE of Kingma & Welling (2014) with a pixel-wise Gaussian likelihood of identity covariance."""

    Config = VAEConfig
    config: VAEConfig
    has_encoder = True
    likelihood = "gaussian, identity covariance, pixels in [-1, 1]"

    def build(self) -> None:
        """Build encoder and decoder."""
        c = self.config
        self.encoder = Encoder(c.image_size, c.channels, c.width, c.hidden, c.latent_dim)
        self.decoder = Decoder(c.image_size, c.channels, c.width, c.latent_dim)
        initialize(self)

    def build_optimizers(self) -> dict[str, torch.optim.Optimizer]:
        """Return one Adam over both networks."""
        return {"autoencoder": torch.optim.Adam(self.parameters(), lr=self.config.learning_rate, fused=True)}

    def training_step(self, x: Tensor) -> dict[str, Tensor]:
        """Descend ½‖x − x̂‖² + β·KL, the negative β-ELBO ([BVG] eq. 17) up to a constant."""
        self.train()
        mean, log_variance = self.encode(x)
        reconstruction = self.decode(reparameterize(mean, log_variance, self.generator))
        error = squared_error(x, reconstruction).mean()
        kl = kl_divergence(mean, log_variance).sum(1).mean()
        self.descend("autoencoder", error + self.config.beta * kl)
        return {"squared_error": error.detach(), "kl": kl.detach()}

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the mean and the log-variance of q(z|x), each (B, M)."""
        posterior: tuple[Tensor, Tensor] = self.encoder(x)
        return posterior

    def decode(self, z: Tensor) -> Tensor:
        """Return the images of latents (B, M)."""
        images: Tensor = self.decoder(z)
        return images
