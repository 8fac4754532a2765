"""What depends on how far training is: the learning rate, and the length of a running mean."""

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

WARM_UP_STEPS = 50  # before, Adam's second moments hold few gradients
CONSTANT_SHARE = 0.5  # of training, before the rate falls


def rate_share(step: int, progress: float) -> float:
    """Return the share of the learning rate that is due: up linearly, constant, then down as a cosine to 0.

    `step` counts from 0; `progress` is the fraction of training done.
    """
    warm_up = min(1.0, (step + 1) / WARM_UP_STEPS)
    fallen = min(1.0, max(0.0, (progress - CONSTANT_SHARE) / (1 - CONSTANT_SHARE)))
    return warm_up * 0.5 * (1 + math.cos(math.pi * fallen))


def power_exponent(width: float) -> float:
    """Return γ of the power-function mean of this relative width (Karras et al. 2024, algorithm 2).

    width = (γ + 1)^½ · (γ + 2)⁻¹ · (γ + 3)^−½ is the standard deviation of the mean's weights as a share of
    the steps so far. Raises ValueError unless it lies between 0 and 0.28, where γ is above 0.
    """
    if not 0 < width < 0.28:
        raise ValueError(f"ema_width is {width}; it must lie between 0 and 0.28")
    roots = np.roots([1, 7, 16 - width**-2, 12 - width**-2])
    return float(roots.real.max())


Tensors = tuple[Tensor, ...] | list[Tensor]


def power_mean(width: float) -> Callable[[Tensors, Tensors, Tensor | int], None]:
    """Return an update of `AveragedModel`: the n-th weighs 1 − (1 − 1/n)^(γ + 1) (ibid., eq. 127).

    The mean's memory is a share of the run, whatever its length. Counts of batches are copied.
    """
    power = power_exponent(width) + 1

    @torch.no_grad()
    def update(means: Tensors, values: Tensors, updates: Tensor | int) -> None:
        if means[0].is_floating_point():
            torch._foreach_lerp_(means, values, 1 - (1 - 1 / (int(updates) + 1)) ** power)
        else:
            torch._foreach_copy_(means, values)

    return update
