"""A sweep as a RayJob of Kubernetes: `kuberay.yaml`'s cluster for this command alone, gone when it ends."""

import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from cluster.errors import ClusterError

NAME = "kuberay"  # in place of a cluster's file
FOLDER = "/home/ray/latentune"  # of the image, as `kuberay.yaml` says
LONGEST = 40  # letters of a resource's name: the operator adds its own


def ray_job(name: str, words: Sequence[str]) -> list[dict[str, Any]]:
    """Return the volume claim and the RayJob that run a command, for `kubectl apply`.

    The job is submitted from a container of the head's pod, since its dashboard listens on loopback alone.
    Raises ClusterError where the results would go with the pods.
    """
    kept = [word for word in words if word.partition("=")[0] in ("--results", "--storage")]
    if not kept:
        raise ClusterError("On Kubernetes results go with the pods: --results /data/results keeps them")
    claim, cluster = yaml.safe_load_all(Path(__file__).with_name("kuberay.yaml").read_text())
    plain = re.sub("[^a-z0-9]+", "-", name.lower())[:LONGEST].strip("-")
    job = {
        "apiVersion": cluster["apiVersion"],
        "kind": "RayJob",
        "metadata": {"name": f"latentune-{plain}"},
        "spec": {
            "entrypoint": f"cd {FOLDER} && {shlex.join(words)}",
            "submissionMode": "SidecarMode",
            "shutdownAfterJobFinishes": True,
            "rayClusterSpec": cluster["spec"],
        },
    }
    return [claim, job]


def manifest(name: str, words: Sequence[str]) -> str:
    """Return `ray_job` as `kubectl apply -f -` reads it."""
    return str(yaml.safe_dump_all(ray_job(name, words), sort_keys=False, width=10**6))
