"""Join a running Ray cluster, or start an embedded one with what this machine has."""

import atexit
import gc
import importlib.metadata
import logging
import os
import platform
import shlex
import shutil
import socket
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import ray
import yaml
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

PROBE_SECONDS = 120  # for a node to unpack the code and start a process
# What a trial computes with: two nodes that differ here do not give one sweep's numbers.
COMPARED = ("ray", "torch", "torchvision", "numpy", "scipy", "pyarrow", "safetensors")
# Written by `ray up` on the head: the node types that its autoscaler may start.
AUTOSCALING_CONFIG = Path("~/ray_bootstrap_config.yaml")


class ClusterError(RuntimeError):
    """The cluster cannot be joined, or can never run what is asked of it; the message says what would do."""


class Node(NamedTuple):
    """What trials can use of one machine."""

    cpus: float
    gpus: float


@dataclass(frozen=True)
class Cluster:
    """What was joined: its address, or None for an embedded one; its nodes, and those it may grow to."""

    address: str | None
    present: tuple[Node, ...]
    promised: tuple[Node, ...] = ()

    @property
    def nodes(self) -> int:
        """Nodes there are."""
        return len(self.present)

    @property
    def cpus(self) -> float:
        """CPUs of all nodes there are."""
        return sum(node.cpus for node in self.present)

    @property
    def gpus(self) -> float:
        """GPUs of all nodes there are."""
        return sum(node.gpus for node in self.present)

    def describe(self, cpus_per_trial: float, gpus_per_trial: float, at_most: int | None = None) -> str:
        """Say in one line what was joined and what a trial gets; `at_most` trials are wanted side by side."""
        where = f"Ray cluster at {self.address}" if self.address else "Embedded Ray on this machine"
        grows = f" (up to {len(self.promised)} as trials wait)" if len(self.promised) > self.nodes else ""
        trial = counted(cpus_per_trial, "CPU")
        if gpus_per_trial:
            trial += f" and {counted(gpus_per_trial, 'GPU')}"
        slots = self.slots(cpus_per_trial, gpus_per_trial)
        side_by_side = min(slots, at_most) if at_most else slots
        return (
            f"{where}: {counted(self.nodes, 'node')}{grows}, {counted(self.cpus, 'CPU')}, "
            f"{counted(self.gpus, 'GPU')}; a trial gets {trial}, "
            f"{side_by_side} run side by side"
        )

    def slots(self, cpus_per_trial: float, gpus_per_trial: float) -> int:
        """How many trials fit at once. A trial fits on one node or not at all."""

        def fit(nodes: tuple[Node, ...]) -> int:
            return sum(_times(node, cpus_per_trial, gpus_per_trial) for node in nodes)

        return max(fit(self.present), fit(self.promised))


def connect(address: str | None = None, packages: list[ModuleType] | None = None) -> Cluster:
    """Join the cluster at `address` or RAY_ADDRESS, else start an embedded one.

    A joined cluster's workers get the code of `packages` as it is here; beside it they need the pinned
    environment. Raises ClusterError where nothing answers at the address, where the token is refused, and
    where a node has other versions than this machine.
    """
    address = address or os.environ.get("RAY_ADDRESS")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    # Where memory runs out, Ray ends the trial that began its epoch last, whatever it uses; the kernel ends
    # the one that uses most, and trials before the driver (oom_score_adj).
    os.environ.setdefault("RAY_memory_monitor_refresh_ms", "0")
    # Tune's and Ray's own chatter: what a person needs to know, the sweep says.
    for name in ("ray", "ray.tune", "ray.train"):
        logging.getLogger(name).setLevel(logging.ERROR)
    # Garbage that holds a reference of Ray, collected by another thread while Ray ends, ends the process with
    # 1 on the spot. Handlers run last come, first served: this one before Ray's own.
    atexit.register(gc.collect)
    quiet = {"logging_level": logging.ERROR, "log_to_driver": False, "ignore_reinit_error": True}
    if address is None or address == "local":
        ray.init(address="local", include_dashboard=False, runtime_env=local_runtime_env(), **quiet)
        return Cluster(None, present_nodes())
    _refuse_silent(address)
    try:
        with tempfile.TemporaryDirectory(prefix="latentune-") as folder:
            # As working_dir, since Ray puts the driver's directory, where a node may have an older copy of
            # this code, before py_modules.
            runtime_env = {"working_dir": _gather(packages, Path(folder))} if packages else None
            ray.init(address=address, runtime_env=runtime_env, **quiet)
    except (ConnectionError, ValueError, RuntimeError, ray.exceptions.RayError) as error:
        raise ClusterError(f"Cannot join the Ray cluster at {address}: {_reason(error)}") from error
    _refuse_other_versions()
    return Cluster(ray.get_runtime_context().gcs_address, present_nodes(), _promised())


def local_runtime_env() -> dict[str, str] | None:
    """Return what an embedded Ray must be told where this Python's path has a space or the like in it.

    Ray hands the path to a shell without quoting it, and no worker would ever start.
    """
    quoted = shlex.quote(sys.executable)
    return None if quoted == sys.executable else {"py_executable": quoted}


def ask_nodes(question: Callable[..., Any], *arguments: Any) -> dict[str, Any]:
    """Return the answer of `question(*arguments)`, run once on each node, by the node's name.

    A node that goes away meanwhile, or is too busy to start a process in time, gives no answer. Raises
    ClusterError where a node cannot run this, and where none answers.
    """
    ask = ray.remote(num_cpus=0, max_retries=0)(question)
    asked = {}
    for node in sorted(ray.nodes(), key=lambda node: (node["NodeManagerHostname"], node["NodeID"])):
        if node["Alive"]:
            here = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
            name = node["NodeManagerHostname"]
            name = f"{name} ({node['NodeManagerAddress']})" if name in asked else name
            asked[name] = ask.options(scheduling_strategy=here).remote(*arguments)
    ray.wait(list(asked.values()), num_returns=len(asked), timeout=PROBE_SECONDS)
    answers = {}
    for name, answer in asked.items():
        try:
            answers[name] = ray.get(answer, timeout=1)
        except (
            ray.exceptions.WorkerCrashedError,
            ray.exceptions.TaskUnschedulableError,
            ray.exceptions.GetTimeoutError,
        ):
            continue
        except ray.exceptions.RayError as error:
            raise ClusterError(f"{name} cannot run this code: {_reason(error)}") from error
    if asked and not answers:
        raise ClusterError(f"None of {', '.join(asked)} started a process within {PROBE_SECONDS} s")
    return answers


def _gather(packages: list[ModuleType], folder: Path) -> str:
    """Copy the packages' code into one folder; return its name."""
    for package in packages:
        source = Path(package.__file__).parent
        shutil.copytree(source, folder / package.__name__, ignore=shutil.ignore_patterns("__pycache__"))
    return str(folder)


def _refuse_silent(address: str) -> None:
    """Ask the port first: Ray itself takes half a minute, and its words point elsewhere."""
    if address.startswith("ray://"):
        raise ClusterError(
            f"{address} is a Ray Client address, which Ray Tune does not support: run this on the cluster "
            "(ray exec ray_cluster.yaml '…'), or give the address host:6379"
        )
    if address == "auto":
        return
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit():
        raise ClusterError(
            f"The Ray cluster's address is {address!r}; it must be host:port, as 10.0.0.1:6379"
        )
    try:
        socket.create_connection((host, int(port)), timeout=10).close()
    except OSError as error:
        raise ClusterError(
            f"No Ray cluster answers at {address} ({error.strerror or error}): start one with "
            "`ray up ray_cluster.yaml`, or leave --address and RAY_ADDRESS out to use this machine alone"
        ) from error


def _refuse_other_versions() -> None:
    def versions(names: tuple[str, ...]) -> dict[str, str]:
        def of(name: str) -> str:
            try:
                # torch 2.13.0+cpu and 2.13.0+cu130 are the same code for different machines.
                return importlib.metadata.version(name).partition("+")[0]
            except importlib.metadata.PackageNotFoundError:
                return "none"

        return {"Python": platform.python_version()} | {name: of(name) for name in names}

    mine = versions(COMPARED)
    for node, theirs in ask_nodes(versions, COMPARED).items():
        other = [name for name in mine if theirs[name] != mine[name]]
        if other:
            differences = ", ".join(f"{name} {theirs[name]} (here {mine[name]})" for name in other)
            raise ClusterError(
                f"{node} has {differences}: `ray up ray_cluster.yaml` again sets each node up from "
                "requirements.lock"
            )


def present_nodes() -> tuple[Node, ...]:
    """Return the nodes of the cluster that are alive."""
    resources = (node["Resources"] for node in ray.nodes() if node["Alive"])
    return tuple(Node(r.get("CPU", 0.0), r.get("GPU", 0.0)) for r in resources)


def _promised() -> tuple[Node, ...]:
    """Return all nodes that the autoscaler may start, where this is the head of a cluster with one."""
    path = AUTOSCALING_CONFIG.expanduser()
    if not path.exists():
        return ()
    config = yaml.safe_load(path.read_text())
    if config["provider"]["type"] == "local":
        return ()  # these machines do not grow; those that are off now are no promise
    head = config.get("head_node_type")
    nodes = []
    for name, kind in config["available_node_types"].items():
        resources = kind.get("resources", {})
        count = 1 if name == head else kind.get("max_workers", config["max_workers"])
        nodes += [Node(float(resources.get("CPU", 0)), float(resources.get("GPU", 0)))] * count
    return tuple(nodes)


def _times(node: Node, cpus: float, gpus: float) -> int:
    """How often (cpus, gpus) fit into a node. Ray counts in ten-thousandths; so does this."""
    shares = [
        round(has * 10_000) // round(wants * 10_000)
        for has, wants in ((node.cpus, cpus), (node.gpus, gpus))
        if wants
    ]
    return min(shares, default=0)


def counted(number: float, noun: str) -> str:
    """Return "1 node", "3 nodes", "0.5 GPU"."""
    return f"{number:g} {noun}{'s' * (number > 1 or number == 0)}"


def _reason(error: Exception) -> str:
    """Return the line of an error that says why."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if "Version mismatch" in str(error):
        return "; ".join(lines[:6])
    token = next((line for line in lines if "token" in line.lower()), None)
    return token or (lines[0] if lines else type(error).__name__)
