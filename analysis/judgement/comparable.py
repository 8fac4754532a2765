"""Which scores may stand in one ranking: those that differ by the model alone.

A Fréchet distance is another number with other features, another number of images or another reference; an
ELBO with another likelihood family or pixel scale. What a score depends on is recorded with it.
"""

from collections.abc import Mapping
from pathlib import PurePath

import pandas as pd

# By the beginning of a metric's name: the columns that must agree.
IMAGES = ("params.data_hash", "params.image_size")
DEPENDS_ON = {
    "fid": ("params.features", "metrics.evaluated_images", "params.reference_images", *IMAGES),
    "fd_": ("params.features", "metrics.evaluated_images", "params.reference_images", *IMAGES),
    "kid": ("params.features", "metrics.evaluated_images", "params.reference_images", *IMAGES),
    "elbo": ("params.likelihood", *IMAGES),
    "log_likelihood": ("params.likelihood", *IMAGES),
    "bits_per_dim": ("params.likelihood", *IMAGES),
    "nats_per_image": ("params.likelihood", *IMAGES),
    "validation_loss": ("params.likelihood", *IMAGES),
    "reconstruction_mse": IMAGES,
    "top": ("params.scorer_hash", "metrics.queries", *IMAGES),
}
HASH_SHOWN = 12  # characters: enough to tell a person's data sets apart
LABELS = {
    "params.features": "extractor",
    "metrics.evaluated_images": "generated images",
    "params.reference_images": "reference images",
    "params.likelihood": "likelihood",
    "params.scorer_hash": "scorer",
    "metrics.queries": "queries",
    "params.data_hash": "data",
    "params.image_size": "image size",
}


def provenance(trials: pd.DataFrame, metric: str, further: Mapping[str, str] | None = None) -> pd.DataFrame:
    """Return what a metric depends on beside the model, for each trial, by label; "unknown" if absent."""
    columns = next((c for prefix, c in DEPENDS_ON.items() if metric.startswith(prefix)), ())
    values, labels = {}, LABELS | dict(further or {})
    for column in (*columns, *(further or ())):
        known = trials.get(column)
        text = pd.Series("unknown", trials.index) if known is None else known.map(_text)
        values[labels[column]] = text
    return pd.DataFrame(values, index=trials.index)


def extractor_name(features: str) -> str:
    """Return the name by which a recorded extractor is loaded: "dinov2" of "dinov2_vits14-…"."""
    return features.split("-")[0].partition("_vit")[0]


def groups(
    trials: pd.DataFrame, metric: str, further: Mapping[str, str] | None = None
) -> list[tuple[dict[str, str], pd.DataFrame]]:
    """Split trials into those whose values of a metric may be compared, the largest group first.

    Each comes with what its values depend on. further: more columns that must agree, with their labels.
    """
    depends = provenance(trials, metric, further)
    if depends.empty or depends.columns.empty:
        return [({}, trials)]
    keys = depends.apply(tuple, axis=1)
    found = [(dict(zip(depends.columns, key, strict=True)), trials[keys == key]) for key in keys.unique()]
    return sorted(found, key=lambda group: -len(group[1]))


def describe(depends: Mapping[str, str], trials: pd.DataFrame) -> str:
    """Say in a line what the scores of a group depend on; the data by name and the beginning of its hash."""
    known = dict(depends)
    if "data" in known and "params.dataset" in trials:
        name = PurePath(str(trials["params.dataset"].iloc[0])).name
        known["data"] = f"{name} ({known['data'][:HASH_SHOWN]})"
    return "; ".join(f"{label}: {value}" for label, value in known.items())


def _text(value) -> str:
    if pd.isna(value):
        return "unknown"
    return f"{value:g}" if isinstance(value, float) else str(value)
