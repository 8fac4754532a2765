"""Generated images to be scored: the same noise for every model, so that scores differ by the model alone."""

import torch
from torch import Tensor

from trainables.data.batches import to_uint8
from trainables.models.base import GenerativeModel

EVALUATION_SEED = 20_200  # of the noise of every trial and epoch
BATCH = 250  # images generated at once; the noise that an image gets depends on it


def generate(model: GenerativeModel, count: int, noise: torch.Generator) -> Tensor:
    """Return `count` images that the model draws with this noise, uint8, (count, H, W, C)."""
    sizes = [min(BATCH, count - first) for first in range(0, count, BATCH)]
    return torch.cat([to_uint8(model.sample(size, noise)) for size in sizes])
