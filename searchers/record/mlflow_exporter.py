"""The record of a sweep in MLflow: one parent run for the sweep, one child run for each trial.

Only `MlflowExporter`, a thread of the driver, writes. It sends the ledger's events to MLflow in their order,
waits out an unreachable server, and after a restart goes on from where it was. Its place is kept in the
store itself, as a tag of the parent run: another store, or an older copy of this one, gets what it lacks.
Sending an event twice does no harm: runs are found by their tags, metrics carry the ledger's own timestamps
(MLflow stores equal points once), and an image is sent only if its step is not there yet. An event that
MLflow refuses for good, such as one for a run in its trash, is told and passed over; a resumed sweep sends it
again.
"""

import json
import logging
import math
import re
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from PIL import Image

from searchers.record import schema
from searchers.record.ledger import Ledger
from searchers.record.mlflow_store import StoreError, client_of, passes, runs_of, sentence
from searchers.record.sweep_record import SweepRecord

if TYPE_CHECKING:
    from mlflow import MlflowClient

Event = dict[str, Any]
PARAMS_A_REQUEST = 100  # MLflow's own limit
# Of a number that is measured again when a sweep is resumed, such as a reference's score.
MEASURED_ALIKE = 0.01
RETRY_SECONDS = (1.0, 2.0, 5.0, 10.0, 30.0)
# MLflow's own name for an image: key, "step", epoch, …; the thumbnail, .webp, is written last.
SENT_IMAGE = re.compile(r"(.+)[+%]step[+%](\d+)[+%].*\.webp")

logger = logging.getLogger(__name__)


def same_measure(recorded: str | None, value: Any) -> bool:
    """Whether a number was recorded, but for what other hardware makes of it: MLflow keeps the first."""
    try:
        return isinstance(value, float) and math.isclose(float(recorded or ""), value, rel_tol=MEASURED_ALIKE)
    except ValueError:
        return False


class MlflowExporter(threading.Thread):
    """Sends the ledger's events to MLflow, in order, however long that takes.

    As a context manager it is started, and sends what is left for at most a minute at the end.
    """

    def __init__(self, ledger: Ledger, folder: Path, tracking_uri: str, sweep: SweepRecord):
        super().__init__(name="mlflow-exporter", daemon=True)
        self.ledger, self.folder, self.tracking_uri, self.sweep = ledger, folder, tracking_uri, sweep
        self.offset = 0  # bytes of the ledger that have been sent
        self.error: str | None = None  # why nothing can be sent now
        self.refused: list[str] = []  # why single events were refused for good
        self.experiment_id: str | None = None
        self.parent_run_id = ""  # MLflow's, known with the first answer
        self.run_ids: dict[str, str] = {}
        self._client: MlflowClient | None = None
        self._sent_before = (
            0  # events up to here may have arrived: images are looked for before they are sent
        )
        self._images: dict[str, set[tuple[str, int]]] = {}
        self._refusal: StoreError | None = None
        self._refused_before = False  # whether the store's tag says so
        self._asked, self._wake, self._closing = threading.Event(), threading.Event(), threading.Event()
        self._senders: dict[str, Callable[[Event], None]] = {
            schema.TRIAL: self._send_trial,
            schema.RESULT: self._send_result,
            schema.END: self._send_end,
            schema.MODEL: self._send_model,
            schema.FIGURE: self._send_figure,
            schema.NOTE: self._send_note,
        }

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close(60.0)

    @property
    def page(self) -> str | None:
        """Where MLflow's UI shows the sweep's trials, the best first; None where MLflow never answered."""
        if self.experiment_id is None:
            return None
        view = f"workflowType=machine_learning&viewStateShareKey={self.sweep.sweep_id}"
        return f"#/experiments/{self.experiment_id}/runs?{view}"

    def check(self, timeout: float) -> None:
        """Wait until MLflow has answered for the first time; a server that is away is not waited for.

        Raises StoreError where the store can't be written to and waiting does not help.
        """
        self._asked.wait(timeout)
        if self._refusal is not None:
            raise self._refusal

    def wake(self) -> None:
        """Tell the thread that there is something to send."""
        self._wake.set()

    def close(self, timeout: float) -> int:
        """Send what is left for at most `timeout` seconds; return how many events MLflow lacks then."""
        self._closing.set()
        self._wake.set()
        if self.is_alive():
            self.join(timeout)
        return sum(1 for _ in self.ledger.events(self.offset)) + len(self.refused)

    def run(self) -> None:
        """Deliver until closed and nothing is left."""
        attempt = 0
        while True:
            try:
                if self._client is None:
                    self._connect()
                self._asked.set()
                self._deliver()
                self.error, attempt = None, 0
            except Exception as error:
                self._client = None  # look anew at what has arrived
                self.error = sentence(error)
                if isinstance(error, StoreError) and not self._asked.is_set():
                    self._refusal = error
                    self._asked.set()
                    return
                self._asked.set()
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
        """Find the sweep's runs, or begin them, and read from the store how far it has come.

        Raises StoreError where waiting does not help, and what MLflow raises where it is away.
        """
        client = client_of(self.tracking_uri)
        try:
            parent = self._find_runs(client)
            params, known = self.sweep.parent_params, client.get_run(parent).data.params
            kept = known.keys() & schema.WHERE
            news = {
                key: value
                for key, value in params.items()
                if key not in kept and not same_measure(known.get(key), value)
            }
            self._log_params(client, parent, news)
            # The settings as one file; that it arrives shows that artifacts can be written, too.
            client.log_text(parent, json.dumps(params, indent=2, default=str), "settings.json")
            for tag, value in self.sweep.experiment_tags.items():
                client.set_experiment_tag(str(self.experiment_id), tag, value)
            tags = client.get_run(parent).data.tags
        except Exception as error:
            if passes(error, self.tracking_uri):
                raise
            raise StoreError(sentence(error)) from error
        size = self.ledger.size()
        sent, refused = (int(tags.get(tag, 0)) for tag in (schema.DELIVERED_TAG, schema.REFUSED_TAG))
        self.offset = sent if sent <= size and not refused else 0
        self.refused, self._images, self._sent_before = [], {}, size
        self._refused_before = refused > 0
        self.parent_run_id, self._client = parent, client

    def _find_runs(self, client: "MlflowClient") -> str:
        """Return the parent run's id, begun where there is none; note the trials' runs."""
        experiment = client.get_experiment_by_name(self.sweep.experiment)
        if experiment is None:
            self.experiment_id = client.create_experiment(self.sweep.experiment)
        elif experiment.lifecycle_stage == "deleted":
            raise StoreError(
                f"its experiment {self.sweep.experiment!r} is in the trash: "
                f"mlflow experiments restore --experiment-id {experiment.experiment_id} brings it back"
            )
        else:
            self.experiment_id = experiment.experiment_id
        parent: str | None = None
        self.run_ids = {}
        mine = f"tags.`{schema.SWEEP_TAG}` = '{self.sweep.sweep_id}'"
        for run in runs_of(client, [self.experiment_id], mine):
            if schema.TRIAL_TAG in run.data.tags:
                self.run_ids[run.data.tags[schema.TRIAL_TAG]] = run.info.run_id
            else:
                parent = run.info.run_id
        if parent is not None:
            return parent
        run = client.create_run(self.experiment_id, tags=self.sweep.parent_tags, run_name=self.sweep.name)
        return str(run.info.run_id)

    def _deliver(self) -> None:
        """Send all events there are, and note in the store how far it has come."""
        before = self.offset
        try:
            for offset, event in self.ledger.events(self.offset):
                self._send(event)
                self.offset = offset
        finally:
            if self.offset != before:
                self._tag_parent(schema.DELIVERED_TAG, str(self.offset))
        if self._refused_before and not self.refused:  # all was taken now: the next start sends what is new
            self._tag_parent(schema.REFUSED_TAG, "0")
            self._refused_before = False

    def _send(self, event: Event) -> None:
        """Send an event, or pass it over where MLflow refuses it for good. Raises what may pass."""
        sender = self._senders.get(event["event"])
        if sender is None:
            return
        try:
            sender(event)
        except Exception as error:
            if passes(error, self.tracking_uri):
                raise
            self.refused.append(self._reason(event, error))
            self._tag_parent(schema.REFUSED_TAG, str(len(self.refused)))

    def _reason(self, event: Event, error: Exception) -> str:
        run_id = self.run_ids.get(event.get("trial", ""), self.parent_run_id)
        text = sentence(error)
        if "active" in text and "state" in text:
            return f"run {run_id} is in its trash: mlflow runs restore --run-id {run_id} brings it back"
        return text

    def _tag_parent(self, key: str, value: str) -> None:
        """Tag the parent run, unless that is in the trash."""
        try:
            self._mlflow.set_tag(self.parent_run_id, key, value)
        except Exception as error:
            if passes(error, self.tracking_uri):
                raise

    @property
    def _mlflow(self) -> "MlflowClient":
        if self._client is None:
            raise ConnectionError("MLflow has not answered yet")
        return self._client

    @staticmethod
    def _log_params(client: "MlflowClient", run_id: str, params: dict[str, Any]) -> None:
        from mlflow.entities import Param

        texts = [Param(key, str(value)[:6000]) for key, value in params.items()]
        for first in range(0, len(texts), PARAMS_A_REQUEST):
            client.log_batch(run_id, params=texts[first : first + PARAMS_A_REQUEST])

    def _send_trial(self, event: Event) -> None:
        if event["trial"] not in self.run_ids:
            tags = {
                schema.SWEEP_TAG: self.sweep.sweep_id,
                schema.TRIAL_TAG: event["trial"],
                schema.NUMBER_TAG: str(event["number"]),
                "mlflow.parentRunId": self.parent_run_id,
            }
            name = self.sweep.run_name(event["number"], event["config"])
            run = self._mlflow.create_run(str(self.experiment_id), event["time"], tags=tags, run_name=name)
            self.run_ids[event["trial"]] = run.info.run_id
        params = self.sweep.params_of(event["config"])
        self._log_params(self._mlflow, self.run_ids[event["trial"]], params)

    def _send_result(self, event: Event) -> None:
        from mlflow.entities import Metric, RunTag

        run_id, epoch = self.run_ids[event["trial"]], event["epoch"]
        metrics = [Metric(key, value, event["time"], epoch) for key, value in event["metrics"].items()]
        said = {schema.NODE_TAG: event.get("node"), schema.FLAGS_TAG: event.get("flags")}
        tags = [RunTag(tag, value) for tag, value in said.items() if value is not None]
        self._mlflow.log_batch(run_id, metrics=metrics, tags=tags)
        drawn = [(0, *kept) for kept in event.get("first_images", {}).items()]
        drawn += [(epoch, *kept) for kept in event["images"].items()]
        if not drawn:
            return
        there = self._images_there(run_id) if self.offset < self._sent_before else set()
        unreadable = ""
        for step, key, path in drawn:
            if (key, step) not in there:
                try:
                    with Image.open(self.folder / path) as file:
                        image = file.copy()
                except OSError as error:  # MLflow's own may pass, the disk's do not
                    unreadable = f"{path} can't be read: {sentence(error)}"
                    continue
                self._mlflow.log_image(run_id, image, key=key, step=step, timestamp=event["time"])
        if unreadable:
            raise StoreError(unreadable)

    def _images_there(self, run_id: str) -> set[tuple[str, int]]:
        """Return key and step of each image that a run has; it is asked once after each connection."""
        if run_id not in self._images:
            files = (Path(file.path).name for file in self._mlflow.list_artifacts(run_id, "images"))
            found = filter(None, map(SENT_IMAGE.fullmatch, files))
            self._images[run_id] = {(match.group(1), int(match.group(2))) for match in found}
        return self._images[run_id]

    def _send_end(self, event: Event) -> None:
        run_id, failed = self.run_ids[event["trial"]], event["status"] == schema.FAILED
        self._mlflow.set_tag(run_id, schema.STATUS_TAG, event["status"])
        if event.get("error"):
            self._mlflow.set_tag(run_id, schema.ERROR_TAG, event["error"])
        self._mlflow.set_terminated(run_id, "FAILED" if failed else "FINISHED", end_time=event["time"])

    def _send_model(self, event: Event) -> None:
        folder = str(self.folder / event["path"])
        self._mlflow.log_artifacts(self.run_ids[event["trial"]], folder, "model")

    def _send_figure(self, event: Event) -> None:
        self._mlflow.log_artifact(self.parent_run_id, str(self.folder / event["path"]))

    def _send_note(self, event: Event) -> None:
        run_id = self.run_ids[event["trial"]] if "trial" in event else self.parent_run_id
        for key, value in event.get("tags", {}).items():
            self._mlflow.set_tag(run_id, key, value)
        for key, value in event.get("metrics", {}).items():
            self._mlflow.log_metric(self.parent_run_id, key, value, event["time"], event.get("step", 0))
        if event.get("status") == schema.RESUMED:
            self._mlflow.update_run(self.parent_run_id, status="RUNNING")
        elif "status" in event:
            self._mlflow.set_terminated(self.parent_run_id, event["status"], end_time=event["time"])
