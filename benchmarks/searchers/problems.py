"""Functions to be minimized whose optimum is known, over spaces in this project's own notation."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from searchers.bayesopt.space import Choice, Integer, Real, Space

ALPHA = np.array([1.0, 1.2, 3.0, 3.2])
A = np.array(
    [
        [10, 3, 17, 3.5, 1.7, 8],
        [0.05, 10, 17, 0.1, 8, 14],
        [3, 3.5, 1.7, 10, 17, 8],
        [17, 8, 0.05, 10, 0.1, 14],
    ]
)
P = 1e-4 * np.array(
    [
        [1312, 1696, 5569, 124, 8283, 5886],
        [2329, 4135, 8307, 3736, 1004, 9991],
        [2348, 1451, 3522, 2883, 3047, 6650],
        [4047, 8828, 8732, 5743, 1091, 381],
    ]
)


@dataclass(frozen=True)
class Problem:
    """`noise`: standard deviation of an evaluation at the optimum, to which `growth` times the regret is
    added.

    Regret is measured without noise.
    """

    name: str
    space: Space
    function: Callable[[dict], float]
    optimum: float
    noise: float = 0.0
    growth: float = 0.0

    def regret(self, config: dict) -> float:
        """How much worse than the optimum a configuration truly is."""
        return self.function(config) - self.optimum

    def deviation(self, config: dict) -> float:
        """Return the standard deviation of an evaluation at this configuration."""
        return self.noise + self.growth * self.regret(config)


def branin(config: dict) -> float:
    """Branin (Dixon & Szegő 1978): three global minima."""
    x, y = config["x"], config["y"]
    curve = y - 5.1 * x**2 / (4 * math.pi**2) + 5 * x / math.pi - 6
    return curve**2 + 10 * (1 - 1 / (8 * math.pi)) * math.cos(x) + 10


def hartmann6(config: dict) -> float:
    """Hartmann's function of six variables (Dixon & Szegő 1978): six local minima."""
    x = np.array([config[f"x{i}"] for i in range(6)])
    return float(-ALPHA @ np.exp(-np.sum(A * (x - P) ** 2, axis=1)))


def noisy_curve(config: dict) -> float:
    """The shape of FD(β) in the β-VAE-GAN report: a flat valley at 75, 25 higher at the ends."""
    return 125 + ((config["beta"] - 75) / 15) ** 2


def mixed(config: dict) -> float:
    """Like a model's tuning: a best learning rate for each optimizer, flat in latent_dim, waves in β."""
    rate = {"adam": -3.0, "rmsprop": -3.5, "sgd": -1.5}[config["optimizer"]]
    offset = {"adam": 0.0, "rmsprop": 0.1, "sgd": 0.4}[config["optimizer"]]
    rate = math.log10(config["learning_rate"]) - rate
    size = math.log2(config["latent_dim"]) - 6 - 0.5 * rate
    beta = config["beta"] - 4
    return offset + rate**2 + 0.3 * size**2 + (beta / 6) ** 2 + 0.15 * (1 - math.cos(math.pi * beta / 2))


PROBLEMS = {
    problem.name: problem
    for problem in (
        Problem("branin", Space([Real("x", -5, 10), Real("y", 0, 15)]), branin, 0.39788735772973816),
        Problem("hartmann6", Space([Real(f"x{i}", 0, 1) for i in range(6)]), hartmann6, -3.322368011391339),
        Problem("noisy curve", Space([Real("beta", 1, 150)]), noisy_curve, 125.0, noise=3.0),
        Problem(
            "mixed",
            Space(
                [
                    Real("learning_rate", 1e-5, 1e-1, log=True),
                    Integer("latent_dim", 8, 512, log=True),
                    Real("beta", 0, 20, step=0.5),
                    Choice("optimizer", ("adam", "rmsprop", "sgd")),
                ]
            ),
            mixed,
            0.0,
        ),
    )
}
