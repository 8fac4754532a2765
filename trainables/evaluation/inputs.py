"""What an evaluation starts from: the settings that name it, the images, and their reference statistics."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from trainables.data.catalogue import NAMES, find
from trainables.data.hub import PREFIX
from trainables.data.sources import cache_of, load_same
from trainables.data.store import DataError, ImageStore
from trainables.metrics.errors import MetricError
from trainables.metrics.extractors.extractor import Extractor
from trainables.metrics.extractors.features import load_extractor
from trainables.metrics.frechet import FEWEST
from trainables.metrics.reference import BATCH, ReferenceStatistics, reference_statistics
from trainables.models.base import GenerativeModel
from trainables.models.conditional import ConditionalModel
from trainables.models.schedule import WIDEST_MEAN
from trainables.models.settings import check_kind, kinds_of, nearest, some_of
from trainables.own import OwnCodeError

if TYPE_CHECKING:  # with it comes scikit-learn
    from trainables.models.densities import FittedDensity


_PRECISION = Literal["float32", "bfloat16", "float16", "auto"]
_SCHEDULE = Literal["constant", "cosine"]
SHARED_WITH_MODEL = {"image_size", "channels"}
# What a model may do by itself: where its Config has a field of such a name, the training's is not offered.
OFFERED = {"schedule", "ema", "accumulate", "scores"}


@dataclass(frozen=True)
class TrainingConfig:
    """What a trial needs beside its model's hyperparameters. All are keys of Tune's flat configuration.

    `dataset` is a name or a path, as `trainables.data.sources.load` takes it.
    """

    dataset: str = "faces"
    dataset_limit: int | None = None
    image_size: int = 64  # of the images that a model without a setting of this name sees
    channels: int = 3  # likewise
    crop: str | None = None  # "larsen" or "square"; None: the whole image, squashed
    data_root: str | None = None
    cache_dir: str | None = None
    batch_size: int = 256
    epochs: int | None = None  # of the whole training, by which a model may have a schedule
    epoch_steps: int | None = None  # steps that count as an epoch; None: one pass over the images
    processes: int = 1  # of a trial, on one machine, one a GPU: each trains on its part of every batch
    accumulate: int = 1  # parts of a batch whose gradients are added up, of a model that defines `loss` alone
    evaluate_every: int = 1  # trained between two evaluations
    precision: _PRECISION = "float32"
    channels_last: bool = True  # order of images and filters in memory
    compile: bool = False  # the networks, by torch.compile, which takes minutes at first
    flip: bool = False
    schedule: _SCHEDULE = (
        "constant"  # of the learning rate; cosine: warmed up, and down to 0 in the second half
    )
    ema: float = (
        0.0  # relative width of the mean of the weights that is evaluated and kept; 0: the last weights
    )
    features: str = "auto"  # an extractor's name, or "none": no samples are scored
    feature_weights: str | None = None
    feature_identity: str | None = None  # of the sweep's extractor: a machine that has another one is told
    data_hash: str | None = None  # of the sweep's images: others are refused
    evaluation_samples: int = 1000
    scores: str | None = None  # MODULE:NAME: a function (model, uint8 samples (n, H, W, C)) → numbers by name
    scores_hash: str | None = None  # of the module's source in the sweep: other code is refused
    disentanglement: bool | tuple[str, ...] = False  # score the encoder's units, by all scores or by these
    images: bool = False  # send grids of samples and reconstructions, PNG, under `images` with each result
    seed: int = 0

    def __post_init__(self) -> None:
        """Raise DataError where a number is out of range; other names are checked where they are used."""
        for name, kind in (("precision", _PRECISION), ("schedule", _SCHEDULE)):
            if getattr(self, name) not in (known := get_args(kind)):
                raise DataError(f"{name} is {getattr(self, name)!r}; choose {', '.join(known)}")
        if not 0 <= self.ema < WIDEST_MEAN:
            raise DataError(f"ema is {self.ema}; choose 0, or a width up to {WIDEST_MEAN} of the training")
        if not isinstance(self.disentanglement, bool):
            from trainables.metrics.disentanglement import SCORES  # imports scikit-learn

            if isinstance(self.disentanglement, str) or not set(SCORES) >= set(self.disentanglement):
                raise DataError(
                    f"disentanglement is {self.disentanglement!r}; choose true, or a list of some of "
                    f"{', '.join(SCORES)}"
                )
        ranges = {
            "batch_size": (2, 10**6, "batch norm has no variance of one image"),
            "evaluation_samples": (2, 10**6, "all are held in memory"),
            "accumulate": (1, 10**6, "it is a number of parts"),
            "evaluate_every": (1, 10**9, "it is a number of epochs"),
            "processes": (1, 64, "they share a machine"),
            "seed": (0, 2**63 - 1, "NumPy and torch both take it then"),
        }
        if self.epoch_steps is not None:
            ranges["epoch_steps"] = (1, 10**9, "it is a number of batches")
        if self.epochs is not None:
            ranges["epochs"] = (1, 10**9, "it is a number of epochs")
        for name, (low, high, why) in ranges.items():
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
                raise DataError(f"{name} is {value!r}; choose a whole number from {low} to {high}: {why}")


def split_config(
    model_class: "type[GenerativeModel] | type[FittedDensity]", config: dict[str, Any]
) -> tuple[TrainingConfig, Any]:
    """Split Tune's flat configuration into the training's and the model's.

    Raises ValueError, with names that are like it, where a key is neither's, where a value is of another type
    than the setting, and where the model has no `Config`.
    """
    if not is_dataclass(getattr(model_class, "Config", None)):
        raise ValueError(f"{model_class.__name__}.Config must be a frozen dataclass of its hyperparameters")
    own = {field.name for field in fields(model_class.Config)}
    names = {field.name for field in fields(TrainingConfig)} - (own & OFFERED)
    if taken := sorted((own & names) - SHARED_WITH_MODEL):
        raise ValueError(
            f"{model_class.__name__}.Config has a field {taken[0]}, which is a setting of every training: "
            "it needs another name"
        )
    known = {field.name for field in fields(model_class.Config)} | {"recipe"}
    model = {key: value for key, value in config.items() if key in known or key not in names}
    unknown = sorted(set(model) - known)
    if unknown:
        there, wrong = names | known, unknown[0]
        raise ValueError(
            f"{wrong!r} is no setting of {model_class.__name__}{nearest(wrong, there)}; its settings: "
            f"{some_of(wrong, there)}"
        )
    kinds = kinds_of(TrainingConfig) | kinds_of(model_class.Config)
    for key, value in config.items():
        check_kind(key, value, kinds.get(key))
    training = TrainingConfig(**{key: value for key, value in config.items() if key in names})
    configured = model_class.configure(model)
    size = getattr(configured, "image_size", training.image_size)
    channels = getattr(configured, "channels", training.channels)
    return replace(training, image_size=size, channels=channels), configured


def require_fit(model_class: type[GenerativeModel], training: TrainingConfig, config: Any = None) -> None:
    """Raise ValueError where a model of a configuration can't be trained as the training's settings say."""
    name = model_class.__name__
    if (model_class.needs_progress or training.schedule != "constant") and not training.epochs:
        raise ValueError(f"{name} has a schedule: set `epochs`, all of its training")
    own_schedule = model_class.needs_progress or model_class.settles_prior
    if own_schedule and (training.schedule != "constant" or training.ema):
        raise ValueError(f"{name} has its own schedule and means: leave schedule and ema out")
    inherited = (GenerativeModel.training_step, ConditionalModel.training_step)
    if training.accumulate > 1 and model_class.training_step not in inherited:
        raise ValueError(f"{name} has its own training step: leave accumulate out")
    if training.processes > 1 and getattr(config, "codebook", None) == "ema":
        raise ValueError(
            f"codebook is ema, and processes is {training.processes}: each would move a codebook of its own; "
            "choose codebook=gradient"
        )
    if training.batch_size % training.processes:
        raise ValueError(
            f"batch_size is {training.batch_size}, and {training.processes} processes share each batch: "
            "choose a multiple"
        )
    if training.features != "none" and training.evaluation_samples < FEWEST:
        raise ValueError(
            f"evaluation_samples is {training.evaluation_samples}; a score with its deviation takes {FEWEST} "
            "or more, and features=none leaves scores of samples out"
        )
    if 2 * training.accumulate * training.processes > training.batch_size:
        raise ValueError(f"accumulate is {training.accumulate}: a part of a batch has two images at least")


def load_store(training: TrainingConfig, image_size: int, channels: int) -> ImageStore:
    """Open the data set's image store. The first process of a machine that asks for it converts the set.

    Raises DataError as `trainables.data.sources.load_same`, and where no image is left to train on or to hold
    out.
    """
    store = load_same(
        training.dataset,
        training.data_hash,
        image_size=image_size,
        channels=channels,
        crop=training.crop,
        limit=training.dataset_limit,
        data_root=Path(training.data_root) if training.data_root else None,
        cache_dir=Path(training.cache_dir) if training.cache_dir else None,
    )
    for split in ("train", "validation"):
        if not len(store.split(split)):
            raise DataError(
                f"none of the {len(store)} images of {store.name} is in the split {split!r}; a set needs two "
                "different images at least, since equal ones share a split"
            )
    return store


def lacking(settings: dict[str, Any]) -> str:
    """Return why this machine can't have the images and the features that trials of these settings need.

    "" where it can, or may: what lies in a bucket is not asked for. What is downloaded is, here and now.
    """
    dataset, features, weights = (settings.get(key) for key in ("dataset", "features", "feature_weights"))
    try:
        if dataset and (dataset in NAMES or dataset.startswith(PREFIX)):
            root = settings.get("data_root")
            find(dataset, data_root=Path(root) if root else None, limit=1)
        if features and features != "none":
            load_extractor(features, weights=Path(weights) if weights else None)
    except (DataError, MetricError, OwnCodeError) as error:
        return str(error)
    return ""


def load_reference(
    store: ImageStore,
    extractor: Extractor,
    cache_dir: str | None = None,
    advance: Callable[[int], None] = lambda _: None,
) -> ReferenceStatistics:
    """Return the statistics of the training images' features, cached on disk and computed once a machine.

    The cache lies in `cache_dir`, by default beside the store. `advance` is called with each number of images
    that was measured. Raises MetricError as `reference_statistics`.
    """
    images = batches_of(store, store.split("train"), advance)
    return reference_statistics(
        images, extractor, cache_dir=cache_of(store, cache_dir), key=f"{store.content_hash}-train"
    )


def batches_of(
    store: ImageStore, rows: NDArray[np.int64], advance: Callable[[int], None] = lambda _: None
) -> Iterator[NDArray[np.uint8]]:
    """Yield the images of rows some at a time; `advance` is called with each number that was taken in."""
    for first in range(0, len(rows), BATCH):
        part = store.images[rows[first : first + BATCH]]
        yield part
        advance(len(part))
