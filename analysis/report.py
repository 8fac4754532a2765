"""A sweep as one HTML file that a person sends to a colleague: no network, no server.

    python -m analysis.report --sweep NAME [--beside OTHER …] [--output NAME.html]

The page is `report.html` beside this file, with the data as JSON in it: the question, the answer and how sure
it is, curves and points that respond, images, settings and provenance of each trial, and the commands.
"""

import io
import json
import shlex
import sys
from collections.abc import Callable, Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
from matplotlib.figure import Figure
from rich.console import Console

from analysis.charts.curves import rungs
from analysis.charts.style import STATUS, axis_label, label
from analysis.charts.text import file_name
from analysis.command import Record, run_command
from analysis.figures import FiguresConfig, chart_functions, subject_of
from analysis.judgement import comparable
from analysis.judgement.rows import plain, rows_of
from analysis.judgement.seeds import ranking_over_seeds, seeds_of
from analysis.judgement.verdict import front, ranking_of, verdict_of, verdict_over_seeds
from analysis.record.belief import belief_of
from analysis.record.images import data_uri, images_of
from analysis.record.store import AnalysisError, connect
from analysis.record.sweeps import Sweep, distinct
from analysis.record.tables import Tables, load
from searchers.record.schema import COMMAND_TAG, MODEL_TAG, STOPPED
from trainables.data.store import DataError

if TYPE_CHECKING:
    from mlflow import MlflowClient

PROGRAM = "python -m analysis.report"
CAPTIONS = {
    "posterior": "What the searcher believed at the end of each dimension, the others as in the best trial: "
    "mean ± 2σ, and the expected improvement.",
    "importance": "How much of the score's variance each setting explains (fANOVA).",
    "pairs": "The score over pairs of settings, interpolated between the trials.",
    "parallel": "Each trial's settings and score.",
    "evolution": "The search in the order of its trials.",
    "gantt": "Which trial ran where and when.",
    "seed-bands": "Settings over training seeds: mean ± one standard deviation.",
    "pareto": "The score against a second one; no trial beats those on the line in both.",
}
NEAREST = "Is a draw of the best model a copy of a training image?"

Images = Callable[["MlflowClient", Tables, list[int]], dict[int, dict[str, dict[int, str]]]]


@dataclass(frozen=True)
class ReportConfig(Record):
    """Options of `analysis.report`."""

    output: Path | None = None
    """file to write; NAME.html, if not given"""
    beside: tuple[str, ...] = ()
    """further sweeps in the same file"""


def report(config: ReportConfig, console: Console) -> int:
    """Write the report of a sweep, or of several."""
    client = connect(config.tracking_uri)
    sweeps = distinct(client, (config.sweep, *config.beside))
    output = config.output or Path(f"{file_name(next(iter(sweeps.values())).name)}.html")
    output.parent.mkdir(parents=True, exist_ok=True)
    page = render(
        [
            content(client, load(client, sweep), config.tracking_uri) | {"name": name}
            for name, sweep in sweeps.items()
        ]
    )
    # A name that is not UTF-8 stands in the page as JSON escapes it.
    output.write_bytes(page.encode("utf-8", "backslashreplace"))
    console.print(f"Wrote {output} ({output.stat().st_size / 1e6:.1f} MB)", soft_wrap=True)
    return 0


def render(sweeps: list[dict[str, Any]]) -> str:
    """Return the page of sweeps, each as `content` returns it; the first is shown."""
    data = json.dumps(sweeps, ensure_ascii=False, allow_nan=False)
    template = (files("analysis") / "report.html").read_text(encoding="utf-8")
    # No "</script>" of a value may end the element that holds them.
    return template.replace("/*DATA*/", data.replace("<", "\\u003c"))


def content(
    client: "MlflowClient",
    tables: Tables,
    tracking_uri: str | None,
    figures: Collection[str] = (*CAPTIONS, "nearest"),
    images: Images = images_of,
) -> dict[str, Any]:
    """Return all that the page shows of a sweep, with these figures. Raises AnalysisError without a score."""
    sweep, metric = tables.sweep, tables.sweep.metric
    groups = comparable.groups(tables.scored(), metric)
    ranked = ranking_of(tables, groups[0][1])
    known = seeds_of(client, tables)
    seeds = None if known is None else ranking_over_seeds(tables, known)
    order = [int(n) for n in ranked["number"]]
    verdict = verdict_of(tables, ranked) if known is None else verdict_over_seeds(tables, known)
    return {
        "name": sweep.name,
        "metric": metric,
        "metric_name": shown(label(metric)),
        "metric_label": shown(axis_label(metric, sweep.sign)),
        "labels": {name: shown(label(name)) for name in tables.settings},
        "objectives": list(sweep.signs),
        "references": [{"name": name, "value": value} for name, value in sweep.references().items()],
        "front": front(tables, ranked[ranked["ranked"]]),
        "question": question(tables),
        "answer": verdict.headline,
        "details": list(verdict.details),
        "caveats": list(caveats(tables, len(groups), seeds is not None)),
        "seeds": over_seeds(tables, seeds),
        "story": story(tables),
        "space": {name: shown_domain(domain) for name, domain in tables.space.items()},
        "rungs": [int(e) for e in sorted(set(tables.trials["epoch"][tables.trials["status"] == STOPPED]))],
        "status_colors": {status: color for status, (color, _, _) in STATUS.items()},
        "winner": int(ranked.iloc[0]["number"] if seeds is None else seeds.index[0]),
        "trials": rows_of(
            tables, ranked, images(client, tables, order), belief_of(client, sweep).get("finals", {})
        ),
        "figures": list(figures_of(client, tables, figures)),
        "provenance": provenance(sweep),
        "commands": commands(sweep, tracking_uri),
    }


def shown(name: str) -> str:
    """Return a label of a chart as a page shows it: Matplotlib alone needs its dollars escaped."""
    return name.replace(r"\$", "$")


def shown_domain(domain: dict[str, Any]) -> dict[str, Any]:
    """Return a dimension whose choices are what a trial's parameters are: numbers, or Python's text."""
    choices = [plain(c) if type(c) in (int, float) else str(c) for c in domain.get("choices", ())]
    return domain | ({"choices": choices} if choices else {})


def question(tables: Tables) -> str:
    """Say what was asked."""
    sweep = tables.sweep
    names = [shown(label(name)) for name in tables.settings] or ["setting"]
    which = f"{', '.join(names[:-1])} and {names[-1]}" if len(names) > 1 else names[0]
    model = sweep.tags.get(MODEL_TAG, "").rpartition(":")[2]
    whom = f" {model}" if model and "model" not in names else ""
    wanted = [
        f"{'lowest' if sign == 1 else 'highest'} {shown(label(name))}" for name, sign in sweep.signs.items()
    ]
    return f"Which {which} {'give' if len(names) > 1 else 'gives'}{whom} the {' and the '.join(wanted)}?"


def over_seeds(tables: Tables, seeds: pd.DataFrame | None) -> list[dict[str, Any]]:
    """Return the rows of the table of settings over training seeds."""
    if seeds is None:
        return []
    return [
        {
            "trial": n,
            **{name: plain(row[f"params.{name}"]) for name in tables.settings},
            "training seeds": int(row["seeds"]),
            **({"diverged or failed": int(row["lost"])} if seeds["lost"].any() else {}),
            f"mean {tables.sweep.metric}": plain(row["value"]),
            "± of the mean": plain(row["std"]),
        }
        for n, row in seeds.iterrows()
    ]


def caveats(tables: Tables, groups: int, seeds: bool) -> Iterator[str]:
    """Say what limits the answer."""
    sweep = tables.sweep
    if sweep.state != "finished":
        state = "still running" if sweep.state == "running" else "interrupted"
        yield f"The sweep is {state}: this is its state now."
    if not sweep.references():
        yield "What a grey image, the mean image and real images score is not on record."
    if groups > 1:
        yield f"{sweep.metric} is of {groups} kinds here that cannot be compared; this is the largest one."
    if sweep.metric.startswith("fd_"):
        yield (
            f"{label(sweep.metric)} is no FID: its features are another network's, and its values compare "
            "with its own kind only."
        )
    if seeds:
        yield "± of a mean over seeds holds the chance of training and that of the images that were drawn."
    elif tables.metric(f"{sweep.metric}_std").notna().any():
        yield (
            "Another training seed moves a score, too: latentune winners --retrain-seeds says by how much."
        )
        yield (
            "P(best) is of drawing other images. Tied is what a stricter test can't tell from the best one, "
            "which was chosen as the best of all."
        )


def story(tables: Tables) -> str:
    """Say how the answer was found."""
    sweep, counts = tables.sweep, tables.trials["status"].value_counts()
    parts = [f"{count} {status}" for status, count in counts.items()]
    most = f" of up to {many(sweep.epochs, 'epoch')}" if sweep.epochs else ""
    seconds = (tables.trials["end"].max() - tables.trials["start"].min()).total_seconds()
    stopping = ", with pauses at ASHA's rungs" if rungs(tables) else ""
    trials = many(len(tables.trials), "trial")
    return f"{trials}{most} in {duration(seconds)}{stopping}: {', '.join(parts)}."


def duration(seconds: float) -> str:
    """Return a time as people say it, in hours, minutes or seconds."""
    if seconds > 5400:
        return f"{seconds / 3600:.1f} hours"
    return many(round(seconds / 60), "minute") if seconds >= 60 else many(round(seconds), "second")


def many(count: int, thing: str) -> str:
    """Return a count with its noun, in the plural unless it is one."""
    return f"{count} {thing}{'' if count == 1 else 's'}"


def figures_of(client: "MlflowClient", tables: Tables, names: Collection[str]) -> Iterator[dict[str, str]]:
    """Return those of the figures that the sweep has data for."""
    draw = chart_functions(client, FiguresConfig(sweep=tables.sweep.name))
    for name in (name for name in CAPTIONS if name in names):
        try:
            figure = draw[name](tables)
        except AnalysisError:
            continue
        if not isinstance(figure, Figure):
            continue
        file = io.BytesIO()
        figure.savefig(file, format="svg")
        yield {"name": name, "caption": CAPTIONS[name], "image": data_uri(file.getvalue(), "svg+xml")}
    if "nearest" not in names:
        return
    # Where the weights of the best and their data are here: PyTorch takes seconds to import.
    with suppress(AnalysisError, DataError):
        subject = subject_of(client, tables)
        from analysis.charts.latent import nearest

        file = io.BytesIO()
        nearest(subject).save(file, "PNG", optimize=True)
        yield {"name": "nearest", "caption": NEAREST, "image": data_uri(file.getvalue(), "png")}


def provenance(sweep: Sweep) -> dict[str, str]:
    """Return where the numbers come from: code, packages, data, settings."""
    facts = {"sweep": f"{sweep.name} ({sweep.sweep_id})", "begun (UTC)": f"{sweep.started:%Y-%m-%d %H:%M}"}
    tags = {k: v for k, v in sweep.tags.items() if k.startswith("version.") or k == "python"}
    if commit := sweep.tags.get("mlflow.source.git.commit"):
        facts["commit"] = commit
    return facts | tags | {k: v for k, v in sorted(sweep.params.items()) if v != "None"}


def commands(sweep: Sweep, tracking_uri: str | None) -> list[str]:
    """Return what to type to do it again, and to go on."""
    of_this = shlex.join(["--sweep", sweep.name, *(["--tracking-uri", tracking_uri] if tracking_uri else [])])
    again = sweep.tags.get(COMMAND_TAG)
    return [
        *([again] if again else []),
        f"latentune winners {of_this} --promote",
        f"latentune figures {of_this}",
        f"latentune report {of_this}",
    ]


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return its exit code."""
    return run_command(PROGRAM, ReportConfig, report, arguments)


if __name__ == "__main__":
    sys.exit(main())
