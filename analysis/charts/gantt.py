"""Which trial ran where and when."""

from itertools import pairwise

import pandas as pd
from matplotlib.figure import Figure

from analysis.charts.curves import rungs
from analysis.charts.style import STATUS, canvas, ink_on, legend_above, plain
from analysis.record.store import AnalysisError
from analysis.record.tables import Tables
from searchers.record.schema import INTERRUPTED, STOPPED

PAUSED = 2  # times as long as the trial's epochs take: such a gap behind a rung was not all training
TIME_UNITS = ((1, "seconds", 180), (60, "minutes", 3 * 3600), (3600, "hours", float("inf")))


def gantt(tables: Tables) -> Figure:
    """Which trial ran where and when; a row a worker's slot, no bar where a trial waited at a rung."""
    trials, sweep = tables.trials, tables.sweep
    if trials.empty:
        raise AnalysisError(f"Sweep {sweep.name!r} has no trial.")
    begin = trials["start"].min()
    seconds = (trials["end"].max() - begin).total_seconds()
    scale, unit_name = next((s, u) for s, u, most in TIME_UNITS if seconds < most)
    worked = stretches(tables)
    rows, names = lanes(worked)
    figure, axes = canvas(8, 1.2 + 0.4 * len(names))
    for row, lane in zip(worked.itertuples(), rows, strict=True):
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


def stretches(tables: Tables) -> pd.DataFrame:
    """Return when trials were trained, a row a stretch: `number`, `status`, `node`, `start`, `end`.

    The record has the times of results, not those of pauses. A trial that waited at a rung is taken to have
    gone on as long before its next result as its epochs take elsewhere, or up to half as long where a worker
    of its node became free only then.
    """
    halts, rows = set(rungs(tables)), []
    times = tables.history.groupby(["number", "epoch"])["time"].max()
    for trial in tables.trials.itertuples():
        results = times[trial.number] if trial.number in times.index.levels[0] else times.iloc[:0]
        known = pairwise([(0, trial.start), *results.items()])
        steps = [(before in halts, last, time) for (before, last), (_, time) in known]
        straight = [time - last for halted, last, time in steps if not halted]
        usual = pd.Series(straight, dtype="timedelta64[ns]").median()
        begin, slack = trial.start, pd.Timedelta(0)
        for halted, last, time in steps:
            if halted and time - last > PAUSED * usual:
                rows.append((trial, begin, last, slack))
                begin, slack = time - usual, usual / 2
        over = trial.status in (STOPPED, INTERRUPTED) and len(results)
        rows.append((trial, begin, results.iloc[-1] if over else trial.end, slack))
    names = ["number", "status", "node", "start", "end", "slack"]
    worked = pd.DataFrame([(t.number, t.status, t.node, *when) for t, *when in rows], columns=names)
    worked["node"] = worked["node"].where(worked["node"].map(lambda node: isinstance(node, str)), "worker")
    for row in worked.itertuples():
        ends = worked["end"][worked["node"] == row.node]
        near = ends[ends.between(row.start, row.start + row.slack)]
        worked.loc[row.Index, "start"] = max(row.start, *near) if len(near) else row.start
    return worked


def lanes(trials: pd.DataFrame) -> tuple[list[int], list[str]]:
    """Place trials on rows so that none overlap, by node; return rows and their names."""
    free: dict[str, list[pd.Timestamp]] = {}
    placed = []
    for row in trials.sort_values("start").itertuples():
        slots = free.setdefault(row.node, [])
        k = next((k for k, until in enumerate(slots) if until <= row.start), len(slots))
        slots[k : k + 1] = [row.end]
        placed.append((row.Index, row.node, k))
    lanes_by_node = [(node, k) for node in sorted(free) for k in range(len(free[node]))]
    order = {lane: row for row, lane in enumerate(lanes_by_node)}
    by_index = {index: order[node, k] for index, node, k in placed}
    names = [f"{node} · {k + 1}" if len(free[node]) > 1 else node for node, k in lanes_by_node]
    return [by_index[index] for index in trials.index], names
