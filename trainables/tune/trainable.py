"""Ray Tune trainables: one epoch a step, then an evaluation; one class a model, at the end of the file."""

import io
import math
import time
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from ray import tune
from torch import Tensor

import trainables.torchvision_shim  # noqa: F401  before torchvision

# isort: split
from torchvision.transforms.functional import to_pil_image
from torchvision.utils import make_grid

from trainables.data.batches import Batches, to_float, to_uint8
from trainables.data.sources import load
from trainables.data.store import ImageStore
from trainables.evaluation.diagnostics import diversity, flags, gradient_norms, latent_scores, pixel_variance
from trainables.metrics.extractors.features import Extractor, load_extractor
from trainables.metrics.reference import ReferenceStatistics, reference_statistics
from trainables.metrics.scores import score
from trainables.models import factorvae, gan, vae, vaegan
from trainables.models.base import GenerativeModel
from trainables.models.storage import save_model
from trainables.tune.device import dtype_of, take_threads

EVALUATION_SEED = 20_200  # the same noise for every trial and epoch: scores differ by the model alone
EVALUATION_BATCH = 250
GRID_IMAGES = 64
GRADIENT_NORM_EVERY = 10  # steps; the norms reported are means over these
CHECKPOINT = "state.pt"


@dataclass(frozen=True)
class TrainingConfig:
    """What a trial needs beside its model's hyperparameters. All are keys of Tune's flat configuration.

    `dataset` is a name or a path, as `trainables.data.sources.load` takes it.
    """

    dataset: str = "faces"
    dataset_limit: int | None = None
    data_root: str | None = None
    cache_dir: str | None = None
    batch_size: int = 256
    precision: Literal["float32", "bfloat16", "float16", "auto"] = "float32"
    channels_last: bool = True  # order of images and filters in memory
    compile: bool = False  # the networks, by torch.compile: minutes at first
    flip: bool = False
    features: str = "auto"  # an extractor's name, or "none": no samples are scored
    feature_weights: str | None = None
    evaluation_samples: int = 1000
    disentanglement: bool | tuple[str, ...] = False  # judge the encoder's units: by all scores, or these
    images: bool = False  # send grids of samples and reconstructions, PNG, under `images` with each result
    seed: int = 0


class GenerativeTrainable(tune.Trainable):
    """Trains `model_class`; its hyperparameters and `TrainingConfig`'s are Tune's flat configuration.

    Each step reports `fid` or `fd_<extractor>` with its standard deviation, `elbo`, `reconstruction_mse` (a
    pixel in [0, 1]) and `kl` (nats) where the model has an encoder, `loss/<name>`, `images_per_second` and
    `diverged`. A loss that is not finite ends the trial with `diverged`, and of the scores with the Fréchet
    distance alone (`elbo` without features), NaN: Tune accepts that for another metric only where
    TUNE_DISABLE_STRICT_METRIC_CHECKING is 1. Of how training goes it reports
    `gradient_norm/<optimizer>`, `loss_scale/<optimizer>` in float16, `sample_diversity`, `active_units`,
    `kl_per_unit` and `flags` (`trainables.evaluation.diagnostics`), and where asked for,
    `disentanglement/<score>`, any of which may be an objective.
    """

    model_class: ClassVar[type[GenerativeModel]]
    objective: ClassVar[str] = "elbo"  # the score that counts where no features are extracted

    @classmethod
    def model_of(cls, config: dict[str, Any]) -> tuple[type[GenerativeModel], dict[str, Any]]:
        """Return the model that a configuration trains, and what counts of the configuration."""
        return cls.model_class, config

    def setup(self, config: dict[str, Any]) -> None:
        """Take the threads the trial was given; then as `reset_config`.

        Raises ValueError, with the valid names, where a key is neither the model's nor the training's.
        """
        take_threads(self)
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.loaded = None  # what the images and features in memory were loaded by
        self.reset_config(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Become another trial; what it shares with the last one (images, features) stays in memory."""
        self.model_class, settings = self.model_of(new_config)
        self.training, self.model_config = split_config(self.model_class, settings)
        training, model = self.training, self.model_config
        # Seed and batch size aside, trials of a sweep see the same images through the same features.
        needed = (replace(training, seed=0, batch_size=1), model.image_size, model.channels)
        if needed != self.loaded:
            self._load_evaluation()
            self.loaded = needed
        self.dtype = dtype_of(training.precision, self.device)
        torch.manual_seed(training.seed)
        self.model = self.model_class(
            self.model_config,
            device=self.device,
            seed=training.seed,
            scale_losses=self.dtype == torch.float16,
        )
        if not training.channels_last:
            self.model.to(memory_format=torch.contiguous_format)
        if training.compile:
            self.model.compile()
        self.batches = Batches(
            self.store,
            "train",
            training.batch_size,
            device=self.device,
            seed=training.seed,
            flip=training.flip,
        )
        self.epoch = 0
        return True

    def _load_evaluation(self) -> None:
        t, threads = self.training, torch.get_num_threads()
        self.store = load_store(t, self.model_config.image_size, self.model_config.channels)
        self.extractor = self.reference = None
        if t.features != "none":
            weights = t.feature_weights and Path(t.feature_weights)
            self.extractor = load_extractor(t.features, weights=weights, device=self.device, threads=threads)
            self.reference = load_reference(t, self.store, self.extractor)
        self.metric = self.extractor.metric if self.extractor else self.objective
        self.held_out = self.store.split("validation")[: t.evaluation_samples]
        self.held_out_variance = pixel_variance(torch.from_numpy(self.store.images[self.held_out]))

    def step(self) -> dict[str, Any]:
        """Train for an epoch and evaluate."""
        start = time.monotonic()
        sums: dict[str, Tensor] = {}
        norms: dict[str, list[Tensor]] = {}
        for number, x in enumerate(self.batches.epoch(self.epoch)):
            losses = self._training_step(x)
            for name, value in losses.items():
                sums[name] = sums.get(name, 0.0) + value
            if number % GRADIENT_NORM_EVERY == 0:
                for name, norm in gradient_norms(self.model.optimizers).items():
                    norms.setdefault(name, []).append(norm)
        steps = len(self.batches)
        means = {f"loss/{name}": float(value) / steps for name, value in sums.items()}
        self.epoch += 1
        seconds = time.monotonic() - start
        taken = {name: torch.stack(values) for name, values in norms.items()}
        if self.dtype == torch.float16:  # a gradient that overflowed was not
            means |= {f"loss_scale/{name}": s.get_scale() for name, s in self.model.scalers.items()}
            taken = {name: values[values.isfinite()] for name, values in taken.items()}
        result = means | {
            **{f"gradient_norm/{name}": float(v.mean()) for name, v in taken.items() if len(v)},
            "epoch": self.epoch,
            "images_per_second": steps * self.training.batch_size / seconds,
            "diverged": not all(math.isfinite(value) for value in means.values()),
        }
        if result["diverged"]:
            return result | {self.metric: math.nan, "done": True}
        start = time.monotonic()
        with self.model.eager():
            result |= self.evaluate()
        result["flags"] = flags(result)
        result["evaluation_seconds"] = time.monotonic() - start
        return result

    def _training_step(self, x: Tensor) -> dict[str, Tensor]:
        if not self.training.channels_last:
            x = x.contiguous()
        if self.dtype == torch.float32:
            return self.model.training_step(x)
        with torch.autocast(self.device.type, self.dtype):
            return self.model.training_step(x)

    def evaluate(self) -> dict[str, Any]:
        """Score `evaluation_samples` generated images, and the held-out ones where there is an encoder."""
        noise = torch.Generator(self.device).manual_seed(EVALUATION_SEED)
        result: dict[str, Any] = {}
        if self.extractor:
            samples = self._generate(noise, self.training.evaluation_samples)
            result |= score(samples, self.extractor, self.reference)
        else:
            samples = self._generate(noise, GRID_IMAGES)
        result["sample_diversity"] = diversity(samples, self.held_out_variance)
        if self.model.has_encoder:
            result |= self._evaluate_encoder(noise)
            if self.training.disentanglement:
                from trainables.evaluation import (
                    latent_units as disentanglement,  # with scikit-learn: only who asks waits for it
                )

                asked = self.training.disentanglement
                scores = disentanglement.SCORES if asked is True else asked
                result |= disentanglement.judge(self.model, self.store, scores)
        if self.training.images:
            result["images"] = {"samples": png_grid(samples[:GRID_IMAGES])}
            if self.model.has_encoder:
                originals = self._held_out_batch(slice(0, GRID_IMAGES // 2))
                pairs = torch.stack([originals, self.model.reconstruct(originals)], 1).flatten(0, 1)
                result["images"]["reconstructions"] = png_grid(to_uint8(pairs))
        return result

    def _generate(self, noise: torch.Generator, count: int) -> Tensor:
        """Return `count` generated images, uint8, (count, H, W, C)."""
        sizes = [min(EVALUATION_BATCH, count - i) for i in range(0, count, EVALUATION_BATCH)]
        return torch.cat([to_uint8(self.model.sample(n, noise)) for n in sizes])

    def _held_out_batch(self, where: slice) -> Tensor:
        return to_float(self.store.images[self.held_out[where]], self.device)

    def _evaluate_encoder(self, noise: torch.Generator) -> dict[str, Any]:
        sums = {"elbo": 0.0, "kl": 0.0, "reconstruction_mse": 0.0}
        means, unit_kl = [], []
        for first in range(0, len(self.held_out), EVALUATION_BATCH):
            x = self._held_out_batch(slice(first, first + EVALUATION_BATCH))
            terms = self.model.elbo(x, noise)
            error = (x - self.model.reconstruct(x)).square().flatten(1).mean(1) / 4  # [−1, 1] to [0, 1]
            sums["elbo"] += float(terms.elbo.sum())
            sums["kl"] += float(terms.kl_divergence.sum())
            sums["reconstruction_mse"] += float(error.sum())
            if terms.mean is not None:
                means.append(terms.mean)
                unit_kl.append(terms.unit_kl)
        result: dict[str, Any] = {name: value / len(self.held_out) for name, value in sums.items()}
        return result | (latent_scores(torch.cat(means), torch.cat(unit_kl)) if means else {})

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Write all that the next epoch depends on."""
        state = {"model": self.model.training_state(), "epoch": self.epoch, "rng": torch.get_rng_state()}
        torch.save(state, Path(checkpoint_dir) / CHECKPOINT)

    def load_checkpoint(self, checkpoint_dir: str) -> None:
        """Restore `save_checkpoint`'s state: on a CPU the epochs that follow are bit-equal."""
        state = torch.load(Path(checkpoint_dir) / CHECKPOINT, map_location=self.device, weights_only=True)
        self.model.load_training_state(state["model"])
        self.epoch = state["epoch"]
        # Under PBT, Tune may count from an earlier result than the checkpoint's: an epoch too many.
        self._iteration = self.epoch
        torch.set_rng_state(state["rng"].cpu())


def export_model(
    trainable: type[GenerativeTrainable], config: dict[str, Any], checkpoint_dir: Path, folder: Path
) -> None:
    """Write the model of a trial's checkpoint as `trainables.models.storage.load_model` reads it."""
    model_class, settings = trainable.model_of(config)
    _, hyperparameters = split_config(model_class, settings)
    state = torch.load(checkpoint_dir / CHECKPOINT, map_location="cpu", weights_only=True)
    save_model(folder, model_class, asdict(hyperparameters), state["model"]["networks"], epoch=state["epoch"])


def split_config(model_class: type[GenerativeModel], config: dict[str, Any]) -> tuple[TrainingConfig, Any]:
    """Split Tune's flat configuration into the training's and the model's.

    Raises ValueError, with the valid names, where a key is neither's.
    """
    names = {field.name for field in fields(TrainingConfig)}
    model = {key: value for key, value in config.items() if key not in names}
    known = {field.name for field in fields(model_class.Config)} | {"recipe"}
    unknown = sorted(set(model) - known)
    if unknown:
        valid = ", ".join(sorted(names | known))
        raise ValueError(f"{unknown[0]!r} is no setting of {model_class.__name__}; its settings: {valid}")
    training = TrainingConfig(**{key: value for key, value in config.items() if key in names})
    return training, model_class.configure(model)


def load_store(training: TrainingConfig, image_size: int, channels: int) -> ImageStore:
    """Open the data set's image store, converting it first where this machine has not done so yet."""
    return load(
        training.dataset,
        image_size=image_size,
        channels=channels,
        limit=training.dataset_limit,
        data_root=training.data_root and Path(training.data_root),
        cache_dir=training.cache_dir and Path(training.cache_dir),
    )


def load_reference(training: TrainingConfig, store: ImageStore, extractor: Extractor) -> ReferenceStatistics:
    """Return the statistics of the training images' features, computed by the first who asks for them."""
    rows = store.split("train")
    cache = Path(training.cache_dir) if training.cache_dir else store.path.parent
    return reference_statistics(
        store.images[rows], extractor, cache_dir=cache, key=f"{store.content_hash}-train"
    )


def png_grid(images: Tensor) -> bytes:
    """Return uint8 images (n, H, W, C) as one PNG, eight a row, on a black ground."""
    grid = make_grid(images.permute(0, 3, 1, 2).cpu(), nrow=8, padding=2)
    file = io.BytesIO()
    to_pil_image(grid).save(file, "PNG", optimize=True)
    return file.getvalue()


class VAE(GenerativeTrainable):
    """Trains `trainables.models.vae.VAE`."""

    model_class = vae.VAE


class FactorVAE(GenerativeTrainable):
    """Trains `trainables.models.factorvae.FactorVAE`."""

    model_class = factorvae.FactorVAE


class GAN(GenerativeTrainable):
    """Trains `trainables.models.gan.GAN`."""

    model_class = gan.GAN


class VAEGAN(GenerativeTrainable):
    """Trains `trainables.models.vaegan.VAEGAN`, β = 1 by default."""

    model_class = vaegan.VAEGAN


class BetaVAEGAN(GenerativeTrainable):
    """Trains `trainables.models.vaegan.VAEGAN`, its `beta` there to be tuned (the seed, sec. 4.2)."""

    model_class = vaegan.VAEGAN
