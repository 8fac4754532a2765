"""Which trial of a sweep won, whether that can be trusted, and the winner as a registered model.

python -m analysis.winners --sweep NAME [--repeats 5] [--retrain-seeds 3] [--promote]
"""

import sys
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from rich.console import Console
from rich.table import Table

from analysis.command import Record, number, run_command, with_deviation
from analysis.judgement import comparable
from analysis.judgement.ranking import pareto_front, rank
from analysis.record.runs import FINISHED, AnalysisError, Tables, connect, load
from analysis.record.weights import with_weights

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
    model_name: str | None = None
    """name in the registry; the experiment's name, if not given"""

    def __post_init__(self):
        for name, least in (("top", 1), ("repeats", 0), ("retrain_seeds", 0), ("contenders", 1)):
            if getattr(self, name) < least:
                flag = name.replace("_", "-")
                raise AnalysisError(f"--{flag} is {getattr(self, name)}; it must be {least} or more")
        if self.repeats == 1 or self.retrain_seeds == 1:
            raise AnalysisError("One repetition has no spread: --repeats and --retrain-seeds begin at 2")


def winners(config: WinnersConfig, console: Console) -> int:
    """Rank the trials of a sweep, say how sure that is, and register the winner."""
    client = connect(config.tracking_uri)
    tables = load(client, config.sweep)
    groups = comparable.groups(tables.scored(), tables.sweep.metric)
    for depends, trials in groups:
        show_ranking(tables, trials, depends, config.top, console)
    if len(groups) > 1:
        differing = [name for name in groups[0][0] if len({g[0][name] for g in groups}) > 1]
        console.print(
            f"{len(groups)} rankings, not one: {tables.sweep.metric} depends on {', '.join(differing)}, "
            "which differ between the trials."
        )
    if tables.sweep.state == "running":
        console.print("The sweep is still running: this is its state now.")
    contenders = [int(n) for n in ranking_of(tables, groups[0][1])["number"].head(config.contenders)]
    winner = contenders[0]
    if config.repeats:
        winner = show_repeats(client, tables, contenders, config.repeats, console)
    if config.retrain_seeds:
        from analysis.judgement.retraining import retrain

        retrain(client, tables, contenders, config.retrain_seeds)
    over_seeds = show_seeds(client, tables, console)
    winner = over_seeds or winner
    if config.promote:
        from analysis.judgement.promotion import promote

        promote(client, tables, winner, config.model_name or tables.sweep.experiment, console)
    elif not config.repeats and with_weights(client, tables):
        surer = "" if over_seeds else f"--retrain-seeds 3 trains the best {len(contenders)} on other seeds; "
        console.print(f"Next: {surer}--promote registers trial {winner} as a model to load and to serve.")
    return 0


def ranking_of(tables: Tables, trials: pd.DataFrame) -> pd.DataFrame:
    """Return `rank` of trials by the sweep's metric, with their columns."""
    metric = tables.sweep.metric
    ranked = rank(
        tables.metric(metric)[trials.index],
        tables.metric(f"{metric}_std")[trials.index],
        sign=tables.sweep.sign,
    )
    return ranked.join(trials)


def show_ranking(
    tables: Tables, trials: pd.DataFrame, depends: dict[str, str], top: int, console: Console
) -> None:
    """Print a ranking and what it says in words."""
    sweep, ranked = tables.sweep, ranking_of(tables, trials)
    names, further = list(tables.space), list(sweep.signs)[1:]
    known = ranked["p_best"].notna().any()
    table = Table(title=f"{sweep.name}: {sweep.metric}, {direction(sweep)}", title_justify="left")
    shown = [name.rpartition("/")[2] for name in further]
    for name in ("trial", *names, "epoch", sweep.metric, *shown, *(["P(best)"] if known else [])):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    on_front = front(tables, ranked)
    for k, (_, row) in enumerate(ranked.head(top).iterrows()):
        remarks = ["best" if k == 0 else "tied"] if k == 0 or row["tied"] else []
        remarks += ["Pareto front"] if row["number"] in on_front else []
        remarks += [row["status"]] if row["status"] != FINISHED else []
        cells = [row["number"], *(row[f"params.{name}"] for name in names), row["epoch"]]
        cells += [with_deviation(row["value"], row["std"]), *(row[f"metrics.{name}"] for name in further)]
        cells += [percent(row["p_best"])] if known else []
        table.add_row(*map(number, cells), ", ".join(remarks), style="bold green" if k == 0 else None)
    console.print(table)
    if depends:
        console.print(comparable.describe(depends, trials), style="dim", highlight=False)
    console.print(answer(tables, ranked), highlight=False)


def answer(tables: Tables, ranked: pd.DataFrame) -> str:
    """Say in words who is best; of several objectives, who is on the front."""
    words = verdict(ranked, tables.sweep.metric, list(ranked["number"]), place(ranked, tables.space))
    if on_front := front(tables, ranked):
        objectives = " and ".join(tables.sweep.signs)
        words += f" Pareto front of {objectives}: trial {', '.join(map(str, on_front))}."
    return words


def front(tables: Tables, trials: pd.DataFrame) -> list[int]:
    """Return the numbers of the trials on the Pareto front of the objectives; none where there is but one."""
    signs = tables.sweep.signs
    if len(signs) < 2:
        return []
    scores = np.stack([sign * tables.metric(name)[trials.index] for name, sign in signs.items()], axis=1)
    known = np.isfinite(scores).all(1)
    return trials["number"][known].iloc[pareto_front(scores[known])].tolist()


def place(ranked: pd.DataFrame, names: Iterable[str]) -> str:
    """Return the named parameters of the first of a ranking."""
    return ", ".join(f"{name} = {number(ranked.iloc[0][f'params.{name}'])}" for name in names)


def percent(probability: float) -> str:
    """Format a probability that was counted in draws: none of them is not impossible."""
    if np.isnan(probability):
        return "–"
    return "< 1 %" if probability < 0.01 else "> 99 %" if probability > 0.99 else f"{100 * probability:.0f} %"


def direction(sweep) -> str:
    """Say which way is up."""
    return "lower is better" if sweep.mode == "min" else "higher is better"


def verdict(ranked: pd.DataFrame, metric: str, names: list, setting: str = "") -> str:
    """Say in a few sentences who is best, who may be as well, and who had less training."""
    best, others = ranked.iloc[0], len(ranked) - 1
    words = f"Best: trial {names[0]}{f' ({setting})' if setting else ''}, {metric} "
    words += f"{with_deviation(best['value'], best['std'])}."
    ties = [str(name) for name, tied in zip(names[1:], ranked["tied"].iloc[1:], strict=True) if tied]
    if not others:
        return f"{words} There is no other to compare it with."
    if np.isnan(best["p_value"]):
        words += f" No deviation of {metric} is recorded, so nothing says how sure that is."
    elif not ties:
        words += " It is told apart from all others at the 5 % level."
    else:
        shown = ", ".join(ties[:10]) + (f" and {len(ties) - 10} more" if len(ties) > 10 else "")
        words += f" It cannot be told apart from {len(ties)} of {others}: trial {shown}."
    shorter = int((ranked["epoch"] < best["epoch"]).sum()) if "epoch" in ranked else 0
    if shorter:
        words += f" {shorter} of the others had fewer epochs: what more would have made of them is not known."
    return words


def show_repeats(
    client: "MlflowClient", tables: Tables, numbers: list[int], repeats: int, console: Console
) -> int:
    """Evaluate trials again and print the means; return the number of the best.

    The score that made a trial the best one is flattered by having been chosen; these are not.
    """
    from analysis.judgement.evaluation import FIRST_SEED, Evaluation, load_trained

    metric = tables.sweep.metric
    kept = [n for n in with_weights(client, tables) if n in numbers]
    trials = tables.trials.set_index("number")
    if not kept:
        raise AnalysisError(f"The record of {tables.sweep.name!r} has no weights to evaluate again.")
    evaluation = Evaluation.of(trials.loc[kept[0]])
    rows = {}
    for n in kept:
        model = load_trained(client, tables, n)
        scores = [evaluation.scores(model, FIRST_SEED + k) for k in range(repeats)]
        if metric not in scores[0]:
            raise AnalysisError(
                f"{metric} is no score of generated images; --retrain-seeds tells its spread."
            )
        rows[n] = [s[metric] for s in scores]
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
    console.print(verdict(ranked, metric, list(ranked.index)), highlight=False)
    return int(ranked.index[0])


def show_seeds(client: "MlflowClient", tables: Tables, console: Console) -> int | None:
    """Print the ranking over training seeds, where settings were trained on several; return the best."""
    ranked = ranking_over_seeds(client, tables)
    if ranked is None:
        return None
    names = tables.settings
    table = Table(title="Over training seeds, to the last epoch", title_justify="left")
    columns = ("trial", *names, "seeds", f"{tables.sweep.metric}, mean", "± (mean)", "± (one training)")
    for name in columns:
        table.add_column(name, justify="right")
    for n, row in ranked.iterrows():
        setting = [row[f"params.{name}"] for name in names]
        deviations = [f"{row['std'] * scale:.2g}" for scale in (1, row["seeds"] ** 0.5)]
        table.add_row(*map(number, [n, *setting, int(row["seeds"]), row["value"], *deviations]))
    console.print(table)
    console.print(answer_over_seeds(tables, ranked), highlight=False)
    return int(ranked.index[0])


def ranking_over_seeds(client: "MlflowClient", tables: Tables) -> pd.DataFrame | None:
    """Return `rank` of the settings that were trained on several seeds, by trial, with their columns."""
    from analysis.judgement.retraining import seeds_of

    seeds = seeds_of(client, tables)
    if seeds is None:
        return None
    ranked = rank(seeds["value"], seeds["std"], sign=tables.sweep.sign, degrees=seeds["degrees"])
    settings = tables.trials.set_index("number").filter(like="params.")
    return ranked.join(seeds["seeds"]).join(settings)


def answer_over_seeds(tables: Tables, ranked: pd.DataFrame) -> str:
    """Say in words which setting is best on average over seeds."""
    setting = place(ranked, tables.settings)
    words = verdict(ranked, f"mean {tables.sweep.metric}", list(ranked.index), setting)
    return f"{words} Means are over {ranked['seeds'].min()} training seeds or more."


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return its exit code."""
    return run_command(PROGRAM, WinnersConfig, winners, arguments)


if __name__ == "__main__":
    sys.exit(main())
