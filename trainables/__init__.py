"""Ray Tune trainables for generative image models, ready for any Tune searcher and scheduler.

    from ray import tune
    from trainables import BetaVAEGAN

    tune.Tuner(BetaVAEGAN, param_space={"beta": tune.uniform(1, 150), "image_size": 32}, ...)

The names are imported when they are asked for: models, data and metrics work where there is no Ray.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from trainables.trainable import GAN, VAE, VAEGAN, BetaVAEGAN, GenerativeTrainable, TrainingConfig

__all__ = ["GAN", "VAE", "VAEGAN", "BetaVAEGAN", "GenerativeTrainable", "TrainingConfig"]


def __getattr__(name: str):
    if name not in __all__:
        raise AttributeError(f"trainables has no {name!r}; it has: {', '.join(__all__)}")
    from trainables import trainable

    return getattr(trainable, name)
