"""Figures of a sweep: the seeds' own and those a tuner expects, as files.

    python -m analysis.figures --sweep NAME [--only gantt …] [--output figures] [--form svg]

What a sweep has no data for (a pair of dimensions, a second seed, the winner's weights, its images) is left
out with a sentence that says what is missing.
"""

import json
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from matplotlib.figure import Figure
from PIL import Image
from rich.console import Console

from analysis.charts import search as charts
from analysis.charts import space as space_charts
from analysis.charts.style import BLUE, STATUS, VERMILION, canvas, label, legend_above, objective_label
from analysis.command import Record, run_command
from analysis.record.runs import AnalysisError, Sweep, Tables, connect, load, sweeps

if TYPE_CHECKING:
    from mlflow import MlflowClient

PROGRAM = "python -m analysis.figures"
POSTERIOR = "posterior.json"  # what the searcher believed at the end, among the parent run's artefacts
Drawn = Figure | Image.Image | list[Image.Image]


@dataclass(frozen=True)
class FiguresConfig(Record):
    """Options of `analysis.figures`."""

    only: tuple[str, ...] = ()
    """names of the figures to draw; all, if none is given"""
    output: Path = Path("figures")
    """folder for a folder of this sweep"""
    form: Literal["png", "svg", "pdf"] = "png"
    """of the charts; images are PNG, animations GIF"""
    trial: int | None = None
    """the trial whose model is drawn; the best one with weights, if not given"""
    beside: tuple[str, ...] = ()
    """further sweeps for the curves with seed bands"""


def chart_functions(client: "MlflowClient", config: FiguresConfig) -> dict[str, Callable[[Tables], Drawn]]:
    """Return the charts by name; each takes the sweep's tables."""
    return {
        "curves": charts.learning_curves,
        "seed-bands": lambda tables: charts.seed_bands(comparison(client, tables, config.beside)),
        "posterior": lambda tables: posterior(client, tables),
        "evolution": charts.evolution,
        "slices": charts.slices,
        "importance": space_charts.importance,
        "pairs": space_charts.pairs,
        "parallel": space_charts.parallel_coordinates,
        "gantt": charts.gantt,
        "pareto": charts.pareto,
    }


def figures(config: FiguresConfig, console: Console) -> int:
    """Draw the figures of a sweep."""
    from analysis.charts.latent import MODEL_FIGURES

    client = connect(config.tracking_uri)
    drawers = chart_functions(client, config)
    known = [*drawers, *MODEL_FIGURES]
    for name in config.only:
        if name not in known:
            raise AnalysisError(f"There is no figure {name!r}; there are: {', '.join(known)}.")
    tables = load(client, config.sweep)
    tables.scored()
    folder = config.output / tables.sweep.name
    folder.mkdir(parents=True, exist_ok=True)
    chosen, missing = config.only or known, {}
    for name in (name for name in chosen if name in drawers):
        try:
            console.print(
                save(drawers[name](tables), folder / name, config.form), highlight=False, soft_wrap=True
            )
        except AnalysisError as error:
            missing[name] = str(error)
    of_model = [name for name in chosen if name in MODEL_FIGURES]
    if of_model:
        missing |= draw_model(client, tables, of_model, config, folder, console)
    for reason in dict.fromkeys(missing.values()):
        names = ", ".join(name for name, why in missing.items() if why == reason)
        console.print(f"Left out {names}: {reason}", highlight=False, soft_wrap=True, markup=False)
    return 0 if len(missing) < len(chosen) else 2


def draw_model(
    client: "MlflowClient",
    tables: Tables,
    names: list[str],
    config: FiguresConfig,
    folder: Path,
    console: Console,
) -> dict[str, str]:
    """Draw what needs the weights; return why others were left out, by name."""
    from analysis.charts.latent import MODEL_FIGURES, Subject
    from analysis.judgement.evaluation import load_images, load_trained
    from analysis.record.weights import with_weights
    from trainables.data.store import DataError

    try:
        number = config.trial
        if number is None:
            kept = with_weights(client, tables)
            number = kept[0] if kept else int(tables.best_first()["number"].iloc[0])
        model = load_trained(client, tables, number)
    except AnalysisError as error:
        return dict.fromkeys(names, str(error))
    store = reason = None
    try:
        store = load_images(tables.trials.set_index("number").loc[number])
    except (AnalysisError, DataError, KeyError) as error:
        reason = str(error)
    subject, missing = Subject(model, store, f"{tables.sweep.name}, trial {number}", reason), {}
    for name in names:
        try:
            path = save(MODEL_FIGURES[name](subject), folder / name, config.form)
            console.print(path, highlight=False, soft_wrap=True)
        except AnalysisError as error:
            missing[name] = str(error)
    return missing


def comparison(client: "MlflowClient", tables: Tables, beside: tuple[str, ...]) -> list[tuple[str, Tables]]:
    """Return a sweep, its retrainings on other seeds, and the sweeps that were asked for."""
    from analysis.judgement.retraining import RETRAINS_TAG

    again: list[Sweep] = [s for s in sweeps(client) if s.tags.get(RETRAINS_TAG) == tables.sweep.sweep_id]
    others = [load(client, sweep) for sweep in (*again, *beside)]
    return [(t.sweep.name, t) for t in (tables, *others)]


def posterior(client: "MlflowClient", tables: Tables) -> Figure:
    """What the searcher believes over a one-dimensional space: mean ± 2σ and expected improvement.

    The seed's Figure 5, from the numbers that the sweep recorded. Raises AnalysisError where it has none.
    """
    sweep = tables.sweep
    if POSTERIOR not in [file.path for file in client.list_artifacts(sweep.run_id)]:
        raise AnalysisError(
            f"Sweep {sweep.name!r} has no posterior on record; a search over one dimension has."
        )
    with tempfile.TemporaryDirectory() as folder:
        curves = json.loads(Path(client.download_artifacts(sweep.run_id, POSTERIOR, folder)).read_text())
    grid, mean, std, gain = (np.array(curves[k]) for k in ("grid", "mean", "std", "expected_improvement"))
    figure, (above, below) = canvas(7.5, 5.5, 2, 1, sharex=True, height_ratios=(3, 1))
    above.fill_between(grid, mean - 2 * std, mean + 2 * std, color=BLUE, alpha=0.2, linewidth=0)
    above.plot(grid, mean, color="black", label="GP mean ± 2σ")
    scored = tables.scored()
    deviations = tables.metric(f"{sweep.metric}_std")[scored.index].fillna(0)
    for status, (colour, marker, _) in STATUS.items():
        at = scored["status"] == status
        if at.any():
            above.errorbar(
                scored[f"params.{curves['name']}"][at],
                tables.objective[scored.index][at],
                2 * deviations[at],
                fmt=marker,
                color=colour,
                markeredgecolor="black",
                label=f"{status} ± 2σ",
            )
    above.set_ylabel(objective_label(sweep))
    legend_above(above, 4)
    below.fill_between(grid, 0, gain, color=VERMILION, alpha=0.4, linewidth=0)
    if gain.max() > 0:
        best = grid[int(gain.argmax())]
        below.axvline(best, color=VERMILION, linestyle="--")
        left = best > (grid[0] + grid[-1]) / 2
        below.annotate(
            f"next: {best:.4g}",
            (best, gain.max()),
            xytext=(-4 if left else 4, 2),
            textcoords="offset points",
            ha="right" if left else "left",
            color="#8A3500",
        )
    below.set(ylabel="expected\nimprovement", xlabel=label(curves["name"]))
    below.set_ylim(bottom=0)
    return figure


def save(drawn: Drawn, path: Path, form: str) -> str:
    """Write a chart, an image or an animation; return the path."""
    if isinstance(drawn, Figure):
        path = path.with_name(f"{path.name}.{form}")
        drawn.savefig(path, dpi=140)
    elif isinstance(drawn, list):
        path = path.with_name(f"{path.name}.gif")
        there_and_back = drawn + drawn[-2:0:-1]
        there_and_back[0].save(path, save_all=True, append_images=there_and_back[1:], duration=80, loop=0)
    else:
        path = path.with_name(f"{path.name}.png")
        drawn.save(path)
    return str(path)


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return its exit code."""
    return run_command(PROGRAM, FiguresConfig, figures, arguments)


if __name__ == "__main__":
    sys.exit(main())
