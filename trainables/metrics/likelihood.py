"""Bounds on the likelihood from what a model gives for each image; all in nats unless said otherwise.

N is the number of images, K that of latent samples an image. Values of different likelihood families or
pixel scales are not comparable: a Bernoulli's and a Gaussian's bound differ in what they are densities of.
"""

import math

import torch
from torch import Tensor

from trainables.metrics.errors import MetricError


def importance_weighted_bound(log_weights: Tensor) -> Tensor:
    """Return log (1/K) Σₖ wₖ of each image, wₖ = p(x, zₖ)/q(zₖ|x) (Burda et al. 2016, eq. 8).

    log_weights (K, N) -> (N,), float64. K = 1 is the evidence lower bound's one-sample estimate; the bound
    rises with K towards log p(x). Raises MetricError where the shape is another; a weight of nan gives nan.
    """
    if log_weights.ndim != 2 or 0 in log_weights.shape:
        raise MetricError(f"log-weights have shape {tuple(log_weights.shape)}; (K, N) is expected, both ≥ 1")
    return torch.logsumexp(log_weights.double(), 0) - math.log(len(log_weights))


def bits_per_dim(log_likelihood: float, dims: int, *, levels_per_unit: float = 1.0) -> float:
    """Return −log₂ p(x)/dims of a log-density (or bound) in nats, on the scale of 256 pixel levels.

    dims: values in an image. levels_per_unit: grey levels in one unit of the density's pixel scale, 255 for
    [0, 1], 127.5 for [−1, 1], 1 for levels themselves; the density of a pixel level is the density divided
    by it (Theis et al. 2016, sec. 3.1). Raises MetricError where dims or levels_per_unit is not positive.
    """
    if dims < 1 or levels_per_unit <= 0:
        raise MetricError(f"dims is {dims} and levels_per_unit {levels_per_unit}; both must be positive")
    return (math.log(levels_per_unit) - log_likelihood / dims) / math.log(2)
