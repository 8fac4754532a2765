"""What a sweep's command line says: `RunConfig` for every sweep, `SweepConfig` for a search."""

import os
import shlex
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from enum import Enum, auto
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, ClassVar, Literal, TypeVar, get_type_hints

import tyro

from searchers.study import given
from searchers.study.ranges import COUNT, CPUS, GPUS, PLAIN_NAME, SEED, WIDTH, between, check

Config = TypeVar("Config", bound="RunConfig")


class Role(Enum):
    """What a setting is beside its value, told beside its type: `on: Annotated[str | None, Role.COMMAND]`."""

    COMMAND = auto()
    """of this command alone: a resumed sweep has it as it is now, and no record keeps it"""
    MAY_CHANGE = auto()
    """a resumed sweep keeps it, or takes another"""
    SEARCH = auto()
    """of a search, and nothing to trials that are given themselves"""
    FILE = auto()
    """a file; a cluster is sent it"""
    FOLDER = auto()
    """a folder to write to, or a bucket's address"""


class UsageError(ValueError):
    """What was asked for cannot be done; the message says what can."""


def require(what: str, packages: Mapping[str, str]) -> None:
    """Raise UsageError where a module, a key of `packages`, is missing; its value is what to install."""
    missing = [package for module, package in packages.items() if find_spec(module) is None]
    if missing:
        command = shlex.join([sys.executable, "-m", "pip", "install", *missing])
        raise UsageError(f"{what} needs what is not installed: {command}")


def default_tracking_uri() -> str:
    """Return the server that the environment names, as on a cluster's head, or a database in this folder."""
    return os.environ.get("MLFLOW_TRACKING_URI") or "sqlite:///mlflow.db"


def at_a_desk() -> bool:
    """Whether a person sits at this machine's terminal, as far as that can be told: no cluster, no SSH."""
    return sys.stdout.isatty() and not {"SSH_CONNECTION", "RAY_ADDRESS"} & os.environ.keys()


def without(*names: str) -> Callable[[type[Config]], type[Config]]:
    """Return a decorator, to stand under `dataclass`, that offers none of these inherited settings."""

    def narrow(kind: type[Config]) -> type[Config]:
        hints = get_type_hints(kind, include_extras=True)
        kind.__annotations__ |= {name: Annotated[hints[name], tyro.conf.Fixed] for name in names}
        kind.unused = frozenset(names)
        return kind

    return narrow


def having(kind: type["RunConfig"], *roles: Role) -> list[str]:
    """Return the names of a configuration's settings that have one of some roles."""
    hints = get_type_hints(kind, include_extras=True)
    return [f.name for f in fields(kind) if set(roles) & set(getattr(hints[f.name], "__metadata__", ()))]


@dataclass(frozen=True)
class RunConfig:
    """Options of every sweep: its images and scores, what a trial gets, its name and where all goes."""

    unused: ClassVar[frozenset[str]] = frozenset()
    """inherited settings that a command does not offer, since it makes no use of them"""
    preset: Literal["quick", "report"] = "quick"
    """quick: minutes on two CPU cores; report: the paper's own setting, for GPUs"""
    dataset: Annotated[str, Role.MAY_CHANGE] = "faces"
    """faces or minifigures (drawn, embedded), celeba, hf:NAME, or a path: images, class folders, CelebA's,
    tar, zip"""
    dataset_limit: Annotated[int | None, between(1, 1_000_000_000)] = None
    """use this many images at most"""
    data_root: Annotated[str | None, Role.MAY_CHANGE] = None
    """folder of the named data sets"""
    crop: Literal["larsen", "square"] | None = None
    """part of each image to take: larsen, the face of CelebA's aligned images; square, the middle; the
    whole image, squashed to a square, if not given"""
    image_size: Annotated[int, between(8, 1024)] = 64
    """images are resized to this many pixels"""
    width: Annotated[float, WIDTH] = 1.0
    """multiplies every hidden channel count of the networks"""
    features: str = "auto"
    """extractor of the Fréchet distance: auto, inception, efficientnet_lite0, dinov2"""
    inception_weights: Annotated[str | None, Role.MAY_CHANGE, Role.FILE] = None
    """file of pytorch-fid's Inception weights"""
    cpus_per_trial: Annotated[float, CPUS] = 1.0
    """CPU cores a trial gets"""
    gpus_per_trial: Annotated[float | None, GPUS] = None
    """share of a GPU a trial gets, half of one where the cluster has any, if not given; or 2 and more, each
    with a process that trains on its part of batches"""
    max_concurrent: Annotated[int | None, COUNT, Role.MAY_CHANGE] = None
    """trials side by side; as many as fit, if not given"""
    name: Annotated[str | None, PLAIN_NAME] = None
    """name of the sweep; made from the date, if not given"""
    resume: Annotated[str | None, PLAIN_NAME, Role.COMMAND] = None
    """go on with the sweep of this name; its folder holds pickles: never a stranger's"""
    results: Annotated[str, Role.MAY_CHANGE] = "results"
    """folder of all sweeps"""
    storage: Annotated[str | None, Role.FOLDER] = None
    """where checkpoints go: a folder that all nodes see, s3://… or gs://…; among the results, if not given"""
    tracking_uri: Annotated[str, Role.MAY_CHANGE] = field(default_factory=default_tracking_uri)
    """MLflow's database or server; MLFLOW_TRACKING_URI, where that is set"""
    on: Annotated[str | None, Role.COMMAND] = None
    """run it on the cluster of this file, which `ray up` has started: ray_cluster.yaml; it goes on there
    without this terminal, and its results come here; kuberay prints it for kubectl apply -f -"""
    attach: Annotated[str | None, Role.COMMAND] = None
    """show what --on has begun under this name, and fetch its results; nothing is begun"""
    address: Annotated[str | None, Role.MAY_CHANGE] = None
    """Ray cluster to join; an embedded one is started, if neither this nor RAY_ADDRESS is given"""
    dashboard: Annotated[bool, Role.COMMAND] = field(default_factory=at_a_desk)
    """serve a page on this machine, for its own browsers, that redraws as results arrive"""
    dry_run: Annotated[bool, Role.COMMAND] = False
    """say what the sweep would do, how long it takes and what it fills, and start nothing"""

    @property
    def title(self) -> str:
        """The name of the sweep; "" before the configuration is resolved."""
        return self.name or ""

    @property
    def folder(self) -> Path:
        """The folder of the sweep."""
        return Path(self.results) / self.title

    def __post_init__(self) -> None:
        """Hold each setting to its rule. Raises ValueError with the flag, its value and what it must be."""
        check(self)
        if not self.on:  # there, ~ is that machine's
            object.__setattr__(self, "results", os.path.expanduser(self.results))


@dataclass(frozen=True)
class SweepConfig(RunConfig):
    """Settings of one run of a search. The command line is this class."""

    batch_size: Annotated[int, between(2, 1_000_000)] = 256
    """images a training step, two at least: batch normalization compares them"""
    flip: bool = False
    """mirror half of the training images, for photographs and drawings whose mirror image is as good"""
    precision: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """of training; auto: bfloat16 where the hardware has it"""
    compile: bool = False
    """compile the networks with torch.compile, which takes minutes at a trial's start"""
    epochs: Annotated[int, COUNT] = 10
    """epochs a trial, if nothing stops it"""
    evaluation_samples: Annotated[int, between(20, 1_000_000)] = 1000
    """images that each evaluation generates"""
    evaluate_every: Annotated[int, COUNT] = 1
    """epochs between two evaluations"""
    num_samples: Annotated[int, COUNT, Role.SEARCH] = 20
    """settings to try, at most: the budget of --trainings may be used up before"""
    trainings: Annotated[float | None, between(1, 1_000_000), Role.SEARCH] = None
    """full trainings' worth of epochs that the sweep may spend; a third of --num-samples, if not
    given and trials are paused"""
    grace_epochs: Annotated[int | None, COUNT, Role.SEARCH] = 2
    """trials are compared after so many epochs first, or at the next evaluation; learned from the first
    trials' curves, if None"""
    replicates: Annotated[int, between(0, 1_000), Role.SEARCH] = 0
    """the best so many are trained again with another seed, from budget set aside: training's own noise;
    none of a search by several scores"""
    early_stopping: bool = True
    """pause trials that do not keep up, by ASHA's rule; --no-early-stopping trains every trial to its last
    epoch"""
    space: tuple[str, ...] = ()
    """what is searched beside the study's own, of which a range may be given anew:
    learning_rate=loguniform(1e-4,3e-3) latent_dim=choice(32,64)"""
    set: tuple[str, ...] = ()
    """settings that all trials have, of the model and its training: gamma=0.1 recipe=larsen"""
    searcher: Annotated[
        Literal["ours", "bayesian-optimization", "optuna-tpe", "optuna-gp", "random", "grid"], Role.SEARCH
    ] = "ours"
    """who proposes trials: this project's Bayesian optimization or, to compare, another on the same budget"""
    surrogate: Annotated[Literal["fitted", "report", "matern", "nuts"], Role.SEARCH] = "fitted"
    """Gaussian process of the search: hyperparameters learned, [BVG]'s own, fixed Matérn, drawn by NUTS"""
    warm_start: Annotated[str | None, PLAIN_NAME, Role.SEARCH] = None
    """name of an earlier sweep, among the results or in MLflow, whose scores the search begins with"""
    share: Annotated[str | None, Role.SEARCH, Role.MAY_CHANGE, Role.FOLDER] = None
    """folder or bucket in which sweeps of one study on several clusters tell each other their trials' scores
    while they run"""
    points: Annotated[str | None, Role.FILE] = None
    """JSON file with a list of settings to train to the end instead of searching"""
    seed: Annotated[int, SEED] = 0
    """of data order, networks and search"""

    def __post_init__(self) -> None:
        """Hold each setting to its rule. Raises ValueError with one sentence."""
        super().__post_init__()
        given.read_space(self.space)  # wrong words are answered before data is converted
        given.read_settings(self.set)

    @property
    def kept_points(self) -> Path:
        """Where a sweep keeps its file of `--points` as it was at the start."""
        return self.folder / "points.json"

    @property
    def points_file(self) -> Path | None:
        """The file of `--points`; of a resumed sweep the one that it keeps."""
        if not self.points:
            return None
        kept = self.kept_points
        return kept if self.resume and kept.exists() else Path(self.points).expanduser()
