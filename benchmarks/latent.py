"""CPU seconds and quality of maximizing tree ensembles over discrete codes: ours, a leaf MIP, random codes.

    python -m benchmarks.latent run [SECONDS]   # measures what is missing, for at most SECONDS
    python -m benchmarks.latent table

The ensembles are fitted as in [HP] (800 trees of depth 2, 20 samples a leaf) to 10 000 codes of 64 positions
and 256 categories. The scores of the codes add up effects of 20 positions and 60 interactions, but those of
the last set are noise. All times are CPU seconds of one thread in one process. HiGHS solves the mixed-integer
programs of the same restrictions. Results are kept in /tmp/latent_benchmark, and a later run goes on from
them.
"""

import json
import sys
import time
from pathlib import Path

import numpy as np
import xgboost as xgb

from trainables.latent.ensemble import Leaf, Restriction, parse, restrict
from trainables.latent.leaf_mip import maximize_leaf_mip
from trainables.latent.pairwise import maximize_pairwise

FOLDER = Path("/tmp/latent_benchmark")
POSITIONS, CATEGORIES, CODES, TREES = 64, 256, 10_000, 800
FREE = (4, 8, 16)
ENSEMBLES, BASES = 5, 7  # times len(FREE): 105 instances
RANDOM_CODES = 10_000


def data(seed):
    """Return codes whose categories are used as unevenly as a codebook's, and their scores."""
    rng = np.random.default_rng(seed)
    usage = rng.dirichlet(np.full(CATEGORIES, 0.3), size=POSITIONS)
    codes = np.stack([rng.choice(CATEGORIES, CODES, p=p) for p in usage], 1)
    scores = rng.normal(size=CODES) * 0.5
    if seed < ENSEMBLES - 1:
        matter = rng.permutation(POSITIONS)[:20]
        for p in matter:
            scores += rng.normal(size=CATEGORIES)[codes[:, p]] * rng.exponential()
        for _ in range(60):
            i, j = rng.choice(matter, 2, replace=False)
            a, b = rng.random((2, CATEGORIES)) < 0.3
            scores += 2 * rng.normal() * (a[codes[:, i]] & b[codes[:, j]])
    return codes, 2 * (scores - scores.min()) / np.ptp(scores)


def matrix(codes, scores=None):
    kinds = ["c"] * codes.shape[1]
    return xgb.DMatrix(codes.astype(np.float32), scores, feature_types=kinds, enable_categorical=True)


def fitted(seed, codes, scores):
    """Return the ensemble's booster. A file keeps it, with the seconds that its fit took."""
    path = FOLDER / f"{seed}.ubj"
    booster = xgb.Booster()
    if path.exists():
        booster.load_model(path)
        return booster
    settings = {"tree_method": "hist", "max_depth": 2, "min_child_weight": 20, "eta": 0.1, "nthread": 1}
    booster, seconds = timed(lambda: xgb.train(settings, matrix(codes, scores), TREES))
    booster.set_attr(fit_seconds=str(seconds))
    booster.save_model(path)
    return booster


def unmerged(ensemble, base, free):
    """Return the restriction as in ENTMOOT's program (Thebelt et al. 2021, eq. 2): a binary a category."""
    variable = {position: i for i, position in enumerate(free)}
    trees = [
        [
            Leaf(value, {variable[p]: mask for p, mask in allowed.items() if p in variable})
            for value, allowed in tree
            if all(mask[base[p]] for p, mask in allowed.items() if p not in variable)
        ]
        for tree in ensemble.trees
    ]
    classes = [[np.array([k]) for k in range(CATEGORIES)] for _ in free]
    return Restriction(tuple(free), ensemble.base_score, trees, classes, np.empty((0, len(free)), int))


def peer(seed, codes, booster, ensemble, ranked):
    """Measure one instance at t = 8 with all three programs."""
    base, free = codes[np.random.default_rng([seed, 99]).integers(CODES)], ranked[:8]
    best, ours = timed(lambda: maximize_pairwise(restrict(ensemble, base, free)))
    merged, merged_seconds = timed(lambda: maximize_leaf_mip(restrict(ensemble, base, free)))
    full, full_seconds = timed(lambda: maximize_leaf_mip(unmerged(ensemble, base, free)))
    assert max(abs(merged.value - best.value), abs(full.value - best.value)) < 1e-6
    return {"ours": ours, "merged": merged_seconds, "entmoot": full_seconds}


def run(seconds=1e9):
    FOLDER.mkdir(exist_ok=True)
    end = time.monotonic() + seconds
    for seed in range(ENSEMBLES):
        path = FOLDER / f"{seed}.jsonl"
        done = len(path.read_text().splitlines()) if path.exists() else 0
        peers = FOLDER / f"{seed}.peer.json"
        if done == len(FREE) * BASES and peers.exists():
            continue
        codes, scores = data(seed)
        booster = fitted(seed, codes, scores)
        ensemble, parse_seconds = timed(lambda booster=booster: parse(booster, CATEGORIES))
        gain = booster.get_score(importance_type="total_gain")
        ranked = [int(name[1:]) for name in sorted(gain, key=lambda name, gain=gain: -gain[name])]
        for n in range(done, len(FREE) * BASES):
            if time.monotonic() > end:
                return
            free = FREE[n % len(FREE)]
            rng = np.random.default_rng([seed, n])
            base = codes[rng.integers(CODES)]
            result = instance(booster, ensemble, base, ranked[:free], rng)
            seconds_of = {"fit_seconds": float(booster.attr("fit_seconds")), "parse_seconds": parse_seconds}
            with path.open("a") as file:
                file.write(json.dumps(result | seconds_of | {"t": free}) + "\n")
        if not peers.exists():
            peers.write_text(json.dumps(peer(seed, codes, booster, ensemble, ranked)))


def instance(booster, ensemble, base, free, rng):
    restriction, restrict_seconds = timed(lambda: restrict(ensemble, base, free))
    best, seconds = timed(lambda: maximize_pairwise(restriction))
    code = base.copy()
    for position, classes, label in zip(free, restriction.classes, best.labels, strict=True):
        code[position] = classes[label][0]
    predicted = float(booster.predict(matrix(code[None]))[0])
    assert abs(predicted - best.value) < 1e-4, (predicted, best.value)
    drawn = np.repeat(base[None], RANDOM_CODES, 0)
    drawn[:, free] = rng.integers(CATEGORIES, size=(RANDOM_CODES, len(free)))
    values, random_seconds = timed(lambda: booster.predict(matrix(drawn)))
    return {
        "restrict_seconds": restrict_seconds,
        "seconds": seconds,
        "value": best.value,
        "gap": best.upper_bound - best.value,
        "nodes": best.nodes,
        "base_value": float(booster.predict(matrix(base[None]))[0]),
        "random_value": float(values.max()),
        "random_seconds": random_seconds,
    }


def timed(work):
    start = time.process_time()
    return work(), time.process_time() - start


def table():
    lines = [json.loads(x) for path in sorted(FOLDER.glob("?.jsonl")) for x in path.read_text().splitlines()]
    fit, read = (np.mean([i[key] for i in lines]) for key in ("fit_seconds", "parse_seconds"))
    print(f"fit {fit:.2f} s, parse {read:.3f} s (means)\n")
    print("| t | instances | proven | restrict s | solve s, median (max) | nodes, max | random codes reach |")
    print("|---|---|---|---|---|---|---|")
    for free in FREE:
        chosen = [i for i in lines if i["t"] == free]
        ours = [i["seconds"] for i in chosen]
        gains = [(i["value"] - i["base_value"], i["random_value"] - i["base_value"]) for i in chosen]
        reached = np.mean([random / best for best, random in gains if best > 1e-9])
        cells = (
            free,
            len(chosen),
            sum(i["gap"] < 1e-6 for i in chosen),
            f"{np.median([i['restrict_seconds'] for i in chosen]):.3f}",
            f"{np.median(ours):.3f} ({max(ours):.3f})",
            max(i["nodes"] for i in chosen),
            f"{reached:.0%}",
        )
        print("| " + " | ".join(map(str, cells)) + " |")
    peers = [json.loads(path.read_text()) for path in sorted(FOLDER.glob("?.peer.json"))]
    print(f"\nt = 8, {len(peers)} instances, restriction and solution, CPU seconds: median, ratio to ours")
    for name in ("ours", "merged", "entmoot") if peers else ():
        ratios = [p[name] / p["ours"] for p in peers]
        print(f"| {name} | {np.median([p[name] for p in peers]):.3f} | {np.median(ratios):.0f}× "
              f"({min(ratios):.0f} to {max(ratios):.0f}) |")  # fmt: skip


def main():
    match sys.argv[1:]:
        case ["run"]:
            run()
        case ["run", seconds]:
            run(float(seconds))
        case ["table"]:
            table()
        case _:
            sys.exit("usage: python -m benchmarks.latent run [SECONDS] | table")


if __name__ == "__main__":
    main()
