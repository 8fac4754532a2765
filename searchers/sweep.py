"""A sweep: trials of one trainable over a search space, on Ray, with BayesOpt and ASHA, recorded as they go.

`Study` says what is tuned, `SweepConfig` how this run of it goes, `run` does it. A sweep lives in
`<results>/<name>`: `sweep.json` (its settings), `ledger.jsonl` (all that happened), `images/`, the figure,
and `tune/` (Ray Tune's own snapshots and the checkpoints).
"""

import json
import logging
import os
import secrets
import signal
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field, fields, replace
from datetime import datetime
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Literal

from rich.console import Console

from searchers.ledger import Ledger, TrialRecord
from searchers.progress import best_record, ranked
from searchers.summary import (
    MAY_CHANGE_ON_RESUME,
    REDUCTION_FACTOR,
    about,
    closing_words,
    result_table,
)

if TYPE_CHECKING:
    from cluster.connect import Cluster

EXPORTED = 3  # the best trials' weights go into the record
UNKNOWN_TO_RESUME = ("preset", "resume", "dry_run", "name")


class UsageError(ValueError):
    """What was asked for cannot be done; the message says what can."""


def default_tracking_uri() -> str:
    """Return the server that the environment names, as on a cluster's head, or a database in this folder."""
    return os.environ.get("MLFLOW_TRACKING_URI", "sqlite:///mlflow.db")


@dataclass(frozen=True)
class SweepConfig:
    """Settings of one run of a sweep. The command line is this class."""

    preset: Literal["quick", "report"] = "quick"
    """quick: minutes on two CPU cores; report: the seed's own setting, for GPUs"""
    dataset: str = "faces"
    """faces (drawn, embedded), celeba, or a path: images, class folders, CelebA's layout, tar, zip"""
    dataset_limit: int | None = None
    """use this many images at most"""
    data_root: str | None = None
    """folder of the named data sets"""
    image_size: int = 64
    """images are resized to this many pixels, a multiple of 8"""
    width: float = 1.0
    """multiplies every hidden channel count of the networks"""
    batch_size: int = 256
    """images a training step"""
    precision: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """of training; auto: bfloat16 where the hardware has it"""
    compile: bool = False
    """compile the networks with torch.compile, which takes minutes at a trial's start"""
    epochs: int = 10
    """epochs a trial, if nothing stops it"""
    evaluation_samples: int = 1000
    """images that each evaluation generates"""
    features: str = "auto"
    """extractor of the Fréchet distance: auto, inception, efficientnet_lite0, dinov2"""
    inception_weights: str | None = None
    """file of pytorch-fid's Inception weights"""
    num_samples: int = 20
    """trials"""
    grace_epochs: int = 2
    """no trial is stopped before this many epochs"""
    no_early_stopping: bool = False
    """train every trial to its last epoch, without ASHA"""
    surrogate: Literal["fitted", "report", "matern", "nuts"] = "fitted"
    """Gaussian process of the search: hyperparameters learned, the seed's own, fixed Matérn, drawn by NUTS"""
    warm_start: str | None = None
    """name of an earlier sweep whose results the search begins with"""
    points: str | None = None
    """JSON file with a list of settings to train to the end instead of searching"""
    cpus_per_trial: float = 1.0
    """CPU cores a trial gets"""
    gpus_per_trial: float = 0.0
    """share of a GPU a trial gets"""
    max_concurrent: int | None = None
    """trials side by side; as many as fit, if not given"""
    seed: int = 0
    """of data order, networks and search"""
    name: str | None = None
    """name of the sweep; made from the date, if not given"""
    resume: str | None = None
    """go on with the sweep of this name"""
    results: str = "results"
    """folder of all sweeps"""
    storage: str | None = None
    """where checkpoints go: a folder that all nodes see, s3://… or gs://…; among the results, if not given"""
    tracking_uri: str = field(default_factory=default_tracking_uri)
    """MLflow's database or server; MLFLOW_TRACKING_URI, where that is set"""
    address: str | None = None
    """Ray cluster to join; an embedded one is started, if neither this nor RAY_ADDRESS is given"""
    dry_run: bool = False
    """print the resolved configuration and the resources, start nothing"""

    def __post_init__(self):
        for name in (
            "batch_size",
            "epochs",
            "num_samples",
            "grace_epochs",
            "dataset_limit",
            "max_concurrent",
        ):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"--{name.replace('_', '-')} is {value}; it must be 1 or more")
        if self.evaluation_samples < 20:
            raise ValueError(f"--evaluation-samples is {self.evaluation_samples}; it must be 20 or more")
        if self.image_size < 8:
            raise ValueError(f"--image-size is {self.image_size}; it must be 8 or more")
        for name in ("width", "cpus_per_trial"):
            if not getattr(self, name) > 0:
                raise ValueError(f"--{name.replace('_', '-')} is {getattr(self, name)}; it must be above 0")
        if self.gpus_per_trial < 0:
            raise ValueError(f"--gpus-per-trial is {self.gpus_per_trial}; it must be 0 or more")
        for option in ("name", "resume"):
            value = getattr(self, option)
            if value is not None and (Path(value).name != value or value.startswith(".")):
                raise ValueError(f"--{option} is {value!r}; it must be a plain name, without slashes")


@dataclass(frozen=True)
class Study:
    """What is tuned: a trainable, its search space in Tune's notation, and what the trials share."""

    experiment: str
    trainable: type
    space: dict[str, Any]
    settings: dict[str, Any]
    metric: str
    points_to_evaluate: tuple[dict[str, Any], ...] = ()
    mode: Literal["min", "max"] = "min"
    objectives: dict[str, Literal["min", "max"]] = field(default_factory=dict)
    """further reported keys and their modes: the search is for the Pareto front of all"""
    random_starts: int | None = None
    points: tuple[dict[str, Any], ...] | None = None
    """settings to train to the end, where there is nothing to search"""
    provenance: dict[str, Any] | None = None
    derived: Callable[[dict[str, Any]], dict[str, float]] = lambda config: {}
    """further columns that follow from a trial's configuration, as β_norm from β"""


@dataclass(frozen=True)
class Outcome:
    """What came of a sweep."""

    study: Study
    folder: Path
    records: list[TrialRecord]
    interrupted: bool

    @property
    def exit_code(self) -> int:
        """0; 130 after Ctrl-C; 1 where no trial reached an epoch."""
        if self.interrupted:
            return 130
        return 0 if any(record.metrics for record in self.records) else 1


def resolve(config: SweepConfig, defaults: SweepConfig) -> tuple[SweepConfig, str]:
    """Return the configuration of a new or of a resumed sweep, and the sweep's id.

    Raises UsageError where the name is taken, where there is nothing to resume, or where a resumed sweep is
    given other settings than it began with.
    """
    if config.resume is None:
        name = config.name or f"{datetime.now():%Y%m%d-%H%M%S}"
        if (Path(config.results) / name / "sweep.json").exists():
            raise UsageError(
                f"There is a sweep {name!r} in {config.results}/ already: --resume {name} continues it"
            )
        return replace(config, name=name), secrets.token_hex(8)
    path = Path(config.results) / config.resume / "sweep.json"
    if not path.exists():
        known = sorted(p.parent.name for p in Path(config.results).glob("*/sweep.json"))
        raise UsageError(
            f"There is no sweep {config.resume!r} in {config.results}/; there are: {known or 'none'}"
        )
    stored = json.loads(path.read_text())
    changed = [
        f.name
        for f in fields(config)
        if f.name not in UNKNOWN_TO_RESUME and getattr(config, f.name) != getattr(defaults, f.name)
    ]
    refused = [name for name in changed if name not in MAY_CHANGE_ON_RESUME]
    if refused:
        flag = "--" + refused[0].replace("_", "-")
        raise UsageError(f"A resumed sweep keeps the settings it began with: leave out {flag}")
    config = type(config)(**stored["config"] | {name: getattr(config, name) for name in changed})
    return replace(config, resume=config.name), stored["sweep_id"]


def store_settings(folder: Path, sweep_id: str, config: Any) -> None:
    """Write what `resolve` reads when the sweep is resumed."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "sweep.json").write_text(json.dumps({"sweep_id": sweep_id, "config": asdict(config)}, indent=2))


def join(config: Any) -> "Cluster":
    """Return the cluster that the configuration asks for.

    Raises ClusterError where it can't be joined, UsageError where not one trial fits.
    """
    from cluster.connect import connect

    cluster = connect(config.address, packages=_packages())
    if cluster.slots(config.cpus_per_trial, config.gpus_per_trial) < 1:
        raise UsageError(
            f"No trial fits: it asks for {config.cpus_per_trial:g} CPUs and {config.gpus_per_trial:g} GPUs, "
            f"and the cluster has {cluster.cpus:g} CPUs and {cluster.gpus:g} GPUs in all"
        )
    return cluster


def tune_arguments(config: Any) -> dict[str, Any]:
    """Return what every sweep asks of `tune.run`, after telling Tune to be quiet and to save itself often."""
    from ray import tune

    from cluster.watchdog import RETRIES, fail_trials_for_memory

    os.environ["RAY_AIR_NEW_OUTPUT"] = "0"  # its boxes heed no verbosity
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)  # a trial's error is in the ledger and is told
    # Tune's own result files, which the ledger replaces, would slow each report down.
    os.environ["TUNE_DISABLE_AUTO_CALLBACK_LOGGERS"] = "1"
    os.environ["TUNE_GLOBAL_CHECKPOINT_S"] = "1"
    # A trial that diverged lacks scores. Tune would end the sweep for that; the searcher knows what it means.
    os.environ["TUNE_DISABLE_STRICT_METRIC_CHECKING"] = "1"
    fail_trials_for_memory()
    signal.signal(signal.SIGTERM, lambda *_: os.kill(os.getpid(), signal.SIGINT))
    return {
        "name": "tune",
        "resources_per_trial": {"cpu": config.cpus_per_trial, "gpu": config.gpus_per_trial},
        "reuse_actors": True,
        "max_failures": RETRIES,
        "raise_on_failed_trial": False,
        "checkpoint_config": tune.CheckpointConfig(checkpoint_frequency=1, num_to_keep=2),
        "verbose": 0,
    }


def run(
    study: Study,
    config: SweepConfig,
    sweep_id: str,
    command: str,
    console: Console,
    resume_as: str | None = None,
) -> Outcome:
    """Run a resolved sweep to its end, or until it is interrupted.

    `command` is what is typed to go on, with `--resume` and `resume_as`, or the sweep's own name.

    Raises UsageError, ClusterError and the data's and metrics' own errors, before anything has begun.
    """
    from ray import tune  # seconds to import: wrong flags are answered at once

    from cluster.limiter import ClusterLimiter
    from cluster.storage import full_disk_told, has_snapshot
    from cluster.storage import resolve as resolve_storage
    from cluster.watchdog import watchdogs
    from searchers.bayesopt import BayesOptSearch
    from searchers.pareto import ParetoFigure, describe, front
    from searchers.points import GivenPoints
    from searchers.posterior import PosteriorFigure
    from searchers.progress import Progress
    from searchers.recording import Delivery, Recorder, SweepRecord

    points = _points(study, config)
    _check_settings(study, points)
    _check_surrogate(config.surrogate)
    known = _known(study, config)
    if points:
        config = replace(config, num_samples=len(points), no_early_stopping=True)
    folder = (Path(config.results) / config.name).resolve()
    resumed = (folder / "sweep.json").exists()
    cluster = join(config)
    checkpoints = resolve_storage(config.storage, folder, cluster)
    store_settings(folder, sweep_id, config)
    joined = cluster.describe(config.cpus_per_trial, config.gpus_per_trial, config.max_concurrent)
    console.print(joined, highlight=False)

    ledger = Ledger(folder / "ledger.jsonl")
    recorder = Recorder(ledger, folder, config.epochs)
    if points:
        search = GivenPoints(points, study.metric, study.mode)
    else:
        search = BayesOptSearch(
            points_to_evaluate=list(study.points_to_evaluate),
            random_starts=study.random_starts,
            surrogate=config.surrogate,
            noise_key=f"{study.metric}_std",
            seed=config.seed,
            warm_start=known,
            objectives=study.objectives,
        )
    scheduler = _scheduler(study, config, recorder.records.values())
    described = about(study, config, command)
    record = SweepRecord(
        sweep_id=sweep_id,
        name=config.name,
        experiment=study.experiment,
        description=described.description,
        params=described.params,
        tags=described.tags,
        trial_params=lambda trial: {**(study.provenance or {}), **study.derived(trial)},
    )
    delivery = Delivery(ledger, folder, config.tracking_uri, record)
    figures = [PosteriorFigure(study, None if points else search, recorder, delivery)]
    if study.objectives and not points:
        figures.append(ParetoFigure(study, search, recorder, delivery))
    progress = Progress(
        recorder.records,
        metric=study.metric,
        mode=study.mode,
        dimensions=list(study.space),
        epochs=config.epochs,
        num_samples=config.num_samples,
        console=console,
    )
    places = [str(folder), checkpoints]
    watching = watchdogs(config.cpus_per_trial, config.gpus_per_trial, places, console.print)
    arguments = tune_arguments(config)
    resume = f"{command} --resume {resume_as or config.name}"
    delivery.start()
    with full_disk_told(resume), progress:
        analysis = tune.run(
            study.trainable,
            **arguments,
            storage_path=checkpoints,
            trial_dirname_creator=lambda trial: trial.trial_id,
            config={**study.settings, **study.space},
            metric=study.metric,
            mode=study.mode,
            search_alg=ClusterLimiter(
                search, cluster, config.cpus_per_trial, config.gpus_per_trial, config.max_concurrent
            ),
            scheduler=scheduler,
            stop={"training_iteration": config.epochs},
            num_samples=config.num_samples,
            callbacks=[recorder, *figures, progress, *watching],
            resume_config=tune.ResumeConfig() if resumed and has_snapshot(checkpoints) else None,
        )
    records = list(recorder.records.values())
    interrupted = len(records) < config.num_samples or any(record.status is None for record in records)
    with full_disk_told(resume):
        for figure in figures:
            figure.draw()
        _export(study, records, analysis.trials, folder, ledger)
        ended = "KILLED" if interrupted else "FINISHED"
        ledger.append("note", status=ended, metrics=_best_scores(study, records))
    unsent = delivery.close(timeout=60)
    console.print(result_table(study, config, records))
    if study.objectives and not points:
        console.print(describe(study, front(study, search, records)), highlight=False)
    words = closing_words(study, config, records, delivery, unsent, interrupted, resume)
    console.print(words, highlight=False, soft_wrap=True)  # a command in two lines can't be copied
    ledger.close()
    return Outcome(study, folder, records, interrupted)


def _best_scores(study: Study, records: list[TrialRecord]) -> dict[str, float]:
    """Return what the parent run says of the winner: its scores and its place in the search space."""
    best = best_record(records, study.metric, study.mode)
    if best is None:
        return {}
    place = {name: best.config[name] for name in study.space if isinstance(best.config[name], int | float)}
    return {f"best/{k}": float(v) for k, v in {**best.metrics[best.epoch], **place}.items()}


def _known(study: Study, config: SweepConfig) -> list | None:
    """Return what an earlier sweep found, as the searcher takes it. Raises UsageError where there is none."""
    from searchers.warm_start import from_sweep

    if config.warm_start is None:
        return None
    if study.objectives:
        raise UsageError("--warm-start knows one score of a trial, and this search weighs several")
    try:
        return from_sweep(Path(config.results) / config.warm_start, study.metric)
    except (FileNotFoundError, ValueError) as error:
        raise UsageError(f"--warm-start: {error}") from error


def _check_surrogate(surrogate: str) -> None:
    """Raise UsageError where the surrogate needs a package that is not there."""
    if surrogate == "nuts" and find_spec("pyro") is None:
        raise UsageError("--surrogate nuts draws with Pyro, which is not installed: pip install '.[pyro]'")


def _points(study: Study, config: SweepConfig) -> list[dict[str, Any]] | None:
    """Return the settings to train instead of searching, from the study or from a file; None to search."""
    from searchers.points import read_points

    if not config.points:
        return study.points and list(study.points)
    try:
        return read_points(Path(config.points), {*study.space, *study.settings})
    except ValueError as error:
        raise UsageError(f"--points: {error}") from error


def _check_settings(study: Study, points: list[dict[str, Any]] | None) -> None:
    """Build the first trial's networks once. Raises UsageError where a trial would refuse its settings."""
    from trainables.trainable import split_config

    first = {name: domain.sample() for name, domain in study.space.items()}
    first |= (points or study.points_to_evaluate or [{}])[0]
    try:
        model_class, settings = study.trainable.model_of({**study.settings, **first})
        model_class(split_config(model_class, settings)[1])
    except ValueError as error:
        raise UsageError(str(error)) from error


def _export(study: Study, records: list[TrialRecord], trials: list, folder: Path, ledger: Ledger) -> None:
    """Write the best trials' models beside the ledger, for the record and for who has no checkpoints."""
    from trainables.trainable import export_model

    checkpoints = {trial.trial_id: trial.checkpoint for trial in trials if trial.checkpoint}
    for record in ranked(records, study.metric, study.mode)[:EXPORTED]:
        if record.trial in checkpoints:
            path = Path("models") / record.trial
            with checkpoints[record.trial].as_directory() as directory:
                export_model(study.trainable, record.config, Path(directory), folder / path)
            ledger.append("model", trial=record.trial, path=str(path))


def _packages() -> list:
    """Return our own packages, which a joined cluster is given."""
    import cluster
    import searchers
    import trainables

    return [trainables, searchers, cluster]


def _scheduler(study: Study, config: SweepConfig, records: Iterable[TrialRecord]):
    """Return ASHA (Li et al. 2020) with its rungs as they were: Tune does not save them (ray#30838).

    Where there are several objectives every trial trains to its end: ASHA would judge it by the first alone.
    """
    from ray.tune.schedulers import AsyncHyperBandScheduler, FIFOScheduler

    if config.no_early_stopping or study.objectives:
        return FIFOScheduler()
    scheduler = AsyncHyperBandScheduler(
        max_t=config.epochs,
        grace_period=min(config.grace_epochs, config.epochs),
        reduction_factor=REDUCTION_FACTOR,
    )
    (bracket,) = scheduler._brackets
    sign = 1 if study.mode == "max" else -1
    for record in records:
        for epoch, metrics in sorted(record.metrics.items()):
            if study.metric in metrics:  # not where the trial diverged
                bracket.on_result(SimpleNamespace(trial_id=record.trial), epoch, sign * metrics[study.metric])
    return scheduler
