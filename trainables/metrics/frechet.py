"""The Fréchet distance of two sets of features, exactly, with its uncertainty and its floor.

X (n, d): features of generated images; μ, S their mean and covariance. m, Σ = W Wᵀ: the reference's.
d² = ‖μ − m‖² + tr S + tr Σ − 2 tr (Wᵀ S W)^½ (Heusel et al. 2017, eq. 6, with the symmetric form of the
last trace). The eigenvalues of WᵀSW are those of the n×n Gram matrix of (X − μ)W/√(n − 1), the cheaper
one below n = d; their roots are that matrix's singular values. No ε is added to a covariance: pytorch-fid's
moves the value by −0.24.
"""

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.linalg.blas import dtrmm

from trainables.metrics.errors import MetricError
from trainables.metrics.reference import ReferenceStatistics, reference_statistics
from trainables.metrics.statistics import (
    EPSILON,
    GaussianStatistics,
    Identity,
    as_features,
    covariance_factor,
    is_cholesky,
)

__all__ = [
    "Estimate",
    "GaussianStatistics",
    "ReferenceStatistics",
    "estimate_frechet_distance",
    "frechet_distance",
    "has_real_floor",
    "real_floor",
    "reference_statistics",
]

GROUPS = 10  # of the jackknife
FEWEST = 2 * GROUPS  # images of a model that are scored: a kernel distance takes two of each group
# The share of the traces that rounding may move the value by before singular values are taken instead.
TOLERANCE = 1e-11


class Estimate(NamedTuple):
    """A value and its standard deviation over draws of the generated images, the reference held fixed."""

    value: float
    std: float


def frechet_distance(
    sample: ArrayLike | GaussianStatistics | ReferenceStatistics,
    reference: ReferenceStatistics,
    *,
    identity: Identity | None = None,
) -> float:
    """Return the squared Fréchet distance of two Gaussians, as FID reports it; 0 for identical sets.

    sample: features (n, d), or statistics. identity: of the extractor that made the features, where known.
    Raises IdentityMismatchError where the extractors differ, MetricError where the shapes differ, fewer than
    two images are given or a value is not finite.
    """
    if isinstance(sample, ReferenceStatistics):
        identity = identity or sample.identity
    if identity is not None:
        identity.require(reference.identity)
    if isinstance(sample, GaussianStatistics | ReferenceStatistics):
        return _distance_of_statistics(sample, reference)
    X = _checked(sample, reference)
    if len(X) > reference.factor.shape[1]:
        statistics = GaussianStatistics(X.shape[1])
        statistics.update(X)
        return _distance_of_statistics(statistics, reference)
    mean = X.mean(0)
    deviations = (X - mean) / np.sqrt(len(X) - 1)
    Y = deviations @ reference.factor
    eigenvalues = np.linalg.eigvalsh(Y @ Y.T)[::-1][: len(X) - 1]
    total = np.square(mean - reference.mean).sum() + np.square(deviations).sum()
    total += np.trace(reference.covariance)
    if _rounding(eigenvalues) > TOLERANCE * total:
        return _assemble(total, np.linalg.svd(Y, compute_uv=False)[: len(X) - 1])
    return _assemble(total, np.sqrt(eigenvalues.clip(0)))


def _distance_of_statistics(
    sample: GaussianStatistics | ReferenceStatistics, reference: ReferenceStatistics
) -> float:
    covariance = sample.covariance
    if len(covariance) != reference.dim:
        raise MetricError(f"statistics of {len(covariance)} features; the reference has {reference.dim}")
    W = reference.factor
    if isinstance(sample, ReferenceStatistics):
        L = sample.factor
    else:
        L = covariance_factor(covariance, sample.n - 1)
    rank = min(W.shape[1], sample.n - 1 if sample.n else W.shape[1])
    total = np.square(sample.mean - reference.mean).sum()
    total += np.trace(covariance) + np.trace(reference.covariance)
    if is_cholesky(L) and is_cholesky(W):
        # Half of the products' terms are zeros: W is triangular.
        product = dtrmm(1.0, W, dtrmm(1.0, W, covariance, lower=1, trans_a=1), side=1, lower=1)
        eigenvalues = np.linalg.eigvalsh(product)
        log_determinant = 2 * (np.log(L.diagonal()).sum() + np.log(W.diagonal()).sum())
        if _error_of_roots(eigenvalues, log_determinant) < TOLERANCE * total:
            return _assemble(total, np.sqrt(eigenvalues))
    return _assemble(total, np.linalg.svd(L.T @ W, compute_uv=False)[:rank])


def _error_of_roots(eigenvalues: NDArray[np.float64], log_determinant: float) -> float:
    """Estimate what rounding did to the sum of the roots, from the determinant, which is known otherwise.

    Errors e of about equal size move the log determinant by e·(Σ λ⁻²)^½ and the roots' sum by
    e/2·(Σ λ⁻¹)^½. Ten times that is returned; the sum counts twice in the distance.
    """
    if eigenvalues[0] <= 0:
        return np.inf
    moved = abs(np.log(eigenvalues).sum() - log_determinant)
    inverse = eigenvalues[0] / eigenvalues  # of the smallest: its square must not overflow
    return float(10 * moved * np.sqrt(eigenvalues[0] * inverse.sum()) / np.sqrt(np.square(inverse).sum()))


def _rounding(eigenvalues: NDArray[np.float64]) -> float:
    """Bound what rounding can add to the sum of the roots: each eigenvalue is known to ±√n·ε·λ₁."""
    if not len(eigenvalues):
        return 0.0
    error = np.sqrt(len(eigenvalues)) * EPSILON * max(eigenvalues[0], 0.0)
    return float(np.sqrt(np.maximum(eigenvalues, 0) + error).sum() - np.sqrt(eigenvalues.clip(0)).sum())


def _assemble(total: float, roots: NDArray[np.floating[Any]]) -> float:
    value = float(total - 2 * roots.sum())
    # Below this the difference of two equal numbers is rounding, of either sign.
    return value if value > (32 + len(roots)) * EPSILON * total else 0.0


def _checked(features: ArrayLike, reference: ReferenceStatistics) -> NDArray[np.float64]:
    X = as_features(features)
    if X.shape[1] != reference.dim:
        raise MetricError(f"features have {X.shape[1]} dimensions; the reference has {reference.dim}")
    return X


def estimate_frechet_distance(
    features: ArrayLike,
    reference: ReferenceStatistics,
    *,
    groups: int = GROUPS,
    identity: Identity | None = None,
) -> Estimate:
    """Return `frechet_distance` and its standard deviation, by leaving out one of `groups` groups at a time.

    The delete-a-group jackknife: variance (g − 1)/g · Σ (d²₍ᵢ₎ − mean)². It tells how far the value would
    move with other images of the same model, not its bias, which depends on n. Raises as
    `frechet_distance`, and MetricError where a group would be empty or leave fewer than two images.
    """
    value = frechet_distance(features, reference, identity=identity)
    X = _checked(features, reference)
    n = len(X)
    if not 2 <= groups <= n - 2:
        raise MetricError(f"{groups} groups of {n} images; between 2 and {n - 2} are possible")
    shifted = X - reference.mean
    Y = shifted @ reference.factor
    parts = np.array_split(np.arange(n), groups)
    gram = n - min(map(len, parts)) <= Y.shape[1]
    if gram:
        products = Y @ Y.T
    else:
        scatters = [Y[part].T @ Y[part] for part in parts]
        scatter = sum(scatters)
    values = []
    for i, part in enumerate(parts):
        kept = np.delete(np.arange(n), part)
        if gram:
            # Centring the rows of Y is centring the rows and columns of their products.
            A = products[np.ix_(kept, kept)]
            A = A - A.mean(0) - A.mean(1)[:, None] + A.mean()
        else:
            mean = Y[kept].mean(0)
            A = scatter - scatters[i] - len(kept) * np.outer(mean, mean)
        eigenvalues = np.linalg.eigvalsh(A / (len(kept) - 1))[::-1][: len(kept) - 1]
        difference = shifted[kept].mean(0)
        variance = np.square(shifted[kept] - difference).sum() / (len(kept) - 1)
        total = np.square(difference).sum() + variance + np.trace(reference.covariance)
        values.append(_assemble(total, np.sqrt(eigenvalues.clip(0))))
    return Estimate(value, float(np.sqrt((groups - 1) * np.var(values))))


def _kept(reference: ReferenceStatistics) -> int:
    return 0 if reference.features is None else len(reference.features)


def has_real_floor(reference: ReferenceStatistics, n: int) -> bool:
    """Return whether the reference kept n features and has as many images again beside them."""
    return reference.n is not None and reference.n >= 2 * n and _kept(reference) >= n


@lru_cache(maxsize=1)  # the same in every evaluation of a trial
def real_floor(reference: ReferenceStatistics, n: int) -> float:
    """Return the distance of n real images to the other real images of the reference.

    No model that is scored with n samples can be expected below it; it is not 0, since n is finite. Raises
    MetricError where not `has_real_floor`.
    """
    if reference.features is None or reference.n is None or not has_real_floor(reference, n):
        raise MetricError(
            f"a floor at n = {n} needs {n} kept features and {2 * n} images; "
            f"this reference has {_kept(reference)} of {reference.n}"
        )
    held_out = as_features(reference.features[:n])
    # The others' mean and covariance: the merge of two parts, solved for one of them.
    others = reference.n - n
    part_mean = held_out.mean(0)
    mean = (reference.n * reference.mean - n * part_mean) / others
    delta = part_mean - mean
    scatter = (reference.n - 1) * reference.covariance
    scatter -= (held_out - part_mean).T @ (held_out - part_mean)
    scatter -= np.outer(delta, delta) * n * others / reference.n
    covariance = scatter / (others - 1)
    factor = covariance_factor(covariance, others - 1)
    return frechet_distance(held_out, ReferenceStatistics(others, mean, covariance, factor))
