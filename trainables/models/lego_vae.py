"""The LEGO-face VAE of [LEGO], and the morphing of one face into another.

The layers are those of the authors' code. At 128×128 and width 1 the encoder ends in 256·9·9 = 20 736
features. For smaller images the decoder leaves out its last doublings. The hidden size is also the number of
channels with which the decoder's transposed convolutions start.
"""

import math
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn

from trainables.models.base import GenerativeModel
from trainables.models.losses import kl_divergence, reparameterize
from trainables.models.settings import Count, NotNegative, Positive, Share, Whole

CHANNELS = (16, 32, 64, 128, 256)
DECODER_CHANNELS = (128, 64, 32, 16, 8)
IMAGE_SIZES = (16, 32, 64, 128)


@dataclass(frozen=True)
class LegoVAEConfig:
    """Hyperparameters of `LegoVAE`. [LEGO] searches `hidden` in [128, 2048] and `latent_dim` in [8, 64].

    decay_steps: the training steps over which the learning rate falls linearly to `final_learning_rate`,
    where it stays. At 0 the rate is constant, as in the search. The winner's 400 epochs are 400 · steps an
    epoch. The slides name no dropout rate.
    """

    image_size: Count = 128
    channels: Count = 3
    width: Positive = 1.0
    hidden: Count = 512
    latent_dim: Count = 32
    dropout: Share = 0.2
    learning_rate: Positive = 1e-3
    final_learning_rate: NotNegative = 5e-7
    decay_steps: Whole = 0
    gradient_clip: Positive = 1.0


class LegoVAE(GenerativeModel):
    """Squared error + KL, both summed, with the gradient's norm clipped (`clip_grad_value` in the slides).

    The squared error without a factor ½, on pixels in [0, 1], is a Gaussian likelihood of variance ½. The
    slides' validation loss is therefore −ELBO − D/2·log π for images of D values, and `elbo` ranks as it
    does.
    """

    Config = LegoVAEConfig
    config: LegoVAEConfig
    steps: Tensor
    has_encoder = True
    likelihood = "gaussian, variance 1/2, pixels in [0, 1]"

    def build(self) -> None:
        """Build encoder and decoder. Raises ValueError for a size that the layers cannot have."""
        c = self.config
        if c.image_size not in IMAGE_SIZES:
            raise ValueError(f"image_size is {c.image_size}; it must be one of {IMAGE_SIZES}")
        if c.hidden < 2 or not 0 <= c.dropout < 1:
            raise ValueError(
                f"hidden is {c.hidden} and dropout {c.dropout}; hidden ≥ 2 and 0 ≤ dropout < 1 are expected"
            )
        self.convolutions = convolutions(c.channels, c.width)
        with torch.no_grad():
            shape = (1, c.channels, c.image_size, c.image_size)
            self.features = self.convolutions.eval()(torch.zeros(shape)).numel()
        self.convolutions.train()
        self.trunk = nn.Sequential(nn.Linear(self.features, c.hidden), nn.Tanh())
        self.mean, self.log_variance = (
            nn.Sequential(
                nn.Linear(c.hidden, c.hidden // 2), nn.Tanh(), nn.Linear(c.hidden // 2, c.latent_dim)
            )
            for _ in range(2)
        )
        self.decoder = nn.Sequential(
            *(nn.Linear(c.latent_dim, c.hidden), nn.Tanh(), nn.Linear(c.hidden, c.hidden), nn.Tanh()),
            nn.Unflatten(1, (c.hidden, 1, 1)),
            *transposed_convolutions(c.hidden, c.channels, c.image_size, c.width),
        )
        self.register_buffer("steps", torch.zeros((), dtype=torch.long))

    def build_optimizers(self) -> dict[str, torch.optim.Optimizer]:
        """Return one Adam over both networks."""
        return {"autoencoder": torch.optim.Adam(self.parameters(), lr=self.config.learning_rate, fused=True)}

    def training_step(self, x: Tensor) -> dict[str, Tensor]:
        """Descend ‖x − x̂‖² + KL, summed over the batch too, since the norm is clipped at 1 for that sum."""
        self.train()
        mean, log_variance = self.encode(x)
        reconstruction = self.decode(reparameterize(mean, log_variance, self.generator))
        error = squared_error_01(x, reconstruction).sum()
        kl = kl_divergence(mean, log_variance).sum()
        self.optimizers["autoencoder"].param_groups[0]["lr"] = self.learning_rate(int(self.steps))
        norm = self.descend("autoencoder", error + kl, self.config.gradient_clip)
        assert norm is not None  # since it is clipped
        self.steps += 1
        losses = {"squared_error": error, "kl": kl, "gradient_norm": norm}
        return {name: value.detach() / len(x) for name, value in losses.items()}

    def learning_rate(self, step: int) -> float:
        """Return the learning rate of a training step. Steps count from 0."""
        c = self.config
        share = min(1.0, step / c.decay_steps) if c.decay_steps else 0.0
        return float(c.learning_rate + share * (c.final_learning_rate - c.learning_rate))

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the mean and the log-variance of q(z|x), each (B, M), with dropout in training mode."""
        features = self.convolutions((x + 1) / 2).flatten(1)
        if self.training and self.config.dropout:
            # nn.Dropout would draw from the process's random state, and a model restores only its own.
            keep = 1 - self.config.dropout
            noise = torch.rand(features.shape, generator=self.generator, device=features.device)
            features = features * (noise < keep) / keep
        h = self.trunk(features)
        return self.mean(h), self.log_variance(h)

    def decode(self, z: Tensor) -> Tensor:
        """Return the images of latents (B, M)."""
        images: Tensor = 2 * self.decoder(z) - 1
        return images

    def log_likelihood(self, x: Tensor, reconstruction: Tensor) -> Tensor:
        """Return log N(x | x̂, ½I) of each image on pixels in [0, 1], in nats. (B, C, H, W) -> (B,)."""
        return -squared_error_01(x, reconstruction) - 0.5 * x[0].numel() * math.log(math.pi)


def convolutions(channels: int, width: float) -> nn.Sequential:
    """Build the encoder's convolution → tanh → batch norm blocks: (B, C, 128, 128) -> (B, 256, 9, 9)."""
    c = [max(4, round(width * n)) for n in CHANNELS]
    return nn.Sequential(
        *_block(nn.Conv2d(channels, c[0], 4, stride=2, padding=1), nn.Tanh()),
        *_block(nn.Conv2d(c[0], c[1], 3, stride=2, padding=1), nn.Tanh()),
        *_block(nn.Conv2d(c[1], c[2], 2, stride=2, padding=1), nn.Tanh()),
        *_block(nn.Conv2d(c[2], c[3], 2, padding=1), nn.Tanh()),
        nn.MaxPool2d(2, 2),
        *_block(nn.Conv2d(c[3], c[4], 2, padding=1), nn.Tanh()),
        nn.MaxPool2d(2, 1),
    )


def transposed_convolutions(hidden: int, channels: int, image_size: int, width: float) -> list[nn.Module]:
    """Build the decoder's transposed convolutions: (B, hidden, 1, 1) -> (B, C, size, size) in [0, 1]."""
    blocks = int(math.log2(image_size)) - 2  # the first makes 4×4; the others and the last layer double it
    c = [max(4, round(width * n)) for n in DECODER_CHANNELS[:blocks]]
    layers = _block(nn.ConvTranspose2d(hidden, c[0], 4), nn.LeakyReLU())
    for inputs, outputs in pairwise(c):
        layers += _block(nn.ConvTranspose2d(inputs, outputs, 4, stride=2, padding=1), nn.LeakyReLU())
    return [*layers, nn.ConvTranspose2d(c[-1], channels, 4, stride=2, padding=1), nn.Sigmoid()]


def _block(convolution: nn.Conv2d | nn.ConvTranspose2d, activation: nn.Module) -> list[nn.Module]:
    return [convolution, activation, nn.BatchNorm2d(convolution.out_channels)]


def squared_error_01(x: Tensor, reconstruction: Tensor) -> Tensor:
    """Return ‖x − x̂‖² of each image on the scale [0, 1], for images in [−1, 1]. (B, …) -> (B,)."""
    return 0.25 * (x - reconstruction).square().flatten(1).sum(1)


@torch.no_grad()
def morph(model: GenerativeModel, start: Tensor, end: Tensor, steps: int = 10) -> Tensor:
    """Decode the straight line between the posterior means of two images ([LEGO]'s face morphing).

    start, end: (C, H, W). Returns (steps, C, H, W), of which the first and the last are the reconstructions
    of the two images. Raises ValueError for fewer than two steps.
    """
    if steps < 2:
        raise ValueError(f"steps is {steps}; a morph has at least a start and an end")
    model.eval()
    first, last = model.encode(torch.stack([start, end]))[0]
    share = torch.linspace(0, 1, steps, device=first.device, dtype=first.dtype)[:, None]
    return model.decode(torch.lerp(first[None], last[None], share))
