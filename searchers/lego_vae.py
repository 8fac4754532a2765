"""The LEGO-face VAE of [LEGO]: Bayesian optimization of hidden and latent size, then the winner, then morphs.

First the sweep: each trial trains for up to 50 epochs at a constant learning rate, scored by its validation
loss. Then the best sizes are trained for 400 epochs with a decaying one, as a sweep of one trial, and the
model draws faces, rebuilds faces it has not seen, and turns one face into another.
"""

import sys
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any

from rich.console import Console

from searchers.display.closing import next_words
from searchers.execution.cli import main_of
from searchers.execution.resume import refuse_another
from searchers.record.folders import MODELS
from searchers.study import given
from searchers.study.config import SweepConfig, UsageError
from searchers.study.ranges import COUNT, between, one_of
from searchers.study.study import Study

if TYPE_CHECKING:
    from searchers.execution.prepare import Prepared

PROGRAM = "python -m searchers.lego_vae"
METRIC = "validation_loss_last3"
RATE = frozenset(("schedule", "decay_steps"))  # the winner's falls as in the slides


@dataclass(frozen=True)
class LegoConfig(SweepConfig):
    """Settings of one run of the LEGO-face sweep."""

    random_starts: Annotated[int, COUNT] = 10
    """trials at random sizes before the model proposes"""
    final_epochs: Annotated[int, between(0, 1_000_000)] = 400
    """epochs that the winner is trained for afterwards; 0 leaves that out"""
    image_size: Annotated[int, one_of(16, 32, 64, 128)] = 128
    """images are resized to this many pixels"""


PRESETS = {
    "quick": LegoConfig(
        preset="quick",
        dataset="minifigures",
        dataset_limit=1500,
        image_size=32,
        width=0.5,
        batch_size=64,
        epochs=12,
        grace_epochs=2,
        num_samples=16,
        random_starts=4,
        evaluation_samples=150,
        features="none",
        final_epochs=40,
    ),
    "report": LegoConfig(
        preset="report",
        dataset="lego",
        image_size=128,
        width=1.0,
        batch_size=64,
        epochs=50,
        grace_epochs=5,
        num_samples=100,
        random_starts=10,
        evaluation_samples=1000,
        features="none",
        final_epochs=400,
        gpus_per_trial=0.5,
    ),
}


def study(config: LegoConfig, prepared: "Prepared") -> Study:
    """Return the sweep over the two sizes."""
    from ray import tune

    from trainables.tune.lego_vae import LegoVAE

    return Study(
        experiment="lego-vae",
        trainable=LegoVAE,
        space={"hidden": tune.randint(128, 2049), "latent_dim": tune.randint(8, 65)},
        settings=prepared.settings,
        metric=METRIC,
        random_starts=config.random_starts,
        provenance={**prepared.provenance, "likelihood": LegoVAE.model_class.likelihood},
    )


def final_study(sweep: Study, config: LegoConfig, winner: dict[str, Any]) -> Study:
    """Return the winner's training: one given trial."""
    return replace(
        sweep,
        settings={**sweep.settings, "epochs": config.final_epochs},
        points=({name: winner[name] for name in sweep.space},),
    )


def work(config: LegoConfig, sweep_id: str, console: Console) -> int:
    """Sweep, train the winner, draw; return the exit code."""
    asked = given.read_settings(config.set).keys() | given.read_space(config.space).keys()
    if config.final_epochs and (wrong := asked & RATE):
        raise UsageError(
            f"{min(wrong)}: the winner's learning rate falls as in [LEGO]; --final-epochs 0 leaves it out"
        )
    if config.final_epochs:
        refuse_another(config.folder.with_name(f"{config.title}-final"), f"{sweep_id}-final")
    # Ray takes seconds to import: wrong flags are answered at once.
    from searchers.execution.overlay import as_trained
    from searchers.execution.prepare import prepare
    from searchers.execution.run import run
    from searchers.reports.faces import draw_faces
    from trainables.data.batches import Batches
    from trainables.evaluation.inputs import load_store, split_config
    from trainables.models.storage import load_model

    sweep = study(config, prepare(config, console))
    outcome = run(sweep, config, sweep_id, PROGRAM, console, closing=not config.final_epochs)
    best = outcome.best
    if config.dry_run and config.final_epochs:
        console.print(f"Then the winner's training: {config.final_epochs} epochs more.", highlight=False)
    if outcome.exit_code or best is None or not config.final_epochs:
        return outcome.exit_code
    sweep = as_trained(outcome.study, best.config)
    training, model_config = split_config(sweep.trainable.model_class, sweep.settings)
    store = load_store(training, model_config.image_size, model_config.channels)
    steps = len(Batches(store, "train", training.batch_size, steps=training.epoch_steps))
    once = replace(
        config,
        name=f"{config.title}-final",
        epochs=config.final_epochs,
        num_samples=1,
        early_stopping=False,
        warm_start=None,
        share=None,
        points=None,
        space=(),
        set=(*config.set, f"decay_steps={config.final_epochs * steps}"),  # whoever trains it again is told
    )
    console.print(f"\nThe best sizes, for {config.final_epochs} epochs with a falling learning rate:")
    given_sizes = final_study(sweep, config, best.config)
    final = run(
        given_sizes, once, f"{sweep_id}-final", PROGRAM, console, resume_as=config.title, closing=False
    )
    if final.exit_code:
        return final.exit_code
    (record,) = final.records
    weights = final.folder / MODELS / record.trial
    if not weights.exists():
        console.print("The final training has left no weights: there is nothing to draw.")
        return 1
    model = load_model(weights)
    for path in draw_faces(model, store, outcome.folder / "figures"):
        console.print(f"Figure: {path}", highlight=False, soft_wrap=True)
    console.print("\n".join(next_words(outcome.ending)), highlight=False, soft_wrap=True)
    return 0


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return its exit code."""
    return main_of(PROGRAM, PRESETS, work, arguments)


if __name__ == "__main__":
    sys.exit(main())
