"""A record in another place: MLflow finds every artifact, and an interruption loses nothing."""

import itertools
import shutil
import tarfile
from hashlib import sha256
from pathlib import Path

import pytest
from mlflow import MlflowClient

from searchers import move
from searchers.execution.resume import store, stored
from searchers.record.ledger import Ledger
from searchers.study.config import SweepConfig
from tests.fixtures.recorded import Imagined, record


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    """A record of one sweep with images, as a sweep leaves it in its working folder."""
    root = tmp_path_factory.mktemp("original")
    uri = f"sqlite:///{root}/mlflow.db"
    MlflowClient(uri).create_experiment("beta-vae-gan", artifact_location=f"{root}/mlruns/1")
    record(Imagined("mine", trials=2, epochs=2, stopping=False), root / "results", uri)
    return root


@pytest.fixture
def source(original, tmp_path):
    """The record moved to a place of this test, which its database names."""
    path = tmp_path / "source"
    shutil.copytree(original, path)
    move.rewrite(path / "mlflow.db", original, path, path)
    return path


def artifacts(folder):
    """Download every artifact of every run of a record; return their hashes."""
    client = MlflowClient(f"sqlite:///{folder}/mlflow.db")
    runs = client.search_runs([e.experiment_id for e in client.search_experiments()])
    assert len(runs) == 3
    found = {}
    for run in runs:
        assert Path(run.info.artifact_uri).is_relative_to(folder)
        path = Path(client.download_artifacts(run.info.run_id, ""))
        found[run.info.run_id] = {f.name: sha256(f.read_bytes()).hexdigest() for f in path.rglob("*.png")}
    assert sum(map(len, found.values())) == 12
    return found


def test_a_moved_record_is_whole(source, tmp_path, capsys):
    before = artifacts(source)
    assert move.main([str(source), str(tmp_path / "there" / "target")]) == 0
    assert not source.exists() and artifacts(tmp_path / "there" / "target") == before
    assert (tmp_path / "there" / "target" / "results" / "mine" / "ledger.jsonl").exists()
    assert "4 paths in mlflow.db follow" in capsys.readouterr().out


def test_an_archive_is_unpacked_anywhere(source, tmp_path):
    before = artifacts(source)
    assert move.main([str(source), str(tmp_path / "kept.tar.gz")]) == 0
    shutil.rmtree(source)
    assert move.main([str(tmp_path / "kept.tar.gz"), str(tmp_path / "target")]) == 0
    assert artifacts(tmp_path / "target") == before


@pytest.mark.parametrize("archived", [False, True])
def test_a_sweep_finds_its_checkpoints_in_a_moved_record(source, tmp_path, archived):
    folder, elsewhere = source / "results/mine", source / "results/other"
    for path, storage in ((folder, source / "kept"), (elsewhere, "s3://bucket/kept")):
        store(path, "x", "id", SweepConfig(name=path.name, storage=str(storage)))
    (source / "results/damaged").mkdir()
    (source / "results/damaged/sweep.json").write_text("{")
    (source / "kept/mine").mkdir(parents=True)
    places = (
        [source, tmp_path / "kept.tar", tmp_path / "target"] if archived else [source, tmp_path / "target"]
    )
    for here, there in itertools.pairwise(places):
        assert move.main([str(here), str(there)]) == 0
    settings = [stored(tmp_path / "target/results" / name).config["storage"] for name in ("mine", "other")]
    assert settings == [str(tmp_path / "target/kept"), "s3://bucket/kept"]


def test_no_archive_holds_what_cannot_be_unpacked(source, tmp_path, capsys):
    (source / "python").symlink_to("/usr/bin/python3")  # as in an environment beside the record
    assert move.main([str(source), str(tmp_path / "kept.tar")]) == 2
    assert "link to an absolute path, which no archive" in capsys.readouterr().err
    assert {path.name for path in tmp_path.iterdir()} == {"source"}


def test_all_files_are_moved_those_named_like_the_database_too(source, tmp_path):
    others = ("mlflow.db.bak", "mlflow.db-2026", "old/backup/mlflow.db")
    for name in others:
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_text(name)
    assert move.main([str(source), str(tmp_path / "target")]) == 0
    assert [(tmp_path / "target" / name).read_text() for name in others] == list(others)


def flipped(data, at):
    return data[:at] + bytes([data[at] ^ 255]) + data[at + 1 :]


@pytest.mark.parametrize("suffix", [".tar", ".tar.gz", ".tar.xz"])
def test_a_damaged_archive_is_not_taken_for_a_whole_one(source, tmp_path, capsys, suffix):
    archive, target = tmp_path / f"kept{suffix}", tmp_path / "target"
    assert move.main([str(source), str(archive)]) == 0
    whole = archive.read_bytes()
    with tarfile.open(archive) as opened:
        opened.getmembers()
        end = opened.offset  # where the end mark of a plain one stands; it has no checksum
    middle = len(whole) * 9 // 10
    damaged = {
        ".tar": [whole[: end - 700], whole[:end]],
        ".tar.gz": [whole[:middle], flipped(whole, middle), flipped(whole, len(whole) - 6)],
        ".tar.xz": [whole[:middle], flipped(whole, middle)],
    }
    for content in damaged[suffix]:
        archive.write_bytes(content)
        assert move.main([str(archive), str(target)]) == 2
        assert "is no archive of a record" in capsys.readouterr().err
        assert not target.exists() and not list(tmp_path.glob(".*partial"))


def test_an_archive_of_something_else_is_refused(tmp_path, capsys):
    for name in ("photo.png", "mlflow.db"):
        (tmp_path / name).touch()
        with tarfile.open(tmp_path / "photos.tar.gz", "w:gz") as archive:
            archive.add(tmp_path / name, arcname=name)
        assert move.main([str(tmp_path / "photos.tar.gz"), str(tmp_path / "target")]) == 2
        assert "is no archive of a record: there is no mlflow.db in it" in capsys.readouterr().err
        assert not (tmp_path / "target").exists()


def test_only_a_running_sweep_keeps_a_record_where_it_is(source, tmp_path, capsys):
    (source / "results" / "mine" / "sweep.json").write_text("damaged")
    ledger = Ledger(source / "results" / "mine" / "ledger.jsonl")
    ledger.claim()
    assert move.main([str(source), str(tmp_path / "target")]) == 2
    assert "Sweep 'mine' is running" in capsys.readouterr().err
    ledger.close()
    assert move.main([str(source), str(tmp_path / "target")]) == 0


@pytest.mark.parametrize("step", ["copy", "rewrite", "flush"])
def test_an_interrupted_move_loses_nothing(source, tmp_path, monkeypatch, step):
    before, done, target = artifacts(source), getattr(move, step), tmp_path / "target"

    def interrupted(*arguments):
        done(*arguments)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(move, step, interrupted)
        assert move.main([str(source), str(target)]) == 130
    assert artifacts(source) == before and not target.exists()
    assert move.main([str(source), str(target)]) == 0
    assert artifacts(target) == before and not list(tmp_path.glob(".*partial"))


def test_what_cannot_be_moved_is_said(source, tmp_path, capsys):
    (tmp_path / "other").mkdir()
    (tmp_path / "bad.tar").write_text("no archive")
    for words, reason in (
        ((tmp_path / "other", tmp_path / "x"), "holds no record"),
        ((source, tmp_path / "other"), "is there already"),
        ((source, source / "in"), "itself"),
        ((tmp_path / "bad.tar", tmp_path / "x"), "is no archive of a record"),
    ):
        assert move.main(list(map(str, words))) == 2
        assert reason in capsys.readouterr().err
    assert not (tmp_path / "x").exists()


def test_places_elsewhere_stay(tmp_path):
    (tmp_path / "mlruns" / "1").mkdir(parents=True)
    new = Path("/new")
    assert move.followed("s3://bucket/mlruns/1", None, tmp_path, new) is None
    assert move.followed("mlflow-artifacts:/1", None, tmp_path, new) is None
    assert move.followed("file:///gone/mlruns/1", None, tmp_path, new) == "file:///new/mlruns/1"
    assert move.followed("/gone/mlruns/2", None, tmp_path, new) is None
