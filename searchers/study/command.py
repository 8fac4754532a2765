"""A command beside the sweeps: its flags parsed, and one sentence where something is wrong."""

import sys
from collections.abc import Callable
from typing import TypeVar

import tyro
from rich.console import Console

from latentune import at_home, called
from searchers.study.config import UsageError

Config = TypeVar("Config")


def run_command(
    program: str,
    config_class: type[Config],
    body: Callable[[Config, Console], int],
    arguments: list[str] | None,
) -> int:
    """Parse the flags, call `body`, return the exit code: 2 and a sentence for what a user can put right."""
    program = called(program)
    try:
        config = tyro.cli(config_class, prog=program, args=arguments, description=body.__doc__)
        return body(at_home(config), Console())
    except UsageError as error:
        sentence, code = str(error), 2
    except OSError as error:
        sentence, code = f"{error.filename}: {error.strerror}" if error.filename else str(error), 2
    except KeyboardInterrupt:
        sentence, code = "interrupted; nothing is lost", 130
    print(f"{program}: {sentence}", file=sys.stderr)
    return code
