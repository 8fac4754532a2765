"""What a tuner looks at: learning curves, the search over time, slices, workers, trade-offs.

Each function draws one figure of a sweep's tables, or raises AnalysisError with the reason why it can't.
"""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from analysis.charts.style import (
    CYCLE,
    GREY,
    SCALE,
    STATUS,
    canvas,
    in_lines,
    ink_on,
    label,
    legend_above,
    objective_label,
    unit,
    use_scale,
)
from analysis.command import number
from analysis.judgement.ranking import pareto_front
from analysis.record.runs import AnalysisError, Tables


def learning_curves(tables: Tables) -> Figure:
    """The objective over epochs, a line a trial, coloured by what became of it; ASHA's rungs as verticals."""
    sweep, best = tables.sweep, tables.best_first()["number"].iloc[0]
    curves = tables.curves(sweep.metric).replace([np.inf, -np.inf], np.nan).dropna(axis=1, how="all")
    figure, axes = canvas(7.5, 4.5)
    for row in tables.trials[tables.trials["number"].isin(curves.columns)].itertuples():
        colour, marker, line = STATUS[row.status]
        curve = curves[row.number].dropna()
        width, alpha = (2.5, 1.0) if row.number == best else (1.0, 0.6)
        axes.plot(curve.index, curve, line, color=colour, linewidth=width, alpha=alpha, label=row.status)
        axes.plot(curve.index[-1], curve.iloc[-1], marker, color=colour, markersize=5)
    last = curves[best].dropna()
    end = (last.index[-1], last.iloc[-1])
    axes.annotate(f"trial {best}", end, xytext=(6, 0), textcoords="offset points", fontsize=8, va="center")
    for rung in rungs(tables):
        axes.axvline(rung, color=GREY, linewidth=0.8, linestyle=":", label="rung of ASHA")
    axes.set(xlabel="epoch", ylabel=objective_label(sweep))
    axes.xaxis.get_major_locator().set_params(integer=True)
    legend_above(axes)
    return figure


def rungs(tables: Tables) -> list[int]:
    """Return the epochs at which ASHA decides; none where the sweep had no early stopping."""
    params = tables.sweep.params
    if params.get("early_stopping") != "True" or "grace_epochs" not in params:
        return []
    epochs, rung = tables.sweep.epochs or 0, int(params["grace_epochs"])
    factor, found = int(params.get("reduction_factor", 3)), []
    while rung < epochs:
        found.append(rung)
        rung *= factor
    return found


def seed_bands(sets: list[tuple[str, Tables]]) -> Figure:
    """The objective over epochs, mean ± one standard deviation over the trials that share a setting.

    sets: tables with the name of each; a setting is named by the set and by its place in the space.
    """
    first = sets[0][1].sweep
    figure, axes = canvas(7.5, 4.5)
    count = 0
    for name, tables in sets:
        if tables.sweep.metric != first.metric:
            raise AnalysisError(f"{name!r} is measured by {tables.sweep.metric}, not by {first.metric}.")
        curves = tables.curves(first.metric)
        scored = tables.scored()
        dimensions = [d for d in tables.space if d != "seed"]
        keys = scored[[f"params.{d}" for d in dimensions]].apply(tuple, axis=1)
        for key in keys.unique():
            numbers = scored["number"][keys == key]
            if len(numbers) < 2:
                continue
            chosen = curves[numbers]
            mean, std = chosen.mean(axis=1), chosen.std(axis=1, ddof=1)
            setting = ", ".join(f"{label(d)} = {number(v)}" for d, v in zip(dimensions, key, strict=True))
            colour, line = CYCLE[count % len(CYCLE)], ("-", "--", "-.", ":")[count // len(CYCLE) % 4]
            axes.plot(mean.index, mean, line, color=colour, label=f"{name}, {setting} (n = {len(numbers)})")
            axes.fill_between(mean.index, mean - std, mean + std, color=colour, alpha=0.2, linewidth=0)
            count += 1
    if not count:
        raise AnalysisError(
            "No setting was trained with several seeds; python -m analysis.winners --retrain-seeds does so."
        )
    axes.set(xlabel="epoch", ylabel=objective_label(first))
    axes.xaxis.get_major_locator().set_params(integer=True)
    legend_above(axes, columns=1)
    return figure


def evolution(tables: Tables) -> Figure:
    """The search in the order of its trials: the objective with the best so far, then each dimension."""
    sweep, scored = tables.sweep, tables.scored()
    space = dimensions_of(tables)
    figure, axes = canvas(7.5, 2.6 + 1.5 * len(space), 1 + len(space), 1, sharex=True, squeeze=False)
    axes = axes[:, 0]
    values = tables.objective[scored.index]
    _scatter(axes[0], scored, scored["number"], values)
    running = values.cummin() if sweep.mode == "min" else values.cummax()
    axes[0].step(scored["number"], running, where="post", color="black", linewidth=1, label="best so far")
    axes[0].set_ylabel(in_lines(objective_label(sweep)))
    legend_above(axes[0], 6)
    for ax, (name, domain) in zip(axes[1:], space.items(), strict=True):
        points = ax.scatter(scored["number"], _plotted(scored, name, domain), c=values, cmap=SCALE, s=24)
        _name_axis(ax, name, domain, "y")
    if len(space):
        figure.colorbar(points, ax=axes[1:], label=in_lines(label(sweep.metric)))
    axes[-1].set_xlabel("trial")
    axes[-1].xaxis.get_major_locator().set_params(integer=True)
    figure.align_ylabels(axes)
    return figure


def slices(tables: Tables) -> Figure:
    """The objective over each dimension alone."""
    scored, space = tables.scored(), dimensions_of(tables)
    width = min(4, len(space))
    rows = -(-len(space) // width)
    figure, axes = canvas(1 + 3.2 * width, 0.8 + 3 * rows, rows, width, sharey=True, squeeze=False)
    for ax, (name, domain) in zip(axes.flat, space.items(), strict=False):
        _scatter(ax, scored, _plotted(scored, name, domain), tables.objective[scored.index])
        _name_axis(ax, name, domain, "x")
    for ax in axes.flat[len(space) :]:
        ax.set_visible(False)
    for ax in axes[:, 0]:
        ax.set_ylabel(in_lines(objective_label(tables.sweep)))
    legend_above(axes[0, 0], 3)
    return figure


def gantt(tables: Tables) -> Figure:
    """Which trial ran where and when; a row a worker's slot."""
    trials, sweep = tables.trials, tables.sweep
    if trials.empty:
        raise AnalysisError(f"Sweep {sweep.name!r} has no trial.")
    begin = trials["start"].min()
    seconds = (trials["end"].max() - begin).total_seconds()
    scale, unit_name = next((s, u) for s, u, most in TIME_UNITS if seconds < most)
    rows, names = lanes(trials)
    figure, axes = canvas(8, 1.2 + 0.4 * len(names))
    for row, lane in zip(trials.itertuples(), rows, strict=True):
        left = (row.start - begin).total_seconds() / scale
        width = (row.end - row.start).total_seconds() / scale
        colour = STATUS[row.status][0]
        axes.barh(lane, width, left=left, height=0.7, color=colour, edgecolor="white", label=row.status)
        if width > 0.025 * seconds / scale:
            place = (left + width / 2, lane)
            axes.annotate(row.number, place, ha="center", va="center", fontsize=7, color=ink_on(colour))
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.set_xlabel(f"{unit_name} since the first trial began")
    legend_above(axes)
    return figure


TIME_UNITS = ((1, "seconds", 180), (60, "minutes", 3 * 3600), (3600, "hours", float("inf")))


def lanes(trials: pd.DataFrame) -> tuple[list[int], list[str]]:
    """Place trials on rows so that none overlap, by node where it is known; return rows and their names."""
    free: dict[str, list[pd.Timestamp]] = {}
    placed = []
    for row in trials.sort_values("start").itertuples():
        node = row.node if isinstance(row.node, str) else "worker"
        slots = free.setdefault(node, [])
        k = next((k for k, until in enumerate(slots) if until <= row.start), len(slots))
        slots[k : k + 1] = [row.end]
        placed.append((row.Index, node, k))
    order = {(node, k): None for node in sorted(free) for k in range(len(free[node]))}
    order = {slot: k for k, slot in enumerate(order)}
    by_index = {index: order[node, k] for index, node, k in placed}
    names = [f"{node} · {k + 1}" if len(free[node]) > 1 else node for node, k in order]
    return [by_index[index] for index in trials.index], names


def pareto(tables: Tables) -> Figure:
    """The objective against the sweep's second one, with the trials that no other one beats in both.

    A sweep of one objective is drawn against the error of reconstructions.
    """
    sweep, scored = tables.sweep, tables.scored()
    _, (other, other_sign), *_ = (*sweep.signs.items(), ("reconstruction_mse", 1))
    second = tables.metric(other)[scored.index]
    scored = scored[np.isfinite(second)]
    if scored.empty:
        raise AnalysisError(f"No trial of {sweep.name!r} has reported {other}.")
    first, second = tables.objective[scored.index], second[scored.index]
    figure, axes = canvas(6, 4.5)
    _scatter(axes, scored, first, second)
    front = pareto_front(np.stack([sweep.sign * first, other_sign * second], axis=1))
    chosen = scored.index[front][np.argsort(first.to_numpy()[front])]
    axes.step(
        first[chosen],
        second[chosen],
        where="post" if sweep.sign == 1 else "pre",  # who asks for a certain score gets the next better trial
        color="black",
        linewidth=1,
        label="Pareto front",
    )
    for k, index in enumerate(chosen):  # neighbours' numbers above and below
        axes.annotate(
            scored["number"][index],
            (first[index], second[index]),
            fontsize=8,
            xytext=(4, (4, -11)[k % 2]),
            textcoords="offset points",
        )
    direction = "lower" if other_sign == 1 else "higher"
    axes.set(xlabel=objective_label(sweep), ylabel=f"{label(other)}, {direction} is better")
    legend_above(axes)
    return figure


def dimensions_of(tables: Tables) -> dict[str, dict]:
    """Return the search space's dimensions that trials have recorded; raises AnalysisError without any."""
    if not tables.space:
        raise AnalysisError(f"The record of {tables.sweep.name!r} names no dimension of its search space.")
    return tables.space


def _scatter(axes, trials: pd.DataFrame, x, y) -> None:
    for status, (colour, marker, _) in STATUS.items():
        chosen = trials["status"] == status
        if chosen.any():
            axes.plot(x[chosen], y[chosen], marker, color=colour, markersize=5, alpha=0.85, label=status)


def _plotted(trials: pd.DataFrame, name: str, domain: dict) -> pd.Series:
    if domain.get("type") == "categorical":
        return pd.Series(
            unit(trials[f"params.{name}"], domain) * max(1, len(domain["choices"]) - 1), trials.index
        )
    return trials[f"params.{name}"]


def _name_axis(axes, name: str, domain: dict, which: str) -> None:
    (axes.set_xlabel if which == "x" else axes.set_ylabel)(label(name))
    use_scale(axes, domain, which)
    if domain.get("type") == "categorical":
        choices = [str(choice) for choice in domain["choices"]]
        slanted = {"rotation": 20, "ha": "right"} if which == "x" and len("".join(choices)) > 16 else {}
        (axes.set_xticks if which == "x" else axes.set_yticks)(range(len(choices)), choices, **slanted)
