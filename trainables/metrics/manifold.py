"""Fidelity and diversity apart: precision, recall, density and coverage of generated features.

Real features y_i (m, d) and generated ones x_j (n, d); a ball around each point reaches to its k-th nearest
neighbor of the same set. Values depend on n, m and k: compare at equal ones.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from trainables.metrics.errors import MetricError
from trainables.metrics.neighbors import ROWS, squared_distances
from trainables.metrics.statistics import as_features


@dataclass(frozen=True)
class ManifoldScores:
    """Precision and recall (Kynkäänniemi et al. 2019), density and coverage (Naeem et al. 2020).

    precision, the share of generated points in a real ball; recall, that of real points in a generated ball;
    density, the mean number of real balls that hold a generated point, over k (may exceed 1); coverage, the
    share of real balls that hold a generated point.
    """

    precision: float
    recall: float
    density: float
    coverage: float


def manifold_scores(generated: ArrayLike, real: ArrayLike, *, k: int = 5) -> ManifoldScores:
    """Return the four scores of generated (n, d) against real (m, d) features.

    Raises MetricError where the dimensions differ, a value is not finite, or k is not below n and m.
    """
    X, Y = as_features(generated), as_features(real)
    if X.shape[1] != Y.shape[1]:
        raise MetricError(f"generated features have {X.shape[1]} dimensions; the real ones have {Y.shape[1]}")
    if not 1 <= k < min(len(X), len(Y)):
        raise MetricError(f"k is {k}; it must be at least 1 and below {min(len(X), len(Y))}")
    real_radii, generated_radii = _squared_radii(Y, k), _squared_radii(X, k)
    balls = np.zeros(len(X), np.int64)  # real balls that hold each generated point
    recalled, covered = np.zeros(len(Y), bool), np.zeros(len(Y), bool)
    for start in range(0, len(Y), ROWS):
        rows = slice(start, start + ROWS)
        distances = squared_distances(Y[rows], X)
        inside = distances <= real_radii[rows, None]
        balls += inside.sum(0)
        covered[rows] = inside.any(1)
        recalled[rows] = (distances <= generated_radii).any(1)
    return ManifoldScores(
        precision=float((balls > 0).mean()),
        recall=float(recalled.mean()),
        density=float(balls.mean() / k),
        coverage=float(covered.mean()),
    )


def _squared_radii(X: NDArray[np.float64], k: int) -> NDArray[np.float64]:
    radii = np.empty(len(X))
    for start in range(0, len(X), ROWS):
        rows = slice(start, start + ROWS)
        # Entry k of the sorted distances: entry 0 is the point itself.
        radii[rows] = np.partition(squared_distances(X[rows], X), k, 1)[:, k]
    return radii
