"""How far an encoder's units stand for single factors of a data set's images."""

from collections.abc import Collection

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.ensemble import RandomForestClassifier

from trainables.data.batches import to_float
from trainables.data.store import ImageStore, spread
from trainables.evaluation.generation import at_once
from trainables.metrics.disentanglement import SCORES, disentanglement_scores, learnable
from trainables.metrics.information import unsupervised_scores
from trainables.models.base import GenerativeModel

IMAGES = 5000
VOTES = 1000  # half as many decide: FactorVAE's score is then exact to about 0.02
DERIVED_FACTORS = {"smile_class", "digit_class"}  # of drawn pictures: smile_degree and digit, rounded


@torch.no_grad()
def encoder_scores(
    model: GenerativeModel, store: ImageStore, only: Collection[str] | None = None
) -> dict[str, float]:
    """Return `disentanglement/<score>` of the posterior means of up to 5000 images.

    The images are the held-out ones and, where these are fewer, training images too: the scores' bias falls
    with 1/n, and disentanglement_lib draws from all images as well. Where the store knows factors, the scores
    are those of `disentanglement_scores` that `only` names, by default all that can be computed, with DCI by
    a random forest (as in Eastwood & Williams 2018); elsewhere they are the unsupervised ones. The result is
    empty for discrete codes, which have no units.
    """
    rows = scored_rows(store)
    model.eval()
    means, size = [], at_once(store.images.shape[1:])
    for first in range(0, len(rows), size):
        codes = model.encode(to_float(store.images[rows[first : first + size]], model.device))
        if not isinstance(codes, tuple):
            return {}
        means.append(codes[0].float().cpu().numpy())
    return unit_scores(np.concatenate(means), known_factors(store, rows), only)


def unit_scores(
    units: NDArray[np.float32], factors: NDArray[np.float32], only: Collection[str] | None = None
) -> dict[str, float]:
    """Return `disentanglement/<score>` of units (n, M), given what is known of factors (n, K).

    only: the scores; all that so many units and factors have, if None. Raises MetricError where a score can't
    be computed of these.
    """
    if factors.shape[1]:
        compared = {"mig": units.shape[1], "sap": units.shape[1], "modularity": factors.shape[1]}
        only = [name for name in SCORES if compared.get(name, 2) > 1] if only is None else only
        forest = RandomForestClassifier(20, min_samples_leaf=5, random_state=0)
        scores = disentanglement_scores(units, factors, only=only, classifier=forest, votes=VOTES)
    else:
        scores = unsupervised_scores(units)
    return {f"disentanglement/{name}": value for name, value in scores.items()}


def scored_rows(store: ImageStore) -> NDArray[np.int64]:
    """Return the rows of the images whose units are scored, in random order: scores hold the last third out.

    Images of which a factor is unknown that most others have are left out.
    """
    known = [np.isfinite(values) for values in store.factors.values()]
    whole = np.all([k for k in known if k.mean() > 0.5] or [np.ones(len(store), bool)], axis=0)
    held_out, train = (rows[whole[rows]] for rows in map(store.split, ("validation", "train")))
    held_out = spread(held_out, IMAGES)
    rows = np.concatenate([held_out, spread(train, IMAGES - len(held_out))])
    return np.random.default_rng(0).permutation(rows)


def known_factors(store: ImageStore, rows: NDArray[np.int64]) -> NDArray[np.float32]:
    """Return the factors (n, K) that all these rows know, and that follow from no other factor.

    Those that do not vary are left out, also where it is in the rows that classifiers learn from, or in those
    held out for them.
    """
    columns = [store.factors[name][rows] for name in store.factors if name not in DERIVED_FACTORS]
    columns = [column for column in columns if np.isfinite(column).all() and np.ptp(column) > 0]
    if not columns:
        return np.empty((len(rows), 0), np.float32)
    factors = np.stack(columns, 1)
    return factors[:, learnable(factors)]
