"""A sweep on the machines of a test, and its books: what was planned, begun, reported, delivered."""

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

PATIENCE = 400
SNAPSHOT_SECONDS = 2  # one between snapshots, and what writing one takes


class Sweep:
    """A sweep that a driver on the head runs."""

    def __init__(self, network: Network, name: str, trials: int = 6, epochs: int = 4, seconds: float = 2.0):
        self.network, self.name = network, name
        self.trials, self.epochs, self.seconds = trials, epochs, seconds
        self.head = network.machines[0]
        self.home = self.head.folder / "home"
        shutil.copy(Path(__file__).parent / "job.py", self.home / "job.py")

    def start(self) -> None:
        """Start the driver, and return."""
        flags = f"--trials {self.trials} --epochs {self.epochs} --seconds {self.seconds}"
        driver = f".venv/bin/python ~/job.py {self.name} {flags} >> ~/{self.name}.log 2>&1"
        self.head.run(
            f"cd ~/latentune; export RAY_ADDRESS={self.head.address}:6379 RAY_AUTH_MODE=disabled "
            f"PYTHONPATH=$PWD OMP_NUM_THREADS=1; "
            f"(nohup {driver}; echo ended $? >> ~/{self.name}.log) > /dev/null 2>&1 &"
        )

    @property
    def log(self) -> str:
        path = self.home / f"{self.name}.log"
        return path.read_text() if path.exists() else ""

    def results(self) -> int:
        path = self.home / "results" / self.name / "ledger.jsonl"
        return path.read_text().count('"event": "result"') if path.exists() else 0

    def wait_for_results(self, number: int) -> None:
        self.wait_until(lambda: self.results() >= number)

    def wait(self) -> None:
        """Wait for the driver's end."""
        self.wait_until(lambda: "ended" in self.log)
        assert "unsent 0\nended 0" in self.log, self.log

    def wait_until(self, what) -> None:
        deadline = time.monotonic() + PATIENCE
        while not what():
            assert time.monotonic() < deadline and "Traceback" not in self.log, self.log
            time.sleep(0.2)

    def events(self) -> list[dict]:
        """Return what the ledger holds."""
        lines = (self.home / "results" / self.name / "ledger.jsonl").read_text().splitlines()
        return [json.loads(line) for line in lines]

    def check_books(self) -> int:
        """Check that nothing is lost and nothing is twice; return how many epochs were begun again."""
        ledger = Ledger(self.home / "results" / self.name / "ledger.jsonl")
        events = self.events()
        trials = ledger.trials()
        ledger.close()
        assert len(trials) == self.trials == sum(event["event"] == "trial" for event in events)
        results = Counter((e["trial"], e["epoch"]) for e in events if e["event"] == "result")
        assert results == Counter((trial, epoch) for trial in trials for epoch in range(1, self.epochs + 1))
        assert {record.status for record in trials.values()} == {"finished"}
        for record in trials.values():  # each epoch stands on the one before it, wherever that ran
            for epoch, metrics in record.metrics.items():
                assert metrics["score"] == pytest.approx(record.config["x"] * epoch * (epoch + 1) / 2)

        with sqlite3.connect(self.home / "mlflow.db") as database:
            tag = "SELECT run_uuid FROM tags WHERE key = ? AND value = ?"
            runs = {row[0] for row in database.execute(tag, ("latentune.sweep", self.name))}
            children = "SELECT run_uuid, value FROM tags WHERE key = 'latentune.trial'"
            delivered = {run: trial for run, trial in database.execute(children) if run in runs}
            assert len(runs) == self.trials + 1 and sorted(delivered.values()) == sorted(trials)
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
        return sum(begun.values()) - self.trials * self.epochs

    def proposals(self) -> list[float]:
        """Return what the searcher proposed, in order."""
        return [event["config"]["x"] for event in self.events() if event["event"] == "trial"]

    def unsaved(self) -> int:
        """Return how many results came so shortly before now that Tune's snapshot may not have them."""
        now = 1000 * time.time()
        return sum(
            e["event"] == "result" and now - e["time"] < 1000 * SNAPSHOT_SECONDS for e in self.events()
        )

    def kill_driver(self) -> None:
        """End the driver without a word; `start` then resumes the sweep."""
        driver = process(self.head, r"^\S*python \S*job\.py")  # not the shell that waits for its end
        self.head.run(f"kill -9 {driver}")
        self.wait_until(lambda: "ended 137" in self.log)
        (self.home / f"{self.name}.log").write_text("")

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


def rejoin(network: Network, machine: Machine) -> None:
    """Start what `ray up`'s autoscaler would: Ray on a machine that has lost it."""
    machine.run("~/latentune/.venv/bin/ray stop --force", check=False)
    start_ray(machine, network.machines[0])


def lose_head(sweep: Sweep) -> int:
    """Cut the head's power in mid-sweep, start all as `ray up` again would, and resume the sweep.

    Returns how many results Tune's last snapshot may not have.
    """
    head, *workers = sweep.network.machines
    head.kill()
    unsaved = sweep.unsaved()
    head.boot(sweep.network)
    start_ray(head)
    for worker in workers:
        rejoin(sweep.network, worker)
    (sweep.home / f"{sweep.name}.log").write_text("")
    sweep.start()
    return unsaved
