"""Models of images given their class: how many classes there are, and how good each one's samples are."""

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from trainables.data.batches import to_uint8
from trainables.data.sources import cache_of
from trainables.data.store import DataError, ImageStore
from trainables.evaluation.generation import EVALUATION_SEED, at_once
from trainables.evaluation.inputs import batches_of
from trainables.metrics.extractors.extractor import Extractor
from trainables.metrics.frechet import frechet_distance
from trainables.metrics.reference import reference_statistics
from trainables.models.conditional import ConditionalModel

MOST_ROWS = 16  # of a grid with a class each
FEWEST = 25  # images of a class, real or drawn, whose distance is reported


def with_classes(hyperparameters: Any, store: ImageStore) -> Any:
    """Return a model's Config whose `classes`, where it has them and they are 0, are the data set's.

    Raises DataError where they are set to another number than the data set's or 1.
    """
    asked = getattr(hyperparameters, "classes", None)
    if asked is None:
        return hyperparameters
    there = max(1, len(store.manifest["class_names"]))
    if asked not in (0, 1, there):
        raise DataError(f"classes is {asked}; {store.name} has {there} (1: all images are one class)")
    return replace(hyperparameters, classes=asked or there)


def class_shares(store: ImageStore, classes: int) -> Tensor:
    """Return the shares, (classes,), of the training images that have each label; others don't count.

    Where none has a label, each class has the same share.
    """
    labels = store.labels[store.split("train")]
    known = labels[labels >= 0]
    counts = np.bincount(known, minlength=classes) if classes > 1 and known.size else np.ones(classes)
    return torch.from_numpy(counts / counts.sum()).float()


def class_scores(
    model: ConditionalModel,
    samples: int,
    store: ImageStore,
    extractor: Extractor,
    cache_dir: str | None = None,
) -> dict[str, float]:
    """Return the Fréchet distance of each class's samples to that class's images, and the classes' mean.

    Keys: `class/<name>`, with the label's number where names differ by signs alone, and `intra_<metric>` (the
    intra-FID of Miyato & Koyama 2018). The samples are shared out evenly over the classes of at least
    `FEWEST` training images, whose statistics are cached on disk; nothing is returned where a class would get
    fewer samples than that.
    """
    rows, names = store.split("train"), store.manifest["class_names"]
    of_class = {label: rows[store.labels[rows] == label] for label in range(model.config.classes)}
    known = {label: those for label, those in of_class.items() if len(those) >= FEWEST}
    each = samples // max(1, len(known))
    if each < FEWEST or len(known) < 2:
        return {}
    keys = ["class/" + re.sub(r"[^\w.-]+", "-", str(name)) for name in names]
    scores, cache = {}, cache_of(store, cache_dir)
    for label, those in known.items():
        part = f"{store.content_hash}-train-{label}"
        reference = reference_statistics(batches_of(store, those), extractor, cache_dir=cache, key=part)
        labels = torch.full((each,), label, device=model.device)
        features = extractor(drawn(model, labels, store.images.shape[1:]))
        key = keys[label] if keys.count(keys[label]) == 1 else f"{keys[label]}-{label}"  # of "C++" and "C#"
        scores[key] = frechet_distance(features, reference, identity=extractor.identity)
    return {f"intra_{extractor.metric}": float(np.mean(list(scores.values()))), **scores}


def class_samples(model: ConditionalModel, each: int, shape: Sequence[int]) -> Tensor:
    """Return `each` samples of each class, of the first 16, one class after another, uint8 (n, *shape)."""
    classes = torch.arange(min(model.config.classes, MOST_ROWS), device=model.device)
    return drawn(model, classes.repeat_interleave(each), shape)


@torch.no_grad()
def drawn(model: ConditionalModel, labels: Tensor, shape: Sequence[int]) -> Tensor:
    """Return a sample of each label, (n,), with the same noise for every model: uint8 (n, *shape)."""
    noise = torch.Generator(model.device).manual_seed(EVALUATION_SEED)
    return torch.cat(
        [to_uint8(model.sample(len(part), noise, part)) for part in labels.split(at_once(shape))]
    )
