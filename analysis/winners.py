"""Which trial of a sweep won, whether that can be trusted, and the winner as a registered model.

python -m analysis.winners --sweep NAME [--repeats 5] [--retrain-seeds 3] [--promote]
"""

import shlex
import shutil
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from rich.console import Console
from rich.table import Table

from analysis import comparable
from analysis.command import Record, number, run_command
from analysis.ranking import rank
from analysis.runs import FINISHED, AnalysisError, Tables, connect, load

if TYPE_CHECKING:
    from mlflow import MlflowClient

PROGRAM = "python -m analysis.winners"
ALIAS = "champion"
PYFUNC_FOLDER = "pyfunc"  # of the winner's artefacts


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
    trials = groups[0][1]
    winner = int(ranking_of(tables, trials).iloc[0]["number"])
    contenders = [int(n) for n in ranking_of(tables, trials)["number"].head(config.contenders)]
    if config.repeats:
        winner = show_repeats(client, tables, contenders, config.repeats, console)
    if config.retrain_seeds:
        from analysis.retraining import retrain

        retrain(client, tables, contenders, config.retrain_seeds)
    winner = show_seeds(client, tables, console) or winner
    if config.promote:
        promote(client, tables, winner, config.model_name or tables.sweep.experiment, console)
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
    names = list(tables.space)
    table = Table(title=f"{sweep.name}: {sweep.metric}, {direction(sweep)}", title_justify="left")
    for name in ("trial", *names, "epoch", sweep.metric, "best with"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    for k, (_, row) in enumerate(ranked.head(top).iterrows()):
        remark = "best" if k == 0 else "cannot be told apart" if row["tied"] else ""
        if row["status"] != FINISHED:
            remark += f"{', ' if remark else ''}{row['status']}"
        probability = "–" if np.isnan(row["p_best"]) else percent(row["p_best"])
        values = [row[f"params.{name}"] for name in names]
        cells = [row["number"], *values, row["epoch"], f"{number(row['value'])} ± {number(row['std'])}"]
        table.add_row(*map(number, cells), probability, remark, style="bold green" if k == 0 else None)
    console.print(table)
    if depends:
        console.print("; ".join(f"{name}: {value}" for name, value in depends.items()), style="dim")
    console.print(
        verdict(ranked, sweep.metric, list(ranked["number"]), place(tables, ranked)), highlight=False
    )


def place(tables: Tables, ranked: pd.DataFrame) -> str:
    """Return the settings of the first of a ranking."""
    return ", ".join(f"{name} = {number(ranked.iloc[0][f'params.{name}'])}" for name in tables.space)


def percent(probability: float) -> str:
    """Format a probability that was counted in draws: none of them is not impossible."""
    return "< 1 %" if probability < 0.01 else f"{probability:.0%}".replace("%", " %")


def direction(sweep) -> str:
    """Say which way is up."""
    return "lower is better" if sweep.mode == "min" else "higher is better"


def verdict(ranked: pd.DataFrame, metric: str, names: list, setting: str = "") -> str:
    """Say in a sentence or two who is best, and who may be as well."""
    best = ranked.iloc[0]
    words = f"Best: trial {names[0]}{f' ({setting})' if setting else ''}, {metric} {number(best['value'])}"
    if np.isnan(best["p_value"]):
        return f"{words}. No deviation of {metric} is recorded, so nothing says how sure that is."
    words += f" ± {number(best['std'])}."
    ties = [str(name) for name, tied in zip(names[1:], ranked["tied"].iloc[1:], strict=True) if tied]
    if len(ranked) == 1:
        return f"{words} There is no other to compare it with."
    if not ties:
        return f"{words} It is told apart from all others at the 5 % level."
    shown = ", ".join(ties[:10]) + (f" and {len(ties) - 10} more" if len(ties) > 10 else "")
    return f"{words} It cannot be told apart from {len(ties)} of {len(ranked) - 1}: trial {shown}."


def show_repeats(
    client: "MlflowClient", tables: Tables, numbers: list[int], repeats: int, console: Console
) -> int:
    """Evaluate trials again and print the means; return the number of the best.

    The score that made a trial the best one is flattered by having been chosen; these are not.
    """
    from analysis.evaluation import FIRST_SEED, Evaluation, load_trained, with_weights

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
        cells = [n, row["value"], row["std"], float(values[n].std(ddof=1)), float(recorded[n])]
        table.add_row(*map(number, cells))
    console.print(table)
    console.print(verdict(ranked, metric, list(ranked.index)), highlight=False)
    return int(ranked.index[0])


def show_seeds(client: "MlflowClient", tables: Tables, console: Console) -> int | None:
    """Print the ranking over training seeds, where a sweep's best were trained again; return the best."""
    from analysis.retraining import seeds_of

    seeds = seeds_of(client, tables)
    if seeds is None:
        return None
    metric = tables.sweep.metric
    ranked = rank(seeds["value"], seeds["std"], sign=tables.sweep.sign, degrees=seeds["degrees"])
    table = Table(title="Trained again with other seeds", title_justify="left")
    for name in ("trial", "seeds", f"{metric}, mean", "± (mean)", "± (one training)"):
        table.add_column(name, justify="right")
    for n, row in ranked.iterrows():
        count = int(seeds.loc[n, "seeds"])
        table.add_row(*map(number, [n, count, row["value"], row["std"], row["std"] * count**0.5]))
    console.print(table)
    console.print(verdict(ranked, metric, list(ranked.index)), highlight=False)
    return int(ranked.index[0])


def promote(client: "MlflowClient", tables: Tables, winner: int, model_name: str, console: Console) -> str:
    """Register a trial's weights, with alias champion; return the version.

    The run itself is not begun again: its times and state stay what the sweep recorded.
    """
    from mlflow.exceptions import MlflowException

    from analysis.champion import save_pyfunc
    from analysis.evaluation import download_weights

    trial = tables.trials.set_index("number").loc[winner]
    sweep, run_id = tables.sweep, trial["run_id"]
    provenance = comparable.provenance(tables.trials, sweep.metric).loc[tables.trials["number"] == winner]
    about = {
        "sweep": sweep.name,
        "sweep_id": sweep.sweep_id,
        "trial": str(winner),
        "metric": sweep.metric,
        "value": repr(float(trial[f"metrics.{sweep.metric}"])),
        "std": repr(float(trial.get(f"metrics.{sweep.metric}_std", np.nan))),
        **provenance.iloc[0].to_dict(),
    }
    with tempfile.TemporaryDirectory() as temporary:
        weights = download_weights(client, tables, winner, Path(temporary))
        save_pyfunc(weights, Path(temporary) / PYFUNC_FOLDER, about)
        client.log_artifacts(run_id, str(Path(temporary) / PYFUNC_FOLDER), PYFUNC_FOLDER)
    try:
        client.create_registered_model(model_name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    source = f"{client.get_run(run_id).info.artifact_uri}/{PYFUNC_FOLDER}"
    version = client.create_model_version(model_name, source, run_id, tags=about).version
    client.set_registered_model_alias(model_name, ALIAS, version)
    # MLflow starts uvicorn by its name, which is on the PATH in an activated environment alone.
    path = "" if shutil.which("uvicorn") else f"PATH={shlex.quote(str(Path(sys.executable).parent))}:$PATH "
    console.print(
        f"Registered trial {winner} as {model_name} version {version}, alias {ALIAS}. Serve it with:\n"
        f"  {path}MLFLOW_TRACKING_URI={client.tracking_uri} mlflow models serve "
        f"-m 'models:/{model_name}@{ALIAS}' --env-manager local --port 5001",
        highlight=False,
        soft_wrap=True,
    )
    return str(version)


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return its exit code."""
    return run_command(PROGRAM, WinnersConfig, winners, arguments)


if __name__ == "__main__":
    sys.exit(main())
