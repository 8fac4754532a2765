"""The scores of images that no model made, with which each model's score is compared first."""

import numpy as np
from numpy.typing import NDArray

from trainables.data.store import ImageStore
from trainables.metrics.extractors.extractor import Extractor
from trainables.metrics.frechet import real_floor
from trainables.metrics.reference import ReferenceStatistics

GREY = 128
CHUNK = 256  # images that are averaged at a time


def reference_scores(
    store: ImageStore, extractor: Extractor, reference: ReferenceStatistics, samples: int
) -> dict[str, float]:
    """Return the Fréchet distance of a `grey` image and of the `mean_image`, repeated, and of `real` images.

    A repeated image has no covariance, so that its distance is ‖f − m‖² + tr S. Real images are `real_images`
    of the reference against its others; there are none where that is of fewer than four.
    """
    mean = mean_image(store, store.split("train"))
    still = np.stack([np.full_like(mean, GREY), mean])
    grey, average = np.square(extractor(still) - reference.mean).sum(1) + np.trace(reference.covariance)
    scores = {"grey": float(grey), "mean_image": float(average)}
    if (count := real_images(reference, samples)) > 1:  # one has no covariance
        scores["real"] = float(real_floor(reference, count))
    return scores


def real_images(reference: ReferenceStatistics, samples: int) -> int:
    """Return how many real images are scored: as many as a model's samples, or half of a reference of fewer.

    Fewer images have a greater distance, so that models may then seem better than real images.
    """
    assert reference.n is not None and reference.features is not None  # it was computed here
    return min(samples, reference.n // 2, len(reference.features))


def mean_image(store: ImageStore, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Return the mean of these rows' images, rounded to levels, (H, W, C)."""
    total = sum(
        store.images[rows[i : i + CHUNK]].sum(0, dtype=np.float64) for i in range(0, len(rows), CHUNK)
    )
    return np.rint(total / len(rows)).astype(np.uint8)
