"""Cleaning and listing: what a resumption needs stays, and what is said of a sweep is true."""

import json
import os
import zipfile

import pytest

from searchers import clean, sweeps
from searchers.execution.rebuild import latest_checkpoint
from searchers.record.folders import size
from searchers.record.ledger import Ledger
from searchers.record.schema import CHECKPOINT, END, MODEL, NOTE, RESULT, TRIAL

STATUS = {"a": "finished", "b": None, "c": "stopped", "d": "diverged", "e": "finished"}


@pytest.fixture
def ledger(tmp_path):
    """A sweep's folder with five trials of two checkpoints each, of which one goes on."""
    folder = tmp_path / "mine"
    ledger = Ledger(folder / "ledger.jsonl")
    for number, (trial, status) in enumerate(STATUS.items(), 1):
        ledger.append(TRIAL, trial=trial, number=number, config={})
        for k in range(2):
            path = folder / "tune" / trial / f"checkpoint_00000{k}"
            path.mkdir(parents=True)
            with zipfile.ZipFile(path / "state.pt", "w") as state:
                state.writestr("data", b"x" * 500_000)
            ledger.append(RESULT, trial=trial, epoch=k + 1, metrics={"fid": 1.0})
            ledger.append(CHECKPOINT, trial=trial, name=path.name, epoch=k + 1)
        if status:
            ledger.append(END, trial=trial, status=status)
    stored = {"program": "python -m searchers.beta_vaegan", "sweep_id": "1", "data_hash": None, "config": {}}
    (folder / "sweep.json").write_text(json.dumps(stored))
    ledger.close()
    return ledger


def kept(ledger):
    return sorted(
        str(p.relative_to(ledger.path.parent / "tune")) for p in ledger.path.parent.glob("tune/*/*")
    )


def run(ledger, *arguments):
    return clean.main(["mine", "--results", str(ledger.path.parents[1]), *arguments])


def test_what_a_resumption_goes_on_from_stays(ledger, capsys):
    folder = ledger.path.parent
    before = latest_checkpoint(ledger.trials()["b"], str(folder))
    assert run(ledger, "--dry-run") == 0 and len(kept(ledger)) == 10
    assert run(ledger) == 0
    assert kept(ledger) == [f"{trial}/checkpoint_000001" for trial in "abe"]
    after = latest_checkpoint(ledger.trials()["b"], str(folder))
    assert (after.epoch, after.checkpoint.path) == (before.epoch, before.checkpoint.path)
    said = capsys.readouterr().out
    assert "7 checkpoints would be deleted, 3.5 MB; it can be resumed as before." in said
    assert "7 checkpoints deleted, 3.5 MB" in said


@pytest.mark.parametrize("cut", [False, True])
def test_a_checkpoint_that_is_gone_or_cut_is_replaced_by_the_one_before(ledger, cut):
    path = ledger.path.parent / "tune" / "b" / "checkpoint_000001"
    (path / "state.pt").unlink()
    if cut:
        (path / "state.pt").touch()
    else:
        path.rmdir()
    assert run(ledger) == 0
    assert "b/checkpoint_000000" in kept(ledger)


def test_after_the_end_the_best_stay(ledger):
    ledger.append(MODEL, trial="e", path="models/e")
    ledger.append(NOTE, status="FINISHED")
    ledger.close()
    assert run(ledger) == 0
    assert kept(ledger) == ["e/checkpoint_000001"]


def test_a_running_sweep_is_left_alone(ledger, capsys):
    ledger.claim()
    assert run(ledger) == 2
    assert len(kept(ledger)) == 10 and "is running" in capsys.readouterr().err
    assert sweeps.main(["--results", str(ledger.path.parents[1])]) == 0
    assert "running" in capsys.readouterr().out
    ledger.close()


def test_the_list_says_what_became_of_each_and_what_it_fills(ledger, capsys):
    assert sweeps.main(["--results", str(ledger.path.parents[1])]) == 0
    words = capsys.readouterr().out.splitlines()[-1].split()
    assert words[0] == "mine" and words[3:6] == ["beta_vaegan", "interrupted", "2/5"]
    assert words[-2:] == ["5.0", "MB"]
    whole = ledger.path.parents[1] / "whole"  # a comparison: its models have sweeps of their own
    whole.mkdir()
    (whole / "sweep.json").write_text((ledger.path.parent / "sweep.json").read_text())
    assert sweeps.main(["--results", str(ledger.path.parents[1])]) == 0
    (words,) = [line.split() for line in capsys.readouterr().out.splitlines() if line.startswith("whole")]
    assert words[:6] == ["whole", "–", "beta_vaegan", "in", "parts", "–"]
    assert run(ledger.path and ledger, "--results", "/nowhere") == 2
    assert "There is no sweep in /nowhere/mine" in capsys.readouterr().err


def test_of_a_comparison_the_parts_are_cleaned(ledger, capsys):
    results = ledger.path.parents[1]
    settings = json.loads((results / "mine" / "sweep.json").read_text())
    (results / "mine" / "sweep.json").write_text(json.dumps(settings | {"sweep_id": "7-vae"}))
    (results / "whole").mkdir()
    (results / "whole" / "sweep.json").write_text(json.dumps(settings | {"sweep_id": "7"}))
    for arguments, left in ((["--dry-run"], 10), ([], 3)):
        assert clean.main(["whole", "--results", str(results), *arguments]) == 0
        assert "7 checkpoints" in capsys.readouterr().out and len(kept(ledger)) == left
    assert not (results / "whole" / "ledger.jsonl").exists()
    ledger.claim()
    assert clean.main(["whole", "--results", str(results)]) == 2
    assert "Sweep 'mine' is running" in capsys.readouterr().err


@pytest.mark.parametrize("content", ["", "{}", "[" * 100_000, '{"program": "x", "config": {}}'])
def test_a_damaged_sweep_hides_no_other(ledger, capsys, content):
    results = ledger.path.parents[1]
    (results / "bad").mkdir()
    (results / "bad" / "sweep.json").write_text(content)
    assert sweeps.main(["--results", str(results)]) == 0
    states = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()}
    assert "damaged" in states["bad"] and "interrupted" in states["mine"]


def test_what_is_deleted_while_sizes_are_read_has_none(tmp_path, monkeypatch):
    for name in ("goes", "stays"):
        (tmp_path / name).write_bytes(b"x")
    walk = os.walk

    def slow(path):
        for found in walk(path):
            (tmp_path / "goes").unlink()
            yield found

    monkeypatch.setattr(os, "walk", slow)
    assert size(tmp_path) == 1
