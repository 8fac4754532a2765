"""The network of flow and diffusion: a U-Net (Ronneberger et al. 2015) that is told the noise's level.

It works from the image's resolution down to 4×4, where self-attention sees the whole image. A block is
residual, and the level scales and shifts its channels (Dhariwal & Nichol 2021).
"""

import math
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trainables.models.losses import single

GROUP = 8  # channels that are normalized together; numbers of channels are multiples of it
SMALLEST = 4  # pixels, the side of the lowest resolution
FREQUENCIES = 16


def stage_channels(image_size: int, width: float) -> list[int]:
    """Return the channels at the image's resolution, half of it, … and 4×4: 32, 32, 64, 96 at width 1.

    Raises ValueError unless the size is a power of two, 16 or more.
    """
    halvings = int(math.log2(max(1, image_size))) - int(math.log2(SMALLEST))
    if halvings < 2 or image_size != SMALLEST << halvings:
        raise ValueError(f"image_size is {image_size}; the U-Net needs a power of two, 16 or more")
    return [GROUP * max(1, round(width * min(4 * max(stage, 1), 12))) for stage in range(halvings + 1)]


class Block(nn.Module):
    """Two convolutions beside a skip, with a scale and a shift of each channel by the embedding."""

    def __init__(self, inputs: int, outputs: int, embedding: int):
        super().__init__()
        self.first = nn.Sequential(
            nn.GroupNorm(inputs // GROUP, inputs), nn.SiLU(), nn.Conv2d(inputs, outputs, 3, padding=1)
        )
        self.norm = nn.GroupNorm(outputs // GROUP, outputs)
        self.modulation = nn.Linear(embedding, 2 * outputs)
        self.last = nn.Conv2d(outputs, outputs, 3, padding=1)
        self.skip = nn.Identity() if inputs == outputs else nn.Conv2d(inputs, outputs, 1)
        nn.init.zeros_(self.last.weight)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        """Return activations of the same resolution."""
        scale, shift = self.modulation(embedding)[:, :, None, None].chunk(2, dim=1)
        h = torch.addcmul(shift, self.norm(self.first(x)), 1 + scale)
        result: Tensor = self.skip(x) + self.last(F.silu(h))
        return result


class Attention(nn.Module):
    """Self-attention with one head over all places, beside a skip."""

    def __init__(self, channels: int):
        super().__init__()
        self.norm = nn.GroupNorm(channels // GROUP, channels)
        self.inputs = nn.Conv2d(channels, 3 * channels, 1)
        self.output = nn.Conv2d(channels, channels, 1)
        nn.init.zeros_(self.output.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Return activations of the same shape (B, C, H, W)."""
        places = self.inputs(self.norm(x)).flatten(2).transpose(1, 2)
        seen = F.scaled_dot_product_attention(*places.chunk(3, dim=2))
        result: Tensor = x + self.output(seen.transpose(1, 2).unflatten(2, x.shape[2:]))
        return result


class Level(nn.Module):
    """Levels of noise, or times, (B,), in about [−2, 2], to an embedding (B, E)."""

    frequencies: Tensor

    def __init__(self, embedding: int):
        super().__init__()
        self.register_buffer("frequencies", 0.5 * math.pi * 2 ** torch.linspace(0, 6, FREQUENCIES))
        self.layers = nn.Sequential(
            nn.Linear(2 * FREQUENCIES, embedding), nn.SiLU(), nn.Linear(embedding, embedding)
        )

    def forward(self, level: Tensor) -> Tensor:
        """Return the embedding."""
        angles = single(level)[:, None] * self.frequencies
        result: Tensor = self.layers(torch.cat([angles.sin(), angles.cos()], 1))
        return result


class UNet(nn.Module):
    """From noisy images (B, C, H, W) and levels of noise (B,), in about [−2, 2], to images' worth of numbers.

    With `classes` it is also told labels (B,), int64; −1 says nothing, as no labels do.
    """

    def __init__(self, image_size: int, channels: int, width: float, classes: int = 0):
        super().__init__()
        sizes = stage_channels(image_size, width)
        embedding = 4 * sizes[0]
        self.level = Level(embedding)
        self.label = nn.Embedding(classes + 1, embedding) if classes else None
        self.input = nn.Conv2d(channels, sizes[0], 3, padding=1)
        self.down = nn.ModuleList(Block(a, b, embedding) for a, b in pairwise([sizes[0], *sizes]))
        self.middle = Attention(sizes[-1])
        self.bottom = Block(sizes[-1], sizes[-1], embedding)
        above = [*sizes[1:], sizes[-1]]
        self.up = nn.ModuleList(
            Block(a + b, b, embedding) for a, b in zip(above[::-1], sizes[::-1], strict=True)
        )
        last = nn.Conv2d(sizes[0], channels, 3, padding=1)
        self.output = nn.Sequential(nn.GroupNorm(sizes[0] // GROUP, sizes[0]), nn.SiLU(), last)
        self.passed = nn.Linear(embedding, 1)
        for parameter in (*last.parameters(), *self.passed.parameters()):
            nn.init.zeros_(parameter)

    def forward(self, x: Tensor, level: Tensor, labels: Tensor | None = None) -> Tensor:
        """Return (B, C, H, W)."""
        embedding = self.level(level)
        if self.label is not None:
            known = torch.full_like(level, -1, dtype=torch.int64) if labels is None else labels
            embedding = embedding + self.label(known + 1)
        embedding = F.silu(embedding)
        h, kept = self.input(x), []
        for stage, block in enumerate(self.down):
            h = block(F.avg_pool2d(h, 2) if stage else h, embedding)
            kept.append(h)
        h = self.bottom(self.middle(h), embedding)
        for stage, block in enumerate(self.up):
            h = block(torch.cat([F.interpolate(h, scale_factor=2) if stage else h, kept.pop()], 1), embedding)
        result: Tensor = torch.addcmul(self.output(h), self.passed(embedding)[:, :, None, None], x)
        return result
