"""A sweep as a RayJob of Kubernetes: `kuberay.yaml`'s cluster for this command alone, gone when it ends."""

import posixpath
import re
import secrets
import shlex
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from cluster.errors import ClusterError

NAME = "kuberay"  # in place of a cluster's file
FOLDER = "/home/ray/latentune"  # of the image, as `kuberay.yaml` says
LONGEST = 47  # letters of a RayJob's name: the operator adds its own


def ray_job(name: str, words: Sequence[str], results: str) -> list[dict[str, Any]]:
    """Return the volume claim and the RayJob that run a command, for `kubectl apply`.

    Its name is new each time: a RayJob that has ended does not run again. The job is submitted from a
    container of the head's pod, and the operator asks the dashboard how it stands, with the cluster's token.
    Raises ClusterError where the results would go with the pods.
    """
    claim, cluster = yaml.safe_load_all(Path(__file__).with_name("kuberay.yaml").read_text())
    head = cluster["spec"]["headGroupSpec"]
    mounts = [mount["mountPath"] for mount in head["template"]["spec"]["containers"][0]["volumeMounts"]]
    if not any(PurePosixPath(posixpath.normpath(results)).is_relative_to(mount) for mount in mounts):
        raise ClusterError(
            f"On Kubernetes results go with the pods: --results {mounts[0]}/results keeps them"
        )
    head["rayStartParams"]["dashboard-host"] = "0.0.0.0"
    suffix = f"-{secrets.token_hex(2)}"
    plain = "latentune-" + re.sub("[^a-z0-9]+", "-", name.lower()).strip("-")
    job = {
        "apiVersion": cluster["apiVersion"],
        "kind": "RayJob",
        "metadata": {"name": plain[: LONGEST - len(suffix)] + suffix},
        "spec": {
            # The operator writes it behind `ray job submit … --` for Bash: one command, no `cd … &&`.
            "entrypoint": f"env -C {FOLDER} {shlex.join(words)}",
            "submissionMode": "SidecarMode",
            "shutdownAfterJobFinishes": True,
            "rayClusterSpec": cluster["spec"],
        },
    }
    return [claim, job]


def manifest(name: str, words: Sequence[str], results: str) -> str:
    """Return `ray_job` as `kubectl apply -f -` reads it."""
    return str(yaml.safe_dump_all(ray_job(name, words, results), sort_keys=False, width=10**6))
