"""How far single latent units stand for single factors of the data, as in disentanglement_lib.

Definitions are those of google-research/disentanglement_lib, `evaluation/metrics/` (Locatello et al. 2019).
n is the number of images, M that of latent units, K that of factors. Codes are posterior means, (n, M);
factors are classes, (n, K), continuous ones made so by `discretize`. Rows are in random order: where a score
needs held-out data, the last third of them is that. `trainables.metrics.information` has the scores that are
made of mutual information, and those that need no factors.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import entropy
from sklearn.base import ClassifierMixin, clone
from sklearn.ensemble import GradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC

from trainables.metrics.errors import MetricError
from trainables.metrics.information import (
    BINS,
    checked,
    discretize,
    gap,
    matrix,
    modularity,
    mutual_information_gap,
    unsupervised_scores,
)

HELD_OUT = 1 / 3
SCORES = ("mig", "dci", "sap", "factor_vae", "modularity", "explicitness", "unsupervised")
# Codes of n images that share one value of the factor of this index, or of images at random for None.
CodeSampler = Callable[[int, int | None], ArrayLike]


@dataclass(frozen=True)
class DCI:
    """Disentanglement, completeness and informativeness in [0, 1], and the importances (M, K) behind them."""

    disentanglement: float
    completeness: float
    informativeness: float
    importance: NDArray[np.float64]


def disentanglement_scores(
    codes: ArrayLike,
    factors: ArrayLike,
    *,
    only: Collection[str] = SCORES,
    classifier: ClassifierMixin | None = None,
    votes: int = 5000,
    seed: int = 0,
) -> dict[str, float]:
    """Return the scores of `only` by flat names; factors of more than 20 distinct values count as continuous.

    votes: those that train FactorVAE's classifier; half as many judge it. `classifier` is as for `dci`,
    which takes most of the time: it fits one for each factor, with one tree a class and stage. Raises
    MetricError, with the valid names, for an unknown score.
    """
    if unknown := [name for name in only if name not in SCORES]:
        raise MetricError(f"there is no disentanglement score {unknown[0]!r}; there are: {', '.join(SCORES)}")
    codes, factors = checked(codes, factors)
    classes, continuous = as_classes(factors)
    scores: dict[str, float] = {}
    if "mig" in only:
        scores["mig"] = mutual_information_gap(codes, classes)
    if "dci" in only:
        parts = dci(codes, classes, classifier=classifier, seed=seed)
        scores["dci_disentanglement"] = parts.disentanglement
        scores["dci_completeness"] = parts.completeness
        scores["dci_informativeness"] = parts.informativeness
    if "sap" in only:
        scores["sap"] = separated_attribute_predictability(codes, factors, continuous=continuous, seed=seed)
    if "factor_vae" in only:
        sampler = resampler(codes, classes, seed=seed)
        scores["factor_vae"] = factor_vae_score(sampler, classes.shape[1], votes=votes, seed=seed)
    if "modularity" in only:
        scores["modularity"] = modularity(codes, classes)
    if "explicitness" in only:
        scores["explicitness"] = explicitness(codes, classes)
    return scores | (unsupervised_scores(codes) if "unsupervised" in only else {})


def as_classes(factors: NDArray[np.floating]) -> tuple[NDArray[np.floating], NDArray[np.bool_]]:
    """Return factors (n, K) as classes, and which of them are continuous, (K,), and were put into bins."""
    continuous = np.array([len(np.unique(column)) > BINS for column in factors.T])
    classes = factors.copy()
    if continuous.any():
        classes[:, continuous] = discretize(factors[:, continuous])
    return classes, continuous


def learnable(factors: NDArray[np.floating]) -> NDArray[np.bool_]:
    """Return which factors (n, K) have two classes or more in both parts of the rows, (K,)."""
    classes, _ = as_classes(factors)
    spreads = [np.ptp(classes[part], axis=0) for part in _split(len(classes))]
    varied: NDArray[np.bool_] = np.min(spreads, axis=0) > 0
    return varied


def dci(
    codes: ArrayLike, factors: ArrayLike, *, classifier: ClassifierMixin | None = None, seed: int = 0
) -> DCI:
    """Judge the importances that classifiers of factors give to units (Eastwood & Williams 2018, sec. 2).

    classifier: any of scikit-learn's kind with `feature_importances_`; by default boosted trees, as in
    disentanglement_lib. Informativeness is the accuracy on held-out rows.
    """
    codes, factors = checked(codes, factors)
    classifier = GradientBoostingClassifier(random_state=seed) if classifier is None else classifier
    train, test = _split(len(codes))
    importance = np.zeros((codes.shape[1], factors.shape[1]))
    accuracies = []
    for k, column in enumerate(factors.T):
        labels = np.unique(column, return_inverse=True)[1]
        fitted = clone(classifier).fit(codes[train], labels[train])
        importance[:, k] = np.abs(fitted.feature_importances_)
        accuracies.append(np.mean(fitted.predict(codes[test]) == labels[test]))
    return DCI(
        disentanglement_of(importance),
        disentanglement_of(importance.T),
        float(np.mean(accuracies)),
        importance,
    )


def disentanglement_of(importance: NDArray[np.float64]) -> float:
    """Return Σ_i w_i (1 − H_K(row i)), w_i a row's share of all importance; of the transpose: completeness.

    Shapes: (M, K) -> (). A row of one entry gives 1, a uniform one 0 (Eastwood & Williams 2018, sec. 2).
    """
    if not importance.any():
        return 0.0
    if importance.shape[1] == 1:
        return 1.0
    per_row = 1.0 - entropy(importance.T + 1e-11, base=importance.shape[1])
    return float(per_row @ importance.sum(1) / importance.sum())


def separated_attribute_predictability(
    codes: ArrayLike, factors: ArrayLike, *, continuous: ArrayLike = False, seed: int = 0
) -> float:
    """SAP: the mean over factors of the best unit's score less the second's (Kumar et al. 2018, sec. 3).

    A unit's score is its R² with a continuous factor, and a linear classifier's accuracy on held-out rows
    with a class; the latter's chance level stays in it, so that classes in equal shares give at most 1 − 1/C.
    continuous: for all factors or for each, (K,).
    """
    codes, factors = checked(codes, factors)
    train, test = _split(len(codes))
    scores = np.zeros((codes.shape[1], factors.shape[1]))
    for k, is_continuous in enumerate(np.broadcast_to(continuous, factors.shape[1])):
        factor = factors[:, k]
        for i, code in enumerate(codes.T):
            if is_continuous:
                scores[i, k] = np.corrcoef(code, factor)[0, 1] ** 2 if np.ptp(code) > 0 else 0.0
            else:
                machine = LinearSVC(C=0.01, class_weight="balanced", random_state=seed)
                machine.fit(code[train, None], factor[train])
                scores[i, k] = machine.score(code[test, None], factor[test])
    return float(np.mean(gap(scores)))


def factor_vae_score(
    sample_codes: CodeSampler,
    factors: int,
    *,
    votes: int = 10_000,
    batch: int = 64,
    variance_samples: int = 10_000,
    active_above: float = 0.05,
    seed: int = 0,
) -> float:
    """Accuracy of naming the fixed factor by the unit that varies least (Kim & Mnih 2018, sec. 4).

    sample_codes(n, k): the codes (n, M) of images alike in factor k, of any images for None. Each of `votes`
    batches is one vote, by a majority of which each unit gets its factor; half as many judge that. Units of
    standard deviation below `active_above` are collapsed and have no vote; without any left the score is 0.
    """
    variance = matrix(sample_codes(variance_samples, None), "codes").var(0, ddof=1)
    active = np.flatnonzero(np.sqrt(variance) >= active_above)
    if not len(active):
        return 0.0
    rng = np.random.default_rng(seed)

    def count(number: int) -> NDArray[np.int64]:
        table = np.zeros((factors, len(active)), np.int64)
        for k in rng.integers(factors, size=number):
            codes = matrix(sample_codes(batch, int(k)), "codes")[:, active]
            table[k, np.argmin(codes.var(0, ddof=1) / variance[active])] += 1
        return table

    majority = count(votes).argmax(0)
    judged = count(max(1, votes // 2))
    return float(judged[majority, np.arange(len(active))].sum() / judged.sum())


def resampler(codes: ArrayLike, factors: ArrayLike, *, seed: int = 0) -> CodeSampler:
    """Return a sampler for `factor_vae_score` that draws from images at hand, with replacement.

    A factor's value is that of an image drawn at random, as where images are rendered.
    """
    codes, factors = checked(codes, factors)
    rng = np.random.default_rng(seed)
    rows = [{value: np.flatnonzero(column == value) for value in np.unique(column)} for column in factors.T]

    def sample(n: int, k: int | None) -> NDArray[np.float64]:
        pool = np.arange(len(codes)) if k is None else rows[k][factors[rng.integers(len(codes)), k]]
        drawn: NDArray[np.float64] = codes[rng.choice(pool, n)]
        return drawn

    return sample


def explicitness(codes: ArrayLike, factors: ArrayLike) -> float:
    """Mean over factors of the area under a linear classifier's ROC curve, on held-out rows; chance is 0.5.

    Logistic regression on standardized codes (Ridgeway & Mozer 2018, sec. 3), the mean over classes, too.
    Classes that the held-out rows lack have no area and are left out, and so are factors of such alone.
    """
    codes, factors = checked(codes, factors)
    train, test = _split(len(codes))
    scaler = StandardScaler().fit(codes[train])
    inputs, held_out = scaler.transform(codes[train]), scaler.transform(codes[test])
    areas = []
    for factor in factors.T:
        model = LogisticRegression(max_iter=1000).fit(inputs, factor[train])
        probabilities = model.predict_proba(held_out)
        of_factor = [
            roc_auc_score(factor[test] == value, probabilities[:, c])
            for c, value in enumerate(model.classes_)
            if 0 < np.count_nonzero(factor[test] == value) < len(factor[test])
        ]
        areas += [np.mean(of_factor)] if of_factor else []
    return float(np.mean(areas)) if areas else np.nan


def _split(n: int) -> tuple[slice, slice]:
    first_held_out = n - round(n * HELD_OUT)
    return slice(0, first_held_out), slice(first_held_out, n)
