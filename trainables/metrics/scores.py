"""All scores of one evaluation, under the keys that trials report."""

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from trainables.metrics.extractors.extractor import Extractor
from trainables.metrics.frechet import estimate_frechet_distance, has_real_floor, real_floor
from trainables.metrics.kid import kernel_inception_distance
from trainables.metrics.reference import ReferenceStatistics


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
