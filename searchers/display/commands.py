"""The commands that a sweep tells a person to type next: they can be copied as they are."""

import sys
from pathlib import Path

from latentune import line_of, words_of
from searchers.record.schema import FROM_PYTHON
from searchers.study.config import RunConfig, default_tracking_uri


def ui_command(tracking_uri: str) -> str:
    """Return the command that opens the MLflow UI on this record."""
    if tracking_uri.startswith("http"):
        return f"it is at {tracking_uri}"
    program = str(Path(sys.executable).with_name("mlflow"))
    return line_of([program, "ui", "--backend-store-uri", tracking_uri])


def analysis_command(name: str, config: RunConfig) -> str:
    """Return a command of `analysis` on this sweep's record, which it finds by itself where that is usual."""
    words = ["--sweep", config.title]
    if config.tracking_uri != default_tracking_uri():
        words += ["--tracking-uri", config.tracking_uri]
    own = getattr(config, "model", None) or ""  # MODULE:CLASS, which `searchers.tune` was given
    if own and not own.startswith(("__main__", "trainables.")):
        words += ["--trust", own.partition(".")[0].partition(":")[0]]
    return line_of(words_of(f"analysis.{name}", *words))


def resume_command(program: str, config: RunConfig, name: str | None = None) -> str:
    """Return the command, or the call, that goes on with this sweep, or with the one it is a part of."""
    if program == FROM_PYTHON:
        place = "" if config.results == RunConfig.results else f", results={config.results!r}"
        return f"sweep(study, resume={name or config.title!r}{place})"
    words = ["--resume", name or config.title]
    if config.results != RunConfig.results:
        words += ["--results", config.results]
    return line_of(words_of(program, *words))
