"""The search: over time, and over each dimension alone; two objectives against each other.

Each function draws one figure of a sweep's tables, or raises AnalysisError with the reason why it can't.
"""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.charts.pareto import Objective, draw_front, pareto_front
from analysis.charts.style import (
    GREY,
    SCALE,
    STATUS,
    axis_label,
    canvas,
    draw_references,
    in_lines,
    label,
    legend_above,
    plain,
    unit,
    use_scale,
)
from analysis.record.store import AnalysisError
from analysis.record.tables import Tables
from searchers.record.schema import FINISHED


def evolution(tables: Tables) -> Figure:
    """The search in the order of its trials: the objective with the best so far, then each dimension.

    There the complete trials alone are colored by their scores: at other epochs those are other numbers.
    """
    sweep, scored = tables.sweep, tables.scored()
    space = dimensions_of(tables)
    figure, axes = canvas(7.5, 2.6 + 1.5 * len(space), 1 + len(space), 1, sharex=True, squeeze=False)
    axes = axes[:, 0]
    values = tables.objective[scored.index]
    _scatter(axes[0], scored, scored["number"], values)
    whole = tables.complete[scored.index]
    complete = scored[whole]
    ended = values[complete.index]
    running = ended.cummin() if sweep.mode == "min" else ended.cummax()
    name = "best so far, of those trained to the end"
    axes[0].step(complete["number"], running, where="post", color="black", linewidth=1, label=name)
    draw_references(axes[0], sweep.references())
    axes[0].set_ylabel(in_lines(axis_label(sweep.metric, sweep.sign)))
    legend_above(axes[0], 4)
    for ax, (name, domain) in zip(axes[1:], space.items(), strict=True):
        x, y = scored["number"], _plotted(scored, name, domain)
        points = ax.scatter(x[whole], y[whole], c=ended, cmap=SCALE, s=24)
        partial = {"facecolors": "none", "edgecolors": GREY, "label": "not trained to the end"}
        ax.scatter(x[~whole], y[~whole], s=24, **partial)
        _name_axis(ax, name, domain, "y")
    if not whole.all():
        legend_above(axes[1])
    if whole.any():
        figure.colorbar(points, ax=axes[1:], label=in_lines(label(sweep.metric)))
    axes[-1].set_xlabel("trial")
    axes[-1].xaxis.get_major_locator().set_params(integer=True)
    figure.align_ylabels(axes)
    return figure


def slices(tables: Tables) -> Figure:
    """The objective over each dimension alone."""
    sweep, scored, space = tables.sweep, tables.scored(), dimensions_of(tables)
    width = min(4, len(space))
    rows = -(-len(space) // width)
    figure, axes = canvas(1 + 3.2 * width, 0.8 + 3 * rows, rows, width, sharey=True, squeeze=False)
    for ax, (name, domain) in zip(axes.flat, space.items(), strict=False):
        _scatter(ax, scored, _plotted(scored, name, domain), tables.objective[scored.index])
        _name_axis(ax, name, domain, "x")
    for ax in axes.flat[: len(space)]:
        draw_references(ax, sweep.references())
    for ax in axes.flat[len(space) :]:
        ax.set_visible(False)
    for ax in axes[:, 0]:
        ax.set_ylabel(in_lines(axis_label(sweep.metric, sweep.sign)))
    legend_above(axes[0, 0], 3)
    return figure


def pareto(tables: Tables) -> Figure:
    """The objective against the sweep's second one, with the trials that no other one beats in both.

    A front of one trial is said, not drawn.

    A sweep of one objective is drawn against the error of reconstructions. Only complete trials are drawn:
    scores at other epochs are other numbers.
    """
    sweep = tables.sweep
    complete = tables.complete[tables.scored().index]
    scored = tables.scored()[complete]
    _, (other, other_sign), *_ = (*sweep.signs.items(), ("reconstruction_mse", 1))
    second = tables.metric(other)[scored.index]
    scored = scored[np.isfinite(second)]
    if scored.empty:
        raise AnalysisError(f"No trial of {sweep.name!r} that was trained to the end has reported {other}.")
    objectives = sweep.signs if len(sweep.signs) > 1 else {sweep.metric: sweep.sign, other: other_sign}
    scores = np.stack([sign * tables.metric(k)[scored.index] for k, sign in objectives.items()], axis=1)
    on_front = pareto_front(scores)
    if len(on_front) < 2:
        best = scored["number"].iloc[on_front[0]]
        raise AnalysisError(
            f"Trial {best} of {sweep.name!r} is the best in {' and in '.join(objectives)}: no front to draw."
        )
    name, *others = dimensions_of(tables)
    return draw_front(
        Objective(sweep.metric, tables.objective[scored.index].to_numpy(float), sweep.sign),
        Objective(other, second[scored.index].to_numpy(float), other_sign),
        list(scored["status"]),
        (name, list(scored[f"params.{name}"])),
        on_front,
        list(scored["number"]) if others else None,
    )


def dimensions_of(tables: Tables) -> dict[str, dict[str, Any]]:
    """Return the search space's dimensions that trials have recorded; raises AnalysisError without any."""
    if not tables.space:
        raise AnalysisError(f"The record of {tables.sweep.name!r} names no dimension of its search space.")
    return tables.space


def _scatter(axes: Axes, trials: pd.DataFrame, x: pd.Series, y: pd.Series) -> None:
    """Draw trials by status; those that were not fully trained are hollow, as their scores are others."""
    for status, (color, marker, _) in STATUS.items():
        chosen = trials["status"] == status
        if chosen.any():
            style: dict[str, Any] = {"markersize": 5, "alpha": 0.85, "label": status}
            face = color if status == FINISHED else "none"
            axes.plot(x[chosen], y[chosen], marker, color=color, markerfacecolor=face, **style)


def _plotted(trials: pd.DataFrame, name: str, domain: dict[str, Any]) -> pd.Series:
    if domain.get("type") == "categorical":
        return pd.Series(
            unit(trials[f"params.{name}"], domain) * max(1, len(domain["choices"]) - 1), trials.index
        )
    return trials[f"params.{name}"]


def _name_axis(axes: Axes, name: str, domain: dict[str, Any], which: str) -> None:
    (axes.set_xlabel if which == "x" else axes.set_ylabel)(label(name))
    use_scale(axes, domain, which)
    if domain.get("type") == "categorical":
        choices = [plain(str(choice)) for choice in domain["choices"]]
        crowded = which == "x" and len("".join(choices)) > 16
        slanted: dict[str, Any] = {"rotation": 20, "ha": "right"} if crowded else {}
        (axes.set_xticks if which == "x" else axes.set_yticks)(range(len(choices)), choices, **slanted)
