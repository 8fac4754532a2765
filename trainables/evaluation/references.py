"""The scores of images that no model made, with which each model's score is compared first."""

import numpy as np
from numpy.typing import NDArray

from trainables.data.store import ImageStore
from trainables.metrics.extractors.extractor import Extractor
from trainables.metrics.frechet import frechet_distance, has_real_floor, real_floor
from trainables.metrics.reference import ReferenceStatistics

GREY = 128
CHUNK = 4096  # images that are averaged at a time


def reference_scores(
    store: ImageStore, extractor: Extractor, reference: ReferenceStatistics, samples: int
) -> dict[str, float]:
    """Return the Fréchet distance of a `grey` image and of the `mean_image`, repeated, and of `real` images.

    A repeated image has no covariance, so that its distance is ‖f − m‖² + tr S. Real images are as many as
    `samples` that the reference holds, against the others; where it holds too few, they are held-out ones.
    """
    mean = mean_image(store, store.split("train"))
    still = np.stack([np.full_like(mean, GREY), mean])
    grey, average = np.square(extractor(still) - reference.mean).sum(1) + np.trace(reference.covariance)
    if has_real_floor(reference, samples):
        real = real_floor(reference, samples)
    else:
        held_out = extractor(store.images[store.some("validation", samples)])
        real = frechet_distance(held_out, reference, identity=extractor.identity)
    return {"grey": float(grey), "mean_image": float(average), "real": float(real)}


def mean_image(store: ImageStore, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Return the mean of these rows' images, rounded to levels, (H, W, C)."""
    total = sum(
        store.images[rows[i : i + CHUNK]].sum(0, dtype=np.float64) for i in range(0, len(rows), CHUNK)
    )
    return np.rint(total / len(rows)).astype(np.uint8)
