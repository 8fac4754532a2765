"""What the runs of a sweep share: images, held-out statistics, and the model trained before any query."""

import hashlib
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import FileLock
from numpy.typing import NDArray

from trainables.data.batches import to_float
from trainables.data.sources import cache_of, load_same
from trainables.data.store import DataError, ImageStore
from trainables.latent.scorer import labels_hash, smile_degrees
from trainables.latent.settings import LatentConfig
from trainables.metrics.extractors.extractor import Extractor
from trainables.metrics.reference import ReferenceStatistics, reference_statistics
from trainables.models.base import GenerativeModel
from trainables.models.convvae import ConvVAE
from trainables.models.vqvae import VQVAE

FORMAT = 2  # of the cached models; raise it where `training_state` changes


def load_images(c: LatentConfig) -> ImageStore:
    """Open the data set's image store. Convert it first where this machine has not done so yet.

    Raises DataError as `trainables.data.sources.load_same`.
    """
    return load_same(
        c.dataset,
        c.data_hash,
        image_size=c.image_size,
        channels=3,
        crop=c.crop,
        limit=c.dataset_limit,
        data_root=Path(c.data_root) if c.data_root else None,
        cache_dir=Path(c.cache_dir) if c.cache_dir else None,
    )


def training_rows(store: ImageStore, max_degree: float) -> NDArray[np.int64]:
    """Return the rows of the training split up to a smile degree, which are all that the generators see.

    Raises DataError where there are fewer than 50, or fewer than 2 images above the degree.
    """
    degrees = smile_degrees(store)
    rows = store.split("train")
    rows = rows[degrees[rows] <= max_degree]
    above = int((degrees > max_degree).sum())
    if len(rows) < 50 or above < 2:
        raise DataError(
            f"{store.name} has {len(rows)} training images of smile degree {max_degree:g} or less and "
            f"{above} above; at least 50 and 2 are needed"
        )
    return rows


def held_out_references(
    store: ImageStore, c: LatentConfig, extractor: Extractor
) -> dict[str, ReferenceStatistics]:
    """Return the statistics of the features of all images above `max_degree` ("") and of each degree above.

    A group contributes at most `reference_images`, chosen at random. The statistics are cached on disk and
    computed once a machine.
    """
    degrees = smile_degrees(store)
    groups = {"": degrees > c.max_degree}
    for degree in np.unique(degrees[groups[""]]):
        groups[f"_degree_{degree:g}"] = degrees == degree
    references = {}
    for name, chosen in groups.items():
        rows = np.random.default_rng(0).permutation(np.flatnonzero(chosen))[: c.reference_images]
        if len(rows) < 2:
            continue
        key = f"{labels_hash(store)}-above{c.max_degree:g}{name}-{len(rows)}"
        cache = cache_of(store, c.cache_dir)
        references[name] = reference_statistics(
            store.images[np.sort(rows)], extractor, cache_dir=cache, key=key
        )
    return references


def network(c: LatentConfig, channels: int) -> tuple[type[GenerativeModel], dict[str, Any]]:
    """Return the method's model and its hyperparameters."""
    values: dict[str, Any] = {"image_size": c.image_size, "channels": channels, "width": c.width}
    if c.method == "vae-retrained":
        values |= {"latent_dim": c.latent_dim, "learning_rate": c.vae_learning_rate}
        return ConvVAE, values | {"beta_warm_up": c.beta_warm_up, "beta_every": c.beta_every}
    values |= {"codes": c.codes, "embedding_dim": c.embedding_dim, "codebook": c.codebook}
    return VQVAE, values | {"learning_rate": c.vqvae_learning_rate}


def checkpoint_bytes(c: LatentConfig, channels: int) -> int:
    """Return what a trial's checkpoint takes at most, with all its queries."""
    model_class, values = network(c, channels)
    model, buffer = model_class(model_class.configure(values)), io.BytesIO()
    model.training_step(torch.rand(2, channels, c.image_size, c.image_size))  # the optimizers keep moments
    torch.save(model.training_state(), buffer)
    return buffer.tell() + c.rounds * c.queries_a_round * channels * c.image_size**2


def pretrained(
    store: ImageStore, rows: NDArray[np.int64], c: LatentConfig, device: torch.device
) -> GenerativeModel:
    """Return the method's model, trained on the rows. A machine trains it once for all its trials.

    Raises FloatingPointError where the training diverges.
    """
    model_class, values = network(c, store.manifest["channels"])
    is_vae = model_class is ConvVAE
    epochs, batch = (c.vae_epochs, c.vae_batch_size) if is_vae else (c.vqvae_epochs, c.vqvae_batch_size)
    model = model_class(model_class.configure(values), device=device, seed=0)
    identity = [FORMAT, model_class.__name__, values, labels_hash(store), c.max_degree, epochs, batch]
    digest = hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:16]
    folder = cache_of(store, c.cache_dir)
    path = folder / f"pretrained-{model_class.__name__}-{digest}.pt"
    with FileLock(f"{path}.lock"):
        if not path.exists():
            _train(model, store, rows, epochs, min(batch, len(rows)), path.with_suffix(".begun"))
            _save(model.training_state(), path)
            path.with_suffix(".begun").unlink(missing_ok=True)
    model.load_training_state(torch.load(path, map_location=device, weights_only=True))
    return model


def _train(
    model: GenerativeModel, store: ImageStore, rows: NDArray[np.int64], epochs: int, batch: int, begun: Path
) -> None:
    """Train for `epochs`. `begun` keeps the state after each, from which a killed training goes on."""
    done = 0
    if begun.exists():
        state = torch.load(begun, map_location=model.device, weights_only=True)
        model.load_training_state(state["model"])
        done = state["epoch"]
    for epoch in range(done, epochs):
        order = np.random.default_rng([0, epoch]).permutation(rows)
        for first in range(0, len(rows) - batch + 1, batch):
            x = to_float(store.images[order[first : first + batch]], model.device)
            losses = model.training_step(x)
        if not all(torch.isfinite(value) for value in losses.values()):
            raise FloatingPointError(
                f"{type(model).__name__} diverged in epoch {epoch + 1} of {epochs}: "
                f"{ {name: float(value) for name, value in losses.items()} }; lower its learning rate"
            )
        _save({"model": model.training_state(), "epoch": epoch + 1}, begun)


def _save(state: dict[str, Any], path: Path) -> None:
    partial = path.with_suffix(".partial")
    torch.save(state, partial)
    partial.replace(path)
