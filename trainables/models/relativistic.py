"""The discriminator's part of a step of the recipe "modern": R3GAN's losses (Huang et al. 2024).

The discriminator is asked, pair by pair, whether the real image looks more real than the fake one:

    L_D = E softplus(−(D(x) − D(x̃)))        L_G = E softplus(−(D(x̃) − D(x)))

("The GAN is dead; long live the GAN! A Modern GAN Baseline", eq. 2 and 3, after Jolicoeur-Martineau 2019). A
generator that gives up a kind of image makes the images paired with it easy, so it can't collapse for free.
What lets it converge are the penalties R1 and R2 on D's gradients in real and in fake images.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trainables.models.losses import single

CERTAIN = 25.0  # a difference of logits beyond which the discriminator's gradient has no digits left
LARGEST_SHIFT = 1 / 8  # of the image's side


@dataclass(frozen=True)
class Verdict:
    """What a generator takes from a discriminator: the gradients of L_G and of the feature loss in x̃.

    Both are (B, C, H, W); the latter is 0 in samples.
    """

    gradient: Tensor
    feature_gradient: Tensor
    losses: dict[str, Tensor]


def judge(
    discriminator: nn.Module,
    x: Tensor,
    fake: Tensor,
    pairs: int,
    *,
    scale: Tensor,
    penalty: float = 0.0,
    shift: tuple[int, int] = (0, 0),
    eager: Callable[[], AbstractContextManager[None]] = nullcontext,
) -> Verdict:
    """Add scale·(L_D + penalty·(R1 + R2)) to the gradients of D's parameters; return the generator's.

    `fake` is a leaf like x, (B, C, H, W); its first `pairs` images reconstruct the first of x, the others are
    samples. D returns (activations of its stages, logits). `eager` is the context for second derivatives.
    The work, "→" forward, "←x" backward to the images only, "←" to the parameters, too:
        → D(x, samples)   → D(reconstructions)
        feature loss   ←x D(reconstructions)
        L_D and L_G    ← D(x, samples), D(reconstructions)
    """
    shown, samples = translated(x, shift), translated(fake[pairs:], shift)
    stages, logits = discriminator(torch.cat([shown, samples]))
    real_logits, fake_logits, shown_fakes = logits[: len(x)], logits[len(x) :], samples
    feature_gradient, losses = torch.zeros_like(fake), {}
    if pairs:
        reconstructions = translated(fake[:pairs], shift)
        reconstructed, pair_logits = discriminator(reconstructions)
        fake_logits = torch.cat([pair_logits, fake_logits])
        shown_fakes = torch.cat([reconstructions, samples])
        feature_loss = relative_error([stage[: len(x)] for stage in stages], reconstructed)
        (feature_gradient,) = torch.autograd.grad(scale * feature_loss, fake, retain_graph=True)
        losses["feature"] = feature_loss.detach()
    loss = pairing_loss(real_logits, fake_logits)
    own = list(discriminator.parameters())
    (scale * loss).backward(inputs=[*own, fake])
    assert fake.grad is not None
    share = generator_share(real_logits, fake_logits) / scale
    if penalty:
        with eager():  # over real and fake images at once: half of R1 + R2
            images = torch.cat([shown, shown_fakes]).detach()
            both = 2 * zero_centered_penalty(lambda x: discriminator(x)[1], images)
            (scale * penalty * both).backward(inputs=own)
    losses["gan"] = loss.detach()
    losses["discriminator_accuracy"] = (real_logits > fake_logits).float().mean()
    return Verdict(share[:, None, None, None] * fake.grad, feature_gradient / scale, losses)


def pairing_loss(ahead: Tensor, behind: Tensor) -> Tensor:
    """Return E softplus(−(ahead − behind)): L_D of real and fake logits, (B,), and L_G of fake and real."""
    return F.softplus(behind - ahead).mean()


def generator_share(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """Return ∂L_G/∂D(x̃) over ∂L_D/∂D(x̃) of each pair: −e^{D(x) − D(x̃)}, cut at e^25. (B,), (B,) -> (B,).

    With it one backward pass through D serves both players: D treats images one by one, so the gradient of
    L_G in a fake image is that of L_D times its pair's share.
    """
    return -(real_logits - fake_logits).detach().clamp(max=CERTAIN).exp()


def zero_centered_penalty(discriminate: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
    """Return ½·E‖∇ₓD(x)‖² over images (B, …), with a graph to D's parameters (Mescheder et al. 2018, eq. 9).

    On real images it is R1, on fake ones R2. `discriminate` returns logits (B,).
    """
    x = images.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(discriminate(x).sum(), x, create_graph=True)
    return 0.5 * single(gradient).square().flatten(1).sum(1).mean()


def relative_error(real: list[Tensor], reconstructed: list[Tensor]) -> Tensor:
    """Return E(a − b)²/Var a of activations a of real images and b of reconstructions, the stages' mean, ().

    The first of the B real images, each (B, …), belong to the reconstructions; the variance is that over
    images, averaged. No gradient goes into a.
    """
    errors = []
    for a, b in zip(real, reconstructed, strict=True):
        a, b = single(a.detach()), single(b)
        variance = (a.square().mean() - a.mean(0).square().mean()) * (len(a) / max(1, len(a) - 1))
        errors.append((a[: len(b)] - b).square().mean() / variance.clamp(min=1e-6))
    return torch.stack(errors).mean()


def random_shift(image_size: int, generator: torch.Generator) -> tuple[int, int]:
    """Draw one translation for all images of a step, rows and columns."""
    most = int(LARGEST_SHIFT * image_size)
    drawn = torch.randint(-most, most + 1, (2,), generator=generator, device=generator.device)
    rows, columns = drawn.tolist()
    return rows, columns


def translated(images: Tensor, shift: tuple[int, int]) -> Tensor:
    """Move images (B, C, H, W) down and right by whole pixels; what comes in is 0."""
    rows, columns = shift
    moved = F.pad(images, (columns, -columns, rows, -rows)) if rows or columns else images
    return moved.contiguous(memory_format=torch.channels_last)
