"""What must be there before the first trial: the images, converted, and the statistics they are scored by."""

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console

from searchers.execution.resume import images_of
from searchers.record.schema import REFERENCES, reference_param
from searchers.study.config import RunConfig, SweepConfig, UsageError
from trainables.data.batches import Batches
from trainables.data.progress import image_bar
from trainables.data.store import DataError, ImageStore
from trainables.evaluation.inputs import TrainingConfig, load_reference, load_store
from trainables.evaluation.references import real_images, reference_scores
from trainables.metrics.errors import MetricError
from trainables.metrics.extractors.extractor import Extractor
from trainables.metrics.extractors.features import load_extractor

LONG = 1 / 6  # hours of measuring the reference that are told beforehand
QUICKEST = "efficientnet_lite0"  # extractor on a CPU
STILL = 1e-6  # deviation of features, relative to their mean, that rounding alone gives


@dataclass(frozen=True)
class Prepared:
    """What all trials of a sweep share."""

    settings: dict[str, Any]
    """the training's part of a trial's configuration"""
    metric: str | None
    """key of the Fréchet distance; None where no features are extracted"""
    provenance: dict[str, Any]
    """hashes of the data and of the features' extractor, number of reference images, references' scores"""

    @property
    def distance(self) -> str:
        """Key of the Fréchet distance. Raises UsageError where no features are extracted."""
        if self.metric is None:
            raise UsageError("--features none leaves no Fréchet distance to search by; name an extractor")
        return self.metric


def refuse_other_sizes(extractor: Extractor, size: int, channels: int) -> None:
    """Raise MetricError where an extractor does not take images of the sweep's size."""
    extractor(np.zeros((2, size, size, channels), np.uint8))


def extractor_of(config: RunConfig, channels: int, console: Console) -> Extractor:
    """Load the extractor that a sweep names, where there is a GPU on it, and say which one was taken.

    Raises MetricError as `load_extractor`, and where it does not take images of the sweep's size.
    """
    weights = config.inception_weights
    device = "cuda" if torch.cuda.is_available() else "cpu"
    extractor = load_extractor(config.features, weights=Path(weights) if weights else None, device=device)
    console.print(extractor.reason, highlight=False, markup=False)
    refuse_other_sizes(extractor, config.image_size, channels)
    return extractor


def expecting(
    images: int, extractor: str, console: Console, clock: Callable[[], float] = time.monotonic
) -> Callable[[int], None]:
    """Return what is told each number of images that was measured: it says once if that will take long."""
    begun, told = clock(), False

    def measured(count: int) -> None:
        nonlocal told
        hours = (clock() - begun) / count * images / 3600
        if hours > LONG and not told:
            other = "" if extractor == QUICKEST else f"; --features {QUICKEST}, another score, takes less"
            console.print(
                f"Measuring {images} images by {extractor} takes about {hours:.1f} h on this machine, once, "
                f"before the first trial{other}",
                highlight=False,
            )
        told = True

    return measured


def say_notes(store: ImageStore, console: Console) -> None:
    """Print what was left out of a data set, or changed."""
    for note in store.notes:
        console.print(f"Data: {note}", highlight=False, markup=False)


def measured(
    store: ImageStore, extractor: Extractor, config: SweepConfig, console: Console
) -> dict[str, Any]:
    """Measure the reference, and say what costs nothing scores by it; return what is recorded of both."""
    title = f"Measuring {len(store.split('train'))} images"
    expected = expecting(len(store.split("train")), extractor.name, console)
    with image_bar(title, len(store.split("train")), 0, None) as advance:

        def done(count: int) -> None:
            advance(count)
            expected(count)

        reference = load_reference(store, extractor, advance=done)
    if np.trace(reference.covariance) <= (STILL * np.linalg.norm(reference.mean)) ** 2:
        raise MetricError(
            f"all {reference.n} training images have the same features by {extractor.name}: no score by them "
            "tells images apart"
        )
    found: dict[str, Any] = {"features": str(extractor.identity), "reference_images": reference.n}
    costless = reference_scores(store, extractor, reference, config.evaluation_samples)
    found |= {reference_param(name, extractor.metric): v for name, v in costless.items()}
    said = ", ".join(f"{name} {costless[key]:.4g}" for name, key in REFERENCES.items() if key in costless)
    real = real_images(reference, config.evaluation_samples)
    if "real" in costless and real < config.evaluation_samples:
        said += f" (of {real}: with {config.evaluation_samples}, as models have, it would be lower)"
    console.print(f"What costs nothing scores ({extractor.metric}): {said}", highlight=False)
    if (side := extractor.side) and side < config.image_size:
        console.print(
            f"{extractor.name} sees images at {side}×{side}: what shows only at "
            f"{config.image_size}×{config.image_size} does not count",
            highlight=False,
        )
    return found


def prepare(config: SweepConfig, console: Console, channels: int = 3) -> Prepared:
    """Convert the data and measure the reference once; return what the trials share.

    Raises DataError and MetricError with one sentence each.
    """
    weights = config.inception_weights
    none = config.features == "none" and weights is None  # a file for nothing is refused
    extractor = None if none else extractor_of(config, channels, console)
    training = TrainingConfig(
        dataset=config.dataset,
        dataset_limit=config.dataset_limit,
        image_size=config.image_size,
        channels=channels,
        crop=config.crop,
        data_root=config.data_root,
        batch_size=config.batch_size,
        epochs=config.epochs,
        evaluate_every=config.evaluate_every,
        flip=config.flip,
        precision=config.precision,
        compile=config.compile,
        features=extractor.name if extractor else "none",
        feature_weights=weights,
        evaluation_samples=config.evaluation_samples,
        images=True,
        seed=config.seed,
        processes=max(1, int(config.gpus_per_trial or 0)),
    )
    began = replace(training, data_hash=images_of(config))
    store = load_store(began, config.image_size, channels)
    for split in ("train", "validation"):
        if len(store.split(split)) < 2:
            raise DataError(
                f"of the {len(store)} images of {store.name} fewer than two are in the split {split}, and a "
                "score compares two at least: give more images"
            )
    Batches(store, "train", config.batch_size)  # too few images fail here once, not in every trial
    size = f"{config.image_size}×{config.image_size}"
    console.print(f"Data: {store.manifest['name']}, {len(store)} images, {size}")
    say_notes(store, console)
    provenance: dict[str, Any] = {
        "data_hash": store.content_hash,
        "images": len(store),
        "training_images": len(store.split("train")),
        "classes": len(store.manifest["class_names"]),
    }
    if extractor:
        provenance |= measured(store, extractor, config, console)
    crop = store.manifest.get("settings", {}).get("crop")  # a store that is named has its own
    settings = {**asdict(training), "width": config.width, "data_hash": store.content_hash, "crop": crop}
    if extractor:
        settings["feature_identity"] = str(extractor.identity)
    return Prepared(settings, extractor.metric if extractor else None, provenance)
