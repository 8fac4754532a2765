"""Joining a cluster: one line when it works, one sentence when it does not, before anything has begun."""

import re
import socket
import textwrap

import pytest
import yaml

from cluster import connect as connect_module
from cluster.connect import Cluster, Node, connect
from cluster.errors import ClusterError
from tests.cluster.conftest import run_python, start_ray


def test_a_trial_fits_on_one_node_or_not_at_all():
    cluster = Cluster(None, (Node(4, 0), Node(4, 0)))
    assert cluster.slots(3, 0) == 2  # not 8 // 3 = 2 by luck: see the next
    assert cluster.slots(5, 0) == 0
    assert cluster.slots(1.5, 0) == 4


def test_shares_of_a_gpu_are_counted_as_ray_counts_them():
    assert Cluster(None, (Node(100, 3),)).slots(1, 0.1) == 30  # in floating point, 3 // 0.1 is 29
    assert Cluster(None, (Node(8, 1),)).slots(1, 0.5) == 2
    assert Cluster(None, (Node(8, 0),)).slots(1, 0.5) == 0
    assert Cluster(None, (Node(8, 1),)).slots(0, 0.25) == 4


def test_nodes_to_come_count():
    cluster = Cluster("10.0.0.1:6379", (Node(4, 0),), (Node(4, 0), *[Node(8, 1)] * 6))
    assert cluster.slots(2, 0.5) == 12
    assert "1 node (up to 7 as trials wait)" in cluster.describe(2, 0.5)


def test_the_line_says_what_was_joined_and_what_a_trial_gets():
    assert Cluster("10.0.0.1:6379", (Node(8, 1), Node(8, 1), Node(4, 0))).describe(2, 0.5) == (
        "Ray cluster at 10.0.0.1:6379: 3 nodes, 20 CPUs, 2 GPUs; a trial gets 2 CPUs and 0.5 GPU, "
        "4 run side by side"
    )
    assert Cluster(None, (Node(2, 0),)).describe(1, 0) == (
        "Embedded Ray on this machine: 1 node, 2 CPUs, 0 GPUs; a trial gets 1 CPU, 2 run side by side"
    )


def test_the_line_counts_no_more_trials_than_are_wanted():
    cluster = Cluster(None, (Node(8, 0),))
    assert cluster.describe(1, 0, at_most=3).endswith("3 run side by side")
    assert cluster.describe(4, 0, at_most=3).endswith("2 run side by side")


@pytest.mark.parametrize("address", ["nonsense", "host:", ":6379", "10.0.0.1"])
def test_an_address_must_have_host_and_port(address):
    with pytest.raises(ClusterError, match="must be host:port"):
        connect(address)


def test_ray_client_is_refused_with_what_to_do_instead():
    with pytest.raises(ClusterError, match="Ray Client address, which Ray Tune does not support"):
        connect("ray://10.0.0.1:10001")


def test_silence_is_reported_at_once(monkeypatch):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    monkeypatch.setenv("RAY_ADDRESS", address)
    with pytest.raises(ClusterError, match=f"No Ray cluster answers at {address} .Connection refused"):
        connect()


def test_the_autoscaler_s_nodes_are_promised(tmp_path, monkeypatch):
    config = {
        "max_workers": 8,
        "provider": {"type": "aws"},
        "head_node_type": "head",
        "available_node_types": {
            "head": {"resources": {"CPU": 4}},
            "gpu": {"resources": {"CPU": 8, "GPU": 1}, "max_workers": 3},
            "any": {"resources": {"CPU": 2}},
        },
    }
    path = tmp_path / "ray_bootstrap_config.yaml"
    path.write_text(yaml.safe_dump(config))
    monkeypatch.setattr(connect_module, "AUTOSCALING_CONFIG", path)
    expected = [*[Node(2, 0)] * 8, Node(4, 0), *[Node(8, 1)] * 3]
    assert sorted(connect_module._promised()) == expected
    path.write_text(yaml.safe_dump(config | {"provider": {"type": "local"}}))
    assert connect_module._promised() == ()


@pytest.mark.parametrize(
    ("other", "said"),
    [
        (
            {"torch": "2.1"},
            r"n1 has torch 2.1 \(here .*\): `ray up ray_cluster.yaml` again sets each node up",
        ),
        (
            {"Python": "3.11.99"},
            r"n1 has Python 3.11.99 \(here .*\): install that Python there, remove ~/lat",
        ),
    ],
)
def test_a_node_of_other_versions_is_refused_with_what_helps(other, said, monkeypatch):
    def ask(question):
        return {"n0": question(), "n1": question() | other}

    monkeypatch.setattr(connect_module, "ask_nodes", ask)
    with pytest.raises(ClusterError, match=said):
        connect_module._refuse_other_versions()


JOIN = textwrap.dedent("""
    import cluster, sys
    from pathlib import Path
    from cluster.connect import ask_nodes, connect
    from cluster.errors import ClusterError
    from cluster.storage import resolve
    try:
        joined = connect("10.77.0.10:6379", packages=[cluster])
        print(joined.describe(1, 0.5))
        {then}
    except ClusterError as error:
        print("refused:", error)
""")


@pytest.mark.slow
class TestSeveralNodes:
    def test_the_cluster_is_joined(self, ray_network):
        assert (
            "Ray cluster at 10.77.0.10:6379: 3 nodes, 3 CPUs, 3 GPUs; "
            "a trial gets 1 CPU and 0.5 GPU, 3 run side by side"
        ) in run_python(ray_network.machines[0], JOIN.format(then=""))

    def test_the_nodes_run_this_code_not_theirs(self, ray_network):
        head = ray_network.machines[0]
        (head.folder / "home/latentune/cluster/shipped.py").write_text("WORD = 'as on the head'")
        for worker in ray_network.machines[1:]:
            stale = worker.folder / "home/latentune/cluster"
            stale.mkdir(exist_ok=True)
            (stale / "__init__.py").touch()
            (stale / "shipped.py").write_text("WORD = 'stale'")
        ask = "print(ask_nodes(lambda: __import__('cluster.shipped').shipped.WORD))"
        expected = {f"machine{i}": "as on the head" for i in range(3)}
        assert str(expected) in run_python(head, JOIN.format(then=ask))

    def test_a_folder_of_one_machine_is_refused(self, ray_network):
        resolve = "print(resolve(None, Path.home() / 'results/mine', joined))"
        answer = run_python(ray_network.machines[0], JOIN.format(then=resolve))
        assert (
            "refused: Trials run on 3 nodes, and machine1, machine2 do not see /root/results/mine: "
            "name a folder that all nodes share (NFS), s3://bucket/folder or gs://bucket/folder with"
        ) in answer

    def test_a_folder_all_see_is_taken(self, ray_network):
        resolve = "print(resolve('/mnt/shared', Path.home() / 'results/mine', joined))"
        answer = run_python(ray_network.machines[0], JOIN.format(then=resolve))
        assert answer.splitlines()[-1] == "/mnt/shared/mine"
        assert list((ray_network.shared / "mine").iterdir()) == []

    def test_another_version_on_a_node_is_refused(self, ray_network):
        head, _, last = ray_network.machines
        other = last.folder / "home/other/torch-2.12.1.dist-info"
        other.mkdir(parents=True)
        (other / "METADATA").write_text("Metadata-Version: 2.1\nName: torch\nVersion: 2.12.1\n")
        last.run("~/latentune/.venv/bin/ray stop --force")
        start_ray(last, head, "PYTHONPATH=/root/other")
        try:
            answer = run_python(head, JOIN.format(then=""))
        finally:
            last.run("~/latentune/.venv/bin/ray stop --force")
            start_ray(last, head)
        # Where Ray has not yet noticed that the machine was away, there are two of that name: addresses tell.
        said = (
            r"refused: machine2( \(\S+\))? has torch 2.12.1 \(here 2.13.0\): `ray up ray_cluster.yaml` again"
        )
        assert re.search(said, answer)
