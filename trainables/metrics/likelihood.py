"""Bounds on the likelihood from what a model gives for each image; all in nats unless said otherwise.

N is the number of images, K that of latent samples an image. Values of different likelihood families or
pixel scales are not comparable: a Bernoulli's and a Gaussian's bound differ in what they are densities of.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from trainables.metrics.errors import MetricError


@dataclass(frozen=True)
class ElboEstimate:
    """The mean evidence lower bound of N images with its parts, and the standard error of the bound."""

    elbo: float
    log_likelihood: float
    kl_divergence: float
    standard_error: float
    n: int


def evidence_lower_bound(batches: Iterable[tuple[Tensor, Tensor]]) -> ElboEstimate:
    """Average E_q[log p(x|z)] − KL(q(z|x) ‖ p(z)) over images (Kingma & Welling 2014, eq. 3).

    batches: pairs (log-likelihood, KL), each (B,) in nats, of any size. Raises MetricError where the shapes
    differ, there is no image or a value is not finite.
    """
    pairs = [(_per_image(a, "log-likelihood"), _per_image(b, "KL divergence")) for a, b in batches]
    for a, b in pairs:
        if a.shape != b.shape:
            raise MetricError(f"log-likelihood {tuple(a.shape)} and KL {tuple(b.shape)} differ in shape")
    if not sum(len(a) for a, _ in pairs):
        raise MetricError("no images: their evidence lower bound is undefined")
    log_likelihood = torch.cat([a for a, _ in pairs])
    kl = torch.cat([b for _, b in pairs])
    elbo = log_likelihood - kl
    n = len(elbo)
    error = float(elbo.std() / math.sqrt(n)) if n > 1 else math.nan
    return ElboEstimate(float(elbo.mean()), float(log_likelihood.mean()), float(kl.mean()), error, n)


def importance_weighted_bound(log_weights: Tensor) -> Tensor:
    """Return log (1/K) Σₖ wₖ of each image, wₖ = p(x, zₖ)/q(zₖ|x) (Burda et al. 2016, eq. 8).

    log_weights (K, N) -> (N,), float64. K = 1 is the evidence lower bound's one-sample estimate; the bound
    rises with K towards log p(x). Raises MetricError where the shape is another or a value is nan or +inf.
    """
    if log_weights.ndim != 2 or 0 in log_weights.shape:
        raise MetricError(f"log-weights have shape {tuple(log_weights.shape)}; (K, N) is expected, both ≥ 1")
    log_weights = log_weights.double()
    if torch.isnan(log_weights).any() or torch.isposinf(log_weights).any():
        raise MetricError("log-weights hold nan or +inf; only finite values and −inf (weight 0) are possible")
    return torch.logsumexp(log_weights, 0) - math.log(len(log_weights))


def bits_per_dim(log_likelihood: float, dims: int, *, levels_per_unit: float = 1.0) -> float:
    """Return −log₂ p(x)/dims of a log-density (or bound) in nats, on the scale of 256 pixel levels.

    dims: values in an image. levels_per_unit: grey levels in one unit of the density's pixel scale, 255 for
    [0, 1], 127.5 for [−1, 1], 1 for levels themselves; the density of a pixel level is the density divided
    by it (Theis et al. 2016, sec. 3.1). Raises MetricError where dims or levels_per_unit is not positive.
    """
    if dims < 1 or levels_per_unit <= 0:
        raise MetricError(f"dims is {dims} and levels_per_unit {levels_per_unit}; both must be positive")
    return (math.log(levels_per_unit) - log_likelihood / dims) / math.log(2)


def _per_image(values: Tensor, name: str) -> Tensor:
    values = torch.as_tensor(values).double()
    if values.ndim != 1:
        raise MetricError(f"{name} has shape {tuple(values.shape)}; one value an image, (B,), is expected")
    if not torch.isfinite(values).all():
        raise MetricError(f"{name} of {int((~torch.isfinite(values)).sum())} images is not finite")
    return values
