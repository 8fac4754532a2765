"""Which trial of a sweep won, whether that can be trusted, and the winner as a registered model.

python -m analysis.winners --sweep NAME [--repeats 5] [--retrain-seeds 3] [--promote [--anyway]]
"""

import sys
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from rich.console import Console
from rich.table import Table

from analysis.charts.text import number, percent, with_deviation
from analysis.command import Record, run_command
from analysis.judgement import comparable
from analysis.judgement.ranking import rank
from analysis.judgement.retraining import require_retrainable, retrain
from analysis.judgement.seeds import Seeds, ranking_over_seeds, seeds_of
from analysis.judgement.verdict import (
    Verdict,
    direction,
    front,
    objections,
    ranking_of,
    verdict_of,
    verdict_of_repeats,
    verdict_over_seeds,
)
from analysis.record.store import AnalysisError, connect
from analysis.record.tables import Tables, load
from analysis.record.weights import with_weights
from searchers.record import schema
from trainables.data.progress import image_bar

if TYPE_CHECKING:
    from mlflow import MlflowClient

PROGRAM = "python -m analysis.winners"


@dataclass(frozen=True)
class WinnersConfig(Record):
    """Options of `analysis.winners`."""

    top: int = 10
    """rows of the table"""
    repeats: int = 0
    """evaluate the best trials again this often, each time with other noise; needs their data set here"""
    retrain_seeds: int = 0
    """train the best settings again on this many other seeds, through the cluster"""
    contenders: int = 3
    """how many of the best are evaluated or trained again"""
    promote: bool = False
    """register the winner in MLflow's model registry, with the alias champion"""
    anyway: bool = False
    """promote it even if it was stopped, has collapsed, or does not beat the mean training image"""
    model_name: str | None = None
    """name in the registry; the experiment's name, if not given"""

    def __post_init__(self) -> None:
        for name, least in (("top", 1), ("repeats", 0), ("retrain_seeds", 0), ("contenders", 1)):
            if getattr(self, name) < least:
                flag = name.replace("_", "-")
                raise AnalysisError(f"--{flag} is {getattr(self, name)}; it must be {least} or more")
        if self.repeats == 1 or self.retrain_seeds == 1:
            raise AnalysisError("One repetition has no spread: --repeats and --retrain-seeds begin at 2")
        if self.anyway and not self.promote:
            raise AnalysisError("--anyway says what to --promote, so it needs that flag")


def winners(config: WinnersConfig, console: Console) -> int:
    """Rank the trials of a sweep, say how sure that is, and register the winner."""
    client = connect(config.tracking_uri)
    tables = load(client, config.sweep)
    groups = comparable.groups(tables.scored(), tables.sweep.metric)
    rankings = [ranking_of(tables, trials) for _, trials in groups]
    verdicts = [verdict_of(tables, ranked) for ranked in rankings]
    seeds = seeds_of(client, tables)
    first = verdicts[0] if seeds is None else verdict_over_seeds(tables, seeds)
    console.print(first.headline, style="bold")
    for (depends, trials), ranked, verdict in zip(groups, rankings, verdicts, strict=True):
        console.print(ranking_table(tables, ranked, config.top))
        if depends:
            console.print(comparable.describe(depends, trials), style="dim")
        say(verdict, console, whole=verdict is not first)
    if len(groups) > 1:
        differing = [name for name in groups[0][0] if len({g[0][name] for g in groups}) > 1]
        console.print(
            f"{len(groups)} rankings, not one: {tables.sweep.metric} depends on {', '.join(differing)}, "
            "which differ between the trials."
        )
    if tables.sweep.state == "running":
        console.print("The sweep is still running: this is its state now.")
    best = rankings[0]
    whole = best[best["ranked"]] if best["ranked"].any() else best
    contenders = [int(n) for n in whole["number"].head(config.contenders)]
    winner = contenders[0]
    if config.repeats:
        winner = show_repeats(client, tables, contenders, config.repeats, console)
    if config.retrain_seeds:
        keys = pd.Series([tables.key_of(row) for _, row in whole.iterrows()], whole.index)
        contenders = [int(n) for n in whole["number"][~keys.duplicated()].head(config.contenders)]
        retrain(client, tables, contenders, config.retrain_seeds)
        seeds = seeds_of(client, tables)
        if seeds is None:
            console.print("No setting was trained to the end on two seeds: nothing is said of settings.")
    chosen = tables, winner
    if seeds is not None:
        winner = show_seeds(tables, seeds, console)
        chosen = best_training(client, tables, seeds, winner)
    if config.promote:
        from analysis.judgement.promotion import promote  # imports PyTorch and MLflow

        name = config.model_name or tables.sweep.experiment
        promote(client, *chosen, name, console, anyway=config.anyway)
    elif not config.repeats:
        suggest(client, *chosen, None if seeds is not None else len(contenders), console)
    return 0


def say(verdict: Verdict, console: Console, *, whole: bool) -> None:
    """Print the sentences of a verdict; its headline only where it was not said before."""
    for sentence in (*([verdict.headline] if whole else []), *verdict.details):
        console.print(sentence, soft_wrap=True)


def suggest(
    client: "MlflowClient", tables: Tables, winner: int, contenders: int | None, console: Console
) -> None:
    """Say what to do next. contenders: whose settings could be trained again; None where that was done."""
    if not with_weights(client, tables):
        return
    surer = ""
    if contenders:
        with suppress(AnalysisError):
            require_retrainable(client, tables)
            surer = f"--retrain-seeds 3 trains the best {contenders} on other seeds"
    trial = tables.trials.set_index("number", drop=False).loc[winner]
    if against := objections(tables, trial):
        words = f"trial {winner} is not promoted without --anyway: {', and '.join(against)}"
    else:
        of = f" of {tables.sweep.name}" * (contenders is None)
        words = f"--promote registers trial {winner}{of} as a model to load and to serve"
    console.print(f"Next: {'; '.join(filter(None, (surer, words)))}.", soft_wrap=True)


def best_training(client: "MlflowClient", tables: Tables, seeds: Seeds, setting: int) -> tuple[Tables, int]:
    """Return the training of a setting that is to be promoted, as the tables of its sweep and its number.

    It is the best one of those on other seeds whose weights are on record: the trial that made its setting a
    contender was chosen partly for its luck. Where none has weights, it is that trial.
    """
    metric = f"metrics.{tables.sweep.metric}"
    trainings = seeds.trainings[seeds.trainings["setting"] == setting]
    order = (tables.sweep.sign * trainings[metric]).sort_values().index
    for _, training in trainings.loc[order].iterrows():
        if client.list_artifacts(training["run_id"], schema.WEIGHTS_FOLDER):
            again = (
                tables
                if training["sweep_id"] == tables.sweep.sweep_id
                else load(client, training["sweep_id"])
            )
            return again, int(training["number"])
    return tables, setting


def ranking_table(tables: Tables, ranked: pd.DataFrame, top: int) -> Table:
    """Return a ranking with the references in their places, and then what cannot be ranked."""
    sweep = tables.sweep
    names, further = tables.columns, list(sweep.signs)[1:]
    known = ranked["p_best"].notna().any()
    table = Table(title=f"{sweep.name}: {sweep.metric}, {direction(sweep)}", title_justify="left")
    shown = [name.rpartition("/")[2] for name in further]
    for name in ("trial", *names, "epoch", sweep.metric, *shown, *(["P(best)"] if known else [])):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    on_front = front(tables, ranked[ranked["ranked"]])
    rows: list[tuple[bool, float, list[str], str | None]] = []
    for k, (_, row) in enumerate(ranked.head(top).iterrows()):
        remarks = ["best" if k == 0 else "tied"] if k == 0 or row["tied"] else []
        remarks += ["Pareto front"] if row["number"] in on_front else []
        if not row["ranked"]:
            remarks += [f"{row['status']}; number {row['place']} of {row['peers']} at epoch {row['epoch']}"]
        elif row["status"] != schema.FINISHED:
            remarks += [row["status"]]
        remarks += [row["flags"]] if row["flags"] else []
        values = [row["number"], *(row[f"params.{name}"] for name in names), row["epoch"]]
        cells = [*map(number, values), with_deviation(row["value"], row["std"])]
        cells += [number(row[f"metrics.{name}"]) for name in further]
        cells += [percent(row["p_best"])] if known else []
        style = "bold green" if k == 0 else None if row["ranked"] else "dim"
        order = sweep.sign * float(row["value"]) if row["ranked"] else float(k)
        rows.append((not row["ranked"], order, [*cells, ", ".join(remarks)], style))
    for name, value in sweep.references().items():
        blank = [""] * (len(names) + 1)
        cells = ["", *blank, number(value), *[""] * (len(further) + known), name]
        rows.append((False, sweep.sign * value, cells, "italic"))
    for _, _, row_cells, style in sorted(rows, key=lambda row: row[:2]):
        table.add_row(*row_cells, style=style)
    return table


def show_repeats(
    client: "MlflowClient", tables: Tables, numbers: list[int], repeats: int, console: Console
) -> int:
    """Evaluate trials again and print the means; return the number of the best.

    The score by which the best trial was chosen is biased by that choice; these are not.
    """
    from analysis.judgement.evaluation import FIRST_SEED, Evaluation  # imports PyTorch
    from analysis.record.trained_model import load_trained

    metric = tables.sweep.metric
    kept = [n for n in with_weights(client, tables) if n in numbers]
    if not kept:
        raise AnalysisError(f"The record of {tables.sweep.name!r} has no weights to evaluate again.")
    if lacking := ", ".join(str(n) for n in numbers if n not in kept):
        console.print(f"Not evaluated again, for want of weights on record: trial {lacking}.", soft_wrap=True)
    evaluation = Evaluation.of_trial(tables, kept[0])
    rows: dict[int, list[float]] = {n: [] for n in kept}
    images = len(kept) * repeats * evaluation.samples
    with image_bar(f"Evaluating {len(kept)} trials {repeats} times", images, 0, None) as advance:
        for n in kept:
            model = load_trained(client, tables, n)
            for k in range(repeats):
                scores = evaluation.scores(model, FIRST_SEED + k)
                if metric not in scores:
                    raise AnalysisError(
                        f"{metric} is no score of generated images; --retrain-seeds tells its spread."
                    )
                rows[n].append(scores[metric])
                advance(evaluation.samples)
    values = pd.DataFrame(rows)
    ranked = rank(
        values.mean(),
        values.std(ddof=1) / np.sqrt(repeats),
        sign=tables.sweep.sign,
        degrees=pd.Series(repeats - 1, values.columns),
    )
    recorded = tables.metric(metric).set_axis(tables.trials["number"])
    table = Table(title=f"Evaluated {repeats} times with other noise", title_justify="left")
    for name in ("trial", f"{metric}, mean", "± (mean)", "± (one evaluation)", "recorded"):
        table.add_column(name, justify="right")
    for n, row in ranked.iterrows():
        deviations = [f"{row['std']:.2g}", f"{values[n].std(ddof=1):.2g}"]
        cells = [n, row["value"], *deviations, float(recorded[n])]
        table.add_row(*map(number, cells))
    console.print(table)
    say(verdict_of_repeats(tables, ranked), console, whole=True)
    return int(ranked.index[0])


def show_seeds(tables: Tables, seeds: Seeds, console: Console) -> int:
    """Print the ranking of settings over training seeds; return the best."""
    ranked, names = ranking_over_seeds(tables, seeds), tables.settings
    lost = bool(ranked["lost"].any())
    table = Table(title="Over training seeds, to the last epoch", title_justify="left")
    counts = ("seeds", "diverged or failed")[: 1 + lost]
    columns = ("trial", *names, *counts, f"{tables.sweep.metric}, mean", "± (mean)", "± (one training)")
    for name in columns:
        table.add_column(name, justify="right")
    for n, row in ranked.iterrows():
        setting = [row[f"params.{name}"] for name in names]
        deviations = [f"{row['std'] * scale:.2g}" for scale in (1, row["seeds"] ** 0.5)]
        counted = [int(row["seeds"]), int(row["lost"])][: 1 + lost]
        table.add_row(*map(number, [n, *setting, *counted, row["value"], *deviations]))
    console.print(table)
    say(verdict_over_seeds(tables, seeds), console, whole=True)
    return int(ranked.index[0])


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return its exit code."""
    return run_command(PROGRAM, WinnersConfig, winners, arguments)


if __name__ == "__main__":
    sys.exit(main())
