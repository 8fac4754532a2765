"""The trials of a sweep as one table, a row each: what `Tables.trials` is."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from analysis.record.store import paged
from analysis.record.sweeps import Sweep
from searchers.record import schema

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

COLUMNS = ["number", "trial", "run_id", "name", "status", "why", "error", "flags", "node"]
COLUMNS += ["start", "end", "epoch"]


def load_trials(client: "MlflowClient", sweep: Sweep) -> pd.DataFrame:
    """Return a sweep's trials without their histories, one row each, as `Tables.trials`."""
    return table_of(trial_runs(client, sweep), sweep)


def trial_runs(client: "MlflowClient", sweep: Sweep) -> list["Run"]:
    """Return the runs of a sweep's trials."""
    mine = f"tags.`{schema.SWEEP_TAG}` = '{sweep.sweep_id}' AND tags.`{schema.TRIAL_TAG}` IS NOT NULL"
    return list(paged(client.search_runs, [sweep.experiment_id], mine))


def table_of(runs: Iterable["Run"], sweep: Sweep) -> pd.DataFrame:
    """Return one row a trial in the order of their numbers."""
    rows = [_row(run, sweep) for run in runs]
    if not rows:
        return pd.DataFrame(columns=COLUMNS)
    trials = pd.DataFrame(rows).sort_values("number", ignore_index=True)
    if "params.features" in trials:
        # A trial may name the extractor alone, as its configuration does; the sweep's record has it whole.
        full = sweep.params.get("features", "")
        named = trials["params.features"].map(lambda name: full.startswith(str(name)))
        trials["params.features"] = trials["params.features"].mask(named, full)
    for column in ("start", "end"):
        trials[column] = pd.to_datetime(trials[column], unit="ms")
    for column in trials.columns:
        if column.startswith("params."):
            trials[column] = as_numbers(trials[column])
        elif column.startswith("metrics."):
            trials[column] = _finite_or_infinite(trials[column].astype(float))
    return trials


def _row(run: "Run", sweep: Sweep) -> dict[str, Any]:
    tags, points = run.data.tags, run.data._metric_objs
    number = tags.get(schema.NUMBER_TAG) or run.info.run_name.rsplit("-", 1)[-1]
    return {
        "number": int(number),
        "trial": tags[schema.TRIAL_TAG],
        "run_id": run.info.run_id,
        "name": run.info.run_name,
        "status": tags.get(
            schema.STATUS_TAG, schema.RUNNING if sweep.state == "running" else schema.INTERRUPTED
        ),
        "why": tags.get(schema.WHY_TAG, ""),
        "error": tags.get(schema.ERROR_TAG, ""),
        "flags": tags.get(schema.FLAGS_TAG, ""),
        "node": tags.get(schema.NODE_TAG),
        "start": run.info.start_time,
        "end": run.info.end_time or max((p.timestamp for p in points), default=run.info.start_time),
        "epoch": max((p.step for p in points), default=0),
        **{f"params.{key}": value for key, value in (sweep.shared | run.data.params).items()},
        **{f"metrics.{p.key}": p.value for p in points},
    }


def as_numbers(values: pd.Series) -> pd.Series:
    """MLflow keeps parameters as text; where all are numbers, return numbers."""
    try:
        return pd.to_numeric(values)
    except (ValueError, TypeError):
        return values


def _finite_or_infinite(values: pd.Series) -> pd.Series:
    """MLflow's stores write ±inf as the largest floats; undo that."""
    largest = np.finfo(np.float64).max
    return values.mask(values >= 0.999 * largest, np.inf).mask(values <= -0.999 * largest, -np.inf)
