"""What depends on how far training is: the learning rate, and running means of the weights."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

WARM_UP_STEPS = 50  # before, Adam's second moments hold few gradients
WIDEST_MEAN = 0.28  # beyond, a power-function mean's exponent is below 0
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
    if not 0 < width < WIDEST_MEAN:
        raise ValueError(f"ema_width is {width}; it must lie between 0 and {WIDEST_MEAN}")
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


class MeanWeights:
    """A power-function mean of all that a model's `state_dict` holds, beside the model, over its steps."""

    def __init__(self, model: nn.Module, width: float):
        self._model, self._update, self.steps = model, power_mean(width), 0
        self.means = {name: value.clone() for name, value in model.state_dict().items()}
        numbers = [name for name, value in self.means.items() if value.is_floating_point()]
        counts = [name for name in self.means if name not in numbers]
        self._names = [names for names in (numbers, counts) if names]

    def _pairs(self) -> list[tuple[Tensors, Tensors]]:
        """Return means and values, numbers first, then counts; the values share the model's memory.

        They are asked for each time: a buffer that the model has assigned anew is another tensor.
        """
        values = self._model.state_dict()
        return [([self.means[n] for n in names], [values[n] for n in names]) for names in self._names]

    def update(self) -> None:
        """Take in the weights after a step."""
        for means, values in self._pairs():
            self._update(means, values, self.steps)
        self.steps += 1

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Let the model have the means inside the block, and its own weights again behind it."""
        pairs = self._pairs()
        kept = [[t.clone() for t in values] for _, values in pairs]
        for means, values in pairs:
            _copy(values, means)
        try:
            yield
        finally:
            for (_, values), own in zip(self._pairs(), kept, strict=True):
                _copy(values, own)

    def state_dict(self) -> dict[str, Any]:
        """Return the means, by the names of the model's `state_dict`, and the steps that they are over."""
        return {"means": self.means, "steps": self.steps}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        for name, mean in self.means.items():
            mean.copy_(state["means"][name])
        self.steps = state["steps"]


@torch.no_grad()
def _copy(to: Tensors, of: Tensors) -> None:
    for tensor, value in zip(to, of, strict=True):
        tensor.copy_(value)
