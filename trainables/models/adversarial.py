"""The GAN losses: one function per `gan_loss`, shared by GAN and VAE-GAN.

Each takes the discriminator's logits of the real images, (B,), and of each batch of fakes, (B,) each.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from trainables.models.losses import binary_cross_entropy
from trainables.models.wasserstein import gradient_penalty

WGAN_GP: dict[str, Any] = {  # Gulrajani et al. 2017, Algorithm 1
    "gan_loss": "wasserstein",
    "critic_steps": 5,
    "learning_rate": 1e-4,
    "adam_beta1": 0.0,
    "adam_beta2": 0.9,
}


class GANLoss(NamedTuple):
    """What the two sides descend, each (), and named figures to report.

    `generator` is None where the generator ascends the discriminator's loss, which takes no pass of its own.
    `costs` are the discriminator's mean costs of real images and of fakes.
    """

    discriminator: Tensor
    generator: Tensor | None
    costs: tuple[Tensor, Tensor]
    logs: dict[str, Tensor]


def minimax(real_logits: Tensor, fake_logits: list[Tensor], labels: tuple[Tensor, Tensor]) -> GANLoss:
    """The generator ascends the discriminator's binary cross-entropy (Goodfellow et al. 2014, eq. 1)."""
    real = binary_cross_entropy(real_logits, labels[0])
    fake = _total([binary_cross_entropy(logits, labels[1]) for logits in fake_logits])
    accuracy = discriminator_accuracy(real_logits, fake_logits[0])
    return GANLoss(real + fake, None, (real, fake / len(fake_logits)), {"discriminator_accuracy": accuracy})


def non_saturating(real_logits: Tensor, fake_logits: list[Tensor], labels: tuple[Tensor, Tensor]) -> GANLoss:
    """The generator descends −log D of each fake (Goodfellow et al. 2014, sec. 3).

    Its gradient does not vanish where the discriminator is sure.
    """
    fooled = [binary_cross_entropy(logits, torch.ones_like(labels[0])) for logits in fake_logits]
    return minimax(real_logits, fake_logits, labels)._replace(generator=_total(fooled))


def wasserstein(
    real_scores: Tensor,
    fake_scores: list[Tensor],
    critic: Callable[[Tensor], Tensor],
    real: Tensor,
    fake: Tensor,
    weight: float,
    generator: torch.Generator,
) -> GANLoss:
    """The critic descends E[D(fake)] − E[D(real)] + weight·penalty, and the generator −E[D(fake)].

    The penalty is that of Gulrajani et al. (2017, eq. 3) between the images `real` and `fake`, (B, C, H, W).
    """
    costs = -real_scores.mean(), torch.cat(fake_scores).mean()
    penalty = gradient_penalty(critic, real, fake, generator)
    distance = -(costs[0] + costs[1])
    logs = {"wasserstein_distance": distance.detach(), "gradient_penalty": penalty.detach()}
    return GANLoss(costs[0] + costs[1] + weight * penalty, -costs[1], costs, logs)


def discriminator_labels(
    real: float, fake: float, swap: float, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Return the labels (real, fake), swapped with probability `swap` in each iteration ([BVG] sec. 5.5)."""
    swapped = torch.rand((), generator=generator, device=generator.device) < swap
    # The labels stay tensors, since a number would make the CPU wait for the device.
    return torch.where(swapped, fake, real), torch.where(swapped, real, fake)


def discriminator_accuracy(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """Return the share of images that the discriminator judges right; real and fake weigh the same."""
    return ((real_logits > 0).float().mean() + (fake_logits <= 0).float().mean()).detach() / 2


def _total(losses: list[Tensor]) -> Tensor:
    first, *rest = losses
    return sum(rest, first)
