"""CPU seconds and quality of maximizing tree ensembles over discrete codes: ours, a leaf MIP, random codes.

    python -m benchmarks.latent run
    python -m benchmarks.latent table

The ensembles are fitted as in [HP] (800 trees of depth 2, 20 samples a leaf) to 10 000 codes of 64 positions
and 256 categories. The scores of the codes add up effects of 20 positions and 60 interactions, but those of
the last set are noise. All times are CPU seconds of one thread in one process. HiGHS solves the mixed-integer
programs of the same restrictions.
"""

import sys
import time
from functools import partial

import numpy as np
import xgboost as xgb

from benchmarks import records
from trainables.latent.ensemble import Leaf, Restriction, parse, restrict
from trainables.latent.leaf_mip import maximize_leaf_mip
from trainables.latent.pairwise import maximize_pairwise

POSITIONS, CATEGORIES, CODES, TREES = 64, 256, 10_000, 800
FREE = (4, 8, 16)
ENSEMBLES, BASES = 5, 7  # times len(FREE): 105 instances
RANDOM_CODES = 10_000
PROGRAMS = {
    "ours": "pairwise tables, bounds, branching (ours)",
    "merged": "leaf program on merged categories",
    "entmoot": "leaf program with a binary a category, as Thebelt et al. 2021, eq. 2 (ENTMOOT)",
}


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


def peer(seed, codes, ensemble, ranked):
    """Measure one instance at t = 8 with all three programs."""
    base, free = codes[np.random.default_rng([seed, 99]).integers(CODES)], ranked[:8]
    best, ours = timed(lambda: maximize_pairwise(restrict(ensemble, base, free)))
    merged, merged_seconds = timed(lambda: maximize_leaf_mip(restrict(ensemble, base, free)))
    full, full_seconds = timed(lambda: maximize_leaf_mip(unmerged(ensemble, base, free)))
    assert max(abs(merged.value - best.value), abs(full.value - best.value)) < 1e-6
    return {"ours": ours, "merged": merged_seconds, "entmoot": full_seconds}


def run():
    settings = {"tree_method": "hist", "max_depth": 2, "min_child_weight": 20, "eta": 0.1, "nthread": 1}
    ensembles, instances, peers = [], [], []
    for seed in range(ENSEMBLES):
        codes, scores = data(seed)
        booster, fit = timed(partial(xgb.train, settings, matrix(codes, scores), TREES))
        ensemble, parsing = timed(partial(parse, booster, CATEGORIES))
        ensembles.append({"fit_seconds": fit, "parse_seconds": parsing})
        gain = booster.get_score(importance_type="total_gain")
        ranked = [int(name[1:]) for name in sorted(gain, key=lambda name: -gain[name])]
        for n in range(len(FREE) * BASES):
            free, rng = FREE[n % len(FREE)], np.random.default_rng([seed, n])
            base = codes[rng.integers(CODES)]
            instances.append({"t": free} | instance(booster, ensemble, base, ranked[:free], rng))
        peers.append(peer(seed, codes, ensemble, ranked))
        print(peers[-1], flush=True)
    records.renew("latent", "ensembles", ensembles)
    records.renew("latent", "instances", instances)
    records.renew("latent", "peers", peers)


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
    fits = records.read("latent", "ensembles")
    fit, parsing = (np.mean([row[key] for row in fits]) for key in ("fit_seconds", "parse_seconds"))
    print(f"A fit takes {fit:.1f} s, taking the ensemble apart {parsing:.2f} s\n")
    rows = []
    for free in FREE:
        chosen = [row for row in records.read("latent", "instances") if row["t"] == free]
        ours = [row["seconds"] for row in chosen]
        gains = [(r["value"] - r["base_value"], r["random_value"] - r["base_value"]) for r in chosen]
        reached = np.mean([random / best for best, random in gains if best > 1e-9])
        rows.append(
            [
                str(free),
                str(len(chosen)),
                str(sum(row["gap"] < 1e-6 for row in chosen)),
                f"{np.median([row['restrict_seconds'] for row in chosen]):.3f}",
                f"{np.median(ours):.3f} ({max(ours):.3f})",
                str(max(row["nodes"] for row in chosen)),
                f"{100 * reached:.0f} %",
            ]
        )
    header = ["free positions t", "instances", "proven", "restrict s", "solve s, median (max)"]
    records.table([*header, "nodes, max", "random codes reach"], rows)
    peers, rows = records.read("latent", "peers"), []
    for name, shown in PROGRAMS.items():
        ratios = [row[name] / row["ours"] for row in peers]
        ratio = (
            f"{np.median(ratios):.0f}× ({min(ratios):.0f} to {max(ratios):.0f})" if name != "ours" else "1"
        )
        rows.append([shown, f"{np.median([row[name] for row in peers]):.3f}", ratio])
    records.table(["program", "CPU s, median", "ratio to ours, median (range)"], rows)


def main():
    match sys.argv[1:]:
        case ["run"]:
            run()
        case ["table"]:
            table()
        case _:
            sys.exit("usage: python -m benchmarks.latent run | table")


if __name__ == "__main__":
    main()
