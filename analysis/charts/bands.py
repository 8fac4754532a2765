"""Means over several trainings of the same, with a band of one standard deviation: [BVG], Figure 3."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from analysis.charts.style import CYCLE, axis_label, canvas, draw_references, legend_above, plain

MARKED = 20  # points of a line; more are no points any longer
LINES = ("-", "--", "-.", ":")


@dataclass(frozen=True)
class Band:
    """Trainings of one setting: `values` (trainings, epochs) at `epochs`; `color`, if it has its own."""

    name: str
    epochs: Sequence[int]
    values: NDArray[np.float64]
    color: str | None = None


def draw_bands(
    bands: Sequence[Band], metric: str, sign: int = 1, references: Mapping[str, float] | None = None
) -> Figure:
    """Draw each band's mean over its trainings ± one standard deviation (n − 1), over epochs."""
    figure, axes = canvas(7.5, 4.5)
    for k, band in enumerate(bands):
        color = band.color or CYCLE[k % len(CYCLE)]
        n = len(band.values)
        name = f"{plain(band.name)} (n = {n})"
        draw_band(axes, band.epochs, band.values, color, name, LINES[k // len(CYCLE) % len(LINES)])
    draw_references(axes, references or {})
    axes.set(xlabel="epoch", ylabel=axis_label(metric, sign))
    axes.xaxis.get_major_locator().set_params(integer=True)
    legend_above(axes, columns=1 if max(len(band.name) for band in bands) > 20 else 3)
    return figure


def draw_band(
    axes: Axes,
    x: Sequence[int],
    values: NDArray[np.float64],
    color: str,
    name: str,
    line: str = "-",
    steps: bool = False,
) -> None:
    """Draw the mean of values (n, len(x)) as a line, and one standard deviation around it.

    With `steps` a value holds until the next one.
    """
    mean = np.nanmean(values, axis=0)
    std = np.nanstd(values, axis=0, ddof=1) if len(values) > 1 else np.zeros(len(mean))
    marker = "o" if len(x) <= MARKED else ""
    style = "steps-post" if steps else "default"
    axes.plot(x, mean, line, marker=marker, markersize=3, color=color, label=name, drawstyle=style)
    axes.fill_between(
        x, mean - std, mean + std, color=color, alpha=0.2, linewidth=0, step="post" if steps else None
    )
