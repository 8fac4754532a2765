"""Which trial ran where and when."""

import pandas as pd
from matplotlib.figure import Figure

from analysis.charts.style import STATUS, canvas, ink_on, legend_above, plain
from analysis.record.store import AnalysisError
from analysis.record.tables import Tables

TIME_UNITS = ((1, "seconds", 180), (60, "minutes", 3 * 3600), (3600, "hours", float("inf")))


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
        color = STATUS[row.status][0]
        axes.barh(lane, width, left=left, height=0.7, color=color, edgecolor="white", label=row.status)
        if width > 0.025 * seconds / scale:
            place = (left + width / 2, lane)
            axes.annotate(row.number, place, ha="center", va="center", fontsize=7, color=ink_on(color))
    axes.set_yticks(range(len(names)), [plain(name) for name in names])
    axes.invert_yaxis()
    axes.set_xlabel(f"{unit_name} since the first trial began")
    legend_above(axes)
    return figure


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
    lanes_by_node = [(node, k) for node in sorted(free) for k in range(len(free[node]))]
    order = {lane: row for row, lane in enumerate(lanes_by_node)}
    by_index = {index: order[node, k] for index, node, k in placed}
    names = [f"{node} · {k + 1}" if len(free[node]) > 1 else node for node, k in lanes_by_node]
    return [by_index[index] for index in trials.index], names
