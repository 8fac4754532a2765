"""What the searcher believes over each numeric dimension: [BVG], Figure 5."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from textwrap import fill
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from analysis.charts.style import (
    BLUE,
    STATUS,
    VERMILION,
    axis_label,
    canvas,
    draw_references,
    label,
    use_scale,
)
from analysis.charts.text import number
from searchers.record.schema import FINISHED

CHARACTERS = 14  # an inch
INK = "#8A3500"  # VERMILION, dark enough to be read


@dataclass(frozen=True)
class Belief:
    """The Gaussian process over `grid`, (G,), values of the dimension `name`.

    mean (G,): of the metric after full training, in its units; band (2, G): two standard deviations below and
    above it; band_of_run (2, G): those of one run's score, the noise of training and evaluation in it. gain
    (G,): the expected improvement, which proposes the next trial; None where several objectives do. foretold:
    it is of full training; else the model knows trials' last scores alone, of whatever epoch they are.
    at: the values of the other dimensions.
    """

    name: str
    grid: NDArray[np.float64]
    mean: NDArray[np.float64]
    band: NDArray[np.float64]
    band_of_run: NDArray[np.float64]
    gain: NDArray[np.float64] | None
    log: bool = False
    foretold: bool = True
    at: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Scored:
    """What trials reached: the score, its deviation (NaN: unknown) and the status, each (n,).

    settings: the values of each dimension that is drawn, (n,). finals, lows, highs: what the model expects of
    a trial that was not fully trained, and two standard deviations below and above it; NaN where unknown.
    """

    settings: Mapping[str, NDArray[np.float64]]
    scores: NDArray[np.float64]
    stds: NDArray[np.float64]
    status: Sequence[str]
    finals: NDArray[np.float64]
    lows: NDArray[np.float64]
    highs: NDArray[np.float64]


def draw_posterior(
    beliefs: Sequence[Belief],
    trials: Scored,
    metric: str,
    sign: int = 1,
    references: Mapping[str, float] | None = None,
) -> Figure:
    """Draw the score after full training with trials and references, and below it the expected improvement.

    A dimension has a column. Curves hold the others; the trials have values of their own there.

    Fully trained trials are filled. Others are hollow at the final score that the model expects, with a bar
    of ± 2σ and a thin line from the score at which they stopped: that one is another number.

    sign: 1 where lower is better, −1 where higher is. references: what images that no model made score.
    """
    one, gains = len(beliefs) == 1, beliefs[0].gain is not None
    heights = (3, 1) if gains else (1,)
    figure, grid = canvas(
        7.5 if one else 5.0 * len(beliefs),
        6.0 if gains else 4.5,
        len(heights),
        len(beliefs),
        squeeze=False,
        sharex="col",
        sharey="row",
        height_ratios=heights,
    )
    for belief, column in zip(beliefs, grid.T, strict=True):
        _draw_belief(column[0], belief, trials)
        draw_references(column[0], references or {})
        if belief.gain is not None:
            _draw_gain(column[1], belief.grid, belief.gain, named=one)
        column[-1].set_xlabel(label(belief.name))
        use_scale(column[-1], {"log": belief.log})
    grid[0, 0].set_ylabel(axis_label(metric, sign))
    if gains:
        grid[1, 0].set_ylabel("expected\nimprovement")
        grid[1, 0].set_ylim(bottom=0)
    if held := {**beliefs[0].at, **beliefs[-1].at}:
        place = ", ".join(f"{label(name)} = {number(value)}" for name, value in held.items())
        text = fill(f"The curves go through {place}.", int(CHARACTERS * figure.get_figwidth()))
        figure.supxlabel(text, fontsize=8)
    handles, labels = grid[0, 0].get_legend_handles_labels()
    figure.legend(
        handles, labels, ncols=3 * len(beliefs), loc="outside upper left", fontsize=8, frameon=False
    )
    return figure


def _draw_belief(axes: Axes, belief: Belief, trials: Scored) -> None:
    """Draw the mean and its bands, and the trials at their values of this dimension."""
    for band, alpha, name in ((belief.band_of_run, 0.12, "± 2σ of a run"), (belief.band, 0.25, "± 2σ")):
        axes.fill_between(belief.grid, *band, color=BLUE, alpha=alpha, linewidth=0, label=name)
    of = "after full training" if belief.foretold else "of the last scores"
    axes.plot(belief.grid, belief.mean, color="black", label=f"mean {of}")
    for status, (color, marker, _) in STATUS.items():
        chosen = np.array([s == status for s in trials.status])
        if chosen.any():
            _draw_trials(axes, trials, belief.name, chosen, status, color, marker)


def _draw_gain(axes: Axes, grid: NDArray[np.float64], gain: NDArray[np.float64], named: bool) -> None:
    """Draw the expected improvement; `named`: and where it is highest, which is the next trial's place."""
    axes.fill_between(grid, 0, gain, color=VERMILION, alpha=0.4, linewidth=0)
    if named and gain.max() > 0:
        best = grid[int(gain.argmax())]
        axes.axvline(best, color=VERMILION, linestyle="--")
        left = gain.argmax() > len(grid) / 2
        axes.annotate(
            f"next: {best:.4g}",
            (best, gain.max()),
            xytext=(-4 if left else 4, 2),
            textcoords="offset points",
            ha="right" if left else "left",
            color=INK,
        )


def _draw_trials(
    axes: Axes,
    trials: Scored,
    dimension: str,
    chosen: NDArray[np.bool_],
    status: str,
    color: str,
    marker: str,
) -> None:
    """Draw the trials of one status, those that were not fully trained at their expected final scores."""
    x, scores, whole = trials.settings[dimension][chosen], trials.scores[chosen], status == FINISHED
    expected = trials.finals[chosen]
    known = np.isfinite(expected) & (not whole)
    y = np.where(known, expected, scores)
    measured = 2 * trials.stds[chosen]
    below = np.where(known, y - trials.lows[chosen], measured)
    above = np.where(known, trials.highs[chosen] - y, measured)
    axes.vlines(x[known], scores[known], y[known], color=color, linewidth=0.8)
    axes.errorbar(
        x,
        y,
        np.nan_to_num(np.maximum([below, above], 0)),
        fmt=marker,
        color=color,
        markerfacecolor=color if whole else "white",
        markeredgecolor="black" if whole else color,
        label=status if whole or not known.any() else f"{status}: expected at the end, from where it is",
    )
