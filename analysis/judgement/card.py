"""A trial as one page of Markdown: what it is, what it scores beside references, what it learnt from."""

from pathlib import PurePath
from typing import Any

import pandas as pd

from analysis.charts.text import number, with_deviation
from analysis.judgement.seeds import setting_of
from analysis.judgement.verdict import direction, objections
from analysis.record.tables import Tables
from searchers.record import schema

# What is known of the terms of named data sets; of others nothing is.
LICENSES = {
    **dict.fromkeys(("faces", "minifigures", "drawn-digits"), "drawn by latentune, Apache-2.0"),
    "celeba": "non-commercial research alone, by CelebA's own agreement",
    "mnist": "CC BY-SA 3.0",
    "fashion-mnist": "MIT",
}
UNKNOWN_LICENSE = "not known: ask whoever gave you the images"


def card(tables: Tables, trial: pd.Series, *further: str) -> str:
    """Return a trial's page; `further`: paragraphs that follow, such as how it is trained again.

    trial: its row of `Tables.trials`.
    """
    sweep = tables.sweep
    model = sweep.tags.get(schema.MODEL_TAG, "").rpartition(":")[2] or "a model"
    settings = setting_of(trial, tables, tables.columns)
    place = ", ".join(f"{name} = {number(value)}" for name, value in settings.items())
    of = f" of {sweep.epochs}" if sweep.epochs else ""
    facts = f"{model}; {trial['status']} at epoch {int(trial['epoch'])}{of}; {place}."
    parts = [f"# {sweep.name}, trial {trial['number']}", facts]
    if error := trial.get("error"):
        parts.append(f"**Its error:** `{error}`")
    if against := objections(tables, trial):
        parts.append(f"**What speaks against it:** {', and '.join(against)}.")
    parts += ["## Scores", scores(tables, trial), "## Data", data(trial), *further]
    return "\n\n".join(parts) + "\n"


def scores(tables: Tables, trial: pd.Series) -> str:
    """Return a table of a trial's last scores, and the references of those that have any."""
    sweep, names = tables.sweep, list(schema.REFERENCES)
    lines = [f"| score | this trial | {' | '.join(names)} |", "|---|" + "---:|" * (1 + len(names))]
    metrics = [
        column[8:] for column in trial.index if column.startswith("metrics.") and pd.notna(trial[column])
    ]
    first = [*sweep.signs, *(name for name in metrics if sweep.references(name))]
    for name in dict.fromkeys(name for name in first if name in metrics):
        known = sweep.references(name)
        value = with_deviation(
            float(trial[f"metrics.{name}"]), float(trial.get(f"metrics.{name}_std", float("nan")))
        )
        lines.append(
            f"| {name} | {value} | {' | '.join(number(known.get(n, float('nan'))) for n in names)} |"
        )
    about = (
        f"Of {sweep.metric}, {direction(sweep)}. ± is the chance of drawing other images from these weights."
    )
    return "\n".join(lines) + f"\n\n{about}"


def data(trial: pd.Series) -> str:
    """Say what a trial learnt from: the data set, its hash and its terms."""
    dataset = str(trial.get("params.dataset", "unknown"))
    terms = LICENSES.get(dataset, UNKNOWN_LICENSE)
    if dataset.startswith("hf:"):
        terms = f"on its page of the Hugging Face hub, {dataset.removeprefix('hf:')}"
    facts: dict[str, Any] = {
        "data set": PurePath(dataset).name,
        "images": trial.get("params.images", trial.get("params.dataset_limit")),
        "size": trial.get("params.image_size"),
        "crop": trial.get("params.crop"),
        "hash of the images": trial.get("params.data_hash"),
        "license": terms,
    }
    known = {name: value for name, value in facts.items() if pd.notna(value) and value != "None"}
    return "\n".join(f"- {name}: {value}" for name, value in known.items())
