"""Disentanglement by information: how much single units tell of single factors, and of each other.

n is the number of images, M that of latent units, K that of factors. Mutual information is in nats and of
histograms, whose bias is about (bins_a − 1)(bins_b − 1)/(2n): take n in the thousands.
"""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import entr
from scipy.stats import entropy

from trainables.metrics.errors import MetricError

BINS = 20


def discretize(values: ArrayLike, bins: int = BINS) -> NDArray[np.int64]:
    """Return the bin, 0 … bins − 1, of each value in equal steps between its column's extremes, (n, M)."""
    values = matrix(values, "values")
    low = values.min(0)
    width = np.ptp(values, axis=0)
    scaled = (values - low) / np.where(width > 0, width, 1.0) * bins
    binned: NDArray[np.int64] = np.minimum(scaled.astype(np.int64), bins - 1)
    return binned


def mutual_information_gap(codes: ArrayLike, factors: ArrayLike, bins: int = BINS) -> float:
    """MIG: the mean over factors of (I_first − I_second)/H(factor) (Chen et al. 2018, eq. 6).

    Raises MetricError where there is one unit alone, or a factor that does not vary.
    """
    codes, factors = checked(codes, factors)
    information = _mutual_information(discretize(codes, bins), factors)
    entropies = np.array([entropy(np.unique(column, return_counts=True)[1]) for column in factors.T])
    return float(np.mean(gap(information) / entropies))


def modularity(codes: ArrayLike, factors: ArrayLike, bins: int = BINS) -> float:
    """Mean over units of 1 − Σ_{k≠best} I²/(I²_best (K − 1)) (Ridgeway & Mozer 2018, sec. 3).

    A unit that tells nothing of any factor counts 0, as in disentanglement_lib. Raises MetricError for K = 1.
    """
    codes, factors = checked(codes, factors)
    if factors.shape[1] < 2:
        raise MetricError("there is 1 factor; modularity compares at least 2")
    squared = _mutual_information(discretize(codes, bins), factors) ** 2
    best = squared.max(1)
    rest = (squared.sum(1) - best) / (np.where(best > 0, best, 1.0) * (factors.shape[1] - 1))
    return float(np.mean(np.where(best > 0, 1.0 - rest, 0.0)))


def unsupervised_scores(codes: ArrayLike) -> dict[str, float]:
    """Return the scores that need no factors, by flat names; both are 0 for independent units."""
    return {
        "total_correlation": total_correlation(codes),
        "mean_pairwise_mutual_information": mean_pairwise_mutual_information(codes),
    }


def total_correlation(codes: ArrayLike) -> float:
    """KL(N(0, Σ) ‖ N(0, diag Σ)) = −½ log det(correlation) in nats, of the units that vary; ≥ 0.

    Infinite where one unit is a linear function of others.
    """
    codes = matrix(codes, "codes")
    codes = codes[:, np.ptp(codes, axis=0) > 0]
    if codes.shape[1] < 2:
        return 0.0
    correlation = np.corrcoef(codes, rowvar=False)
    sign, log_determinant = np.linalg.slogdet(correlation)
    return float(max(0.0, -0.5 * log_determinant)) if sign > 0 else np.inf


def mean_pairwise_mutual_information(codes: ArrayLike, bins: int = BINS) -> float:
    """Mean of I(z_i; z_j) over pairs i < j, in nats; 0 for one unit."""
    binned = discretize(codes, bins)
    information = _mutual_information(binned, binned)
    pairs = np.triu_indices(len(information), 1)
    return float(information[pairs].mean()) if len(pairs[0]) else 0.0


def _mutual_information(codes: NDArray[Any], factors: NDArray[Any]) -> NDArray[np.float64]:
    """Return I(code; factor) of each pair, (M, K): all tables of joint counts are one matrix product."""
    (a, first), (b, second) = _one_hot(codes), _one_hot(factors)
    joint = np.add.reduceat(np.add.reduceat(entr(a.T @ b / len(codes)), first), second, axis=1)
    marginal = [np.add.reduceat(entr(x.mean(0)), at) for x, at in ((a, first), (b, second))]
    information: NDArray[np.float64] = np.maximum(marginal[0][:, None] + marginal[1] - joint, 0.0)
    return information


def _one_hot(classes: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return a column for each class of each column, and where each column's classes begin."""
    columns = [np.unique(column, return_inverse=True)[1] for column in classes.T]
    sizes = [column.max() + 1 for column in columns]
    return np.hstack([np.eye(s)[c] for s, c in zip(sizes, columns, strict=True)]), np.cumsum([0, *sizes[:-1]])


def gap(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the best row's lead over the second of each column. (M, K) -> (K,)."""
    if len(scores) < 2:
        raise MetricError("there is 1 latent unit; the gap to the second best needs at least 2")
    second, best = np.sort(scores, axis=0)[-2:]
    lead: NDArray[np.float64] = best - second
    return lead


def matrix(values: ArrayLike, name: str) -> NDArray[np.float64]:
    """Return values as float64 (n, columns). Raises MetricError where they are empty or not finite."""
    values = np.asarray(values, np.float64)
    if values.ndim != 2 or 0 in values.shape:
        raise MetricError(f"{name} have shape {values.shape}; (images, columns) is expected, both ≥ 1")
    if not np.isfinite(values).all():
        raise MetricError(f"{name} hold {np.count_nonzero(~np.isfinite(values))} values that are not finite")
    return values


def checked(codes: ArrayLike, factors: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return codes (n, M) and factors (n, K). Raises MetricError where n differs or a factor is constant."""
    codes, factors = matrix(codes, "codes"), matrix(factors, "factors")
    if len(codes) != len(factors):
        raise MetricError(f"there are codes of {len(codes)} images and factors of {len(factors)}")
    for k, column in enumerate(factors.T):
        if np.ptp(column) == 0:
            raise MetricError(f"factor {k} has the one value {column[0]:g}; it must vary")
    return codes, factors
