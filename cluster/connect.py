"""Joins a running Ray cluster, or starts an embedded one with what this machine has."""

import hashlib
import importlib.metadata
import logging
import os
import platform
import re
import resource
import shutil
import socket
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import ray
import yaml
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from cluster import ray_patches
from cluster.errors import ClusterError
from cluster.interrupts import take_sigterm_as_ctrl_c

QUIET: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False, "ignore_reinit_error": True}
PROBE_SECONDS = 120  # a node has this long to unpack the code and to start a process
# Trials compute with these packages: nodes with different versions of them give different numbers.
COMPARED = ("ray", "torch", "torchvision", "numpy", "scipy", "pyarrow", "safetensors")
# Written by `ray up` on the head: the node types that its autoscaler may start.
AUTOSCALING_CONFIG = Path("~/ray_bootstrap_config.yaml")
PROMISED = "LATENTUNE_PROMISED"  # says the same where another one starts Ray, as KubeRay does: 8x4:1


class Node(NamedTuple):
    """What trials can use of one machine."""

    cpus: float
    gpus: float


@dataclass(frozen=True)
class Cluster:
    """A joined cluster: its address (None if embedded), its nodes, and all those that it may grow to."""

    address: str | None
    present: tuple[Node, ...]
    promised: tuple[Node, ...] = ()

    @property
    def nodes(self) -> int:
        """Return the number of present nodes."""
        return len(self.present)

    @property
    def cpus(self) -> float:
        """Return the CPUs of all present nodes."""
        return sum(node.cpus for node in self.present)

    @property
    def gpus(self) -> float:
        """Return the GPUs of all present nodes."""
        return sum(node.gpus for node in self.present)

    def trial_gets(self, cpus: float, gpus: float | None) -> tuple[float, float]:
        """Return the CPUs and GPUs of a trial: half of a GPU where there are any, if `gpus` is None."""
        has_any = any(node.gpus for node in self.present + self.promised)
        return cpus, gpus if gpus is not None else 0.5 if has_any else 0.0

    def describe(self, cpus_per_trial: float, gpus_per_trial: float, at_most: int | None = None) -> str:
        """Return a line on the cluster, on a trial's share, and on how many (`at_most`) run side by side."""
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
        """Return how many trials fit at once. A trial fits on one node or not at all."""

        def fit(nodes: tuple[Node, ...]) -> int:
            return sum(_times(node, cpus_per_trial, gpus_per_trial) for node in nodes)

        return max(fit(self.present), fit(self.promised))


def connect(address: str | None = None, packages: list[ModuleType] | None = None) -> Cluster:
    """Join the cluster at `address` or RAY_ADDRESS; where neither is given, start an embedded one.

    A joined cluster's workers are sent the code of `packages` (packages or modules) as it is here; they also
    need the pinned environment. Raises ClusterError where nothing answers at the address, where the token is
    refused, where a node has other versions than this machine, and where Ray cannot start here.
    """
    address = address or os.environ.get("RAY_ADDRESS")
    ray_patches.apply()
    if address is None or address == "local":
        _start_embedded()
        return Cluster(None, present_nodes())
    _refuse_silent(address)
    try:
        with tempfile.TemporaryDirectory(prefix="latentune-") as folder:
            # As working_dir, since Ray puts the driver's directory, where a node may have an older copy of
            # this code, before py_modules.
            runtime_env = {"working_dir": _gather(packages, Path(folder))} if packages else None
            _leave_with_other_code(Path(folder))
            ray.init(address=address, runtime_env=runtime_env, **QUIET)
    except (ConnectionError, ValueError, RuntimeError, ray.exceptions.RayError) as error:
        raise ClusterError(f"Cannot join the Ray cluster at {address}: {_reason(error)}") from error
    take_sigterm_as_ctrl_c()
    _refuse_other_versions()
    return Cluster(ray.get_runtime_context().gcs_address, present_nodes(), _promised())


_sent: str | None = None  # digest of the code that this process's connection has sent


def _leave_with_other_code(folder: Path) -> None:
    """End this process's connection where it sent other code: workers of a second one would run the old."""
    global _sent
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            digest.update(str(path.relative_to(folder)).encode() + path.read_bytes())
    if ray.is_initialized() and _sent not in (None, digest.hexdigest()):
        ray.shutdown()
    _sent = digest.hexdigest()


def _start_embedded() -> None:
    """Start Ray with what this machine has, for this process alone. Raises ClusterError where it cannot."""
    try:
        ray_patches.keep_token_private()
        ray_patches.start_patiently(_temp_dir=ray_patches.temporary_folder(), **QUIET)
    except Exception as error:  # Ray raises Exception itself where a process of its own does not start
        raise ClusterError(f"Ray cannot start on this machine: {_reason(error)}{_limit()}") from error
    take_sigterm_as_ctrl_c()


def _limit() -> str:
    """Return a hint at the shell's limit on virtual memory, of which Ray reserves far more than it uses."""
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    if limit == resource.RLIM_INFINITY:
        return ""
    return f" (this shell allows a process {limit / 2**30:.1f} GiB of addresses: try ulimit -v unlimited)"


def ask_nodes(question: Callable[..., Any], *arguments: Any) -> dict[str, Any]:
    """Run `question(*arguments)` once on each node; return the answers by the node's name.

    A node that leaves meanwhile, or is too busy to start a process in time, is left out. Raises ClusterError
    where a node cannot run the code, and where no node answers.
    """
    asked = {}
    for node in sorted(ray.nodes(), key=lambda node: (node["NodeManagerHostname"], node["NodeID"])):
        if node["Alive"]:
            name = node["NodeManagerHostname"]
            name = f"{name} ({node['NodeManagerAddress']})" if name in asked else name
            asked[name] = asked_on(node["NodeID"], question, *arguments)
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


def asked_on(node_id: str, question: Callable[..., Any], *arguments: Any) -> ray.ObjectRef:
    """Have a node run `question(*arguments)`, whatever runs there; return where the answer will be."""
    here = NodeAffinitySchedulingStrategy(node_id, soft=False)
    ask = ray.remote(num_cpus=0, max_retries=0)(question)
    return ask.options(scheduling_strategy=here).remote(*arguments)


def _gather(packages: list[ModuleType], folder: Path) -> str:
    """Copy the code of packages and modules into a folder; return the folder's name."""
    for package in packages:
        if hasattr(package, "__path__"):
            source = Path(package.__path__[0])
            shutil.copytree(source, folder / package.__name__, ignore=shutil.ignore_patterns("__pycache__"))
        elif package.__file__:
            shutil.copy(package.__file__, folder)
    return str(folder)


def _refuse_silent(address: str) -> None:
    """Raise ClusterError where nothing listens: Ray takes half a minute, and its error misleads."""
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


def versions() -> dict[str, str]:
    """Return this machine's versions of Python and of the packages that trials compute with."""

    def of(name: str) -> str:
        try:
            # torch 2.13.0+cpu and 2.13.0+cu130 are builds of the same code for different machines.
            return importlib.metadata.version(name).partition("+")[0]
        except importlib.metadata.PackageNotFoundError:
            return "none"

    return {"Python": platform.python_version()} | {name: of(name) for name in COMPARED}


def differences(theirs: dict[str, str]) -> str:
    """Return which of a node's versions are others than this machine's, and those; "" where none is."""
    mine = versions()
    return ", ".join(
        f"{name} {theirs[name]} (here {mine[name]})" for name in mine if theirs[name] != mine[name]
    )


def _refuse_other_versions() -> None:
    for node, theirs in ask_nodes(versions).items():
        other = differences(theirs)
        if other.startswith("Python"):
            raise ClusterError(
                f"{node} has {other}: install that Python there, remove ~/latentune/.venv, and "
                "`ray up ray_cluster.yaml` again makes it anew"
            )
        if other:
            raise ClusterError(
                f"{node} has {other}: `ray up ray_cluster.yaml` again sets each node up from "
                "requirements.lock"
            )


def present_nodes() -> tuple[Node, ...]:
    """Return the nodes that are alive."""
    resources = (node["Resources"] for node in ray.nodes() if node["Alive"])
    return tuple(Node(r.get("CPU", 0.0), r.get("GPU", 0.0)) for r in resources)


def _promised() -> tuple[Node, ...]:
    """Return all nodes that the autoscaler may start; none where this machine is no cluster's head.

    Raises ClusterError where LATENTUNE_PROMISED does not say how many there are, and what each has.
    """
    if said := os.environ.get(PROMISED):
        numbers = re.fullmatch(r"(\d+)x([\d.]+):([\d.]+)", said)
        try:
            count, cpus, gpus = map(float, numbers.groups() if numbers else ())
        except ValueError:
            raise ClusterError(f"{PROMISED} is {said!r}; it must be NODESxCPUS:GPUS, as 8x4:1") from None
        return (Node(0, 0), *[Node(cpus, gpus)] * int(count))
    path = AUTOSCALING_CONFIG.expanduser()
    if not path.exists():
        return ()
    config = yaml.safe_load(path.read_text())
    if config["provider"]["type"] == "local":
        return ()  # a fixed list of machines: those that are off now may stay off
    head = config.get("head_node_type")
    nodes = []
    for name, kind in config["available_node_types"].items():
        resources = kind.get("resources", {})
        count = 1 if name == head else kind.get("max_workers", config["max_workers"])
        nodes += [Node(float(resources.get("CPU", 0)), float(resources.get("GPU", 0)))] * count
    return tuple(nodes)


def _times(node: Node, cpus: float, gpus: float) -> int:
    """Return how often (cpus, gpus) fit into a node, counted in ten-thousandths as Ray does."""
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
    """Return the line of an error's message that gives the reason."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if "Version mismatch" in str(error):
        return "; ".join(lines[:6])
    token = next((line for line in lines if "token" in line.lower()), None)
    return token or (lines[0] if lines else type(error).__name__)
