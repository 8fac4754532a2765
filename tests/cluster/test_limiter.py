"""Proposals follow the cluster's room, as nodes come and go, and live trials are known after a resume."""

from types import SimpleNamespace

import pytest
from ray.tune.search import Searcher
from ray.tune.search.search_generator import SearchGenerator

from cluster import limiter
from cluster.connect import Cluster, Node
from cluster.limiter import LOOK_SECONDS, ClusterLimiter


class Numbers(Searcher):
    """Proposes 1, 2, 3, … and notes which trials it was told the end of."""

    def __init__(self):
        super().__init__("score", "min")
        self.proposed, self.ended = 0, []

    def suggest(self, trial_id):
        self.proposed += 1
        return {"x": self.proposed}

    def on_trial_complete(self, trial_id, result=None, error=False):
        self.ended.append(trial_id)

    def save(self, checkpoint_path):
        with open(checkpoint_path, "w") as file:
            file.write(str(self.proposed))

    def restore(self, checkpoint_path):
        with open(checkpoint_path) as file:
            self.proposed = int(file.read())


@pytest.fixture
def scene(monkeypatch):
    """A cluster whose nodes and clock the test sets."""
    scene = SimpleNamespace(nodes=(Node(4, 1),) * 2, now=0.0)
    monkeypatch.setattr(limiter, "present_nodes", lambda: scene.nodes)
    monkeypatch.setattr(limiter, "time", SimpleNamespace(monotonic=lambda: scene.now))
    scene.limiter = lambda **flags: ClusterLimiter(
        Numbers(), Cluster("10.0.0.1:6379", scene.nodes), 1, 0.5, **flags
    )
    return scene


def ask(limited, first, last):
    return [limited.suggest(f"t{i}") is not None for i in range(first, last)]


def test_as_many_as_fit_at_once(scene):
    limited = scene.limiter()
    assert ask(limited, 0, 6) == [True] * 4 + [False] * 2
    limited.on_trial_complete("t1")
    assert ask(limited, 6, 8) == [True, False]
    assert limited.searcher.ended == ["t1"]


def test_nodes_come_and_go(scene):
    limited = scene.limiter()
    ask(limited, 0, 4)
    scene.nodes, scene.now = (Node(4, 1),) * 3, LOOK_SECONDS + 1
    assert ask(limited, 4, 7) == [True, True, False]
    scene.nodes, scene.now = (), 2 * LOOK_SECONDS + 2
    for i in range(5):
        limited.on_trial_complete(f"t{i}")
    assert ask(limited, 7, 8) == [False]  # t5 waits for a node
    limited.on_trial_complete("t5")
    assert ask(limited, 8, 10) == [True, False]  # one that waits: an autoscaler sees that there is need


def test_nodes_that_may_be_started_count(scene):
    limited = ClusterLimiter(
        Numbers(), Cluster("10.0.0.1:6379", (Node(0, 0),), (Node(4, 1),) * 8), cpus=1, gpus=1
    )
    assert sum(ask(limited, 0, 20)) == 8


def test_a_person_s_limit_holds(scene):
    assert sum(ask(scene.limiter(at_most=3), 0, 20)) == 3


def test_tune_lets_as_many_wait(scene):
    from ray.tune.execution.tune_controller import _get_max_pending_trials

    assert _get_max_pending_trials(SearchGenerator(scene.limiter())) == 4


def test_a_resumed_sweep_knows_its_trials_and_its_new_limit(scene, tmp_path):
    limited = scene.limiter()
    ask(limited, 0, 4)
    SearchGenerator(limited).save_to_dir(str(tmp_path), "s")
    scene.nodes = (Node(4, 1),) * 3
    resumed = scene.limiter(at_most=5)
    SearchGenerator(resumed).restore_from_dir(str(tmp_path))
    assert ask(resumed, 4, 8) == [True, False, False, False]
    resumed.on_trial_complete("t0")
    assert resumed.searcher.ended == ["t0"]
    assert resumed.suggest("t8") == {"x": 6}
