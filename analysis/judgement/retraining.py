"""Training the best settings again with other seeds: a sweep of its own, of given points, on the cluster."""

import json
import shlex
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

from analysis.charts.text import file_name
from analysis.judgement import comparable
from analysis.judgement.seeds import retraining_sweeps, setting_of
from analysis.record.store import AnalysisError
from analysis.record.sweeps import Sweep, sweeps
from analysis.record.tables import SEED, Tables
from analysis.record.trials import load_trials
from latentune import words_of
from searchers.record import schema

if TYPE_CHECKING:
    from mlflow import MlflowClient

SEED_STEP = 1000  # the new seeds lie beyond those that a person would have tried
INTERRUPTED = 130  # exit code of a sweep after Ctrl-C
RESULTS = "results"  # where sweeps are, if the record does not say
# A retraining decides these itself, or they belong to a search, which it is not.
NOT_PASSED_ON = {
    "num_samples",
    "points",
    "searcher",
    "warm_start",
    "share",
    "surrogate",
    "trainings",
    "grace_epochs",
    "replicates",
    "final_epochs",
}


def retrain(client: "MlflowClient", tables: Tables, numbers: list[int], seeds: int) -> None:
    """Train the settings of trials again on fresh seeds, to the last epoch, as a sweep of its own.

    Raises AnalysisError as `require_retrainable` and `train_points`; KeyboardInterrupt where it was
    interrupted.
    """
    require_retrainable(client, tables)
    sweep = tables.sweep
    first = int((sweep.arguments or {}).get("seed") or 0) + SEED_STEP
    for again in retraining_sweeps(client, sweep):
        trials = load_trials(client, again)
        if len(trials):
            first = max(first, int(trials[f"params.{SEED}"].max()) + 1)
    chosen = tables.trials.set_index("number").loc[numbers]
    points = [
        {**setting_of(trial, tables), SEED: first + k} for _, trial in chosen.iterrows() for k in range(seeds)
    ]
    train_points(client, sweep, {"of": sweep.sweep_id, "points": points}, "seeds")


def require_retrainable(client: "MlflowClient", tables: Tables) -> None:
    """Raise AnalysisError, with the reason, where a sweep's settings cannot be trained on other seeds."""
    sweep = tables.sweep
    if SEED in tables.space:
        raise AnalysisError(
            f"{sweep.name!r} has trained each setting on several seeds; "
            f"--seeds of {sweep.tags.get(schema.PROGRAM_TAG)} sets how many."
        )
    if schema.RETRAINS_TAG in sweep.tags:
        origin = sweep.tags[schema.RETRAINS_TAG]
        of = {s.sweep_id: s.name for s in sweeps(client)}.get(origin, origin)
        raise AnalysisError(
            f"{sweep.name!r} is a retraining of {of!r}; --sweep {shlex.quote(of)} trains further seeds."
        )
    program_of(sweep)


def train_points(
    client: "MlflowClient", sweep: Sweep, points: dict[str, Any], suffix: str, **changed: Any
) -> str:
    """Train given settings to the last epoch as a sweep of its own; return its name.

    The sweep's own program does it, on the cluster that it finds. The points lie in the new sweep's folder of
    results, where a resumption finds them. `changed` are settings that differ from the sweep's own.

    Raises AnalysisError where the record does not say which program ran with which settings, and where the
    program fails; KeyboardInterrupt where it was interrupted.
    """
    program, part = program_of(sweep), f"-{model}" if (model := model_of(sweep)) else ""
    results = Path((sweep.arguments or {}).get("results") or RESULTS).absolute()
    taken = {s.name.removesuffix(part) for s in sweeps(client)}
    name = free_name(results, f"{file_name(sweep.name)}-{suffix}", taken)
    path = results / name / "points.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(points), encoding="utf-8")
    command = words_of(program, *flags_of(sweep, **changed))
    command += ["--points", str(path), "--name", name, "--tracking-uri", client.tracking_uri]
    code = wait_for(command)
    if code == INTERRUPTED:
        raise KeyboardInterrupt
    if code:
        raise AnalysisError(f"Training again ended with exit code {code}: {shlex.join(command)}")
    return name + part


def model_of(sweep: Sweep) -> str | None:
    """Return the model that a sweep is of, where its program does one for each; they are named after it."""
    of = (sweep.arguments or {}).get("models", ())
    return next((model for model in of if sweep.sweep_id.endswith(f"-{model}")), None)


def program_of(sweep: Sweep) -> str:
    """Return the program that ran a sweep. Raises AnalysisError where none is known that can be called."""
    program = sweep.tags.get(schema.PROGRAM_TAG)
    if program is None:
        raise AnalysisError(f"The record of {sweep.name!r} does not say which command ran it.")
    if sweep.arguments is None:
        raise AnalysisError(f"The record of {sweep.name!r} does not say with which settings it ran.")
    if program == schema.FROM_PYTHON:
        raise AnalysisError(
            f"{sweep.name!r} was run from Python, where its model is: sweep(study, seed=…, points=…) trains "
            "its settings again."
        )
    return program


def free_name(results: Path, wanted: str, taken: set[str]) -> str:
    """Return the wanted name, or with a number behind it where a sweep has it already."""
    begun = {path.parent.name for path in results.glob("*/sweep.json")}
    names = (wanted, *(f"{wanted}-{k}" for k in range(2, len(begun | taken) + 3)))
    return next(name for name in names if name not in begun | taken)


def wait_for(command: list[str]) -> int:
    """Run a command to its end and return its exit code.

    The command itself handles Ctrl-C: it closes its record, which takes longer than the 0.25 s after which
    `subprocess.run` would kill it.
    """
    process = subprocess.Popen(command)
    while True:
        try:
            return process.wait()
        except KeyboardInterrupt:
            continue


def flags_of(sweep: Sweep, **changed: Any) -> list[str]:
    """Return the recorded settings of a sweep, as far as they are not `changed`, as flags of its program.

    All settings are passed on, whatever the preset: which one is taken depends on the machine. A program that
    does more than one sweep is kept to this one.
    """
    arguments = (sweep.arguments or {}) | changed
    settings = {name: value for name, value in arguments.items() if name not in NOT_PASSED_ON}
    if settings.get("features") == "auto" and "features" in sweep.params:
        # What "auto" chose there might not be what it would choose here.
        settings["features"] = comparable.extractor_name(sweep.params["features"])
    if "final_epochs" in arguments:  # after its sweep the program trains the winner once more
        settings["final_epochs"] = 0
    if model := model_of(sweep):
        settings["models"] = [model]
    own = [settings.pop("model")] if "model" in settings else []  # MODULE:CLASS of a person's own, not a flag
    return [*own, *(word for name, value in settings.items() for word in flag(name, value))]


def flag(name: str, value: Any) -> list[str]:
    """Return a setting as words of a command line."""
    option = f"--{name.replace('_', '-')}"
    if isinstance(value, bool):
        return [option if value else f"--no-{option.removeprefix('--')}"]
    if isinstance(value, list):
        return [option, *map(str, value)]
    return [option, str(value)]
