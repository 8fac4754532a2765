"""How far single latent units stand for single factors of the data, as in disentanglement_lib.

Definitions are those of google-research/disentanglement_lib, `evaluation/metrics/` (Locatello et al. 2019).
n is the number of images, M that of latent units, K that of factors. Codes are posterior means, (n, M);
factors are classes, (n, K), continuous ones made so by `discretise`. Rows are in random order: where a score
needs held-out data, the last third of them is that. Mutual information is in nats and of histograms, whose
bias is about (bins_a − 1)(bins_b − 1)/(2n): take n in the thousands.

`total_correlation` and `mean_pairwise_mutual_information` need no factors.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import entr
from scipy.stats import entropy
from sklearn.base import ClassifierMixin, clone
from sklearn.ensemble import GradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC

from trainables.metrics.errors import MetricError

BINS = 20
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
    codes, factors = _checked(codes, factors)
    continuous = np.array([len(np.unique(column)) > BINS for column in factors.T])
    classes = factors.copy()
    classes[:, continuous] = discretise(factors[:, continuous])
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


def unsupervised_scores(codes: ArrayLike) -> dict[str, float]:
    """Return the scores that need no factors, by flat names; both are 0 for independent units."""
    return {
        "total_correlation": total_correlation(codes),
        "mean_pairwise_mutual_information": mean_pairwise_mutual_information(codes),
    }


def discretise(values: ArrayLike, bins: int = BINS) -> NDArray[np.int64]:
    """Return the bin, 0 … bins − 1, of each value in equal steps between its column's extremes, (n, M)."""
    values = _matrix(values, "values")
    low = values.min(0)
    width = np.ptp(values, axis=0)
    scaled = (values - low) / np.where(width > 0, width, 1.0) * bins
    return np.minimum(scaled.astype(np.int64), bins - 1)


def mutual_information_gap(codes: ArrayLike, factors: ArrayLike, bins: int = BINS) -> float:
    """MIG: the mean over factors of (I_first − I_second)/H(factor) (Chen et al. 2018, eq. 6).

    Raises MetricError where there is one unit alone, or a factor that does not vary.
    """
    codes, factors = _checked(codes, factors)
    information = _mutual_information(discretise(codes, bins), factors)
    entropies = np.array([entropy(np.unique(column, return_counts=True)[1]) for column in factors.T])
    return float(np.mean(_gap(information) / entropies))


def dci(
    codes: ArrayLike, factors: ArrayLike, *, classifier: ClassifierMixin | None = None, seed: int = 0
) -> DCI:
    """Judge the importances that classifiers of factors give to units (Eastwood & Williams 2018, sec. 2).

    classifier: any of scikit-learn's kind with `feature_importances_`; by default boosted trees, as in
    disentanglement_lib. Informativeness is the accuracy on held-out rows.
    """
    codes, factors = _checked(codes, factors)
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
    codes, factors = _checked(codes, factors)
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
    return float(np.mean(_gap(scores)))


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
    variance = _matrix(sample_codes(variance_samples, None), "codes").var(0, ddof=1)
    active = np.flatnonzero(np.sqrt(variance) >= active_above)
    if not len(active):
        return 0.0
    rng = np.random.default_rng(seed)

    def count(number: int) -> NDArray[np.int64]:
        table = np.zeros((factors, len(active)), np.int64)
        for k in rng.integers(factors, size=number):
            codes = _matrix(sample_codes(batch, int(k)), "codes")[:, active]
            table[k, np.argmin(codes.var(0, ddof=1) / variance[active])] += 1
        return table

    majority = count(votes).argmax(0)
    judged = count(max(1, votes // 2))
    return float(judged[majority, np.arange(len(active))].sum() / judged.sum())


def resampler(codes: ArrayLike, factors: ArrayLike, *, seed: int = 0) -> CodeSampler:
    """Return a sampler for `factor_vae_score` that draws from images at hand, with replacement.

    A factor's value is that of an image drawn at random, as where images are rendered.
    """
    codes, factors = _checked(codes, factors)
    rng = np.random.default_rng(seed)
    rows = [{value: np.flatnonzero(column == value) for value in np.unique(column)} for column in factors.T]

    def sample(n: int, k: int | None) -> NDArray[np.float64]:
        pool = np.arange(len(codes)) if k is None else rows[k][factors[rng.integers(len(codes)), k]]
        return codes[rng.choice(pool, n)]

    return sample


def modularity(codes: ArrayLike, factors: ArrayLike, bins: int = BINS) -> float:
    """Mean over units of 1 − Σ_{k≠best} I²/(I²_best (K − 1)) (Ridgeway & Mozer 2018, sec. 3).

    A unit that tells nothing of any factor counts 0, as in disentanglement_lib. Raises MetricError for K = 1.
    """
    codes, factors = _checked(codes, factors)
    if factors.shape[1] < 2:
        raise MetricError("there is 1 factor; modularity compares at least 2")
    squared = _mutual_information(discretise(codes, bins), factors) ** 2
    best = squared.max(1)
    rest = (squared.sum(1) - best) / (np.where(best > 0, best, 1.0) * (factors.shape[1] - 1))
    return float(np.mean(np.where(best > 0, 1.0 - rest, 0.0)))


def explicitness(codes: ArrayLike, factors: ArrayLike) -> float:
    """Mean over factors of the area under a linear classifier's ROC curve, on held-out rows; chance is 0.5.

    Logistic regression on standardised codes (Ridgeway & Mozer 2018, sec. 3), the mean over classes, too.
    Classes that the held-out rows lack have no area and are left out.
    """
    codes, factors = _checked(codes, factors)
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
        areas.append(np.mean(of_factor))
    return float(np.mean(areas))


def total_correlation(codes: ArrayLike) -> float:
    """KL(N(0, Σ) ‖ N(0, diag Σ)) = −½ log det(correlation) in nats, of the units that vary; ≥ 0.

    Infinite where one unit is a linear function of others.
    """
    codes = _matrix(codes, "codes")
    codes = codes[:, np.ptp(codes, axis=0) > 0]
    if codes.shape[1] < 2:
        return 0.0
    correlation = np.corrcoef(codes, rowvar=False)
    sign, log_determinant = np.linalg.slogdet(correlation)
    return float(max(0.0, -0.5 * log_determinant)) if sign > 0 else np.inf


def mean_pairwise_mutual_information(codes: ArrayLike, bins: int = BINS) -> float:
    """Mean of I(z_i; z_j) over pairs i < j, in nats; 0 for one unit."""
    binned = discretise(codes, bins)
    information = _mutual_information(binned, binned)
    pairs = np.triu_indices(len(information), 1)
    return float(information[pairs].mean()) if len(pairs[0]) else 0.0


def _mutual_information(codes: NDArray, factors: NDArray) -> NDArray[np.float64]:
    """Return I(code; factor) of each pair, (M, K): all tables of joint counts are one matrix product."""
    (a, first), (b, second) = _one_hot(codes), _one_hot(factors)
    joint = np.add.reduceat(np.add.reduceat(entr(a.T @ b / len(codes)), first), second, axis=1)
    marginal = [np.add.reduceat(entr(x.mean(0)), at) for x, at in ((a, first), (b, second))]
    return np.maximum(marginal[0][:, None] + marginal[1] - joint, 0.0)


def _one_hot(classes: NDArray) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return a column for each class of each column, and where each column's classes begin."""
    columns = [np.unique(column, return_inverse=True)[1] for column in classes.T]
    sizes = [column.max() + 1 for column in columns]
    return np.hstack([np.eye(s)[c] for s, c in zip(sizes, columns, strict=True)]), np.cumsum([0, *sizes[:-1]])


def _gap(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the best row's lead over the second of each column. (M, K) -> (K,)."""
    if len(scores) < 2:
        raise MetricError("there is 1 latent unit; the gap to the second best needs at least 2")
    second, best = np.sort(scores, axis=0)[-2:]
    return best - second


def _split(n: int) -> tuple[slice, slice]:
    first_held_out = n - round(n * HELD_OUT)
    return slice(0, first_held_out), slice(first_held_out, n)


def _matrix(values: ArrayLike, name: str) -> NDArray[np.float64]:
    values = np.asarray(values, np.float64)
    if values.ndim != 2 or 0 in values.shape:
        raise MetricError(f"{name} have shape {values.shape}; (images, columns) is expected, both ≥ 1")
    if not np.isfinite(values).all():
        raise MetricError(f"{name} hold {np.count_nonzero(~np.isfinite(values))} values that are not finite")
    return values


def _checked(codes: ArrayLike, factors: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    codes, factors = _matrix(codes, "codes"), _matrix(factors, "factors")
    if len(codes) != len(factors):
        raise MetricError(f"there are codes of {len(codes)} images and factors of {len(factors)}")
    for k, column in enumerate(factors.T):
        if np.ptp(column) == 0:
            raise MetricError(f"factor {k} has the one value {column[0]:g}; it must vary")
    return codes, factors
