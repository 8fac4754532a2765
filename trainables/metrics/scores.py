"""All scores of one evaluation, under the keys that trials report."""

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from trainables.metrics.extractors.extractor import Extractor, kid_key
from trainables.metrics.frechet import estimate_frechet_distance, has_real_floor, real_floor
from trainables.metrics.kid import kernel_inception_distance
from trainables.metrics.reference import ReferenceStatistics

DISTANCES = ("fd_", "kid_", "intra_", "class/", "ex_post/", "ex_post_mixture/")  # or begin with one
LOWER = {"fid", "kid", "reconstruction_mse"}
HIGHER = {"elbo", "nats_per_image"}
UNSUPERVISED = {"disentanglement/total_correlation", "disentanglement/mean_pairwise_mutual_information"}


def better(key: str) -> Literal["min", "max"] | None:
    """Return whether the least or the greatest value of a reported key is the best; None: not known."""
    if key.endswith("_std") or key in UNSUPERVISED:
        return None
    if key in LOWER or key.startswith(DISTANCES):
        return "min"
    return "max" if key in HIGHER or key.startswith("disentanglement/") else None


def keys_of(metric: str) -> set[str]:
    """Return the keys that `score` has, given that of the Fréchet distance."""
    both = {metric, kid_key(metric)}
    return both | {f"{key}_std" for key in both} | {f"real_{metric}", "evaluated_images"}


def score(
    images: NDArray[np.uint8] | Tensor, extractor: Extractor, reference: ReferenceStatistics
) -> dict[str, float]:
    """Return Fréchet and kernel distance of generated images, (n, H, W, C) uint8, with their deviations.

    Keys: `<metric>`, `<metric>_std`, `<kid_metric>`, `<kid_metric>_std`, and `evaluated_images`, n: a
    Fréchet distance at another n is another number. `real_<metric>`, `real_floor` at this n, joins them
    where the reference has the images for it. Raises as `Extractor.__call__`,
    `estimate_frechet_distance` and `kernel_inception_distance`.
    """
    features = extractor(images)
    frechet = estimate_frechet_distance(features, reference, identity=extractor.identity)
    kernel = kernel_inception_distance(features, reference, identity=extractor.identity)
    scores = {
        extractor.metric: frechet.value,
        f"{extractor.metric}_std": frechet.std,
        extractor.kid_metric: kernel.value,
        f"{extractor.kid_metric}_std": kernel.std,
        "evaluated_images": len(features),
    }
    if has_real_floor(reference, len(features)):
        scores[f"real_{extractor.metric}"] = real_floor(reference, len(features))
    return scores
