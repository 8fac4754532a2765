"""Four densities of digits, each tuned by itself: VAE, convolutional VAE, PPCA, Gaussian mixture.

Each has a sweep of its own, since a Bernoulli's likelihood and a Gaussian's are not comparable; the first
trial is the setting of [PML], which names none for the mixture. At the end that setting and the best one of
each are fitted to all images that are not for testing, and the test images give the table and the figures.
"""

import sys
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Annotated, Any, Literal

from rich.console import Console

from searchers.display.closing import next_words
from searchers.execution.cli import main_of
from searchers.execution.resume import refuse_another, store
from searchers.study import given
from searchers.study.config import SweepConfig, UsageError, without
from searchers.study.ranges import SEVERAL, multiple_of
from searchers.study.study import Study

if TYPE_CHECKING:
    from searchers.execution.prepare import Prepared

PROGRAM = "python -m searchers.densities"
METRIC = "nats_per_image"
Model = Literal["vae", "conv_vae", "ppca", "mixture"]
FITTED = ("ppca", "mixture")  # in one step
UNUSED = {"vae": {"networks", "width"}, "conv_vae": {"networks", "hidden", "layers", "frequency"}}
TITLES = {"vae": "VAE", "conv_vae": "ConvVAE", "ppca": "PPCA", "mixture": "Gaussian mixture"}


@dataclass(frozen=True)
@without("width")
class DensityConfig(SweepConfig):
    """Settings of one run of the density comparison; `num_samples` are the trials of each model."""

    models: Annotated[tuple[Model, ...], SEVERAL] = ("vae", "conv_vae", "ppca", "mixture")
    """which of the models to tune"""
    image_size: Annotated[int, multiple_of(4, 8, 64)] = 28
    """images are resized to this many pixels; a covariance of all pixels must fit"""


PRESETS = {
    "quick": DensityConfig(
        preset="quick",
        dataset="drawn-digits",
        dataset_limit=4000,
        image_size=28,
        batch_size=32,
        epochs=20,
        grace_epochs=5,
        num_samples=8,
        evaluation_samples=1000,
        features="none",
    ),
    "report": DensityConfig(
        preset="report",
        dataset="mnist",
        image_size=28,
        batch_size=128,
        epochs=25,
        grace_epochs=3,
        num_samples=20,
        evaluation_samples=5000,
        features="none",
    ),
}


def study(model: Model, config: DensityConfig, prepared: "Prepared", images: int) -> Study:
    """Return one model's sweep; its first trial is the setting of [PML] where that names one.

    images: how many it is trained on.
    """
    from ray import tune

    from trainables.tune import densities

    pixels = config.image_size**2
    latent = tune.randint(2, min(65, pixels))
    image = {"channels": 1}
    models: dict[Model, tuple[Any, dict[str, Any], dict[str, Any], dict[str, Any]]] = {
        "vae": (
            densities.BernoulliVAE,
            {"hidden": tune.randint(64, 1025), "latent_dim": latent},
            {"networks": "dense"},
            {"hidden": 400, "latent_dim": 2},
        ),
        "conv_vae": (
            densities.BernoulliVAE,
            {"width": tune.uniform(0.25, 2.0), "latent_dim": latent},
            {"networks": "convolutional"},
            {"width": 1.0, "latent_dim": 2},
        ),
        "ppca": (
            densities.PPCA,
            {"latent_dim": tune.randint(1, min(513, pixels, images))},
            {},
            {"latent_dim": 2},
        ),
        "mixture": (
            densities.GaussianMixture,
            {"components": tune.randint(1, min(101, images + 1))},
            {"subspace": min(50, pixels)},
            {"components": 10},
        ),
    }
    trainable, space, settings, first = models[model]
    shared = prepared.settings
    if model in FITTED:
        shared = {name: value for name, value in shared.items() if name != "width"}
    return Study(
        experiment="densities",
        trainable=trainable,
        space=space,
        settings={**shared, **image, **settings},
        metric=METRIC,
        mode="max",
        points_to_evaluate=(first,),
        provenance={
            **prepared.provenance,
            "density_model": TITLES[model],
            "likelihood": trainable.model_class.likelihood,
            "pixel_scale": "[0, 1]",
        },
    )


def part_of(config: DensityConfig, model: Model) -> DensityConfig:
    """Return the settings of one model's sweep; of the comparison of `--warm-start` it takes its own part."""
    earlier = config.warm_start and f"{config.warm_start}-{model}"
    part = replace(config, name=f"{config.title}-{model}", warm_start=earlier)
    return replace(part, epochs=1, grace_epochs=1, early_stopping=False) if model in FITTED else part


def refuse_settings(config: DensityConfig) -> None:
    """Raise UsageError for what a final fit, or one of the models, has no use for."""
    from searchers.record.schema import SHARED
    from trainables.evaluation.inputs import TrainingConfig

    asked = given.read_settings(config.set).keys() | given.read_space(config.space).keys()
    of_trials = {field.name for field in fields(TrainingConfig)} - SHARED - {"batch_size", "flip"}
    if wrong := sorted(asked & of_trials):
        raise UsageError(f"{wrong[0]}: the table's final fits have no such setting; leave it out")
    for model in config.models:
        if wrong := sorted(asked & UNUSED.get(model, set())):
            raise UsageError(f"{wrong[0]}: {TITLES[model]} has no use for it; --models leaves models out")


def work(config: DensityConfig, sweep_id: str, console: Console) -> int:
    """Tune each model, then fit [PML]'s settings and the best ones for the table; return the exit code."""
    # Ray takes seconds to import: wrong flags are answered at once.
    refuse_settings(config)
    from searchers.execution.overlay import as_trained
    from searchers.execution.prepare import prepare
    from searchers.execution.run import checked, run
    from searchers.execution.search import make_search
    from searchers.reports.densities import Row, write_report
    from trainables.evaluation.inputs import load_store, split_config
    from trainables.models.bernoulli_vae import BernoulliVAE

    folder = config.folder
    prepared = prepare(config, console, channels=1)
    training, _ = split_config(BernoulliVAE, prepared.settings)
    images = len(load_store(training, config.image_size, channels=1).split("train"))
    parts = [
        (model, study(model, config, prepared, images), part_of(config, model)) for model in config.models
    ]
    refuse_another(folder, sweep_id)
    for model, tuned, part in parts:  # what is wrong with the last is said before the hours of the first
        refuse_another(part.folder, f"{sweep_id}-{model}")
        own, points = checked(tuned, part)
        make_search(own, part, points)
    if not config.dry_run:
        store(folder, PROGRAM, sweep_id, config, prepared.provenance.get("data_hash"))
    rows = []
    for model, tuned, part in parts:
        console.print(f"\n[bold]{TITLES[model]}[/bold]: {', '.join(tuned.space)}", highlight=False)
        outcome = run(
            tuned, part, f"{sweep_id}-{model}", PROGRAM, console, resume_as=config.title, closing=False
        )
        if outcome.exit_code:
            return outcome.exit_code
        if config.dry_run:
            continue
        best = outcome.best
        if best is None:
            console.print(f"No trial of {TITLES[model]} has reported a score: there is nothing to fit.")
            return 1
        first = tuned.points_to_evaluate[0]
        chosen = {name: best.config[name] for name in outcome.study.space}
        rows.append(Row(model, "first" if model == "mixture" else "PML", tuned, first))
        rows.append(Row(model, "best", as_trained(outcome.study, best.config), chosen))
    if config.dry_run:
        long = sum(model not in FITTED for model in config.models)
        more = (
            f"{2 * long * config.epochs} epochs more and {2 * (len(config.models) - long)} fits in one step"
        )
        console.print(f"Then two last fits of each model, for the table: {more}.", highlight=False)
    if rows:
        try:
            write_report(rows, config, folder, console)
        except KeyboardInterrupt:
            console.print(f"Interrupted. Go on with: {outcome.ending.resume}", soft_wrap=True)
            return 130
        console.print("\n".join(next_words(outcome.ending)), highlight=False, soft_wrap=True)
    return 0


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return its exit code."""
    return main_of(PROGRAM, PRESETS, work, arguments)


if __name__ == "__main__":
    sys.exit(main())
