"""What an evaluation starts from: the settings that name it, the images, and their reference statistics."""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

from trainables.data.sources import load
from trainables.data.store import ImageStore
from trainables.metrics.extractors.extractor import Extractor
from trainables.metrics.reference import ReferenceStatistics, reference_statistics
from trainables.models.base import GenerativeModel


@dataclass(frozen=True)
class TrainingConfig:
    """What a trial needs beside its model's hyperparameters. All are keys of Tune's flat configuration.

    `dataset` is a name or a path, as `trainables.data.sources.load` takes it.
    """

    dataset: str = "faces"
    dataset_limit: int | None = None
    data_root: str | None = None
    cache_dir: str | None = None
    batch_size: int = 256
    epochs: int | None = None  # of the whole training, by which a model may have a schedule
    epochs_per_result: int = 1  # trained between two evaluations
    precision: Literal["float32", "bfloat16", "float16", "auto"] = "float32"
    channels_last: bool = True  # order of images and filters in memory
    compile: bool = False  # the networks, by torch.compile, which takes minutes at first
    flip: bool = False
    features: str = "auto"  # an extractor's name, or "none": no samples are scored
    feature_weights: str | None = None
    evaluation_samples: int = 1000
    disentanglement: bool | tuple[str, ...] = False  # score the encoder's units, by all scores or by these
    images: bool = False  # send grids of samples and reconstructions, PNG, under `images` with each result
    seed: int = 0


def split_config(model_class: type[GenerativeModel], config: dict[str, Any]) -> tuple[TrainingConfig, Any]:
    """Split Tune's flat configuration into the training's and the model's.

    Raises ValueError, with the valid names, where a key is neither's.
    """
    names = {field.name for field in fields(TrainingConfig)}
    model = {key: value for key, value in config.items() if key not in names}
    known = {field.name for field in fields(model_class.Config)} | {"recipe"}
    unknown = sorted(set(model) - known)
    if unknown:
        valid = ", ".join(sorted(names | known))
        raise ValueError(f"{unknown[0]!r} is no setting of {model_class.__name__}; its settings: {valid}")
    training = TrainingConfig(**{key: value for key, value in config.items() if key in names})
    return training, model_class.configure(model)


def load_store(training: TrainingConfig, image_size: int, channels: int) -> ImageStore:
    """Open the data set's image store. The first process of a machine that asks for it converts the set.

    Raises DataError as `trainables.data.sources.load`.
    """
    return load(
        training.dataset,
        image_size=image_size,
        channels=channels,
        limit=training.dataset_limit,
        data_root=Path(training.data_root) if training.data_root else None,
        cache_dir=Path(training.cache_dir) if training.cache_dir else None,
    )


def load_reference(
    store: ImageStore, extractor: Extractor, cache_dir: str | None = None
) -> ReferenceStatistics:
    """Return the statistics of the training images' features, cached on disk and computed once a machine.

    The cache lies in `cache_dir`, by default beside the store. Raises MetricError as `reference_statistics`.
    """
    rows = store.split("train")
    cache = Path(cache_dir) if cache_dir else store.path.parent
    return reference_statistics(
        store.images[rows], extractor, cache_dir=cache, key=f"{store.content_hash}-train"
    )
