"""The three networks of VAE-GAN (Larsen et al. 2016; [BVG] Table 1), of which VAE and GAN are made, too.

At width 1 and 64×64 the layers are those of the papers. `width` multiplies every hidden channel count. Image
sizes are multiples of 8, since each network halves or doubles the resolution three times.
"""

from typing import Literal

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

FeatureLayer = Literal["fully_connected", "convolution"]


def channels_at(width: float, channels: int) -> int:
    """Scale a channel count, but not below 16, since a CPU takes as long over a convolution of 8 channels."""
    return max(16, round(width * channels))


def check_image_size(image_size: int) -> None:
    """Raise ValueError unless three halvings leave a whole number of pixels."""
    if image_size % 8 or image_size < 16:
        raise ValueError(f"image_size is {image_size}; it must be a multiple of 8, 16 or more")


def _convolution(inputs: int, outputs: int, batch_norm: bool = True) -> list[nn.Module]:
    return [
        nn.Conv2d(inputs, outputs, 5, stride=2, padding=2),
        nn.BatchNorm2d(outputs) if batch_norm else layer_norm(outputs),
        nn.ReLU(inplace=True),
    ]


def layer_norm(channels: int) -> nn.GroupNorm:
    """Normalize each image, (B, C, …), over all its values: a critic's replacement for batch norm."""
    return nn.GroupNorm(1, channels)


def _transposed(inputs: int, outputs: int) -> list[nn.Module]:
    layer = nn.ConvTranspose2d(inputs, outputs, 5, stride=2, padding=2, output_padding=1)
    return [layer, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)]


def _fully_connected(inputs: int, outputs: int, batch_norm: bool = True) -> list[nn.Module]:
    norm = nn.BatchNorm1d(outputs) if batch_norm else layer_norm(outputs)
    return [nn.Linear(inputs, outputs), norm, nn.ReLU(inplace=True)]


class Encoder(nn.Module):
    """Map images (B, C, H, W) to the mean and the log-variance of q(z|x), each (B, M).

    `hidden` is the size of the fully connected layer at width 1: 2048 in [BVG], 1024 in Larsen's code.
    """

    def __init__(self, image_size: int, channels: int, width: float, hidden: int, latent_dim: int):
        super().__init__()
        check_image_size(image_size)
        c1, c2, c3 = (channels_at(width, c) for c in (64, 128, 256))
        features = channels_at(width, hidden)
        self.trunk = nn.Sequential(
            *_convolution(channels, c1),
            *_convolution(c1, c2),
            *_convolution(c2, c3),
            nn.Flatten(),
            *_fully_connected(c3 * (image_size // 8) ** 2, features),
        )
        self.mean = nn.Linear(features, latent_dim)
        self.log_variance = nn.Linear(features, latent_dim)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return (mean, log_variance)."""
        h = self.trunk(x)
        return self.mean(h), self.log_variance(h)


class Decoder(nn.Module):
    """Map latents (B, M) to images in [−1, 1], (B, C, H, W), as a VAE's decoder or a GAN's generator.

    The last layer, a 5×5 convolution to C channels with tanh, is missing in Table 1 of [BVG] and present in
    its code.
    """

    def __init__(self, image_size: int, channels: int, width: float, latent_dim: int):
        super().__init__()
        check_image_size(image_size)
        c1, c2, c3 = (channels_at(width, c) for c in (256, 128, 32))
        start = image_size // 8
        self.layers = nn.Sequential(
            *_fully_connected(latent_dim, c1 * start * start),
            nn.Unflatten(1, (c1, start, start)),
            *_transposed(c1, c1),
            *_transposed(c1, c2),
            *_transposed(c2, c3),
            nn.Conv2d(c3, channels, 5, padding=2),
            nn.Tanh(),
        )

    def forward(self, z: Tensor) -> Tensor:
        """Return the images of latents."""
        images: Tensor = self.layers(z)
        return images


class Discriminator(nn.Module):
    """Map images (B, C, H, W) to the features Dis_l (B, F) and the logits that they are real, (B,).

    Dis_l is the 512-d fully connected activation ("next to last layer" in [BVG]) or the raw output of the
    third strided convolution before batch norm (Larsen's code: 8·8·256 = 16 384 at 64×64). Without
    `batch_norm` the layers normalize image by image, as WGAN-GP's penalty demands (Gulrajani et al. 2017).
    """

    def __init__(
        self,
        image_size: int,
        channels: int,
        width: float,
        feature_layer: FeatureLayer,
        batch_norm: bool = True,
    ):
        super().__init__()
        check_image_size(image_size)
        c1, c2, c3 = (channels_at(width, c) for c in (32, 128, 256))
        hidden = channels_at(width, 512)
        self.feature_layer = feature_layer
        self.trunk = nn.Sequential(
            nn.Conv2d(channels, c1, 5, padding=2),
            nn.ReLU(inplace=True),
            *_convolution(c1, c2, batch_norm),
            *_convolution(c2, c3, batch_norm),
            nn.Conv2d(c3, c3, 5, stride=2, padding=2),
        )
        # ReLU must not work in place here, because the convolution's raw output is a feature layer.
        self.head = nn.Sequential(
            nn.BatchNorm2d(c3) if batch_norm else layer_norm(c3),
            nn.ReLU(),
            nn.Flatten(),
            *_fully_connected(c3 * (image_size // 8) ** 2, hidden, batch_norm),
        )
        self.logit = nn.Linear(hidden, 1)

    def features(self, x: Tensor) -> Tensor:
        """Return Dis_l(x), (B, F), without the layers that follow it."""
        h: Tensor = self.trunk(x)
        if self.feature_layer == "convolution":
            return h.flatten(1)
        features: Tensor = self.head(h)
        return features

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return (Dis_l(x), logits)."""
        raw = self.trunk(x)
        h = self.head(raw)
        features = raw.flatten(1) if self.feature_layer == "convolution" else h
        return features, self.logit(h).squeeze(1)


def running_mean(network: nn.Module, decay: float | None) -> AveragedModel | None:
    """Return the exponential moving average of a network's parameters and buffers, or None without a decay.

    An adversarial generator circles around a point that its running mean reaches (Yazıcı et al. 2019).
    """
    if decay is None:
        return None
    averaged = AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(decay), use_buffers=True)
    return averaged.requires_grad_(False)


@torch.no_grad()
def initialize(network: nn.Module, std: float = 0.02) -> None:
    """Draw weights from N(0, std²), batch norm's from N(1, std²), and set biases to 0 ([BVG] Table 3)."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            module.weight.normal_(0.0, std)
        elif isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.weight.normal_(1.0, std)
        else:
            continue
        if module.bias is not None:
            module.bias.zero_()
