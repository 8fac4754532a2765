"""The terms of the models' losses. They are summed over an image's dimensions and averaged over the batch.

With this convention a term is in nats an image, and β is the weight that Higgins et al. (2017) call β. If the
terms were means over dimensions, the same weight would read β_norm = β·M/N (`normalized_beta`).

B is the batch size, M the latent dimension, N the number of values in an image, F that of a feature layer.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional as F


def single(x: Tensor) -> Tensor:
    """Return float16 and bfloat16 as float32, in which losses are summed. Other types stay as they are."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


def kl_divergence(mean: Tensor, log_variance: Tensor) -> Tensor:
    """Return KL(N(mean, exp(log_variance)) ‖ N(0, I)) of each unit, in nats (Kingma & Welling 2014, app. B).

    Shapes: (B, M), (B, M) -> (B, M).
    """
    mean, log_variance = single(mean), single(log_variance)
    return 0.5 * (mean.square() + log_variance.exp() - 1.0 - log_variance)


def reparameterize(mean: Tensor, log_variance: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Draw z = mean + σ·ε with ε ~ N(0, I), so that gradients reach both arguments. (B, M) -> (B, M).

    Half precision becomes single, so that ε is the same in every precision.
    """
    mean, log_variance = single(mean), single(log_variance)
    noise = torch.randn(mean.shape, generator=generator, device=mean.device, dtype=mean.dtype)
    return mean + (0.5 * log_variance).exp() * noise


def squared_error(x: Tensor, reconstruction: Tensor) -> Tensor:
    """Return ½‖x − x̂‖² of each image, −log N(x | x̂, I) less its constant ([BVG] eq. 12). (B, …) -> (B,)."""
    return 0.5 * (single(x) - single(reconstruction)).square().flatten(1).sum(1)


def gaussian_log_likelihood(x: Tensor, reconstruction: Tensor) -> Tensor:
    """Return log N(x | x̂, I) of each image in nats, its constant included. (B, …) -> (B,)."""
    dims = x[0].numel()
    return -squared_error(x, reconstruction) - 0.5 * dims * math.log(2 * math.pi)


def binary_cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    """Return the batch mean of −[t·log σ(l) + (1−t)·log(1−σ(l))], a discriminator's cost. (B,), () -> ()."""
    return F.binary_cross_entropy_with_logits(logits, target.expand_as(logits))


def normalized_beta(beta: float, latent_dim: int, image_dims: int) -> float:
    """Return β_norm = β·M/N (Higgins et al. 2017, sec. 4.2), such as 75·128/12288 = 0.78125."""
    return beta * latent_dim / image_dims
