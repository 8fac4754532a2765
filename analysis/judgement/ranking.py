"""Which trial is best, and which others may be: a ranking with its uncertainty.

A trial's score is value ± std, the deviation over draws of the evaluated images: it speaks of the trial's
weights. Of a Fréchet or kernel distance it is a jackknife's over ten groups, of nine degrees of freedom. With
repeated training it is mean and standard error over seeds, which hold both kinds of chance, and speak of the
setting. A trial is told apart from the best one where Welch's test says so at the 5 % level, corrected for
all n(n − 1) ordered pairs (Bonferroni), because the best one was chosen by its score, too. All others are
ties.
"""

import numpy as np
import pandas as pd
from scipy import stats

SIGNIFICANCE = 0.05
JACKKNIFE = 9  # degrees of freedom of a deviation that leaves out one of ten groups at a time
DRAWS = 20_000


def rank(
    values: pd.Series, stds: pd.Series, *, sign: int = 1, degrees: pd.Series | None = None
) -> pd.DataFrame:
    """Rank trials by value, the best first: `value`, `std`, `p_best`, `p_value`, `tied`.

    sign: 1 where lower is better, −1 where higher is. stds: NaN where unknown; `p_best`, the probability that
    the trial's true value is the best of all, and `tied` are then NaN and None. degrees: of freedom of each
    std (None: known exactly); Welch's test takes them into account. Values that are not finite are left out.
    """
    table = pd.DataFrame({"value": values.astype(float), "std": stds.astype(float)})
    table["degrees"] = np.inf if degrees is None else degrees.astype(float)
    table = table[np.isfinite(table["value"])]
    table = table.iloc[np.argsort(sign * table["value"].to_numpy(), kind="stable")]
    if table.empty:
        return table.assign(p_best=[], p_value=[], tied=[]).drop(columns="degrees")
    if not np.isfinite(table["std"]).all() or not (table["std"] > 0).all():
        unknown = {"p_best": np.nan, "p_value": np.nan, "tied": None}
        return table.assign(**unknown).drop(columns="degrees")
    columns = (table[name].to_numpy() for name in ("value", "std", "degrees"))
    table["p_best"] = _probability_best(sign, *columns)
    table["p_value"] = _p_values(table, sign)
    table["tied"] = table["p_value"] * len(table) * (len(table) - 1) > SIGNIFICANCE
    table.iloc[0, table.columns.get_loc("tied")] = True
    return table.drop(columns="degrees")


def _probability_best(sign: int, values: np.ndarray, stds: np.ndarray, degrees: np.ndarray) -> np.ndarray:
    """Return how often each is the best of independent draws: Student's t, normal for known deviations."""
    random = np.random.default_rng(0)
    wins = np.zeros(len(values))
    known = np.isinf(degrees)
    freedom = np.where(known, 1.0, degrees)
    for _ in range(10):
        draws = stds * random.standard_normal((DRAWS // 10, len(values)))
        if not known.all():
            draws /= np.where(known, 1.0, np.sqrt(random.chisquare(freedom, draws.shape) / freedom))
        wins += np.bincount((sign * values + draws).argmin(1), minlength=len(values))
    return wins / DRAWS


def _p_values(table: pd.DataFrame, sign: int) -> np.ndarray:
    """Test one-sidedly whether each is worse than the first (Welch 1947; normal for known deviations)."""
    variances, best = table["std"].to_numpy() ** 2, table.iloc[0]
    total = variances + best["std"] ** 2
    with np.errstate(divide="ignore", invalid="ignore"):
        t = sign * (table["value"].to_numpy() - best["value"]) / np.sqrt(total)
        inverse = (variances**2 / table["degrees"] + best["std"] ** 4 / best["degrees"]) / total**2
        degrees = 1 / inverse.to_numpy()
    return np.where(np.isinf(degrees), stats.norm.sf(t), stats.t.sf(t, np.minimum(degrees, 1e9)))


def degrees_of(metric: str) -> float:
    """Return the degrees of freedom of a score's deviation over images; inf of a mean over many."""
    return JACKKNIFE if metric.partition("_")[0] in ("fid", "fd", "kid") else np.inf


def over_seeds(values: pd.Series, settings: pd.Series) -> pd.DataFrame:
    """Return mean, standard error (`std`), `seeds` and `degrees` of the values of each setting.

    settings: what tells trials apart that differ by their seed alone. One seed has no standard error: NaN.
    """
    grouped = values.groupby(settings, sort=False)
    count = grouped.count()
    return pd.DataFrame(
        {
            "value": grouped.mean(),
            "std": grouped.std(ddof=1) / np.sqrt(count),
            "seeds": count,
            "degrees": count - 1,
        }
    )
