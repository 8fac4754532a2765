"""What the commands share: which record is read, and one sentence where something is wrong."""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, TypeVar

import tyro
from rich.console import Console

from analysis.charts.text import accept_any_text, console
from analysis.record.store import AnalysisError, is_of_mlflow, reason_of
from latentune import called
from trainables.data.store import DataError
from trainables.metrics.errors import MetricError


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
    accept_any_text()
    program = called(program)
    description = (body.__doc__ or "").split("\n\n")[0]
    try:
        config = tyro.cli(config_class, prog=program, args=arguments, description=description)
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
    except Exception as error:
        if not is_of_mlflow(error):
            raise
        code, sentence = 2, f"MLflow refused: {reason_of(error)}."
    console(stderr=True).print(f"{program}: {sentence}", soft_wrap=True)
    return code
