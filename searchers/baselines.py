"""The seed's baselines: GAN, VAE, VAE-GAN and β-VAE-GAN at a given β, each on several seeds.

WGAN-GP and FactorVAE, which the seed does not have, can be trained beside them.

Ends with the seed's Figure 3 (Fréchet distance over epochs, a band over the seeds) and with its Tables 2
and 4 beside what was reached here.
"""

import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
from rich.console import Console
from rich.table import Table

from searchers import beta_vaegan
from searchers.display.live_table import number
from searchers.record.trials import TrialRecord
from searchers.study.config import SweepConfig
from searchers.study.ranges import SEVERAL, between, multiple_of
from searchers.study.study import Study
from searchers.sweep.cli import main_of

if TYPE_CHECKING:
    from searchers.sweep.prepare import Prepared

PROGRAM = "python -m searchers.baselines"
FIGURE = "baselines.png"
Model = Literal["GAN", "WGAN-GP", "VAE", "FactorVAE", "VAE-GAN", "beta-VAE-GAN"]
PAPER = {"GAN": 196.00, "VAE": 209.00, "VAE-GAN": 139.33, "beta-VAE-GAN": 126.75}  # FID, Tables 2 and 4
COLOURS = {  # Okabe and Ito's
    "GAN": "#D55E00",
    "WGAN-GP": "#E69F00",
    "VAE": "#0072B2",
    "FactorVAE": "#56B4E9",
    "VAE-GAN": "#009E73",
    "beta-VAE-GAN": "#CC79A7",
}


@dataclass(frozen=True)
class BaselinesConfig(SweepConfig):
    """Settings of one run; the command line is this class."""

    beta: Annotated[float, between(0, 1_000_000)] = 75.0
    """β of the β-VAE-GAN"""
    seeds: Annotated[int, between(1, 1000)] = 3
    """trainings of each model"""
    models: Annotated[tuple[Model, ...], SEVERAL] = ("GAN", "VAE", "VAE-GAN", "beta-VAE-GAN")
    """models to train"""
    image_size: Annotated[int, multiple_of(8, 16, 1024)] = 64
    """images are resized to this many pixels"""


PRESETS = {name: BaselinesConfig(**asdict(size)) for name, size in beta_vaegan.SIZES.items()}


def study(config: BaselinesConfig, prepared: "Prepared") -> Study:
    """Return each model on each seed; nothing is searched."""
    from ray import tune

    from trainables.tune.baselines import MODELS, Baseline

    seeds = [config.seed + i for i in range(config.seeds)]
    return Study(
        experiment="baselines",
        trainable=Baseline,
        space={"model": tune.choice(list(MODELS)), "seed": tune.choice(seeds)},
        points=tuple({"model": model, "seed": seed} for seed in seeds for model in config.models),
        settings={**prepared.settings, **beta_vaegan.model_settings(config), "beta": config.beta},
        metric=prepared.metric,
        provenance=prepared.provenance,
    )


def by_model(records: Sequence[TrialRecord], metric: str) -> dict[str, list[dict[int, float]]]:
    """Return the metric by epoch of every training, by model."""
    histories: dict[str, list[dict[int, float]]] = {}
    for record in records:
        curve = {epoch: metrics[metric] for epoch, metrics in sorted(record.metrics.items())}
        if curve:
            histories.setdefault(record.config["model"], []).append(curve)
    return histories


def draw(path: Path, histories: dict[str, list[dict[int, float]]], metric: str) -> None:
    """Draw the mean over seeds of each model's metric over epochs, with a band of one standard deviation."""
    from matplotlib.figure import Figure  # no pyplot: no global state, no display

    figure = Figure(figsize=(7.5, 4.5), layout="constrained")
    axes = figure.subplots()
    for model, curves in histories.items():
        epochs = sorted(set.intersection(*(set(curve) for curve in curves)))
        values = np.array([[curve[epoch] for epoch in epochs] for curve in curves])
        mean, std = values.mean(0), values.std(0, ddof=1) if len(values) > 1 else np.zeros(len(epochs))
        label = f"{model}, {len(curves)} seed{'s' * (len(curves) > 1)}"
        axes.plot(epochs, mean, marker="o", markersize=4, color=COLOURS[model], label=label)
        axes.fill_between(epochs, mean - std, mean + std, color=COLOURS[model], alpha=0.2, linewidth=0)
    axes.set_xlabel("epoch")
    axes.set_ylabel(f"{metric} (lower is better)")
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    figure.savefig(path, dpi=120)


def table(histories: dict[str, list[dict[int, float]]], metric: str, beta: float) -> Table:
    """Return mean and standard deviation over seeds at the last epoch, beside the seed's numbers.

    The seed's are FIDs of another extractor's features, of 64×64 images: an order to compare, not a scale.
    """
    result = Table(title="After the last epoch, over seeds", title_justify="left", title_style="bold")
    for heading in ("model", f"{metric}", "±", "seeds", "the seed's FID (CelebA, 64×64)"):
        result.add_column(heading, justify="left" if heading == "model" else "right")
    for model, curves in histories.items():
        last = np.array([curve[max(curve)] for curve in curves])
        spread = number(float(last.std(ddof=1))) if len(last) > 1 else "–"
        # Table 4 has the best β only where it was 75.
        known = model in PAPER and (model != "beta-VAE-GAN" or beta == 75)
        paper = f"{PAPER[model]:.2f}" if known else "–"
        name = f"{model}, beta = {beta:g}" if model == "beta-VAE-GAN" else model
        result.add_row(name, number(float(last.mean())), spread, str(len(last)), paper)
    return result


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return its exit code."""

    def work(config: BaselinesConfig, sweep_id: str, console: Console) -> int:
        from searchers.sweep.run import (
            tune_study,  # Ray takes seconds to import: wrong flags are answered at once
        )

        outcome = tune_study(PROGRAM, study, config, sweep_id, console)
        metric = outcome.study.metric
        histories = by_model(outcome.records, metric)
        if histories:
            console.print(table(histories, metric, config.beta))
            draw(outcome.folder / FIGURE, histories, metric)
            console.print(f"Figure: {Path(config.results) / config.name / FIGURE}", highlight=False)
        return outcome.exit_code

    return main_of(PROGRAM, PRESETS, work, arguments)


if __name__ == "__main__":
    sys.exit(main())
