"""What `searchers.happy_people` ends with: its table beside the paper's, and what speaks against it."""

from collections import defaultdict
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from scipy import stats

from analysis.papers import QUERIES
from searchers.record.ledger import Ledger
from searchers.record.schema import FIGURE, FINISHED
from searchers.record.trials import TrialRecord
from searchers.reports.happy_people_figures import Group, draw_curves, draw_faces, title

ORDER = ("vqvae-retrained", "vqvae", "vae-retrained")  # the paper's, the best first
KEPT = "reconstruction_rank_correlation"
LITTLE = 0.5  # below it, what the latents keep of the scores is too little to search in


@dataclass(frozen=True)
class Gain:
    """A difference of two means over runs, its standard error, and what that is times Student's t at 95 %."""

    value: float
    error: float
    bar: float

    def __str__(self) -> str:
        return f"{self.value:+.2f} ± {self.error:.2f}" if np.isfinite(self.value) else "–"


def report(
    name: str,
    queries: int,
    settings: dict[str, Any],
    records: list[TrialRecord],
    folder: Path,
    ledger: Ledger,
    console: Console,
) -> dict[str, float]:
    """Print the table, draw the figures, return the numbers for the parent run: of whole runs alone."""
    whole = [record for record in records if record.status == FINISHED]
    if left_out := len(records) - len(whole):
        console.print(f"Left out: {left_out} of {len(records)} runs, which have not made all their queries.")
    groups: dict[Group, list[TrialRecord]] = defaultdict(list)
    for record in whole:
        groups[record.config["method"], record.config["free"]].append(record)
    if not groups:
        return {}
    least = min(map(len, groups.values()))  # a distance of more images is another number
    images = {group: query_images(members[:least], folder) for group, members in groups.items()}
    metric, distances = pooled_distances(settings, images)
    console.print(result_table(name, queries, groups, metric, distances))
    if differences := gains(groups, metric):
        console.print(gain_table(differences))
        console.print(what_holds(differences), highlight=False)
    console.print(what_is_kept(whole), highlight=False)
    console.print(what_is_judged(groups), highlight=False)
    figures = {
        "figure3.png": lambda path: draw_curves(path, queries, groups, metric, distances),
        "figure1.png": lambda path: draw_faces(path, settings, images),
    }
    for file, draw in figures.items():
        draw(folder / file)
        ledger.append(FIGURE, path=file)
        console.print(f"Figure: {folder / file}", highlight=False, soft_wrap=True)
    numbers: dict[str, float] = {}
    for group, members in groups.items():
        label = f"{group[0]}/t{group[1]}" if group[1] else group[0]
        for key in ("top10", "top50", "judged_top10", "judged_top50", "overrated"):
            mean, std = spread(members, key)
            known = {f"{label}/{key}": mean, f"{label}/{key}_std": std}
            numbers |= {name: value for name, value in known.items() if np.isfinite(value)}
        numbers |= {f"{label}/{metric}{name}": value for name, value in distances[group].items()}
    return numbers


def spread(members: list[TrialRecord], key: str) -> tuple[float, float]:
    """Return mean and standard deviation (n − 1) over runs of a metric's last value.

    NaN where a run lacks it, as is the deviation of one run.
    """
    values = np.array([record.last(key) for record in members])
    return float(values.mean()), float(values.std(ddof=1)) if len(values) > 1 else np.nan


def query_images(members: list[TrialRecord], folder: Path) -> NDArray[np.uint8]:
    """Return the images of all queries of these runs, in order, (n, H, W, C)."""
    from trainables.data.pictures import take_apart

    paths = [
        path
        for record in members
        for path in sorted((folder / "images" / record.trial).glob("queries_*.png"))
    ]
    return np.concatenate([take_apart(path.read_bytes()) for path in paths])


def pooled_distances(
    settings: dict[str, Any], images: dict[Group, NDArray[np.uint8]]
) -> tuple[str, dict[Group, dict[str, float]]]:
    """Return the metric's name and each group's Fréchet distances, of the queries of as many runs of each.

    [HP] pools its 20 runs likewise. Keys: "" for all held-out degrees, "_degree_<k>" for each.
    """
    import torch

    from trainables.latent.problem import held_out_references, load_images
    from trainables.latent.settings import parse_config
    from trainables.metrics.extractors.features import load_extractor
    from trainables.metrics.frechet import frechet_distance

    c = parse_config(settings)
    weights = Path(c.feature_weights) if c.feature_weights else None
    device = "cuda" if torch.cuda.is_available() else "cpu"
    extractor = load_extractor(c.features, weights=weights, device=device)
    references = held_out_references(load_images(c), c, extractor)
    distances = {}
    for group, pixels in images.items():
        features = extractor(pixels)
        distances[group] = {
            name: frechet_distance(features, reference, identity=extractor.identity)
            for name, reference in references.items()
        }
    return extractor.metric, distances


def result_table(
    name: str,
    queries: int,
    groups: dict[Group, list[TrialRecord]],
    metric: str,
    distances: dict[Group, dict[str, float]],
) -> Table:
    """Return method by method what was measured and, beside it, what the paper reports on CelebA."""
    table = Table(
        title=f"{name}: {queries} queries a run, mean ± std over runs; (paper, CelebA)",
        title_justify="left",
        title_style="bold",
        show_edge=False,  # for eighty columns
    )
    for heading in ("method", "t", "Top10", "Top50", "FD, pooled"):
        table.add_column(heading, justify="left" if heading == "method" else "right", no_wrap=True)
    for group, members in groups.items():
        paper = QUERIES.get(group)
        table.add_row(
            group[0],
            str(group[1] or "–"),
            _beside(spread(members, "top10"), paper.top10 if paper else None),
            _beside(spread(members, "top50"), paper.top50 if paper else None),
            _beside((distances[group][""], np.nan), (paper.fid, None) if paper and paper.fid else None),
        )
    records = [record for members in groups.values() for record in members]
    rounds = [m for record in records for m in record.metrics.values()]
    fit, solve = (np.mean([m[key] for m in rounds]) for key in ("fit_seconds", "solve_seconds"))
    gaps = [m["gap_max"] for m in rounds if "gap_max" in m]
    proof = f"; largest bound less value {max(gaps):.0e}" if gaps else ""
    best = max(record.last("best_training_score") for record in records)
    counts = sorted({len(members) for members in groups.values()})
    pooled = f", of {counts[0]} runs of each" if len(counts) > 1 else ""
    table.caption = (
        f"Runs of each: {' to '.join(map(str, counts[:: max(1, len(counts) - 1)]))}. FD: {metric}{pooled}. "
        f"Best score of a training image: {best:.2f}. "
        f"A query: {fit:.2f} s to fit, {solve:.2f} s to solve{proof}."
    )
    table.caption_justify = "left"
    return table


def gains(groups: dict[Group, list[TrialRecord]], metric: str) -> dict[str, dict[str, Gain]]:
    """Return the gain of each method over the next in the paper's order, at the t nearest to 8.

    By "better over worse", then by score. Above 0 the order is the paper's. Pairs without two runs of each
    have none.
    """
    chosen = {}
    for method in ORDER:
        there = [group for group in groups if group[0] == method and len(groups[group]) > 1]
        if there:
            chosen[method] = groups[min(there, key=lambda group: abs(group[1] - 8))]
    keys = {"Top10": ("top10", 1), "Top50": ("top50", 1), "FD": (metric, -1)}
    return {
        f"{better} over {worse}": {
            heading: _gain(chosen[better], chosen[worse], key, sign) for heading, (key, sign) in keys.items()
        }
        for better, worse in pairwise(chosen)
    }


def _gain(one: list[TrialRecord], other: list[TrialRecord], key: str, sign: int) -> Gain:
    """Return the difference between two methods' runs, whose variances may be unequal (Welch)."""
    first, second = (np.array([record.last(key) for record in members]) for members in (one, other))
    squares = np.array([values.var(ddof=1) / len(values) for values in (first, second)])
    freedom = [len(first) - 1, len(second) - 1]
    error, bar = float(np.sqrt(squares.sum())), 0.0
    if error:
        bar = error * float(stats.t.ppf(0.975, squares.sum() ** 2 / (squares**2 / freedom).sum()))
    return Gain(float(sign * (first.mean() - second.mean())), error, bar)


def gain_table(differences: dict[str, dict[str, Gain]]) -> Table:
    """Return `gains` as a table."""
    table = Table(
        title="Gain ± standard error: above 0 the order is the paper's",
        caption="A model's runs all begin with one training of it: what another would change is in no error.",
        title_justify="left",
        caption_justify="left",
        title_style="bold",
        show_edge=False,
    )
    table.add_column("better", no_wrap=True)
    for heading in ("Top10", "Top50", "FD, each run"):
        table.add_column(heading, justify="right", no_wrap=True)
    for pair, scores in differences.items():
        table.add_row(pair, *map(str, scores.values()))
    return table


def what_holds(differences: dict[str, dict[str, Gain]]) -> str:
    """Say by which scores the order is the paper's, at 95 % by Welch's t-test, and where that can't be told.

    A gain that is not finite, as of Top50 where there are fewer than 50 queries, says nothing.
    """
    known = {
        f"{pair} by {heading}": gain
        for pair, scores in differences.items()
        for heading, gain in scores.items()
        if np.isfinite([gain.value, gain.error]).all()
    }
    if not known:
        return "Whether the paper's order holds can't be told: no two methods have a score of two runs each."
    words: dict[str, list[str]] = {"it holds for": [], "it is reversed for": [], "it can't be told for": []}
    for name, gain in known.items():
        holds, reversed_, open_ = words.values()
        where = holds if gain.value > gain.bar else reversed_ if gain.value < -gain.bar else open_
        where.append(f"{name} ({gain}, beside ± {gain.bar:.2f})")
    said = "; ".join(f"{verdict} {', '.join(names)}" for verdict, names in words.items() if names)
    return f"The paper's order, at 95 % by Welch's t-test: {said}."


def what_is_judged(groups: dict[Group, list[TrialRecord]]) -> str:
    """Say what the second scorer, which the search never asks, gives the queries of each method."""
    parts = []
    for group, members in groups.items():
        first, judged, overrated = (spread(members, key)[0] for key in ("top10", "judged_top10", "overrated"))
        parts.append(f"{title(group)} {judged:.2f} (first scorer {first:.2f}), {overrated:.0%}")
    return (
        "A second scorer judges the queries. Its Top10, and the share of queries that only the first scorer "
        f"believes, by a degree or more: {'; '.join(parts)}."
    )


def what_is_kept(records: list[TrialRecord]) -> str:
    """Say how well reconstructions keep the order of the images' scores, in the first round."""
    by_model: dict[str, list[float]] = defaultdict(list)
    for record in records:
        if KEPT in (first := record.metrics.get(1, {})):
            by_model[record.config["method"].split("-")[0]].append(first[KEPT])
    kept = {model: float(np.mean(values)) for model, values in by_model.items()}
    if not kept:
        return "How well reconstructions keep the images' scores is not known."
    text = ", ".join(f"{value:.2f} ({model})" for model, value in kept.items())
    text = f"Scores of held-out images and of their reconstructions: rank correlation {text}."
    if max(kept.values()) < LITTLE:
        text += " Little of the smile is in the latents: the methods' differences say nothing."
    return text


def _beside(measured: tuple[float, float], paper: tuple[float, float | None] | None) -> str:
    value, std = measured
    text = "–" if not np.isfinite(value) else f"{value:.2f}" + (f" ± {std:.2f}" if np.isfinite(std) else "")
    return text + (f" ({paper[0]:.2f})" if paper else "")
