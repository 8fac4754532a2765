"""The two VAEs of the MNIST comparison, dense and convolutional ([PML] sec. 1.1).

A pixel in [0, 1] counts as the probability of a Bernoulli variable, as in Kingma & Welling (2014, app. C.1).
At 28×28 and width 1 the layers are those of [PML]: 784–400–2, and 1 → 16 → 32 channels, 1568 features, 2
latents.
"""

import copy
import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trainables.models.base import ElboTerms, GenerativeModel
from trainables.models.losses import kl_divergence, reparameterize
from trainables.models.settings import BelowOne, Count, NotNegative, Positive

Networks = Literal["dense", "convolutional"]


@dataclass(frozen=True)
class BernoulliVAEConfig:
    """Hyperparameters of `BernoulliVAE`. The defaults are those of [PML].

    hidden: the units of each hidden layer of the dense networks; layers: how many such layers each has.
    width: what the convolutions' channel counts are multiplied by.
    frequency: the standard deviation of the weights from the latents to the dense decoder's units, which are
    then sines (Sitzmann et al. 2020) and draw fine detail from few latents. At 0 they are ReLU units.
    averaging: the share of the new weights in their running mean, which evaluation uses. At 0 it uses the
    weights of the last step, as [PML] does.
    """

    image_size: Count = 28
    channels: Count = 1
    networks: Networks = "dense"
    hidden: Count = 400
    layers: Count = 1
    width: Positive = 1.0
    latent_dim: Count = 2
    frequency: NotNegative = 0.0
    averaging: BelowOne = 0.0
    learning_rate: Positive = 1e-3


class BernoulliVAE(GenerativeModel):
    """Binary cross-entropy + KL, summed over an image, averaged over the batch: the negative ELBO."""

    Config = BernoulliVAEConfig
    config: BernoulliVAEConfig
    steps: Tensor
    has_encoder = True
    likelihood = "bernoulli, pixels in [0, 1]"

    def build(self) -> None:
        """Build encoder and decoder. Raises ValueError for a size that the layers cannot have."""
        c = self.config
        encoder, decoder = dense(c) if c.networks == "dense" else convolutional(c)
        self.networks = nn.ModuleDict({"encoder": encoder, "decoder": decoder})
        self.average: nn.ModuleDict | None = None
        if c.averaging:
            self.average = copy.deepcopy(self.networks).requires_grad_(False)
        self.register_buffer("steps", torch.zeros((), dtype=torch.long))

    def build_optimizers(self) -> dict[str, torch.optim.Optimizer]:
        """Return one Adam over both networks."""
        parameters = self.networks.parameters()
        return {"autoencoder": torch.optim.Adam(parameters, lr=self.config.learning_rate, fused=True)}

    def training_step(self, x: Tensor) -> dict[str, Tensor]:
        """Descend the negative ELBO with one posterior sample an image."""
        self.train()
        terms = self._elbo(x, self.generator)
        self.descend("autoencoder", -terms.elbo.mean())
        self.steps += 1
        if self.average is not None:
            self._move(self.average)
        cross_entropy, kl = -terms.log_likelihood.mean(), terms.kl_divergence.mean()
        return {"cross_entropy": cross_entropy.detach(), "kl": kl.detach()}

    @torch.no_grad()
    def _move(self, average: nn.ModuleDict) -> None:
        """Move the running mean, faster at first, so that it forgets where training began."""
        share = max(self.config.averaging, min(1.0, 10 / (1 + int(self.steps))))
        torch._foreach_lerp_(list(average.parameters()), list(self.networks.parameters()), share)

    def _current(self) -> nn.ModuleDict:
        return self.networks if self.training or self.average is None else self.average

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the mean and the log-variance of q(z|x), each (B, M)."""
        mean, log_variance = self._current()["encoder"]((x + 1) / 2).chunk(2, 1)
        return mean, log_variance

    def logits(self, z: Tensor) -> Tensor:
        """Return the logits of the pixels' probabilities, (B, C, H, W), at latents (B, M)."""
        logits: Tensor = self._current()["decoder"](z)
        return logits

    def decode(self, z: Tensor) -> Tensor:
        """Return the mean images of latents (B, M)."""
        return 2 * torch.sigmoid(self.logits(z)) - 1

    def log_likelihood(self, x: Tensor, reconstruction: Tensor) -> Tensor:
        """Return log Bernoulli(x | x̂) of each image, (B,), in nats. `elbo` itself uses the logits."""
        return bernoulli_log_likelihood(x, torch.logit((reconstruction + 1) / 2, eps=1e-7))

    @torch.no_grad()
    def elbo(self, x: Tensor, generator: torch.Generator | None = None) -> ElboTerms:
        """Bound log p(x) from below with one posterior sample an image, in evaluation mode."""
        self.eval()
        return self._elbo(x, generator or self.generator)

    def _elbo(self, x: Tensor, generator: torch.Generator) -> ElboTerms:
        mean, log_variance = self.encode(x)
        z = reparameterize(mean, log_variance, generator)
        log_likelihood = bernoulli_log_likelihood(x, self.logits(z))
        unit_kl = kl_divergence(mean, log_variance)
        kl = unit_kl.sum(1)
        return ElboTerms(log_likelihood - kl, log_likelihood, kl, mean, unit_kl)


def bernoulli_log_likelihood(x: Tensor, logits: Tensor) -> Tensor:
    """Σ [p·log σ(l) + (1 − p)·log(1 − σ(l))] of each image in [−1, 1], p = (x + 1)/2. (B, …) -> (B,).

    Where p is gray, neither 0 nor 1, this is no normalized density (Loaiza-Ganem & Cunningham 2019), so
    compare it within its family only.
    """
    target = (x + 1) / 2
    return -F.binary_cross_entropy_with_logits(logits, target, reduction="none").flatten(1).sum(1)


def dense(c: BernoulliVAEConfig) -> tuple[nn.Module, nn.Module]:
    """Build an encoder and a decoder of `layers` hidden layers each."""
    shape = (c.channels, c.image_size, c.image_size)
    pixels = c.channels * c.image_size**2
    encoder = nn.Sequential(
        nn.Flatten(),
        nn.Linear(pixels, c.hidden),
        nn.ReLU(),
        *further_layers(c),
        nn.Linear(c.hidden, 2 * c.latent_dim),
    )
    first = nn.Linear(c.latent_dim, c.hidden)
    if c.frequency:
        nn.init.normal_(first.weight, std=c.frequency)
        nn.init.uniform_(first.bias, -math.pi, math.pi)
    units = Sine() if c.frequency else nn.ReLU()
    decoder = nn.Sequential(
        first,
        units,
        *further_layers(c),
        nn.Linear(c.hidden, pixels),
        nn.Unflatten(1, shape),
    )
    return encoder, decoder


def further_layers(c: BernoulliVAEConfig) -> list[nn.Module]:
    """Build the hidden layers after the first, each with ReLU."""
    return [module for _ in range(c.layers - 1) for module in (nn.Linear(c.hidden, c.hidden), nn.ReLU())]


class Sine(nn.Module):
    """The activation that is the sine of each value."""

    def forward(self, x: Tensor) -> Tensor:
        """Return sin x."""
        return x.sin()


def convolutional(c: BernoulliVAEConfig) -> tuple[nn.Module, nn.Module]:
    """Build two convolutions of stride 2, and two transposed ones that mirror them."""
    if c.image_size % 4:
        raise ValueError(f"image_size is {c.image_size}; two halvings need a multiple of 4")
    first, second = (max(1, round(c.width * n)) for n in (16, 32))
    side = c.image_size // 4
    features = second * side**2  # 32·7·7 = 1568
    encoder = nn.Sequential(
        *(nn.Conv2d(c.channels, first, 3, stride=2, padding=1), nn.ReLU()),
        *(nn.Conv2d(first, second, 3, stride=2, padding=1), nn.ReLU()),
        *(nn.Flatten(), nn.Linear(features, 2 * c.latent_dim)),
    )

    def double(inputs: int, outputs: int) -> nn.ConvTranspose2d:
        return nn.ConvTranspose2d(inputs, outputs, 3, stride=2, padding=1, output_padding=1)

    decoder = nn.Sequential(
        *(nn.Linear(c.latent_dim, features), nn.ReLU(), nn.Unflatten(1, (second, side, side))),
        *(double(second, first), nn.ReLU()),
        double(first, c.channels),
    )
    return encoder, decoder
