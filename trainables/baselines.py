"""The Tune trainable whose model is a hyperparameter: the seed's baselines side by side in one sweep."""

from dataclasses import fields
from typing import Any

from trainables.models.base import GenerativeModel
from trainables.models.gan import GAN
from trainables.models.vae import VAE
from trainables.models.vaegan import VAEGAN
from trainables.trainable import GenerativeTrainable, TrainingConfig

MODELS: dict[str, tuple[type[GenerativeModel], tuple[str, ...]]] = {
    "GAN": (GAN, ()),
    "VAE": (VAE, ()),
    "VAE-GAN": (VAEGAN, ("gan_loss",)),
    "beta-VAE-GAN": (VAEGAN, ("beta", "gan_loss")),
}


class Baseline(GenerativeTrainable):
    """Trains the model that `model` names: "GAN", "VAE", "VAE-GAN" (β = 1) or "beta-VAE-GAN".

    Of the configuration's hyperparameters each model takes those that it has; `beta` is β-VAE-GAN's alone,
    and `gan_loss` is that of the two VAE-GANs: the GAN keeps its own.
    """

    @classmethod
    def model_of(cls, config: dict[str, Any]) -> tuple[type[GenerativeModel], dict[str, Any]]:
        """Return the model that the configuration names, and what it takes of it.

        Raises ValueError for an unknown name.
        """
        name = config.get("model")
        if name not in MODELS:
            raise ValueError(f"There is no model {name!r}; there are: {', '.join(MODELS)}")
        model_class, own = MODELS[name]
        takes = {field.name for kind in (TrainingConfig, model_class.Config) for field in fields(kind)}
        takes -= {"beta", "gan_loss"} - set(own)
        return model_class, {key: value for key, value in config.items() if key in takes}
