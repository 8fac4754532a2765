"""The record of a sweep in MLflow: one parent run for the sweep, one child run for each trial.

`MlflowExporter`, a thread of the driver, alone writes. It sends the ledger's events to MLflow in their order,
waits out an unreachable server, and after a restart goes on from where it was. Delivering an event twice does
no harm: runs are found by their tags, metrics carry the ledger's own timestamps (MLflow stores equal points
once), and an image is sent only if its step is not there yet. `recorded_sweep` reads such a record again.
"""

import json
import logging
import os
import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock
from PIL import Image
from ray.tune.utils import flatten_dict

from searchers.record.ledger import Ledger
from searchers.record.schema import (
    ERROR_TAG,
    FAILED,
    FLAGS_TAG,
    NODE_TAG,
    NUMBER_TAG,
    STATUS_TAG,
    SWEEP_TAG,
    TRIAL_TAG,
)
from searchers.record.trials import TrialRecord

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

# A dead server is asked again by us, in the background, not by MLflow's client for minutes within a call.
# Nor does the client print into the sweep's table where to look at each run that has ended.
CLIENT_SETTINGS = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}
RETRY_SECONDS = (1, 2, 5, 10, 30)

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class SweepRecord:
    """What the parent run says of the sweep."""

    sweep_id: str
    name: str
    experiment: str
    description: str
    params: dict[str, Any] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    trial_params: Callable[[dict[str, Any]], dict[str, Any]] = lambda config: {}
    """what a trial's run says beside its configuration: provenance, and columns that follow from it"""


class MlflowExporter(threading.Thread):
    """Sends the ledger's events to MLflow, in order, however long that takes."""

    def __init__(self, ledger: Ledger, folder: Path, tracking_uri: str, sweep: SweepRecord):
        super().__init__(name="mlflow-delivery", daemon=True)
        self.ledger, self.folder, self.tracking_uri, self.sweep = ledger, folder, tracking_uri, sweep
        self.offset_path = folder / "delivered.json"
        self.offset = json.loads(self.offset_path.read_text())["offset"] if self.offset_path.exists() else 0
        self.half_sent = True  # the first event after a start or an error may have arrived in part
        self.error: str | None = None
        self.experiment_id: str | None = None
        self.parent_run_id: str | None = None
        self.run_ids: dict[str, str] = {}
        self._wake, self._closing = threading.Event(), threading.Event()

    def wake(self) -> None:
        """Tell the thread that there is something to send."""
        self._wake.set()

    def close(self, timeout: float) -> int:
        """Send what is left for at most `timeout` seconds; return how many events remain unsent."""
        self._closing.set()
        self._wake.set()
        if self.is_alive():
            self.join(timeout)
        return sum(1 for _ in self.ledger.events(self.offset))

    def run(self) -> None:
        """Deliver until closed and nothing is left."""
        attempt = 0
        while True:
            try:
                if self.parent_run_id is None:
                    self._connect()
                self._deliver()
                self.error, attempt = None, 0
            except Exception as error:
                self.half_sent, self.parent_run_id = True, None  # look anew at what has arrived
                self.error = str(error).splitlines()[0] if str(error) else type(error).__name__
                logger.debug("MLflow at %s does not take the record yet", self.tracking_uri, exc_info=True)
                self._wake.wait(RETRY_SECONDS[min(attempt, len(RETRY_SECONDS) - 1)])
                self._wake.clear()
                attempt += 1
                continue
            if self._closing.is_set() and not any(True for _ in self.ledger.events(self.offset)):
                return
            self._wake.wait(1.0)
            self._wake.clear()

    def _connect(self) -> None:
        """Find the sweep's runs, or begin them."""
        self.client = client_of(self.tracking_uri)
        experiment = self.client.get_experiment_by_name(self.sweep.experiment)
        self.experiment_id = (
            experiment.experiment_id if experiment else self.client.create_experiment(self.sweep.experiment)
        )
        parent = None
        mine = f"tags.`{SWEEP_TAG}` = '{self.sweep.sweep_id}'"
        for run in _runs(self.client, [self.experiment_id], mine):
            if TRIAL_TAG in run.data.tags:
                self.run_ids[run.data.tags[TRIAL_TAG]] = run.info.run_id
            else:
                parent = run.info.run_id
        if parent is None:
            tags = {SWEEP_TAG: self.sweep.sweep_id, "mlflow.note.content": self.sweep.description}
            tags |= self.sweep.tags
            parent = self.client.create_run(
                self.experiment_id, tags=tags, run_name=self.sweep.name
            ).info.run_id
        self._log_params(parent, self.sweep.params)
        self.client.update_run(parent, status="RUNNING")
        self.parent_run_id = parent

    def _log_params(self, run_id: str, params: dict[str, Any]) -> None:
        from mlflow.entities import Param

        self.client.log_batch(run_id, params=[Param(key, str(value)[:6000]) for key, value in params.items()])

    def _deliver(self) -> None:
        """Send all events there are; the offset moves on with each that arrived."""
        for offset, event in self.ledger.events(self.offset):
            getattr(self, f"_send_{event['event']}")(event)
            temporary = self.offset_path.with_suffix(".tmp")
            temporary.write_text(json.dumps({"offset": offset}))
            temporary.replace(self.offset_path)
            # Only now: where the disk is full, no more than one event can be ahead of the file.
            self.offset, self.half_sent = offset, False

    def _send_trial(self, event: dict[str, Any]) -> None:
        if event["trial"] not in self.run_ids:
            tags = {
                SWEEP_TAG: self.sweep.sweep_id,
                TRIAL_TAG: event["trial"],
                NUMBER_TAG: str(event["number"]),
                "mlflow.parentRunId": self.parent_run_id,
            }
            name = f"{self.sweep.name}-{event['number']:03d}"
            run = self.client.create_run(self.experiment_id, event["time"], tags=tags, run_name=name)
            self.run_ids[event["trial"]] = run.info.run_id
        params = {**flatten_dict(event["config"]), **self.sweep.trial_params(event["config"])}
        self._log_params(self.run_ids[event["trial"]], params)

    def _send_result(self, event: dict[str, Any]) -> None:
        from mlflow.entities import Metric, RunTag

        run_id, epoch = self.run_ids[event["trial"]], event["epoch"]
        metrics = [Metric(key, value, event["time"], epoch) for key, value in event["metrics"].items()]
        said = {NODE_TAG: event.get("node"), FLAGS_TAG: event.get("flags")}
        tags = [RunTag(tag, value) for tag, value in said.items() if value]
        self.client.log_batch(run_id, metrics=metrics, tags=tags)
        if not event["images"]:
            return
        there = self.client.list_artifacts(run_id, "images") if self.half_sent else []
        for key, path in event["images"].items():
            # MLflow's own name for an image: key, "step", epoch, …; the thumbnail, .webp, is written last.
            sent = re.compile(rf"{re.escape(key)}[+%]step[+%]{epoch}[+%].*\.webp")
            if any(sent.fullmatch(Path(file.path).name) for file in there):
                continue
            with Image.open(self.folder / path) as image:
                self.client.log_image(run_id, image.copy(), key=key, step=epoch, timestamp=event["time"])

    def _send_end(self, event: dict[str, Any]) -> None:
        run_id = self.run_ids[event["trial"]]
        self.client.set_tag(run_id, STATUS_TAG, event["status"])
        if event.get("error"):
            self.client.set_tag(run_id, ERROR_TAG, event["error"])
        self.client.set_terminated(
            run_id, "FAILED" if event["status"] == FAILED else "FINISHED", end_time=event["time"]
        )

    def _send_drop(self, event: dict[str, Any]) -> None:
        if event["trial"] in self.run_ids:
            self.client.delete_run(self.run_ids.pop(event["trial"]))

    def _send_model(self, event: dict[str, Any]) -> None:
        self.client.log_artifacts(self.run_ids[event["trial"]], str(self.folder / event["path"]), "model")

    def _send_figure(self, event: dict[str, Any]) -> None:
        self.client.log_artifact(self.parent_run_id, str(self.folder / event["path"]))

    def _send_note(self, event: dict[str, Any]) -> None:
        for key, value in event.get("tags", {}).items():
            self.client.set_tag(self.parent_run_id, key, value)
        for key, value in event.get("metrics", {}).items():
            self.client.log_metric(self.parent_run_id, key, value, event["time"], event.get("step", 0))
        if "status" in event:
            self.client.set_terminated(self.parent_run_id, event["status"], end_time=event["time"])


def client_of(tracking_uri: str) -> "MlflowClient":
    """Return a client that is neither patient nor talkative. A SQLite database that is not there is made."""
    for name, value in CLIENT_SETTINGS.items():
        os.environ.setdefault(name, value)
    from mlflow import MlflowClient  # seconds to import: the delivery's thread does, no sweep waits for it

    logging.getLogger("mlflow").setLevel(logging.ERROR)
    logging.getLogger("alembic").setLevel(logging.ERROR)
    _create_database(tracking_uri)
    return MlflowClient(tracking_uri)


def recorded_sweep(tracking_uri: str, name: str, metric: str) -> tuple[dict[str, str], list[TrialRecord]]:
    """Return the parameters of the sweep that has this name in MLflow, and its trials.

    MLflow keeps parameters as text, the trials' configurations, too; of their metrics this one is read.
    Raises ValueError, with a clause, where there is no such sweep, where there are several, and where MLflow
    does not answer.
    """
    path = Path(tracking_uri.removeprefix("sqlite:///"))
    if tracking_uri.startswith("sqlite:///") and not path.exists():
        raise ValueError(f"there is no MLflow database at {tracking_uri}")
    from mlflow.exceptions import MlflowException

    try:
        client = client_of(tracking_uri)
        experiments = [experiment.experiment_id for experiment in client.search_experiments()]
        named = _runs(client, experiments, f"attributes.run_name = '{name}'") if experiments else []
        sweeps = [run for run in named if SWEEP_TAG in run.data.tags and TRIAL_TAG not in run.data.tags]
        if len(sweeps) != 1:
            raise ValueError(f"MLflow at {tracking_uri} has {len(sweeps) or 'none'} of that name")
        (sweep,) = sweeps
        trials = []
        mine = f"tags.`{SWEEP_TAG}` = '{sweep.data.tags[SWEEP_TAG]}'"
        for run in _runs(client, [sweep.info.experiment_id], mine):
            tags = run.data.tags
            if TRIAL_TAG in tags:
                points = client.get_metric_history(run.info.run_id, metric)
                epochs = {point.step: {metric: point.value} for point in points}
                number, status = int(tags[NUMBER_TAG]), tags.get(STATUS_TAG)
                trials.append(TrialRecord(tags[TRIAL_TAG], number, run.data.params, epochs, status))
    except MlflowException as error:
        raise ValueError(f"MLflow at {tracking_uri} does not answer: {str(error).splitlines()[0]}") from error
    return sweep.data.params, sorted(trials, key=lambda trial: trial.number)


def _runs(client: "MlflowClient", experiments: list[str], query: str) -> "Iterator[Run]":
    """Yield all runs that the query finds, page by page."""
    token = None
    while True:
        page = client.search_runs(experiments, query, page_token=token)
        yield from page
        token = page.token
        if not token:
            return


def _create_database(tracking_uri: str) -> None:
    """Make a SQLite database that is not there yet, whole or not at all.

    MLflow creates its tables in dozens of steps, and cannot go on with what a killed process left of them.
    """
    path = Path(tracking_uri.removeprefix("sqlite:///"))
    if not tracking_uri.startswith("sqlite:///") or path.exists():
        return
    from mlflow import MlflowClient

    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{path}.lock"):
        if path.exists():
            return
        new = path.with_name(f"{path.name}.{os.getpid()}.new")
        MlflowClient(f"sqlite:///{new}").search_experiments()
        new.replace(path)
