"""Training the best settings again with other seeds: a sweep of its own, of given points, on the cluster."""

import json
import shlex
import subprocess
import sys
import tempfile
from typing import TYPE_CHECKING

import pandas as pd

from analysis.ranking import over_seeds
from analysis.runs import AnalysisError, Sweep, Tables, load, sweeps

if TYPE_CHECKING:
    from mlflow import MlflowClient

COMMAND_TAG, PROGRAM_TAG, RETRAINS_TAG = "latentune.command", "latentune.program", "latentune.retrains"
SEED_STEP = 1000  # the new seeds lie beyond those that a person would have tried
# The retraining's own, or decided by it.
NOT_PASSED_ON = {"name", "resume", "num-samples", "points", "dry-run", "seed", "tracking-uri"}


def retrain(client: "MlflowClient", tables: Tables, numbers: list[int], seeds: int) -> Tables:
    """Train the settings of trials again on fresh seeds, to the last epoch; return the new sweep's tables.

    The sweep's own program does it, on the cluster it finds. Raises AnalysisError where the record does not
    say which program that is, or where it fails.
    """
    sweep = tables.sweep
    if PROGRAM_TAG not in sweep.tags:
        raise AnalysisError(f"The record of {sweep.name!r} does not say which command ran it.")
    chosen = tables.trials.set_index("number").loc[numbers]
    first = int(float(sweep.params.get("seed", 0))) + SEED_STEP
    points = [
        {**setting_of(trial, sweep), "seed": first + k}
        for _, trial in chosen.iterrows()
        for k in range(seeds)
    ]
    name = f"{sweep.name}-seeds"
    taken = {known.name for known in sweeps(client)}
    name = next(n for n in (name, *(f"{name}-{k}" for k in range(2, 1000))) if n not in taken)
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump({"of": sweep.sweep_id, "points": points}, file)
        file.flush()
        command = [sys.executable, "-m", sweep.tags[PROGRAM_TAG], *flags_of(sweep)]
        command += ["--points", file.name, "--name", name, "--tracking-uri", client.tracking_uri]
        finished = subprocess.run(command)
    if finished.returncode:
        raise AnalysisError(f"Retraining ended with exit code {finished.returncode}: {' '.join(command)}")
    return load(client, name)


def flags_of(sweep: Sweep) -> list[str]:
    """Return the flags that a sweep was started with, without those that its retraining decides."""
    flags, skipping = [], False
    for word in shlex.split(sweep.tags.get(COMMAND_TAG, "")):
        if word.startswith("--"):
            skipping = word.removeprefix("--").partition("=")[0].replace("_", "-") in NOT_PASSED_ON
            if not skipping:
                flags.append(word)
        elif flags and not skipping:
            flags.append(word)
    return flags


def setting_of(trial: pd.Series, sweep: Sweep) -> dict[str, float | int | str]:
    """Return a trial's place in the search space, as plain values."""
    values = {name: trial[f"params.{name}"] for name in sweep.space}
    return {name: value.item() if hasattr(value, "item") else value for name, value in values.items()}


def seeds_of(client: "MlflowClient", tables: Tables) -> pd.DataFrame | None:
    """Return `over_seeds` of all retraining of a sweep, by the numbers of its trials; None without any."""
    again = [s for s in sweeps(client) if s.tags.get(RETRAINS_TAG) == tables.sweep.sweep_id]
    numbers = {key_of(row, tables.sweep): row["number"] for _, row in tables.trials.iterrows()}
    values, settings = [], []
    for sweep in again:
        retrained = load(client, sweep)
        for _, row in retrained.trials.iterrows():
            number = numbers.get(key_of(row, tables.sweep))
            if number is not None:
                values.append(row.get(f"metrics.{tables.sweep.metric}"))
                settings.append(number)
    if not values:
        return None
    return over_seeds(pd.Series(values, dtype=float), pd.Series(settings))


def key_of(trial: pd.Series, sweep: Sweep) -> tuple:
    """Name a setting; trials of one setting that differ by their seed have one name."""
    return tuple(str(trial.get(f"params.{name}")) for name in sweep.space if name != "seed")
