"""What `--dry-run` says: what a sweep would train, how long that takes here, and what it would fill."""

import itertools
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from analysis.charts.text import duration, megabytes, number
from cluster.connect import Cluster
from searchers.bayesopt.space import Choice, Dimension
from searchers.bayesopt.tune_space import read_space
from searchers.execution.driver import KEPT
from searchers.record.mlflow_store import StoreError, client_of, is_remote, passes, sentence
from searchers.scheduling.rule import PauseRule
from searchers.study.config import RunConfig, SweepConfig, UsageError
from searchers.study.study import Study
from trainables.data.addresses import database_path
from trainables.data.store import DataError
from trainables.metrics.errors import MetricError
from trainables.own import RAISED
from trainables.tune.trainable import GenerativeTrainable

STEPS = 12  # that are timed, after two that warm up


@dataclass(frozen=True)
class Cost:
    """What a trial costs here: seconds on one core, or on its GPU, and bytes."""

    start: float
    step: float
    epoch: float
    evaluation: float
    checkpoint: int
    images: int
    """bytes of the pictures of one evaluation"""


def plan(
    study: Study,
    config: SweepConfig,
    rule: PauseRule,
    first: dict[str, Any],
    cluster: Cluster,
    console: Console,
) -> None:
    """Print what the sweep would do. `first` is the first trial's place in the space.

    Raises UsageError where MLflow can't be written to and waiting does not help.
    """
    check_tracking(config, console)
    so_far = time.process_time()
    cpus, gpus = cluster.trial_gets(config.cpus_per_trial, config.gpus_per_trial)
    slots = cluster.slots(cpus, gpus)
    at_once = min(slots, config.max_concurrent or slots, config.num_samples)
    table = Table.grid(padding=(0, 2))
    table.add_row("Space", "\n".join(extent(d) for d in read_space(study.space).dimensions))
    table.add_row(
        "Trials", f"{config.num_samples} at most, {at_once} side by side, of {config.epochs} epochs at most"
    )
    trainings = min(rule.budget / config.epochs, config.num_samples + rule.replicates)
    rungs = ", ".join(map(str, rule.rungs[:-1]))
    again = f"; the best {rule.replicates} are trained again with another seed" if rule.replicates else ""
    table.add_row("Budget", f"{trainings:g} whole trainings, in epochs{again}")
    table.add_row("Rungs", f"epochs {rungs}" if rungs else "none: each trial trains to its last epoch")
    if issubclass(study.trainable, GenerativeTrainable):
        try:
            cost = measure(study.trainable, {**study.settings, **first})
        except (DataError, MetricError):
            raise
        except RAISED as error:  # a person's own model raises anything
            said = str(error).partition("\n")[0]
            raise UsageError(f"The first trial fails: {type(error).__name__}: {said}") from error
        trials = config.num_samples + rule.replicates
        for name, said in costs(config, cost, trials, trainings, at_once, "its GPU" if gpus else "one core"):
            table.add_row(name, said)
        said = f"{short(so_far)} of CPU time until here, as the sweep will; {short(cost.start)} a trial's"
        table.add_row("Start-up", f"{said} process after its imports")
    console.print(table, highlight=False, markup=False)


def costs(
    config: SweepConfig, cost: Cost, trials: int, trainings: float, at_once: int, on: str
) -> Iterator[tuple[str, str]]:
    """Say how long the sweep takes and what it fills, by what one trial was measured to cost."""
    evaluations = -(-config.epochs // config.evaluate_every)
    training = config.epochs * cost.epoch + evaluations * cost.evaluation
    parts = f"{config.epochs} epochs of {short(cost.epoch)} ({short(cost.step)} a step)"
    parts += f", {evaluations} evaluations of {short(cost.evaluation)}"
    yield "Time", f"about {duration(trainings * training / at_once)} of training in all"
    yield "", f"a whole training takes {duration(training)} on {on} here: {parts}"
    kept = min(KEPT, evaluations) * trials
    pictures = (evaluations + 1) * trials * cost.images  # the first ones are of before training
    pictures *= 1 if is_remote(config.tracking_uri) else 2  # MLflow has them in a folder of its own, too
    filled, each = megabytes(kept * cost.checkpoint + pictures), megabytes(cost.checkpoint)
    yield "Disk", f"{filled} at most: {kept} checkpoints of {each}, pictures {megabytes(pictures)}"


def extent(dimension: Dimension) -> str:
    """Say what a dimension ranges over."""
    if isinstance(dimension, Choice):
        return f"{dimension.name}: one of {', '.join(map(str, dimension.choices))}"
    kinds = [*(["whole numbers"] if dimension.integer else []), *(["logarithmic"] if dimension.log else [])]
    behind = f" ({', '.join(kinds)})" if kinds else ""
    return f"{dimension.name}: {number(dimension.value(0.0))} to {number(dimension.value(1.0))}{behind}"


def short(seconds: float) -> str:
    """Format a duration that may be far below a second."""
    if seconds < 1:
        return f"{1000 * seconds:.0f} ms"
    return f"{seconds:.1f} s" if seconds < 10 else duration(seconds)


def measure(trainable: type[GenerativeTrainable], config: dict[str, Any]) -> Cost:
    """Set a trial up in this process, train some of its steps, evaluate once, save once."""
    begin = time.process_time()
    trial = trainable(config={**config, "processes": 1})
    start = time.process_time() - begin
    trial.model.progress = 0.5  # all networks train from here on, whatever the recipe's phases
    step = step_seconds(trial, STEPS)[STEPS // 2]
    begin = clock(trial)
    images = trial.evaluate().get("images", {})
    evaluation = clock(trial) - begin
    with TemporaryDirectory() as folder:
        trial.save_checkpoint(folder)
        checkpoint = sum(path.stat().st_size for path in Path(folder).iterdir())
    return Cost(
        start, step, step * len(trial.batches), evaluation, checkpoint, sum(map(len, images.values()))
    )


def step_seconds(trial: GenerativeTrainable, count: int) -> list[float]:
    """Return the seconds of `count` training steps after two that warm up, the shortest first."""
    seconds = []
    for batch in itertools.islice(itertools.cycle(trial.epoch_batches(0)), count + 2):
        begin = clock(trial)
        trial.train_step(*batch)
        seconds.append(clock(trial) - begin)
    return sorted(seconds[2:])


def clock(trial: GenerativeTrainable) -> float:
    """Return the CPU seconds of this process; where a trial computes on a GPU, seconds once that is done."""
    if trial.device.type != "cuda":
        return time.process_time()
    torch.cuda.synchronize()
    return time.perf_counter()


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
