"""Functions of the kinds on which model-based searchers do badly: plateaus and steps, many local minima in
five dimensions, noise that grows with the value.

All are to be minimized, over spaces in this project's own notation, and their optimum is known. Optima lie
off the centre, off the bounds and off Sobol points.
"""

import math
from collections.abc import Callable

import numpy as np

from benchmarks.searchers.problems import Problem, branin
from searchers.bayesopt.space import Choice, Integer, Real, Space

SHIFT = np.array([0.37, 0.62, 0.29, 0.71, 0.44])  # where the optimum of the shifted functions lies


def cube(d: int) -> Space:
    """Return the unit cube of d dimensions x0 … x(d−1)."""
    return Space([Real(f"x{i}", 0.0, 1.0) for i in range(d)])


def on_cube(function: Callable[[np.ndarray], float], d: int) -> Callable[[dict], float]:
    """Return a function of a configuration from one of a point (d,)."""
    return lambda config: float(function(np.array([config[f"x{i}"] for i in range(d)])))


def staircase(x: np.ndarray) -> float:
    """A bowl in steps of 0.1."""
    return math.floor(10.0 * np.sum((x - SHIFT[: len(x)]) ** 2)) / 10.0 + 0.0


def crater(x: np.ndarray) -> float:
    """Flat but for a bowl of radius 0.4 about the optimum."""
    return min(1.0, float(np.sum((x - SHIFT[: len(x)]) ** 2)) / 0.16)


def terrace(x: np.ndarray) -> float:
    """Each coordinate counts in eight equal treads."""
    treads = np.floor(8 * x) - np.floor(8 * SHIFT[: len(x)])
    return float(np.sum(np.abs(treads)) / 8)


def cliff(x: np.ndarray) -> float:
    """A bowl with a jump by 1 next to its optimum."""
    return float(np.sum((x - SHIFT[: len(x)]) ** 2) + (x[0] > 0.4))


def rate_steps(config: dict) -> float:
    """Training that works within a decade of learning rates, collapses above, and saturates in size."""
    rate = math.log10(config["rate"])
    collapsed = 2.0 if rate > -2.2 else 0.0
    size = max(0.0, 6.0 - math.log2(config["units"])) * 0.2
    return max(abs(rate + 3.0) - 0.3, 0.0) ** 0.5 + collapsed + size + 0.3 * "abc".index(config["kind"])


def rastrigin(x: np.ndarray) -> float:
    """Rastrigin 1974, on [−2, 2] about the shifted optimum."""
    t = 4.0 * (x - SHIFT[: len(x)])
    return float(np.sum(t**2 - 3.0 * np.cos(2 * math.pi * t) + 3.0))


def ackley(x: np.ndarray) -> float:
    """Ackley 1987, on [−8, 8] about the shifted optimum."""
    t = 16.0 * (x - SHIFT[: len(x)])
    wide = -20.0 * math.exp(-0.2 * math.sqrt(np.mean(t**2)))
    return wide - math.exp(np.mean(np.cos(2 * math.pi * t))) + 20.0 + math.e


def levy(x: np.ndarray) -> float:
    """Levy's function (Laguna & Martí 2005), on [−10, 10] about the shifted optimum."""
    w = 1.0 + 20.0 * (x - SHIFT[: len(x)]) / 4.0
    middle = np.sum((w[:-1] - 1) ** 2 * (1 + 10 * np.sin(math.pi * w[:-1] + 1) ** 2))
    return float(
        np.sin(math.pi * w[0]) ** 2 + middle + (w[-1] - 1) ** 2 * (1 + np.sin(2 * math.pi * w[-1]) ** 2)
    )


def styblinski(x: np.ndarray) -> float:
    """Styblinski & Tang 1990, on [−5, 5]: 2^d local minima."""
    t = 10.0 * x - 5.0
    return float(np.sum(t**4 - 16 * t**2 + 5 * t) / 2)


def griewank(x: np.ndarray) -> float:
    """Griewank 1981, on [−12, 12] about the shifted optimum."""
    t = 24.0 * (x - SHIFT[: len(x)])
    waves = np.prod(np.cos(t / np.sqrt(np.arange(1, len(x) + 1))))
    return float(np.sum(t**2) / 400 - waves + 1)


def log_rosenbrock(x: np.ndarray) -> float:
    """log(1 + Rosenbrock's function), on [−2, 2]."""
    t = 4.0 * x - 2.0
    return math.log1p(float(np.sum(100 * (t[1:] - t[:-1] ** 2) ** 2 + (1 - t[:-1]) ** 2)))


def bowl(x: np.ndarray) -> float:
    """A bowl whose axes are three and ten times as steep as the first."""
    return float(np.sum(np.array([1, 3, 10, 3, 1])[: len(x)] * (x - SHIFT[: len(x)]) ** 2))


def valley(config: dict) -> float:
    """The shape of FD(β): a flat valley on a logarithmic axis."""
    return 20 * (math.log10(config["beta"]) - 1.2) ** 2 + 5 * max(0.0, math.log10(config["beta"]) - 1.2)


RATE_SPACE = Space(
    [
        Real("rate", 1e-5, 1e-1, log=True),
        Integer("units", 4, 256, log=True),
        Choice("kind", ("a", "b", "c")),
    ]
)
BRANIN_SPACE = Space([Real("x", -5, 10), Real("y", 0, 15)])

WEAK_SPOTS = {
    p.name: p
    for p in (
        Problem("staircase 2-d", cube(2), on_cube(staircase, 2), 0.0),
        Problem("staircase 4-d", cube(4), on_cube(staircase, 4), 0.0),
        Problem("crater 3-d", cube(3), on_cube(crater, 3), 0.0),
        Problem("terrace 4-d", cube(4), on_cube(terrace, 4), 0.0),
        Problem("cliff 3-d", cube(3), on_cube(cliff, 3), 0.0),
        Problem("rate steps", RATE_SPACE, rate_steps, 0.0),
        Problem("rastrigin 5-d", cube(5), on_cube(rastrigin, 5), 0.0),
        Problem("ackley 5-d", cube(5), on_cube(ackley, 5), 0.0),
        Problem("levy 5-d", cube(5), on_cube(levy, 5), 0.0),
        Problem("styblinski 5-d", cube(5), on_cube(styblinski, 5), -39.16616570377142 * 5),
        Problem("griewank 5-d", cube(5), on_cube(griewank, 5), 0.0),
        Problem("log rosenbrock 4-d", cube(4), on_cube(log_rosenbrock, 4), 0.0),
        Problem("noisy branin", BRANIN_SPACE, branin, 0.39788735772973816, noise=0.5, growth=0.3),
        Problem("noisy bowl 4-d", cube(4), on_cube(bowl, 4), 0.0, noise=0.02, growth=0.5),
        Problem("noisy ackley 3-d", cube(3), on_cube(ackley, 3), 0.0, noise=0.3, growth=0.2),
        Problem(
            "noisy valley", Space([Real("beta", 0.1, 1000, log=True)]), valley, 0.0, noise=0.5, growth=0.3
        ),
        Problem("ackley 2-d", cube(2), on_cube(ackley, 2), 0.0),
    )
}
