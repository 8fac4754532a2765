"""The head of a cluster as the laptop sees it: Ray's own commands over SSH; one sentence where they fail."""

import contextlib
import json
import os
import shlex
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from cluster.errors import ClusterError
from cluster.runs import HOME, MARK

CODE = Path(__file__).resolve().parents[1]  # what runs here is what runs there
SSH_SECONDS = 10  # in which the head answers, or is told to be unreachable
STATE = "/tmp/ray/cluster-{}.state"  # what `ray up` keeps of machines that it does not make


class Head:
    """The head of the cluster of a YAML file. Raises ClusterError where the file can't be used."""

    def __init__(self, path: str):
        self.path = path
        try:
            config = yaml.safe_load(Path(path).expanduser().read_text())
        except OSError as error:
            raise ClusterError(f"--on {path}: it can't be read ({error.strerror})") from error
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise ClusterError(f"--on {path}: it is no YAML ({str(error).splitlines()[0]})") from error
        if not (isinstance(config, dict) and {"cluster_name", "provider", "auth"} <= config.keys()):
            raise ClusterError(
                f"--on {path}: it is no file of `ray up`, which has cluster_name, provider and auth"
            )
        mounts = config.get("file_mounts") or {}
        config["file_mounts"] = {there: str(CODE / Path(here).expanduser()) for there, here in mounts.items()}
        if missing := [here for here in config["file_mounts"].values() if not Path(here).exists()]:
            raise ClusterError(f"--on {path}: it sends {missing[0]}, which is not there")
        if f"{HOME}/cluster" not in mounts:
            raise ClusterError(f"--on {path}: its file_mounts lack {HOME}/cluster, the code that runs there")
        self.config, self.name = config, config["cluster_name"]

    @contextlib.contextmanager
    def file(self, **changes: Any) -> Iterator[str]:
        """Write the configuration, with changes, for one call of Ray; yield the file's name."""
        with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
            json.dump({**self.config, **changes}, file)  # YAML has JSON in it
            file.flush()
            yield file.name

    def reach(self) -> None:
        """Raise ClusterError where the cluster is not up, or its head does not answer: Ray waits minutes.

        That one's own machines are up, `ray up` notes in /tmp of the machine where it was typed, which a
        reboot clears: where that is not noted here, the head is asked.
        """
        from ray.autoscaler import sdk

        try:
            with self.file() as file:
                address = quietly(lambda: sdk.get_head_node_ip(file), self.not_up)
        except ClusterError:
            own = self.config["provider"]
            if "head_ip" not in own:
                raise
            self._refuse_silent(own.get("external_head_ip") or own["head_ip"])
            quietly(self._note_that_it_is_up, self.not_up)
        else:
            self._refuse_silent(address)

    def _note_that_it_is_up(self) -> None:
        """Note for Ray's commands that the head runs. Raises click's exception where no Ray runs there."""
        from ray.autoscaler._private.local.node_provider import (
            LocalNodeProvider,
            record_local_head_state_if_needed,
        )

        own, auth = self.config["provider"], self.config["auth"]
        provider = LocalNodeProvider(own, self.name)
        inside = own.get("use_internal_ips", False), self.config.get("docker")
        runner = provider.get_command_runner("", own["head_ip"], auth, self.name, subprocess, *inside)
        runner.run('test -n "$RAY_ADDRESS"')  # see environment.sh
        record_local_head_state_if_needed(provider)

    def _refuse_silent(self, address: str) -> None:
        """Raise ClusterError where nothing answers at the head's SSH port, if it can be asked."""
        if self.config["auth"].get("ssh_proxy_command"):
            return
        asked = subprocess.run(["ssh", "-G", address], capture_output=True, text=True)
        known = dict(line.split(None, 1) for line in asked.stdout.splitlines() if " " in line)
        if "proxyjump" in known or "proxycommand" in known:
            return
        where = known.get("hostname", address), int(known.get("port", 22))
        try:
            socket.create_connection(where, timeout=SSH_SECONDS).close()
        except OSError as error:
            why = error.strerror or error
            raise ClusterError(
                f"The head of cluster {self.name} at {address} does not answer ({why})"
            ) from error

    @property
    def goes(self) -> bool:
        """Whether the head's disk ends with the cluster, as on clouds that aren't told to keep it."""
        provider = self.config["provider"]
        return provider["type"] != "local" and not provider.get("cache_stopped_nodes")

    @property
    def not_up(self) -> str:
        """What is said of a cluster that is not up."""
        return f"Cluster {self.name} is not up: ray up {shlex.quote(self.path)}"

    def run(self, command: str, failed: str) -> str:
        """Run a shell command on the head; return what it printed. Raises ClusterError: `failed`, and why."""
        from ray.autoscaler import sdk

        with self.file() as file:
            printed = quietly(lambda: sdk.run_on_cluster(file, cmd=command, with_output=True), failed)
        return printed.decode(errors="replace") if isinstance(printed, bytes) else printed or ""

    def order(self, **words: Any) -> dict[str, Any]:
        """Have `cluster.runs` do something; return what it tells. Raises ClusterError with its sentence."""
        printed = self.run(order(words), f"Cluster {self.name} does not run what it is told")
        return dict(item for told in told_in(printed.splitlines()) for item in told.items())

    def send_code(self) -> None:
        """Send the file mounts, as `ray rsync_up` does."""
        self._copy(None, None, False, "The code can't be sent")

    def send(self, source: str, target: str, progress: Callable[[int], object] = lambda files: None) -> None:
        """Send a file, or a folder whose name ends in "/"; tell `progress` how many files have gone."""
        self._copy(source, target, False, f"{source} can't be sent", progress)

    def fetch(self, source: str, target: str, without: list[str]) -> None:
        """Fetch a folder, whose name ends in "/", but for what is named `without`."""
        self._copy(source, target, True, f"{source} can't be fetched", rsync_exclude=without)

    def _copy(
        self,
        source: str | None,
        target: str | None,
        down: bool,
        failed: str,
        progress: Callable[[int], object] = lambda files: None,
        **changes: Any,
    ) -> None:
        from ray.autoscaler import sdk

        with self.file(**changes) as file:
            quietly(lambda: sdk.rsync(file, source=source, target=target, down=down), failed, progress)


def quietly(
    call: Callable[[], Any], failed: str, progress: Callable[[int], object] = lambda lines: None
) -> Any:
    """Call Ray's SDK, which prints, as do ssh and rsync; tell `progress` how many lines they have printed.

    Raises ClusterError with `failed` and the reason that they gave.
    """
    import click

    sys.stdout.flush()
    with tempfile.TemporaryFile("w+") as printed, contextlib.ExitStack() as stack:
        kept = [os.dup(number) for number in (1, 2)]
        done = threading.Event()

        def restore() -> None:
            sys.stdout.flush()
            for number, old in enumerate(kept, 1):
                os.dup2(old, number)

        def watch() -> None:
            while not done.wait(0.5):
                progress(os.pread(printed.fileno(), 2**30, 0).count(b"\n"))

        stack.callback(restore)
        for number in (1, 2):
            os.dup2(printed.fileno(), number)
        threading.Thread(target=watch, daemon=True).start()
        try:
            return call()
        except (RuntimeError, ValueError, OSError, SystemExit, click.ClickException) as error:
            sys.stdout.flush()
            printed.seek(0)
            said = [line.strip() for line in printed if line.strip() and "Shared connection" not in line]
            raise ClusterError(f"{failed} ({reason(said) or str(error).splitlines()[0]})") from error
        finally:
            done.set()


def reason(lines: list[str]) -> str:
    """Return the line of what ssh or rsync printed that says why they failed."""
    told = [line for line in lines if line.startswith(("ssh:", "rsync", "Permission", "bash:", "Host key"))]
    return next(iter(told), "")


def order(words: Mapping[str, Any]) -> str:
    """Return the shell command that has the head's `cluster.runs` do what `words` say."""
    return f"cd {HOME} && python -m cluster.runs {shlex.quote(json.dumps(words))}"


def told_in(lines: list[str]) -> list[dict[str, Any]]:
    """Return what `cluster.runs` told among other lines. Raises ClusterError where it told an error."""
    found = [json.loads(line.partition(MARK)[2]) for line in lines if line.startswith(MARK)]
    if errors := [told["error"] for told in found if "error" in told]:
        raise ClusterError(errors[0])
    return found


def cluster_up_here() -> str | None:
    """Return the name of the cluster of ./ray_cluster.yaml where it is up, as far as that is known here."""
    with contextlib.suppress(OSError, ValueError, TypeError, AttributeError, KeyError, yaml.YAMLError):
        name = str(yaml.safe_load(Path("ray_cluster.yaml").read_text())["cluster_name"])
        machines = json.loads(Path(STATE.format(name)).read_text()).values()
        if any(m["state"] == "running" and m["tags"].get("ray-node-type") == "head" for m in machines):
            return name
    return None
