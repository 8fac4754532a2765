"""Figures of a sweep as files: those of the papers, and those that a tuner expects.

    python -m analysis.figures --sweep NAME [--only gantt …] [--output figures] [--form svg]

What a sweep has no data for (a pair of dimensions, a second seed, the winner's weights, its images) is left
out with a sentence that says what is missing.
"""

import sys
from collections.abc import Callable
from dataclasses import MISSING, dataclass, fields
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from matplotlib.figure import Figure
from PIL import Image
from rich.console import Console

from analysis.charts.curves import learning_curves, seed_bands
from analysis.charts.gantt import gantt
from analysis.charts.posterior import Belief, Scored, draw_posterior
from analysis.charts.search import evolution, pareto, slices
from analysis.charts.space import importance, pairs, parallel_coordinates
from analysis.charts.text import file_name
from analysis.command import Record, run_command
from analysis.judgement.comparable import refuse_unlike
from analysis.judgement.seeds import retraining_sweeps
from analysis.record.belief import belief_of
from analysis.record.store import AnalysisError, connect
from analysis.record.sweeps import distinct
from analysis.record.tables import Tables, load
from analysis.record.weights import with_weights
from trainables.data.store import DataError
from trainables.own import RAISED

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from analysis.charts.latent import Subject

PROGRAM = "python -m analysis.figures"
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
        "curves": learning_curves,
        "seed-bands": lambda tables: seed_bands(comparison(client, tables, config.beside)),
        "posterior": lambda tables: posterior(client, tables),
        "evolution": evolution,
        "slices": slices,
        "importance": importance,
        "pairs": pairs,
        "parallel": parallel_coordinates,
        "gantt": gantt,
        "pareto": pareto,
    }


def figures(config: FiguresConfig, console: Console) -> int:
    """Draw the figures of a sweep."""
    from analysis.charts.latent import MODEL_FIGURES  # imports PyTorch

    client = connect(config.tracking_uri)
    drawers = chart_functions(client, config)
    known = [*drawers, *MODEL_FIGURES]
    for name in config.only:
        if name not in known:
            raise AnalysisError(f"There is no figure {name!r}; there are: {', '.join(known)}.")
    tables = load(client, config.sweep)
    tables.scored()
    folder = config.output / file_name(tables.sweep.name)
    folder.mkdir(parents=True, exist_ok=True)
    chosen, missing = config.only or known, dict[str, str]()
    draws: dict[str, Callable[[], Drawn]] = {name: partial(draw, tables) for name, draw in drawers.items()}
    if of_model := [name for name in chosen if name in MODEL_FIGURES]:
        try:
            subject = subject_of(client, tables, config.trial)
            draws |= {name: partial(MODEL_FIGURES[name], subject) for name in of_model}
        except AnalysisError as error:
            missing = dict.fromkeys(of_model, str(error))
    for name in (name for name in chosen if name not in missing):
        try:
            console.print(save(draws[name](), folder / name, config.form), soft_wrap=True)
        except AnalysisError as error:
            missing[name] = str(error)
        except RAISED as error:  # a person's own model raises anything; the other figures are drawn
            missing[name] = f"{type(error).__name__}: {error}".partition("\n")[0]
    for reason in dict.fromkeys(missing.values()):
        names = ", ".join(name for name, why in missing.items() if why == reason)
        console.print(f"Left out {names}: {reason}", soft_wrap=True)
    return 0 if len(missing) < len(chosen) else 2


def subject_of(client: "MlflowClient", tables: Tables, number: int | None = None) -> "Subject":
    """Return a trial's model with its images; number: the best one with weights, if not given.

    Raises AnalysisError where the record has no weights of it.
    """
    from analysis.charts.latent import Subject
    from analysis.judgement.evaluation import load_images
    from analysis.record.trained_model import load_trained

    if number is None:
        kept = with_weights(client, tables)
        number = kept[0] if kept else int(tables.best_first()["number"].iloc[0])
    model, store, reason = load_trained(client, tables, number), None, None
    trial = tables.trials.set_index("number").loc[number]
    try:
        store = load_images(trial)
    except (AnalysisError, DataError, KeyError) as error:
        reason = str(error)
    mirrored = str(trial.get("params.flip")) == "True"
    return Subject(model, store, f"{tables.sweep.name}, trial {number}", reason, mirrored)


def comparison(client: "MlflowClient", tables: Tables, beside: tuple[str, ...]) -> list[tuple[str, Tables]]:
    """Return a sweep, its retrainings on other seeds, and the sweeps that were asked for, by name.

    Raises AnalysisError where their scores are of different things.
    """
    sweeps = distinct(client, [tables.sweep, *retraining_sweeps(client, tables.sweep), *beside])
    named = [(k, tables if s is tables.sweep else load(client, s)) for k, s in sweeps.items()]
    refuse_unlike([tables for _, tables in named])
    return named


def posterior(client: "MlflowClient", tables: Tables) -> Figure:
    """What the searcher believes over each numeric dimension: mean ± 2σ and expected improvement.

    It is drawn from the numbers that the sweep recorded. Raises AnalysisError where it has none.
    """
    sweep, recorded = tables.sweep, belief_of(client, tables.sweep)
    # Over one number alone the curves stood beside `finals` in earlier versions.
    rows = recorded.get("beliefs") or ([recorded] if "grid" in recorded else [])
    if not rows:
        raise AnalysisError(f"Sweep {sweep.name!r} has no posterior on record; a search over numbers has.")
    curves = fields(Belief)
    needed = {f.name for f in curves if f.default is MISSING and f.default_factory is MISSING}
    if "finals" not in recorded or not all(row.keys() >= needed for row in rows):
        raise AnalysisError(f"The posterior of sweep {sweep.name!r} was recorded by another version.")
    beliefs = []
    for row in rows:
        known: dict[str, Any] = {f.name: row[f.name] for f in curves if f.name in row}
        known |= {name: np.array(values) for name, values in known.items() if isinstance(values, list)}
        beliefs.append(Belief(**known))
    scored = tables.scored()
    trials = Scored(
        {b.name: scored[f"params.{b.name}"].to_numpy(float) for b in beliefs},
        tables.objective[scored.index].to_numpy(float),
        tables.metric(f"{sweep.metric}_std")[scored.index].to_numpy(float),
        list(scored["status"]),
        *np.array([recorded["finals"].get(str(n), 3 * (np.nan,)) for n in scored["number"]]).T,
    )
    return draw_posterior(beliefs, trials, sweep.metric, sweep.sign, sweep.references())


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
