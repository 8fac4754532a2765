"""The Fréchet distance extrapolated to infinitely many generated images (Chong & Forsyth 2020)."""

import numpy as np
from numpy.typing import ArrayLike

from trainables.metrics.errors import MetricError
from trainables.metrics.frechet import frechet_distance
from trainables.metrics.reference import ReferenceStatistics
from trainables.metrics.statistics import Identity, as_features

MINIMUM = 10_000  # from 1000 images it removes only half of the bias: the number just looks better
SMALLEST_SUBSET = 5_000
POINTS = 15


def frechet_distance_infinity(
    features: ArrayLike,
    reference: ReferenceStatistics,
    *,
    identity: Identity | None = None,
    seed: int = 0,
) -> float:
    """Return the intercept of a line through d² against 1/N, for 15 sizes N from 5000 to n (ibid., sec. 4).

    features: (n, d). Each subset is drawn at random without replacement. Removes the bias of generated
    images being few, not that of the reference's. Raises MetricError below n = 10 000, and as
    `frechet_distance`.
    """
    X = as_features(features)
    if len(X) < MINIMUM:
        raise MetricError(
            f"an extrapolation from {len(X)} images keeps much of the bias; at least {MINIMUM} are needed"
        )
    return extrapolate(X, reference, np.linspace(SMALLEST_SUBSET, len(X), POINTS).astype(int), identity, seed)


def extrapolate(
    X: np.ndarray, reference: ReferenceStatistics, sizes: np.ndarray, identity: Identity | None, seed: int
) -> float:
    """Fit d²(N) = d²(∞) + slope/N over subsets of these sizes and return d²(∞), which may be negative."""
    generator = np.random.default_rng(seed)
    distances = [
        frechet_distance(X[generator.choice(len(X), size, replace=False)], reference, identity=identity)
        for size in sizes
    ]
    return float(np.polyfit(1 / sizes, distances, 1)[1])
