"""Figures 1 and 3 of [HP]: the best faces of each method, and the best scores over queries."""

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from analysis.charts.bands import draw_band
from analysis.charts.style import GREY, METHODS, canvas
from searchers.record.trials import TrialRecord

Group = tuple[str, int]  # method and t
GRID_ROW = 10
QUERIES_A_ROUND = 5


def title(group: Group) -> str:
    """Return a method with its number of free positions."""
    method, free = group
    return f"{method}, t = {free}" if free else method


def draw_curves(
    path: Path,
    queries: int,
    groups: dict[Group, list[TrialRecord]],
    metric: str,
    distances: dict[Group, dict[str, float]],
) -> None:
    """Draw Figure 3 of [HP]: Top-k over queries, by the scorer and by the judge, and Fréchet distances.

    Lines are means over runs, bands one standard deviation.
    """
    figure, (left, middle, right) = canvas(14, 4, 1, 3)
    key = "top50" if queries >= 200 else "top10"
    _draw_best(left, groups, key)
    _draw_best(middle, groups, f"judged_{key}")
    for group in groups:
        style, color = _line(group), METHODS[group[0]]
        degrees = [name for name in distances[group] if name]
        right.axhline(distances[group][""], linestyle=style, color=color, linewidth=1)
        right.plot(
            [float(name.removeprefix("_degree_")) for name in degrees],
            [distances[group][name] for name in degrees],
            style,
            marker="o",
            color=color,
        )
    best = max(record.last("best_training_score") for members in groups.values() for record in members)
    left.axhline(best, linestyle="--", color=GREY, linewidth=1, label="best image that the generators see")
    limits = [axes.get_ylim() for axes in (left, middle)]
    for axes in (left, middle):
        axes.set_ylim(min(low for low, _ in limits), max(high for _, high in limits))
    words = f"{key.capitalize()} smile degree"
    left.set(xlabel="queries", ylabel=words, title="by the scorer that is searched")
    middle.set(xlabel="queries", ylabel=words, title="by a scorer that is never asked")
    right.set(xlabel="held-out smile degree (lines: all of them)", ylabel=metric)
    held_out = {name for group in distances.values() for name in group if name}
    right.set_xticks(sorted(float(name.removeprefix("_degree_")) for name in held_out))
    left.legend(fontsize=7)
    figure.savefig(path, dpi=150)


def _line(group: Group) -> str:
    return {4: ":", 16: "--"}.get(group[1], "-")


def _draw_best(axes: Axes, groups: dict[Group, list[TrialRecord]], key: str) -> None:
    for group, members in groups.items():
        rounds = sorted(set.intersection(*(set(record.metrics) for record in members)))
        rounds = [r for r in rounds if all(key in record.metrics[r] for record in members)]
        values = np.array([[record.metrics[r][key] for r in rounds] for record in members])
        if rounds:
            at = [QUERIES_A_ROUND * r for r in rounds]
            draw_band(axes, at, values, METHODS[group[0]], title(group), _line(group))


def draw_faces(path: Path, settings: dict[str, Any], images: dict[Group, NDArray[np.uint8]]) -> None:
    """Draw Figure 1 of [HP]: the best images that the generators see, then each method's best at t = 8."""
    from trainables.latent.problem import load_images, training_rows
    from trainables.latent.scorer import SmileScorer, load_scorer
    from trainables.latent.settings import parse_config

    c = parse_config(settings)
    store = load_images(c)
    weights = Path(c.scorer_weights) if c.scorer_weights else None
    scorer = SmileScorer.from_bytes(load_scorer(store, weights=weights, epochs=c.scorer_epochs))[0]
    seen = f"the best of the images that the generators see (degree {c.max_degree:g} or less)"
    rows = {seen: store.images[training_rows(store, c.max_degree)]}
    for method in ("vae-retrained", "vqvae", "vqvae-retrained"):
        there = [group for group in images if group[0] == method]
        if there:
            group = min(there, key=lambda group: abs(group[1] - 8))
            rows[f"the best queries of {title(group)}"] = images[group]
    figure, panels = canvas(GRID_ROW, 1.35 * len(rows), len(rows), 1, squeeze=False)
    for axes, (words, pixels) in zip(panels[:, 0], rows.items(), strict=True):
        pixels = np.unique(pixels, axis=0)
        scores = scorer.score(pixels)
        best = np.argsort(-scores)[:GRID_ROW]
        axes.imshow(np.concatenate(list(pixels[best]), 1), interpolation="nearest")
        axes.set_title(f"{words}: scores {scores[best[0]]:.2f} to {scores[best[-1]]:.2f}", fontsize=8)
        axes.axis("off")
    figure.savefig(path, dpi=150)
