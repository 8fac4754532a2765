"""Signs of how training goes: gradient norms, active latent units, and whether a model is dead."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils import get_total_norm
from torch.optim import Optimizer

ACTIVE_VARIANCE = 0.01
COLLAPSED_BELOW = 0.1  # of the data's diversity: less means samples nearly identical
CERTAIN_ABOVE = 0.99  # accuracy at which a discriminator has little left to tell its generator


def gradient_norms(optimizers: Mapping[str, Optimizer]) -> dict[str, Tensor]:
    """Return the Euclidean norm of the gradients that each optimizer took last, by its name.

    One that has had no gradients yet, as of a network whose phase has not begun, is left out.
    """
    gradients = {
        name: [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        for name, optimizer in optimizers.items()
    }
    return {name: get_total_norm(found) for name, found in gradients.items() if found}


def latent_scores(means: Tensor, unit_kl: Tensor) -> dict[str, Any]:
    """Return `active_units` and `kl_per_unit`, nats, a list of M, of the posteriors of n images, (n, M).

    A unit is active where the variance over images of its posterior mean exceeds 0.01 (Burda et al. 2016,
    "Importance Weighted Autoencoders", sec. 5.2).
    """
    active = means.float().var(0, correction=0) > ACTIVE_VARIANCE
    return {"active_units": int(active.sum()), "kl_per_unit": unit_kl.float().mean(0).tolist()}


def pixel_variance(images: Tensor) -> float:
    """Return the variance over images (n, H, W, C) of a pixel's channel, averaged over these."""
    return float(images.to(torch.float32).var(0, correction=0).mean())


def diversity(samples: Tensor, reference_variance: float) -> float:
    """Return how far samples differ from each other as a share of how far the data do; 0: all are one.

    It is the ratio of the roots of `pixel_variance`, which is half the mean square distance of two images.
    """
    return (pixel_variance(samples) / max(reference_variance, 1e-12)) ** 0.5


def flags(result: Mapping[str, Any]) -> str:
    """Name what is wrong with a model by its result, separated by commas; empty where nothing is.

    `collapsed`: its samples are nearly identical. `dead_latent_space`: no unit is active.
    `discriminator_wins`: it is right so often that little is left for the generator to learn from.
    """
    found = {
        "collapsed": result.get("sample_diversity", 1.0) < COLLAPSED_BELOW,
        "dead_latent_space": result.get("active_units", 1) == 0,
        "discriminator_wins": result.get("loss/discriminator_accuracy", 0.0) > CERTAIN_ABOVE,
    }
    return ",".join(name for name, wrong in found.items() if wrong)
