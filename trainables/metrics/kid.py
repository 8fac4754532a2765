"""Kernel Inception distance (Bińkowski et al. 2018): unbiased at any number of images, unlike Fréchet's."""

import numpy as np
from numpy.typing import ArrayLike

from trainables.metrics.errors import MetricError
from trainables.metrics.frechet import GROUPS, Estimate
from trainables.metrics.kernels import ROWS, polynomial_kernel
from trainables.metrics.reference import ReferenceStatistics
from trainables.metrics.statistics import Identity, as_features


def kernel_inception_distance(
    features: ArrayLike,
    reference: ReferenceStatistics,
    *,
    groups: int = GROUPS,
    identity: Identity | None = None,
) -> Estimate:
    """Return the unbiased squared maximum mean discrepancy (Gretton et al. 2012, eq. 3) and its deviation.

    features: (n, d) of generated images, against those that the reference kept. All pairs are used rather
    than random subsets, so the value has no randomness of its own; it may be slightly negative. The standard
    deviation is the delete-a-group jackknife's over the generated images; between two samples of one
    distribution, where the statistic is degenerate, it is √2 too large. Raises MetricError where the
    dimensions differ, a value is not finite, there are too few images for the groups or the reference kept
    no features; IdentityMismatchError where the extractors differ.
    """
    if identity is not None:
        identity.require(reference.identity)
    kernel_mean = reference.kernel_mean
    if reference.features is None or kernel_mean is None:
        raise MetricError("this reference kept no features; the kernel distance needs them")
    X, Y = as_features(features), reference.features.astype(np.float64)
    if X.shape[1] != Y.shape[1]:
        raise MetricError(f"features have {X.shape[1]} dimensions; the reference has {Y.shape[1]}")
    n = len(X)
    if not 2 <= groups <= n // 2:
        raise MetricError(f"{groups} groups of {n} images; between 2 and {n // 2} are possible")

    starts = np.arange(groups) * n // groups
    sizes = np.diff(np.append(starts, n))
    inner, outer = np.zeros((groups, groups)), np.zeros(groups)
    for g, part in enumerate(np.split(X, starts[1:])):
        for rows in np.split(part, range(ROWS, len(part), ROWS)):
            inner[g] += np.add.reduceat(polynomial_kernel(rows, X).sum(0), starts)
            outer[g] += polynomial_kernel(rows, Y).mean(1).sum()
        inner[g, g] -= ((np.square(part).sum(1) / part.shape[1] + 1.0) ** 3).sum()  # pairs of one image

    def distance(inner_sum: float, outer_sum: float, count: int) -> float:
        return float(inner_sum / (count * (count - 1)) + kernel_mean - 2 * outer_sum / count)

    left_out = [
        distance(np.delete(np.delete(inner, g, 0), g, 1).sum(), np.delete(outer, g).sum(), n - sizes[g])
        for g in range(groups)
    ]
    value = distance(inner.sum(), outer.sum(), n)
    return Estimate(value, float(np.sqrt((groups - 1) * np.var(left_out))))
