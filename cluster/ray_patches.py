"""Every workaround of a fault in Ray or MLflow, one entry each; nothing else of the project knows of them.

An entry's docstring names the fault, the version in which we saw it, and the thread upstream if there is one.
`tests/cluster/test_ray_patches.py` has a test for each that fails as soon as upstream no longer needs it:
then delete the entry. Options that Ray and Tune document are no workarounds: DEFAULTS, NEEDED.
"""

import atexit
import gc
import logging
import os
import secrets
import shlex
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import ray
from ray.job_config import JobConfig

# Options of Ray and Tune that have no argument: those that a user may set otherwise, and what a sweep needs.
DEFAULTS = {
    # Where memory runs out, Ray ends the trial that began its epoch last, whatever it uses; the kernel ends
    # the one that uses most, and trials before the driver (oom_score_adj).
    "RAY_memory_monitor_refresh_ms": "0",
}
NEEDED = {
    # Tune's own result files, which the ledger replaces, would slow each report down.
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    # A trial that diverged lacks scores. Tune would end the sweep for that; the searcher knows what it means.
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",
    # `cluster.interrupts` answers Ctrl-C, and says what happens next.
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
}
ATTEMPTS = 3  # to start an embedded Ray
# A Unix socket's path has at most 107 bytes (103 on macOS), of which Ray's own part takes 68:
# "/ray/session_2026-11-29_02-18-42_123456_1234567/sockets/plasma_store".
LONGEST_TEMPORARY_FOLDER = 35 if sys.platform == "darwin" else 39


def apply() -> None:
    """Set and patch what a process needs before it starts Ray, joins it, or calls Tune. It is idempotent."""
    for name, value in DEFAULTS.items():
        os.environ.setdefault(name, value)
    os.environ |= NEEDED
    silence_chatter()
    fail_trials_for_memory()
    collect_garbage_before_shutdown()


def silence_chatter() -> None:
    """Print neither Ray's nor Tune's own messages: what a person needs to know, the sweep says.

    Tune's new output prints where its results are even at verbosity 0 (Ray 2.60.0; it became the default with
    ray#35129), so the old one is chosen, which is silent.
    """
    os.environ["RAY_AIR_NEW_OUTPUT"] = "0"
    for name in ("ray", "ray.train"):
        logging.getLogger(name).setLevel(logging.ERROR)
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)  # a trial's error is in the ledger and is told


def silent_progress() -> Any:
    """Return a callback that stands where Tune's own progress would, and prints nothing.

    Tune's old output says "Trial … completed. Last result:" at verbosity 0, too, of a trial that ends without
    a result in this run, as those that a resumed sweep stops do (Ray 2.60.0; no thread upstream found).
    """
    from ray.tune.progress_reporter import TrialProgressCallback  # the laptop's commands need no Tune

    progress = TrialProgressCallback()
    vars(progress)["_print"] = lambda text: None
    return progress


class KilledForMemory(ray.exceptions.RayActorError):
    """Ray ended a trial's process because its machine ran out of memory."""

    def __init__(self, message: str):
        super().__init__(error_msg=message)


def fail_trials_for_memory() -> None:
    """Make a trial that Ray ends for lack of memory fail as any other does.

    Ray's OutOfMemoryError is no RayActorError, and Tune's actor manager ends the whole sweep on it with
    "Caught unexpected exception" (Ray 2.60.0; no thread upstream found).
    """
    from ray._private import serialization

    vars(serialization)["OutOfMemoryError"] = KilledForMemory


def collect_garbage_before_shutdown() -> None:
    """Collect garbage at exit before Ray ends.

    A reference of Ray in it, collected by another thread while Ray ends, calls a core worker that is gone,
    and that ends the process with exit code 1 on the spot (Ray 2.60.0; ray#19115, ray#65184 for one call).
    """
    atexit.unregister(gc.collect)
    atexit.register(gc.collect)  # handlers run in reverse order: this one before Ray's own


def draining_nodes() -> dict[str, float]:
    """Return the ids of the nodes that are to be taken away and the seconds left, 0 without a deadline.

    It is what Ray was told by its drain protocol, by the clock of whoever told it.
    Ray tells its own Train of them alone (`ray.train.get_preemption_info`): neither `ray.nodes()` nor Tune
    knows (Ray 2.60.0; no thread upstream found).
    """
    found = ray._private.state.state.get_draining_nodes()
    return {node: max(0.0, deadline / 1000 - time.time()) for node, deadline in found.items()}


def node_of(actor: ray.actor.ActorHandle) -> str:
    """Return the id of the node that an actor is on; "" before it has one.

    The documented `ray.util.state.get_actor` asks the dashboard, which need not run (Ray 2.60.0).
    """
    found: dict[str, Any] = ray._private.state.actors(actor._actor_id.hex())
    return str(found.get("Address", {}).get("NodeID", ""))


def start_patiently(**arguments: Any) -> None:
    """Start an embedded Ray by `ray.init`, again where its processes were too slow.

    Ray gives them 30 s, which cannot be set, and a machine that is busy with other work takes longer
    (Ray 2.60.0; no thread upstream found). What a failed attempt has started ends with this process.
    """
    for attempt in range(1, ATTEMPTS + 1):
        try:
            ray.init(
                address="local",
                include_dashboard=False,
                runtime_env=quoted_python(),
                job_config=drivers_path(),
                **arguments,
            )
            return
        except Exception as error:  # Ray raises Exception itself
            if "timed out during startup" not in str(error) or attempt == ATTEMPTS:
                raise


class _SeenByDriver(list):
    """Folders for the workers' `sys.path`, of which those are left out where the driver finds no modules."""

    def extend(self, folders: Iterable[str]) -> None:
        """Add the folders that the driver's own path has."""
        own = {os.path.abspath(folder) for folder in sys.path}
        super().extend(folder for folder in folders if os.path.abspath(folder) in own)


def drivers_path() -> JobConfig:
    """Return the configuration by which workers look for modules where the driver does.

    Ray puts the folder where the driver was started before all others on the workers' path, also where the
    driver is a console script, which does not look there: a folder named `cluster` or `analysis` of the
    user's would hide ours (Ray 2.60.0; no thread upstream found).
    """
    config = JobConfig()
    config._py_driver_sys_path = _SeenByDriver()
    return config


def quoted_python() -> dict[str, str] | None:
    """Return the runtime environment that an embedded Ray needs where this Python's path has a space in it.

    Ray hands the path to a shell without quoting it, and no worker would ever start (Ray 2.60.0; ray#24574
    was mended for Windows alone).
    """
    quoted = shlex.quote(sys.executable)
    return None if quoted == sys.executable else {"py_executable": quoted}


def keep_token_private() -> None:
    """Give an embedded Ray a token of its own that no other user can read, unless the user has chosen one.

    Ray would write it into ~/.ray/auth_token, readable by all, or fail where HOME cannot be written
    (Ray 2.60.0; no thread upstream found). In the environment only this user's processes can read it.
    """
    if os.environ.keys() & {"RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"}:
        return
    from ray._private.authentication.authentication_token_setup import AuthenticationTokenLoader

    os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
    AuthenticationTokenLoader.instance().reset_cache()  # importing Ray has looked for one already


def temporary_folder() -> str | None:
    """Return the folder for an embedded Ray's sockets and logs, where Ray's own choice would fail.

    Ray takes TMPDIR however long it is, and the paths of its sockets then exceed what the kernel allows:
    "AF_UNIX path length cannot exceed 107 bytes" (Ray 2.60.0, ray#7724). Raises OSError where
    RAY_TMPDIR, which is a user's own choice, is too long or cannot be written, and where no folder will do.
    """
    chosen = os.environ.get("RAY_TMPDIR")
    if chosen is not None:
        if len(os.fsencode(chosen)) > LONGEST_TEMPORARY_FOLDER:
            raise OSError(
                f"RAY_TMPDIR is {chosen}; Ray's sockets are below it, and so its path may have at most "
                f"{LONGEST_TEMPORARY_FOLDER} bytes"
            )
        if not _can_be_written(chosen):
            raise OSError(f"RAY_TMPDIR is {chosen}, and nothing can be written there")
        return None
    usual = [os.environ.get("TMPDIR", "/tmp"), "/tmp", "/var/tmp", "/dev/shm"]
    for folder in usual:
        if len(os.fsencode(folder)) <= LONGEST_TEMPORARY_FOLDER and _can_be_written(folder):
            return None if folder == usual[0] else f"{folder}/ray"
    raise OSError(
        f"Its sockets need a folder, and none of {', '.join(dict.fromkeys(usual))} will do: name one with "
        f"RAY_TMPDIR that can be written, and whose path has at most {LONGEST_TEMPORARY_FOLDER} bytes"
    )


def _can_be_written(folder: str) -> bool:
    """Whether Ray can make its folder `ray` there, or write into the one there is."""
    ray_s = Path(folder, "ray")
    place = ray_s if ray_s.exists() else Path(folder)
    return place.is_dir() and os.access(place, os.W_OK | os.X_OK)
