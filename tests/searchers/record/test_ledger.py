import errno
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from searchers.record.ledger import Ledger, LedgerBusyError

METRICS = st.dictionaries(st.sampled_from(["fid", "elbo", "kl"]), st.floats(allow_nan=False), max_size=3)
EVENTS = st.lists(st.tuples(st.sampled_from("abcde"), st.integers(1, 5), METRICS), max_size=30)


def write(ledger, trial, number=1, epochs=(), status=None):
    ledger.append("trial", trial=trial, number=number, config={"beta": 2.0})
    for epoch, value in epochs:
        ledger.append("result", trial=trial, epoch=epoch, metrics={"fid": value}, images={})
    if status:
        ledger.append("end", trial=trial, status=status)


@given(EVENTS)
def test_what_is_written_is_read_and_the_first_report_of_an_epoch_stands(tmp_path_factory, events):
    ledger = Ledger(tmp_path_factory.mktemp("ledger") / "ledger.jsonl")
    expected = {}
    for trial, epoch, metrics in events:
        if trial not in expected:
            ledger.append("trial", trial=trial, number=len(expected) + 1, config={})
        expected.setdefault(trial, {}).setdefault(epoch, metrics)
        ledger.append("result", trial=trial, epoch=epoch, metrics=metrics, images={})
    records = Ledger(ledger.path).trials()
    assert {trial: record.metrics for trial, record in records.items()} == expected
    assert [record.number for record in records.values()] == list(range(1, len(expected) + 1))


@given(st.integers(0, 200))
def test_a_driver_killed_while_writing_leaves_all_whole_events(tmp_path_factory, lost):
    path = tmp_path_factory.mktemp("ledger") / "ledger.jsonl"
    write(Ledger(path), "a", epochs=[(1, 3.0), (2, 2.0)])
    content = path.read_bytes()
    path.write_bytes(content[: len(content) - lost])
    whole = content[: len(content) - lost].count(b"\n")
    resumed = Ledger(path)
    assert len(list(resumed.events())) == whole
    resumed.append("note", tags={})
    assert [event["event"] for _, event in resumed.events()][-1] == "note"
    assert len(list(resumed.events())) == whole + 1


def test_one_process_writes_and_others_read(tmp_path):
    ledger = Ledger(tmp_path / "ledger.jsonl")
    assert ledger.trials() == {} and not ledger.path.exists()
    write(ledger, "a")
    with ledger.path.open("ab") as file:
        file.write(b'{"event": "resu')  # it is being written just now
    before = ledger.path.read_bytes()
    other = Ledger(ledger.path)
    assert list(other.trials()) == ["a"]
    with pytest.raises(LedgerBusyError, match="being written by another process"):
        other.append("note", tags={})
    assert ledger.path.read_bytes() == before
    ledger.close()
    other.append("note", tags={})
    assert [event["event"] for _, event in ledger.events()] == ["trial", "note"]


def test_reading_goes_on_from_an_offset(tmp_path):
    ledger = Ledger(tmp_path / "ledger.jsonl")
    write(ledger, "a", epochs=[(1, 3.0)])
    (offset, _), *rest = list(ledger.events())
    assert list(ledger.events(offset)) == rest
    assert list(ledger.events(rest[-1][0])) == []


def test_a_full_disk_is_said_and_leaves_no_half_line(tmp_path, monkeypatch):
    ledger = Ledger(tmp_path / "ledger.jsonl")
    write(ledger, "a")

    class FullDisk:
        def __init__(self, file):
            self.file = file

        def write(self, line):
            return self.file.write(line[:10])

        def __getattr__(self, name):
            return getattr(self.file, name)

    with monkeypatch.context() as patch:
        patch.setattr(ledger, "_file", FullDisk(ledger._file))
        with pytest.raises(OSError) as error:
            ledger.append("note", tags={"a": "b"})
    assert error.value.errno == errno.ENOSPC
    ledger.append("note", tags={})
    for line in ledger.path.read_text().splitlines():
        json.loads(line)
    assert len(list(ledger.events())) == 2


def test_last_value_of_a_trial_without_results_is_nan(tmp_path):
    ledger = Ledger(tmp_path / "ledger.jsonl")
    write(ledger, "a")
    record = ledger.trials()["a"]
    assert record.epoch == 0
    assert record.last("fid") != record.last("fid")
