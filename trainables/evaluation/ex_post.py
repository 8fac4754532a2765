"""Samples of a Gaussian fitted to the codes of training images, beside those of the prior.

Where the two differ in quality, the prior is not where the encoder puts its codes (ex post density
estimation; Ghosh et al. 2020, "From Variational to Deterministic Autoencoders", sec. 3).
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from trainables.data.batches import to_float, to_uint8
from trainables.evaluation.generation import BATCH, EVALUATION_SEED, require_images
from trainables.models.base import GenerativeModel
from trainables.models.fitted_prior import FittedPrior, fit

IMAGES = 5000  # a covariance of M units needs some M² numbers, not all images of a large set


@torch.no_grad()
def aggregate_posterior(
    model: GenerativeModel, images: NDArray[np.uint8], rows: NDArray[np.int64]
) -> FittedPrior | None:
    """Return N(m, S) with the moments of the posteriors of up to 5000 of these rows of images (n, H, W, C).

    None where the model's codes are no Gaussians.
    """
    model.eval()
    means, log_variances = [], []
    for first in range(0, min(len(rows), IMAGES), BATCH):
        codes = model.encode(to_float(images[rows[first : first + BATCH]], model.device))
        if not isinstance(codes, tuple):
            return None
        means.append(codes[0].float())
        log_variances.append(codes[1].float())
    return fit(torch.cat(means), torch.cat(log_variances))


@torch.no_grad()
def generate_ex_post(model: GenerativeModel, density: FittedPrior, count: int) -> Tensor:
    """Return `count` images decoded from draws of the density, uint8, (count, H, W, C).

    Raises FloatingPointError where one is not finite.
    """
    model.eval()
    device = density.mean.device
    noise = torch.Generator(device).manual_seed(EVALUATION_SEED)
    z = density.from_noise(torch.randn(count, len(density.mean), generator=noise, device=device))
    shape = (model.config.image_size, model.config.image_size, model.config.channels)
    parts = []
    for part in z.split(BATCH):
        images = model.decode(part)
        require_images(model, images, len(part), shape)
        parts.append(to_uint8(images))
    return torch.cat(parts)
