"""What a sweep's command line says: `RunConfig` for every sweep, `SweepConfig` for a search."""

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

MAY_CHANGE_ON_RESUME = ("tracking_uri", "address", "max_concurrent", "results", "data_root")


class UsageError(ValueError):
    """What was asked for cannot be done; the message says what can."""


def default_tracking_uri() -> str:
    """Return the server that the environment names, as on a cluster's head, or a database in this folder."""
    return os.environ.get("MLFLOW_TRACKING_URI", "sqlite:///mlflow.db")


@dataclass(frozen=True)
class RunConfig:
    """What every sweep is told: its images and scores, what a trial gets, its name and where all goes."""

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
    features: str = "auto"
    """extractor of the Fréchet distance: auto, inception, efficientnet_lite0, dinov2"""
    inception_weights: str | None = None
    """file of pytorch-fid's Inception weights"""
    cpus_per_trial: float = 1.0
    """CPU cores a trial gets"""
    gpus_per_trial: float = 0.0
    """share of a GPU a trial gets"""
    max_concurrent: int | None = None
    """trials side by side; as many as fit, if not given"""
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


@dataclass(frozen=True)
class SweepConfig(RunConfig):
    """Settings of one run of a search. The command line is this class."""

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
    num_samples: int = 20
    """trials"""
    grace_epochs: int = 2
    """no trial is stopped before this many epochs"""
    no_early_stopping: bool = False
    """train every trial to its last epoch, without ASHA"""
    surrogate: Literal["fitted", "report", "matern", "nuts"] = "fitted"
    """Gaussian process of the search: hyperparameters learned, the seed's own, fixed Matérn, drawn by NUTS"""
    warm_start: str | None = None
    """name of an earlier sweep, among the results or in MLflow, whose scores the search begins with"""
    points: str | None = None
    """JSON file with a list of settings to train to the end instead of searching"""
    seed: int = 0
    """of data order, networks and search"""

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
