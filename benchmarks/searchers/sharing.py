"""What `--share` is worth: `python -m benchmarks.searchers.sharing [run SECONDS | table]`.

Two sweeps with the epochs of six full trainings and four workers each, once alone and once learning from
each other as `--share` has it, beside one sweep of twelve with eight workers. On recorded curves, workers
simulated in virtual time, as in `partial.py`; what one sweep reports, the other knows `DELAY` epochs later.
Regrets are those of final values, in units of a random configuration's median.
"""

import heapq
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np

from benchmarks.searchers.partial import bootstrap
from benchmarks.searchers.partial_methods import Ours
from benchmarks.searchers.tables import JUDGE, Table
from searchers.record.schema import DIVERGED, FINISHED
from searchers.record.trials import TrialRecord

FILE = Path(os.environ.get("SHARING_RUNS", Path(__file__).with_name("sharing.jsonl")))
TABLES = [name for name in JUDGE if name.startswith("taskset")]
SEEDS = 20
ARMS = {"two sweeps alone": (2, False), "two sweeps, --share": (2, True), "one sweep of both": (1, False)}
TRAININGS, WORKERS = 12, 8  # of all sweeps together
DELAY = 0.2  # epochs until the other sweep knows


def simulate(table: Table, seed: int, sweeps: int, share: bool) -> float:
    """Return the regret of the trial that the sweeps together would call the best.

    Each names one of its own, as its closing words do; of these the one with the lower score is taken.
    """
    rng = np.random.default_rng([seed, 13])
    methods = [Ours(table, 100 * seed + k) for k in range(sweeps)]
    curves: list[dict[int, np.ndarray]] = [{} for _ in methods]
    spent, budget = [0] * sweeps, TRAININGS * table.epochs // sweeps
    queue: list[tuple[float, int, int, TrialRecord | int]] = []
    count = 0

    def push(at: float, sweep: int, what: TrialRecord | int) -> None:
        nonlocal count
        count += 1
        heapq.heappush(queue, (at, count, sweep, what))

    def tell(now: float, sweep: int, trial: int, rows: dict[int, float], status: str | None = None) -> None:
        config = methods[sweep]._config(methods[sweep].points[trial])
        record = TrialRecord(f"{sweep}/{trial}", 0, config, {e: {"loss": v} for e, v in rows.items()}, status)
        for other in range(sweeps) if share else ():
            if other != sweep:
                push(now + DELAY, other, record)

    def begin(now: float, sweep: int) -> None:
        trial = methods[sweep].ask()
        if trial not in curves[sweep]:
            curves[sweep][trial] = np.minimum(table.curve(methods[sweep].points[trial]), table.worst)
            tell(now, sweep, trial, {})
        push(now + rng.uniform(0.8, 1.2), sweep, trial)

    for worker in range(WORKERS):
        begin(0.0, worker % sweeps)
    while queue:
        now, _, sweep, what = heapq.heappop(queue)
        if isinstance(what, TrialRecord):
            methods[sweep].search.learn(what)
            continue
        if spent[sweep] >= budget:
            continue
        method, curve, trial = methods[sweep], curves[sweep][what], what
        epoch, spent[sweep] = len(method.rows[trial]) + 1, spent[sweep] + 1
        value = float(curve[epoch - 1])
        method.rows[trial][epoch] = value
        diverged = value >= table.worst
        goes_on = method.report(trial, epoch, value, diverged)
        status = DIVERGED if diverged else FINISHED if epoch >= table.epochs else None
        tell(now, sweep, trial, {epoch: float("nan") if diverged else value}, status)
        if goes_on:
            push(now + rng.uniform(0.8, 1.2), sweep, trial)
        else:
            begin(now, sweep)
    said = []
    for method, known in zip(methods, curves, strict=True):
        trial = own_best(method)
        said.append((method.rows[trial][max(method.rows[trial])], float(known[trial][-1])))
    return table.regret(min(said)[1])


def own_best(method: Ours) -> int:
    """Return the trial that a sweep calls the best: its searcher's choice or, where that is the other
    sweep's, its own best, fully trained ones before others."""
    chosen = method.search.best_trial()
    if "/" not in chosen:
        return int(chosen)

    def standing(trial: int) -> tuple[bool, float]:
        rows = method.rows[trial]
        return len(rows) < method.table.epochs, rows[max(rows)]

    return min((t for t, rows in enumerate(method.rows) if rows), key=standing)


def recorded() -> dict[tuple[str, str, int], float]:
    """Return the regrets that are known, by arm, table and seed."""
    lines = FILE.read_text().splitlines() if FILE.exists() else []
    return {(row["arm"], row["table"], row["seed"]): row["regret"] for row in map(json.loads, lines)}


def record(seconds: float) -> None:
    """Do what is missing, seeds outermost, for about so many seconds of CPU time."""
    start, have, opened = time.process_time(), recorded(), {}
    for seed in range(SEEDS):
        for name in TABLES:
            for arm, (sweeps, share) in ARMS.items():
                if (arm, name, seed) in have:
                    continue
                if time.process_time() - start > seconds:
                    return
                if name not in opened:
                    opened[name] = JUDGE[name]()
                regret = round(simulate(opened[name], seed, sweeps, share), 5)
                with FILE.open("a") as file:
                    file.write(json.dumps({"arm": arm, "table": name, "seed": seed, "regret": regret}) + "\n")


def print_table() -> None:
    """Print each arm's mean regret, and by how much it differs from two sweeps alone, over equal pairs."""
    runs, rng = recorded(), np.random.default_rng(0)
    print(f"| | {' | '.join(TABLES)} | all | less than alone [95 %] | pairs |")
    print(f"|---|{'--:|' * (len(TABLES) + 3)}")
    for arm in ARMS:
        mine: dict[tuple[str, int], float] = {(t, s): r for (a, t, s), r in runs.items() if a == arm}
        means = [np.mean([r for (t, _), r in mine.items() if t == table]) for table in TABLES]
        alone: dict[tuple[str, int], Any] = {
            pair: runs["two sweeps alone", *pair] - r
            for pair, r in mine.items()
            if ("two sweeps alone", *pair) in runs
        }
        low, high = bootstrap(alone, rng)
        gain = (
            f"{np.mean(list(alone.values())):+.3f} [{low:+.3f}, {high:+.3f}]"
            if ARMS[arm] != (2, False)
            else ""
        )
        cells = " | ".join(f"{mean:.3f}" for mean in means)
        print(f"| {arm} | {cells} | {np.mean(list(mine.values())):.3f} | {gain} | {len(mine)} |")


def main(arguments: list[str]) -> None:
    """Do what the command line says."""
    if arguments and arguments[0] == "run":
        record(float(arguments[1]))
    else:
        print_table()


if __name__ == "__main__":
    main(sys.argv[1:])
