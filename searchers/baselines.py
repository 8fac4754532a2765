"""The baselines of [BVG]: GAN, VAE, VAE-GAN and β-VAE-GAN at a given β, each on several seeds.

WGAN-GP, FactorVAE, EDM and rectified flow, of pixels and of latents, which the paper does not have, can be
trained beside them.

It ends with Figure 3 of [BVG] (Fréchet distance over epochs, a band over the seeds) and with its Tables 2
and 4 beside what was reached here.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

from analysis.charts.bands import Band, draw_bands
from analysis.charts.style import MODELS
from analysis.charts.text import number
from analysis.papers import BASELINE_FID, FID_BY_BETA
from searchers import beta_vaegan
from searchers.execution.cli import main_of
from searchers.record.schema import FINISHED
from searchers.record.trials import TrialRecord
from searchers.study import given
from searchers.study.config import Role, SweepConfig, UsageError, having, without
from searchers.study.ranges import SEVERAL, between, multiple_of
from searchers.study.study import Study
from trainables.models.settings import nearest

if TYPE_CHECKING:
    from searchers.execution.prepare import Prepared

PROGRAM = "python -m searchers.baselines"
FIGURE = "baselines.png"
Model = Literal["GAN", "WGAN-GP", "VAE", "FactorVAE", "VAE-GAN", "beta-VAE-GAN", "flow", "EDM", "latent-flow"]


@dataclass(frozen=True)
@without(*having(SweepConfig, Role.SEARCH), "space", "early_stopping")  # each training runs to its end
class BaselinesConfig(SweepConfig):
    """Settings of one run; the command line is this class."""

    preset: beta_vaegan.Preset = "quick"  # type: ignore[assignment]  # one more than other studies have
    """quick: minutes on two CPU cores; thorough: hours; report: the paper's own setting, for GPUs"""
    beta: Annotated[float, between(0, 1_000_000)] = 75.0
    """β of the β-VAE-GAN"""
    seeds: Annotated[int, between(1, 1000)] = 3
    """trainings of each model"""
    models: Annotated[tuple[Model, ...], SEVERAL] = ("GAN", "VAE", "VAE-GAN", "beta-VAE-GAN")
    """models to train"""
    image_size: Annotated[int, multiple_of(8, 16, 1024)] = 64
    """images are resized to this many pixels"""


PRESETS = {name: BaselinesConfig(**size) for name, size in beta_vaegan.SIZES.items()}


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
        metric=prepared.distance,
        provenance=prepared.provenance,
    )


def weigh_settings(config: BaselinesConfig, console: Console) -> None:
    """Say which models do without what was asked for. Raises UsageError where all do without a setting."""
    from trainables.tune.baselines import Baseline

    asked = given.read_settings(config.set)
    settings = {**beta_vaegan.model_settings(config), **asked}
    try:
        taken = {model: Baseline.taken({**settings, "model": model}) for model in config.models}
    except ValueError as error:
        raise UsageError(str(error)) from error
    preset = PRESETS[config.preset]
    flags = [name for name in ("width", "beta") if getattr(config, name) != getattr(preset, name)]
    for name in [*asked, *flags]:
        without = [model for model in config.models if name not in taken[model]]
        if len(without) == len(taken):
            known = set().union(*taken.values())
            raise UsageError(f"{name}: none of the models takes it{nearest(name, known)}")
        if without:
            console.print(f"{name}: not of {', '.join(without)}", highlight=False)


def by_model(records: Sequence[TrialRecord], metric: str) -> dict[str, list[dict[int, float]]]:
    """Return the metric by epoch of every training, by model."""
    histories: dict[str, list[dict[int, float]]] = {}
    for record in records:
        curve = {epoch: metrics[metric] for epoch, metrics in sorted(record.metrics.items())}
        if curve:
            histories.setdefault(record.config["model"], []).append(curve)
    return histories


def draw(histories: dict[str, list[dict[int, float]]], metric: str) -> Figure:
    """Draw the mean over seeds of each model's metric over epochs, with a band of one standard deviation."""
    bands = []
    for model, curves in histories.items():
        epochs = sorted(set.intersection(*(set(curve) for curve in curves)))
        values = np.array([[curve[epoch] for epoch in epochs] for curve in curves])
        bands.append(Band(model, epochs, values, MODELS[model]))
    return draw_bands(bands, metric)


def table(histories: dict[str, list[dict[int, float]]], metric: str, beta: float) -> Table:
    """Return mean and standard deviation over seeds at the last epoch, beside the paper's numbers.

    The paper's are FIDs of another extractor's features, of 64×64 images: an order to compare, not a scale.
    """
    result = Table(title="After the last epoch, over seeds", title_justify="left", title_style="bold")
    for heading in ("model", f"{metric}", "±", "seeds", "FID in [BVG] (CelebA, 64×64)"):
        result.add_column(heading, justify="left" if heading == "model" else "right")
    by_beta = {float(known): fid for known, fid in FID_BY_BETA.items()}
    published: dict[str, float | None] = {**BASELINE_FID, "beta-VAE-GAN": by_beta.get(beta)}
    for model, curves in histories.items():
        last = np.array([curve[max(curve)] for curve in curves])
        spread = number(float(last.std(ddof=1))) if len(last) > 1 else "–"
        paper = published.get(model)
        name = f"{model}, beta = {beta:g}" if model == "beta-VAE-GAN" else model
        cells = (number(float(last.mean())), spread, str(len(last)), "–" if paper is None else f"{paper:.2f}")
        result.add_row(name, *cells)
    return result


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return its exit code."""

    def work(config: BaselinesConfig, sweep_id: str, console: Console) -> int:
        weigh_settings(config, console)
        # Ray takes seconds to import: wrong flags are answered at once.
        from searchers.execution.run import tune_study

        outcome = tune_study(PROGRAM, study, config, sweep_id, console)
        metric = outcome.study.metric
        histories = by_model(outcome.records, metric)
        if histories:
            ended = by_model([record for record in outcome.records if record.status == FINISHED], metric)
            console.print(table(ended, metric, config.beta))
            draw(ended or histories, metric).savefig(outcome.folder / FIGURE, dpi=120)
            console.print(f"Figure: {config.folder / FIGURE}", highlight=False)
        return outcome.exit_code

    return main_of(PROGRAM, PRESETS, work, arguments)


if __name__ == "__main__":
    sys.exit(main())
