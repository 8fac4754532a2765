"""The smallest model of one's own: a rectified flow whose network sees five pixels around."""

from dataclasses import dataclass

import torch
from torch import nn

from trainables.models.base import GenerativeModel


@dataclass(frozen=True)
class Config:
    learning_rate: float = 1e-3
    image_size: int = 32


class Tiny(GenerativeModel):
    Config = Config

    def build(self):
        self.net = nn.Sequential(nn.Conv2d(4, 32, 5, padding=2), nn.SiLU(), nn.Conv2d(32, 3, 5, padding=2))

    def velocity(self, x, t):
        return self.net(torch.cat([x, t[:, None, None, None].expand_as(x[:, :1])], 1))

    def loss(self, x):
        noise = torch.randn(x.shape, generator=self.generator, device=x.device)
        t = torch.rand(len(x), generator=self.generator, device=x.device)
        return (self.velocity(torch.lerp(noise, x, t[:, None, None, None]), t) - (x - noise)).square().mean()

    def sample(self, n, generator=None):
        shape = (n, 3, self.config.image_size, self.config.image_size)
        x = torch.randn(shape, generator=generator or self.generator, device=self.device)
        for i in range(10):
            x = x + self.velocity(x, torch.full((n,), i / 10, device=x.device)) / 10
        return x.clamp(-1, 1)
