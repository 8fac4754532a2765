"""Whole metric histories, read from MLflow in the fastest way that its store offers.

MlflowClient reads one metric of one run in a call, which makes 12 000 calls for 1 000 trials of 12 metrics.
A database is asked for many runs at once through MLflow's own tables, and a server through the request that
its own UI makes.
"""

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute
import pyarrow.parquet as pq
from numpy.typing import NDArray

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

COLUMNS = pa.schema(
    {
        "run_id": pa.string(),
        "metric": pa.string(),
        "epoch": pa.int64(),
        "value": pa.float64(),
        "time": pa.timestamp("ms"),
    }
)
RUNS_A_QUERY = 500
RUNS_A_REQUEST = 100  # MLflow's own limits on its bulk request
POINTS_A_REQUEST = 25_000
FORMAT = 1  # of the cached files; raise it where their meaning changes


def load_histories(client: "MlflowClient", runs: list["Run"], path: Path) -> pa.Table:
    """Return the histories of runs, as COLUMNS, from a Parquet file; fetch and add what that lacks.

    Where the file cannot be read or written, all of them are fetched, each time.
    """
    states = {run.info.run_id: _state(run) for run in runs}
    kept, table = {}, None
    try:
        table = pq.read_table(path)
        kept = json.loads(table.schema.metadata[b"states"])
    except (OSError, ValueError, KeyError, TypeError, pa.ArrowInvalid):
        table, kept = None, {}  # none yet, damaged, or of another format: read anew
    stale = [run for run in runs if kept.get(run.info.run_id) != states[run.info.run_id]]
    if table is not None and not stale and kept.keys() == states.keys():
        return table
    fresh = fetch_histories(client, stale)
    if table is not None:
        good = states.keys() - {run.info.run_id for run in stale}
        mask = pa.compute.is_in(table["run_id"], pa.array(sorted(good), pa.string()))
        old = table.filter(mask).replace_schema_metadata(None).cast(COLUMNS)
        fresh = pa.concat_tables([old, fresh])
    table = fresh.replace_schema_metadata({"states": json.dumps(states)})
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
        try:
            pq.write_table(table, temporary)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)  # half of one, where the disk is full
    return table


def _state(run: "Run") -> str:
    """Return a text that changes whenever a trial's history has grown."""
    points = sorted((p.key, p.step, p.timestamp, str(p.value)) for p in run.data._metric_objs)
    return hashlib.sha256(repr((FORMAT, points)).encode()).hexdigest()[:16]


def fetch_histories(client: "MlflowClient", runs: list["Run"]) -> pa.Table:
    """Return all points of all metrics of runs, as COLUMNS, in no particular order."""
    store = client._tracking_client.store
    if not runs:
        return COLUMNS.empty_table()
    if hasattr(store, "ManagedSessionMaker"):
        parts = _from_database(store, [run.info.run_id for run in runs])
    elif hasattr(store, "get_host_creds"):
        parts = _from_server(store, runs)
    else:
        parts = _one_by_one(client, runs)
    return pa.concat_tables([COLUMNS.empty_table(), *parts])


def _from_database(store: Any, run_ids: list[str]) -> Iterator[pa.Table]:
    """Read plain rows: MLflow and SQLAlchemy would make an object of each point."""
    from mlflow.store.tracking.dbmodels.models import SqlMetric
    from sqlalchemy import select

    point = SqlMetric.__table__.c
    columns = (point.run_uuid, point.key, point.step, point.value, point.timestamp, point.is_nan)
    for chosen in _chunks(run_ids, RUNS_A_QUERY):
        with store.ManagedSessionMaker() as session:
            query = select(*columns).where(point.run_uuid.in_(chosen))
            rows = session.connection().execute(query).cursor.fetchall()
        if rows:
            run_id, key, step, value, time, is_nan = zip(*rows, strict=True)
            yield _table(run_id, key, step, np.where(is_nan, np.nan, value), time)


def _from_server(store: Any, runs: list["Run"]) -> Iterator[pa.Table]:
    """Ask for one metric of many runs at a time; where the answer may be cut off, ask in halves."""
    from mlflow.utils.rest_utils import http_request_safe

    def request(key: str, run_ids: list[str]) -> Iterator[dict]:
        answer = http_request_safe(
            store.get_host_creds(),
            "/ajax-api/2.0/mlflow/metrics/get-history-bulk",
            "GET",
            params={"metric_key": key, "run_id": run_ids, "max_results": POINTS_A_REQUEST},
        )
        points = answer.json()["metrics"]
        if len(points) < POINTS_A_REQUEST or len(run_ids) == 1:
            yield from points
        else:
            half = len(run_ids) // 2
            yield from request(key, run_ids[:half])
            yield from request(key, run_ids[half:])

    for key in sorted({key for run in runs for key in run.data.metrics}):
        having = [run.info.run_id for run in runs if key in run.data.metrics]
        for chosen in _chunks(having, RUNS_A_REQUEST):
            points = list(request(key, chosen))
            fields = ("run_id", "key", "step", "value", "timestamp")
            columns = [[point[field] for point in points] for field in fields]
            yield _table(columns[0], columns[1], columns[2], np.array(columns[3], dtype=float), columns[4])


def _one_by_one(client: "MlflowClient", runs: list["Run"]) -> Iterator[pa.Table]:
    for run in runs:
        for key in run.data.metrics:
            points = client.get_metric_history(run.info.run_id, key)
            n = len(points)
            values = np.array([point.value for point in points], dtype=float)
            steps, times = [point.step for point in points], [point.timestamp for point in points]
            yield _table([run.info.run_id] * n, [key] * n, steps, values, times)


def _table(
    run_id: Sequence[str],
    key: Sequence[str],
    step: Sequence[int],
    value: NDArray[np.float64],
    time: Sequence[int],
) -> pa.Table:
    # MLflow's stores write ±inf as the largest floats.
    largest = 0.999 * np.finfo(np.float64).max
    value = np.where(np.abs(value) >= largest, np.copysign(np.inf, value), value)
    return pa.table([run_id, key, step, value, pa.array(time, pa.timestamp("ms"))], schema=COLUMNS)


def _chunks(values: list[str], size: int) -> Iterator[list[str]]:
    for first in range(0, len(values), size):
        yield values[first : first + size]
