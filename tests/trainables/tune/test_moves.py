"""A trial whose node dies goes on, on another node, from its checkpoint: as if nothing had happened."""

import threading
import time

import pytest
import ray
from ray import tune
from ray.cluster_utils import Cluster

from cluster.ray_patches import quoted_python
from tests.fixtures.settings import SMALL_FACES
from trainables import BetaVAEGAN

EPOCHS = 4
METRIC = "fd_random"
SETTINGS = SMALL_FACES | {"beta": 3.0, "precision": "float16"}  # its loss scales move along


class Located(BetaVAEGAN):
    """Says where each epoch was trained; waits in the third one until its node is gone."""

    def step(self):
        node = ray.get_runtime_context().get_node_id()
        doomed = self.trial_folder / "doomed"
        if self.epoch == 2 and not doomed.exists():
            doomed.write_text(node)
            time.sleep(600)
        return super().step() | {"node": node}

    def setup(self, config):
        from pathlib import Path

        config = dict(config)
        self.trial_folder = Path(config.pop("folder"))
        super().setup(config)


@pytest.fixture
def two_nodes(monkeypatch):
    """A head without CPUs, and two nodes with one each."""
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    nodes = [cluster.add_node(num_cpus=1) for _ in range(2)]
    ray.init(address=cluster.address, log_to_driver=False, runtime_env=quoted_python())
    yield cluster, nodes
    ray.shutdown()
    cluster.shutdown()


@pytest.mark.slow
def test_a_trial_goes_on_elsewhere_when_its_node_dies(two_nodes, tmp_path):
    cluster, nodes = two_nodes
    doomed = tmp_path / "doomed"

    def kill() -> None:
        while not (doomed.exists() and doomed.read_text()):
            time.sleep(0.1)
        (node,) = [node for node in nodes if node.node_id == doomed.read_text()]
        cluster.remove_node(node, allow_graceful=False)

    killer = threading.Thread(target=kill, daemon=True)
    killer.start()
    settings = {**SETTINGS, "cache_dir": str(tmp_path / "cache")}
    (result,) = tune.Tuner(
        Located,
        param_space={**settings, "folder": str(tmp_path)},
        tune_config=tune.TuneConfig(metric=METRIC, mode="min"),
        run_config=tune.RunConfig(
            storage_path=str(tmp_path / "runs"),
            stop={"training_iteration": EPOCHS},
            verbose=0,
            failure_config=tune.FailureConfig(max_failures=3),
            checkpoint_config=tune.CheckpointConfig(checkpoint_frequency=1),
        ),
    ).fit()
    killer.join(timeout=10)
    assert result.error is None
    where = result.metrics_dataframe["node"].tolist()
    assert result.metrics_dataframe["epoch"].tolist() == [1, 2, 3, 4]
    assert where[:2] == [doomed.read_text()] * 2
    assert where[2] == where[3] != where[0]
    straight = BetaVAEGAN(config=settings)
    expected = [straight.step()[METRIC] for _ in range(EPOCHS)]
    assert result.metrics_dataframe[METRIC].tolist() == expected
