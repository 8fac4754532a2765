"""DDPM (Ho et al. 2020) with the U-Net and the schedules of `diffusers` (pip install diffusers).

latentune sweep tune ddpm:DDPM --space 'learning_rate=loguniform(3e-4,3e-3)' 'steps=choice(10,20)'
"""

from dataclasses import dataclass

import torch
from diffusers import DDIMScheduler, UNet2DModel
from torch import Tensor

from trainables.models.base import GenerativeModel


@dataclass(frozen=True)
class DDPMConfig:
    learning_rate: float = 2e-3
    width: float = 1.0
    image_size: int = 32
    schedule: str = "squaredcos_cap_v2"
    steps: int = 20


class DDPM(GenerativeModel):
    Config = DDPMConfig

    def build(self) -> None:
        channels = tuple(8 * round(n * self.config.width) for n in (2, 4, 4))
        self.network = UNet2DModel(
            sample_size=self.config.image_size,
            block_out_channels=channels,
            down_block_types=("DownBlock2D",) * 3,
            up_block_types=("UpBlock2D",) * 3,
            layers_per_block=1,
            norm_num_groups=4,
            add_attention=False,
        )
        self.noising = DDIMScheduler(beta_schedule=self.config.schedule)

    def loss(self, x: Tensor) -> Tensor:
        noise = torch.randn(x.shape, generator=self.generator, device=x.device)
        t = torch.randint(1000, (len(x),), generator=self.generator, device=x.device)
        noisy = self.noising.add_noise(x, noise, t)
        return (self.network(noisy, t).sample - noise).square().mean()

    @torch.no_grad()
    def sample(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        size = self.config.image_size
        x = torch.randn(n, 3, size, size, generator=generator or self.generator, device=self.device)
        self.noising.set_timesteps(self.config.steps)
        for t in self.noising.timesteps:
            x = self.noising.step(self.network(x, t).sample, t, x).prev_sample
        return x.clamp(-1, 1)
