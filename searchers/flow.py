"""Rectified flow, or EDM with `--kind EDM`: learning rate, width, and the noise that training sees.

What counts only when images are drawn (sampler, steps, guidance) is not searched here: `analysis.sampling`
tries it on the winner, and nothing is trained again.
"""

import sys
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any, Literal

from rich.console import Console

from searchers.display.commands import analysis_command
from searchers.execution.cli import main_of
from searchers.study.config import SweepConfig
from searchers.study.ranges import one_of
from searchers.study.study import Study

if TYPE_CHECKING:
    from searchers.execution.prepare import Prepared

PROGRAM = "python -m searchers.flow"


@dataclass(frozen=True)
class FlowConfig(SweepConfig):
    """Settings of one run; the command line is this class."""

    image_size: Annotated[int, one_of(*(2**k for k in range(4, 11)))] = 64
    """images are resized to this many pixels"""
    kind: Literal["flow", "EDM"] = "flow"
    """rectified flow, or diffusion as in EDM"""


QUICK = FlowConfig(
    preset="quick",
    dataset="faces",
    dataset_limit=2500,
    image_size=32,
    batch_size=16,
    epochs=18,
    evaluate_every=6,
    grace_epochs=6,
    num_samples=8,
    trainings=3.5,
    evaluation_samples=500,
)
PRESETS = {
    "quick": QUICK,
    "report": replace(
        QUICK,
        preset="report",
        dataset_limit=None,
        image_size=64,
        batch_size=128,
        epochs=100,
        evaluate_every=10,
        grace_epochs=20,
        num_samples=20,
        trainings=8,
        evaluation_samples=1000,
        gpus_per_trial=0.5,
    ),
}


def study(config: FlowConfig, prepared: "Prepared") -> Study:
    """Return the search space of the chosen model."""
    from ray import tune

    from trainables.tune.baselines import DENOISING
    from trainables.tune.builtin import EDM, Flow

    noise: dict[str, Any] = {"times": tune.choice(["logit_normal", "uniform"])}
    if config.kind == "EDM":
        noise = {"noise_mean": tune.uniform(-2.0, 0.0)}
    narrowest, widest = 0.5 * config.width, config.width
    first = {"learning_rate": 2e-3, "width": widest, "times": "logit_normal", "noise_mean": -1.2}
    space = {
        "learning_rate": tune.loguniform(5e-4, 1e-2),
        "width": tune.choice([narrowest, widest]),
        **noise,
    }
    return Study(
        experiment=config.kind.lower(),
        trainable=EDM if config.kind == "EDM" else Flow,
        space=space,
        points_to_evaluate=({name: first[name] for name in space},),
        settings={**prepared.settings, **DENOISING},
        metric=prepared.distance,
        provenance=prepared.provenance,
    )


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return its exit code."""

    def work(config: FlowConfig, sweep_id: str, console: Console) -> int:
        # Ray takes seconds to import: wrong flags are answered at once.
        from searchers.execution.run import tune_study

        outcome = tune_study(PROGRAM, study, config, sweep_id, console)
        if outcome.best is not None:
            command = analysis_command("sampling", config)
            console.print(f"Fewer steps, another sampler: {command}", highlight=False, soft_wrap=True)
        return outcome.exit_code

    return main_of(PROGRAM, PRESETS, work, arguments)


if __name__ == "__main__":
    sys.exit(main())
