"""The Wasserstein GAN's critic: no probability but a score, held to slope 1 by a gradient penalty."""

from collections.abc import Callable

import torch
from torch import Tensor


def gradient_penalty(
    critic: Callable[[Tensor], Tensor], real: Tensor, fake: Tensor, generator: torch.Generator | None = None
) -> Tensor:
    """E[(‖∇D(x̂)‖₂ − 1)²], x̂ uniform between a real image and a fake one (Gulrajani et al. 2017, eq. 3).

    `critic` takes images (B, C, H, W) to scores (B,), each of its own image alone: it may have no batch norm.
    The result can be differentiated by the critic's parameters; gradients reach neither `real` nor `fake`.
    Nothing here is autocast: a pixel's share of the slope is too small for half precision.
    """
    shape = (len(real), *[1] * (real.dim() - 1))
    share = torch.rand(shape, generator=generator, device=real.device, dtype=real.dtype)
    between = torch.lerp(fake.detach().to(real.dtype), real.detach(), share).requires_grad_()
    with torch.autocast(real.device.type, enabled=False):
        (slope,) = torch.autograd.grad(critic(between).sum(), between, create_graph=True)
    return (slope.flatten(1).norm(dim=1) - 1).square().mean()


def mixed(fakes: list[Tensor], generator: torch.Generator | None = None) -> Tensor:
    """Draw each image of a batch from one of k batches (B, …): a sample of their mixture."""
    stacked = torch.stack(fakes, 1)
    where = torch.randint(len(fakes), (len(stacked),), generator=generator, device=stacked.device)
    return stacked[torch.arange(len(stacked), device=stacked.device), where]
