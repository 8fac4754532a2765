"""The papers' tables with our numbers beside theirs.

    python -m analysis.tables [--only vaegan-beta] [--sweep NAME …] [--form markdown] [--output FILE]

Our numbers stand in as many columns as there are conditions under which they were measured: what another
extractor, number of images, likelihood, data set, width, recipe or number of epochs has scored is never
in the same column, nor ranked with it.
"""

import io
import sys
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import pandas as pd
from rich.console import Console
from rich.table import Table
from rich.text import Text

from analysis.charts.text import number, with_deviation
from analysis.command import run_command
from analysis.judgement import comparable
from analysis.papers import TABLES, Column, PaperTable, Row
from analysis.record.store import AnalysisError, connect
from analysis.record.sweeps import distinct, sweeps
from analysis.record.trials import load_trials
from searchers.record.schema import (
    FINISHED,
    MODEL_TAG,
    OF_THIS_RUN,
    REFERENCE_PARAM,
    REFERENCES,
    reference_param,
)

if TYPE_CHECKING:
    from mlflow import MlflowClient

PROGRAM = "python -m analysis.tables"
# Not what a score means, but what was trained and what it was given.
GIVEN = {"epoch": "epochs", "params.width": "width", "recipe": "recipe"}
# Besides those of a run: what a row or a column of a table says itself, and what follows from other settings.
NO_SETTINGS = OF_THIS_RUN | {"model", "dataset", "features", "feature_identity", "beta_norm"}
LATEX = {
    "\\": "\\textbackslash ",
    "_": "\\_",
    "%": "\\%",
    "&": "\\&",
    "#": "\\#",
    "$": "\\$",
    "{": "\\{",
    "}": "\\}",
    "~": "\\textasciitilde ",
    "^": "\\textasciicircum ",
    "β": "$\\beta$",
    "±": "$\\pm$",
    "×": "$\\times$",
    "²": "$^2$",
    "·": "$\\cdot$",
    "–": "--",
}
Form = Literal["terminal", "markdown", "csv", "latex"]


@dataclass(frozen=True)
class TablesConfig:
    """Options of `analysis.tables`."""

    sweep: tuple[str, ...] = ()
    """names of the sweeps to take numbers from; all, if none is given"""
    only: str | None = None
    """key of one table; all, if not given"""
    form: Form = "terminal"
    """how to write them"""
    output: Path | None = None
    """file to write to; the terminal, if not given"""
    tracking_uri: str | None = None
    """MLflow's database or server; MLFLOW_TRACKING_URI or sqlite:///mlflow.db, if not given"""
    on: str | None = None
    """run it on the cluster of this file, such as ray_cluster.yaml, where the record is; what it writes comes
    here"""


@dataclass(frozen=True)
class Filled:
    """A table with numbers: `cells` by row and column, `best` where a cell is its column's, `notes` below."""

    paper: PaperTable
    cells: pd.DataFrame
    best: pd.DataFrame
    notes: list[str]


def tables(config: TablesConfig, console: Console) -> int:
    """Print the papers' tables with our numbers beside theirs."""
    known = [table.key for table in TABLES]
    if config.only is not None and config.only not in known:
        raise AnalysisError(f"There is no table {config.only!r}; there are: {', '.join(known)}.")
    client = connect(config.tracking_uri)
    trials = all_trials(client, config.sweep)
    chosen = [table for table in TABLES if config.only in (None, table.key)]
    filled = [fill(table, trials) for table in chosen]
    ours = [table for table in filled if table.notes]
    if config.only is None:
        filled = ours
    if not filled:
        raise AnalysisError("No finished trial of these sweeps belongs into a table of the papers.")
    if config.form == "terminal" and config.output is None:
        for table in filled:
            show(table, console)
        return 0
    text = "\n".join(write(table, config.form) for table in filled)
    if config.output is None:
        print(text, end="")
    else:
        config.output.write_text(text, encoding="utf-8", errors="replace")
        console.print(f"Wrote {config.output}", soft_wrap=True)
    return 0


def all_trials(client: "MlflowClient", names: tuple[str, ...]) -> pd.DataFrame:
    """Return the finished trials of sweeps in one table.

    Beside their columns: `model`, `recipe`, `sweep` and the references' scores.
    """
    chosen = distinct(client, names).values() or sweeps(client)
    parts = []
    for sweep in chosen:
        trials = load_trials(client, sweep)
        known = {k: float(v) for k, v in sweep.params.items() if k.startswith(REFERENCE_PARAM)}
        parts.append(trials.assign(model=sweep.tags.get(MODEL_TAG, ""), sweep=sweep.name, **known))
    parts = [part for part in parts if len(part)]
    if not parts:
        raise AnalysisError(f"The record has no trial{' of ' * bool(names)}{', '.join(names)}.")
    trials = pd.concat(parts, ignore_index=True)
    recipe = trials.get("params.recipe", pd.Series(index=trials.index, dtype=object))
    modern = trials["model"].str.contains(".modern:", regex=False)
    trials["recipe"] = recipe.fillna(modern.map({True: "modern", False: "report"}))
    return trials[trials["status"] == FINISHED]


def fill(table: PaperTable, trials: pd.DataFrame) -> Filled:
    """Put our numbers beside the paper's."""
    labels = [row.label for row in table.rows]
    values, texts = pd.DataFrame(index=labels), pd.DataFrame(index=labels)
    notes: list[str] = []
    signs: dict[str, int] = {}
    references: dict[str, dict[str, str]] = {}  # by column and row
    for column in table.columns:
        published = [row.published.get(column.label) for row in table.rows]
        if any(value is not None for value in published):
            name = f"{column.label}, paper"
            texts[name] = [_published(value) for value in published]
            values[name] = [np.nan if value is None else np.ravel(value)[0] for value in published]
            signs[name] = column.sign
        for metric in _metrics(column, trials):
            scored = matching(trials, table.match)
            scored = scored[np.isfinite(scored[f"metrics.{metric}"].astype(float))]
            for depends, group in comparable.groups(scored, metric, GIVEN) if len(scored) else ():
                cells = [cell(row, group, metric, column.sign) for row in table.rows]
                if all(value is None for value, _ in cells):
                    continue
                name = f"{column.label}, ours [{len(notes) + 1}]"
                texts[name] = [text for _, text in cells]
                values[name] = [np.nan if value is None else value for value, _ in cells]
                signs[name] = column.sign
                references[name] = references_of(group, metric)
                notes.append(f"[{len(notes) + 1}] {metric}; {comparable.describe(depends, group)}")
    best = pd.DataFrame({name: signs[name] * values[name] for name in values})
    best = best.eq(best.min()) & (best.notna().sum() > 1)
    for label in REFERENCES:
        if any(label in known for known in references.values()):
            texts.loc[label] = [references.get(name, {}).get(label, "–") for name in texts]
    return Filled(table, texts, best.reindex(texts.index, fill_value=False), notes)


def references_of(group: pd.DataFrame, metric: str) -> dict[str, str]:
    """Return what images that no model made score, by name, where it is one number for a whole group."""
    found: dict[str, str] = {}
    for label, key in REFERENCES.items():
        column = reference_param(key, metric)
        if column in group and group[column].nunique(dropna=False) == 1:
            value = float(group[column].iloc[0])
            found |= {label: number(value)} if np.isfinite(value) else {}
    return found


def matching(trials: pd.DataFrame, match: dict[str, object]) -> pd.DataFrame:
    """Return the trials whose columns are as `match` says; numbers may differ by rounding."""
    for column, wanted in match.items():
        if column not in trials:
            return trials.iloc[:0]
        if column == "model":
            # A sweep that compares models names each trial's itself.
            of_sweep = trials["model"].str.endswith(wanted)
            trials = trials[of_sweep & trials.get("params.model", pd.Series(index=trials.index)).isna()]
        elif isinstance(wanted, int | float):
            found = pd.to_numeric(trials[column], errors="coerce")
            trials = trials[np.isclose(found, wanted, rtol=1e-6)]
        else:
            trials = trials[trials[column].astype(str) == wanted]
    return trials


def cell(row: Row, group: pd.DataFrame, metric: str, sign: int) -> tuple[float | None, str]:
    """Return a row's value in a group of comparable trials, and how it is written.

    Several trials that differ in the seed alone: mean ± standard deviation and their number; of several
    settings the best one's. The best one of a search: its value ± the recorded deviation and its place.
    """
    found = matching(group, row.match)
    if found.empty and row.or_match is not None:
        found = matching(group, row.or_match)
    if found.empty:
        return None, "–"
    values = found[f"metrics.{metric}"].astype(float)
    if row.best:
        best = found.loc[(sign * values).idxmin()]
        told = [place for place in row.best if pd.notna(best.get(place))]
        places = [f"{place.removeprefix('params.')} = {number(best[place])}" for place in told]
        return float(values[best.name]), f"{_with_std(best, metric)} ({', '.join(places)})"
    # The same training as two sweeps recorded it, as the first β of one and a baseline of the other.
    found = found.assign(seed=found.get("params.seed")).drop_duplicates(["seed", f"metrics.{metric}"])
    settings = pd.Series(found[_settings(found)].to_numpy().tolist(), found.index).map(str)
    means = sign * values[found.index].groupby(settings).mean()
    same = found[settings == means.idxmin()]
    remarks = [f"n = {len(same)}"] * (len(same) > 1) + [f"best of {len(means)} settings"] * (len(means) > 1)
    values = values[same.index]
    mean = float(values.mean())
    text = with_deviation(mean, values.std(ddof=1)) if len(same) > 1 else _with_std(same.iloc[0], metric)
    return mean, text + f" ({', '.join(remarks)})" * bool(remarks)


def _settings(trials: pd.DataFrame) -> list[str]:
    """Return the columns of what was set of a training; `Tables.settings` is of one sweep, this of any."""
    settings = (column for column in trials if column.startswith("params."))
    return [column for column in settings if column.removeprefix("params.") not in NO_SETTINGS]


def _with_std(trial: pd.Series, metric: str) -> str:
    return with_deviation(trial[f"metrics.{metric}"], float(trial.get(f"metrics.{metric}_std", np.nan)))


def _published(value: float | tuple[float, float] | None) -> str:
    if value is None:
        return "–"
    return f"{value[0]:g} ± {value[1]:g}" if isinstance(value, tuple) else f"{value:.6g}"


def _metrics(column: Column, trials: pd.DataFrame) -> list[str]:
    """Return our keys of a column; `f*d*` is `fid` and every `fd_<extractor>`."""
    keys = [c.removeprefix("metrics.") for c in trials.columns if c.startswith("metrics.")]
    if column.metric == "f*d*":
        # Those against the images of one degree, and their deviations, are something else.
        distances = [
            k for k in keys if k.startswith("fd_") and not k.endswith("_std") and "_degree_" not in k
        ]
        return [k for k in keys if k == "fid"] + distances
    return [key for key in keys if fnmatch(key, column.metric)]


def show(filled: Filled, console: Console) -> None:
    """Print a table."""
    table = rich_table(filled, filled.cells)
    if console.measure(table).maximum > console.width:
        table = rich_table(filled, filled.cells.map(lambda cell: cell.replace(" (", "\n(")))
    console.print(table)
    for line in footnotes(filled):
        console.print(line, style="dim")
    console.print()


def rich_table(filled: Filled, cells: pd.DataFrame) -> Table:
    """Return a table for the terminal, the best of each column bold."""
    table = Table(title=filled.paper.title, title_justify="left")
    for name in ("", *cells):
        table.add_column(name, justify="right" if name else "left")
    for label in cells.index:
        styles = ["bold" if filled.best.loc[label, name] else "" for name in cells]
        table.add_row(
            label, *(Text(cell, style) for cell, style in zip(cells.loc[label], styles, strict=True))
        )
    return table


def footnotes(filled: Filled) -> list[str]:
    """Return what stands below a table."""
    lines = [f"paper: {filled.paper.conditions}", *filled.notes]
    return lines + [filled.paper.note] * bool(filled.paper.note)


def write(filled: Filled, form: Form) -> str:
    """Return a table as Markdown, CSV or LaTeX; bold is the best of a column."""
    cells, title = filled.cells, filled.paper.title
    if form == "csv":
        file = io.StringIO()
        cells.rename_axis(title).to_csv(file)
        return file.getvalue() + "".join(f"# {line}\n" for line in footnotes(filled))
    if form == "latex":
        styled = cells.map(_latex).where(~filled.best, "\\textbf{" + cells.map(_latex) + "}")
        styled.index = [_latex(label) for label in cells.index]
        styled.columns = [_latex(name) for name in cells.columns]
        body = styled.to_latex(column_format="l" + "r" * cells.shape[1], escape=False)
        below = "".join(f"\\par {_latex(line)}\n" for line in footnotes(filled))
        return f"% {title}; needs \\usepackage{{booktabs}}\n{body}{{\\footnotesize\n{below}}}\n\n"
    cells = cells.map(lambda cell: cell.replace("|", "\\|"))
    bold = cells.where(~filled.best, "**" + cells + "**")
    lines = [f"### {title}", "", "| | " + " | ".join(cells.columns) + " |"]
    lines.append("|---|" + "---:|" * cells.shape[1])
    lines += [f"| {label} | " + " | ".join(bold.loc[label]) + " |" for label in cells.index]
    return "\n".join([*lines, "", *(f"{line}  " for line in footnotes(filled)), ""]) + "\n"


def _latex(text: str) -> str:
    return "".join(LATEX.get(letter, letter) for letter in text)


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return its exit code."""
    return run_command(PROGRAM, TablesConfig, tables, arguments)


if __name__ == "__main__":
    sys.exit(main())
