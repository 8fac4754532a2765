"""An autoencoder with a discriminator: two optimizers, and three losses with weights to be searched.

latentune sweep tune adversarial:Adversarial --space 'learning_rate=loguniform(1e-4,1e-2)' \
'kl_weight=loguniform(1e-4,1e-1)' 'adversarial_weight=loguniform(1e-3,1)' --trainings 12 --num-samples 36
"""

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn.functional import softplus

from trainables.models.base import GenerativeModel


@dataclass(frozen=True)
class Config:
    learning_rate: float = 1e-3
    kl_weight: float = 1e-3
    adversarial_weight: float = 1e-2
    image_size: int = 32
    latent_dim: int = 32


class Encoder(nn.Module):
    def __init__(self, size: int, outputs: int):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 32, 4, 2, 1), nn.SiLU(), nn.Conv2d(32, 64, 4, 2, 1), nn.SiLU())
        self.head = nn.Linear(4 * size**2, outputs)

    def forward(self, x):
        return self.head(self.body(x).flatten(1))


class Decoder(nn.Module):
    def __init__(self, size: int, inputs: int):
        super().__init__()
        self.head = nn.Sequential(nn.Linear(inputs, 4 * size**2), nn.Unflatten(1, (64, size // 4, size // 4)))
        self.body = nn.Sequential(nn.ConvTranspose2d(64, 32, 4, 2, 1), nn.SiLU())
        self.last = nn.Sequential(nn.ConvTranspose2d(32, 3, 4, 2, 1), nn.Tanh())

    def forward(self, z):
        return self.last(self.body(self.head(z)))


class Adversarial(GenerativeModel):
    Config = Config
    has_encoder = True  # so its ELBO and its reconstructions are scored, too

    def build(self):
        size, codes = self.config.image_size, self.config.latent_dim
        self.encoder, self.decoder = Encoder(size, 2 * codes), Decoder(size, codes)
        self.discriminator = Encoder(size, 1)

    def build_optimizers(self):
        rate, own = self.config.learning_rate, [*self.encoder.parameters(), *self.decoder.parameters()]
        others = self.discriminator.parameters()
        return {"autoencoder": torch.optim.Adam(own, rate), "discriminator": torch.optim.Adam(others, rate)}

    def encode(self, x):
        return self.encoder(x).chunk(2, 1)  # means and log-variances of the codes

    def decode(self, z):
        return self.decoder(z)

    def training_step(self, x):
        self.train()
        mean, log_variance = self.encode(x)
        noise = torch.randn(mean.shape, generator=self.generator, device=x.device)
        made = self.decode(mean + noise * (log_variance / 2).exp())
        kl = (mean.square() + log_variance.exp() - 1 - log_variance).sum(1).mean() / 2
        fooled = softplus(-self.discriminator(made)).mean()
        c, error = self.config, (x - made).square().mean()
        loss = error + c.kl_weight * kl + c.adversarial_weight * fooled
        self.descend("autoencoder", loss)
        judged = softplus(-self.discriminator(x)) + softplus(self.discriminator(made.detach()))
        self.descend("discriminator", judged.mean())
        return {"loss": loss.detach(), "kl": kl.detach(), "discriminator": judged.detach().mean()}
