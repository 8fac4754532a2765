"""Trials made again from a ledger and checkpoints, with a real Ray and nothing that Tune saved."""

import io
import json
import shutil
from pathlib import Path

import pytest
import torch
from ray import tune
from ray.tune.search import SearchGenerator
from rich.console import Console

from cluster.connect import Cluster, Node
from cluster.limiter import ClusterLimiter
from searchers.bayesopt.searcher import BayesOptSearch
from searchers.display.snapshot import Told
from searchers.execution import driver as module
from searchers.execution.driver import Driver
from searchers.execution.fixed_points import FixedPoints
from searchers.execution.rebuild import RebuiltTrials, latest_checkpoint, revived, what_goes_on
from searchers.record.ledger import Ledger
from searchers.record.schema import FINISHED, WHERE
from searchers.record.trials import TrialRecord
from searchers.scheduling.rule import PauseRule
from searchers.scheduling.tune_scheduler import PauseScheduler
from searchers.study.config import SweepConfig
from tests.fixtures.embedded import embedded_ray

EPOCHS = 4


class Summing(tune.Trainable):
    """Reports the sum of x over its epochs, which only a restored state can go on with."""

    def setup(self, config):
        self.reset_config(config)

    def reset_config(self, config):
        self.x, self.shape, self.total, self.epoch = config["x"], config["shape"], 0.0, 0
        self.root = sum(config[name] for name in WHERE) / len(WHERE)
        return True

    def step(self):
        assert self.shape == (2, 3)
        self.epoch += 1
        self.total += self.x
        return {"score": self.total, "epoch": self.epoch, "root": self.root}

    def save_checkpoint(self, folder):
        (Path(folder) / "state.json").write_text(json.dumps([self.epoch, self.total]))

    def load_checkpoint(self, folder):
        self.epoch, self.total = json.loads((Path(folder) / "state.json").read_text())


@pytest.fixture(scope="module")
def ray_here():
    with embedded_ray(num_cpus=2):
        yield


@pytest.fixture
def drive(tmp_path, monkeypatch, ray_here):
    monkeypatch.setattr(module, "join", lambda config, code: Cluster(None, (Node(2.0, 0.0),)))

    def run(trials, search, scheduler=None, root=1):
        size = {"epochs": EPOCHS, "num_samples": trials}
        config = SweepConfig(name="one", results=str(tmp_path), **size)
        console = Console(file=io.StringIO(), width=200)
        with Driver(config, "id", "python -m x", console, epochs=EPOCHS, num_samples=trials) as driver:
            driver.run(
                Summing,
                settings={"x": tune.uniform(0.0, 1.0), "shape": (2, 3), **dict.fromkeys(WHERE, root)},
                search=search,
                told=Told(metric="score", mode="max", dimensions=["x"], epochs=EPOCHS),
                scheduler=scheduler,
            )
            driver.finish(dict)
        return console.file.getvalue()

    run.folder = tmp_path / "one"
    return run


def cut(ledger: Ledger, keep) -> None:
    """Leave of a ledger what a killed driver had written."""
    lines = ledger.path.read_bytes().splitlines(keepends=True)
    ledger.path.write_bytes(b"".join(line for line in lines if keep(json.loads(line))))


def forget_snapshots(folder: Path) -> None:
    for path in folder.glob("tune/*.*"):
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def assert_each_epoch_is_right(records):
    for record in records.values():
        assert record.status == FINISHED
        sums = {epoch: metrics["score"] for epoch, metrics in record.metrics.items()}
        assert sums == pytest.approx({e: e * record.config["x"] for e in range(1, EPOCHS + 1)})


def test_open_trials_go_on_from_their_checkpoints_and_ended_ones_stay(drive):
    points = [{"x": 0.1 * k} for k in (1, 2, 3)]
    drive(2, FixedPoints(points[:2], "score", "max"))
    ledger = Ledger(drive.folder / "ledger.jsonl")
    first, second = ledger.trials()
    ended = ledger.trials()[first].metrics
    cut(ledger, lambda e: e.get("trial") != second or (e.get("epoch", 0) <= 3 and e["event"] != "end"))
    forget_snapshots(drive.folder)
    said = drive(3, FixedPoints(points, "score", "max"))
    assert "Trials that have ended: 1. On from a checkpoint: trial 2 after epoch 3." in said
    records = ledger.trials()
    assert list(records)[:2] == [first, second] and len(records) == 3
    assert records[first].metrics == ended
    assert sorted(record.config["x"] for record in records.values()) == pytest.approx([0.1, 0.2, 0.3])
    assert_each_epoch_is_right(records)


def test_paused_trials_are_paused_again_and_the_searcher_knows_all(drive):
    def pausing():
        return PauseScheduler(PauseRule(EPOCHS, 1, first_trials=3, budget=4.0 * EPOCHS, max_trials=6))

    drive(6, BayesOptSearch(seed=1), pausing())
    ledger = Ledger(drive.folder / "ledger.jsonl")
    whole = ledger.trials()
    cut(ledger, lambda e: e["event"] in ("trial", "result", "checkpoint") and e.get("epoch", 1) == 1)
    forget_snapshots(drive.folder)
    scheduler, search = pausing(), BayesOptSearch(seed=1)
    begun = ledger.trials()
    scheduler.replay(list(begun.values()), "score", "max")
    drive(6, search, scheduler)
    records = ledger.trials()
    assert begun.keys() <= records.keys() and len(records) <= 6
    assert {o.trial_id for o in search.observations()} == set(records)
    assert all(record.status for record in records.values())
    assert any(record.status == FINISHED for record in records.values())
    for trial in begun:  # what went on went on from its own state
        for epoch, metrics in records[trial].metrics.items():
            assert metrics["score"] == pytest.approx(epoch * whole[trial].config["x"])


def test_trials_that_ran_come_back_as_there_is_room_and_paused_ones_at_once(monkeypatch):
    waiting = ["b", "c"]
    limiter = ClusterLimiter(
        FixedPoints([{"x": 1.0}], "score", "max"),
        Cluster(None, (Node(2.0, 0.0),)),
        1,
        0,
        1,
        lambda: len(waiting),
    )
    monkeypatch.setattr(RebuiltTrials, "_rebuilt", lambda self, record: record.trial)
    monkeypatch.setattr(SearchGenerator, "next_trial", lambda self: self.searcher.suggest("new") and "new")
    records = [TrialRecord(name, n, {}) for n, name in enumerate("abcd")]
    trials = RebuiltTrials(limiter, records, "/", waiting)
    assert [trials.next_trial() for _ in range(4)] == ["b", "c", "a", None]
    limiter.on_trial_complete("a")
    assert [trials.next_trial() for _ in range(2)] == ["d", None]
    waiting.remove("b")  # it goes on
    limiter.on_trial_complete("d")
    assert trials.next_trial() is None
    limiter.on_trial_complete("b")
    assert [trials.next_trial() for _ in range(2)] == ["new", None]


def test_a_checkpoint_that_is_gone_is_passed_over(tmp_path):
    record = TrialRecord("t", 1, {}, checkpoints={"checkpoint_000000": 1, "checkpoint_000001": 2})
    assert latest_checkpoint(record, str(tmp_path)) is None
    assert what_goes_on([record], str(tmp_path)).endswith("Anew, without one: trial 1.")
    (tmp_path / "tune/t/checkpoint_000000").mkdir(parents=True)
    found = latest_checkpoint(record, str(tmp_path))
    assert (found.number, found.epoch) == (0, 1)
    assert what_goes_on([record], str(tmp_path)).endswith("On from a checkpoint: trial 1 after epoch 1.")


@pytest.mark.parametrize("left", [0, 0.5])
def test_a_checkpoint_that_a_power_cut_left_cut_or_empty_is_passed_over(tmp_path, left):
    record = TrialRecord("t", 1, {}, checkpoints={"checkpoint_000000": 1, "checkpoint_000001": 2})
    paths = [tmp_path / "tune/t" / name / "state.pt" for name in record.checkpoints]
    for path in paths:
        path.parent.mkdir(parents=True)
        torch.save({"epoch": 1, "weights": torch.zeros(100)}, path)
    assert latest_checkpoint(record, str(tmp_path)).epoch == 2
    content = paths[1].read_bytes()
    paths[1].write_bytes(content[: int(left * len(content))])
    assert latest_checkpoint(record, str(tmp_path)).epoch == 1


@pytest.mark.parametrize("pausing", [False, True])
def test_a_trial_that_died_before_its_last_checkpoint_comes_to_its_end_again(drive, pausing):
    """Else it would have finished without weights."""
    points = [{"x": 0.1}, {"x": 0.2}]

    def scheduler(records=()):
        made = PauseScheduler(PauseRule(EPOCHS, EPOCHS, max_trials=len(points)))
        made.replay(records, "score", "max")
        return made if pausing else None

    drive(2, FixedPoints(points, "score", "max"), scheduler())
    ledger = Ledger(drive.folder / "ledger.jsonl")
    *_, last = records = ledger.trials()
    name = next(name for name, epoch in records[last].checkpoints.items() if epoch == EPOCHS)
    cut(ledger, lambda e: e.get("trial") != last or (e["event"] != "end" and e.get("name") != name))
    shutil.rmtree(drive.folder / "tune" / last / name)
    forget_snapshots(drive.folder)
    said = drive(2, FixedPoints(points, "score", "max"), scheduler(list(ledger.trials().values())))
    assert f"On from a checkpoint: trial 2 after epoch {EPOCHS - 1}." in said
    records = ledger.trials()
    assert len(records) == 2 and latest_checkpoint(records[last], str(drive.folder)).epoch == EPOCHS
    assert_each_epoch_is_right(records)


def test_settings_are_what_they_were_before_json():
    given = {"x": tune.uniform(0, 1), "shape": (2, 3), "nested": {"sizes": (1,)}, "seed": 0}
    given["hidden"] = tune.choice([(8, (4,)), (16,), "none"])
    expected = {"x": 0.5, "shape": (2, 3), "nested": {"sizes": (1,)}, "seed": 7, "hidden": (8, (4,))}
    assert revived(json.loads(json.dumps(expected)), given) == expected
    assert revived({"hidden": "none", "x": 2.0}, given) == {"hidden": "none", "x": 2.0}


def test_trials_that_go_on_take_what_may_change_as_it_is_given_now(drive):
    """As `--dataset`, `--data-root` and `--inception-weights` on resume: images and weights lie elsewhere."""
    drive(1, FixedPoints([{"x": 0.1}], "score", "max"), root=1)
    ledger = Ledger(drive.folder / "ledger.jsonl")
    cut(ledger, lambda e: e.get("epoch", 0) <= 2 and e["event"] != "end")
    forget_snapshots(drive.folder)
    drive(1, FixedPoints([{"x": 0.1}], "score", "max"), root=2)
    (record,) = ledger.trials().values()
    assert [record.metrics[epoch]["root"] for epoch in sorted(record.metrics)] == [1, 1, 2, 2]
