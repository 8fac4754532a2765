"""Where a sweep's scores come from: its settings, the code and the packages that ran it, what was typed."""

import json
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from latentune import called
from searchers.bayesopt.space import Real, Space
from searchers.record.schema import (
    ARGUMENTS_TAG,
    COMMAND_TAG,
    METRIC_TAG,
    MODE_TAG,
    MODEL_TAG,
    OBJECTIVES_TAG,
    PROGRAM_TAG,
    REFERENCES,
    RETRAINS_TAG,
    SPACE_PARAM,
    reference_param,
)
from searchers.scheduling.rule import REDUCTION_FACTOR
from searchers.study.config import Role, RunConfig, SweepConfig, having
from searchers.study.study import Study

PACKAGES = ("torch", "torchvision", "ray", "mlflow", "bayesian-optimization", "pytorch-fid", "latentune")


@dataclass(frozen=True)
class About:
    """The parent run's description, parameters and tags."""

    description: str
    params: dict[str, Any]
    tags: dict[str, str]


def about(study: Study, space: Space, config: SweepConfig, program: str) -> About:
    """Describe the sweep: its settings, the code and the packages that ran it, and what the scores mean."""
    tags = {**origin(program), METRIC_TAG: study.metric, MODE_TAG: study.mode}
    kind = study.trainable.__name__
    if hasattr(study.trainable, "model_class"):  # else each trial names its own
        model, _ = study.trainable.model_of(study.settings)
        tags[MODEL_TAG], kind = f"{model.__module__}:{model.__qualname__}", model.__name__
    whole = not config.early_stopping or study.objectives
    stopping = "no early stopping" if whole else "pauses at ASHA's rungs"
    further = "".join(f" and {mode}imizing `{name}`" for name, mode in study.objectives.items())
    description = (
        f"**{config.title}**: {kind} tuned over {', '.join(study.space)}, "
        f"{config.num_samples} settings at most, of up to {config.epochs} epochs, {study.mode}imizing "
        f"`{study.metric}`{further} with {stopping}.\n\n"
        f"Each child run is a trial; sort the runs table by `{study.metric}`."
    )
    params = {
        **lasting_settings(config),
        **(study.provenance or {}),
        **{f"{SPACE_PARAM}{name}": json.dumps(extent) for name, extent in extents(space).items()},
        "reduction_factor": REDUCTION_FACTOR,
    }
    tags[ARGUMENTS_TAG] = json.dumps(recorded_arguments(config))
    if study.objectives:
        tags[OBJECTIVES_TAG] = json.dumps({study.metric: study.mode, **study.objectives})
    if config.points_file and "of" in (points := json.loads(config.points_file.read_text())):
        tags[RETRAINS_TAG] = points["of"]
    return About(description, params, tags)


def recorded_arguments(config: RunConfig) -> dict[str, Any]:
    """Return what another run needs to train as this one did: all settings, but not where the record is."""
    left_out = {"name", "tracking_uri", *having(type(config), Role.COMMAND), *config.unused}
    return {name: value for name, value in asdict(config).items() if name not in left_out}


def references_of(study: Study) -> dict[str, float]:
    """Return what images that no model made score by the study's metric, as far as its provenance has it."""
    known = study.provenance or {}
    keys = {name: reference_param(key, study.metric) for name, key in REFERENCES.items()}
    return {name: float(known[key]) for name, key in keys.items() if key in known}


def lasting_settings(config: RunConfig) -> dict[str, Any]:
    """Return the settings that a resumed sweep keeps: MLflow holds a parameter to its first value."""
    changing = having(type(config), Role.COMMAND, Role.MAY_CHANGE)
    return {name: value for name, value in asdict(config).items() if name not in changing}


def origin(program: str, packages: Sequence[str] = PACKAGES) -> dict[str, str]:
    """Return tags that say what was typed and which code and packages ran it."""
    tags = {f"version.{package}": _version(package) for package in packages}
    tags |= {
        "python": platform.python_version(),
        PROGRAM_TAG: program.removeprefix("python -m "),
        # What Python code called has no words of its own: a notebook's are its kernel's.
        COMMAND_TAG: shlex.join([*called(program).split(), *sys.argv[1:]]) if " -m " in program else program,
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


def extents(space: Space) -> dict[str, dict[str, Any]]:
    """Return each dimension's range or choices as plain data; both bounds are included."""
    described = {}
    for dimension in space.dimensions:
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
