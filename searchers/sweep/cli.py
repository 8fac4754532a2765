"""The command line that all sweeps share: flags to a configuration, errors to a sentence and exit code 2."""

import argparse
import json
import os
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import tyro
from rich.console import Console

from searchers.bayesopt.space import SpaceError
from searchers.study.config import SweepConfig, UsageError, resolve
from searchers.study.study import Study
from searchers.sweep.run import Outcome, run

Work = Callable[[SweepConfig, str, Console], int]
StudyOf = Callable[[SweepConfig, dict[str, Any], str, dict[str, Any]], Study]


def main_of(
    program: str, presets: dict[str, SweepConfig], work: Work, arguments: list[str] | None = None
) -> int:
    """Parse the flags, resolve the configuration and do `work` with it, the sweep's id and the console.

    Returns the exit code: `work`'s, 2 for bad input, which is told in one sentence, or 130 after Ctrl-C.
    """
    from trainables.data.store import DataError
    from trainables.metrics.errors import MetricError

    console, errors = Console(), Console(stderr=True)
    config = parse(program, presets, sys.argv[1:] if arguments is None else arguments)
    try:
        from cluster.connect import ClusterError

        config, sweep_id = resolve(config, presets[config.preset])
        if config.dry_run:
            print_plan(config, console)
            return 0
        return work(config, sweep_id, console)
    except (UsageError, SpaceError, DataError, MetricError, ClusterError) as error:
        errors.print(f"{program}: {error}", highlight=False, soft_wrap=True, markup=False)
        return 2
    except KeyboardInterrupt:
        errors.print(f"{program}: interrupted; what was recorded is kept", highlight=False)
        return 130


def parse(program: str, presets: dict[str, SweepConfig], arguments: list[str]) -> SweepConfig:
    """Return the preset's configuration with the flags' changes. Exits with code 2 where a flag is wrong."""
    import torch

    first = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    first.add_argument("--preset", default="report" if torch.cuda.is_available() else "quick")
    preset = first.parse_known_args(arguments)[0].preset
    default = presets.get(preset, presets["quick"])  # tyro itself refuses an unknown one
    return tyro.cli(type(default), prog=program, args=arguments, default=default, description="")


def tune_study(
    program: str, study: StudyOf, config: SweepConfig, sweep_id: str, console: Console, channels: int = 3
) -> Outcome:
    """Prepare data and reference, then run the study that `study` makes of the configuration.

    Raises UsageError, DataError, MetricError and ClusterError with one sentence each.
    """
    shared, metric, provenance = prepare(config, console, channels)
    return run(study(config, shared, metric, provenance), config, sweep_id, program, console)


def prepare(
    config: SweepConfig, console: Console, channels: int = 3
) -> tuple[dict[str, Any], str | None, dict[str, Any]]:
    """Convert the data and measure the reference once; return what trials share, the metric, the provenance.

    With `features` "none" there is no reference and no metric. Raises DataError and MetricError with one
    sentence each.
    """
    from trainables.data.batches import Batches
    from trainables.metrics.extractors.features import load_extractor
    from trainables.tune.trainable import TrainingConfig, load_reference, load_store

    path = Path(config.dataset).expanduser()
    weights = config.inception_weights and str(Path(config.inception_weights).expanduser().resolve())
    extractor = None
    if config.features != "none":
        extractor = load_extractor(config.features, weights=weights and Path(weights))
        console.print(extractor.reason, highlight=False)
    training = TrainingConfig(
        dataset=str(path.resolve()) if path.exists() else config.dataset,
        dataset_limit=config.dataset_limit,
        data_root=config.data_root and str(Path(config.data_root).expanduser().resolve()),
        batch_size=config.batch_size,
        precision=config.precision,
        compile=config.compile,
        features=extractor.name if extractor else "none",
        feature_weights=weights,
        evaluation_samples=config.evaluation_samples,
        images=True,
        seed=config.seed,
    )
    store = load_store(training, config.image_size, channels)
    Batches(store, "train", config.batch_size)  # too few images are told here, not by each trial
    size = f"{config.image_size}×{config.image_size}"
    console.print(f"Data: {store.manifest['name']}, {len(store)} images, {size}")
    provenance = {"data_hash": store.content_hash}
    if extractor:
        reference = load_reference(training, store, extractor)
        provenance |= {"features": str(extractor.identity), "reference_images": reference.n}
    shared = {**asdict(training), "image_size": config.image_size, "width": config.width}
    return shared, extractor.metric if extractor else None, provenance


def print_plan(config: SweepConfig, console: Console) -> None:
    """Print the resolved configuration and what this machine has."""
    import torch

    console.print_json(json.dumps(asdict(config)))
    here = f"this machine: {os.cpu_count()} CPUs, {torch.cuda.device_count()} GPUs"
    where = config.address or os.environ.get("RAY_ADDRESS")
    console.print(f"Trials would run on {f'the Ray cluster at {where}' if where else here}.", highlight=False)
