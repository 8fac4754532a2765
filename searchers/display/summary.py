"""What a sweep says of itself: its provenance before it starts, its table and closing words at the end."""

import json
import math
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.table import Table

from searchers.bayesopt.space import Real
from searchers.display.live_table import best_record, number, ranked
from searchers.record.ledger import TrialRecord
from searchers.record.schema import FAILED, STOPPED
from searchers.study.config import MAY_CHANGE_ON_RESUME, RunConfig, SweepConfig, default_tracking_uri

if TYPE_CHECKING:
    from searchers.study.study import Study
    from searchers.sweep.driver import Driver

REDUCTION_FACTOR = 3  # of ASHA: a third of the trials that reach a rung go on
PACKAGES = ("torch", "torchvision", "ray", "mlflow", "bayesian-optimization", "pytorch-fid", "latentune")


@dataclass(frozen=True)
class About:
    """The parent run's description, parameters and tags."""

    description: str
    params: dict[str, Any]
    tags: dict[str, str]


def about(study: "Study", config: SweepConfig, program: str) -> About:
    """Describe the sweep: its settings, the code and the packages that ran it, and what the scores mean."""
    stopping = "no early stopping" if config.no_early_stopping or study.objectives else "ASHA"
    further = "".join(f" and {mode}imising `{name}`" for name, mode in study.objectives.items())
    description = (
        f"**{config.name}**: {study.trainable.__name__} tuned over {', '.join(study.space)}, "
        f"{config.num_samples} trials of up to {config.epochs} epochs, {study.mode}imising "
        f"`{study.metric}`{further} with {stopping}.\n\n"
        f"Each child run is a trial; sort the runs table by `{study.metric}`."
    )
    params = {
        **lasting_settings(config),
        **(study.provenance or {}),
        **{f"space/{name}": json.dumps(extent) for name, extent in extents(study.space).items()},
        "reduction_factor": REDUCTION_FACTOR,
    }
    tags = {**origin(program), "metric": study.metric, "mode": study.mode}
    if study.objectives:
        tags["latentune.objectives"] = json.dumps({study.metric: study.mode, **study.objectives})
    model = getattr(study.trainable, "model_class", None)
    if model is not None:
        tags["latentune.model"] = f"{model.__module__}:{model.__qualname__}"
    if config.points and (retrained := json.loads(Path(config.points).read_text())) and "of" in retrained:
        tags["latentune.retrains"] = retrained["of"]
    return About(description, params, tags)


def lasting_settings(config: RunConfig) -> dict[str, Any]:
    """Return the settings that a resumed sweep keeps: MLflow holds a parameter to its first value."""
    changing = {"resume", "dry_run", *MAY_CHANGE_ON_RESUME}
    return {name: value for name, value in asdict(config).items() if name not in changing}


def origin(program: str, packages: Sequence[str] = PACKAGES) -> dict[str, str]:
    """Return tags that say what was typed and which code and packages ran it."""
    tags = {f"version.{package}": _version(package) for package in packages}
    tags |= {
        "python": platform.python_version(),
        "latentune.program": program.removeprefix("python -m "),
        "latentune.command": shlex.join([*program.split(), *sys.argv[1:]]),
    }
    if commit := git_commit():
        tags["mlflow.source.git.commit"] = commit
    return tags


def _version(package: str) -> str:
    """Return the installed version; a cluster's machines have this project's code, but not as a package."""
    try:
        return version(package)
    except PackageNotFoundError:
        return "unknown"


def extents(space: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return each dimension's range or choices as plain data; both bounds are included."""
    from searchers.bayesopt.tune_space import read_space  # imports Ray

    described = {}
    for dimension in read_space(space).dimensions:
        if isinstance(dimension, Real):
            kind = "int" if dimension.integer else "float"
            described[dimension.name] = {
                "type": kind,
                "lower": dimension.low,
                "upper": dimension.high,
                "log": dimension.log,
            }
        else:
            described[dimension.name] = {"type": "categorical", "choices": list(dimension.choices)}
    return described


def git_commit() -> str | None:
    """Return the commit of this code, marked where files differ from it; None outside a checkout."""
    root = Path(__file__).resolve().parents[2]

    def git(*arguments: str) -> str:
        environment = os.environ | {"GIT_OPTIONAL_LOCKS": "0"}
        command = ["git", "-C", str(root), *arguments]
        return subprocess.run(
            command, capture_output=True, text=True, check=True, env=environment
        ).stdout.strip()

    try:
        return git("rev-parse", "HEAD") + ("-dirty" if git("status", "--porcelain", "-uno") else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def result_table(study: "Study", config: SweepConfig, records: list[TrialRecord]) -> Table:
    """Return all trials, the best first: a table for terminals of 80 columns.

    Beside further objectives there is no room for what is derived from a setting.
    """
    ordered = ranked(records, study.metric, study.mode)
    best = ordered[0] if ordered else None
    ordered += [record for record in records if not math.isfinite(record.last(study.metric))]
    further = {name: name.rpartition("/")[2] for name in study.objectives}
    derived = list(study.derived(records[0].config)) if records and not further else []
    table = Table(
        title=f"{config.name}: all trials",
        title_justify="left",
        title_style="bold",
        padding=(0, 0 if further else 1),
    )
    for name in ("trial", *study.space, *derived, "epoch", study.metric, *further.values()):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("state", no_wrap=True)
    for record in ordered:
        values = study.derived(record.config)
        table.add_row(
            str(record.number),
            *(number(record.config[name]) for name in study.space),
            *(number(values[name]) for name in derived),
            f"{record.epoch}/{config.epochs}",
            _score(record, study.metric),
            *(f"{record.last(name):.3g}" for name in further),
            record.status or "unfinished",
            style="bold green" if record is best else None,
        )
    return table


def _score(record: TrialRecord, metric: str) -> str:
    """Format a trial's last score with its deviation, if it has one."""
    if not record.metrics:
        return "–"
    deviation = record.last(f"{metric}_std")
    return number(record.last(metric)) + (f" ± {deviation:.2g}" if math.isfinite(deviation) else "")


def best_words(study: "Study", driver: "Driver") -> list[str]:
    """Say what is best, what stopped early, and where the figures are; a line each."""
    records, lines = driver.records, []
    best = best_record(records, study.metric, study.mode)
    if best:
        setting = ", ".join(f"{name} = {number(best.config[name])}" for name in study.space)
        setting += "".join(
            f", {name} = {number(value)}" for name, value in study.derived(best.config).items()
        )
        first = best.metrics[min(best.metrics)][study.metric]
        lines.append(
            f"Best: trial {best.number}, {setting}: {study.metric} {number(best.last(study.metric))} "
            f"after epoch {best.epoch} ({number(first)} after its first)."
        )
    else:
        lines.append("No trial has reported a score.")
    early = [record for record in records if record.status == STOPPED]
    if early:
        lines.append(f"Stopped early by ASHA: {len(early)} of {len(records)} trials.")
    folder = Path(driver.config.results) / driver.config.name
    figures = [folder / name for name in ("posterior.png", "pareto.png") if (folder / name).exists()]
    if figures:
        lines.append(f"Figure: {', '.join(map(str, figures))}")
    return lines


def closing_words(driver: "Driver", unsent: int) -> list[str]:
    """Say what failed, where everything is, and what to type next; a line each.

    `unsent` is how many events MLflow lacks.
    """
    config, delivery, lines = driver.config, driver.delivery, []
    failed = [record for record in driver.records if record.status == FAILED]
    if failed:
        numbers = ", ".join(str(record.number) for record in failed)
        lines.append(
            f"Failed: trial {numbers} ({failed[0].error}); the whole errors are in "
            f"{driver.checkpoints}/tune/*/error.txt."
        )
    if unsent:
        lines.append(
            f"{unsent} events have not reached MLflow at {config.tracking_uri} "
            f"({delivery.error or 'still sending'}); nothing is lost: {driver.resume} sends them."
        )
    if any(record.metrics for record in driver.records):
        lines.append(f"Who won, and can that be told? {analysis_command('winners', config)}")
        lines.append(f"One page for a colleague: {analysis_command('report', config)}")
    lines.append(f"Compare the trials in MLflow: {ui_command(config.tracking_uri)}")
    if delivery.experiment_id is not None:
        served = config.tracking_uri.startswith("http")
        base = config.tracking_uri.rstrip("/") if served else "http://127.0.0.1:5000"
        experiment = f"{base}/#/experiments/{delivery.experiment_id}"
        lines.append(f"then open {experiment}/runs?workflowType=machine_learning")
    if driver.interrupted:
        lines.append(f"Interrupted. Go on with: {driver.resume}")
    return lines


def exit_code(records: Sequence[TrialRecord], interrupted: bool) -> int:
    """Return 0; 130 after Ctrl-C; 1 where no trial reached an epoch."""
    if interrupted:
        return 130
    return 0 if any(record.metrics for record in records) else 1


def ui_command(tracking_uri: str) -> str:
    """Return the command that opens the MLflow UI on this record."""
    if tracking_uri.startswith("http"):
        return f"it is at {tracking_uri}"
    return f"{_program('mlflow')} ui --backend-store-uri {tracking_uri}"


def analysis_command(name: str, config: RunConfig) -> str:
    """Return a command of `analysis` on this sweep's record, which it finds by itself where that is usual."""
    words = [f"analysis.{name}", "--sweep", config.name]
    if config.tracking_uri != default_tracking_uri():
        words += ["--tracking-uri", config.tracking_uri]
    return f"{_program(Path(sys.executable).name)} -m {shlex.join(words)}"


def resume_command(program: str, config: RunConfig, name: str | None = None) -> str:
    """Return the command that goes on with this sweep, or with the one it is a part of."""
    words = [program.removeprefix("python -m "), "--resume", name or config.name]
    if config.results != RunConfig.results:
        words += ["--results", config.results]
    return f"{_program(Path(sys.executable).name)} -m {shlex.join(words)}"


def _program(name: str) -> str:
    """Return how a program of this environment is called from here, in quotes where its path needs them."""
    beside = Path(sys.executable).with_name(name)
    return shlex.quote(str(beside.relative_to(Path.cwd()) if beside.is_relative_to(Path.cwd()) else beside))
