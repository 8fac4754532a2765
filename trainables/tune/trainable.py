"""The base of all trainables: a step is some epochs of training, then an evaluation."""

import logging
import math
import time
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from trainables.data.batches import Batches
from trainables.evaluation.classes import (
    class_shares,
    with_classes,
)
from trainables.evaluation.diagnostics import flags, gradient_norms
from trainables.evaluation.generation import require_images
from trainables.evaluation.inputs import (
    require_fit,
    split_config,
)
from trainables.models.base import GenerativeModel
from trainables.models.conditional import ConditionalModel
from trainables.models.schedule import MeanWeights, rate_share
from trainables.tune.device import PRECISIONS, dtype_of, name_of, set_torch_threads
from trainables.tune.evaluated import Evaluated
from trainables.tune.parallel import (
    PLACE,
    Peers,
    Place,
    random_state,
    restore_random_state,
    share_buffers,
    share_gradients,
)

GRADIENT_NORM_EVERY = 10  # steps; the norms reported are means over these
CHECKPOINT = "state.pt"
APART = 1_000_003  # between the seeds of a trial's processes
log = logging.getLogger(__name__)


class GenerativeTrainable(Evaluated):
    """Trains `model_class`; its hyperparameters and `TrainingConfig`'s are Tune's flat configuration.

    Each step reports `fid` or `fd_<extractor>` with its standard deviation, `elbo`, `reconstruction_mse` (a
    pixel in [0, 1]) and `kl` (nats) where the model has an encoder, `loss/<name>`, `images_per_second` and
    `diverged`. A loss, a sample or a score that is not finite ends the trial: `diverged`, `flags` with the
    reason, and the Fréchet distance (`elbo` without features) NaN, which Tune accepts for another metric only
    where TUNE_DISABLE_STRICT_METRIC_CHECKING is 1. Samples of the wrong size or range are a mistake in the
    model, and end the trial by an error that says what they are. Of how training goes it reports `precision`,
    `gradient_norm/<optimizer>`, `loss_scale/<optimizer>` in float16, `sample_diversity`, `active_units`,
    `kl_per_unit` and `flags` (`trainables.evaluation.diagnostics`), and where asked for,
    `disentanglement/<score>`, any of which may be an objective. After the last of `epochs` it reports
    `ex_post/<metric>` and `ex_post_mixture/<metric>`, too: the scores of samples of densities that are fitted
    to the codes (`trainables.evaluation.ex_post`) instead of the prior's;
    and of a model of images given their class, `class/<name>` and their mean, `intra_<metric>`.
    """

    model_class: ClassVar[type[GenerativeModel]]
    modern_class: ClassVar[type[GenerativeModel] | None] = None  # what the recipe "modern" trains

    @classmethod
    def model_of(cls, config: dict[str, Any]) -> tuple[type[GenerativeModel], dict[str, Any]]:
        """Return the model that a configuration trains, and what counts of the configuration."""
        if config.get("recipe") == "modern" and cls.modern_class is not None:
            return cls.modern_class, config
        return cls.model_class, config

    def setup(self, config: dict[str, Any]) -> None:
        """Take the threads the trial was given; then as `reset_config`.

        Raises ValueError, with the valid names, where a key is neither the model's nor the training's, and
        where the model has a schedule and `epochs` is not set.
        """
        config = dict(config)
        self.place: Place = config.pop(PLACE, Place())
        self.peers: Peers | None = None
        set_torch_threads(self, int(config.get("processes", 1)))
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.loaded: Any = None  # what the images and features in memory were loaded by
        if self.place.rank:  # Tune knows the first process alone
            torch.set_num_threads(self.place.threads)
            self.place.meet(self.device)
        elif (size := config.get("processes", 1)) > 1:
            self.peers = Peers(type(self), config, size, self.device)
        self.reset_config(config)
        if self.peers:
            self.peers.each("__ray_ready__")  # else their failures show as silence in the first epoch

    def cleanup(self) -> None:
        """End the trial's other processes."""
        if self.peers:
            self.peers.stop()

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Become another trial; what it shares with the last one (images, features) stays in memory."""
        if self.loaded:  # the others are told by their own setup at first
            if new_config.get("processes", 1) != self.training.processes:
                return False
            if self.peers and not all(self.peers.each("reset", new_config)):
                return False
        model_class, settings = self.model_of(new_config)
        self.training, self.model_config = split_config(model_class, settings)
        training = self.training
        require_fit(model_class, training, self.model_config)
        # Seed and batch size aside, trials of a sweep see the same images through the same features.
        needed = replace(training, seed=0, batch_size=2, epochs=None)
        if needed != self.loaded:
            self.load_evaluation()
            self.loaded = needed
        self.dtype = dtype_of(training.precision, self.device)
        torch.manual_seed(training.seed)
        self.model = model_class(
            with_classes(self.model_config, self.store),
            device=self.device,
            seed=training.seed,
            scale_losses=self.dtype == torch.float16,
        )
        self.model.eval()
        noise = torch.Generator(self.device).manual_seed(0)
        shape = tuple(self.store.images.shape[1:])
        with torch.no_grad():  # before an epoch is spent on it
            require_images(self.model, self.model.sample(2, noise), 2, shape)
        if isinstance(self.model, ConditionalModel):
            self.model.class_shares.copy_(class_shares(self.store, self.model.config.classes))
        self.model.accumulate = training.accumulate
        if not training.channels_last:
            self.model.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
        if training.compile:
            self.model.compile()
        self.mean = MeanWeights(self.model, training.ema) if training.ema else None
        self.batches = Batches(
            self.store,
            "train",
            training.batch_size,
            device=self.device,
            seed=training.seed,
            flip=training.flip,
            steps=training.epoch_steps,
            part=(self.place.rank, training.processes),
            before=getattr(self, "batches", None),
        )
        if training.processes > 1:
            share_gradients(self.model)
            self.model.generator.manual_seed(training.seed + self.place.rank * APART)
            torch.manual_seed(training.seed + self.place.rank * APART)
        self.epoch = 0
        return True

    def step(self) -> dict[str, Any]:
        """Train for `evaluate_every` epochs, or what is left of `epochs`, and evaluate."""
        pictures = {} if self.epoch else self._first_pictures()
        start = time.monotonic()
        losses: dict[str, list[Tensor]] = {}
        norms: dict[str, list[Tensor]] = {}
        left = (self.training.epochs or math.inf) - self.epoch
        epochs = int(min(self.training.evaluate_every, left)) if left >= 1 else 1
        for _ in range(epochs):
            with self.peers.training(self.epoch, losses) if self.peers else nullcontext():
                self.train_epoch(losses, norms)
            self.epoch += 1
        steps = len(self.batches) * epochs
        # A loss of one phase of training is averaged over the steps that had it.
        means = {f"loss/{name}": float(sum(values)) / len(values) for name, values in losses.items()}
        seconds = time.monotonic() - start
        taken = {name: torch.stack(values) for name, values in norms.items()}
        if self.dtype == torch.float16:  # a gradient that overflowed was not
            means |= {f"loss_scale/{name}": s.get_scale() for name, s in self.model.scalers.items()}
            taken = {name: values[values.isfinite()] for name, values in taken.items()}
        result: dict[str, Any] = {**means, **pictures} | {
            **{f"gradient_norm/{name}": float(v.mean()) for name, v in taken.items() if len(v)},
            "epoch": self.epoch,
            "training_iteration": self.epoch,  # Tune, and all that reads its results, counts epochs
            "precision": name_of(self.dtype),
            "images_per_second": steps * self.training.batch_size / seconds,
            "diverged": not all(math.isfinite(value) for value in means.values()),
        }
        if result["diverged"]:
            return self._ended(result, "loss_not_finite")
        start = time.monotonic()
        try:
            with self.model.eager(), self.mean.in_place() if self.mean else nullcontext():
                result |= self.evaluate()
        except FloatingPointError as error:
            log.warning("The trial ends: %s", error)
            return self._ended(result, "samples_not_finite")
        for name in (self.metric, "elbo", "kl", "reconstruction_mse"):
            if not math.isfinite(result.get(name, 0.0)):
                log.warning("The trial ends: its %s is %s", name, result[name])
                return self._ended(result, f"{name}_not_finite")
        result["flags"] = flags(result)
        result["evaluation_seconds"] = time.monotonic() - start
        return result

    def _first_pictures(self) -> dict[str, dict[str, bytes]]:
        """Return `first_images`, grids of before training, where grids are sent and the samples finite."""
        if not self.training.images:
            return {}
        try:
            with self.model.eager():
                return {"first_images": self.untrained_grids()}
        except FloatingPointError as error:
            log.warning("No pictures of before training: %s", error)
            return {}

    def train_epoch(self, losses: dict[str, list[Tensor]], norms: dict[str, list[Tensor]]) -> None:
        """Train for an epoch; append each step's losses, and the norms of some steps' gradients."""
        self.model.train()
        for number, batch in enumerate(self.epoch_batches(self.epoch)):
            if self.training.epochs:
                done = (self.epoch + number / len(self.batches)) / self.training.epochs
                self.model.progress = min(1.0, done)
            if self.training.schedule == "cosine":
                share = rate_share(self.epoch * len(self.batches) + number, self.model.progress)
                self.model.scale_rates(share)
            for name, value in self.train_step(*batch).items():
                losses.setdefault(name, []).append(value.detach())  # else a graph a step, for an epoch
            if self.mean:
                self.mean.update()
            if number % GRADIENT_NORM_EVERY == 0:
                for name, norm in gradient_norms(self.model.optimizers).items():
                    norms.setdefault(name, []).append(norm)
        if self.training.processes > 1:
            share_buffers(self.model)

    def _ended(self, result: dict[str, Any], reason: str) -> dict[str, Any]:
        """Return the last result of a trial that diverged: its finite scores, and the reason as its flag."""
        finite = {k: v for k, v in result.items() if not isinstance(v, float) or math.isfinite(v) or "/" in k}
        return finite | {self.metric: math.nan, "diverged": True, "flags": reason, "done": True}

    def epoch_batches(self, epoch: int) -> Iterator[tuple[Tensor, ...]]:
        """Yield what the model's training step takes of each batch: images, of a conditional one labels."""
        if not isinstance(self.model, ConditionalModel):
            return zip(self.batches.epoch(epoch))
        one = self.model.config.classes == 1
        return ((x, labels * 0 if one else labels) for x, labels in self.batches.labeled(epoch))

    def train_step(self, x: Tensor, *labels: Tensor) -> dict[str, Tensor]:
        """Train the model on a batch in the configured precision; return its losses."""
        if not self.training.channels_last:
            x = x.contiguous()
        if self.dtype == torch.float32:
            return self.model.training_step(x, *labels)
        with torch.autocast(self.device.type, self.dtype):
            return self.model.training_step(x, *labels)

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Write all that the next epoch depends on."""
        state = {"model": self.model.training_state(), "epoch": self.epoch}
        state["hyperparameters"] = self.model.hyperparameters()
        state["random"], state["precision"] = random_state(self.model), name_of(self.dtype)
        if self.peers:
            state["peers"] = self.peers.each("random_state")
        if self.mean:
            state["mean"] = self.mean.state_dict()
        torch.save(state, Path(checkpoint_dir) / CHECKPOINT)

    def load_checkpoint(self, checkpoint_dir: str) -> None:  # type: ignore[override]  # Tune gives a path
        """Restore `save_checkpoint`'s state: on a CPU the epochs that follow are bit-equal."""
        state = torch.load(Path(checkpoint_dir) / CHECKPOINT, map_location=self.device, weights_only=True)
        self.model.load_training_state(state["model"])
        self.epoch = state["epoch"]
        if self.training.precision == "auto":  # as it began, on whatever machine it goes on
            self.dtype = PRECISIONS[state.get("precision", name_of(self.dtype))]
        # Under PBT, Tune may count from an earlier result than the checkpoint's: an epoch too many.
        self._iteration = self.epoch
        restore_random_state(self.model, state["random"])
        if self.peers:
            self.peers.load(checkpoint_dir, state["peers"])
        if self.mean and "mean" in state:
            self.mean.load_state_dict(state["mean"])
