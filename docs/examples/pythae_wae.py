"""Any autoencoder of Pythae (pip install pythae), here the Wasserstein one (Tolstikhin et al. 2018).

latentune sweep tune pythae_wae:WAE --space 'reg_weight=loguniform(1,100)' 'latent_dim=choice(8,16,32)'
"""

from dataclasses import dataclass

import torch
from pythae.models import WAE_MMD, WAE_MMD_Config
from torch import Tensor

from trainables.models.base import GenerativeModel


@dataclass(frozen=True)
class WAEConfig:
    learning_rate: float = 1e-3
    image_size: int = 32
    latent_dim: int = 16
    reg_weight: float = 10.0
    """of the maximum mean discrepancy between codes and prior"""


class WAE(GenerativeModel):
    Config = WAEConfig

    def build(self) -> None:
        c = self.config
        shape = (3, c.image_size, c.image_size)
        self.network = WAE_MMD(WAE_MMD_Config(shape, c.latent_dim, reg_weight=c.reg_weight))

    def loss(self, x: Tensor) -> Tensor:
        # Pythae draws from torch's own generator, whose state is part of every checkpoint.
        return self.network({"data": (x + 1) / 2}).loss

    @torch.no_grad()
    def sample(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        z = torch.randn(n, self.config.latent_dim, generator=generator or self.generator, device=self.device)
        return self.network.decoder(z).reconstruction * 2 - 1
