"""Search over partial training compared: `python -m benchmarks.searchers.partial [run | table | figure] …`

`run [design|judge] METHODS SECONDS [WORKERS [SEEDS [TRAININGS]]]` does what is missing, seeds outermost, for
about so many seconds of CPU time, and appends it to `partial.jsonl`; METHODS are separated by semicolons.
`table` prints it.

Simulated workers, asynchronous in virtual time; an epoch takes 0.8 to 1.2 units. A sweep has the epochs of so
many full trainings. Regrets are those of final values, in units of a random configuration's median: of the
trial with the lowest value yet ("in hand"), and of the trial that the method itself calls the best ("said").
"""

import heapq
import json
import os
import sys
import time
import warnings
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from scipy.stats import rankdata

from benchmarks.searchers.tables import DESIGN, JUDGE, Table

FILE = Path(os.environ.get("PARTIAL_RUNS", Path(__file__).with_name("partial.jsonl")))
TRAININGS = (3, 6, 12, 25)
WORKERS = (1, 4, 16, 64)


def simulate(method: Any, table: Table, seed: int, workers: int, trainings: int = 12) -> dict[str, Any]:
    """Return, after each number of trainings, both regrets and the trials begun; and CPU milliseconds a
    decision."""
    rng = np.random.default_rng([seed, 11])
    curves: dict[int, np.ndarray] = {}
    epochs: dict[int, int] = {}
    queue: list[tuple[float, int]] = []
    checkpoints = [n for n in TRAININGS if n <= trainings]
    spent, cpu, decisions, hand, result = 0, 0.0, 0, (np.inf, 0), {}

    def begin(now: float) -> None:
        nonlocal cpu, decisions
        start = time.process_time()
        trial = method.ask()
        cpu += time.process_time() - start
        decisions += 1
        if trial not in curves:
            curves[trial] = np.minimum(table.curve(method.points[trial]), table.worst)
            epochs[trial] = 0
        heapq.heappush(queue, (now + rng.uniform(0.8, 1.2), trial))

    for _ in range(workers):
        begin(0.0)
    while len(result) < len(checkpoints):
        now, trial = heapq.heappop(queue)
        spent, epoch = spent + 1, epochs[trial] + 1
        epochs[trial] = epoch
        luck = np.random.default_rng([seed, 77, trial, epoch]).standard_normal() if table.noise else 0.0
        value = float(curves[trial][epoch - 1] + table.noise * luck)
        method.rows[trial][epoch] = value
        hand = min(hand, (value, trial))
        start = time.process_time()
        goes_on = method.report(trial, epoch, value, bool(curves[trial][epoch - 1] >= table.worst))
        cpu += time.process_time() - start
        while len(result) < len(checkpoints) and spent >= checkpoints[len(result)] * table.epochs:
            in_hand, said = (table.regret(curves[t][-1]) for t in (hand[1], method.said()))
            trained = table.regret(curves[hand[1]][epochs[hand[1]] - 1])
            row = {"hand": round(trained, 5), "final": round(in_hand, 5), "said": round(said, 5)}
            result[str(checkpoints[len(result)])] = {**row, "trials": len(curves)}
        if goes_on:
            heapq.heappush(queue, (now + rng.uniform(0.8, 1.2), trial))
        else:
            begin(now)
    return {"regrets": result, "cpu_ms": round(1e3 * cpu / decisions, 2)}


def recorded() -> dict[tuple, dict[str, Any]]:
    """Return the runs that are done."""
    lines = FILE.read_text().splitlines() if FILE.exists() else []
    return {(r["method"], r["table"], r["workers"], r["seed"]): r for r in map(json.loads, lines)}


def record(
    tables: dict[str, Any],
    methods: list[str],
    seconds: float,
    workers: list[int],
    seeds: range,
    trainings: int,
) -> None:
    """Do what is missing, for about so many seconds of CPU time."""
    from benchmarks.searchers import partial_methods, partial_peers

    every = {**partial_methods.METHODS, **partial_peers.METHODS}
    warnings.simplefilter("ignore")
    start, have, opened = time.process_time(), recorded(), {}
    for seed in seeds:
        for count in workers:
            for name, make in tables.items():
                for method in methods:
                    done = have.get((method, name, count, seed))
                    if done and str(trainings) in done["regrets"]:
                        continue
                    if time.process_time() - start > seconds:
                        return
                    table = opened.setdefault(name, None) or make()
                    opened[name] = table
                    found = simulate(every[method](table, seed), table, seed, count, trainings)
                    row = {"method": method, "table": name, "workers": count, "seed": seed, **found}
                    with FILE.open("a") as file:
                        file.write(json.dumps(row) + "\n")


def bootstrap(values: dict[tuple[str, int], float], rng: np.random.Generator) -> tuple[float, float]:
    """Return a 95 % interval of the mean of (table, seed) → value: tables, and their seeds, are drawn
    again."""
    by_table: dict[str, list[float]] = {}
    for (table, _), value in values.items():
        by_table.setdefault(table, []).append(value)
    groups = [np.array(v) for v in by_table.values()]
    means = []
    for _ in range(2000):
        drawn = [groups[i] for i in rng.integers(len(groups), size=len(groups))]
        means.append(np.mean(np.concatenate([rng.choice(g, len(g)) for g in drawn])))
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)


def mean_ranks(said: dict[str, dict[tuple[str, int], float]]) -> dict[str, float]:
    """Return each method's mean rank by its regret, 1 the best, over the pairs that all have; ties share.

    Methods with less than half the pairs of the one that has most are not ranked.
    """
    most = max(map(len, said.values()))
    said = {method: values for method, values in said.items() if 2 * len(values) >= most}
    common = sorted(set.intersection(*(set(values) for values in said.values())))
    if not common:
        return {}
    regrets = np.array([[values[pair] for pair in common] for values in said.values()])
    return dict(zip(said, rankdata(regrets, axis=0).mean(axis=1), strict=True))


def print_table(tables: dict[str, Any]) -> None:
    """Print, for each number of workers, mean regrets of each method, its mean rank among all, and how often
    ours is better on equal pairs."""
    runs, rng = recorded(), np.random.default_rng(0)
    for workers in WORKERS:
        print(f"\n{workers} workers\n")
        heads = "method | pairs | trainings | in hand | said | rank | ours on these | ours wins [95 %] | ms"
        print(f"| {heads} |")
        print("|---|--:|--:|--:|--:|--:|--:|--:|--:|")
        methods = dict.fromkeys(m for m, t, w, _ in runs if w == workers and t in tables)
        ranks = {
            trainings: mean_ranks(
                {
                    method: {
                        (t, s): r["regrets"][trainings]["said"]
                        for (m, t, w, s), r in runs.items()
                        if (m, w) == (method, workers) and t in tables and trainings in r["regrets"]
                    }
                    for method in methods
                }
            )
            for trainings in map(str, TRAININGS)
        }
        for method in methods:
            mine = {
                (t, s): r for (m, t, w, s), r in runs.items() if (m, w) == (method, workers) and t in tables
            }
            for trainings in map(str, TRAININGS):
                pairs = {}
                for (t, s), r in mine.items():
                    ours = runs.get(("ours", t, workers, s))
                    if ours and trainings in r["regrets"] and trainings in ours["regrets"]:
                        pairs[t, s] = (ours["regrets"][trainings], r["regrets"][trainings])
                if not pairs:
                    continue
                hand, said = (np.mean([b[k] for _, b in pairs.values()]) for k in ("hand", "said"))
                own = np.mean([a["said"] for a, _ in pairs.values()])
                wins = {
                    k: 0.5 if a["said"] == b["said"] else float(a["said"] < b["said"])
                    for k, (a, b) in pairs.items()
                }
                won = ""
                if method != "ours":
                    low, high = bootstrap(wins, rng)
                    won = f"{np.mean(list(wins.values())):.0%} [{low:.0%}, {high:.0%}]"
                cost = np.median([r["cpu_ms"] for r in mine.values()])
                rank = f"{ranks[trainings][method]:.2f}" if method in ranks[trainings] else "–"
                cells = f"{hand:.3f} | {said:.3f} | {rank} | {own:.3f} | {won} | {cost:.0f}"
                print(f"| {method} | {len(pairs)} | {trainings} | {cells} |")


def main(arguments: list[str]) -> None:
    """Do what the command line says."""
    tables = {"design": DESIGN, "judge": JUDGE}[arguments[1] if len(arguments) > 1 else "judge"]
    if arguments and arguments[0] == "run":
        workers = [int(w) for w in arguments[4].split(",")] if len(arguments) > 4 else list(WORKERS)
        seeds = range(*map(int, arguments[5].split(":"))) if len(arguments) > 5 else range(20)
        trainings = int(arguments[6]) if len(arguments) > 6 else 25
        record(tables, arguments[2].split(";"), float(arguments[3]), workers, seeds, trainings)
    else:
        print_table(tables)


if __name__ == "__main__":
    main(sys.argv[1:])
