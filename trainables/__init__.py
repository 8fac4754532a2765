"""Ray Tune trainables for generative image models, ready for any Tune searcher and scheduler.

    from ray import tune
    from trainables import BetaVAEGAN

    tune.Tuner(BetaVAEGAN, param_space={"beta": tune.uniform(1, 150), "image_size": 32}, ...)

The names are imported when they are asked for: models, data and metrics work where there is no Ray.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from trainables.evaluation.inputs import TrainingConfig
    from trainables.tune.baselines import Baseline
    from trainables.tune.builtin import (
        EDM,
        GAN,
        VAE,
        VAEGAN,
        VQVAE,
        BetaVAEGAN,
        ConvVAE,
        FactorVAE,
        Flow,
        LatentFlow,
    )
    from trainables.tune.densities import PPCA, BernoulliVAE, GaussianMixture
    from trainables.tune.lego_vae import LegoVAE
    from trainables.tune.trainable import GenerativeTrainable

MODULES = {
    "evaluation.inputs": ("TrainingConfig",),
    "tune.trainable": ("GenerativeTrainable",),
    "tune.builtin": (
        "GAN",
        "VAE",
        "VAEGAN",
        "VQVAE",
        "BetaVAEGAN",
        "ConvVAE",
        "FactorVAE",
        "Flow",
        "EDM",
        "LatentFlow",
    ),
    "tune.baselines": ("Baseline",),
    "tune.lego_vae": ("LegoVAE",),
    "tune.densities": ("BernoulliVAE", "PPCA", "GaussianMixture"),
}
__all__ = [
    "EDM",
    "GAN",
    "PPCA",
    "VAE",
    "VAEGAN",
    "VQVAE",
    "Baseline",
    "BernoulliVAE",
    "BetaVAEGAN",
    "ConvVAE",
    "FactorVAE",
    "Flow",
    "GaussianMixture",
    "GenerativeTrainable",
    "LatentFlow",
    "LegoVAE",
    "TrainingConfig",
]


def __getattr__(name: str):
    for module, names in MODULES.items():
        if name in names:
            return getattr(import_module(f"trainables.{module}"), name)
    raise AttributeError(f"trainables has no {name!r}; it has: {', '.join(__all__)}")
