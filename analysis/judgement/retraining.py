"""Training the best settings again with other seeds: a sweep of its own, of given points, on the cluster."""

import argparse
import ast
import json
import shlex
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from analysis.judgement import comparable
from analysis.judgement.ranking import over_seeds
from analysis.record.runs import FINISHED, SEED, AnalysisError, Sweep, Tables, load_trials, sweeps

if TYPE_CHECKING:
    from mlflow import MlflowClient

COMMAND_TAG, PROGRAM_TAG, RETRAINS_TAG = "latentune.command", "latentune.program", "latentune.retrains"
SEED_STEP = 1000  # the new seeds lie beyond those that a person would have tried
INTERRUPTED = 130  # exit code of a sweep after Ctrl-C
# What a sweep's run records beside its settings.
PROVENANCE = {
    "data_hash",
    "reference_images",
    "likelihood",
    "density_model",
    "pixel_scale",
    "reduction_factor",
}
# The retraining's own, or of a search, which it is not.
NOT_PASSED_ON = {"name", "num_samples", "points", "seed", "warm_start", "surrogate", "models", "final_epochs"}
NOT_RECORDED = ("results", "data_root", "address", "max_concurrent")  # a resumed sweep may change them


def retrain(client: "MlflowClient", tables: Tables, numbers: list[int], seeds: int) -> None:
    """Train the settings of trials again on fresh seeds, to the last epoch, as a sweep of its own.

    The sweep's own program does it, on the cluster it finds; its points lie in its folder of results, for
    its resumption. Raises AnalysisError where the record does not say which program that is, where it has
    trained several seeds already, or where it fails; KeyboardInterrupt where it was interrupted.
    """
    sweep = tables.sweep
    if PROGRAM_TAG not in sweep.tags:
        raise AnalysisError(f"The record of {sweep.name!r} does not say which command ran it.")
    if SEED in tables.space:
        raise AnalysisError(
            f"{sweep.name!r} has trained each setting on several seeds; --seeds of {sweep.tags[PROGRAM_TAG]} "
            "sets how many."
        )
    known = sweeps(client)
    if RETRAINS_TAG in sweep.tags:
        of = {s.sweep_id: s.name for s in known}.get(sweep.tags[RETRAINS_TAG], sweep.tags[RETRAINS_TAG])
        raise AnalysisError(f"{sweep.name!r} is a retraining of {of!r}; --sweep {of} trains further seeds.")
    chosen = tables.trials.set_index("number").loc[numbers]
    first = int(float(sweep.params.get("seed", 0))) + SEED_STEP
    for trials in retrainings(client, sweep):
        first = max(first, int(trials["params.seed"].max()) + 1)
    points = [
        {**setting_of(trial, sweep), "seed": first + k}
        for _, trial in chosen.iterrows()
        for k in range(seeds)
    ]
    results, name = Path(typed(sweep).get("results", "results")).absolute(), f"{sweep.name}-seeds"
    begun = {path.parent.name for path in results.glob("*/sweep.json")}
    taken = begun | {s.name for s in known}
    name = next(n for n in (name, *(f"{name}-{k}" for k in range(2, 1000))) if n not in taken)
    path = results / name / "points.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"of": sweep.sweep_id, "points": points}))
    command = [sys.executable, "-m", sweep.tags[PROGRAM_TAG], *flags_of(sweep), *flags_for_points(sweep)]
    command += ["--points", str(path), "--name", name, "--tracking-uri", client.tracking_uri]
    code = wait_for(command)
    if code == INTERRUPTED:
        raise KeyboardInterrupt
    if code:
        raise AnalysisError(f"Retraining ended with exit code {code}: {shlex.join(command)}")


def wait_for(command: list[str]) -> int:
    """Run a command to its end and return its exit code.

    Ctrl-C is the command's: it closes its record, for longer than the 0.25 s after which `subprocess.run`
    would kill it.
    """
    process = subprocess.Popen(command)
    while True:
        try:
            return process.wait()
        except KeyboardInterrupt:
            continue


def flags_for_points(sweep: Sweep) -> list[str]:
    """Return what keeps a program that does more than one sweep to this one."""
    if sweep.tags[PROGRAM_TAG] == "searchers.densities":
        return ["--models", sweep.name.rpartition("-")[2]]
    return ["--final-epochs", "0"] if sweep.tags[PROGRAM_TAG] == "searchers.lego_vae" else []


def flags_of(sweep: Sweep) -> list[str]:
    """Return the settings that a sweep ran with as flags, without those that its retraining decides.

    All that is recorded is passed on, whatever the preset: which one is taken depends on the machine.
    """
    given = typed(sweep)
    features = sweep.params.get("features")
    settings = {name: value for name, value in sweep.params.items() if "/" not in name} | given
    if features is not None and given.get("features", "auto") == "auto":
        settings["features"] = comparable.extractor_name(features)
    skipped = PROVENANCE | NOT_PASSED_ON
    return [word for name, text in settings.items() if name not in skipped for word in flag(name, text)]


def flag(name: str, text: str) -> list[str]:
    """Return a setting as words of a command line; MLflow has it as Python prints it."""
    option = name.replace("_", "-")
    if text in ("True", "False"):
        return [f"--{option}" if text == "True" else f"--no-{option}"]
    if text.startswith("('"):
        return [f"--{option}", *map(str, ast.literal_eval(text))]
    return [f"--{option}", text]


def typed(sweep: Sweep) -> dict[str, str]:
    """Return what the record has from the command that ran the sweep alone, as far as it was typed there."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, argument_default=argparse.SUPPRESS)
    for name in (*NOT_RECORDED, "features"):  # the record has the network, not the path of its file
        parser.add_argument(f"--{name.replace('_', '-')}", f"--{name}", dest=name)
    return vars(parser.parse_known_args(shlex.split(sweep.tags.get(COMMAND_TAG, "")))[0])


def setting_of(trial: pd.Series, sweep: Sweep) -> dict[str, float | int | str]:
    """Return a trial's place in the search space, as plain values."""
    values = {name: trial[f"params.{name}"] for name in sweep.space}
    return {name: value.item() if hasattr(value, "item") else value for name, value in values.items()}


def retrainings(client: "MlflowClient", sweep: Sweep) -> list[pd.DataFrame]:
    """Return the trials of each retraining of a sweep that has any."""
    found = [load_trials(client, s) for s in sweeps(client) if s.tags.get(RETRAINS_TAG) == sweep.sweep_id]
    return [trials for trials in found if len(trials)]


def seeds_of(client: "MlflowClient", tables: Tables) -> pd.DataFrame | None:
    """Return `over_seeds` of the settings that were trained to the end on several seeds; None without any.

    They are the sweep's own trials, where it tries seeds itself, and all retraining of it; a seed that was
    trained twice counts once. A setting is named by the number of the best of its trials in the sweep. Scores
    under other conditions than most have are left out.
    """
    sweep, metric = tables.sweep, f"metrics.{tables.sweep.metric}"
    found = retrainings(client, sweep)
    if SEED in tables.space or RETRAINS_TAG in sweep.tags:
        found.append(tables.trials)
    found = [trials[trials["status"] == FINISHED] for trials in found if metric in trials]
    if not sum(map(len, found)):
        return None
    trials = pd.concat(found, ignore_index=True)
    trials = trials[np.isfinite(trials[metric])]
    _, trials = comparable.groups(trials, sweep.metric)[0]
    numbers = {key_of(row, tables.settings): row["number"] for _, row in tables.best_first()[::-1].iterrows()}
    settings = trials.apply(lambda row: numbers.get(key_of(row, tables.settings)), axis=1)
    once = ~pd.DataFrame({"setting": settings, "seed": trials["params.seed"]}).duplicated()
    seeds = over_seeds(trials[metric][once], settings[once])
    seeds = seeds[seeds["seeds"] > 1]
    return None if seeds.empty else seeds.set_axis(seeds.index.astype(int))


def key_of(trial: pd.Series, settings: Iterable[str]) -> tuple:
    """Name a setting; trials of one setting that differ by their seed have one name."""
    return tuple(str(trial.get(f"params.{name}")) for name in settings)
