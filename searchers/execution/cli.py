"""The command line that all sweeps share: flags to a configuration, errors to a sentence and exit code 2."""

import argparse
import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import TypeVar

import torch
import tyro
from rich.console import Console

from cluster.connect import ClusterError
from latentune import called
from searchers.bayesopt.space import SpaceError
from searchers.execution.resume import resolve
from searchers.study.config import RunConfig, UsageError
from trainables.data.store import DataError
from trainables.metrics.errors import MetricError

Config = TypeVar("Config", bound=RunConfig)


def main_of(
    program: str,
    presets: Mapping[str, Config],
    work: Callable[[Config, str, Console], int],
    arguments: list[str] | None = None,
) -> int:
    """Parse the flags, resolve the configuration and do `work` with it, the sweep's id and the console.

    Returns the exit code: `work`'s, 2 for bad input, which is told in one sentence, or 130 after Ctrl-C.
    """
    console, errors = Console(), Console(stderr=True)
    called_as = called(program)
    config = parse(called_as, presets, sys.argv[1:] if arguments is None else arguments)
    try:
        config, sweep_id = resolve(config, presets[config.preset], program)
        if config.dry_run:
            console.print_json(json.dumps(asdict(config)))
        return work(config, sweep_id, console)
    except (UsageError, SpaceError, DataError, MetricError, ClusterError) as error:
        errors.print(f"{called_as}: {error}", highlight=False, soft_wrap=True, markup=False)
        return 2
    except KeyboardInterrupt:
        errors.print(f"{called_as}: interrupted; what was recorded is kept", highlight=False)
        return 130


def default_preset() -> str:
    """Return the preset of this machine: `report` is for GPUs."""
    return "report" if torch.cuda.is_available() else "quick"


def parse(program: str, presets: Mapping[str, Config], arguments: list[str]) -> Config:
    """Return the preset's configuration with the flags' changes. Exits with code 2 where a flag is wrong."""
    first = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    first.add_argument("--preset", default=default_preset())
    preset = first.parse_known_args(arguments)[0].preset
    default = presets.get(preset, presets["quick"])  # tyro itself refuses an unknown one
    return tyro.cli(type(default), prog=program, args=arguments, default=default, description="")
