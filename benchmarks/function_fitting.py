"""Three Gaussian processes on noisy functions: hyperparameters fixed, fitted, and drawn by NUTS.

    python -m benchmarks.function_fitting figure   the three posteriors on the four points of [BVG], and
                                                   on our sweep beside trainings that it did not have
    python -m benchmarks.function_fitting run      measures what is missing, about three minutes a call
    python -m benchmarks.function_fitting          prints the tables of what has been measured

Functions on the unit interval and square, noise of a tenth of their standard deviation, values as a sweep
sees them. Calibration: the share of 200 unseen places where the function lies inside the posterior's 90 %
band, after 5, 10 and 20 values. Regret: the function at the searcher's recommendation less its minimum, in
the function's standard deviations. Needs Pyro: pip install '.[pyro]'.
"""

import itertools
import sys
import time
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes

from analysis.charts.style import BLUE, VERMILION
from analysis.papers import FIRST_TRIALS
from benchmarks import records
from searchers.bayesopt.searcher import BayesOptSearch
from searchers.bayesopt.space import Real

METRIC = "fd_efficientnet_lite0"
FIGURE = Path(__file__).parents[1] / "docs" / "benchmarks" / "figures" / "function_fitting.png"
SURROGATES = {"matern": "fixed (ν = 5/2, ℓ = 1)", "fitted": "fitted", "nuts": "drawn by NUTS"}
# The report's own kernel is the fixed one of the figure: RBF, σ_f = 50, ℓ = 30.
TITLES = {"report": "fixed (the report's kernel)", "fitted": "fitted", "nuts": "drawn by NUTS"}
Points = list[tuple[float, float]]
SEEDS, SECONDS = 20, 180.0
SIZES = (5, 10, 20)
TRIALS = 12
NOISE = 0.1
BAND = 1.6449  # standard deviations on either side hold 90 %


def forrester(U: np.ndarray) -> np.ndarray:
    """(6x − 2)² sin(12x − 4) of U (n, 1) (Forrester, Sóbester & Keane 2008, app. A.1)."""
    x = U[:, 0]
    return (6 * x - 2) ** 2 * np.sin(12 * x - 4)


def branin(U: np.ndarray) -> np.ndarray:
    """Branin's function of U (n, 2), the unit square standing for [−5, 10] × [0, 15]."""
    x, y = 15 * U[:, 0] - 5, 15 * U[:, 1]
    parabola = y - 5.1 / (4 * np.pi**2) * x**2 + 5 / np.pi * x - 6
    return parabola**2 + 10 * (1 - 1 / (8 * np.pi)) * np.cos(x) + 10


FUNCTIONS = {"Forrester, 1-D": (forrester, 1), "Branin, 2-D": (branin, 2)}


class Problem:
    """A function in its own standard deviations, and noisy values of it."""

    def __init__(self, name: str, seed: int):
        self.function, self.d = FUNCTIONS[name]
        grid = np.random.default_rng(0).random((20_000, self.d))
        values = self.function(grid)
        self.scale, self.minimum = values.std(), values.min()
        self.rng = np.random.default_rng(seed)
        self.names = [f"x{j}" for j in range(self.d)]

    def value(self, config: dict[str, float]) -> float:
        """Return the function at a configuration."""
        return float(self.function(np.array([[config[name] for name in self.names]]))[0] / self.scale)

    def noisy(self, config: dict[str, float]) -> float:
        """Return it with noise."""
        return self.value(config) + NOISE * self.rng.standard_normal()

    def configs(self, n: int) -> list[dict[str, float]]:
        """Return n places drawn uniformly."""
        return [dict(zip(self.names, map(float, u), strict=True)) for u in self.rng.random((n, self.d))]

    def searcher(self, surrogate: str, seed: int) -> BayesOptSearch:
        """Return a searcher of the unit cube."""
        space = [Real(name, 0.0, 1.0) for name in self.names]
        return BayesOptSearch(space, "y", "min", surrogate=surrogate, seed=seed, random_starts=4)


def calibration(name: str, surrogate: str, seed: int) -> dict[str, float]:
    """Return the share of unseen places inside the band after each of `SIZES`, and the band's width."""
    problem, scores = Problem(name, seed), {}
    known, unseen = problem.configs(max(SIZES)), problem.configs(200)
    values = [problem.noisy(config) for config in known]
    truth = np.array([problem.value(config) for config in unseen])
    for size in SIZES:
        search = problem.searcher(surrogate, seed)
        for config, value in zip(known[:size], values, strict=False):
            search.add_evaluated_point(config, value)
        mean, std = search.posterior(unseen)
        scores[f"inside/{size}"] = float(np.mean(np.abs(truth - mean) <= BAND * std))
        scores[f"width/{size}"] = float(np.mean(2 * BAND * std))
    return scores


def regret(name: str, surrogate: str, seed: int) -> dict[str, float]:
    """Return the regret of the recommendation after 8 and after `TRIALS` evaluations."""
    problem, scores = Problem(name, seed), {}
    search = problem.searcher(surrogate, seed)
    for trial in range(TRIALS):
        config = search.suggest(str(trial))
        search.on_trial_complete(str(trial), {"y": problem.noisy(config), "training_iteration": 1})
        if trial + 1 in (8, TRIALS):
            best = problem.value(search.best()[0]) - problem.minimum / problem.scale
            scores[f"regret/{trial + 1}"] = float(best)
    return scores


def run() -> int:
    """Measure for about `SECONDS`; return how many are missing still."""
    end = time.monotonic() + SECONDS
    have = {(s["function"], s["surrogate"], s["seed"]) for s in records.read("function_fitting")}
    every = (
        (name, surrogate, seed)
        # NUTS, the slowest, comes last.
        for surrogate, name, seed in itertools.product(SURROGATES, FUNCTIONS, range(SEEDS))
    )
    missing = [key for key in every if key not in have]
    while missing and time.monotonic() < end:
        name, surrogate, seed = missing.pop(0)
        scores = calibration(name, surrogate, seed) | regret(name, surrogate, seed)
        records.add("function_fitting", {"function": name, "surrogate": surrogate, "seed": seed, **scores})
    print(f"{len(missing)} to go")
    return len(missing)


def table() -> None:
    """Print calibration and regret: medians over seeds for regrets, means for shares.

    A function's rows are of the same seeds: those that every one of its measured processes has.
    """
    heads = [f"inside, n = {n}" for n in SIZES] + [f"width, n = {n}" for n in SIZES]
    heads += ["regret after 8", f"after {TRIALS}"]
    print(f"| function | hyperparameters | {' | '.join(heads)} | seeds |")
    print("|---" * (len(heads) + 3) + "|")
    scores = records.read("function_fitting")
    for name, (surrogate, title) in itertools.product(FUNCTIONS, SURROGATES.items()):
        seeds = [
            {s["seed"] for s in scores if (s["function"], s["surrogate"]) == (name, k)} for k in SURROGATES
        ]
        common = set.intersection(*filter(None, seeds)) if any(seeds) else set()
        mine = [
            s for s in scores if (s["function"], s["surrogate"]) == (name, surrogate) and s["seed"] in common
        ]
        if mine:
            cells = [f"{np.mean([s[f'inside/{n}'] for s in mine]):.2f}" for n in SIZES]
            cells += [f"{np.mean([s[f'width/{n}'] for s in mine]):.2f}" for n in SIZES]
            cells += [f"{np.median([s[f'regret/{n}'] for s in mine]):.3f}" for n in (8, TRIALS)]
            print(f"| {name} | {title} | {' | '.join(cells)} | {len(mine)} |")


def sweep() -> tuple[Points, Points]:
    """Return the fully trained trials of a recorded default sweep, and trainings that it did not have.

    Both are (β, Fréchet distance) of the main job on the drawn faces.
    """
    trials = records.read("sweep_of_beta")  # what a default sweep's ledger says of its trials
    epochs = max(trial["epoch"] for trial in trials)
    known = [(trial["beta"], trial[METRIC]) for trial in trials if trial["epoch"] == epochs]
    others = [(t["beta"], t["scores"][METRIC]) for t in records.read("betas_45") if t["dataset"] == "faces"]
    searched = {beta for beta, _ in known}
    return known, [point for point in others if point[0] not in searched]


def figure() -> None:
    """Draw the three posteriors on the paper's four points and on a sweep of our own."""
    from matplotlib.figure import Figure

    picture = Figure(figsize=(12, 7.2), layout="constrained")
    rows = picture.subplots(2, len(TITLES), sharey="row")
    known, unseen = sweep()
    data = {"FID, [BVG]'s four points": (list(FIRST_TRIALS.items()), []), "FD, our sweep": (known, unseen)}
    for panels, (words, (points, judges)) in zip(rows, data.items(), strict=True):
        for axes, surrogate in zip(panels, TITLES, strict=True):
            draw_posterior(axes, surrogate, points, judges)
        panels[0].set_ylabel(f"{words}: mean and 90 % band")
    for axes in rows[-1]:
        # The fixed kernel's band reaches far below zero.
        axes.set(xlabel="β", xscale="log", ylim=(22, 46))
    rows[-1][0].legend(fontsize=8, frameon=False)
    FIGURE.parent.mkdir(exist_ok=True)
    picture.savefig(FIGURE, dpi=120)
    print(FIGURE)


def draw_posterior(axes: Axes, surrogate: str, points: Points, judges: Points) -> None:
    """Draw mean and band over β, with the points they come from.

    `judges` are hollow points that the process has not seen; what it says of them is printed.
    """
    search = BayesOptSearch([Real("beta", 1.0, 150.0)], "fid", "min", surrogate=surrogate)
    for beta, distance in points:
        search.add_evaluated_point({"beta": beta}, distance)
    grid = [{"beta": float(beta)} for beta in np.linspace(1, 150, 299)]
    x = np.array([config["beta"] for config in grid])
    mean, std = search.posterior(grid)
    best = x[int(np.argmax(search.expected_improvement(grid)))]
    axes.fill_between(x, mean - BAND * std, mean + BAND * std, color=BLUE, alpha=0.2, linewidth=0)
    axes.plot(x, mean, color="black")
    axes.plot(*zip(*points, strict=True), "o", color=VERMILION, label="what it is fitted to")
    axes.axvline(best, color=VERMILION, linestyle="--")
    axes.set_title(f"{TITLES[surrogate]}: next β = {best:.0f}")
    axes.spines[["top", "right"]].set_visible(False)
    if judges:
        axes.plot(*zip(*judges, strict=True), "o", color="black", fillstyle="none", label="trained apart")
        mean, std = search.posterior([{"beta": beta} for beta, _ in judges])
        half = BAND * std
        inside = np.abs(np.array([distance for _, distance in judges]) - mean) <= half
        said = "; ".join(f"{b:g}: {m:.1f} ± {h:.1f}" for (b, _), m, h in zip(judges, mean, half, strict=True))
        print(f"| {TITLES[surrogate]} | {inside.sum()} of {len(inside)} | {said} |")


def main() -> int:
    """Run, draw or print."""
    if sys.argv[1:] == ["run"]:
        return 1 if run() else 0
    figure() if sys.argv[1:] == ["figure"] else table()
    return 0


if __name__ == "__main__":
    sys.exit(main())
