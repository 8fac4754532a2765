"""Trials that wait for no node are spoken of, those that hang are ended, and a disk is watched."""

import signal
from pathlib import Path
from types import SimpleNamespace

import pytest
from ray.exceptions import RayError

from cluster import watchdog
from cluster.connect import Node, versions
from cluster.watchdog import (
    RETRIES,
    DiskWatch,
    DrainWatch,
    FailureCount,
    HangWatch,
    PrecisionWatch,
    VersionWatch,
    WaitingWatch,
)

PENDING, RUNNING, DONE = (SimpleNamespace(status=status) for status in ("PENDING", "RUNNING", "TERMINATED"))


@pytest.fixture
def scene(monkeypatch):
    """A cluster whose nodes and clock the test sets."""
    scene = SimpleNamespace(nodes=[Node(4, 0)], now=0.0, said=[])
    monkeypatch.setattr(watchdog, "present_nodes", lambda: scene.nodes)
    scene.watchdog = WaitingWatch(1, 0.5, scene.said.append, clock=lambda: scene.now)

    def at(now: float, *trials) -> None:
        scene.now = now
        scene.watchdog.on_step_begin(0, list(trials))

    scene.at = at
    return scene


def test_it_is_said_within_a_minute_and_once(scene):
    for now in range(0, 300, 5):
        scene.at(now, PENDING, DONE)
        assert bool(scene.said) == (now >= 45)
    (said,) = scene.said
    assert said.startswith("Trials wait: each asks for 1 CPU and 0.5 GPU, the nodes have 4 CPUs and 0 GPUs.")


def test_it_is_said_again_after_trials_ran(scene):
    for now in (0, 60):
        scene.at(now, PENDING)
    scene.at(70, RUNNING, PENDING)
    assert scene.said[1:] == ["Trials run again."]
    for now in (80, 100):
        scene.at(now, PENDING)
    assert len(scene.said) == 2  # the patience begins anew
    scene.at(130, PENDING)
    assert len(scene.said) == 3


@pytest.mark.parametrize("trials", [[RUNNING, PENDING], [DONE], []])
def test_nothing_is_said_of_trials_that_queue_or_are_done(scene, trials):
    for now in (0, 600):
        scene.at(now, *trials)
    assert scene.said == []


def test_nothing_is_said_while_a_node_could_run_one(scene):
    scene.nodes = [Node(4, 0), Node(8, 1)]
    for now in (0, 600):
        scene.at(now, PENDING)
    assert scene.said == []


def test_cpus_of_one_node_and_gpus_of_another_do_not_add_up(scene):
    scene.nodes = [Node(4, 0), Node(0, 1)]
    for now in (0, 60):
        scene.at(now, PENDING)
    assert "4 CPUs and 0 GPUs; 0 CPUs and 1 GPU." in scene.said[0]


def test_no_node_at_all(scene):
    scene.nodes = []
    for now in (0, 60):
        scene.at(now, PENDING)
    assert "the nodes have no CPU" in scene.said[0]


RESULT = {"training_iteration": 1}


def trial(name: str, status: str = "RUNNING") -> SimpleNamespace:
    state = SimpleNamespace(ray_actor=f"actor of {name}")
    return SimpleNamespace(
        trial_id=name, status=status, temporary_state=state, num_failures=0, max_failures=3, last_result={}
    )


@pytest.fixture
def hang():
    """A watch over hanging trials whose clock the test sets."""
    hang = SimpleNamespace(now=0.0, said=[], ended=[])
    hang.watch = HangWatch(hang.said.append, at_least=100, clock=lambda: hang.now, end=hang.ended.append)

    def at(now: float, *trials) -> None:
        hang.now = now
        hang.watch.on_step_begin(0, list(trials))

    hang.at = at
    return hang


def test_ten_of_the_longest_epochs_without_one_is_a_hang(hang):
    a, b = trial("a"), trial("b")
    hang.at(0, a, b)
    hang.at(30, a, b)
    hang.watch.on_trial_result(0, [], a, RESULT)
    for now in range(40, 300, 10):
        hang.at(now, a, b)
    assert hang.ended == []
    hang.at(301, a, b)
    assert hang.ended == ["actor of b"]
    assert hang.said[0].startswith("Trial b had no epoch for 301 s, where the longest took 30 s: it is ended")
    hang.at(310, a, b)  # its retry has as long, and a's last epoch is 280 s ago
    assert hang.ended == ["actor of b"]


def test_short_epochs_leave_the_least_patience(hang):
    a = trial("a")
    hang.at(0, a)
    hang.at(1, a)
    hang.watch.on_trial_result(0, [], a, RESULT)
    hang.at(100, a)
    assert hang.ended == []
    hang.at(102, a)
    assert hang.ended == ["actor of a"]


def test_nothing_hangs_before_an_epoch_is_known_or_while_it_waits(hang):
    a, b = trial("a"), trial("b")
    hang.at(0, a)
    hang.at(9999, a)
    hang.watch.on_trial_result(0, [], a, RESULT)
    b.status = "PENDING"
    hang.at(10000, a, b)
    b.status = "RUNNING"
    hang.at(200000, a, b)
    assert "actor of b" not in hang.ended  # it runs since now


@pytest.fixture
def drain(monkeypatch):
    """A watch over nodes that are to go in so many seconds; the actor of trial a is on node a, and so on."""
    drain = SimpleNamespace(nodes={}, said=[], ended=[], now=0.0, asked=0)

    def draining() -> dict[str, float]:
        drain.asked += 1
        return dict(drain.nodes)

    monkeypatch.setattr(watchdog, "draining_nodes", draining)
    monkeypatch.setattr(watchdog, "node_of", lambda actor: actor.removeprefix("actor of "))
    drain.watch = DrainWatch(drain.said.append, clock=lambda: drain.now, end=drain.ended.append)

    def at(now: float) -> None:
        drain.now = now
        drain.watch.on_step_begin(0, [])

    drain.at = at
    return drain


def test_trials_leave_a_node_that_is_to_go_once_their_epoch_is_saved(drain):
    a, b = trial("a"), trial("b")
    drain.at(0)
    drain.watch.on_trial_save(0, [], a)
    assert (drain.said, drain.ended) == ([], [])
    drain.nodes = {"a": 30.0}
    drain.at(0.5)
    assert drain.asked == 1  # not at every step
    for now in (1, 2, 3):
        drain.at(now)
    assert drain.said == [
        "Notice: a machine is to be taken away. Trials there go on elsewhere, each after an epoch."
    ]
    assert drain.ended == []  # the epoch that it is in goes on
    drain.watch.on_trial_save(0, [], b)
    drain.watch.on_trial_save(0, [], a)
    assert drain.ended == ["actor of a"]
    assert (a.max_failures, b.max_failures) == (4, 3)  # it is no failure of the trial's
    drain.watch.on_trial_start(0, [], a)  # in a process that was there already
    assert drain.ended == ["actor of a"] * 2


def test_trials_stay_as_long_as_another_epoch_fits(drain):
    a = trial("a")
    drain.watch.on_trial_start(0, [], a)
    for drain.now in (0, 8, 18):  # epochs of 8 and 10 s
        drain.watch.on_trial_result(0, [], a, RESULT)
    drain.nodes = {"a": 30.0}
    drain.at(20)
    drain.nodes = {"a": 15.0}  # the deadline stands where it was first told
    for drain.now in (28, 38):
        drain.watch.on_step_begin(0, [])
        drain.watch.on_trial_save(0, [], a)
    assert drain.ended == []
    drain.now = 40
    drain.watch.on_trial_save(0, [], a)
    assert drain.ended == ["actor of a"]


@pytest.mark.parametrize(
    "changes", [{"status": "PAUSED"}, {"last_result": {"done": True}}, {"temporary_state": None}]
)
def test_a_trial_that_trains_no_more_is_left_alone(drain, changes):
    a = trial("a")
    vars(a).update(changes)
    if a.temporary_state is None:
        a.temporary_state = SimpleNamespace(ray_actor=None)
    drain.nodes = {"a": 30.0}
    drain.at(1)
    drain.watch.on_trial_save(0, [], a)
    assert drain.ended == []


def test_a_new_epoch_forgives_and_a_repeated_one_does_not():
    count, a = FailureCount(), trial("a")
    a.num_failures = 2
    count.on_trial_result(0, [], a, {"training_iteration": 1})
    assert a.max_failures == 2 + RETRIES
    a.num_failures = 4
    count.on_trial_result(0, [], a, {"training_iteration": 1})
    assert a.max_failures == 2 + RETRIES
    count.on_trial_result(0, [], a, {"training_iteration": 2})
    assert a.max_failures == 4 + RETRIES


def test_a_disk_that_runs_short_interrupts_once(tmp_path, monkeypatch):
    said, signals, free = [], [], [300]
    monkeypatch.setattr(
        watchdog, "shutil", SimpleNamespace(disk_usage=lambda folder: SimpleNamespace(free=free[0] * 2**20))
    )
    monkeypatch.setattr(watchdog.os, "kill", lambda pid, sign: signals.append(sign))
    watch = DiskWatch([tmp_path], said.append)
    watch.on_step_begin(0, [])
    assert signals == []
    free[0] = 199
    for _ in range(3):
        watch.on_step_begin(0, [])
    assert signals == [signal.SIGUSR1]
    assert len(said) == 1 and "199 MB left" in said[0]


def test_a_bucket_is_no_disk():
    places = ["/tmp", "s3://bucket/latentune"]
    (disk,) = [w for w in watchdog.watchdogs(1, 0, places, print) if isinstance(w, DiskWatch)]
    assert disk.folders == [Path("/tmp")]


def test_trials_that_train_in_different_formats_are_told_once():
    said = []
    watch = PrecisionWatch(said.append)
    for precision in ("float32", None, "float32", "bfloat16", "float32", "bfloat16"):
        watch.on_trial_result(0, [], DONE, {"precision": precision})
    (told,) = said
    assert told.startswith("Trials train in bfloat16 and in float32, as their machines choose:")


def test_a_node_that_joins_later_is_compared(monkeypatch):
    """Without waiting for its answer; those that were there at the beginning are not asked again."""
    nodes, answers, said, now = ["a"], {}, [], 0.0

    def wait(asked, num_returns, timeout):
        assert timeout == 0 and num_returns == len(asked)
        return [node for node in asked if node in answers], []

    def get(node):
        if isinstance(answers[node], Exception):
            raise answers[node]
        return answers[node]

    def listed():
        return [{"NodeID": node, "NodeManagerHostname": f"machine {node}", "Alive": True} for node in nodes]

    monkeypatch.setattr(watchdog, "asked_on", lambda node, question: node)
    for name, replaced in {"nodes": listed, "wait": wait, "get": get}.items():
        monkeypatch.setattr(watchdog.ray, name, replaced)
    watch = VersionWatch(said.append, clock=lambda: now)
    for new, come in [
        ("", {}),
        ("bcd", {}),
        ("", {"b": {"torch": "2.1"}, "c": {}}),
        ("", {"d": None}),
        ("", {}),
    ]:
        nodes += new
        answers |= {node: versions() | other for node, other in come.items() if other is not None}
        answers |= {node: RayError() for node, other in come.items() if other is None}
        watch.on_step_begin(0, [])
        now += 6
    (told,) = said
    assert told.startswith("machine b has joined with torch 2.1 (here ")
