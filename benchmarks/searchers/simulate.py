"""Trials on simulated workers: asynchronous, in virtual time, in seconds of real time."""

import heapq
import math
import time

import numpy as np

from benchmarks.searchers.problems import Problem

EVALUATIONS = 40


def run(method, problem: Problem, workers: int, seed: int, evaluations: int = EVALUATIONS) -> dict:
    """Return what came of a sweep: regrets, and CPU seconds a proposal (telling included).

    `tried`: regret of the best configuration tried after each evaluation; `said`: of the one that the
    searcher itself calls the best at the end; `seen`: of the one with the lowest value. Durations are
    log-normal, so that trials overtake another.
    """
    rng = np.random.default_rng([seed, 7])
    noise = rng.standard_normal(evaluations)
    duration = np.exp(0.5 * rng.standard_normal(evaluations))
    running: list[tuple[float, int]] = []
    configs, tried, now, asked, cpu, seen = {}, [], 0.0, 0, [], (math.inf, 0)
    while len(tried) < evaluations:
        while asked < evaluations and len(running) < workers:
            start = time.process_time()
            configs[asked] = method.ask(asked)
            cpu.append(time.process_time() - start)
            heapq.heappush(running, (now + duration[asked], asked))
            asked += 1
        now, trial = heapq.heappop(running)
        start = time.process_time()
        value = problem.function(configs[trial]) + problem.deviation(configs[trial]) * noise[trial]
        seen = min(seen, (value, trial))
        method.tell(trial, value)
        cpu[-1] += time.process_time() - start
        tried.append(min([problem.regret(configs[trial]), *tried[-1:]]))
    return {
        "tried": [float(f"{r:.4g}") for r in tried],
        "said": float(f"{problem.regret(method.best()):.4g}"),
        "seen": float(f"{problem.regret(configs[seen[1]]):.4g}"),
        "cpu": round(float(np.mean(cpu[evaluations // 2 :])), 4),
    }
