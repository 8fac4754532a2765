"""Training the best settings again with other seeds: a sweep of its own, of given points, on the cluster."""

import json
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from analysis import comparable
from analysis.ranking import over_seeds
from analysis.runs import FINISHED, SEED, AnalysisError, Sweep, Tables, load_trials, sweeps

if TYPE_CHECKING:
    from mlflow import MlflowClient

COMMAND_TAG, PROGRAM_TAG, RETRAINS_TAG = "latentune.command", "latentune.program", "latentune.retrains"
SEED_STEP = 1000  # the new seeds lie beyond those that a person would have tried
# The retraining's own, or decided by it.
NOT_PASSED_ON = {"name", "resume", "num-samples", "points", "dry-run", "seed", "tracking-uri"}
NOT_PASSED_ON |= {"models", "final-epochs"}


def retrain(client: "MlflowClient", tables: Tables, numbers: list[int], seeds: int) -> None:
    """Train the settings of trials again on fresh seeds, to the last epoch, as a sweep of its own.

    The sweep's own program does it, on the cluster it finds. Raises AnalysisError where the record does not
    say which program that is, where it trains several seeds itself, or where it fails.
    """
    sweep = tables.sweep
    if PROGRAM_TAG not in sweep.tags:
        raise AnalysisError(f"The record of {sweep.name!r} does not say which command ran it.")
    if SEED in tables.space:
        raise AnalysisError(
            f"{sweep.name!r} has trained each setting on several seeds; --seeds of {sweep.tags[PROGRAM_TAG]} "
            "sets how many."
        )
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
        command += [*flags_for_points(sweep), "--points", file.name, "--name", name]
        command += ["--tracking-uri", client.tracking_uri]
        finished = subprocess.run(command)
    if finished.returncode:
        raise AnalysisError(f"Retraining ended with exit code {finished.returncode}: {' '.join(command)}")


def flags_for_points(sweep: Sweep) -> list[str]:
    """Return what keeps a program that does more than one sweep to this one."""
    if sweep.tags[PROGRAM_TAG] == "searchers.densities":
        return ["--models", sweep.name.rpartition("-")[2]]
    return ["--final-epochs", "0"] if sweep.tags[PROGRAM_TAG] == "searchers.lego_vae" else []


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
    """Return `over_seeds` of the settings that were trained to the end on several seeds; None without any.

    They are the sweep's own trials, where it tries seeds itself, and all retraining of it. A setting is named
    by the number of the best of its trials in the sweep. Scores under other conditions than most have are
    left out.
    """
    sweep, metric = tables.sweep, f"metrics.{tables.sweep.metric}"
    found = [load_trials(client, s) for s in sweeps(client) if s.tags.get(RETRAINS_TAG) == sweep.sweep_id]
    if SEED in tables.space:
        found.append(tables.trials)
    found = [trials[trials["status"] == FINISHED] for trials in found if metric in trials]
    if not sum(map(len, found)):
        return None
    trials = pd.concat(found, ignore_index=True)
    trials = trials[np.isfinite(trials[metric])]
    _, trials = comparable.groups(trials, sweep.metric)[0]
    numbers = {key_of(row, tables.settings): row["number"] for _, row in tables.best_first()[::-1].iterrows()}
    settings = trials.apply(lambda row: numbers.get(key_of(row, tables.settings)), axis=1)
    seeds = over_seeds(trials[metric], settings)
    seeds = seeds[seeds["seeds"] > 1]
    return None if seeds.empty else seeds.set_axis(seeds.index.astype(int))


def key_of(trial: pd.Series, settings: Iterable[str]) -> tuple:
    """Name a setting; trials of one setting that differ by their seed have one name."""
    return tuple(str(trial.get(f"params.{name}")) for name in settings)
