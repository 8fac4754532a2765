"""The main job: β-VAE-GAN with Bayesian optimization on β ([BVG], section 5.4).

By the paper's preset or its kernel β alone is searched, from 1, 50, 100 and 150 on. Otherwise the first
trials are even steps of log β, in which the distance is smooth, and beside it the weight of the
discriminator's gradient penalty is searched: CelebA wants hundreds of times that of the drawn faces. Then the
searcher proposes, and trials that do not keep up are paused. With `--objectives fd mig` the search is for the
Pareto front of image quality and disentanglement, with `--objectives mig` for the latter alone.
"""

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

from rich.console import Console

from searchers.execution.cli import main_of
from searchers.study import given
from searchers.study.config import SweepConfig, UsageError
from searchers.study.ranges import SEVERAL, multiple_of
from searchers.study.study import Study

if TYPE_CHECKING:
    from searchers.execution.prepare import Prepared

PROGRAM = "python -m searchers.beta_vaegan"
Objective = Literal["fd", "mig", "dci", "sap", "factor_vae", "modularity"]
Preset = Literal["quick", "thorough", "report"]
PAPERS_BETAS = (1.0, 50.0, 100.0, 150.0)
EVEN_BETAS = (1.0, 5.0, 28.0, 150.0)  # in log β
PENALTIES = (2.0, 0.05, 0.3, 0.05)  # with these: what CelebA wants, what the drawn faces want, and between
# The paper's recipe is for hours on a GPU; `modern` draws after minutes on a CPU core (models/modern.py).
MODERN = {"recipe": "modern", "latent_dim": 64}
RECIPES: dict[str, dict[str, Any]] = {"quick": MODERN, "thorough": MODERN, "report": {"latent_dim": 128}}

# Reported keys of what `disentanglement_lib` calls these, all of them maximized.
SCORES = {
    "mig": "disentanglement/mig",
    "dci": "disentanglement/dci_disentanglement",
    "sap": "disentanglement/sap",
    "factor_vae": "disentanglement/factor_vae",
    "modularity": "disentanglement/modularity",
}


@dataclass(frozen=True)
class BetaVAEGANConfig(SweepConfig):
    """Settings of one run; the command line is this class."""

    preset: Preset = "quick"  # type: ignore[assignment]  # one more than other studies have
    """quick: minutes on two CPU cores; thorough: hours; report: the paper's own setting, for GPUs"""
    objectives: Annotated[tuple[Objective, ...], SEVERAL] = ("fd",)
    """what counts: fd, the Fréchet distance, or how far single units stand for single factors of the data; of
    several the Pareto front is searched, and no trial is stopped early"""
    image_size: Annotated[int, multiple_of(8, 16, 1024)] = 64
    """images are resized to this many pixels"""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.is_modern() and self.image_size & (self.image_size - 1):
            raise UsageError(
                f"--image-size is {self.image_size}; by the recipe modern it must be a power of two, "
                "such as 32 or 64"
            )

    def is_modern(self) -> bool:
        """Tell whether all trials train the recipe `modern`, by the preset or by `--set`."""
        settings = {**RECIPES[self.preset], **given.read_settings(self.set)}
        searched = "recipe" in given.read_space(self.space)
        return settings.get("recipe") == MODERN["recipe"] and not searched


QUICK: dict[str, Any] = {
    "preset": "quick",
    "dataset": "faces",
    "dataset_limit": 2500,
    "image_size": 32,
    "batch_size": 16,
    "epochs": 30,
    "evaluate_every": 5,
    "grace_epochs": 10,  # the networks draw from a quarter of the training on
    "num_samples": 12,
    "trainings": 8,  # six to the end and six to the rung, on two idle cores ten minutes
    "replicates": 2,
    "evaluation_samples": 500,
}
THOROUGH: dict[str, Any] = {
    "preset": "thorough",
    "dataset_limit": 5000,
    "epochs": 60,
    "grace_epochs": 20,
    "num_samples": 24,
    "trainings": 12,
    "evaluation_samples": 1000,
}
REPORT: dict[str, Any] = {
    "preset": "report",
    "dataset": "celeba",
    "image_size": 64,
    "width": 1.0,
    "batch_size": 256,
    "epochs": 10,
    "num_samples": 20,
    "replicates": 2,
    "evaluation_samples": 1000,
    "gpus_per_trial": 0.5,
}
SIZES = {"quick": QUICK, "thorough": QUICK | THOROUGH, "report": REPORT}
PRESETS = {name: BetaVAEGANConfig(**size) for name, size in SIZES.items()}


def model_settings(config: SweepConfig) -> dict[str, Any]:
    """Return what all trials' networks share: the preset's recipe."""
    return RECIPES[config.preset]


def study(config: BetaVAEGANConfig, prepared: "Prepared") -> Study:
    """Return the search space, the first points and the objectives.

    Raises UsageError where disentanglement is one of them and the data has no known factors.
    """
    from ray import tune

    from trainables import BetaVAEGAN
    from trainables.models.losses import normalized_beta

    settings = {**prepared.settings, **model_settings(config)}
    objectives: dict[str, Literal["min", "max"]] = {
        prepared.distance if name == "fd" else SCORES[name]: "min" if name == "fd" else "max"
        for name in config.objectives
    }
    if scores := [name for name in config.objectives if name in SCORES]:
        settings["disentanglement"] = scores
        check_factors(config, settings)
    first, mode = next(iter(objectives.items()))
    model_class, _ = BetaVAEGAN.model_of(settings)
    own: float = model_class.Config.beta  # type: ignore[attr-defined]  # where given points leave β open
    latent_dim, image_dims = settings["latent_dim"], 3 * config.image_size**2
    papers = "report" in (config.preset, config.surrogate)
    space = {"beta": tune.uniform(1.0, 150.0) if papers else tune.loguniform(1.0, 150.0)}
    points = [{"beta": beta} for beta in (PAPERS_BETAS if papers else EVEN_BETAS)]
    if config.is_modern() and not papers:
        space["penalty"] = tune.loguniform(0.01, 10.0)
        points = [{**point, "penalty": penalty} for point, penalty in zip(points, PENALTIES, strict=True)]
    return Study(
        experiment="beta-vae-gan",
        trainable=BetaVAEGAN,
        space=space,
        points_to_evaluate=tuple(points),
        settings=settings,
        metric=first,
        mode=mode,
        objectives={name: mode for name, mode in objectives.items() if name != first},
        provenance={**prepared.provenance, "likelihood": model_class.likelihood},
        derived=lambda trial: {
            "beta_norm": normalized_beta(
                trial.get("beta", own), trial.get("latent_dim", latent_dim), image_dims
            )
        },
    )


def check_factors(config: BetaVAEGANConfig, settings: dict[str, Any]) -> None:
    """Raise UsageError where the data has no known factors by which the objectives can judge units."""
    import numpy as np

    from trainables import BetaVAEGAN
    from trainables.evaluation.inputs import load_store, split_config
    from trainables.evaluation.latent_units import known_factors, scored_rows, unit_scores
    from trainables.metrics.errors import MetricError

    training, model = split_config(*BetaVAEGAN.model_of(settings))
    store = load_store(training, model.image_size, model.channels)
    factors, asked = known_factors(store, scored_rows(store)), " ".join(config.objectives)
    if not factors.shape[1]:
        raise UsageError(
            f"--objectives {asked} needs data whose factors are known, and {store.name} has none: "
            "take --dataset faces, or --objectives fd"
        )
    noise = np.random.default_rng(0).standard_normal((len(factors), 2), np.float32)
    try:  # of units as an ideal encoder has them, beside two that say nothing
        unit_scores(np.hstack([factors, noise]), factors, settings["disentanglement"])
    except (MetricError, ValueError) as error:
        raise UsageError(
            f"--objectives {asked} can't be computed of what is known of {store.name} ({error})"
        ) from error


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return its exit code."""

    def work(config: BetaVAEGANConfig, sweep_id: str, console: Console) -> int:
        # Ray takes seconds to import: wrong flags are answered at once.
        from searchers.execution.run import tune_study

        return tune_study(PROGRAM, study, config, sweep_id, console).exit_code

    return main_of(PROGRAM, PRESETS, work, arguments)


if __name__ == "__main__":
    sys.exit(main())
