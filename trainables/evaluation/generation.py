"""Generated images to be scored, with the same noise for every model, and the one check of what they are."""

from collections.abc import Sequence

import torch
from torch import Tensor

from trainables.data.batches import to_uint8
from trainables.evaluation.diagnostics import COLLAPSED_BELOW, diversity, pixel_variance
from trainables.models.base import GenerativeModel

EVALUATION_SEED = 20_200  # of the noise of every trial and epoch: scores differ by the model alone
BATCH, BATCH_PIXELS = 250, 250 * 64 * 64  # most that is generated at once; an image's noise depends on it
FAR_OUTSIDE = 1.5  # a decoder that is not bounded may leave [−1, 1] a little
# Data whose mean image is below −0.1 (level 115) in a twentieth of its pixels are expected to be drawn with
# some pixel below 0; samples in [0, 1] have none.
DARK_LEVEL, DARK_SHARE = 115, 0.05


@torch.no_grad()
def generate(model: GenerativeModel, count: int, noise: torch.Generator, like: Tensor) -> Tensor:
    """Return `count` images that the model draws with this noise, uint8, (count, H, W, C).

    `like`: images of the data, uint8 (n, H, W, C). Raises FloatingPointError where a sample is not finite,
    which happens to a model that diverges, and ValueError where samples are of another size than the data or
    in another range than [−1, 1], which is a mistake in the model: no score would mean anything.
    """
    parts, shape = [], tuple(like.shape[1:])
    size = at_once(shape)
    for first in range(0, count, size):
        n = min(size, count - first)
        samples = model.sample(n, noise)
        require_images(model, samples, n, shape)
        parts.append(to_uint8(samples))
    images = torch.cat(parts)
    _require_signed_range(model, images.cpu(), like)
    return images


def at_once(shape: Sequence[int]) -> int:
    """Return how many images of a shape (H, W, C) networks take at a time without learning from them."""
    return max(1, min(BATCH, BATCH_PIXELS // (shape[0] * shape[1])))


def require_images(model: GenerativeModel, samples: Tensor, count: int, shape: tuple[int, ...]) -> None:
    """Raise as `generate` where samples are no `count` finite images of the shape (H, W, C) about [−1, 1]."""
    name = type(model).__name__
    height, width, channels = shape
    expected = (count, channels, height, width)
    if not isinstance(samples, Tensor) or not samples.is_floating_point() or samples.shape != expected:
        found = f"{tuple(samples.shape)}, {samples.dtype}" if isinstance(samples, Tensor) else type(samples)
        raise ValueError(
            f"{name}.sample({count}) returned {found}; it should be {expected}, floats in [−1, 1]"
        )
    if broken := int((~samples.isfinite()).flatten(1).any(1).sum()):
        raise FloatingPointError(f"{broken} of {count} samples of {name} are not finite")
    if float((samples.abs() > FAR_OUTSIDE).float().mean()) > 0.25:
        low, high = float(samples.min()), float(samples.max())
        raise ValueError(f"samples of {name} are from {low:.3g} to {high:.3g}; they should be in [−1, 1]")


def _require_signed_range(model: GenerativeModel, images: Tensor, like: Tensor) -> None:
    """Raise ValueError where samples look like images in [0, 1]: never darker than grey, as the data are."""
    if int(images.min()) < 127:
        return
    dark = float((like.float().mean(0) < DARK_LEVEL).float().mean())
    # Nearly identical samples are another failure, which the flag `collapsed` names.
    if dark > DARK_SHARE and diversity(images, pixel_variance(like)) >= COLLAPSED_BELOW:
        raise ValueError(
            f"samples of {type(model).__name__} are never below 0, and the data are: they seem to be in "
            "[0, 1], and should be in [−1, 1]"
        )
