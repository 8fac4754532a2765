"""A sweep's driver before its first trial: what it refuses, and that nothing is lost by that."""

import errno
import io
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from cluster.connect import Cluster, Node
from cluster.errors import ClusterError
from searchers.execution import driver as module
from searchers.execution.driver import Driver
from searchers.execution.resume import STORED, resolve, stored
from searchers.record.schema import FINISHED
from searchers.study.config import SweepConfig, UsageError


@pytest.fixture
def config(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "join", lambda config, code: Cluster(None, (Node(2.0, 0.0),)))
    return SweepConfig(name="one", results=str(tmp_path / "results"), epochs=3)


PROGRAM = "python -m searchers.x"


def drive(config, data_hash="a", console=None, sweep_id="id", needs=()):
    console = console or Console(file=io.StringIO())
    counts = {"epochs": 3, "num_samples": 2}
    return Driver(config, sweep_id, PROGRAM, console, **counts, data_hash=data_hash, needs=dict(needs))


def ended(driver):
    driver.ledger.append("trial", trial="t1", number=1, config={"beta": 1.0})
    driver.ledger.append("result", trial="t1", epoch=3, metrics={"fid": 1.0}, images={})
    driver.ledger.append("end", trial="t1", status=FINISHED)
    driver.ledger.close()
    return driver.ledger.path.read_bytes()


ON_TWO = Cluster("10.0.0.1:6379", (Node(2.0, 0.0),) * 2)
TO_GROW = Cluster("10.0.0.1:6379", (Node(2.0, 0.0),), (Node(2.0, 0.0),) * 2)


@pytest.mark.parametrize("need", ["dataset", "data_root", "features", "feature_weights", "first_stage"])
def test_what_trials_read_must_be_where_nodes_that_join_later_see_it(config, need, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "join", lambda config, code: TO_GROW)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "faces").mkdir()  # beside a known name it is not meant
    (tmp_path / "here").mkdir()
    named = {"dataset": "faces", "features": "random", "first_stage": "{" + "x" * 5000}
    place = ("classifier:" if need == "features" else "") + str(tmp_path / "here")
    with pytest.raises(ClusterError, match=r"join later will not see .*here, which is this machine's"):
        drive(config, needs=named | {need: place})
    with pytest.raises(ClusterError, match=r"join later will not see .*results/one"):
        drive(config, needs=named)


def test_each_node_is_asked_for_images_and_features(config, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "join", lambda config, code: ON_TWO)
    asked = []

    def ask(question, settings):
        asked.append(settings)
        return {"here": "", "there": question(settings)}

    monkeypatch.setattr(module, "ask_nodes", ask)
    needs = {"dataset": "lego", "data_root": str(tmp_path / "none"), "features": "random", "beta": 3.0}
    with pytest.raises(ClusterError, match="on 2 nodes, and there would fail: there are no LEGO heads in"):
        drive(config, needs=needs)
    assert {name: value for name, value in asked[0].items() if value} == {
        name: needs[name] for name in ("dataset", "data_root", "features")
    }
    assert not (tmp_path / "results").exists()


def test_two_drivers_of_one_sweep_are_one_too_many(config):
    first = drive(config)
    with pytest.raises(UsageError, match="Sweep 'one' is running already"):
        drive(config)
    first.ledger.close()
    drive(config)


def test_a_sweep_that_is_resumed_without_news_tells_its_best_scores_once(config):
    for value in (1.0, 1.0, 2.0):
        with drive(config) as driver:
            driver.finish(lambda value=value: {"best/fd": value})
    told = [event["metrics"] for _, event in driver.ledger.events() if event["event"] == "note"]
    assert told == [{"best/fd": 1.0}, {}, {"best/fd": 2.0}]


def test_what_is_told_of_a_trial_is_told_once(config):
    for tags in ({"why": "late"}, {"why": "late"}, {"why": "later"}):
        with drive(config) as driver:
            driver.note_trials({"t1": tags})
            driver.ledger.close()
    told = [event["tags"] for _, event in driver.ledger.events() if event["event"] == "note"]
    assert told == [{"why": "late"}, {"why": "later"}]


def test_a_sweep_whose_snapshot_is_gone_keeps_its_trials(config):
    before = ended(drive(config))
    console = Console(file=io.StringIO(), width=200)
    driver = drive(config, console=console)
    path = Path(config.results) / "one/ledger.jsonl"
    assert path.read_bytes() == before and [record.status for record in driver.records] == [FINISHED]
    assert "Resumed from the ledger. Trials that have ended: 1." in console.file.getvalue()


def test_a_sweep_does_not_go_on_with_other_images(config):
    drive(config).ledger.close()
    with pytest.raises(UsageError, match="images of faces are not those that sweep 'one' began with"):
        drive(config, data_hash="b")
    drive(config)


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        (
            "feature_identity",
            "extractor is inception-b, and the sweep began with inception-a: bring its weights",
        ),
        ("scores_hash", "The code of mine:f is not that which sweep 'one' began with: bring it back"),
    ],
)
def test_a_sweep_does_not_go_on_with_other_features_or_other_code_of_scores(config, setting, said):
    driver = drive(config)
    driver.ledger.append("trial", trial="t1", number=1, config={setting: "inception-a"})
    driver.ledger.close()
    with pytest.raises(UsageError, match=said):
        drive(config, needs={setting: "inception-b", "scores": "mine:f"})
    drive(config, needs={setting: "inception-a"})


def test_trials_of_another_sweep_are_not_taken_for_this_ones(config):
    """Its whole was deleted and this one is left; or only its settings are."""
    before = ended(drive(config))
    settings = Path(config.results) / "one" / STORED
    kept = settings.read_text()
    for _ in range(2):
        with pytest.raises(UsageError, match="one holds another sweep's trials: move that folder away"):
            drive(config, sweep_id="another")
        settings.unlink(missing_ok=True)
    settings.write_text(kept)
    assert drive(config).ledger.path.read_bytes() == before


def test_a_sweep_that_began_and_ended_meanwhile_keeps_its_name(config, monkeypatch):
    at_once = module.join
    joined = []

    def late(config, code):
        if not joined:
            joined.append(1)
            ended(drive(config, sweep_id="another"))
        return at_once(config, code)

    monkeypatch.setattr(module, "join", late)
    with pytest.raises(UsageError, match="holds another sweep's trials"):
        drive(config)
    assert stored(Path(config.results) / "one").sweep_id == "another"


def test_a_full_disk_leaves_the_settings_whole(config, monkeypatch):
    drive(config).ledger.close()
    path = Path(config.results) / "one" / STORED
    before = path.read_text()

    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("searchers.record.files.os.fsync", full)
        with pytest.raises(ClusterError, match=r"disk is full.*--resume one"):
            drive(replace(config, max_concurrent=1))
    assert path.read_text() == before and sorted(path.parent.iterdir()) == [
        path.with_name("ledger.jsonl"),
        path,
    ]
    assert stored(path.parent).sweep_id == "id"
    assert resolve(SweepConfig(resume="one", results=config.results), SweepConfig(), PROGRAM)[1] == "id"


@pytest.mark.parametrize(
    ("gpus", "asked", "words"),
    [
        (1.0, None, "a trial gets 1 CPU and 0.5 GPU, 2 run side by side"),
        (1.0, 1.0, "a trial gets 1 CPU and 1 GPU, 1 run side by side"),
        (1.0, 0.0, "GPUs stay unused, as --gpus-per-trial 0 asks"),
        (0.0, None, "a trial gets 1 CPU, 4 run side by side"),
    ],
)
def test_a_trial_gets_half_of_a_gpu_where_there_are_any(gpus, asked, words, config, monkeypatch):
    """Also of machines that come as trials wait; what is stored is what was asked, for other hardware."""
    joined = Cluster(None, (Node(2.0, 0.0),), (Node(4.0, gpus),))
    monkeypatch.setattr(module, "join", lambda config, code: joined)
    monkeypatch.setattr("cluster.storage._refuse_unshared", lambda *_: None)
    console = Console(file=io.StringIO(), width=200)
    drive(replace(config, gpus_per_trial=asked), console=console)
    assert words in console.file.getvalue()
    assert stored(config.folder).config["gpus_per_trial"] == asked


@pytest.mark.parametrize(
    ("name", "address"),
    [
        ("tracking_uri", "https://me:hunter2@host:5000"),
        ("tracking_uri", "postgresql://host/db?password=hunter2"),
        ("storage", "s3://KEY:hunter2/x@bucket/folder"),
        ("dataset", "s3://bucket/faces?secret_key=hunter2"),
        ("data_root", "https://host/?token=hunter2"),
    ],
)
def test_a_secret_stays_out_of_the_record(name, address):
    with pytest.raises(UsageError, match=f"--{name.replace('_', '-')} holds a secret, .*PGPASSWORD") as error:
        resolve(SweepConfig(**{name: address}), SweepConfig(), PROGRAM)
    assert "hunter2" not in str(error.value)
    resolve(SweepConfig(tracking_uri="https://host:5000", storage="s3://bucket/x"), SweepConfig(), PROGRAM)
