"""The Tune trainable whose model is a hyperparameter: the baselines of [BVG] and five more, in one sweep."""

from dataclasses import fields
from typing import Any

from trainables.evaluation.inputs import TrainingConfig
from trainables.models.base import GenerativeModel
from trainables.models.edm import EDM
from trainables.models.factorvae import FactorVAE
from trainables.models.flow import Flow
from trainables.models.gan import GAN
from trainables.models.latent_flow import LatentFlow
from trainables.models.modern import ModernGAN, ModernVAE, ModernVAEGAN
from trainables.models.vae import VAE
from trainables.models.vaegan import VAEGAN
from trainables.tune.trainable import GenerativeTrainable

RATES = {"learning_rate", "discriminator_learning_rate"}
DENOISING = {"schedule": "cosine", "ema": 0.1}  # of training, for flow and diffusion
UNCONDITIONAL = {"classes": 1, **DENOISING}  # as the models beside them
OF_DENOISING = {"learning_rate", *DENOISING}
# Each model, its settings, and the hyperparameters for which it ignores the sweep's values.
MODELS: dict[str, tuple[type[GenerativeModel], dict[str, Any], set[str]]] = {
    "GAN": (GAN, {}, {"gan_loss"}),
    "WGAN-GP": (GAN, {"recipe": "wgan_gp"}, {"gan_loss", *RATES}),
    "VAE": (VAE, {}, {"beta"}),
    "FactorVAE": (FactorVAE, {}, {"beta", "gamma", *RATES}),
    "VAE-GAN": (VAEGAN, {}, {"beta"}),
    "beta-VAE-GAN": (VAEGAN, {}, set()),
    "flow": (Flow, UNCONDITIONAL, OF_DENOISING),
    "EDM": (EDM, UNCONDITIONAL, OF_DENOISING),
    "latent-flow": (LatentFlow, {}, {"beta", "hidden", "learning_rate"}),
}

# For the recipe "modern". WGAN-GP and FactorVAE have no such recipe: theirs, at its cost.
MODERN: dict[str, tuple[type[GenerativeModel], dict[str, Any], set[str]]] = {
    "GAN": (ModernGAN, {}, set()),
    "WGAN-GP": (GAN, {"recipe": "wgan_gp", "width": 0.25}, {"gan_loss", "width", *RATES}),
    "VAE": (ModernVAE, {"beta": 1.0}, {"beta"}),
    "FactorVAE": (FactorVAE, {"width": 0.25}, {"beta", "gamma", "width", *RATES}),
    "VAE-GAN": (ModernVAEGAN, {"beta": 1.0}, {"beta"}),
    "beta-VAE-GAN": (ModernVAEGAN, {}, set()),
    "flow": (Flow, {"width": 0.5, **UNCONDITIONAL}, {"width", *OF_DENOISING}),
    "EDM": (EDM, {"width": 0.5, **UNCONDITIONAL}, {"width", *OF_DENOISING}),
    "latent-flow": (LatentFlow, {}, {"beta", "hidden"}),
}

RECIPES = {None: MODELS, "report": MODELS, "modern": MODERN}
CHOOSING = {"model", "recipe"}  # which model it is


class Baseline(GenerativeTrainable):
    """Trains the model that `model` names, one of `MODELS`.

    Each model takes those of the configuration's hyperparameters that it has. Only β-VAE-GAN takes `beta`,
    only the two VAE-GANs take `gan_loss` and Larsen's `gamma`; WGAN-GP and FactorVAE keep their papers'
    learning rates, the flows and EDM the rates and schedules that suit them.
    """

    @classmethod
    def model_of(cls, config: dict[str, Any]) -> tuple[type[GenerativeModel], dict[str, Any]]:
        """Return the model that the configuration names, and what it takes of it. Raises as `taken`."""
        taken = cls.taken(config)
        model_class, settings, _ = _named(config)
        return model_class, {key: config[key] for key in config if key in taken - CHOOSING} | settings

    @classmethod
    def taken(cls, config: dict[str, Any]) -> set[str]:
        """Return the names of the settings that the configuration's model takes of any configuration.

        Raises ValueError for an unknown model or recipe.
        """
        model_class, _, own = _named(config)
        known = {field.name for kind in (TrainingConfig, model_class.Config) for field in fields(kind)}
        return known - own | CHOOSING


def _named(config: dict[str, Any]) -> tuple[type[GenerativeModel], dict[str, Any], set[str]]:
    name, recipe = config.get("model"), config.get("recipe")
    if name not in MODELS:
        raise ValueError(f"There is no model {name!r}; there are: {', '.join(MODELS)}")
    if recipe not in list(RECIPES):  # it may be anything
        raise ValueError(f"the baselines have no recipe {recipe!r}; theirs are report and modern")
    return RECIPES[recipe][name]
