"""Statistics of the real images: computed once for a data set, shared by all trials and processes."""

import hashlib
import io
import os
import re
import tempfile
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from trainables.metrics.errors import MetricError
from trainables.metrics.extractors.extractor import Extractor
from trainables.metrics.kernels import mean_kernel
from trainables.metrics.statistics import GaussianStatistics, Identity, as_features, covariance_factor

FORMAT = 1  # of the files; raise it where a stored value changes its meaning
KEPT_FEATURES = 4096
BATCH = 1024


@dataclass(frozen=True, eq=False)
class ReferenceStatistics:
    """The real images' side of a Fréchet or kernel distance, computed once and read by all trials.

    `n` images (None: unknown, for files of other programs), `mean` (d,), `covariance` (d, d), `factor` W
    (d, r) with W Wᵀ = covariance, `identity` (None: unknown), and `features`, (k, d) float32: those
    of a random subset of the images in random order, which the kernel distance, the floor and the manifold
    scores are computed from, with `kernel_mean`, the kernel's mean over their pairs.
    """

    n: int | None
    mean: NDArray[np.float64]
    covariance: NDArray[np.float64]
    factor: NDArray[np.float64]
    identity: Identity | None = None
    features: NDArray[np.float32] | None = None
    kernel_mean: float | None = None

    @classmethod
    def of(
        cls,
        statistics: GaussianStatistics,
        identity: Identity | None = None,
        features: NDArray[np.float32] | None = None,
    ) -> "ReferenceStatistics":
        """Factor the covariance. Raises MetricError below two images."""
        covariance = statistics.covariance
        factor = covariance_factor(covariance, statistics.n - 1)
        kernel_mean = None if features is None else mean_kernel(features.astype(np.float64))
        return cls(statistics.n, statistics.mean, covariance, factor, identity, features, kernel_mean)

    @classmethod
    def of_features(cls, features: ArrayLike, identity: Identity | None = None) -> "ReferenceStatistics":
        """Return the statistics of features (n, d) that are in memory."""
        x = as_features(features)
        statistics = GaussianStatistics(x.shape[1])
        statistics.update(x)
        kept = np.random.default_rng(0).permutation(len(x))[:KEPT_FEATURES]
        return cls.of(statistics, identity, x[kept].astype(np.float32))

    @property
    def dim(self) -> int:
        """The number of features, d."""
        return len(self.mean)

    def save(self, path: Path) -> None:
        """Write an .npz, whole or not at all; pytorch-fid reads it, too, by the names `mu` and `sigma`."""
        arrays: dict[str, Any] = {"format": FORMAT, "mu": self.mean, "sigma": self.covariance}
        arrays["factor"] = self.factor
        if self.n is not None:
            arrays["n"] = self.n
        if self.identity is not None:
            arrays["identity"] = [self.identity.extractor, self.identity.weights, self.identity.resize]
        if self.features is not None:
            arrays |= {"features": self.features, "kernel_mean": self.kernel_mean}
        buffer = io.BytesIO()
        np.savez(buffer, **arrays)
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=path.name, delete=False) as file:
            try:
                file.write(buffer.getbuffer())
                file.flush()
                os.fsync(file.fileno())
                os.chmod(file.name, 0o644)
                os.replace(file.name, path)
            except BaseException:
                os.unlink(file.name)
                raise

    @classmethod
    def load(cls, path: Path) -> "ReferenceStatistics":
        """Read `save`'s file, or pytorch-fid's with `mu` and `sigma` alone.

        Raises MetricError where the file holds no such statistics.
        """
        try:
            with open(path, "rb") as raw, np.load(raw, allow_pickle=False) as file:
                arrays = dict(file)
        except (OSError, ValueError, TypeError, EOFError, zipfile.BadZipFile, zlib.error) as error:
            if isinstance(error, FileNotFoundError):
                raise
            raise MetricError(f"{path} is no readable .npz file: {error}") from error
        try:
            return cls._of_arrays(path, arrays)
        except MetricError:
            raise
        except (ValueError, TypeError, LookupError, AttributeError, np.linalg.LinAlgError) as error:
            raise MetricError(f"{path} holds damaged statistics: {error}") from error

    @classmethod
    def _of_arrays(cls, path: Path, arrays: dict[str, NDArray[Any]]) -> "ReferenceStatistics":
        if "mu" not in arrays or "sigma" not in arrays:
            raise MetricError(f"{path} holds {sorted(arrays)}; statistics need 'mu' (d,) and 'sigma' (d, d)")
        if any(arrays[name].dtype.kind not in "fiu" for name in ("mu", "sigma")):
            raise MetricError(f"{path}: mu and sigma hold no numbers, or complex ones")
        mean, covariance = arrays["mu"].astype(np.float64), arrays["sigma"].astype(np.float64)
        if mean.ndim != 1 or not mean.size or covariance.shape != (len(mean), len(mean)):
            raise MetricError(f"{path}: mu {mean.shape} and sigma {covariance.shape} are not (d,) and (d, d)")
        if not (np.isfinite(mean).all() and np.isfinite(covariance).all()):
            raise MetricError(f"{path} holds statistics that are not finite")
        largest = np.abs(covariance).max()
        if np.abs(covariance - covariance.T).max() > 1e-3 * largest or covariance.diagonal().min() < 0:
            raise MetricError(f"{path}: sigma is no covariance: not symmetric, or with a negative variance")
        if int(arrays.get("format", np.int64(FORMAT))) != FORMAT:
            raise MetricError(f"{path} has the format {arrays['format']}, this version reads {FORMAT}")
        n = int(arrays["n"]) if "n" in arrays else None
        if n is not None and n < 2:
            raise MetricError(f"{path} holds statistics of {n} images; at least 2 are needed")
        factor = arrays["factor"] if "factor" in arrays else covariance_factor(covariance, n and n - 1)
        features = arrays.get("features")
        if factor.shape[:1] != mean.shape or factor.ndim != 2 or not np.isfinite(factor).all():
            raise MetricError(f"{path}: factor {factor.shape} is not (d, r), or not finite")
        if features is not None and (features.shape[1:] != mean.shape or not np.isfinite(features).all()):
            raise MetricError(f"{path}: features {features.shape} are not (k, d), or not finite")
        identity = Identity(*map(str, arrays["identity"])) if "identity" in arrays else None
        kernel_mean = float(arrays["kernel_mean"]) if "kernel_mean" in arrays else None
        return cls(n, mean, covariance, factor, identity, features, kernel_mean)


def reference_statistics(
    images: NDArray[np.uint8] | Tensor | Iterable[NDArray[np.uint8] | Tensor],
    extractor: Extractor,
    *,
    cache_dir: Path | None,
    key: str,
) -> ReferenceStatistics:
    """Return the statistics of real images, from the cache where they are there.

    images: uint8 (N, H, W, C), or an iterable of batches of them, read only where the cache has nothing. key
    names data set, split and image size; together with the extractor's identity it is the file's name in
    cache_dir (None: no cache). Concurrent callers on one file system compute once: the others wait. A file
    that cannot be read is computed anew. Raises MetricError where there are fewer than two images.
    """
    if cache_dir is None:
        return _compute(images, extractor)
    slug = re.sub(r"[^A-Za-z0-9.]+", "-", key)[:60].strip("-")
    digest = hashlib.sha256(f"{FORMAT}\n{key}\n{extractor.identity!r}".encode()).hexdigest()[:16]
    directory = Path(cache_dir)
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / f"{slug}-{extractor.identity.extractor}-{digest}.npz"
    reference = _load_if_sound(path)
    if reference is None:
        with FileLock(f"{path}.lock"):
            reference = _load_if_sound(path)  # another process may have been first
            if reference is None:
                reference = _compute(images, extractor)
                reference.save(path)
    return reference


def _load_if_sound(path: Path) -> ReferenceStatistics | None:
    try:
        return ReferenceStatistics.load(path)
    except (FileNotFoundError, MetricError):
        return None


def _compute(
    images: NDArray[np.uint8] | Tensor | Iterable[NDArray[np.uint8] | Tensor], extractor: Extractor
) -> ReferenceStatistics:
    batches = map(extractor, _batches(images))
    first = next(batches, np.empty((0, 0)))
    statistics = GaussianStatistics(first.shape[1])
    keys, kept = np.empty(0), np.empty((0, first.shape[1]), np.float32)
    generator = np.random.default_rng(0)
    for features in chain([first], batches):
        statistics.update(features)
        # The rows with the smallest random keys are a random subset, whatever the batches.
        keys = np.append(keys, generator.random(len(features)))
        kept = np.concatenate([kept, features.astype(np.float32)])
        smallest = np.argsort(keys)[:KEPT_FEATURES]
        keys, kept = keys[smallest], kept[smallest]
    return ReferenceStatistics.of(statistics, extractor.identity, kept)


def _batches(
    images: NDArray[np.uint8] | Tensor | Iterable[NDArray[np.uint8] | Tensor],
) -> Iterator[NDArray[np.uint8] | Tensor]:
    if isinstance(images, np.ndarray | Tensor):
        if not len(images):
            raise MetricError(f"no image: the shape is {tuple(images.shape)}")
        return (images[start : start + BATCH] for start in range(0, len(images), BATCH))
    return iter(images)
