"""Rectified flow (Liu et al. 2023) with a small U-Net: a model of one's own, in the easy case.

latentune sweep tune flow:Flow --space 'learning_rate=loguniform(5e-4,5e-3)' 'steps=choice(10,20)'
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from trainables.models.base import GenerativeModel


class UNet(nn.Module):
    """Velocity of images (B, 3, H, W) at times t (B,), at three resolutions."""

    def __init__(self, width: int):
        super().__init__()
        widths = (width, 2 * width, 2 * width)
        self.time = nn.Sequential(nn.Linear(16, 2 * width), nn.SiLU(), nn.Linear(2 * width, 2 * width))
        self.into = nn.Conv2d(3, width, 3, padding=1)
        self.down = nn.ModuleList(self.block(a, b) for a, b in zip((width, *widths), widths, strict=False))
        self.shift = nn.ModuleList(nn.Linear(2 * width, w) for w in widths)
        self.up = nn.ModuleList(
            self.block(a + b, b) for a, b in zip(widths[:0:-1], widths[-2::-1], strict=True)
        )
        self.out = nn.Conv2d(width, 3, 3, padding=1)

    @staticmethod
    def block(inputs: int, outputs: int) -> nn.Sequential:
        layers = (nn.GroupNorm(4, inputs), nn.SiLU(), nn.Conv2d(inputs, outputs, 3, padding=1))
        return nn.Sequential(
            *layers, nn.GroupNorm(4, outputs), nn.SiLU(), nn.Conv2d(outputs, outputs, 3, padding=1)
        )

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        angles = t[:, None] * torch.pi * 2 ** torch.arange(8, device=x.device)
        time = self.time(torch.cat([angles.sin(), angles.cos()], 1))
        h, kept = self.into(x), []
        for level, (block, shift) in enumerate(zip(self.down, self.shift, strict=True)):
            h = block(nn.functional.avg_pool2d(h, 2) if level else h) + shift(time)[:, :, None, None]
            kept.append(h)
        kept.pop()
        for block in self.up:
            h = block(torch.cat([nn.functional.interpolate(h, scale_factor=2), kept.pop()], 1))
        return self.out(h)


@dataclass(frozen=True)
class FlowConfig:
    learning_rate: float = 2e-3
    width: float = 1.0
    image_size: int = 32
    steps: int = 20
    """of Euler, from noise to an image"""


class Flow(GenerativeModel):
    Config = FlowConfig
    sampling_settings = ("steps",)

    def build(self) -> None:
        self.velocity = UNet(round(16 * self.config.width))

    def loss(self, x: Tensor) -> Tensor:
        noise = torch.randn(x.shape, generator=self.generator, device=x.device)
        t = torch.randn(len(x), generator=self.generator, device=x.device).sigmoid()  # Esser et al. 2024
        between = torch.lerp(noise, x, t[:, None, None, None])
        return (self.velocity(between, t) - (x - noise)).square().mean()

    @torch.no_grad()
    def sample(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        size = self.config.image_size
        x = torch.randn(n, 3, size, size, generator=generator or self.generator, device=self.device)
        for step in range(self.config.steps):
            x = (
                x
                + self.velocity(x, torch.full((n,), step / self.config.steps, device=x.device))
                / self.config.steps
            )
        return x.clamp(-1, 1)
