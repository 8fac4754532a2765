"""Encoder, decoder and discriminator of the recipe "modern", sized for minutes on one CPU core.

Between 4×4 and half the image's resolution each stage halves or doubles it; a pixel (un)shuffle (Shi et al.
2016) is the last factor of two. Stages have 128, 64, 32 and 16 channels at width 1, the most at 4×4. Layers
are initialized as He et al. (2015) say for LeakyReLU 0.2.
"""

import math
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trainables.models.losses import single
from trainables.models.networks import channels_at

SLOPE = 0.2
SMALLEST = 4  # pixels, the side of the lowest resolution
PICTURE_GAIN = 0.3  # of layers that end in pixels: fresh networks draw faint pictures, far from tanh's ends


def stage_channels(image_size: int, width: float) -> list[int]:
    """Return the channels at 4×4, 8×8, … and half the image's resolution.

    Raises ValueError unless the size is a power of two, 16 or more.
    """
    stages = int(math.log2(max(1, image_size))) - int(math.log2(SMALLEST))
    if stages < 2 or image_size != SMALLEST << stages:
        raise ValueError(f"image_size is {image_size}; the recipe modern needs a power of two, 16 or more")
    return [channels_at(width, 128 >> stage) for stage in range(stages)]


class Trunk(nn.Module):
    """Images (B, C, H, W) to activations, from half their resolution down to 4×4."""

    def __init__(self, image_size: int, channels: int, width: float, batch_norm: bool):
        super().__init__()
        sizes = stage_channels(image_size, width)[::-1]
        first = nn.Sequential(
            nn.PixelUnshuffle(2), nn.Conv2d(4 * channels, sizes[0], 3, padding=1), nn.LeakyReLU(SLOPE)
        )
        self.stages = nn.ModuleList([first])
        for inputs, outputs in pairwise(sizes):
            norm = [nn.BatchNorm2d(outputs)] if batch_norm else []
            convolution = nn.Conv2d(inputs, outputs, 3, stride=2, padding=1)
            self.stages.append(nn.Sequential(convolution, *norm, nn.LeakyReLU(SLOPE)))
        self.outputs = sizes[-1] * SMALLEST**2  # values at 4×4

    def forward(self, x: Tensor) -> list[Tensor]:
        """Return each stage's activations, the highest resolution first."""
        activations = []
        for stage in self.stages:
            x = stage(x)
            activations.append(x)
        return activations


class Encoder(nn.Module):
    """Images (B, C, H, W) to mean and log-variance of q(z|x), each (B, M)."""

    def __init__(self, image_size: int, channels: int, width: float, latent_dim: int):
        super().__init__()
        self.trunk = Trunk(image_size, channels, width, batch_norm=True)
        codes = nn.Linear(self.trunk.outputs, 2 * latent_dim)
        self.output = nn.Sequential(nn.Flatten(), codes)
        initialize(self)
        with torch.no_grad():  # all images' variances are about the same at first
            codes.weight[latent_dim:] *= 0.1

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return (mean, log_variance)."""
        mean, log_variance = single(self.output(self.trunk(x)[-1])).chunk(2, dim=1)
        return mean, log_variance.clamp(-10, 10)


class Decoder(nn.Module):
    """Latents (B, M) to images in [−1, 1], (B, C, H, W).

    Each resolution adds to the picture of the one below (StyleGAN2's skips; Karras et al. 2020, fig. 7b), so
    that coarse features learn before fine ones.
    """

    def __init__(self, image_size: int, channels: int, width: float, latent_dim: int):
        super().__init__()
        sizes = stage_channels(image_size, width)
        self.project = nn.Linear(latent_dim, SMALLEST**2 * sizes[0])
        self.first = nn.Sequential(nn.BatchNorm2d(sizes[0]), nn.LeakyReLU(SLOPE))
        self.stages = nn.ModuleList(
            nn.Sequential(
                nn.ConvTranspose2d(inputs, outputs, 4, stride=2, padding=1),
                nn.BatchNorm2d(outputs),
                nn.LeakyReLU(SLOPE),
            )
            for inputs, outputs in pairwise(sizes)
        )
        pictures = [nn.Conv2d(size, channels, 1) for size in sizes]
        finest = nn.Conv2d(sizes[-1], 4 * channels, 3, padding=1)
        self.pictures = nn.ModuleList(pictures)
        self.last = nn.Sequential(finest, nn.PixelShuffle(2))
        initialize(self)
        with torch.no_grad():
            for layer in (*pictures, finest):
                layer.weight *= PICTURE_GAIN
            start_as_nearest(finest)

    def forward(self, z: Tensor) -> Tensor:
        """Return the images that z stands for."""
        h = self.project(z).unflatten(1, (SMALLEST, SMALLEST, -1)).permute(0, 3, 1, 2)
        h = self.first(h)
        picture = self.pictures[0](h)
        for stage, added in zip(self.stages, self.pictures[1:], strict=True):
            h = stage(h)
            picture = enlarged(picture) + added(h)
        return torch.tanh(single(enlarged(picture) + self.last(h)))


class Discriminator(nn.Module):
    """Images (B, C, H, W) to the activations of all stages and the logits (B,) that they are real.

    It has no norm, so that it judges each image by itself: the penalties and `generator_share` need that.
    """

    def __init__(self, image_size: int, channels: int, width: float):
        super().__init__()
        self.trunk = Trunk(image_size, channels, width, batch_norm=False)
        hidden = channels_at(width, 128)
        self.head = nn.Sequential(
            nn.Flatten(), nn.Linear(self.trunk.outputs, hidden), nn.LeakyReLU(SLOPE), nn.Linear(hidden, 1)
        )
        initialize(self)

    def forward(self, x: Tensor) -> tuple[list[Tensor], Tensor]:
        """Return (activations, logits)."""
        activations = self.trunk(x)
        return activations, single(self.head(activations[-1])).squeeze(1)


def enlarged(picture: Tensor) -> Tensor:
    """Double a picture's resolution by bilinear interpolation. (B, C, H, W) -> (B, C, 2H, 2W)."""
    return F.interpolate(picture, scale_factor=2, mode="bilinear")


@torch.no_grad()
def initialize(network: nn.Module) -> None:
    """Draw weights from N(0, 2/((1 + 0.2²)·fan-in)) (He et al. 2015, eq. 15); biases 0.

    A transposed 4×4 kernel of stride 2 is at first a 3×3 kernel behind nearest-neighbor upsampling, which has
    no checkerboard (Odena et al. 2016); it takes four products an output where those two layers take nine.
    """
    for module in network.modules():
        if isinstance(module, nn.ConvTranspose2d):
            inputs, outputs = module.weight.shape[:2]
            kernel = torch.randn(inputs, outputs, 3, 3) * he_deviation(9 * inputs)
            module.weight.zero_()
            for row in (0, 1):
                for column in (0, 1):
                    module.weight[:, :, row : row + 3, column : column + 3] += kernel
        elif isinstance(module, nn.Conv2d | nn.Linear):
            module.weight.normal_(0.0, he_deviation(module.weight[0].numel()))
        else:
            continue
        if module.bias is not None:
            module.bias.zero_()


def he_deviation(fan_in: int) -> float:
    """Return the standard deviation that keeps the size of signals through a layer and LeakyReLU."""
    return math.sqrt(2 / ((1 + SLOPE**2) * fan_in))


@torch.no_grad()
def start_as_nearest(convolution: nn.Conv2d) -> None:
    """Give the four channels that a pixel shuffle makes one the same weights (ICNR; Aitken et al. 2017)."""
    weight = convolution.weight
    weight.copy_(weight[::4].repeat_interleave(4, 0))
