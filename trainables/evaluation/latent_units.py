"""How far an encoder's units stand for single factors of a data set's images."""

from collections.abc import Collection

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.ensemble import RandomForestClassifier

from trainables.data.batches import to_float
from trainables.data.store import ImageStore
from trainables.metrics.disentanglement import SCORES, disentanglement_scores
from trainables.metrics.information import unsupervised_scores
from trainables.models.base import GenerativeModel

IMAGES = 5000
BATCH = 250
VOTES = 1000  # half as many decide: FactorVAE's score is then exact to about 0.02
DERIVED_FACTORS = {"smile_class", "digit_class"}  # of drawn pictures: smile_degree and digit, rounded


@torch.no_grad()
def encoder_scores(
    model: GenerativeModel, store: ImageStore, only: Collection[str] = SCORES
) -> dict[str, float]:
    """Return `disentanglement/<score>` of the posterior means of up to 5000 images.

    The images are the held-out ones and, where these are fewer, training images too: the scores' bias falls
    with 1/n, and disentanglement_lib draws from all images as well. Where the store knows factors, the scores
    are those of `disentanglement_scores` that `only` names, with DCI by a random forest (as in Eastwood &
    Williams 2018); elsewhere they are the unsupervised ones. The result is empty for discrete codes, which
    have no units.
    """
    held_out = store.some("validation", IMAGES)
    rows = np.concatenate([held_out, store.some("train", IMAGES - len(held_out))])
    rows = np.random.default_rng(0).permutation(rows)  # the scores hold the last third out
    model.eval()
    means = []
    for first in range(0, len(rows), BATCH):
        codes = model.encode(to_float(store.images[rows[first : first + BATCH]], model.device))
        if not isinstance(codes, tuple):
            return {}
        means.append(codes[0].float().cpu().numpy())
    units = np.concatenate(means)
    factors = known_factors(store, rows)
    if factors.shape[1]:
        forest = RandomForestClassifier(20, min_samples_leaf=5, random_state=0)
        scores = disentanglement_scores(units, factors, only=only, classifier=forest, votes=VOTES)
    else:
        scores = unsupervised_scores(units)
    return {f"disentanglement/{name}": value for name, value in scores.items()}


def known_factors(store: ImageStore, rows: NDArray[np.int64]) -> NDArray[np.float32]:
    """Return the factors (n, K) that all these rows know, that vary, and that follow from no other factor."""
    columns = [store.factors[name][rows] for name in store.factors if name not in DERIVED_FACTORS]
    columns = [column for column in columns if np.isfinite(column).all() and np.ptp(column) > 0]
    return np.stack(columns, 1) if columns else np.empty((len(rows), 0), np.float32)
