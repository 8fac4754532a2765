"""The continuous baseline: expected improvement under DNGO, maximized by SLSQP near the data.

DNGO (Snoek et al. 2015) fits a network of 3×50 tanh units to the scores, and a Bayesian linear regression on
its last layer gives mean and variance. The Gaussian mixture (Ghosh et al. 2020) is fitted to the latents. A
point must be as dense as all of them but the `excluded_share` least dense.
"""

import math
import time
import warnings
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import BayesianRidge
from sklearn.mixture import GaussianMixture
from torch import Tensor, nn

from trainables.latent.discrete import Proposal
from trainables.metrics.neighbors import nearest_neighbors

BATCH = 256


@dataclass(frozen=True)
class ContinuousSettings:
    """Settings of `ContinuousSearch`.

    The network trains for `epochs` at the start of a round and for `refit_epochs` after a query. A proposal
    keeps a distance of `spacing` from all tried ones, root mean squared in standard deviations of the
    latents. Without it the same maximum would be proposed again and again, since one score hardly changes the
    surrogate.
    """

    units: int = 50
    epochs: int = 40
    refit_epochs: int = 2
    learning_rate: float = 3e-3
    components: int = 10
    excluded_share: float = 0.05
    starts: int = 6
    iterations: int = 60
    spacing: float = 0.1


class ContinuousSearch:
    """Propose latents (M,), given latents and their scores, with the methods of `DiscreteSearch`."""

    def __init__(self, settings: ContinuousSettings):
        self.settings = settings

    def begin(self, latents: NDArray, scores: NDArray, tried: NDArray, rng: np.random.Generator) -> None:
        """Take the round's latents (n, M), scores (n,) and tried latents (m, M), and fit everything anew."""
        start = time.perf_counter()
        self.latents = np.asarray(latents, dtype=np.float64)
        self.tried = np.asarray(tried, dtype=np.float64).reshape(-1, latents.shape[1])
        self.scores = np.asarray(scores, dtype=np.float64)
        self.rng = rng
        components = min(self.settings.components, max(1, len(latents) // (2 * latents.shape[1])))
        mixture = GaussianMixture(components, reg_covar=1e-4, random_state=int(rng.integers(2**31)))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            mixture.fit(self.latents)
        self.density = MixtureDensity(mixture)
        self.threshold = float(np.quantile(mixture.score_samples(self.latents), self.settings.excluded_share))
        self.offset, self.scale = self.latents.mean(0), self.latents.std(0) + 1e-8
        self._build(seed=int(rng.integers(2**31)))
        self._train(self.settings.epochs)
        self.stale = True
        self.training_seconds = time.perf_counter() - start

    def _build(self, seed: int) -> None:
        """Set a new network and its optimizer."""
        units, inputs = self.settings.units, self.latents.shape[1]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.features = nn.Sequential(
                *(layer for n in (inputs, units, units) for layer in (nn.Linear(n, units), nn.Tanh()))
            ).double()
            self.output = nn.Linear(units, 1).double()
        parameters = [*self.features.parameters(), *self.output.parameters()]
        self.optimizer = torch.optim.Adam(parameters, lr=self.settings.learning_rate)

    def add(self, latent: NDArray, score: float) -> None:
        """Add a query to the data."""
        start = time.perf_counter()
        self.latents = np.vstack([self.latents, latent])
        self.scores = np.append(self.scores, score)
        self.tried = np.vstack([self.tried, latent])
        self._train(self.settings.refit_epochs)
        self.stale = True
        self.training_seconds += time.perf_counter() - start

    def propose(self, base: NDArray) -> Proposal:
        """Return the point of highest expected improvement that SLSQP finds, perhaps from `base`."""
        start = time.perf_counter()
        if self.stale:
            self._fit_head()
            self.stale = False
        fitted = time.perf_counter()
        fit_seconds, self.training_seconds = fitted - start + self.training_seconds, 0.0
        candidates = np.vstack([self.latents, base])
        feasible = candidates[self.density(candidates) >= self.threshold]
        values = self._log_improvement(torch.from_numpy(feasible)).detach().numpy()
        top = np.argsort(-values)[: self.settings.starts - self.settings.starts // 2]
        drawn = self.rng.integers(len(feasible), size=self.settings.starts // 2)
        found = np.array([self._climb(origin) for origin in feasible[np.concatenate([top, drawn])]])
        found = found[self.density(found) >= self.threshold - 1e-6]
        candidates = np.vstack([found, feasible])
        values = self._log_improvement(torch.from_numpy(candidates)).detach().numpy()
        values[~self._apart(candidates)] = -np.inf
        best = candidates[values.argmax()]
        mean, _ = self.predict(torch.from_numpy(best[None]))
        seconds = time.perf_counter() - fitted
        return Proposal(best, float(mean.detach()), math.nan, 0, fit_seconds, seconds)

    def _apart(self, z: NDArray) -> NDArray[np.bool_]:
        """Return which of z, (n, M), keep their distance from all that was tried."""
        if not len(self.tried):
            return np.ones(len(z), dtype=bool)
        nearest = nearest_neighbors(z / self.scale, self.tried / self.scale).distances[:, 0]
        return nearest >= self.settings.spacing * math.sqrt(z.shape[1])

    def predict(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and standard deviation of the scores at latents (n, M), noise included: each (n,)."""
        basis = self._basis(z)
        mean = basis @ self.weights
        variance = ((basis @ self.covariance) * basis).sum(1) + self.noise
        return mean * self.score_std + self.score_mean, variance.sqrt() * self.score_std

    def _basis(self, z: Tensor) -> Tensor:
        h = self.features((z - torch.from_numpy(self.offset)) / torch.from_numpy(self.scale))
        return torch.cat([h, torch.ones_like(h[:, :1])], 1)

    def _train(self, epochs: int) -> None:
        self.score_mean, self.score_std = self.scores.mean(), self.scores.std() + 1e-8
        z = torch.from_numpy((self.latents - self.offset) / self.scale)
        y = torch.from_numpy((self.scores - self.score_mean) / self.score_std)
        for _ in range(epochs):
            order = torch.from_numpy(self.rng.permutation(len(z)))
            for part in order.split(BATCH):
                loss = (self.output(self.features(z[part])).squeeze(1) - y[part]).square().mean()
                self.optimizer.zero_grad()
                loss.backward()
                self.optimizer.step()

    def _fit_head(self) -> None:
        with torch.no_grad():
            basis = self._basis(torch.from_numpy(self.latents)).numpy()
        head = BayesianRidge(fit_intercept=False).fit(basis, (self.scores - self.score_mean) / self.score_std)
        self.weights, self.covariance = torch.from_numpy(head.coef_), torch.from_numpy(head.sigma_)
        self.noise = 1 / float(head.alpha_)
        self.best = float(self.scores.max())

    def _log_improvement(self, z: Tensor) -> Tensor:
        """Return the log of expected improvement, which does not underflow: (n, M) -> (n,)."""
        mean, std = self.predict(z)
        return std.log() + log_h((mean - self.best) / std)

    def _climb(self, origin: NDArray[np.float64]) -> NDArray[np.float64]:
        def objective(x: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
            z = torch.from_numpy(x[None].copy()).requires_grad_()
            value = self._log_improvement(z).sum()
            (gradient,) = torch.autograd.grad(value, z)
            return -float(value.detach()), -gradient[0].numpy()

        near_the_data = {
            "type": "ineq",
            "fun": lambda x: self.density(x[None])[0] - self.threshold,
            "jac": lambda x: self.density.gradient(x[None])[0],
        }
        options = {"maxiter": self.settings.iterations}
        found = minimize(
            objective, origin, jac=True, method="SLSQP", constraints=near_the_data, options=options
        )
        return found.x if np.isfinite(found.x).all() else origin


class MixtureDensity:
    """The log-density of a fitted mixture of Gaussians with full covariances, and its gradient."""

    def __init__(self, mixture: GaussianMixture):
        self.means: NDArray[np.float64] = mixture.means_
        self.factors: NDArray[np.float64] = mixture.precisions_cholesky_  # Σ⁻¹ = F Fᵀ
        determinants = np.log(np.diagonal(self.factors, axis1=1, axis2=2)).sum(1)
        self.constants = np.log(mixture.weights_) + determinants
        self.constants -= 0.5 * self.means.shape[1] * math.log(2 * math.pi)

    def __call__(self, z: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the log-density of latents z (n, d), (n,)."""
        value: NDArray[np.float64] = np.logaddexp.reduce(self._log_joint(self._whitened(z)))
        return value

    def gradient(self, z: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return ∇ log p of latents z (n, d), (n, d): −Σₖ p(k | z) Σₖ⁻¹ (z − μₖ)."""
        whitened = self._whitened(z)
        joint = self._log_joint(whitened)
        shares = np.exp(joint - np.logaddexp.reduce(joint))
        slope: NDArray[np.float64] = -((shares[..., None] * whitened) @ self.factors.transpose(0, 2, 1)).sum(
            0
        )
        return slope

    def _whitened(self, z: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return Fᵀ(z − μ) of each component, (k, n, d)."""
        whitened: NDArray[np.float64] = (z - self.means[:, None]) @ self.factors
        return whitened

    def _log_joint(self, whitened: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return log p(k, z), (k, n)."""
        return self.constants[:, None] - 0.5 * np.square(whitened).sum(2)


def log_h(u: Tensor) -> Tensor:
    """Return log(φ(u) + u·Φ(u)). Below −20 it uses the asymptote φ(u)/u²·(1 − 3/u²), above 30 u itself."""
    safe = u.clamp(-20.0, 30.0)
    log_phi = -0.5 * safe.square() - 0.5 * math.log(2 * math.pi)
    # φ + uΦ = φ·(1 + u·Φ/φ), where Φ/φ does not underflow as Φ does.
    ratio = (torch.special.log_ndtr(safe) - log_phi).exp()
    direct = log_phi + (1 + safe * ratio).clamp_min(1e-300).log()
    far = u.clamp_max(-20.0)
    asymptote = (
        -0.5 * far.square()
        - 0.5 * math.log(2 * math.pi)
        - 2 * far.abs().log()
        + torch.log1p(-3 / far.square())
    )
    direct = torch.where(u < 30.0, direct, u.clamp_min(30.0).log())
    return torch.where(u > -20.0, direct, asymptote)
