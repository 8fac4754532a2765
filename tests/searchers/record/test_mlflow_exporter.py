"""The record in a real MLflow (SQLite): complete, in order, each thing once, whatever fails on the way."""

import io
import math
import os
import shutil
import sqlite3
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import mlflow
import numpy as np
import pytest
import torch
from mlflow import MlflowClient
from PIL import Image
from ray import tune

from searchers.record.ledger import Ledger
from searchers.record.ledger_callback import LedgerCallback
from searchers.record.mlflow_exporter import SENT_IMAGE, MlflowExporter
from searchers.record.mlflow_store import StoreError, create_database
from searchers.record.schema import (
    DELIVERED_TAG,
    FAILED,
    FLAGS_TAG,
    REFUSED_TAG,
    STATUS_TAG,
    SWEEP_TAG,
    TRIAL_TAG,
    WHY_TAG,
)
from searchers.record.sweep_record import SweepRecord
from tests.fixtures.waits import PATIENCE, wait_until

EPOCHS = 3


@pytest.fixture(scope="module")
def tracking_uri(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mlflow")
    uri = f"sqlite:///{folder}/mlflow.db"
    client = MlflowClient(uri)
    for name in ("complete", "twice", "flaky", "away", "lost", "killed", "shorter", "untold", "trash"):
        client.create_experiment(f"experiment-{name}", artifact_location=str(folder / name))
    return uri


@pytest.fixture(autouse=True)
def artifacts_stay_here(tmp_path, monkeypatch):
    """MLflow puts the artifacts of a database that does not say where into the working folder."""
    monkeypatch.chdir(tmp_path)


def png(level: int) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (8, 8), (level, 0, 0)).save(file, "PNG")
    return file.getvalue()


def result(epoch, **metrics):
    images = {"samples": png(epoch), "reconstructions": png(100 + epoch)}
    first = {"first_images": {"samples": png(0)}} if epoch == 1 else {}
    return {
        "training_iteration": epoch,
        "pid": 7,
        "config": {},
        "images": images,
        **first,
        "diverged": False,
        **metrics,
    }


def play(recorder):
    """Three trials: one to its end, one stopped early, one that diverges."""
    a, b, c = (SimpleNamespace(trial_id=name, config={"beta": float(i)}) for i, name in enumerate("abc"))
    for trial in (a, b, c):
        recorder.on_trial_start(0, [], trial)
    for epoch in range(1, EPOCHS + 1):
        recorder.on_trial_result(0, [], a, result(epoch, fid=10.0 / epoch))
    recorder.on_trial_complete(0, [], a)
    recorder.on_trial_result(0, [], b, result(1, fid=50.0))
    recorder.on_trial_complete(0, [], b)
    recorder.ledger.append("note", trial="b", tags={WHY_TAG: "epoch 1: 50, 2nd of 2, cut 10"})
    recorder.on_trial_result(0, [], c, result(1, fid=math.nan) | {"diverged": True})
    recorder.on_trial_complete(0, [], c)
    recorder.ledger.append("note", status="FINISHED", metrics={"best/fid": 10.0 / 3})


def sweep_of(name):
    return SweepRecord(
        sweep_id=f"id-{name}",
        name=name,
        experiment=f"experiment-{name}",
        description="A sweep.",
        params={"epochs": EPOCHS},
        tags={"metric": "fid"},
        trial_params=lambda config: {"beta_norm": config["beta"] / 100},
    )


@pytest.fixture
def ledger(tmp_path):
    return Ledger(tmp_path / "ledger.jsonl")


def deliver(ledger, tmp_path, uri, name, **changes):
    delivery = MlflowExporter(ledger, tmp_path, uri, sweep_of(name))
    for attribute, value in changes.items():
        setattr(delivery, attribute, value)
    delivery.start()
    unsent = delivery.close(timeout=PATIENCE)
    assert unsent == 0, delivery.error
    return delivery


def runs_of(uri, name, trials="abc"):
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name(f"experiment-{name}")
    runs = client.search_runs([experiment.experiment_id], f"tags.`{SWEEP_TAG}` = 'id-{name}'")
    parents = [run for run in runs if TRIAL_TAG not in run.data.tags]
    assert len(parents) == 1
    children = [run for run in runs if TRIAL_TAG in run.data.tags]
    assert Counter(run.data.tags[TRIAL_TAG] for run in children) == Counter(trials)
    return client, parents[0], {run.data.tags[TRIAL_TAG]: run for run in children}


def assert_complete(uri, name):
    client, parent, trials = runs_of(uri, name)
    assert parent.info.status == "FINISHED"
    assert parent.data.params == {"epochs": str(EPOCHS)}
    assert parent.data.metrics["best/fid"] == pytest.approx(10 / 3)
    assert {trial: run.data.tags[STATUS_TAG] for trial, run in trials.items()} == {
        "a": "finished",
        "b": "stopped",
        "c": "diverged",
    }
    assert trials["b"].data.tags[WHY_TAG] == "epoch 1: 50, 2nd of 2, cut 10"
    assert WHY_TAG not in parent.data.tags | trials["a"].data.tags
    history = client.get_metric_history(trials["a"].info.run_id, "fid")
    assert [(point.step, point.value) for point in history] == [(1, 10.0), (2, 5.0), (3, 10.0 / 3)]
    assert math.isnan(client.get_metric_history(trials["c"].info.run_id, "fid")[0].value)
    for number, (trial, run) in enumerate(sorted(trials.items())):
        assert run.data.tags["mlflow.parentRunId"] == parent.info.run_id
        assert run.data.params == {"beta": str(float(number)), "beta_norm": str(number / 100)}
        assert run.info.status == "FINISHED"
        assert run.info.run_name == f"{number + 1:03d} {name}"
        files = [file.path for file in client.list_artifacts(run.info.run_id, "images")]
        epochs = EPOCHS if trial == "a" else 1
        sent = Counter(match.groups() for path in files if (match := SENT_IMAGE.fullmatch(Path(path).name)))
        drawn = {(key, str(at)) for key in ("samples", "reconstructions") for at in range(1, epochs + 1)}
        assert sent == Counter(drawn | {("samples", "0")})
    assert "pid" not in trials["a"].data.metrics


def test_the_record_is_complete(ledger, tmp_path, tracking_uri):
    play(LedgerCallback(ledger, tmp_path, EPOCHS))
    deliver(ledger, tmp_path, tracking_uri, "complete")
    assert_complete(tracking_uri, "complete")


@pytest.mark.parametrize(("later", "expected"), [("", ""), ("collapsed", "collapsed")])
def test_a_flag_lasts_as_long_as_what_it_names(ledger, tmp_path, tracking_uri, later, expected):
    """A model that has recovered is no longer called collapsed."""
    recorder, name = LedgerCallback(ledger, tmp_path, EPOCHS), f"flagged-{expected or 'cleared'}"
    trial = SimpleNamespace(trial_id="a", config={"beta": 1.0})
    recorder.on_trial_start(0, [], trial)
    for epoch, flags in ((1, "collapsed"), (2, later)):
        recorder.on_trial_result(0, [], trial, result(epoch, flags=flags) | {"images": {}})
    deliver(ledger, tmp_path, tracking_uri, name)
    _, _, trials = runs_of(tracking_uri, name, "a")
    assert trials["a"].data.tags[FLAGS_TAG] == expected


def test_numbers_of_numpy_and_torch_are_scores(ledger, tmp_path):
    recorder, trial = LedgerCallback(ledger, tmp_path, EPOCHS), SimpleNamespace(trial_id="a", config={})
    recorder.on_trial_start(0, [], trial)
    kinds = {"whole": np.int64(2), "single": np.float32(0.5), "tensor": torch.tensor(0.25), "flag": np.True_}
    others = {"text": "0.5", "many": np.ones(2), "none": None}
    recorder.on_trial_result(0, [], trial, {"training_iteration": 1, "fid": 1.5, **kinds, **others})
    expected = {"fid": 1.5, "whole": 2.0, "single": 0.5, "tensor": 0.25, "flag": 1.0}
    assert ledger.trials()["a"].metrics == recorder.records["a"].metrics == {1: expected}


def test_delivering_everything_again_changes_nothing(ledger, tmp_path, tracking_uri):
    play(LedgerCallback(ledger, tmp_path, EPOCHS))
    deliver(ledger, tmp_path, tracking_uri, "twice")
    client, parent, _ = runs_of(tracking_uri, "twice")
    assert parent.data.tags[DELIVERED_TAG] == str(ledger.size())
    client.set_tag(parent.info.run_id, DELIVERED_TAG, "0")
    deliver(ledger, tmp_path, tracking_uri, "twice")
    assert_complete(tracking_uri, "twice")


def test_another_store_gets_all_and_an_older_copy_what_it_lacks(ledger, tmp_path):
    """What was sent is bound to the store that has it, not to the ledger's folder."""
    first, second, copy = (f"sqlite:///{tmp_path}/{name}.db" for name in ("first", "second", "copy"))
    recorder = LedgerCallback(ledger, tmp_path, EPOCHS)
    trial = SimpleNamespace(trial_id="a", config={"beta": 0.0})
    recorder.on_trial_start(0, [], trial)
    recorder.on_trial_result(0, [], trial, result(1, fid=10.0))
    deliver(ledger, tmp_path, first, "moved")
    shutil.copy(tmp_path / "first.db", tmp_path / "copy.db")
    play(recorder)
    for uri in (first, second, copy):
        deliver(ledger, tmp_path, uri, "moved")
        assert_complete(uri, "moved")


def test_a_ledger_shorter_than_what_was_sent_is_sent_whole(ledger, tmp_path, tracking_uri):
    play(LedgerCallback(ledger, tmp_path, EPOCHS))
    deliver(ledger, tmp_path, tracking_uri, "shorter")
    client, parent, trials = runs_of(tracking_uri, "shorter")
    client.set_tag(parent.info.run_id, DELIVERED_TAG, str(10 * ledger.size()))
    client.delete_run(trials["b"].info.run_id)
    deliver(ledger, tmp_path, tracking_uri, "shorter")
    assert_complete(tracking_uri, "shorter")


def test_a_run_in_the_trash_holds_up_no_other_and_comes_back(ledger, tmp_path, tracking_uri):
    recorder = LedgerCallback(ledger, tmp_path, EPOCHS)
    recorder.on_trial_start(0, [], SimpleNamespace(trial_id="b", config={"beta": 1.0}))
    delivery = MlflowExporter(ledger, tmp_path, tracking_uri, sweep_of("trash"))
    delivery.start()
    wait_until(lambda: "b" in delivery.run_ids and delivery.offset == ledger.size())
    run_id, client = delivery.run_ids["b"], MlflowClient(tracking_uri)
    client.delete_run(run_id)
    ledger.append("result", trial="b", epoch=1, metrics={"fid": 20.0}, images={})
    ledger.append("end", trial="b", status="stopped")
    ledger.append("note", tags={"after": "yes"})
    assert delivery.close(timeout=PATIENCE) == 2
    remedy = f"run {run_id} is in its trash: mlflow runs restore --run-id {run_id} brings it back"
    assert set(delivery.refused) == {remedy}
    assert client.get_run(delivery.parent_run_id).data.tags["after"] == "yes"
    client.restore_run(run_id)
    deliver(ledger, tmp_path, tracking_uri, "trash")
    assert client.get_run(run_id).data.metrics["fid"] == 20.0
    assert client.get_run(run_id).data.tags[STATUS_TAG] == "stopped"
    assert client.get_run(delivery.parent_run_id).data.tags[REFUSED_TAG] == "0"
    again = MlflowExporter(ledger, tmp_path, tracking_uri, sweep_of("trash"))
    again._connect()
    assert again.offset == ledger.size()  # nothing is sent once more


def test_an_event_that_cannot_be_told_holds_up_no_other(ledger, tmp_path, tracking_uri):
    play(LedgerCallback(ledger, tmp_path, EPOCHS))
    sweep = sweep_of("untold")
    delivery = MlflowExporter(
        ledger,
        tmp_path,
        tracking_uri,
        replace(sweep, trial_params=lambda config: {"beta_norm": config["beta"] ** 2 / config["beta"] / 100}),
    )
    delivery.start()
    assert delivery.close(timeout=PATIENCE) == 1
    assert delivery.refused == ["float division by zero"]
    deliver(ledger, tmp_path, tracking_uri, "untold")  # which begins anew where something was refused
    assert_complete(tracking_uri, "untold")


def trashed(tmp_path):
    uri = f"sqlite:///{tmp_path}/trash.db"
    client = MlflowClient(uri)
    client.delete_experiment(client.create_experiment("experiment-refused"))
    return uri


def outdated(tmp_path):
    MlflowClient(f"sqlite:///{tmp_path}/new.db").search_experiments()
    shutil.copy(tmp_path / "new.db", tmp_path / "old.db")  # MLflow checks a database once a process
    with sqlite3.connect(tmp_path / "old.db") as database:
        database.execute("UPDATE alembic_version SET version_num = '451aebb31d03'")
    return f"sqlite:///{tmp_path}/old.db"


def unwritable(tmp_path):
    (tmp_path / "file").write_text("no folder")
    return f"sqlite:///{tmp_path}/file/mlflow.db"


@pytest.mark.parametrize(
    ("uri_of", "reason"),
    [
        (trashed, "in the trash: mlflow experiments restore --experiment-id 1 brings it back"),
        (outdated, "out-of-date database schema"),
        (unwritable, "file"),
        (lambda tmp_path: "ftp://somewhere/mlflow", "ftp"),
        (lambda tmp_path: f"{tmp_path}/mlruns", "."),
    ],
)
def test_a_store_that_cannot_be_written_is_told_before_the_first_trial(uri_of, reason, ledger, tmp_path):
    delivery = MlflowExporter(ledger, tmp_path, uri_of(tmp_path), sweep_of("refused"))
    delivery.start()
    with pytest.raises(StoreError, match=reason):
        delivery.check(timeout=PATIENCE)


def test_a_server_that_is_away_is_no_reason_not_to_begin(ledger, tmp_path):
    delivery = MlflowExporter(ledger, tmp_path, "http://127.0.0.1:9", sweep_of("away"))
    delivery.start()
    delivery.check(timeout=PATIENCE)
    assert "127.0.0.1" in delivery.error
    delivery.close(timeout=0.1)


def test_a_query_is_no_part_of_a_databases_path(ledger, tmp_path):
    play(LedgerCallback(ledger, tmp_path, EPOCHS))
    uri = f"sqlite:///{tmp_path}/timed.db?timeout=60"
    deliver(ledger, tmp_path, uri, "timed")
    assert_complete(f"sqlite:///{tmp_path}/timed.db", "timed")


def test_a_server_that_fails_at_every_call_once_loses_and_doubles_nothing(
    ledger, tmp_path, tracking_uri, monkeypatch
):
    """Each call either does not arrive at first, or arrives and is then reported as an error."""
    play(LedgerCallback(ledger, tmp_path, EPOCHS))
    calls = Counter()

    def flaky(method):
        original = getattr(MlflowClient, method)

        def call(self, *arguments, **options):
            what = (a.tobytes() if isinstance(a, Image.Image) else str(a) for a in arguments)
            key = (method, *what, str(sorted(options.items())))
            calls[key] += 1
            if calls[key] == 1 and len(calls) % 2:
                raise ConnectionError("lost on the way there")
            answer = original(self, *arguments, **options)
            if calls[key] == 1:
                raise ConnectionError("lost on the way back")
            return answer

        return call

    methods = ("create_run", "log_batch", "log_image", "set_tag", "set_terminated", "log_metric")
    for method in methods:
        monkeypatch.setattr(MlflowClient, method, flaky(method))
    monkeypatch.setattr("searchers.record.mlflow_exporter.RETRY_SECONDS", (0.01,))
    deliver(ledger, tmp_path, tracking_uri, "flaky")
    assert {method for (method, *_), count in calls.items() if count > 1} == set(methods)
    assert_complete(tracking_uri, "flaky")


def test_an_unreachable_server_holds_nobody_up_and_gets_all_later(ledger, tmp_path, tracking_uri):
    play(LedgerCallback(ledger, tmp_path, EPOCHS))
    away = MlflowExporter(ledger, tmp_path, "http://127.0.0.1:9", sweep_of("away"))
    away.start()
    assert away.close(timeout=3) == len(list(ledger.events()))
    deliver(ledger, tmp_path, tracking_uri, "away")
    assert_complete(tracking_uri, "away")


def test_a_dead_server_is_asked_now_and_then_whoever_wakes_the_thread(ledger, tmp_path):
    attempts = []

    class Refused(MlflowExporter):
        def _connect(self):
            attempts.append(1)
            raise ConnectionError("refused")

    delivery = Refused(ledger, tmp_path, "http://127.0.0.1:9", sweep_of("dead"))
    delivery.start()
    delivery.wake()
    wait_until(lambda: len(attempts) >= 2)
    delivery.close(timeout=0.1)
    assert len(attempts) <= 6


def test_a_driver_killed_before_it_noted_what_was_sent_doubles_nothing(
    ledger, tmp_path, tracking_uri, monkeypatch
):
    play(LedgerCallback(ledger, tmp_path, EPOCHS))

    def killed(self, key, value):
        raise SystemExit

    with monkeypatch.context() as patch:
        patch.setattr(MlflowExporter, "_tag_parent", killed)
        with pytest.raises(SystemExit):
            MlflowExporter(ledger, tmp_path, tracking_uri, sweep_of("killed")).run()
    deliver(ledger, tmp_path, tracking_uri, "killed")
    assert_complete(tracking_uri, "killed")


def test_an_epoch_repeated_after_a_fault_is_recorded_once(ledger, tmp_path):
    recorder = LedgerCallback(ledger, tmp_path, EPOCHS)
    trial = SimpleNamespace(trial_id="a", config={"beta": 1.0})
    recorder.on_trial_start(0, [], trial)
    recorder.on_trial_result(0, [], trial, result(1, fid=3.0))
    ledger.close()
    resumed = LedgerCallback(Ledger(ledger.path), tmp_path, EPOCHS)
    resumed.on_trial_start(0, [], trial)
    resumed.on_trial_result(0, [], trial, result(1, fid=4.0))
    resumed.on_trial_result(0, [], trial, result(2, fid=2.0))
    assert [event["event"] for _, event in ledger.events()] == ["trial", "result", "result"]
    assert ledger.trials()["a"].metrics[1]["fid"] == 3.0


def test_a_trial_whose_end_was_not_recorded_is_ended_and_no_other(ledger, tmp_path):
    """The driver died between a last checkpoint and the end of its trial."""
    recorder = LedgerCallback(ledger, tmp_path, EPOCHS)
    for name, epochs, saved in (("whole", EPOCHS, EPOCHS), ("unsaved", EPOCHS, 1), ("open", EPOCHS - 1, 1)):
        trial = SimpleNamespace(trial_id=name, config={"beta": 1.0})
        recorder.on_trial_start(0, [], trial)
        for epoch in range(1, epochs + 1):
            recorder.on_trial_result(0, [], trial, result(epoch, fid=3.0))
        recorder.on_trial_save(0, [], saved_at(trial, saved, tmp_path))
    diverged = SimpleNamespace(trial_id="diverged", config={"beta": 1.0})
    recorder.on_trial_start(0, [], diverged)
    recorder.on_trial_result(0, [], diverged, result(1, fid=math.nan) | {"diverged": True})
    ledger.close()
    resumed = LedgerCallback(Ledger(ledger.path), tmp_path, EPOCHS)
    resumed.end_what_is_complete()
    statuses = {name: record.status for name, record in Ledger(ledger.path).trials().items()}
    assert statuses == {"whole": "finished", "unsaved": None, "open": None, "diverged": "diverged"}
    assert {name: record.status for name, record in resumed.records.items()} == statuses


def saved_at(trial, epoch, folder):
    """Return the trial with a checkpoint of this epoch."""
    path = folder / f"{trial.trial_id}/checkpoint_000000"
    path.mkdir(parents=True)
    (path / "state.pt").touch()
    trial.latest_checkpoint_result = SimpleNamespace(
        checkpoint=tune.Checkpoint(str(path)), metrics={"training_iteration": epoch}
    )
    return trial


def test_images_and_checkpoints_are_on_disk_before_the_ledger_tells_of_them(ledger, tmp_path, monkeypatch):
    """A power cut leaves of what was not brought there an empty file."""
    synced = []
    fsync = os.fsync
    monkeypatch.setattr(
        os, "fsync", lambda file: synced.append(os.readlink(f"/proc/self/fd/{file}")) or fsync(file)
    )
    recorder = LedgerCallback(ledger, tmp_path, EPOCHS)
    trial = SimpleNamespace(trial_id="a", config={"beta": 1.0})
    recorder.on_trial_start(0, [], trial)
    recorder.on_trial_result(0, [], trial, result(2, fid=3.0))
    recorder.on_trial_save(0, [], saved_at(trial, 2, tmp_path))
    order = [Path(file).name.partition(".")[0] for file in synced]
    assert order == [
        "ledger",
        "samples_0002",
        "reconstructions_0002",
        "ledger",
        "checkpoint_000000",
        "state",
        "ledger",
    ]


@pytest.mark.parametrize("left", [0, 40])
def test_an_image_that_was_cut_holds_up_nothing(ledger, tmp_path, tracking_uri, left):
    play(LedgerCallback(ledger, tmp_path, EPOCHS))
    path = tmp_path / "images/a/samples_0002.png"
    path.write_bytes(path.read_bytes()[:left])
    delivery = MlflowExporter(ledger, tmp_path, tracking_uri, sweep_of("cut"))
    delivery.start()
    assert delivery.close(timeout=PATIENCE) == 1
    assert [refused.partition(":")[0] for refused in delivery.refused] == [
        "images/a/samples_0002.png can't be read"
    ]
    _, parent, trials = runs_of(tracking_uri, "cut")
    assert parent.info.status == "FINISHED"
    files = MlflowClient(tracking_uri).list_artifacts(trials["a"].info.run_id, "images")
    names = filter(None, (SENT_IMAGE.fullmatch(Path(file.path).name) for file in files))
    sent = Counter((match.group(1), int(match.group(2))) for match in names)
    assert sent == Counter(
        [("samples", step) for step in (0, 1, 3)] + [("reconstructions", step) for step in (1, 2, 3)]
    )


def test_a_number_that_other_hardware_measures_is_no_other_setting(ledger, tmp_path, tracking_uri):
    for grey in (251.234567, 251.234568, 300.0):
        sweep = replace(sweep_of("hardware"), params={"reference/grey/fid": grey, "epochs": EPOCHS})
        delivery = MlflowExporter(ledger, tmp_path, tracking_uri, sweep)
        delivery.start()
        delivery.close(timeout=PATIENCE)
        if grey < 300:
            delivery.check(0.0)
            _, parent, _ = runs_of(tracking_uri, "hardware", "")
            assert parent.data.params["reference/grey/fid"] == "251.234567"
    with pytest.raises(StoreError, match="Changing param values is not allowed"):
        delivery.check(0.0)


def test_images_and_weights_that_lie_elsewhere_now_are_no_other_setting(ledger, tmp_path, tracking_uri):
    for place in ("/here", "/there"):
        shared = {"dataset": place, "data_root": place, "feature_weights": place}
        sweep = replace(sweep_of("moved"), shared=shared)
        delivery = MlflowExporter(ledger, tmp_path, tracking_uri, sweep)
        delivery.start()
        delivery.close(timeout=PATIENCE)
        delivery.check(0.0)
        _, parent, _ = runs_of(tracking_uri, "moved", "")
        assert {parent.data.params[name] for name in shared} == {"/here"}


def test_a_database_appears_whole_or_not_at_all(tmp_path, monkeypatch):
    """MLflow, killed while it makes its tables, leaves a database that it never opens again."""
    uri = f"sqlite:///{tmp_path}/new/mlflow.db"
    (tmp_path / "new").mkdir()
    (tmp_path / f"new/mlflow.db.{os.getpid()}.new").write_text("what a process of this number left")

    def killed(self, *args, **kwargs):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, "search_experiments", killed)
        with pytest.raises(KeyboardInterrupt):
            create_database(uri)
    assert not (tmp_path / "new/mlflow.db").exists()
    create_database(uri)
    before = (tmp_path / "new/mlflow.db").stat().st_mtime_ns
    create_database(uri)
    assert (tmp_path / "new/mlflow.db").stat().st_mtime_ns == before
    assert MlflowClient(uri).get_experiment_by_name("Default")


# In a process of its own: SQLAlchemy tells of every connection, and other tests leave threads that write.
WAITS = """
import sys
from pathlib import Path
from mlflow import MlflowClient
from sqlalchemy import event
from sqlalchemy.engine import Engine
from searchers.record.mlflow_store import _unconfirmed, create_database

def note(connection):
    waits.append(connection.connection.execute("PRAGMA synchronous").fetchone()[0])

place, waits = Path(sys.argv[1]), []
event.listen(Engine, "begin", note)
create_database(uri := f"sqlite:///{place}/mlflow.db")
made, waits = set(waits), []
with _unconfirmed(place / "other.db"):  # as another thread may be in it
    MlflowClient(uri).create_experiment("later")
print(made, set(waits))
"""


def test_the_disk_is_waited_for_once_where_a_database_is_made_and_at_each_write_later(tmp_path):
    done = subprocess.run([sys.executable, "-c", WAITS, str(tmp_path)], capture_output=True, text=True)
    off, full = 0, 2
    assert done.stdout.split("\n")[0] == f"{ {off} } { {full} }", done.stderr


def test_image_bytes_stay_out_of_tunes_own_state(ledger, tmp_path):
    recorder = LedgerCallback(ledger, tmp_path, EPOCHS)
    trial = SimpleNamespace(trial_id="a", config={})
    recorder.on_trial_start(0, [], trial)
    reported = result(1, fid=3.0)
    recorder.on_trial_result(0, [], trial, reported)
    assert not {"images", "first_images"} & reported.keys()
    assert (tmp_path / "images" / "a" / "samples_0000.png").read_bytes() == png(0)
    assert (tmp_path / "images" / "a" / "samples_0001.png").read_bytes() == png(1)


def test_mlflow_is_the_version_the_record_was_built_on():
    assert mlflow.__version__.startswith("3.")


@pytest.mark.parametrize("in_storage", [True, False])
def test_a_trial_whose_process_never_started_is_on_record_as_failed(tmp_path, in_storage):
    """Tune reads the error from the storage, where it may not be yet."""
    ledger = Ledger(tmp_path / "ledger.jsonl")
    recorder = LedgerCallback(ledger, tmp_path, EPOCHS)
    play(recorder)
    error = "The actor died.\nModuleNotFoundError: no module named 'somewhere'"
    (path := tmp_path / "error.txt").write_text(error)
    never = SimpleNamespace(
        trial_id="d",
        config={"beta": 9.0},
        get_error=lambda: error if in_storage else None,
        error_file=None if in_storage else str(path),
    )
    recorder.on_trial_error(0, [], never)
    for record in (recorder.records["d"], ledger.trials()["d"]):
        assert (record.number, record.config, record.status) == (4, {"beta": 9.0}, FAILED)
        assert record.error == "ModuleNotFoundError: no module named 'somewhere'"


def test_what_all_trials_have_stands_with_the_parent_alone(ledger, tmp_path):
    sweep = replace(
        sweep_of("shared"),
        params={"epochs": EPOCHS, "width": None, "space/beta": "{}"},
        shared={"width": 0.5, "depth": 3, "beta": 9.0},
    )
    assert sweep.parent_params == {
        "epochs": EPOCHS,
        "width": None,
        "space/beta": "{}",
        "depth": 3,
        "beta": 9.0,
    }
    config = {"beta": 9.0, "width": 0.5, "depth": 3, "seed": 7}
    assert sweep.params_of(config) == {"beta": 9.0, "width": 0.5, "seed": 7, "beta_norm": 0.09}
    assert sweep.params_of(config | {"depth": 4})["depth"] == 4
    assert sweep.run_name(6, {"beta": 35.2999}) == "006 β=35.3"
    more = replace(sweep, shared={"features": "embed-1234"}, told={"features": "mine:embed"})
    assert "features" not in more.params_of({"beta": 1.0, "features": "mine:embed"})
    assert more.params_of({"beta": 1.0, "features": "other"})["features"] == "other"


def test_a_flag_goes_when_the_trial_recovers(ledger, tmp_path, tracking_uri):
    recorder = LedgerCallback(ledger, tmp_path, EPOCHS)
    trial = SimpleNamespace(trial_id="a", config={"beta": 0.0})
    recorder.on_trial_start(0, [], trial)
    for epoch, flags in ((1, "collapsed"), (2, "")):
        recorder.on_trial_result(0, [], trial, result(epoch, fid=1.0) | {"flags": flags})
    recorder.on_trial_complete(0, [], trial)
    deliver(ledger, tmp_path, tracking_uri, "flags")
    _, _, trials = runs_of(tracking_uri, "flags", "a")
    assert trials["a"].data.tags["latentune.flags"] == ""
