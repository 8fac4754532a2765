"""Rank-based weights of weighted retraining (Tripp et al. 2020, eq. 2)."""

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import rankdata


def rank_weights(scores: ArrayLike, k: float = 1e-3) -> NDArray[np.float64]:
    """Return w ∝ 1/(k·N + rank), with rank 0 for the highest score and Σ w = 1: (N,) -> (N,).

    k → 0 keeps only the best, and k → ∞ weighs all alike. At 1e-3 the best 1 % carry about 35 % of the mass.
    Equal scores share their mean rank. Raises ValueError where there is no score, one is not finite, or
    k ≤ 0.
    """
    scores = np.asarray(scores, dtype=np.float64)
    if not scores.size or not np.isfinite(scores).all():
        raise ValueError(f"{scores.size} scores, {np.isfinite(scores).sum()} of them finite; all must be")
    if not k > 0:
        raise ValueError(f"k is {k}; it must be above 0")
    weights = 1 / (k * len(scores) + rankdata(-scores) - 1)
    return weights / weights.sum()
