"""Nearest neighbors in a set of images, and the share of near copies: did the model memorize?"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from trainables.metrics.errors import MetricError

ROWS = 1024  # bounds memory at ROWS·m distances
NEAR_COPY_RATIO = 1 / 3


class Neighbors(NamedTuple):
    """Distances (n, k), ascending, and the rows (n, k) that they lead to."""

    distances: NDArray[np.float64]
    indices: NDArray[np.int64]


def squared_distances(X: NDArray[Any], Y: NDArray[Any]) -> NDArray[Any]:
    """‖x − y‖² of each pair of rows, at least 0: (n, d), (m, d) -> (n, m)."""
    products: NDArray[Any] = X @ Y.T
    products *= -2
    products += np.square(X).sum(1)[:, None]
    products += np.square(Y).sum(1)
    np.maximum(products, 0, out=products)
    return products


def nearest_neighbors(queries: ArrayLike, training: ArrayLike, k: int = 1) -> Neighbors:
    """Return the k nearest rows of training (m, …) to each row of queries (n, …), by Euclidean distance.

    Rows are features or pixels; pixels may be uint8. Raises MetricError where the shapes differ, a value is
    not finite or k is not between 1 and m.
    """
    Q, T = _rows(queries, "queries"), _rows(training, "training")
    if Q.shape[1] != T.shape[1]:
        raise MetricError(f"queries have {Q.shape[1]} values a row; training has {T.shape[1]}")
    if not 1 <= k <= len(T):
        raise MetricError(f"k is {k}; it must be between 1 and {len(T)}, the number of training rows")
    center = T.mean(0)  # float32 products lose less around the center
    Q32, T32 = Q - center, T - center
    # float32 finds the candidates; distances near 0 need the differences themselves.
    candidates = min(len(T), k + 2)
    distances, indices = np.empty((len(Q), k)), np.empty((len(Q), k), np.int64)
    for start in range(0, len(Q), ROWS):
        rows = slice(start, start + ROWS)
        near = squared_distances(Q32[rows], T32)
        near = np.argpartition(near, candidates - 1, 1)[:, :candidates]
        for i, found in enumerate(near, start):
            exact = np.square(T[found].astype(np.float64) - Q[i].astype(np.float64)).sum(1)
            order = np.lexsort((found, exact))[:k]  # of equal ones the first row
            distances[i], indices[i] = np.sqrt(exact[order]), found[order]
    return Neighbors(distances, indices)


def near_copy_share(generated: ArrayLike, training: ArrayLike, *, ratio: float = NEAR_COPY_RATIO) -> float:
    """Return the share of generated images that are far nearer to one training image than to any other.

    A near copy's nearest training image is closer than `ratio` times the second nearest (Yoon et al. 2023:
    1/3). The ratio needs no scale of its own, and blur alone does not pass for copying. An image
    that the training set holds twice is not seen. Raises as `nearest_neighbors`.
    """
    if not 0 < ratio <= 1:
        raise MetricError(f"ratio is {ratio}; it must be above 0 and at most 1")
    distances = nearest_neighbors(generated, training, k=2).distances
    return float((distances[:, 0] < ratio * distances[:, 1]).mean())


def _rows(values: ArrayLike, name: str) -> NDArray[np.float32]:
    x = np.asarray(values)
    if x.ndim < 2 or not len(x):
        raise MetricError(f"{name} have shape {x.shape}; (n, …) with n ≥ 1 is expected")
    x = x.reshape(len(x), -1).astype(np.float32)
    if not np.isfinite(x).all():
        raise MetricError(f"{name} hold values that are not finite")
    return x
