"""Which scores may stand in one ranking: those that differ by the model alone.

A Fréchet distance changes with the features, the number of images and the reference; an ELBO changes with the
likelihood family and the scale of the pixels. What a score depends on is recorded with it.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

import pandas as pd

from analysis.record.store import AnalysisError

if TYPE_CHECKING:
    from analysis.record.tables import Tables

DATA, IMAGE_SIZE = "params.data_hash", "params.image_size"
DRAWN = ("params.features", "metrics.evaluated_images", "params.reference_images", DATA, IMAGE_SIZE)
DENSITY = ("params.likelihood", DATA, IMAGE_SIZE)
# By the metric's name: the columns that must agree.
DEPENDS_ON = (
    (r"(fid|fd|kid)(_.+)?", DRAWN),
    (r"(elbo|log_likelihood|bits_per_dim|nats_per_image|validation_loss)(_.+)?", DENSITY),
    (r"reconstruction_mse(_.+)?", (DATA, IMAGE_SIZE)),
    (r"top\d+", ("params.scorer_hash", "metrics.queries", DATA, IMAGE_SIZE)),
)
UNKNOWN = "unknown"
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
    "params.scores_hash": "scores' code",
}


def provenance(trials: pd.DataFrame, metric: str, further: Mapping[str, str] | None = None) -> pd.DataFrame:
    """Return what a metric depends on beside the model, for each trial, by label; "unknown" if absent.

    A metric that this module does not know depends on everything that is recorded: one split too
    many loses a comparison, one too few makes a false one.
    """
    columns = next((c for pattern, c in DEPENDS_ON if re.fullmatch(pattern, metric)), tuple(LABELS))
    values, labels = {}, LABELS | dict(further or {})
    for column in (*columns, *(further or ())):
        text = _column(trials, column)
        if column == DATA:  # without a hash, the name is what is known of the data
            text = text.mask(text == UNKNOWN, _column(trials, "params.dataset"))
        values[labels[column]] = text
    return pd.DataFrame(values, index=trials.index)


def _column(trials: pd.DataFrame, column: str) -> pd.Series:
    return trials[column].map(_text) if column in trials else pd.Series(UNKNOWN, trials.index, dtype=str)


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


def refuse_unlike(all_tables: Sequence["Tables"]) -> None:
    """Raise AnalysisError where scores of the sweeps are of different things."""
    for name, of in (("metric", "metric"), ("mode", "mode"), ("epochs a trial", "epochs")):
        found = {str(getattr(tables.sweep, of)) for tables in all_tables}
        if len(found) > 1:
            raise AnalysisError(f"The sweeps differ in {name} ({', '.join(sorted(found))}): not comparable.")
    together = pd.concat([tables.scored() for tables in all_tables], ignore_index=True)
    split = groups(together, all_tables[0].sweep.metric)
    if len(split) > 1:
        differ = [k for k in split[0][0] if len({depends[k] for depends, _ in split}) > 1]
        raise AnalysisError(f"The sweeps' scores differ in {', '.join(differ)}: not comparable.")


def describe(depends: Mapping[str, str], trials: pd.DataFrame) -> str:
    """Say in a line what the scores of a group depend on; the data by name and the beginning of its hash."""
    known = dict(depends)
    if "data" in known and DATA in trials and "params.dataset" in trials:
        name = PurePath(str(trials["params.dataset"].iloc[0])).name
        known["data"] = f"{name} ({known['data'][:HASH_SHOWN]})"
    return "; ".join(f"{label}: {value}" for label, value in known.items())


def _text(value: Any) -> str:
    if pd.isna(value):
        return UNKNOWN
    return f"{value:g}" if isinstance(value, float) else str(value)
