"""The command line that all sweeps share: flags to a configuration, errors to a sentence and exit code 2."""

import argparse
import os
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict
from typing import TypeVar

import tyro
from rich.console import Console

from cluster.errors import ClusterError
from cluster.head import cluster_up_here
from cluster.laptop import say, without
from latentune import called, gathered, line_of, typed, words_of
from searchers.bayesopt.space import SpaceError
from searchers.execution.elsewhere import elsewhere
from searchers.execution.resume import resolve
from searchers.study.config import RunConfig, SweepConfig, UsageError
from searchers.study.given import listed_points
from searchers.study.help import show_help
from trainables.data.catalogue import refuse_unknown
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
    given = sys.argv[1:] if arguments is None else arguments
    config = parse(called_as, presets, given)
    try:
        if config.on or config.attach:
            return elsewhere(program, config, presets[config.preset], given, console)
        config, sweep_id = resolve(config, presets[config.preset], program, typed(given))
        refuse_at_once(config)
        told_where = config.dry_run or config.address or os.environ.get("RAY_ADDRESS")
        if not told_where and (up := cluster_up_here()):
            say(console, f"Cluster {up} is up, and this runs here: --on ray_cluster.yaml runs it there.")
        if not config.dry_run:
            return work(config, sweep_id, console)
        console.print(changed(config, presets[config.preset]), highlight=False, markup=False, soft_wrap=True)
        code = work(config, sweep_id, console)
        words = without(given, "--dry-run")
        again = line_of(words_of(program, *words))
        console.print(f"Start it: {again}", highlight=False, markup=False, soft_wrap=True)
        return code
    except (UsageError, SpaceError, DataError, MetricError, ClusterError) as error:
        errors.print(f"{called_as}: {error}", highlight=False, soft_wrap=True, markup=False)
        return 2
    except KeyboardInterrupt:
        errors.print(f"{called_as}: interrupted; what was recorded is kept", highlight=False)
        return 130


def refuse_at_once(config: RunConfig) -> None:
    """Look for the files and the GPU that a sweep names, before its data is prepared.

    Raises DataError where there is no such data set, UsageError where the file of points can't be read, and
    where a trial is to have a GPU, there is none here, and no cluster is joined.
    """
    with suppress(OSError, RuntimeError):  # what can't be looked at, reading it tells
        if not config.resume:  # the cache may have images that are gone
            refuse_unknown(config.dataset)
    if isinstance(config, SweepConfig) and config.points_file:
        try:
            listed_points(config.points_file)
        except ValueError as error:
            raise UsageError(f"--points: {error}") from error
    joined = config.address or os.environ.get("RAY_ADDRESS") or "local"
    if config.gpus_per_trial and joined == "local":
        import torch  # which takes a second

        if not torch.cuda.is_available():
            raise UsageError(
                f"a trial is to have {config.gpus_per_trial:g} GPUs, and torch sees none here: "
                "--gpus-per-trial 0 trains on CPUs, and --on or --address on a cluster"
            )


def changed(config: RunConfig, preset: RunConfig) -> str:
    """Say which settings a configuration has that its preset has not."""
    apart = {"name", "resume", "dry_run", "on", "attach"}
    now, usual = asdict(config), asdict(preset)
    said = [f"{name} {_words(now[name])}" for name in now if name not in apart and now[name] != usual[name]]
    return f"Preset {config.preset}, with {', '.join(said) or 'nothing changed'}; --help lists its settings."


def _words(value: object) -> str:
    return " ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def parse(program: str, presets: Mapping[str, Config], arguments: list[str]) -> Config:
    """Return the preset's configuration with the flags' changes.

    Exits with code 2 where a flag is wrong, and with 0 where help is asked for.
    """
    first = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    first.add_argument("--preset", default="quick")
    preset = first.parse_known_args(arguments)[0].preset
    default = presets.get(preset, presets["quick"])  # tyro itself refuses an unknown one
    if {"-h", "--help"} & set(arguments):
        show_help(program, default, Console())
        sys.exit(0)
    config, words = (tyro.conf.SuppressFixed,), gathered(arguments, type(default))
    return tyro.cli(type(default), prog=program, args=words, default=default, config=config)
