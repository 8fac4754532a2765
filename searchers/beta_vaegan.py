"""The main job: β-VAE-GAN with Bayesian optimisation on β (the seed's section 5.4).

The first trials are β = 1, 50, 100 and 150, as in the report; then the searcher proposes, and ASHA stops what
does not keep up.
"""

import sys
from typing import Any

from rich.console import Console

from searchers.command import main_of, tune_study
from searchers.sweep import Study, SweepConfig

PROGRAM = "python -m searchers.beta_vaegan"
FIRST_BETAS = (1.0, 50.0, 100.0, 150.0)
LATENT_DIM = 128

# What makes the report's recipe show faces after two thousand steps of 16 images: features of a convolution
# (Larsen's layer), a decoder whose gradient does not vanish and that learns faster than the discriminator,
# and images from the decoder's running mean.
QUICK = {
    "feature_layer": "convolution",
    "gan_loss": "non_saturating",
    "learning_rate": 1e-3,
    "discriminator_learning_rate": 2e-4,
    "ema_decay": 0.99,
}

PRESETS = {
    "quick": SweepConfig(
        preset="quick",
        dataset="faces",
        dataset_limit=2500,
        image_size=32,
        width=0.25,
        batch_size=16,
        epochs=18,
        grace_epochs=2,
        num_samples=8,
        evaluation_samples=500,
    ),
    "report": SweepConfig(
        preset="report",
        dataset="celeba",
        image_size=64,
        width=1.0,
        batch_size=256,
        epochs=10,
        num_samples=20,
        evaluation_samples=1000,
        gpus_per_trial=0.5,
    ),
}


def model_settings(config: SweepConfig) -> dict[str, Any]:
    """Return what all trials' networks share: the report's recipe, or the quick preset's changes to it."""
    return {"latent_dim": LATENT_DIM, **(QUICK if config.preset == "quick" else {})}


def study(config: SweepConfig, shared: dict, metric: str, provenance: dict) -> Study:
    """Return the search space and the first points."""
    from ray import tune

    from trainables import BetaVAEGAN
    from trainables.models.losses import normalised_beta

    image_dims = 3 * config.image_size**2
    return Study(
        experiment="beta-vae-gan",
        trainable=BetaVAEGAN,
        space={"beta": tune.uniform(1.0, 150.0)},
        points_to_evaluate=tuple({"beta": beta} for beta in FIRST_BETAS),
        settings={**shared, **model_settings(config)},
        metric=metric,
        provenance={**provenance, "likelihood": BetaVAEGAN.model_class.likelihood},
        derived=lambda trial: {"beta_norm": normalised_beta(trial["beta"], LATENT_DIM, image_dims)},
    )


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return its exit code."""

    def work(config: SweepConfig, sweep_id: str, console: Console) -> int:
        return tune_study(PROGRAM, study, config, sweep_id, console).exit_code

    return main_of(PROGRAM, PRESETS, work, arguments)


if __name__ == "__main__":
    sys.exit(main())
