"""One machine, faults of the trials' own: a hang, a lack of memory, failures one after the other.

Each time the books are read: which trials ended how, and that each epoch of each was recorded once.
"""

import os
import signal
import time
from pathlib import Path

import psutil
import pytest
from ray import tune
from ray.tune.search.basic_variant import BasicVariantGenerator

from cluster.watchdog import RETRIES, FailureCount, HangWatch
from searchers.execution.driver import tune_settings
from searchers.record.ledger import Ledger
from searchers.record.ledger_callback import LedgerCallback
from searchers.record.schema import FAILED, FINISHED
from tests.fixtures.embedded import embedded_ray

EPOCHS = 4


def fail():
    raise MemoryError("CUDA out of memory")


def hoard():
    hoarded = []
    while len(hoarded) < 6 * 1024:
        hoarded.append(b"x" * 2**20)
        time.sleep(0.002)


def die():
    os.kill(os.getpid(), signal.SIGKILL)


FAULTS = {
    "die": die,
    "hoard": hoard,
    "wait": lambda: time.sleep(1e6),
    "freeze": lambda: os.kill(os.getpid(), signal.SIGSTOP),
    "fail": fail,
}


class Counting(tune.Trainable):
    """Adds up its epochs; at `epoch`, `fault` befalls it for its first `times` times. Leaves its pid."""

    def setup(self, config):
        self.reset_config(config)

    def reset_config(self, config):
        self.config, self.sum = config, 0
        return True

    def step(self):
        adjustment = Path("/proc/self/oom_score_adj").read_text()
        Path(self.config["begun"], f"../oom_score_adj-{os.getpid()}").write_text(adjustment)
        begun = Path(self.config["begun"]) / f"{self.config['number']}-{self.iteration + 1}"
        with begun.open("a") as file:
            file.write(f"{os.getpid()}\n")
        again = len(begun.read_text().splitlines())
        if self.iteration + 1 == self.config["epoch"] and again <= self.config["times"]:
            FAULTS[self.config["fault"]]()
        time.sleep(0.1)
        self.sum += self.iteration + 1
        return {"score": float(self.sum)}

    def save_checkpoint(self, folder):
        (Path(folder) / "sum").write_text(str(self.sum))

    def load_checkpoint(self, folder):
        self.sum = int((Path(folder) / "sum").read_text())


class Told(BasicVariantGenerator):
    """Proposes what it is given and notes what it hears."""

    heard: dict

    def on_trial_complete(self, trial_id, result=None, error=False):
        self.heard[trial_id] = error
        super().on_trial_complete(trial_id, result, error)


@pytest.fixture
def sweep(tmp_path, monkeypatch):
    """Run trials of which the first is `faulty`; return the records by number and what the searcher heard."""

    def run(fault, epoch, times, *callbacks):
        (tmp_path / "begun").mkdir()
        sound = {"number": 2, "epoch": 0}
        points = [{"number": 1, "epoch": epoch}, sound, sound | {"number": 3}]
        searcher = Told(points_to_evaluate=points)
        searcher.heard = {}
        ledger = Ledger(tmp_path / "ledger.jsonl")
        config = {"begun": str(tmp_path / "begun"), "fault": fault, "times": times}
        tune.run(
            Counting,
            **tune_settings(1, 0),
            storage_path=str(tmp_path),
            config=config | {"number": tune.choice([1]), "epoch": tune.choice([0])},
            search_alg=searcher,
            num_samples=len(points),
            stop={"training_iteration": EPOCHS},
            callbacks=[LedgerCallback(ledger, tmp_path, EPOCHS), *callbacks],
        )
        records = {record.config["number"]: record for record in ledger.trials().values()}
        results = [e for _, e in ledger.events() if e["event"] == "result"]
        assert len(results) == len({(e["trial"], e["epoch"]) for e in results})
        heard = {number: searcher.heard[record.trial] for number, record in records.items()}
        return records, heard

    # Ray's own watch over memory, as on a cluster that somebody else started.
    monkeypatch.setenv("RAY_memory_monitor_refresh_ms", "250")
    memory = psutil.virtual_memory()
    threshold = (memory.total - memory.available + 2 * 2**30) / memory.total
    with embedded_ray(num_cpus=3, _system_config={"memory_usage_threshold": threshold}):
        yield run


def begun(tmp_path, number, epoch) -> int:
    """How often an epoch of a trial was begun."""
    return len((tmp_path / f"begun/{number}-{epoch}").read_text().splitlines())


def check_neighbors(tmp_path, records, heard):
    """They ended as if nothing had been, and no epoch of theirs was begun twice."""
    for number in (2, 3):
        assert records[number].status == FINISHED and not heard[number]
        assert [m["score"] for m in records[number].metrics.values()] == [1.0, 3.0, 6.0, 10.0]
        assert all(begun(tmp_path, number, epoch) == 1 for epoch in range(1, EPOCHS + 1))


def test_the_kernel_s_killer_takes_a_trial_s_process_first(sweep, tmp_path):
    """Where Ray's watch is off, as on our clusters: the largest of the trials, and not the driver."""
    records, heard = sweep("die", 3, 99, FailureCount())
    assert records[1].status == FAILED and heard[1]
    assert begun(tmp_path, 1, 3) == 1 + RETRIES
    check_neighbors(tmp_path, records, heard)
    scores = {int(path.read_text()) for path in tmp_path.glob("oom_score_adj-*")}
    assert len(scores) == 1 and scores.pop() > int(Path("/proc/self/oom_score_adj").read_text())


@pytest.mark.parametrize("hang", ["wait", "freeze"])
def test_a_trial_that_hangs_is_ended_and_goes_on_from_its_checkpoint(sweep, tmp_path, hang):
    said = []
    records, heard = sweep(hang, 3, 1, HangWatch(said.append, at_least=4, times=1), FailureCount())
    assert len(said) == 1 and "is ended, and goes on from its last checkpoint" in said[0]
    assert [m["score"] for m in records[1].metrics.values()] == [1.0, 3.0, 6.0, 10.0]
    assert records[1].status == FINISHED and not heard[1]
    assert [begun(tmp_path, 1, epoch) for epoch in range(1, EPOCHS + 1)] == [1, 1, 2, 1]
    check_neighbors(tmp_path, records, heard)
    for pid in (tmp_path / "begun/1-3").read_text().split()[:1]:
        assert not Path(f"/proc/{pid}").exists()  # it holds no GPU any more


def test_a_trial_that_always_fails_is_given_up_and_the_searcher_told(sweep, tmp_path):
    records, heard = sweep("fail", 3, 99, FailureCount())
    assert records[1].status == FAILED and heard[1]
    assert "CUDA out of memory" in records[1].error
    assert sorted(records[1].metrics) == [1, 2]
    assert begun(tmp_path, 1, 3) == 1 + RETRIES
    check_neighbors(tmp_path, records, heard)


def test_a_trial_that_hoards_memory_is_ended_and_its_neighbors_live(sweep, tmp_path):
    records, heard = sweep("hoard", 3, 99, FailureCount())
    assert records[1].status == FAILED and heard[1]
    assert sorted(records[1].metrics) == [1, 2]
    assert begun(tmp_path, 1, 3) == 1 + RETRIES
    for number in (2, 3):
        assert records[number].status == FINISHED and not heard[number]
        assert [m["score"] for m in records[number].metrics.values()] == [1.0, 3.0, 6.0, 10.0]
