"""What the commands share: which record is read, and one sentence where something is wrong."""

import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Annotated, TypeVar

import tyro
from rich.console import Console

from analysis.charts.text import accept_any_text, console
from analysis.record.store import AnalysisError, is_of_mlflow, reason_of
from latentune import at_home, called, gathered, on_cluster
from trainables.data.store import DataError
from trainables.metrics.errors import MetricError
from trainables.own import look_here


@dataclass(frozen=True)
class Record:
    """Which sweep of which MLflow."""

    sweep: Annotated[str, tyro.conf.arg(aliases=["-s"])]
    """name or id of the sweep"""
    tracking_uri: str | None = None
    """MLflow's database or server; MLFLOW_TRACKING_URI or sqlite:///mlflow.db, if not given"""
    trust: tuple[str, ...] = ()
    """modules of models of your own: a trial's weights are loaded by code that its record names"""
    on: str | None = None
    """run it on the cluster of this file, such as ray_cluster.yaml, where the record is; what it writes comes
    here"""


Config = TypeVar("Config")
INTERRUPTED = 130  # the exit code after Ctrl-C


def allow(modules: Sequence[str]) -> None:
    """Let models of these modules be loaded; they are looked for in the working folder, too.

    Raises AnalysisError where there is no such module.
    """
    from trainables.models.storage import trust  # imports PyTorch

    look_here()
    for module in modules:
        try:
            found = find_spec(module.partition(".")[0])
        except ValueError:
            found = None
        if found is None:
            raise AnalysisError(f"--trust {module}: there is no module of this name, here or installed")
    trust(*modules)


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
    typed, program = program, called(program)
    description = (body.__doc__ or "").split("\n\n")[0]
    words = sys.argv[1:] if arguments is None else arguments
    try:
        args = gathered(words, config_class)
        config = tyro.cli(config_class, prog=program, args=args, description=description)
        if on := getattr(config, "on", None):
            return on_cluster(on, typed, words, console())
        if isinstance(config, Record) and config.trust:
            allow(config.trust)
        return body(at_home(config), console())
    except BrokenPipeError:
        sys.stderr.close()  # the reader of a pipe has seen enough
        return 0
    except KeyboardInterrupt:
        code, sentence = INTERRUPTED, "interrupted"
    except (AnalysisError, DataError, MetricError) as error:
        code, sentence = 2, str(error)
    except OSError as error:
        code, sentence = 2, f"{error.filename}: {error.strerror}" if error.filename else str(error)
    except Exception as error:
        if not is_of_mlflow(error):
            raise
        code, sentence = 2, f"MLflow refused: {reason_of(error)}."
    console(stderr=True).print(f"{program}: {sentence}", soft_wrap=True)
    if code == INTERRUPTED and arguments is None:
        sys.stdout.flush()
        os._exit(
            code
        )  # Python takes seconds to take PyTorch and MLflow down, which Ctrl-C is not to wait for
    return code
