"""Densities without training steps: probabilistic PCA and a Gaussian mixture, both fitted by scikit-learn.

Images are (B, C, H, W) in [−1, 1], as everywhere. The density is that of the D pixels in [0, 1], in nats. On
the scale of [PML], 0–255, a log-density is lower by D·ln 255, and a squared error 255² times as high.
"""

import warnings
from dataclasses import dataclass
from math import prod
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture as Mixture
from torch import Tensor

from trainables.models.settings import Count, NotNegative, check_values

Covariance = Literal["diag", "full", "tied", "spherical"]

LIKELIHOOD = "gaussian density, pixels in [0, 1]"
# A gray level is known to ±½, which is a uniform error of this variance in levels². Narrower peaks say
# nothing about pictures, and without a floor the density of pixels that never change is infinite.
LEVEL_VARIANCE = 1 / 12
AXES = ("mean", "axes", "rest")  # what a mixture stores beside its estimator


class FittedDensity:
    """What the two densities share: a config, a scikit-learn estimator, and its fitted values as tensors.

    It is built, saved and loaded as a `GenerativeModel` is, and has no training steps.
    """

    Config: ClassVar[type]
    FITTED: ClassVar[tuple[str, ...]]  # the estimator's attributes that define it
    has_encoder: ClassVar[bool] = False
    likelihood = LIKELIHOOD

    def __init__(self, config: Any, *, device: torch.device | str = "cpu", seed: int = 0):
        check_values(config)
        self.config, self.seed = config, seed
        self.device = torch.device("cpu")  # scikit-learn's, whatever was asked for
        self.shape = (config.channels, config.image_size, config.image_size)

    @classmethod
    def configure(cls, values: dict[str, Any]) -> Any:
        """Return the Config of these values."""
        return cls.Config(**values)

    def state_dict(self) -> dict[str, Tensor]:
        """Return the fitted values."""
        return {name: torch.tensor(getattr(self.estimator, name)) for name in self.FITTED}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Restore `state_dict`."""
        self.estimator = self.unfitted()
        for name in self.FITTED:
            value = state[name].numpy()
            setattr(self.estimator, name, value if value.ndim else value.item())

    def training_state(self) -> dict[str, Any]:
        """Return the fitted values, under the key that a `GenerativeModel` uses."""
        return {"networks": self.state_dict()}

    def load_training_state(self, state: dict[str, Any]) -> None:
        """Restore `training_state`."""
        self.load_state_dict(state["networks"])

    @classmethod
    def decodes_noise(cls) -> bool:
        """Whether a sample is a draw of N(0, I), decoded."""
        return False

    def eval(self) -> "FittedDensity":
        """Return itself, since nothing differs between training and evaluation."""
        return self

    def unfitted(self) -> BaseEstimator:
        """Return the scikit-learn estimator that the config describes."""
        raise NotImplementedError

    def check(self, images: int) -> None:
        """Raise ValueError where the config can't be fitted to so many images."""
        raise NotImplementedError

    def fit(self, x: Tensor) -> None:
        """Maximize the likelihood of images (B, C, H, W). Raises as `check`."""
        raise NotImplementedError

    def log_likelihood(self, x: Tensor) -> Tensor:
        """Return the log-density of each image, (B,), in nats."""
        raise NotImplementedError

    def reconstruct(self, x: Tensor) -> Tensor:
        """Return images as the density explains them."""
        raise NotImplementedError

    def sample(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """Draw n images."""
        raise NotImplementedError


@dataclass(frozen=True)
class PPCAConfig:
    """Hyperparameters of `PPCA`. `latent_dim` is q, which is 2 in [PML]."""

    image_size: Count = 28
    channels: Count = 1
    latent_dim: Count = 2


class PPCA(FittedDensity):
    """Probabilistic PCA (Tipping & Bishop 1999): x = Wz + μ + ε, z ~ N(0, I), ε ~ N(0, σ²I)."""

    Config = PPCAConfig
    FITTED = ("mean_", "components_", "explained_variance_", "noise_variance_", "n_components_")
    has_encoder = True

    def unfitted(self) -> PCA:
        """Return scikit-learn's PCA."""
        return PCA(self.config.latent_dim, svd_solver="covariance_eigh")

    def check(self, images: int) -> None:
        """Raise ValueError unless q is below D and below the number of images."""
        q, pixels = self.config.latent_dim, prod(self.shape)
        most = min(images, pixels) - 1
        if not 1 <= q <= most:
            raise ValueError(f"latent_dim is {q}; {images} images of {pixels} pixels allow 1 … {most}")

    def fit(self, x: Tensor) -> None:
        """Maximize the likelihood of images. Raises as `check`."""
        self.check(len(x))
        self.estimator = self.unfitted().fit(rows(x))

    def log_likelihood(self, x: Tensor) -> Tensor:
        """Return log N(x | μ, WWᵀ + σ²I) of each image, (B,), float64."""
        return torch.from_numpy(self.estimator.score_samples(rows(x)))

    def encode(self, x: Tensor) -> Tensor:
        """Return the posterior mean of z, (B, q) (Tipping & Bishop 1999, sec. 3.3)."""
        pca = self.estimator
        return torch.from_numpy(pca.transform(rows(x)) * self._scale / pca.explained_variance_)

    def decode(self, z: Tensor) -> Tensor:
        """Return the mean images Wz + μ of latents (B, q); pixels may lie outside [−1, 1]."""
        pca = self.estimator
        return images(z.double().numpy() * self._scale @ pca.components_ + pca.mean_, self.shape)

    @classmethod
    def decodes_noise(cls) -> bool:
        """Whether a sample is a draw of N(0, I), decoded: it is."""
        return True

    def prior_sample(self, n: int, generator: torch.Generator | None) -> Tensor:
        """Draw n latents from the prior, (n, q), float64."""
        return torch.randn(n, self.config.latent_dim, generator=generator, dtype=torch.float64)

    def from_noise(self, noise: Tensor) -> Tensor:
        """Return draws of the prior, which is N(0, I)."""
        return noise

    def reconstruct(self, x: Tensor) -> Tensor:
        """Return E[Wz + μ | x]."""
        return self.decode(self.encode(x))

    def sample(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """Return the mean images of n latents from the prior, without the pixels' noise ε."""
        return self.decode(self.prior_sample(n, generator))

    @property
    def _scale(self) -> NDArray[np.float64]:
        """√(WᵀW), (q,): the standard deviation of each component beyond that of the noise."""
        pca = self.estimator
        scale: NDArray[np.float64] = np.sqrt(np.maximum(pca.explained_variance_ - pca.noise_variance_, 0.0))
        return scale


@dataclass(frozen=True)
class GaussianMixtureConfig:
    """Hyperparameters of `GaussianMixture`.

    subspace: the number of principal axes in which the components differ, or None for all of them. Along the
    other axes the components share one Gaussian.
    variance_floor: what is added to each variance, in squared gray levels.
    """

    image_size: Count = 28
    channels: Count = 1
    components: Count = 10
    covariance: Covariance = "full"
    subspace: int | None = 50
    variance_floor: NotNegative = LEVEL_VARIANCE
    max_iterations: Count = 100


class GaussianMixture(FittedDensity):
    """A mixture of Gaussians over an image's principal axes, fitted by expectation maximization.

    The rotation into those axes leaves every density as it is. Along the first axes the components differ.
    Along each of the rest all components share a mean of 0 and a variance.
    """

    Config = GaussianMixtureConfig
    FITTED = ("weights_", "means_", "covariances_", "precisions_cholesky_")

    def unfitted(self) -> Mixture:
        """Return scikit-learn's mixture."""
        c = self.config
        return Mixture(
            c.components,
            covariance_type=c.covariance,
            reg_covar=c.variance_floor / 255**2,
            max_iter=c.max_iterations,
            init_params="k-means++",
            random_state=self.seed,
        )

    def check(self, images: int) -> None:
        """Raise ValueError for fewer images than components, and for a subspace of more axes than pixels."""
        c, pixels = self.config, prod(self.shape)
        if not 1 <= c.components <= images:
            raise ValueError(f"components is {c.components}; {images} images allow 1 … {images}")
        if c.subspace is not None and not 1 <= c.subspace <= pixels:
            raise ValueError(f"subspace is {c.subspace}; images of {pixels} pixels allow 1 … {pixels}")

    def fit(self, x: Tensor) -> None:
        """Raise the likelihood of images until a step gains below 1e-3 nats an image. Raises as `check`."""
        self.check(len(x))
        c, X = self.config, rows(x)
        self.mean = X.mean(0)
        variances, axes = np.linalg.eigh(np.cov(X.T, bias=True))
        self.axes = np.ascontiguousarray(axes[:, ::-1])
        self.rest = (
            np.maximum(variances[::-1][c.subspace or len(variances) :], 0.0) + c.variance_floor / 255**2
        )
        with warnings.catch_warnings():  # `converged_` tells, and max_iterations is our choice
            warnings.simplefilter("ignore", ConvergenceWarning)
            self.estimator = self.unfitted().fit(self._inside(X))

    def log_likelihood(self, x: Tensor) -> Tensor:
        """Return log p(x) of each image, (B,), float64."""
        Y = (rows(x) - self.mean) @ self.axes
        inside = self.estimator.score_samples(Y[:, : self.config.subspace])
        outside = Y[:, Y.shape[1] - len(self.rest) :]
        constant = np.log(2 * np.pi * self.rest).sum()
        return torch.from_numpy(inside - 0.5 * (constant + (outside**2 / self.rest).sum(1)))

    def responsibilities(self, x: Tensor) -> Tensor:
        """Return p(component | x), (B, K)."""
        return torch.from_numpy(self.estimator.predict_proba(self._inside(rows(x))))

    def means(self) -> Tensor:
        """Return the components' mean images, (K, C, H, W)."""
        return self._images(self.estimator.means_)

    def reconstruct(self, x: Tensor) -> Tensor:
        """Return the components' mean images, weighted by their responsibilities for x."""
        return self._images(self.responsibilities(x).numpy() @ self.estimator.means_)

    def sample(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """Return n draws. Along the axes that all components share, each draw is at the mean."""
        self.estimator.set_params(random_state=int(torch.randint(2**31 - 1, (), generator=generator)))
        return self._images(self.estimator.sample(n)[0])[torch.randperm(n, generator=generator)]

    def state_dict(self) -> dict[str, Tensor]:
        """Return the fitted values."""
        return super().state_dict() | {name: torch.tensor(getattr(self, name)) for name in AXES}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Restore `state_dict`."""
        super().load_state_dict(state)
        for name in AXES:
            setattr(self, name, state[name].numpy())

    def _inside(self, X: NDArray[np.float64]) -> NDArray[np.float64]:
        Y: NDArray[np.float64] = (X - self.mean) @ self.axes[:, : self.config.subspace]
        return Y

    def _images(self, Y: NDArray[np.float64]) -> Tensor:
        return images(Y @ self.axes[:, : Y.shape[1]].T + self.mean, self.shape)


def rows(x: Tensor) -> NDArray[np.float64]:
    """Return images (B, C, H, W) in [−1, 1] as pixels in [0, 1], (B, D), float64."""
    return (x.cpu().flatten(1).double().numpy() + 1) / 2


def images(X: NDArray[np.float64], shape: tuple[int, ...]) -> Tensor:
    """Return pixels (B, D) in [0, 1] as images (B, C, H, W) in [−1, 1], which undoes `rows`."""
    return torch.from_numpy(2 * X - 1).reshape(-1, *shape)
