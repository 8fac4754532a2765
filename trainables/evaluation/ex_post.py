"""Samples of densities fitted to the codes of training images, beside those of the prior.

Where they differ in quality, the prior is not where the encoder puts its codes (ex post density estimation;
Ghosh et al. 2020, "From Variational to Deterministic Autoencoders", sec. 3). As there, the densities are a
Gaussian and a mixture of ten.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from trainables.data.batches import to_float, to_uint8
from trainables.data.store import spread
from trainables.evaluation.generation import EVALUATION_SEED, at_once, require_images
from trainables.models.base import GenerativeModel
from trainables.models.fitted_prior import fit
from trainables.models.losses import reparameterize

IMAGES = 5000  # a covariance of M units needs some M² numbers, not all images of a large set
COMPONENTS = 10
Posteriors = tuple[Tensor, Tensor]  # means and log-variances of images, (n, M) each


@torch.no_grad()
def posteriors(
    model: GenerativeModel, images: NDArray[np.uint8], rows: NDArray[np.int64]
) -> Posteriors | None:
    """Return the posteriors of up to 5000 of these rows of images (n, H, W, C), spread over them.

    None where the model's codes are no Gaussians.
    """
    model.eval()
    means, log_variances = [], []
    rows = spread(rows, IMAGES)
    size = at_once(images.shape[1:])
    for first in range(0, len(rows), size):
        codes = model.encode(to_float(images[rows[first : first + size]], model.device))
        if not isinstance(codes, tuple):
            return None
        means.append(codes[0].float())
        log_variances.append(codes[1].float())
    return torch.cat(means), torch.cat(log_variances)


def draws(codes: Posteriors, count: int) -> dict[str, Tensor]:
    """Return `count` codes (count, M) of each density that is fitted to the posteriors, by its name.

    Raises FloatingPointError where a draw of the posteriors is not finite.
    """
    noise = torch.Generator(codes[0].device).manual_seed(EVALUATION_SEED)
    shape = (count, codes[0].shape[1])
    gaussian = fit(*codes).from_noise(torch.randn(shape, generator=noise, device=codes[0].device))
    z = reparameterize(*codes, noise)
    if not z.isfinite().all():
        raise FloatingPointError("the codes of training images are not finite")
    return {"ex_post": gaussian, "ex_post_mixture": draw_mixture(z, count)}


def draw_mixture(z: Tensor, count: int) -> Tensor:
    """Return `count` draws of a mixture of Gaussians that is fitted to codes z (n, M) by scikit-learn.

    It has ten components, or as many as have twice as many codes each as a code has units.
    """
    from sklearn.mixture import GaussianMixture  # it takes seconds to import

    components = max(1, min(COMPONENTS, len(z) // (2 * z.shape[1])))
    center, scale = z.mean(0), z.std(0).clamp(min=1e-6)
    codes = ((z - center) / scale).double().cpu().numpy()
    mixture = GaussianMixture(components, reg_covar=1e-4, random_state=EVALUATION_SEED).fit(codes)
    drawn = mixture.sample(count)[0]
    return center + scale * torch.from_numpy(drawn).to(z)


@torch.no_grad()
def decoded(model: GenerativeModel, z: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Return the images of codes z (n, M), uint8, (n, H, W, C) of the shape (H, W, C).

    Raises FloatingPointError where one is not finite.
    """
    model.eval()
    parts = []
    for part in z.split(at_once(shape)):
        images = model.decode(part)
        require_images(model, images, len(part), shape)
        parts.append(to_uint8(images))
    return torch.cat(parts)
