"""Machines, processes and cables that fail in the midst of a sweep; then the books are read: nothing is lost.

One sweep takes each fault. Counted are: trials, epochs' results, MLflow runs and points (none lost, none
twice), and epochs that were begun more often than once (what the fault cost).
"""

import json
import re
import shutil
import sqlite3
import time
from collections import Counter
from pathlib import Path

import pytest

from searchers.ledger import Ledger
from tests.cluster.conftest import start_ray
from tests.cluster.machines import Machine, Network

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
PATIENCE = 400
TRIALS, EPOCHS = 6, 4


class Sweep:
    """A sweep that a driver on the head runs."""

    def __init__(self, network: Network, name: str):
        self.network, self.name = network, name
        self.head = network.machines[0]
        self.home = self.head.folder / "home"
        shutil.copy(Path(__file__).parent / "job.py", self.home / "job.py")

    def start(self) -> None:
        """Start the driver, and return."""
        flags = f"--trials {TRIALS} --epochs {EPOCHS} --seconds 2"
        driver = f".venv/bin/python ~/job.py {self.name} {flags} >> ~/{self.name}.log 2>&1"
        self.head.run(
            f"cd ~/latentune; export RAY_ADDRESS={self.head.address}:6379 RAY_AUTH_MODE=disabled "
            f"PYTHONPATH=$PWD OMP_NUM_THREADS=1; "
            f"(nohup {driver}; echo ended $? >> ~/{self.name}.log) > /dev/null 2>&1 &"
        )

    @property
    def log(self) -> str:
        return (self.home / f"{self.name}.log").read_text()

    def results(self) -> int:
        path = self.home / "results" / self.name / "ledger.jsonl"
        return path.read_text().count('"event": "result"') if path.exists() else 0

    def wait_for_results(self, number: int) -> None:
        self._wait(lambda: self.results() >= number)

    def wait(self) -> None:
        """Wait for the driver's end."""
        self._wait(lambda: "ended" in self.log)
        assert "unsent 0\nended 0" in self.log, self.log

    def _wait(self, what) -> None:
        deadline = time.monotonic() + PATIENCE
        while not what():
            assert time.monotonic() < deadline and "Traceback" not in self.log, self.log
            time.sleep(0.2)

    def check_books(self) -> int:
        """Check that nothing is lost and nothing is twice; return how many epochs were begun again."""
        ledger = Ledger(self.home / "results" / self.name / "ledger.jsonl")
        events = [event for _, event in ledger.events()]
        trials = ledger.trials()
        ledger.close()
        assert len(trials) == TRIALS == sum(event["event"] == "trial" for event in events)
        results = Counter((e["trial"], e["epoch"]) for e in events if e["event"] == "result")
        assert results == Counter((trial, epoch) for trial in trials for epoch in range(1, EPOCHS + 1))
        assert {record.status for record in trials.values()} == {"finished"}
        for record in trials.values():  # each epoch stands on the one before it, wherever that ran
            for epoch, metrics in record.metrics.items():
                assert metrics["score"] == pytest.approx(record.config["x"] * epoch * (epoch + 1) / 2)

        with sqlite3.connect(self.home / "mlflow.db") as database:
            tag = "SELECT run_uuid FROM tags WHERE key = ? AND value = ?"
            runs = {row[0] for row in database.execute(tag, ("latentune.sweep", self.name))}
            children = "SELECT run_uuid, value FROM tags WHERE key = 'latentune.trial'"
            delivered = {run: trial for run, trial in database.execute(children) if run in runs}
            assert len(runs) == TRIALS + 1 and sorted(delivered.values()) == sorted(trials)
            points = "SELECT run_uuid, step, value FROM metrics WHERE key = 'score'"
            scores = sorted(
                (delivered[r], step, value) for r, step, value in database.execute(points) if r in runs
            )
            statuses = {row[0]: row[1] for row in database.execute("SELECT run_uuid, status FROM runs")}
        assert scores == sorted((t, e, m["score"]) for t, r in trials.items() for e, m in r.metrics.items())
        assert {statuses[run] for run in runs} == {"FINISHED"}

        begun = Counter(
            tuple(path.name.split("-")[:2]) for path in (self.network.shared / f"{self.name}-begun").iterdir()
        )
        return sum(begun.values()) - TRIALS * EPOCHS

    def hosts(self) -> set[str]:
        return {path.name.split("-")[2] for path in (self.network.shared / f"{self.name}-begun").iterdir()}


def process(machine: Machine, pattern: str) -> int:
    """Return the one process of a machine whose command line matches."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        found = [pid for pid, args in machine.processes().items() if re.search(pattern, args)]
        if found:
            return found[0]
        time.sleep(0.2)
    raise AssertionError(f"{machine.name} runs no {pattern}: {machine.processes()}")


@pytest.fixture
def sweep(ray_network, request):
    sweep = Sweep(ray_network, request.node.name.removeprefix("test_").replace("_", "-"))
    sweep.start()
    sweep.wait_for_results(2)
    return sweep


def rejoin(network: Network, machine: Machine) -> None:
    """Start what `ray up`'s autoscaler would: Ray on a machine that has lost it."""
    machine.run("~/latentune/.venv/bin/ray stop --force", check=False)
    start_ray(machine, network.machines[0])


def test_a_trial_s_process_killed(sweep, ray_network):
    worker = ray_network.machines[1]
    worker.run(f"kill -9 {process(worker, '^ray::Tiny')}")
    sweep.wait()
    assert sweep.check_books() <= 1
    assert sweep.hosts() == {"machine0", "machine1", "machine2"}


def test_a_raylet_killed(sweep, ray_network):
    worker = ray_network.machines[1]
    worker.run(f"kill -9 {process(worker, 'raylet/raylet ')}")
    sweep.wait_for_results(8)
    rejoin(ray_network, worker)
    sweep.wait()
    assert sweep.check_books() <= 1


def test_a_machine_lost_and_back(sweep, ray_network):
    worker = ray_network.machines[2]
    worker.kill()
    sweep.wait_for_results(8)
    worker.boot(ray_network)
    rejoin(ray_network, worker)
    sweep.wait()
    assert sweep.check_books() <= 1


def test_the_driver_killed_and_resumed(sweep, ray_network):
    head = ray_network.machines[0]
    sweep.wait_for_results(5)
    before = _proposals(sweep)
    head.run(f"kill -9 {process(head, 'python .*job.py')}")
    sweep._wait(lambda: "ended 137" in sweep.log)
    (sweep.home / f"{sweep.name}.log").write_text("")
    sweep.start()
    sweep.wait()
    assert sweep.check_books() <= 3  # an epoch of each trial that ran
    assert _proposals(sweep)[: len(before)] == before


def test_a_cable_pulled_and_the_trial_goes_on_elsewhere(sweep, ray_network):
    worker = ray_network.machines[1]
    ray_network.cut(worker)
    # The machine that is cut off gives up before the head gives it up: its trial does not run twice at once.
    deadline = time.monotonic() + PATIENCE
    while any("ray::Tiny" in args for args in worker.processes().values()):
        assert time.monotonic() < deadline
        time.sleep(0.2)
    ray_network.mend(worker)
    sweep.wait()
    rejoin(ray_network, worker)
    assert sweep.check_books() <= 4  # it went on by itself until it noticed


def _proposals(sweep: Sweep) -> list[dict]:
    lines = (sweep.home / "results" / sweep.name / "ledger.jsonl").read_text().splitlines()
    return [event["config"]["x"] for event in map(json.loads, lines) if event["event"] == "trial"]
