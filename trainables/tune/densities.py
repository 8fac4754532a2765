"""The Tune trainables of the density comparison: a VAE over epochs, and densities that are fitted at once."""

from dataclasses import asdict
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from ray import tune
from torch import Tensor

from trainables.data.batches import to_float, to_uint8
from trainables.data.store import spread
from trainables.evaluation.generation import EVALUATION_SEED
from trainables.evaluation.inputs import load_store, split_config
from trainables.evaluation.likelihoods import OBJECTIVE, likelihood_scores, score
from trainables.models import bernoulli_vae, densities
from trainables.models.densities import FittedDensity
from trainables.tune.device import set_torch_threads
from trainables.tune.evaluated import grid
from trainables.tune.trainable import CHECKPOINT, GenerativeTrainable


def train(
    model: bernoulli_vae.BernoulliVAE | FittedDensity,
    images: NDArray[np.uint8],
    *,
    epochs: int,
    batch_size: int,
    flip: bool = False,
    seed: int = 0,
) -> None:
    """Train on uint8 images (N, H, W, C) outside of any sweep: a fitted density at once, a VAE for `epochs`.

    An epoch takes every image, the last batch being what is left (60 000 images in 469 batches of 128).
    flip: a VAE sees half of them mirrored, others in each epoch.
    """
    if isinstance(model, FittedDensity):
        model.fit(to_float(images))
        return
    for epoch in range(epochs):
        train_epoch(model, images, epoch, batch_size, seed, flip)


def train_epoch(
    model: bernoulli_vae.BernoulliVAE,
    images: NDArray[np.uint8],
    epoch: int,
    batch_size: int,
    seed: int,
    flip: bool = False,
) -> None:
    """Train for one epoch, whose order and flips are functions of the seed and its number."""
    order = np.random.default_rng([seed, epoch]).permutation(len(images))
    flips = np.random.default_rng([seed, 2, epoch])
    for first in range(0, len(order), batch_size):
        batch = images[order[first : first + batch_size]]
        if flip:
            mirrored = flips.random(len(batch)) < 0.5
            batch[mirrored] = batch[mirrored, :, ::-1]
        model.training_step(to_float(batch, model.device))


class BernoulliVAE(GenerativeTrainable):
    """Trains `trainables.models.bernoulli_vae.BernoulliVAE`, dense or convolutional by its `networks`."""

    model_class = bernoulli_vae.BernoulliVAE
    objective = OBJECTIVE

    def evaluate(self) -> dict[str, Any]:
        """Score the held-out images; the likelihood is the evidence lower bound."""
        result = super().evaluate()
        c = self.model_config
        dims = c.channels * c.image_size**2
        return result | likelihood_scores(result["elbo"], dims, self.model_class.likelihood)


class FittedTrainable(tune.Trainable):
    """Fits `model_class` in one step. Its keys are `GenerativeTrainable`'s; training's have no part."""

    model_class: ClassVar[type[FittedDensity]]

    @classmethod
    def model_of(cls, config: dict[str, Any]) -> tuple[type[FittedDensity], dict[str, Any]]:
        """Return the model that a configuration fits, and what counts of the configuration."""
        return cls.model_class, config

    def setup(self, config: dict[str, Any]) -> None:
        """Take the threads the trial was given; then as `reset_config`."""
        set_torch_threads(self)
        self.reset_config(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Become another trial. Raises ValueError, with the valid names, for an unknown key."""
        self.training, model_config = split_config(self.model_class, new_config)
        self.store = load_store(self.training, model_config.image_size, model_config.channels)
        self.model = self.model_class(model_config, seed=self.training.seed)
        return True

    def step(self) -> dict[str, Any]:
        """Fit, score the held-out images, and be done."""
        self.model.fit(self._images(self.store.split("train")))
        held_out = self._images(self.store.some("validation", self.training.evaluation_samples))
        result: dict[str, Any] = score(self.model, held_out)
        if self.training.images:
            noise = torch.Generator().manual_seed(EVALUATION_SEED)
            shown = held_out[spread(np.arange(len(held_out)), 32)]
            pairs = torch.stack([shown, self.model.reconstruct(shown)], 1).flatten(0, 1)
            grids = {"samples": self.model.sample(64, noise), "reconstructions": pairs}
            result["images"] = {name: grid(to_uint8(images)) for name, images in grids.items()}
        return result | {"epoch": 1, "diverged": not np.isfinite(result[OBJECTIVE]), "done": True}

    def _images(self, rows: NDArray[np.int64]) -> Tensor:
        return to_float(self.store.images[rows])

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Write what was fitted."""
        state = {"model": self.model.training_state(), "epoch": 1}
        state["hyperparameters"] = asdict(self.model.config)
        torch.save(state, Path(checkpoint_dir) / CHECKPOINT)

    def load_checkpoint(self, checkpoint_dir: str) -> None:  # type: ignore[override]  # Tune gives a path
        """Restore `save_checkpoint`'s state."""
        state = torch.load(Path(checkpoint_dir) / CHECKPOINT, weights_only=True)
        self.model.load_training_state(state["model"])


class PPCA(FittedTrainable):
    """Fits `trainables.models.densities.PPCA`."""

    model_class = densities.PPCA


class GaussianMixture(FittedTrainable):
    """Fits `trainables.models.densities.GaussianMixture`."""

    model_class = densities.GaussianMixture
