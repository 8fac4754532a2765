"""Searchers compared: `python -m benchmarks.searchers [run SECONDS METHODS | table | figure | cost]`

Without a word: run and table. Each method runs on each problem with 1, 4 and 16 simulated workers and twenty
seeds; what is done is kept in `runs.jsonl`, so that a second call goes on. With `weak` before them, run and
table are of the functions of `weak_spots.py`. `cost` measures a proposal. Partial training: `partial.py`.
Peers: optuna and bayesian-optimization, in this project's environment, and Ax, which is not (`pip install
--target AX ax-platform`, `PYTHONPATH=AX`). One thread.
"""

import json
import os
import sys
import time
import warnings
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np

from benchmarks.searchers.methods import METHODS
from benchmarks.searchers.problems import PROBLEMS
from benchmarks.searchers.simulate import run
from benchmarks.searchers.weak_spots import WEAK_SPOTS
from searchers.bayesopt.searcher import BayesOptSearch

FILES = {  # of the runs that are done
    "usual": Path(__file__).with_name("runs.jsonl"),
    "weak": Path(__file__).with_name("weak_spots.jsonl"),
}
SETS = {"usual": PROBLEMS, "weak": WEAK_SPOTS}
FIGURE = Path(__file__).parents[2] / "docs" / "benchmarks" / "figures" / "searchers.png"
LINES = {  # Okabe and Ito's colors, which color-blind readers tell apart
    "ours": ("#000000", "-"),
    "Optuna GPSampler": ("#0072B2", "-"),
    "Optuna TPE": ("#E69F00", "-"),
    "OptunaSearch(GPSampler) in Tune": ("#56B4E9", "--"),
    "Ax": ("#009E73", "-"),
    "bayesian-optimization": ("#D55E00", "-"),
    "random": ("#999999", ":"),
}
WORKERS = (1, 4, 16)
SEEDS = 20


def planned(chosen: str) -> list[tuple]:
    """All runs, seeds outermost, so that an unfinished benchmark has complete seeds."""
    return [(m, p, w, s) for s in range(SEEDS) for p in SETS[chosen] for w in WORKERS for m in METHODS]


def recorded(chosen: str) -> dict[tuple, dict]:
    """The runs that are done."""
    lines = FILES[chosen].read_text().splitlines() if FILES[chosen].exists() else []
    return {(r["method"], r["problem"], r["workers"], r["seed"]): r for r in map(json.loads, lines)}


def record(chosen: str, seconds: float, methods: list[str]) -> None:
    """Do what is missing, for about so many seconds of CPU time."""
    warnings.simplefilter("ignore")
    start, have, problems = time.process_time(), recorded(chosen), SETS[chosen]
    for key in planned(chosen):
        if key in have or key[0] not in methods:
            continue
        if time.process_time() - start > seconds:
            return
        method, problem, workers, seed = key
        result = run(METHODS[method](problems[problem].space, seed), problems[problem], workers, seed)
        row = {"method": method, "problem": problem, "workers": workers, "seed": seed, **result}
        with FILES[chosen].open("a") as file:
            file.write(json.dumps(row) + "\n")


def table(chosen: str) -> None:
    """Print, for each problem and number of workers, regrets' medians and quartiles, and paired wins of ours.

    The regret is that of the configuration the searcher itself calls the best. A tie counts half a win;
    regrets below 1e-4 are equal.
    """
    runs = recorded(chosen)
    print(
        "| problem | workers | searcher | seeds | regret, median (quartiles) | ours wins | CPU a proposal |"
    )
    print("|---|---|---|---|---|---|---|")
    for problem in SETS[chosen]:
        for workers in WORKERS:
            for method in METHODS:
                mine = [runs.get((method, problem, workers, s)) for s in range(SEEDS)]
                ours = [runs.get(("ours", problem, workers, s)) for s in range(SEEDS)]
                pairs = [(a["said"], b["said"]) for a, b in zip(ours, mine, strict=True) if a and b]
                said = [r["said"] for r in mine if r]
                if not said:
                    continue
                low, median, high = np.quantile(said, [0.25, 0.5, 0.75])
                wins = np.mean([0.5 if abs(a - b) < 1e-4 else float(a < b) for a, b in pairs] or [np.nan])
                cpu = 1e3 * np.median([r["cpu"] for r in mine if r])
                won = "" if method == "ours" else f"{wins:.0%}"
                regret = f"{median:.3g} ({low:.3g} – {high:.3g})"
                print(f"| {problem} | {workers} | {method} | {len(said)} | {regret} | {won} | {cpu:.0f} ms |")


def figure() -> None:
    """Draw the regret of the best configuration tried so far, median over seeds, for each pair of problem and
    number of workers."""
    from matplotlib.figure import Figure

    runs = recorded("usual")
    picture = Figure(figsize=(10, 11), layout="constrained")
    axes = picture.subplots(len(PROBLEMS), len(WORKERS), sharex=True, sharey="row")
    for row, problem in zip(axes, PROBLEMS, strict=True):
        for ax, workers in zip(row, WORKERS, strict=True):
            for method, (color, style) in LINES.items():
                tried = [
                    runs[k]["tried"] for s in range(SEEDS) if (k := (method, problem, workers, s)) in runs
                ]
                if tried:
                    median = np.maximum(np.median(tried, axis=0), 1e-5)
                    width = 2.4 if method == "ours" else 1.2
                    ax.plot(np.arange(1, len(median) + 1), median, style, color=color, lw=width, label=method)
            ax.set_yscale("log")
            ax.set_title(f"{problem}, {workers} worker{'s' if workers > 1 else ''}", fontsize=9)
            ax.grid(alpha=0.25)
        row[0].set_ylabel("regret of the best tried")
    for ax in axes[-1]:
        ax.set_xlabel("evaluations")
    picture.legend(
        *axes[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=4, frameon=False
    )
    FIGURE.parent.mkdir(exist_ok=True)
    picture.savefig(FIGURE, dpi=110)


def cost() -> None:
    """Print CPU milliseconds a proposal (its share of refits in it), with 8 trials waiting, by rows known."""
    problem = PROBLEMS["mixed"]
    for n in (100, 300, 1000):
        search = BayesOptSearch(problem.space, "value", "min", seed=0)
        rng = np.random.default_rng(0)
        for u in problem.space.fill(rng.random((n, len(problem.space)))):
            config = problem.space.configuration(problem.space.codes(u))
            search.add_evaluated_point(config, problem.function(config) + 0.1 * rng.standard_normal())
        for i in range(8):
            search.history.start(f"pending-{i}", problem.space.codes(rng.random(len(problem.space))))
        search.suggested = n
        search.suggest("warm")
        search.history.trials.pop("warm")
        spent = []
        for i in range(12):
            start = time.process_time()
            config = search.suggest(f"t{i}")
            search.on_trial_complete(f"t{i}", {"value": problem.function(config), "training_iteration": 1})
            spent.append(1e3 * (time.process_time() - start))
        print(f"n = {n}: mean {np.mean(spent):.0f}, median {np.median(spent):.0f}, most {max(spent):.0f} ms")


def main(arguments: list[str]) -> None:
    """Do what the command line says."""
    chosen = "weak" if arguments[:1] == ["weak"] else "usual"
    arguments = arguments[chosen == "weak" :]
    what = arguments[0] if arguments else "all"
    if what in ("all", "run"):
        seconds = float(arguments[1]) if len(arguments) > 1 else float("inf")
        record(chosen, seconds, arguments[2].split(",") if len(arguments) > 2 else list(METHODS))
    if what in ("all", "table"):
        table(chosen)
    if what == "figure":
        figure()
    if what == "cost":
        cost()


if __name__ == "__main__":
    main(sys.argv[1:])
