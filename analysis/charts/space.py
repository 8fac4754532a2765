"""The search space: which dimensions matter, how pairs of them interact, and trials through all of them.

Each function draws one figure of a sweep's tables, or raises AnalysisError with the reason why it can't. The
scores are those of one epoch, the latest that enough trials have reached: at others they are other numbers.
"""

import warnings
from contextlib import suppress
from importlib.util import find_spec
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from analysis.charts.search import dimensions_of
from analysis.charts.style import BLUE, SCALE, VERMILION, axis_label, canvas, in_lines, label, plain, unit
from analysis.record.store import AnalysisError
from analysis.record.tables import SEED, Tables

PAIRED_LEAST = 4  # trials that span an area worth interpolating
PAIRS = 4  # dimensions of the contour figure; the most important ones
MARGIN = 0.05
SCORED_LEAST = 8  # trials, below which a variance explains nothing
FORESTS = 5  # of fANOVA, each with another seed
GOOD = 0.25  # the share of trials that is drawn in color
# A value beside its axis, legible on the lines that pass there.
PATCH = {"boxstyle": "square,pad=0.1", "facecolor": "white", "alpha": 0.8, "linewidth": 0}
BESIDE: dict[str, Any] = {"xytext": (4, 0), "textcoords": "offset points", "va": "center", "bbox": PATCH}
BESIDE["fontsize"] = 8


def importance(tables: Tables) -> Figure:
    """How much of the objective's variance each dimension explains (fANOVA, Hutter et al. 2014)."""
    shares = importances(tables)
    figure, axes = canvas(6, 1.2 + 0.45 * shares.shape[1])
    names = list(shares)[::-1]
    mean, low, high = shares.mean()[names], shares.min()[names], shares.max()[names]
    axes.barh([label(name) for name in names], mean, color=BLUE)
    axes.errorbar(
        mean, range(len(names)), xerr=(mean - low, high - mean), fmt="none", ecolor="black", capsize=3
    )
    for k, name in enumerate(names):
        axes.annotate(f"  {mean[name]:.0%}", (high[name], k), va="center", fontsize=9)
    axes.set_xlim(0, 1.15)
    axes.set_xlabel(
        f"share of the variance of {label(tables.sweep.metric)}\n"
        f"over fully trained trials: mean and range over {len(shares)} seeds of the trees"
    )
    return figure


def importances(tables: Tables) -> pd.DataFrame:
    """Return each dimension's share of the variance of full training's score, the largest first.

    It is optuna's fANOVA, a row for each seed of its trees. Raises AnalysisError for spaces of one dimension,
    where most trials were stopped, with fewer than eight others, and where optuna is not installed.
    """
    space, name = dimensions_of(tables), tables.sweep.name
    if len(space) < 2:
        raise AnalysisError(f"Importance needs two dimensions; {name!r} has {len(space)}.")
    found = tables.scored()
    scored = found[tables.complete[found.index]]
    if len(scored) < max(SCORED_LEAST, len(found) / 2):
        raise AnalysisError(
            f"Importance needs {SCORED_LEAST} fully trained trials, at least half of all; {name!r} has "
            f"{len(scored)} of {len(found)}. Those that were stopped would tell of their stopping."
        )
    if find_spec("optuna") is None:
        raise AnalysisError("Importance is optuna's, which is not installed: pip install optuna")
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(direction="minimize" if tables.sweep.mode == "min" else "maximize")
    distributions: dict[str, Any] = {
        name: optuna.distributions.FloatDistribution(-1e-9, 1 + 1e-9) for name in space
    }
    coordinates = {name: unit(scored[f"params.{name}"], domain) for name, domain in space.items()}
    for k, value in enumerate(tables.objective[scored.index]):
        params = {name: float(np.clip(x[k], 0, 1)) for name, x in coordinates.items()}
        study.add_trial(optuna.create_trial(params=params, distributions=distributions, value=float(value)))
    rows = []
    for seed in range(FORESTS):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            evaluator = optuna.importance.FanovaImportanceEvaluator(seed=seed)
            rows.append(optuna.importance.get_param_importances(study, evaluator=evaluator))
    shares = pd.DataFrame(rows)
    return shares[shares.mean().sort_values(ascending=False).index]


def most_of(tables: Tables, least: int) -> int:
    """Return how many trials a common epoch is to have: half of the scored ones, but at least `least`."""
    return max(least, len(tables.scored()) // 2)


def pairs(tables: Tables) -> Figure:
    """The objective over pairs of dimensions, interpolated between the trials; the most important ones.

    Nothing lies between two choices or between two seeds: dimensions are those of numbers.
    """
    sweep, space = tables.sweep, dimensions_of(tables)
    names = [n for n, domain in space.items() if domain.get("type") != "categorical" and n != SEED]
    if len(names) < 2:
        raise AnalysisError(f"Pairs need two dimensions of numbers; {sweep.name!r} has {len(names)}.")
    epoch, scored = tables.common(most_of(tables, PAIRED_LEAST))
    with suppress(AnalysisError):  # the space's own order, where nothing tells which matter most
        names = [name for name in importances(tables) if name in names]
    names = names[:PAIRS]
    n = len(names) - 1
    figure, axes = canvas(1.6 + 2.9 * n, 0.8 + 2.6 * n, n, n, sharex="col", sharey="row", squeeze=False)
    values = scored["score"].to_numpy(float)
    seen = [0, 0.95] if sweep.sign == 1 else [0.05, 1]  # of the quantiles: the best are told apart
    levels = MaxNLocator(10).tick_values(*np.quantile(values, seen))
    for row in range(n):
        for column in range(n):
            ax, x_name, y_name = axes[row, column], names[column], names[row + 1]
            if column > row:
                ax.set_visible(False)
                continue
            x, y = (unit(scored[f"params.{name}"], space[name]) for name in (x_name, y_name))
            try:
                filled = ax.tricontourf(x, y, values, levels=levels, cmap=SCALE, extend="both")
            except (RuntimeError, ValueError):  # trials on a line span no area
                filled = None
            ax.scatter(x, y, c=values, cmap=SCALE, vmin=levels[0], vmax=levels[-1], s=18, edgecolor="white")
            _unit_ticks(ax, space[x_name], "x")
            _unit_ticks(ax, space[y_name], "y")
            if row == n - 1:
                ax.set_xlabel(label(x_name))
            if column == 0:
                ax.set_ylabel(label(y_name))
    if filled is not None:
        name = f"{in_lines(axis_label(sweep.metric, sweep.sign))}, at epoch {epoch}"
        figure.colorbar(filled, ax=axes, label=name, shrink=0.8)
    return figure


def parallel_coordinates(tables: Tables) -> Figure:
    """A line a trial through its settings to its score; the better, the darker and the further in front."""
    sweep, space = tables.sweep, dimensions_of(tables)
    if len(space) < 2:
        raise AnalysisError(f"Parallel coordinates need two dimensions; {sweep.name!r} has {len(space)}.")
    epoch, scored = tables.common(most_of(tables, 1))
    values = scored["score"].astype(float)
    ranks = (sweep.sign * values).rank(pct=True).to_numpy()
    low, high = values.min(), values.max()
    columns = [unit(scored[f"params.{name}"], domain) for name, domain in space.items()]
    columns.append(((values - low) / ((high - low) or 1)).to_numpy())
    figure, axes = canvas(2 + 1.6 * len(columns), 4.2)
    x = np.arange(len(columns))
    lines = np.stack(columns, axis=1)
    for k in np.argsort(-ranks):
        best, good = ranks[k] == ranks.min(), ranks[k] <= GOOD
        color = VERMILION if best else BLUE if good else "0.75"
        axes.plot(x, lines[k], color=color, linewidth=2.5 if best else 1.0, alpha=0.9 if good else 0.6)
    for k, (name, domain) in enumerate(space.items()):
        for place, text in _ends(domain, scored[f"params.{name}"]):
            axes.annotate(text, (k, place), **BESIDE)
    for place, value in ((0, low), (1, high)):
        axes.annotate(f"{value:.4g}", (x[-1], place), **BESIDE)
    for k in x:
        axes.axvline(k, color="black", linewidth=0.8)
    axes.set_xticks(
        x, [*(label(name) for name in space), f"{in_lines(label(sweep.metric))}\nat epoch {epoch}"]
    )
    axes.set_yticks([])
    axes.spines[:].set_visible(False)
    axes.set_xlim(-0.2, x[-1] + 0.5)
    handles = [
        Line2D([], [], color=VERMILION, linewidth=2.5, label="best"),
        Line2D([], [], color=BLUE, label="best quarter"),
        Line2D([], [], color="0.75", label="others"),
    ]
    axes.legend(
        handles=handles, ncols=3, loc="lower left", bbox_to_anchor=(0, 1.0), fontsize=8, frameon=False
    )
    return figure


def _ends(domain: dict[str, Any], values: pd.Series) -> list[tuple[float, str]]:
    if domain.get("type") == "categorical":
        n = len(domain["choices"])
        return [(k / max(1, n - 1), plain(str(choice))) for k, choice in enumerate(domain["choices"])]
    low, high = domain.get("lower", values.min()), domain.get("upper", values.max())
    return [(0, f"{low:.4g}"), (1, f"{high:.4g}")]


def _unit_ticks(axes: Axes, domain: dict[str, Any], which: str) -> None:
    """Label an axis over [0, 1] with the dimension's own values."""
    set_ticks = axes.set_xticks if which == "x" else axes.set_yticks
    (axes.set_xlim if which == "x" else axes.set_ylim)(-MARGIN, 1 + MARGIN)
    if domain.get("type") == "categorical" or "lower" not in domain:
        ends = _ends(domain, pd.Series([0.0, 1.0]))
        set_ticks([place for place, _ in ends], [text for _, text in ends])
        return
    places = np.linspace(0, 1, 3)
    low, high = domain["lower"], domain["upper"]
    values = low * (high / low) ** places if domain.get("log") else low + places * (high - low)
    whole = domain["type"] == "int"
    set_ticks(places, [str(round(value)) if whole else f"{value:.3g}" for value in values])
