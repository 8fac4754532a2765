"""Two objectives against each other, with the trials that no other one beats in both."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox
from numpy.typing import NDArray

from analysis.charts.style import (
    CYCLE,
    SCALE,
    STATUS,
    axis_label,
    canvas,
    draw_references,
    label,
    legend_above,
    plain,
)
from analysis.charts.text import number

PLACES = ((5, 4), (5, -11), (-5, -11), (-5, 4))  # of a name beside its point, the best first; points
DOT = 4  # half of one, in pixels


@dataclass(frozen=True)
class Objective:
    """One axis: a metric's key and `values` of each trial; sign: 1 where lower is better, −1 where higher."""

    name: str
    values: NDArray[np.float64]
    sign: int = 1


def pareto_front(scores: NDArray[np.float64]) -> NDArray[np.intp]:
    """Return the rows of scores (n, k) that no other row beats: is as good in all and better in one.

    Lower is better.
    """
    no_better = np.all(scores[:, None] >= scores, axis=2)
    worse = np.any(scores[:, None] > scores, axis=2)
    return np.flatnonzero(~np.any(no_better & worse, axis=1))


def draw_front(
    first: Objective,
    second: Objective,
    status: Sequence[str],
    setting: tuple[str, Sequence[Any]],
    on_front: Sequence[int] | NDArray[np.intp],
    trials: Sequence[int] | None = None,
) -> Figure:
    """Draw trials by two objectives, and each trial of the front with its setting.

    status: of each trial. setting: a dimension's name and each trial's value of it, which is the color where
    it is a number. on_front: the places of the front's trials; it is joined where these two objectives alone
    make it one. trials: their numbers, by which the front's are named where a setting has several parts.
    """
    figure, axes = canvas(6.5, 4.5)
    name, settings = setting
    numbers = all(isinstance(value, int | float | np.number) for value in settings)
    values = np.array(settings, dtype=float) if numbers else None
    for state, (color, marker, _) in STATUS.items():
        chosen = np.array([s == state for s in status])
        if chosen.any():
            x, y = first.values[chosen], second.values[chosen]
            style = {"marker": marker, "s": 36, "label": state, "edgecolors": "black", "linewidths": 0.5}
            if values is None:
                axes.scatter(x, y, color=color, **style)
            else:
                scale = {"vmin": np.nanmin(values), "vmax": np.nanmax(values), "cmap": SCALE}
                dots = axes.scatter(x, y, c=values[chosen], **scale, **style)
    if values is not None:
        figure.colorbar(dots, label=label(name))
    front = np.array(on_front, dtype=int)
    front = front[np.argsort(first.values[front])]
    x, y = first.values[front], second.values[front]
    if len(pareto_front(np.stack([first.sign * x, second.sign * y], axis=1))) == len(front):
        # At a given first score the line is at the second score of the next better trial.
        where = "post" if first.sign == 1 else "pre"
        axes.step(x, y, where=where, color="black", linewidth=1, zorder=0, label="Pareto front")
    axes.set_xlabel(axis_label(first.name, first.sign))
    axes.set_ylabel(axis_label(second.name, second.sign))
    axes.margins(0.1)
    legend_above(axes)
    of_setting = {index: f"{label(name)} = {number(settings[index])}" for index in front}
    names = {index: f"trial {trials[index]}" for index in front} if trials else of_setting
    name_points(figure, axes, np.stack([first.values, second.values], axis=1), names)
    return figure


def name_points(figure: Figure, axes: Axes, points: NDArray[np.float64], names: Mapping[int, str]) -> None:
    """Write the names of some of points (n, 2) beside them, after all else.

    Each covers no point and no other name where one of its places allows that.
    """
    figure.draw_without_rendering()  # until then no place is known
    taken = [Bbox([dot - DOT, dot + DOT]) for dot in axes.transData.transform(points)]
    taken += [text.get_window_extent() for text in axes.texts]
    for index, name in names.items():
        text = axes.annotate(
            plain(name), points[index], xytext=PLACES[0], textcoords="offset points", fontsize=8
        )
        for place in (*PLACES[1:], PLACES[0]):
            if not text.get_window_extent().count_overlaps(taken):
                break
            text.set(position=place, ha="left" if place[0] > 0 else "right")
        taken.append(text.get_window_extent())


def draw_cost(
    cost: Objective,
    score: Objective,
    groups: Sequence[str],
    names: Sequence[str],
    on_front: Sequence[int] | NDArray[np.intp],
    references: Mapping[str, float],
) -> Figure:
    """Draw what settings of one model are worth over what they cost, with the name of each on the front.

    groups: of each setting; those of one group are joined in the order of their cost.
    """
    figure, axes = canvas(6.5, 4.5)
    for color, group in zip(itertools.cycle(CYCLE), dict.fromkeys(groups), strict=False):
        chosen = np.flatnonzero([g == group for g in groups])
        chosen = chosen[np.argsort(cost.values[chosen])]
        axes.plot(
            cost.values[chosen], score.values[chosen], "o-", color=color, linewidth=1, label=plain(group)
        )
    front = np.array(on_front, dtype=int)
    front = front[np.argsort(cost.values[front])]
    x, y = cost.values[front], score.values[front]
    axes.step(x, y, where="post", color="black", linewidth=1, linestyle=":", zorder=0, label="Pareto front")
    draw_references(axes, references)
    axes.set(xscale="log", xlabel=axis_label(cost.name, cost.sign), ylabel=axis_label(score.name, score.sign))
    there: list[float] = []
    for value in np.unique(cost.values):
        if not there or value > 1.15 * there[-1]:  # else their numbers would overlap
            there.append(float(value))
    axes.set_xticks(there, labels=[f"{value:g}" for value in there])
    axes.minorticks_off()
    axes.margins(0.1)
    legend_above(axes)
    name_points(figure, axes, np.stack([cost.values, score.values], axis=1), {k: names[k] for k in front})
    return figure
