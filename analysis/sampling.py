"""How good and how dear a trained model's images are by its sampling settings, without training again.

    python -m analysis.sampling --sweep NAME [--values steps=2,5,10,20 sampler=euler,heun] [--trial 3]

Settings such as a flow's number of steps count only when images are drawn. All combinations of the given
values are tried on a trained model out of the record; the Pareto front of quality and cost is what is left.
"""

import itertools
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import Console
from rich.table import Table

from analysis.charts.pareto import Objective, draw_cost, pareto_front
from analysis.charts.text import file_name, number, value_of
from analysis.command import Record, run_command
from analysis.record.store import AnalysisError, connect
from analysis.record.tables import load
from analysis.record.weights import with_weights

if TYPE_CHECKING:
    from analysis.judgement.evaluation import Evaluation
    from analysis.record.trained_model import TrainedModel

PROGRAM = "python -m analysis.sampling"


@dataclass(frozen=True)
class SamplingConfig(Record):
    """Options of `analysis.sampling`."""

    values: tuple[str, ...] = ()
    """values to try of settings: steps=2,5,10; if none are given, some numbers of steps and all samplers"""
    trial: int | None = None
    """the trial whose model draws; the best one with weights, if not given"""
    output: Path = Path("figures")
    """folder for a folder of this sweep, with the figure sampling.png"""


@dataclass(frozen=True)
class Row:
    """One combination: its score with the score's deviation, and what an image costs."""

    settings: dict[str, Any]
    score: float
    deviation: float
    evaluations: float
    seconds: float


def sampling(config: SamplingConfig, console: Console) -> int:
    """Try sampling settings on a trained model; print what each is worth, and draw the Pareto front."""
    from analysis.judgement.evaluation import Evaluation  # imports PyTorch
    from analysis.record.trained_model import load_trained
    from trainables.evaluation.sampling import default_values

    client = connect(config.tracking_uri)
    tables = load(client, config.sweep)
    kept = with_weights(client, tables) if config.trial is None else [config.trial]
    if not kept:
        raise AnalysisError(f"The record of {tables.sweep.name!r} has no weights to draw with.")
    model = load_trained(client, tables, kept[0])
    grid = read_values(config.values) or default_values(model.network)
    if not grid:
        raise AnalysisError(f"{type(model.network).__name__} has no settings that count in sampling alone.")
    evaluation = Evaluation.of_trial(tables, kept[0])
    metric = evaluation.extractor.metric
    rows = [
        measured(model, dict(zip(grid, values, strict=True)), evaluation)
        for values in itertools.product(*grid.values())
    ]
    on_front = pareto_front(np.array([[row.evaluations, row.score] for row in rows]))
    title = f"{tables.sweep.name}, trial {kept[0]}: no training, {evaluation.samples} images each"
    console.print(table(rows, on_front, metric, title))
    folder = config.output / file_name(tables.sweep.name)
    folder.mkdir(parents=True, exist_ok=True)
    draw_cost(
        Objective("network evaluations an image", np.array([row.evaluations for row in rows])),
        Objective(metric, np.array([row.score for row in rows])),
        [words({k: v for k, v in row.settings.items() if k != "steps"}) for row in rows],
        [words(row.settings) for row in rows],
        on_front,
        tables.sweep.references(),
    ).savefig(folder / "sampling.png")
    console.print(str(folder / "sampling.png"), soft_wrap=True)
    return 0


def read_values(texts: Sequence[str]) -> dict[str, list[Any]]:
    """Return the values of each NAME=VALUE,VALUE. Raises AnalysisError with one sentence."""
    grid = {}
    for text in texts:
        name, _, values = (part.strip() for part in text.partition("="))
        if not (name.isidentifier() and values):
            raise AnalysisError(f"--values {text}: it takes NAME=VALUE,VALUE, such as steps=2,5,10")
        if name in grid:
            raise AnalysisError(f"--values {text}: {name} is given twice")
        grid[name] = list(dict.fromkeys(value_of(word.strip()) for word in values.split(",")))
    return grid


def measured(model: "TrainedModel", settings: dict[str, Any], evaluation: "Evaluation") -> Row:
    """Draw and score images by these settings. Raises AnalysisError where the model can't have them."""
    from analysis.judgement.evaluation import FIRST_SEED
    from trainables.evaluation.sampling import counted, with_settings

    try:
        network = with_settings(model.network, settings)
    except ValueError as error:
        raise AnalysisError(str(error)) from error
    try:
        with counted(network) as cost:
            scores = evaluation.scores(replace(model, network=network), FIRST_SEED)
    except ArithmeticError as error:
        raise AnalysisError(f"With {words(settings)} no images can be drawn: {error}.") from error
    metric = evaluation.extractor.metric
    each = cost.evaluations / cost.images, cost.seconds / cost.images
    return Row(settings, scores[metric], scores[f"{metric}_std"], *each)


def words(settings: dict[str, Any]) -> str:
    """Return settings in words: "midpoint, steps = 5"."""
    return ", ".join(v if isinstance(v, str) else f"{k} = {number(v)}" for k, v in settings.items())


def table(rows: list[Row], on_front: Sequence[int] | np.ndarray, metric: str, title: str) -> Table:
    """Return a line a combination, the cheapest first; those that no other one beats are marked."""
    result = Table(title=title, title_justify="left")
    for name in (*rows[0].settings, "evaluations an image", "CPU ms an image", metric, "±"):
        result.add_column(name, justify="right")
    result.add_column("")
    for index in sorted(range(len(rows)), key=lambda k: (rows[k].evaluations, rows[k].score)):
        row = rows[index]
        costs = number(row.evaluations), number(1000 * row.seconds)
        values = [v if isinstance(v, str) else number(v) for v in row.settings.values()]
        mark = "Pareto front" if index in on_front else ""
        result.add_row(*values, *costs, number(row.score), number(row.deviation), mark)
    return result


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return its exit code."""
    return run_command(PROGRAM, SamplingConfig, sampling, arguments)


if __name__ == "__main__":
    sys.exit(main())
