"""Mean and covariance of features, accumulated in batches, and the identity of what they were made by."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from trainables.metrics.errors import IdentityMismatchError, MetricError

EPSILON = np.finfo(np.float64).eps


@dataclass(frozen=True)
class Identity:
    """What a score depends on beside the images: scores of different identity are not comparable.

    `extractor` is the network's name, `weights` the SHA-256 of its weights, `resize` how uint8 images
    reach the network's input size.
    """

    extractor: str
    weights: str
    resize: str

    def __str__(self) -> str:
        return f"{self.extractor}-{self.weights[:12]}-{self.resize}"

    def require(self, other: "Identity | None") -> None:
        """Raise IdentityMismatchError where other is known and differs."""
        if other is not None and other != self:
            raise IdentityMismatchError(
                f"these values cannot be compared: one comes from {self}, the other from {other}"
            )


def as_features(features: ArrayLike, minimum: int = 2) -> NDArray[np.float64]:
    """Return features as float64 (n, d). Raises MetricError where n < minimum, or a value is not finite."""
    x = np.asarray(features, dtype=np.float64)
    if x.ndim != 2:
        raise MetricError(f"features have shape {x.shape}; (n, d) is expected")
    if len(x) < minimum:
        raise MetricError(f"features of {len(x)} images; at least {minimum} are needed for this score")
    finite = np.isfinite(x).all(1)
    if not finite.all():
        raise MetricError(
            f"features of {np.count_nonzero(~finite)} of {len(x)} images are not finite "
            f"(first: image {int(np.argmin(finite))})"
        )
    return x


class GaussianStatistics:
    """Number, mean and covariance of rows that arrive in batches; merging takes any order and batch size.

    Sums are float64, around a shift near the data (the first batch's mean), so that the covariance keeps
    its digits where the mean is far larger than the deviations.
    """

    def __init__(self, dim: int):
        self.dim = dim
        self.n = 0
        self._shift = np.zeros(dim)
        self._sum = np.zeros(dim)
        self._outer = np.zeros((dim, dim))

    def update(self, features: ArrayLike) -> None:
        """Add rows, (b, d). Raises MetricError where d differs or a value is not finite."""
        x = as_features(features, minimum=0)
        if x.shape[1] != self.dim:
            raise MetricError(f"features have {x.shape[1]} dimensions; these statistics have {self.dim}")
        if not len(x):
            return
        if not self.n:
            self._shift = x.mean(0)
        x = x - self._shift
        self.n += len(x)
        self._sum += x.sum(0)
        self._outer += x.T @ x

    def merge(self, other: "GaussianStatistics") -> None:
        """Add another worker's rows. Raises MetricError where the dimensions differ."""
        if other.dim != self.dim:
            raise MetricError(f"statistics of {other.dim} dimensions cannot join those of {self.dim}")
        if not self.n:
            self._shift = other._shift.copy()
        delta = other._shift - self._shift
        cross = np.outer(other._sum, delta)
        self.n += other.n
        self._sum += other._sum + other.n * delta
        self._outer += other._outer + cross + cross.T + other.n * np.outer(delta, delta)

    @property
    def mean(self) -> NDArray[np.float64]:
        """The mean, (d,). Raises MetricError where there are no rows."""
        if not self.n:
            raise MetricError("no images: their mean is undefined")
        return self._shift + self._sum / self.n

    @property
    def covariance(self) -> NDArray[np.float64]:
        """The unbiased covariance, (d, d). Raises MetricError below two rows."""
        if self.n < 2:
            raise MetricError(f"the covariance of {self.n} image(s) is undefined; at least 2 are needed")
        return (self._outer - np.outer(self._sum, self._sum) / self.n) / (self.n - 1)


def is_cholesky(factor: NDArray[np.float64]) -> bool:
    """Whether a covariance's factor is Cholesky's: square, lower triangular, its diagonal positive."""
    return bool(factor.shape[0] == factor.shape[1] and factor[0, 0] > 0 and not np.triu(factor, 1).any())


def covariance_factor(covariance: NDArray[np.float64], rank: int | None = None) -> NDArray[np.float64]:
    """Return W (d, r) with W Wᵀ = Σ: Cholesky's, or eigenvectors' where Σ is singular. rank bounds r."""
    d = len(covariance)
    if rank is None or rank >= d:
        try:
            W: NDArray[np.float64] = np.asarray(np.linalg.cholesky(covariance), np.float64)
            pivots = np.square(np.diag(W))
            # A pivot of rounding errors alone would give a direction that the data do not have.
            if pivots.min() > d * EPSILON * np.diag(covariance).max():
                return W
        except np.linalg.LinAlgError:
            pass
    eigenvalues, V = np.linalg.eigh(covariance)
    keep = eigenvalues > d * EPSILON * max(eigenvalues[-1], 0.0)
    if rank is not None:
        keep[: max(d - rank, 0)] = False
    factor: NDArray[np.float64] = V[:, keep] * np.sqrt(eigenvalues[keep])
    return factor
