"""Waiting trials are spoken of when no node can run them, once, and not when they only queue."""

from types import SimpleNamespace

import pytest

from cluster import watchdog
from cluster.connect import Node
from cluster.watchdog import WaitingWatch

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
