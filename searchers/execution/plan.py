"""What `--dry-run` says: what a sweep would train, how long that takes here, and what it would fill."""

import itertools
import time
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from rich.console import Console

from analysis.charts.text import duration
from cluster.connect import Cluster
from searchers.execution.driver import KEPT
from searchers.record.mlflow_store import StoreError, client_of, database_path, passes, sentence
from searchers.scheduling.rule import PauseRule
from searchers.study.config import RunConfig, SweepConfig, UsageError
from searchers.study.study import Study
from trainables.tune.trainable import GenerativeTrainable

STEPS = 12  # that are timed, after two that warm up


@dataclass(frozen=True)
class Cost:
    """CPU seconds of an epoch and of an evaluation on one core here, and the bytes of a checkpoint."""

    epoch: float
    evaluation: float
    checkpoint: int


def plan(
    study: Study,
    config: SweepConfig,
    rule: PauseRule | None,
    first: dict[str, Any],
    cluster: Cluster,
    console: Console,
) -> None:
    """Print what the sweep would do. `first` is the first trial's place in the space.

    Raises UsageError where MLflow can't be written to and waiting does not help.
    """
    check_tracking(config, console)
    slots = cluster.slots(config.cpus_per_trial, config.gpus_per_trial)
    at_once = min(slots, config.max_concurrent or slots)
    trainings = config.num_samples if rule is None else rule.budget / config.epochs
    lines = [
        f"Trials: {config.num_samples} at most, {at_once} side by side; space: {', '.join(study.space)}."
    ]
    if rule is None:
        lines.append(f"Each trains for {config.epochs} epochs.")
    else:
        rungs = ", ".join(map(str, rule.rungs[:-1]))
        compared = f"trials are compared after epochs {rungs}" if rungs else "no trial is paused"
        again = f"; the best {rule.replicates} are trained again with another seed" if rule.replicates else ""
        lines.append(f"Budget: {trainings:g} trainings of {config.epochs} epochs; {compared}{again}.")
    if issubclass(study.trainable, GenerativeTrainable):
        cost = measure(study.trainable, {**study.settings, **first})
        evaluations = -(-config.epochs // config.evaluate_every)
        training = config.epochs * cost.epoch + evaluations * cost.evaluation
        filled = config.num_samples * KEPT * cost.checkpoint / 1e6
        lines.append(
            f"On one core here a training takes {duration(training)} ({evaluations} evaluations of "
            f"{cost.evaluation:.1f} s in it), the sweep about {duration(trainings * training / at_once)}."
        )
        lines.append(f"Checkpoints: {filled:.0f} MB at most.")
    lines.append("Leave out --dry-run to start it.")
    console.print("\n".join(lines), highlight=False, markup=False, soft_wrap=True)


def measure(trainable: type[GenerativeTrainable], config: dict[str, Any]) -> Cost:
    """Train some steps of a trial in this process, evaluate once, save once."""
    trial = trainable(config={**config, "processes": 1})
    trial.model.progress = 0.5  # all networks train from here on, whatever the recipe's phases
    step = step_seconds(trial, STEPS)[STEPS // 2]
    start = time.process_time()
    trial.evaluate()
    evaluation = time.process_time() - start
    with TemporaryDirectory() as folder:
        trial.save_checkpoint(folder)
        size = sum(path.stat().st_size for path in Path(folder).iterdir())
    return Cost(step * len(trial.batches), evaluation, size)


def step_seconds(trial: GenerativeTrainable, count: int) -> list[float]:
    """Return the CPU seconds of `count` training steps after two that warm up, the shortest first."""
    seconds = []
    for batch in itertools.islice(itertools.cycle(trial.epoch_batches(0)), count + 2):
        start = time.process_time()
        trial.train_step(*batch)
        seconds.append(time.process_time() - start)
    return sorted(seconds[2:])


def check_tracking(config: RunConfig, console: Console) -> None:
    """Ask MLflow whether it can be written to, and make nothing. Raises UsageError as the sweep would."""
    uri, path = config.tracking_uri, database_path(config.tracking_uri)
    try:
        if path is not None and not path.exists():
            folder = path.resolve().parent
            while not folder.exists():
                folder = folder.parent
            if not folder.is_dir():
                raise StoreError(f"{folder} is no folder")
            return
        client_of(uri).search_experiments(max_results=1)
    except Exception as error:
        if not isinstance(error, StoreError) and passes(error, uri):
            console.print(f"MLflow at {uri} does not answer now ({sentence(error)}); the sweep would begin.")
            return
        raise UsageError(f"MLflow at {uri} can't be written to: {sentence(error)}") from error
