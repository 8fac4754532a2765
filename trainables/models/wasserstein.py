"""The penalty that holds a Wasserstein GAN's critic, which gives scores and no probabilities, to slope 1."""

from collections.abc import Callable

import torch
from torch import Tensor


def gradient_penalty(
    critic: Callable[[Tensor], Tensor], real: Tensor, fake: Tensor, generator: torch.Generator | None = None
) -> Tensor:
    """Return E[(‖∇D(x̂)‖₂ − 1)²], x̂ uniform between a real image and a fake (Gulrajani et al. 2017, eq. 3).

    `critic` maps images (B, C, H, W) to scores (B,). Each score may depend on its own image alone, so the
    critic may have no batch norm. The result can be differentiated by the critic's parameters, and gradients
    reach neither `real` nor `fake`. Autocast is off here, because a pixel's share of the slope is too small
    for half precision.
    """
    shape = (len(real), *[1] * (real.dim() - 1))
    share = torch.rand(shape, generator=generator, device=real.device, dtype=real.dtype)
    between = torch.lerp(fake.detach().to(real.dtype), real.detach(), share).requires_grad_()
    with torch.autocast(real.device.type, enabled=False):
        (slope,) = torch.autograd.grad(critic(between).sum(), between, create_graph=True)
    penalty: Tensor = (slope.flatten(1).norm(dim=1) - 1).square().mean()
    return penalty


def mixed(fakes: list[Tensor], generator: torch.Generator | None = None) -> Tensor:
    """Draw each image of a batch from one of k batches, (B, …) each: a sample of their mixture."""
    stacked = torch.stack(fakes, 1)
    where = torch.randint(len(fakes), (len(stacked),), generator=generator, device=stacked.device)
    return stacked[torch.arange(len(stacked), device=stacked.device), where]
