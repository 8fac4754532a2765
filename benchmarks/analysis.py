"""How long the record of a large sweep takes to load: `python -m benchmarks.analysis`.

The sweep's trials and scores are made up; they go through the project's own recorder into SQLite, the points
of a trial in one insertion, which leaves the rows that a sweep leaves. The peer is what a user would write
with MlflowClient: `get_metric_history` of each metric of each trial, on a sample of the trials; the two must
find equally many points.
"""

import argparse
import os
import tempfile
import time
from pathlib import Path

from searchers.recording import Delivery
from tests.analysis.recorded import Imagined, record

SAMPLE = 20  # trials that the peer reads


class DirectDelivery(Delivery):
    """Writes a trial's whole history when it ends, into the tables that `log_batch` writes to."""

    def _send_result(self, event):
        self.waiting = getattr(self, "waiting", {})
        self.waiting.setdefault(event["trial"], []).append(event)

    def _send_end(self, event):
        from mlflow.store.tracking.dbmodels.models import SqlLatestMetric, SqlMetric
        from sqlalchemy import insert

        results = self.waiting.pop(event["trial"])
        points = [
            {"run_uuid": self.run_ids[event["trial"]], "key": key, "value": value, "is_nan": False}
            | {"timestamp": result["time"], "step": result["epoch"]}
            for result in results
            for key, value in result["metrics"].items()
        ]
        with self.client._tracking_client.store.ManagedSessionMaker() as session:
            session.execute(insert(SqlMetric), points)
            session.execute(insert(SqlLatestMetric), points[-len(results[-1]["metrics"]) :])
        super()._send_end(event)


def make(folder: Path, trials: int, epochs: int) -> str:
    """Record a sweep, unless the folder has it; return its tracking URI."""
    uri = f"sqlite:///{folder}/mlflow.db"
    if not (folder / "done").exists():
        imagined = Imagined("large", trials, epochs, 3, images=False, stopping=False)
        record(imagined, folder, uri, DirectDelivery)
        (folder / "done").touch()
    return uri


def timed(function, *arguments, **options):
    begin = time.perf_counter()
    value = function(*arguments, **options)
    return value, time.perf_counter() - begin


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--epochs", type=int, default=50)
    parser.add_argument("--folder", type=Path, help="keep the store here; a temporary one, if not given")
    chosen = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    with tempfile.TemporaryDirectory() as temporary:
        folder = chosen.folder or Path(temporary)
        uri, made = timed(make, folder, chosen.trials, chosen.epochs)
        print(f"recorded {chosen.trials} trials of up to {chosen.epochs} epochs in {made:.0f} s")
        report(uri, Path(temporary) / "cache")


def report(uri: str, cache: Path) -> None:
    """Time a first load, a second one, and the peer; print the table."""
    from analysis.runs import connect, load

    client, connecting = timed(connect, uri)
    first, fresh = timed(load, client, "large", cache=cache)
    again, cached = timed(load, client, "large", cache=cache)
    if not first.history.equals(again.history):
        raise RuntimeError("the cached history is another one")

    def peer():
        points = 0
        for run_id in first.trials["run_id"][:SAMPLE]:
            for key in client.get_run(run_id).data.metrics:
                points += len(client.get_metric_history(run_id, key))
        return points

    points, slow = timed(peer)
    expected = (first.history["number"] <= SAMPLE).sum()
    if points != expected:
        raise RuntimeError(f"the peer read {points} points, the table has {expected}")
    estimate = slow * len(first.trials) / SAMPLE
    size = sum(file.stat().st_size for file in cache.iterdir()) / 1e6
    print(f"{len(first.trials)} trials, {len(first.history)} points")
    print(f"{'connecting, with imports':32} {connecting:8.2f} s")
    print(f"{'first load':32} {fresh:8.2f} s")
    print(f"{'again, from Parquet':32} {cached:8.2f} s   ({size:.1f} MB)")
    print(f"{'MlflowClient, a metric a call':32} {estimate:8.0f} s   ({SAMPLE} trials: {slow:.1f} s)")


if __name__ == "__main__":
    main()
