"""The end of the density comparison: [PML]'s Table 1 with our figures beside it, and the pictures.

Models are grouped by what their likelihood is a density of, and ordered within a group alone.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from analysis.charts.text import number
from analysis.papers import DENSITIES
from searchers.reports.density_figures import draw_figures
from searchers.study.config import SweepConfig
from searchers.study.study import Study


@dataclass(frozen=True)
class Row:
    """A model with one setting: what `Study` and values of its dimensions say."""

    model: str
    label: str
    study: Study
    values: dict[str, Any]


def write_report(rows: list[Row], config: SweepConfig, folder: Path, console: Console) -> None:
    """Fit each row to all but the test images, score those, print the table, write it and the figures."""
    from trainables.data.batches import to_float
    from trainables.evaluation.inputs import load_store, split_config
    from trainables.evaluation.likelihoods import score
    from trainables.tune.densities import train

    results = []
    for row in rows:
        settings = {**row.study.settings, **row.values}
        training, hyperparameters = split_config(row.study.trainable.model_class, settings)
        store = load_store(training, config.image_size, channels=1)
        known, test = np.setdiff1d(np.arange(len(store)), store.split("test")), store.split("test")
        console.print(f"Fitting {row.model} ({row.label}) to {len(known)} images.", highlight=False)
        model = row.study.trainable.model_class(hyperparameters, seed=config.seed)
        train(
            model,
            store.images[known],
            epochs=config.epochs,
            batch_size=training.batch_size,
            flip=training.flip,
            seed=config.seed,
        )
        x = to_float(store.images[test])
        scores = score(model, x)
        about = {"model": row.model, "label": row.label, "values": row.values, "likelihood": model.likelihood}
        results.append({**about, **scores})
        drawn = folder / "figures" / f"{row.model}-{row.label}"
        draw_figures(model, x, store.labels[test], drawn)
    (folder / "scores.json").write_text(json.dumps(results, indent=2))
    whole = config.dataset_limit is None
    is_papers = config.dataset == "mnist" and config.image_size == 28 and whole
    for family in dict.fromkeys(result["likelihood"] for result in results):
        members = [result for result in results if result["likelihood"] == family]
        console.print(score_table(family, members, 28**2 if is_papers else None))
    console.print(f"Scores: {folder}/scores.json; figures: {folder}/figures", highlight=False, soft_wrap=True)


def score_table(family: str, results: list[dict[str, Any]], paper_dims: int | None) -> Table:
    """Return the scores of one likelihood family, the best first; the paper's with them where it is its data.

    All are of test images and of pixels in [0, 1]; paper_dims: pixels of its images. Its mixture is not among
    them, since its sum has the size of a density of standardized pixels. Of VAEs nats are the
    evidence lower bound, with the importance-weighted one (Burda et al. 2016) beside it.
    """
    table = Table(title=f"{family[0].upper()}{family[1:]}; higher nats are better", title_justify="left")
    table.add_column("model", no_wrap=True)
    table.add_column("setting", min_width=12, overflow="fold")
    weighted = [r["importance_samples"] for r in results if "importance_samples" in r]
    bounds = (f"IWAE, K={weighted[0]}",) if weighted else ()
    for name in ("nats/image", *bounds, "bits/dim", "MSE/pixel"):
        table.add_column(name, justify="right", no_wrap=True)
    rows = []
    for result in results:
        setting = ", ".join(f"{name} {number(value)}" for name, value in result["values"].items())
        nats, error = result["nats_per_image"], result["reconstruction_mse"]
        bound = (f"{result['nats_importance_weighted']:.2f}",) if weighted else ()
        scores = (
            f"{nats:.2f} ± {result['nats_standard_error']:.2f}",
            *bound,
            f"{result['bits_per_dim']:.4f}",
        )
        rows.append((nats, result["model"], f"{result['label']}: {setting}", *scores, f"{error:.6f}"))
    if paper_dims:
        for model in dict.fromkeys(r["model"] for r in results if r["model"] != "mixture"):
            nats, error = DENSITIES[model].on_unit_scale(paper_dims)
            rows.append(
                (nats, model, "paper's Table 1", f"{nats:.2f}", *("" for _ in bounds), "", f"{error:.6f}")
            )
    for _, *cells in sorted(rows, key=lambda row: -row[0]):
        table.add_row(*cells)
    return table
