"""A Gaussian process whose kernel hyperparameters are drawn from their posterior by NUTS, in Pyro.

With few noisy values many lengthscales explain the data, and the most probable one is a guess. Here S draws
θ₁ … θ_S of p(θ | X, y) (Hoffman & Gelman 2014) give S processes, and predictions are their mixture's:

    mean = avg_s mean_s        variance = avg_s variance_s + var_s mean_s

so that doubt about the lengthscale widens the band. Likelihood and priors are those of the fitted process
(`gp.negative_log_posterior`). Pyro is an extra: pip install '.[pyro]'. Symbols as in `gp.py`.
"""

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from searchers.bayesopt.gp import (
    GaussianProcess,
    Hyperparameters,
    Prior,
    distances_by_dimension,
    fit,
    negative_log_posterior,
)

SAMPLES, WARMUP, DRAWS = 128, 64, 16  # steps of the chain, steps that tune it before, draws that are kept
TREE_DEPTH = 5  # at most 31 gradients a step: in so few dimensions longer paths are not worth their time
FAR = 30.0  # e^±30: no logarithm of a hyperparameter is so large


class MissingPyroError(ValueError):
    """Pyro is not installed; the message says how it would be."""


class SampledGaussianProcess:
    """An equal mixture of Gaussian processes on the same rows, one for each draw of the hyperparameters.

    It answers as `GaussianProcess` does, with the mixture's first two moments. `hyper`: the draws' medians.
    """

    def __init__(self, members: Sequence[GaussianProcess]):
        self.members = tuple(members)
        self.X, self.levels = members[0].X, members[0].levels
        self.hyper = Hyperparameters(
            np.median([gp.hyper.lengthscales for gp in members], axis=0),
            *(float(np.median([getattr(gp.hyper, k) for gp in members])) for k in ("scale", "noise", "mean")),
        )

    def posterior(self, U: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return mean and variance of f at U (m, d): (m,) or, after `fantasize`, (m, F); and (m,)."""
        each = [gp.posterior(U) for gp in self.members]
        means = np.array([mean for mean, _ in each])
        return means.mean(0), np.mean([variance for _, variance in each], axis=0) + _spread(means)

    def gradient(self, u: np.ndarray) -> tuple[np.ndarray, float, np.ndarray, np.ndarray]:
        """Return mean (F,), variance, and their gradients (d, F) and (d,) at one point u (d,)."""
        each = [gp.gradient(u) for gp in self.members]
        means, variances, mean_gradients, variance_gradients = (
            np.array(part) for part in zip(*each, strict=True)
        )
        apart = means - means.mean(0)
        # d var_s mean_s = 2 avg_s (mean_s − mean)·d mean_s
        between = 2.0 * np.mean(apart[:, None, :] * mean_gradients, axis=(0, 2))
        return (
            means.mean(0),
            float(variances.mean() + _spread(means[:, None])[0]),
            mean_gradients.mean(0),
            variance_gradients.mean(0) + between,
        )

    def fantasize(self, P: np.ndarray, normals: np.ndarray) -> "SampledGaussianProcess":
        """Return the mixture with each process's joint draws at pending points P (p, d) taken as observed."""
        return SampledGaussianProcess([gp.fantasize(P, normals) for gp in self.members])


def _spread(means: np.ndarray) -> np.ndarray:
    """Return the variance over S processes of means (S, m) or (S, m, F), (m,), averaged over F."""
    spread = means.var(0)
    result: np.ndarray = spread.reshape(len(spread), -1).mean(1)
    return result


def sample_hyperparameters(
    X: np.ndarray,
    y: np.ndarray,
    noise: np.ndarray,
    levels: np.ndarray,
    *,
    kind: str = "matern",
    prior: Prior | None = None,
    samples: int = SAMPLES,
    warmup: int = WARMUP,
    draws: int = DRAWS,
    seed: int = 0,
) -> list[Hyperparameters]:
    """Return `draws` evenly spaced draws from a chain of `samples` that starts at the most probable point.

    Equal arguments give equal draws. Raises MissingPyroError where Pyro is not installed.
    """
    try:
        from pyro.infer import MCMC, NUTS
    except ImportError:
        raise MissingPyroError(
            "Surrogate 'nuts' needs Pyro, which is not installed: pip install '.[pyro]'"
        ) from None
    import torch

    d = X.shape[1]
    chosen = prior or Prior()
    D = distances_by_dimension(X, levels)

    class Potential(torch.autograd.Function):
        """−log p(θ | X, y) with the gradient that is known in closed form."""

        @staticmethod
        def forward(ctx: Any, theta: Any) -> Any:
            point = theta.detach().numpy()
            if np.abs(point).max() > FAR:
                value, gradient = np.inf, np.zeros_like(point)
            else:
                value, gradient = negative_log_posterior(point, D, y, noise, chosen, kind)
            ctx.save_for_backward(torch.from_numpy(gradient))
            return torch.tensor(value, dtype=torch.float64)

        @staticmethod
        def backward(ctx: Any, outer: Any) -> Any:
            return outer * ctx.saved_tensors[0]

    start, _ = fit(X, y, noise, levels, kind=kind, prior=chosen)
    theta = torch.from_numpy(np.log([*start.lengthscales, start.scale, start.noise]))
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.manual_seed(seed)
        chain = MCMC(
            NUTS(
                potential_fn=lambda parameters: Potential.apply(parameters["theta"]),  # type: ignore[no-untyped-call]
                max_tree_depth=TREE_DEPTH,
            ),
            num_samples=samples,
            warmup_steps=warmup,
            initial_params={"theta": theta},
            disable_progbar=True,
        )
        chain.run()
        values = np.exp(chain.get_samples()["theta"].numpy())
    kept = values[np.linspace(0, samples - 1, draws).round().astype(int)]
    return [Hyperparameters(v[:d], float(v[d]), float(v[d + 1])) for v in kept]
