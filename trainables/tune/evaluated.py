"""What a trial evaluates, and how: its images, their features, and the scores that it reports."""

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from ray import tune
from torch import Tensor

from trainables.data.batches import to_float, to_uint8
from trainables.data.pictures import png, tile
from trainables.data.store import ImageStore, spread
from trainables.evaluation.classes import class_samples, class_scores
from trainables.evaluation.diagnostics import diversity, pixel_variance
from trainables.evaluation.ex_post import Posteriors, decoded, draws, posteriors
from trainables.evaluation.generation import EVALUATION_SEED, generate
from trainables.evaluation.held_out import held_out_scores
from trainables.evaluation.inputs import TrainingConfig, load_reference, load_store
from trainables.metrics.errors import MetricError
from trainables.metrics.extractors.extractor import Extractor
from trainables.metrics.extractors.features import load_extractor
from trainables.metrics.reference import ReferenceStatistics
from trainables.metrics.scores import score
from trainables.models.base import GenerativeModel
from trainables.models.conditional import ConditionalModel
from trainables.models.fitted_prior import fit
from trainables.own import imported, module_of, numbers_of, source_hash

GRID_IMAGES = 64
GRID_COLUMNS = 8


class Evaluated(tune.Trainable):
    """The part of a trainable that scores its `model` after `epoch` epochs on a `device`."""

    objective: ClassVar[str] = "elbo"  # the score that counts where no features are extracted
    training: TrainingConfig
    store: ImageStore
    model: GenerativeModel
    device: torch.device
    epoch: int

    def load_evaluation(self) -> None:
        """Load images, features, their reference and own scores as `training` says.

        Raises DataError and MetricError where they are not those of the sweep.
        """
        t, threads = self.training, torch.get_num_threads()
        self.store = load_store(t, t.image_size, t.channels)
        self.extractor: Extractor | None = None
        self.reference: ReferenceStatistics | None = None
        if t.features != "none":
            weights = Path(t.feature_weights) if t.feature_weights else None
            self.extractor = load_extractor(t.features, weights=weights, device=self.device, threads=threads)
            if t.feature_identity not in (None, str(self.extractor.identity)):
                raise MetricError(
                    f"the extractor on this machine is {self.extractor.identity}, the sweep's "
                    f"{t.feature_identity}: are its weights made at random when it is imported?"
                )
            self.reference = load_reference(self.store, self.extractor, t.cache_dir)
        self.own_scores = imported(t.scores) if t.scores else None
        if t.scores and t.scores_hash not in (None, source_hash(module_of(t.scores))):
            raise MetricError(f"{t.scores} is other code here than where the sweep began: bring that back")
        self.metric = self.extractor.metric if self.extractor else self.objective
        self.held_out = self.store.some("validation", t.evaluation_samples)
        self.held_out_images = torch.from_numpy(self.store.images[self.held_out])
        self.held_out_variance = pixel_variance(self.held_out_images)

    def evaluate(self) -> dict[str, Any]:
        """Score `evaluation_samples` generated images, and the held-out ones where there is an encoder."""
        self.model.eval()
        noise = torch.Generator(self.device).manual_seed(EVALUATION_SEED)
        result: dict[str, Any] = {}
        codes = self._posteriors()
        if codes is not None and self.model.settles_prior:
            self.model.settle_prior(fit(*codes))
        scored = self.extractor or self.own_scores
        count = self.training.evaluation_samples if scored else GRID_IMAGES
        samples = generate(self.model, count, noise, self.held_out_images)
        if self.extractor and self.reference:
            result |= score(samples, self.extractor, self.reference)
        result["sample_diversity"] = diversity(samples, self.held_out_variance)
        last = self.epoch == self.training.epochs
        if isinstance(self.model, ConditionalModel) and self.extractor and last:
            cache = self.training.cache_dir
            result |= class_scores(self.model, count, self.store, self.extractor, cache)
        if self.model.has_encoder:
            result |= held_out_scores(self.model, self.held_out_images, noise)
            if self.extractor and self.reference and codes is not None and last:
                shape = tuple(self.held_out_images.shape[1:])
                for density, z in draws(codes, count).items():
                    distances = score(decoded(self.model, z, shape), self.extractor, self.reference)
                    result[f"{density}/{self.metric}"] = distances[self.metric]
            if self.training.disentanglement:
                # It imports scikit-learn, which takes seconds: only trials that ask for these scores wait.
                from trainables.evaluation import latent_units

                asked = self.training.disentanglement
                scores = None if isinstance(asked, bool) else tuple(asked)
                result |= latent_units.encoder_scores(self.model, self.store, scores)
        if self.own_scores:
            with torch.no_grad():
                found = self.own_scores(self.model, samples.cpu())
            result |= numbers_of(str(self.training.scores), found, result)
        if self.training.images:
            result["images"] = self.grids(samples[:GRID_IMAGES])
        return result

    def untrained_grids(self) -> dict[str, bytes]:
        """Return what the model draws before its first step, as `grids`: where its pictures begin.

        Raises FloatingPointError where that is not finite.
        """
        self.model.eval()
        noise = torch.Generator(self.device).manual_seed(EVALUATION_SEED)
        return self.grids(generate(self.model, GRID_IMAGES, noise, self.held_out_images))

    def grids(self, samples: Tensor) -> dict[str, bytes]:
        """Return grids, PNG, of samples (n, H, W, C) uint8, and of what else the model draws, by name."""
        grids = {"samples": grid(samples)}
        if self.model.has_encoder:
            shown = spread(np.arange(len(self.held_out)), GRID_IMAGES // 2)  # images may lie class by class
            originals = to_float(self.held_out_images[shown], self.device)
            pairs = torch.stack([originals, self.model.reconstruct(originals)], 1).flatten(0, 1)
            grids["reconstructions"] = grid(to_uint8(pairs))
        if isinstance(self.model, ConditionalModel) and self.model.config.classes > 1:
            grids["classes"] = grid(class_samples(self.model, GRID_COLUMNS, self.held_out_images.shape[1:]))
        return grids

    def _posteriors(self) -> Posteriors | None:
        """Return the posteriors of training images where they are needed now, None elsewhere."""
        last = self.extractor is not None and self.epoch == self.training.epochs
        if not (self.model.has_encoder and (last or self.model.settles_prior)):
            return None
        return posteriors(self.model, self.store.images, self.store.split("train"))


def grid(images: Tensor) -> bytes:
    """Return uint8 images (n, H, W, C) as one PNG, eight a row."""
    return png(tile(images.cpu().numpy(), min(len(images), GRID_COLUMNS)))
