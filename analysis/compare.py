"""Which search pays: the best fully trained trial so far over the epochs spent, sweep beside sweep.

    python -m analysis.compare SWEEP SWEEP … [--by searcher] [--output compare.png]

Sweeps that agree in the setting `--by` are one line: their mean, with a band of one standard deviation.
"""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
import pandas as pd
import tyro
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

from analysis.charts.bands import draw_band
from analysis.charts.style import CYCLE, axis_label, canvas, legend_above, plain
from analysis.charts.text import number, with_deviation
from analysis.command import run_command
from analysis.judgement.comparable import refuse_unlike
from analysis.record.store import AnalysisError, connect
from analysis.record.sweeps import distinct
from analysis.record.tables import Tables, load

if TYPE_CHECKING:
    from collections.abc import Sequence

PROGRAM = "python -m analysis.compare"
LONG = 30  # letters of a name, three of which do not stand beside each other


@dataclass(frozen=True)
class CompareConfig:
    """Options of `analysis.compare`."""

    sweeps: tyro.conf.Positional[tuple[Annotated[str, tyro.conf.arg(metavar="SWEEP")], ...]]
    """names or ids of two sweeps or more"""
    by: str | None = None
    """setting by which sweeps are one line, such as searcher; each is its own, if not given"""
    output: Path = Path("compare.png")
    """file of the figure: PNG, SVG or PDF"""
    tracking_uri: str | None = None
    """MLflow's database or server; MLFLOW_TRACKING_URI or sqlite:///mlflow.db, if not given"""
    on: str | None = None
    """run it on the cluster of this file, such as ray_cluster.yaml, where the record is; what it writes comes
    here"""


def best_so_far(tables: Tables) -> pd.Series:
    """Return the best score of a fully trained trial after so many epochs, all trials' together.

    The index is the epochs spent, in the order in which they were reported; NaN before the first such trial.
    """
    metric, sign = tables.sweep.metric, tables.sweep.sign
    rows = tables.history[tables.history["metric"] == metric].sort_values(["time", "number", "epoch"])
    before = rows.groupby("number", observed=True)["epoch"].shift(fill_value=0)
    spent = (rows["epoch"] - before).cumsum()
    complete = set(tables.trials.loc[tables.complete, "number"])
    last = tables.trials.set_index("number")["epoch"]
    final = rows["number"].isin(complete) & (rows["epoch"] == rows["number"].map(last))
    best = sign * (sign * rows["value"].where(final & np.isfinite(rows["value"]))).cummin().ffill()
    return pd.Series(best.to_numpy(), index=spent.to_numpy(dtype=int)).groupby(level=0).last()


def at(curve: pd.Series, spent: "Sequence[int]") -> np.ndarray:
    """Return what a curve has reached after so many epochs; NaN before its first value and past its end."""
    values = curve.reindex(curve.index.union(spent)).ffill().reindex(spent).to_numpy(dtype=float)
    return np.where(np.asarray(spent) <= curve.index.max(), values, np.nan)


def draw(lines: dict[str, list[pd.Series]], metric: str, sign: int) -> Figure:
    """Draw each line's mean over its sweeps ± one standard deviation, from where all have a value."""
    figure, axes = canvas(7.5, 4.5)
    for k, (name, curves) in enumerate(lines.items()):
        spent = sorted(set().union(*(curve.index for curve in curves)))
        values = np.array([at(curve, spent) for curve in curves])
        shown = np.isfinite(values).all(axis=0)
        if shown.any():
            label = f"{plain(name)} (n = {len(curves)})" if len(curves) > 1 else plain(name)
            x = list(np.array(spent)[shown])
            draw_band(axes, x, values[:, shown], CYCLE[k % len(CYCLE)], label, steps=True)
    best = f"best {axis_label(metric, sign)}".replace(", ", "\n")  # longer than the axis is high
    axes.set(xlabel="epochs, all trials together", ylabel=best)
    legend_above(axes, columns=1 if max(map(len, lines)) > LONG else 3)
    return figure


def grouped(all_tables: dict[str, Tables], by: str | None) -> dict[str, list[Tables]]:
    """Return sweeps, which come by name, by line.

    Raises AnalysisError where one has no setting of the name `by`.
    """
    lines: dict[str, list[Tables]] = {}
    for name, tables in all_tables.items():
        settings = tables.sweep.arguments or {}
        if by is not None and by not in settings:
            known = ", ".join(sorted(settings)) or "none"
            raise AnalysisError(f"{tables.sweep.name!r} has no setting {by!r}; it has: {known}.")
        lines.setdefault(name if by is None else str(settings[by]), []).append(tables)
    return lines


def compare(config: CompareConfig, console: Console) -> int:
    """Show which sweep found a good trial first, and which the best."""
    if config.output.suffix.lower() not in (".png", ".svg", ".pdf"):
        raise AnalysisError(f"--output {config.output}: its name ends in .png, .svg or .pdf")
    client = connect(config.tracking_uri)
    all_tables = {name: load(client, sweep) for name, sweep in distinct(client, config.sweeps).items()}
    if len(all_tables) < 2:
        raise AnalysisError("Name two sweeps or more.")
    first, *_ = all_tables.values()
    refuse_unlike(list(all_tables.values()))
    metric, sign = first.sweep.metric, first.sweep.sign
    lines = {
        name: [best_so_far(tables) for tables in members]
        for name, members in grouped(all_tables, config.by).items()
    }
    ends = [curve.dropna() for curves in lines.values() for curve in curves]
    if any(curve.empty for curve in ends):
        raise AnalysisError("A sweep has no fully trained trial: scores at other epochs are not comparable.")
    worst = max(sign * curve.iloc[-1] for curve in ends) * sign
    table = Table(title=f"Best {metric} of a fully trained trial", title_justify="left")
    for name in (config.by or "sweep", "sweeps", "epochs", f"best {metric}", f"epochs to {number(worst)}"):
        table.add_column(name, justify="left" if name == (config.by or "sweep") else "right")
    for name, curves in lines.items():
        finals = np.array([curve.dropna().iloc[-1] for curve in curves])
        reached = [int(curve[sign * curve <= sign * worst].index[0]) for curve in curves]
        spread = float(finals.std(ddof=1)) if len(finals) > 1 else float("nan")
        table.add_row(
            name,
            str(len(curves)),
            number(float(np.mean([curve.index.max() for curve in curves]))),
            with_deviation(float(finals.mean()), spread),
            number(float(np.mean(reached))),
        )
    console.print(table)
    config.output.parent.mkdir(parents=True, exist_ok=True)
    draw(lines, metric, sign).savefig(config.output, dpi=150)
    console.print(f"Figure: {config.output}", highlight=False, soft_wrap=True)
    return 0


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return its exit code."""
    return run_command(PROGRAM, CompareConfig, compare, arguments)


if __name__ == "__main__":
    sys.exit(main())
