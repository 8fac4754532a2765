"""How long the record of a large sweep takes to load, how large a report is: `python -m benchmarks.analysis`.

The sweep's trials and scores are made up; they go through the project's own recorder into SQLite, the points
of a trial in one insertion, which leaves the rows that a sweep leaves. The peer is what a user would write
with MlflowClient: `get_metric_history` of each metric of each trial, on a sample of the trials; the two must
find equally many points.
"""

import argparse
import io
import tempfile
import time
from functools import cache
from pathlib import Path
from typing import Any
from unittest.mock import patch

from PIL import Image

from benchmarks import records
from searchers.record.mlflow_exporter import MlflowExporter
from tests.fixtures.processes import chromium
from tests.fixtures.recorded import Imagined, record

SAMPLE = 20  # trials that the peer reads
# The winner's samples are decoded and a frame with them has been drawn.
PAINTED = """
const [image, done] = arguments;
image.decode().then(() => requestAnimationFrame(() => requestAnimationFrame(() => done())));
"""


class DirectDelivery(MlflowExporter):
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
        with self._mlflow._tracking_client.store.ManagedSessionMaker() as session:
            session.execute(insert(SqlMetric), points)
            session.execute(insert(SqlLatestMetric), points[-len(results[-1]["metrics"]) :])
        super()._send_end(event)


def make(folder: Path, trials: int, epochs: int) -> str:
    """Record a sweep, unless the folder has it; return its tracking URI."""
    uri = f"sqlite:///{folder}/mlflow.db"
    if not (folder / "done").exists():
        imagined = Imagined("large", trials, epochs=epochs, dimensions=3, images=False, stopping=False)
        record(imagined, folder, uri, DirectDelivery)
        (folder / "done").touch()
    return uri


class Timed:
    """Wall-clock and processor seconds of a block: on a shared machine the latter is what is ours."""

    def __enter__(self):
        self.wall, self.cpu = time.perf_counter(), time.process_time()
        return self

    def __exit__(self, *_):
        self.wall, self.cpu = time.perf_counter() - self.wall, time.process_time() - self.cpu

    def row(self, name: str, **more: float) -> dict[str, Any]:
        """Return what goes on record."""
        return {"what": name, "cpu_seconds": self.cpu, "seconds": self.wall, **more}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--epochs", type=int, default=50)
    parser.add_argument("--folder", type=Path, help="keep the store here; a temporary one, if not given")
    parser.add_argument("--report", action="store_true", help="a report of 100 trials instead")
    parser.add_argument("--table", action="store_true", help="print what is on record instead")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = chosen.folder or Path(temporary)
        if chosen.table:
            table()
        elif chosen.report:
            measure_report(folder)
        else:
            measure_loading(make(folder, chosen.trials, chosen.epochs), Path(temporary) / "cache")


def measure_loading(uri: str, parquet: Path) -> None:
    """Time a first load, a second one, and the peer."""
    from analysis.record.store import connect
    from analysis.record.tables import load

    client = connect(uri)
    with Timed() as fresh:
        first = load(client, "large", cache=parquet)
    with Timed() as cached:
        again = load(client, "large", cache=parquet)
    if not first.history.equals(again.history):
        raise RuntimeError("the cached history is another one")
    with Timed() as peer:
        points = 0
        for run_id in first.trials["run_id"][:SAMPLE]:
            for key in client.get_run(run_id).data.metrics:
                points += len(client.get_metric_history(run_id, key))
    expected = (first.history["number"] <= SAMPLE).sum()
    if points != expected:
        raise RuntimeError(f"the peer read {points} points, the table has {expected}")
    size = sum(file.stat().st_size for file in parquet.iterdir())
    peer.wall, peer.cpu = (seconds * len(first.trials) / SAMPLE for seconds in (peer.wall, peer.cpu))
    rows = [
        fresh.row("first load", trials=len(first.trials), points=len(first.history)),
        cached.row("again, from the Parquet cache", bytes=size),
        peer.row("`MlflowClient`, a metric a call"),
    ]
    records.renew("analysis", "loading", rows)
    table()


def measure_report(folder: Path) -> None:
    """Time and weigh a report of 100 trials with grids of 64 faces, two a recorded epoch."""
    from analysis.record.store import connect
    from analysis.record.tables import load
    from analysis.report import content, render

    uri = f"sqlite:///{folder}/report.db"
    with patch("tests.fixtures.recorded.picture", grid_of_faces):
        record(Imagined("report", trials=100, dimensions=3), folder, uri)
    client = connect(uri)
    with Timed() as rendering:
        page = render([content(client, load(client, "report", cache=folder / "cache"), None)])
    (folder / "report.html").write_text(page, encoding="utf-8")
    rows = [rendering.row("writing it", bytes=len(page.encode()))]
    with chromium() as browser:
        if browser is None:
            print("no Chromium here: how long the page takes to open was not measured")
            return
        for attempt in ("first", "second", "third"):
            browser.get("about:blank")
            with Timed() as opening:
                browser.get((folder / "report.html").absolute().as_uri())
                browser.execute_async_script(PAINTED, browser.find_element("css selector", ".card img"))
            rows.append(opening.row(f"opening it, {attempt} time"))
    records.renew("analysis", "report", rows)
    table()


def table() -> None:
    """Print the record."""
    found, rows = records.read("analysis", "loading"), []
    for row in found:
        faster = found[-1]["cpu_seconds"] / row["cpu_seconds"]
        against = f"{faster:.0f} times faster" if faster > 1 else "1"
        rows.append([row["what"], f"{row['cpu_seconds']:.1f} s", against, f"{row['seconds']:.1f} s"])
    records.table(["", "processor", "against the peer", "wall clock"], rows)
    rows = []
    for row in records.read("analysis", "report"):
        rows += [["size of the file", f"{row['bytes'] / 1e6:.1f} MB", ""]] if "bytes" in row else []
        processor = f"{row['cpu_seconds']:.1f} s" if "bytes" in row else ""  # the browser's is another's
        rows.append([row["what"], processor, f"{row['seconds']:.1f} s"])
    records.table(["", "processor", "wall clock"], rows)


def grid_of_faces(number: int, epoch: int, kind: int) -> bytes:
    """Draw 64 faces of 64 pixels as one PNG: one of eight, which is enough for a size."""
    return _grid_of_faces((number + epoch + kind) % 8)


@cache
def _grid_of_faces(seed: int) -> bytes:
    from trainables.data.synthetic.faces import FACES

    faces, _ = FACES.render(64, image_size=64, seed=seed)
    sheet = faces.reshape(8, 8, 64, 64, 3).swapaxes(1, 2).reshape(512, 512, 3)
    file = io.BytesIO()
    Image.fromarray(sheet).save(file, "PNG")
    return file.getvalue()


if __name__ == "__main__":
    main()
