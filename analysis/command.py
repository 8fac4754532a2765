"""What the commands of this package share: where the record is, and one sentence where something is wrong."""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, TypeVar

import tyro
from rich.console import Console

from analysis.record.runs import AnalysisError

PAGE_WIDTH = 160


@dataclass(frozen=True)
class Record:
    """Which sweep of which MLflow."""

    sweep: Annotated[str, tyro.conf.arg(aliases=["-s"])]
    """name or id of the sweep"""
    tracking_uri: str | None = None
    """MLflow's database or server; MLFLOW_TRACKING_URI or sqlite:///mlflow.db, if not given"""


Config = TypeVar("Config")


def run_command(
    program: str,
    config_class: type[Config],
    body: Callable[[Config, Console], int],
    arguments: list[str] | None,
) -> int:
    """Parse, run, return the exit code: 2 and a sentence on stderr for what the user can put right.

    130 after Ctrl-C.
    """
    from trainables.data.store import DataError
    from trainables.metrics.errors import MetricError

    description = (body.__doc__ or "").split("\n\n")[0]
    config = tyro.cli(config_class, prog=program, args=arguments, description=description)
    try:
        return body(config, console())
    except BrokenPipeError:
        sys.stderr.close()  # the reader of a pipe has seen enough
        return 0
    except KeyboardInterrupt:
        code, sentence = 130, "interrupted"
    except (AnalysisError, DataError, MetricError) as error:
        code, sentence = 2, str(error)
    except OSError as error:
        code, sentence = 2, f"{error.filename}: {error.strerror}" if error.filename else str(error)
    Console(stderr=True).print(f"{program}: {sentence}", highlight=False, soft_wrap=True, markup=False)
    return code


def console() -> Console:
    """Return the terminal, or a wide enough page where the output goes to a file."""
    terminal = Console()
    return terminal if terminal.is_terminal else Console(width=PAGE_WIDTH)


def with_deviation(value: float, std: float) -> str:
    """Format a score with its deviation, if that is known."""
    return number(float(value)) + ("" if std != std else f" ± {std:.2g}")


def number(value) -> str:
    """Format a setting or a score for a person."""
    if isinstance(value, float):
        return "–" if value != value else f"{value:.4g}"
    return str(value)
