"""The commands that a sweep tells a person to type next: they can be copied as they are."""

import shlex
import sys
from pathlib import Path

from searchers.study.config import RunConfig, default_tracking_uri


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
