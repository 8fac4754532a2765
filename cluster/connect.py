"""Join a running Ray cluster, or start an embedded one with what this machine has."""

import logging
import os
from dataclasses import dataclass
from types import ModuleType

import ray

logger = logging.getLogger(__name__)


class ClusterError(RuntimeError):
    """The cluster cannot be joined, or can never run what is asked of it."""


@dataclass(frozen=True)
class Cluster:
    """What was joined: its address, or None for an embedded one, and what it has in all."""

    address: str | None
    nodes: int
    cpus: float
    gpus: float

    def describe(self, cpus_per_trial: float, gpus_per_trial: float) -> str:
        """Say in one line what was joined and what a trial gets."""
        where = f"Ray cluster at {self.address}" if self.address else "Embedded Ray on this machine"
        trial = f"{cpus_per_trial:g} CPU" + (f" and {gpus_per_trial:g} GPU" if gpus_per_trial else "")
        slots = self.slots(cpus_per_trial, gpus_per_trial)
        return (
            f"{where}: {self.nodes} node{'s' * (self.nodes > 1)}, {self.cpus:g} CPUs, {self.gpus:g} GPUs; "
            f"a trial gets {trial}, {slots} run side by side"
        )

    def slots(self, cpus_per_trial: float, gpus_per_trial: float) -> int:
        """How many trials fit at once, as far as totals tell."""
        by_cpu = self.cpus // cpus_per_trial if cpus_per_trial else float("inf")
        by_gpu = self.gpus // gpus_per_trial if gpus_per_trial else float("inf")
        return int(min(by_cpu, by_gpu))


def connect(address: str | None = None, packages: list[ModuleType] | None = None) -> Cluster:
    """Join the cluster at `address` or RAY_ADDRESS, else start an embedded one.

    A joined cluster gets the code of `packages` (its nodes need the pinned environment, not this checkout).
    Raises ClusterError where nothing answers at the address.
    """
    address = address or os.environ.get("RAY_ADDRESS")
    # Tune's and Ray's own chatter: what a person needs to know, the sweep says.
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    for name in ("ray", "ray.tune", "ray.train"):
        logging.getLogger(name).setLevel(logging.ERROR)
    quiet = {"logging_level": logging.ERROR, "log_to_driver": False, "ignore_reinit_error": True}
    if address is None or address == "local":
        ray.init(address="local", include_dashboard=False, **quiet)
        address = None
    else:
        runtime_env = {"py_modules": packages} if packages else None
        try:
            ray.init(address=address, runtime_env=runtime_env, **quiet)
        except (ConnectionError, ValueError, RuntimeError) as error:
            reason = str(error).splitlines()[0]
            raise ClusterError(f"No Ray cluster answers at {address!r} ({reason})") from error
    resources = ray.cluster_resources()
    nodes = sum(node["Alive"] for node in ray.nodes())
    return Cluster(address, nodes, resources.get("CPU", 0.0), resources.get("GPU", 0.0))
