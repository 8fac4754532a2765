"""An encoder's scores on held-out images: the bound on their likelihood, reconstructions, latent units."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from trainables.data.batches import to_float
from trainables.evaluation.diagnostics import latent_scores
from trainables.evaluation.generation import at_once
from trainables.models.base import GenerativeModel


@torch.no_grad()
def held_out_scores(
    model: GenerativeModel, images: NDArray[np.uint8] | Tensor, noise: torch.Generator
) -> dict[str, Any]:
    """Return the means over images (n, H, W, C) of `elbo` and `kl`, nats, and of `reconstruction_mse`.

    The squared error is that of a pixel in [0, 1]. Where the posterior is Gaussian, `latent_scores` join in.
    """
    sums = {"elbo": 0.0, "kl": 0.0, "reconstruction_mse": 0.0}
    means, unit_kl = [], []
    size = at_once(images.shape[1:])
    for first in range(0, len(images), size):
        x = to_float(images[first : first + size], model.device)
        terms = model.elbo(x, noise)
        error = (x - model.reconstruct(x)).square().flatten(1).mean(1) / 4  # [−1, 1] to [0, 1]
        sums["elbo"] += float(terms.elbo.sum())
        sums["kl"] += float(terms.kl_divergence.sum())
        sums["reconstruction_mse"] += float(error.sum())
        if terms.mean is not None and terms.unit_kl is not None:
            means.append(terms.mean)
            unit_kl.append(terms.unit_kl)
    result: dict[str, Any] = {name: value / len(images) for name, value in sums.items()}
    return result | (latent_scores(torch.cat(means), torch.cat(unit_kl)) if means else {})
