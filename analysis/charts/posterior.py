"""What the searcher believes over a one-dimensional space: [BVG], Figure 5."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
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
    legend_above,
    use_scale,
)
from searchers.record.schema import FINISHED

INK = "#8A3500"  # VERMILION, dark enough to be read


@dataclass(frozen=True)
class Belief:
    """The Gaussian process over `grid`, values of the dimension `name`; all arrays have the shape (G,).

    mean, std: of the metric, in its units. gain: the expected improvement, which proposes the next trial.
    """

    name: str
    grid: NDArray[np.float64]
    mean: NDArray[np.float64]
    std: NDArray[np.float64]
    gain: NDArray[np.float64]
    log: bool = False


@dataclass(frozen=True)
class Scored:
    """What trials reached: the setting, the score, its deviation (NaN: unknown) and the status, each (n,)."""

    settings: NDArray[np.float64]
    scores: NDArray[np.float64]
    stds: NDArray[np.float64]
    status: Sequence[str]


def draw_posterior(
    belief: Belief, trials: Scored, metric: str, sign: int = 1, references: Mapping[str, float] | None = None
) -> Figure:
    """Draw mean ± 2σ with the trials and the references on it, and below it the expected improvement.

    sign: 1 where lower is better, −1 where higher is. references: what images that no model made score.
    """
    grid, mean, band = belief.grid, belief.mean, 2 * belief.std
    figure, (above, below) = canvas(7.5, 5.5, 2, 1, sharex=True, height_ratios=(3, 1))
    above.fill_between(grid, mean - band, mean + band, color=BLUE, alpha=0.2, linewidth=0)
    above.plot(grid, mean, color="black", label="GP mean ± 2σ")
    deviations = np.nan_to_num(trials.stds)
    for status, (color, marker, _) in STATUS.items():
        chosen = np.array([s == status for s in trials.status])
        if chosen.any():
            # A score at another epoch is another number.
            name = status if status == FINISHED else f"{status}, its last epoch's score"
            above.errorbar(
                trials.settings[chosen],
                trials.scores[chosen],
                2 * deviations[chosen],
                fmt=marker,
                color=color,
                markeredgecolor="black",
                label=f"{name} ± 2σ" if deviations[chosen].any() else name,
            )
    draw_references(above, references or {})
    above.set_ylabel(axis_label(metric, sign))
    legend_above(above, 3)
    below.fill_between(grid, 0, belief.gain, color=VERMILION, alpha=0.4, linewidth=0)
    if belief.gain.max() > 0:
        best = grid[int(belief.gain.argmax())]
        below.axvline(best, color=VERMILION, linestyle="--")
        left = belief.gain.argmax() > len(grid) / 2
        below.annotate(
            f"next: {best:.4g}",
            (best, belief.gain.max()),
            xytext=(-4 if left else 4, 2),
            textcoords="offset points",
            ha="right" if left else "left",
            color=INK,
        )
    below.set(ylabel="expected\nimprovement", xlabel=label(belief.name))
    below.set_ylim(bottom=0)
    use_scale(below, {"log": belief.log})
    return figure
