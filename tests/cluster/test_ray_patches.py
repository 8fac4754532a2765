"""Each workaround of Ray works and is still needed: such a test fails once upstream has mended the fault."""

import inspect
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import Mock

import pytest
import ray
from ray._private.utils import validate_socket_filepath
from ray.exceptions import OutOfMemoryError, RayActorError

from cluster import ray_patches
from cluster.ray_patches import LONGEST_TEMPORARY_FOLDER, KilledForMemory, temporary_folder
from tests.fixtures.waits import PATIENCE

LONG = "a-folder-whose-name-is-longer-than-a-socket-s-path-may-be"

# What Ray does by itself. SIGTERM goes to a copy of the process, for Ray would end this one.
PLAIN = """
import os, signal, stat, time
from pathlib import Path
import ray

ray.init(address="local", include_dashboard=False, num_cpus=1)
token = Path.home() / ".ray/auth_token"
print("token", oct(stat.S_IMODE(token.stat().st_mode)), flush=True)

@ray.remote(num_cpus=0)
def sees():
    import importlib.util
    return importlib.util.find_spec("only_here") is not None

print("workers see the folder:", ray.get(sees.remote()), flush=True)
core_worker = ray._private.worker.global_worker.core_worker
child = os.fork()
if child == 0:
    try:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(60)
    finally:
        os._exit(0)
os.waitpid(child, 0)
ray.shutdown()
print("shut down", flush=True)
core_worker.get_worker_id()
print("answered", flush=True)
"""

# What it does for us, on a machine whose HOME cannot be written and whose TMPDIR is long.
OURS = """
import gc, os, signal, time
import ray
from cluster.connect import connect

class Garbage:
    def __init__(self):
        self.itself = self

    def __del__(self):
        print("collected while Ray runs:", ray.is_initialized(), flush=True)

@ray.remote(num_cpus=0)
def answer():
    import importlib.util
    return 42, importlib.util.find_spec("only_here") is not None

joined = connect()
print(joined.describe(1, 0), ray.get(answer.remote()), flush=True)
print("session", ray._private.worker.global_worker.node.get_session_dir_path(), flush=True)
try:
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(60)
except KeyboardInterrupt:
    print("interrupted", flush=True)
gc.disable()
Garbage()
"""


def run(program: str, folder: Path, **environment: str) -> subprocess.CompletedProcess:
    """Run a program as a console script is run in a folder: it does not look for modules there."""
    (folder / "only_here.py").touch()
    without = {"RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", "RAY_ADDRESS", "RAY_TMPDIR"}
    inherited = {name: value for name, value in os.environ.items() if name not in without}
    return subprocess.run(
        [sys.executable, "-P", "-c", program],
        cwd=folder,
        env=inherited | environment,
        umask=0o022,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    return run(PLAIN, tmp_path_factory.mktemp("folder"), HOME=str(tmp_path_factory.mktemp("home")))


@pytest.fixture(scope="module")
def ours(tmp_path_factory):
    temporary = tmp_path_factory.mktemp(LONG)
    return run(OURS, tmp_path_factory.mktemp("folder"), HOME="/proc/nowhere", TMPDIR=str(temporary))


class TestAnEmbeddedRay:
    def test_starts_where_home_cannot_be_written_and_tmpdir_is_long(self, ours):
        assert "Embedded Ray on this machine: 1 node" in ours.stdout, ours.stderr
        assert "(42, " in ours.stdout
        assert "session /tmp/ray/session_" in ours.stdout

    def test_has_workers_that_look_for_modules_where_the_driver_does(self, ours):
        assert "(42, False)" in ours.stdout

    def test_by_itself_still_has_workers_that_look_in_the_driver_s_folder_too(self, plain):
        assert "workers see the folder: True" in plain.stdout, plain.stderr

    def test_takes_sigterm_as_ctrl_c(self, ours):
        assert "interrupted" in ours.stdout
        assert "SIGTERM" not in ours.stderr
        assert ours.returncode == 0

    def test_ends_after_the_garbage_is_collected(self, ours):
        """A reference of Ray in it, collected while Ray ends, could end the process with exit code 1."""
        assert "collected while Ray runs: True" in ours.stdout

    def test_by_itself_still_writes_its_token_for_all_to_read(self, plain):
        assert "token 0o644" in plain.stdout, plain.stderr

    def test_by_itself_still_prints_stacks_on_sigterm(self, plain):
        assert "*** SIGTERM received" in plain.stderr

    def test_by_itself_still_ends_the_process_that_asks_it_too_late(self, plain):
        assert plain.stdout.endswith("shut down\n") and plain.returncode == 1


def test_a_token_of_the_user_s_is_kept(monkeypatch):
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", "/somewhere/token")
    monkeypatch.delenv("RAY_AUTH_TOKEN", raising=False)
    ray_patches.keep_token_private()
    assert "RAY_AUTH_TOKEN" not in os.environ


def test_tune_says_nothing_of_a_trial_that_ends_without_a_result_here(capsys):
    from ray.tune.progress_reporter import TrialProgressCallback

    trial = Mock(last_result={})
    TrialProgressCallback().on_trial_complete(0, [], trial)
    assert "completed. Last result" in capsys.readouterr().out  # it still needs to be silenced
    ray_patches.silent_progress().on_trial_complete(0, [], trial)
    assert capsys.readouterr().out == ""


def fail_with(error: Exception) -> None:
    """Tell Tune's actor manager that a trial's task has failed with an error."""
    from ray.air.execution._internal.actor_manager import RayActorManager

    manager = SimpleNamespace(_failed_actor_ids=set(), _cleanup_actor=lambda tracked_actor: None)
    actor = SimpleNamespace(actor_id=1, _on_error=None)
    RayActorManager._actor_task_failed(manager, SimpleNamespace(_tracked_actor=actor, _on_error=None), error)


def test_a_lack_of_memory_is_an_actor_s_error():
    ray_patches.apply()
    made = ray._private.serialization.OutOfMemoryError("the node ran low on memory")
    assert isinstance(made, KilledForMemory) and isinstance(made, RayActorError)
    assert "the node ran low on memory" in str(made)
    fail_with(made)


def test_tune_still_ends_the_sweep_on_ray_s_own_error_for_a_lack_of_memory():
    with pytest.raises(RuntimeError, match="Caught unexpected exception"):
        fail_with(OutOfMemoryError("the node ran low on memory"))


@pytest.fixture
def slow_ray(monkeypatch):
    """A Ray whose processes do not start in time, for the first `times` times."""
    slow = SimpleNamespace(times=0, words="The current node timed out during startup.", attempts=0)

    def init(**arguments):
        slow.attempts += 1
        if slow.attempts <= slow.times:
            raise Exception(slow.words)

    monkeypatch.setattr(ray, "init", init)
    return slow


@pytest.mark.parametrize(("times", "attempts"), [(0, 1), (2, 3)])
def test_a_ray_that_starts_slowly_is_started_again(slow_ray, times, attempts):
    slow_ray.times = times
    ray_patches.start_patiently()
    assert slow_ray.attempts == attempts


@pytest.mark.parametrize(("words", "attempts"), [("timed out during startup", 3), ("no such file", 1)])
def test_a_ray_that_does_not_start_is_told(slow_ray, words, attempts):
    slow_ray.times, slow_ray.words = 9, words
    with pytest.raises(Exception, match=words):
        ray_patches.start_patiently()
    assert slow_ray.attempts == attempts


def test_ray_s_patience_still_cannot_be_set():
    from ray._private.node import Node

    assert "raylet_start_wait_time_s = 30\n" in inspect.getsource(Node.__init__)


def test_a_python_whose_path_has_a_space_is_quoted(monkeypatch):
    assert ray_patches.quoted_python() is None or " " in sys.executable
    monkeypatch.setattr(sys, "executable", "/my venv/bin/python")
    assert ray_patches.quoted_python() == {"py_executable": "'/my venv/bin/python'"}


def test_ray_still_does_not_quote_python_s_path(monkeypatch):
    from ray._private.runtime_env.context import RuntimeEnvContext
    from ray.core.generated.common_pb2 import Language

    commands = []
    monkeypatch.setattr(os, "execvp", lambda file, args: commands.append(args))
    RuntimeEnvContext(py_executable="/my venv/bin/python").exec_worker(["worker.py"], Language.PYTHON)
    assert "exec /my venv/bin/python worker.py" in commands[0][-1]


@pytest.fixture
def folders(tmp_path, monkeypatch):
    """Neither variable is set; tests set them."""
    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    monkeypatch.delenv("TMPDIR", raising=False)
    return monkeypatch


def test_ray_s_folder_is_its_own_choice_where_that_will_do(folders, tmp_path):
    assert temporary_folder() is None
    short = tmp_path.parents[-2]  # /tmp, or where else pytest's folder is
    folders.setenv("TMPDIR", str(short))
    assert temporary_folder() is None


@pytest.mark.parametrize("folder", [f"/tmp/{LONG}", "/nonexistent"])
def test_ray_s_folder_is_tmp_where_tmpdir_will_not_do(folders, folder):
    folders.setenv("TMPDIR", folder)
    assert temporary_folder() == "/tmp/ray"


def test_ray_s_folder_may_be_as_long_as_its_sockets_allow(folders, monkeypatch):
    monkeypatch.setattr(ray_patches, "_can_be_written", lambda folder: True)
    session = "ray/session_2026-11-29_02-18-42_123456_1234567/sockets/plasma_store"
    longest = f"/{'a' * (LONGEST_TEMPORARY_FOLDER - 1)}"
    folders.setenv("TMPDIR", longest)
    assert temporary_folder() is None
    validate_socket_filepath(f"{longest}/{session}")
    folders.setenv("TMPDIR", longest + "a")
    assert temporary_folder() == "/tmp/ray"
    with pytest.raises(OSError, match="AF_UNIX path length"):
        validate_socket_filepath(f"{longest}a/{session}")


@pytest.mark.parametrize(
    ("folder", "words"),
    [(f"/tmp/{LONG}", "its path may have at most"), ("/nonexistent", "nothing can be written there")],
)
def test_a_choice_of_the_user_s_that_will_not_do_is_told(folders, folder, words):
    folders.setenv("RAY_TMPDIR", folder)
    with pytest.raises(OSError, match=f"RAY_TMPDIR is {folder}.* {words}"):
        temporary_folder()


def test_no_folder_at_all_is_told(folders, monkeypatch):
    monkeypatch.setattr(ray_patches, "_can_be_written", lambda folder: False)
    with pytest.raises(OSError, match="none of /tmp, /var/tmp, /dev/shm will do: name one with RAY_TMPDIR"):
        temporary_folder()


def test_ray_still_takes_tmpdir_however_long(folders):
    from ray._common.utils import get_default_ray_temp_dir

    folders.setenv("TMPDIR", f"/tmp/{LONG}")
    assert get_default_ray_temp_dir() == f"/tmp/{LONG}/ray"


def test_tune_still_prints_at_verbosity_0(capsys):
    from ray.tune.experimental.output import AirVerbosity, TuneTerminalReporter

    reporter = TuneTerminalReporter(AirVerbosity.SILENT, num_samples=1)
    reporter.experiment_started("name", "/results", "searcher", "scheduler", 1)
    assert "View detailed results here" in capsys.readouterr().out


def test_a_user_s_options_stay_and_those_that_a_sweep_needs_are_set(monkeypatch):
    monkeypatch.setenv("RAY_memory_monitor_refresh_ms", "30")
    monkeypatch.setenv("TUNE_DISABLE_STRICT_METRIC_CHECKING", "0")
    ray_patches.apply()
    assert os.environ["RAY_memory_monitor_refresh_ms"] == "30"  # noqa: SIM112  Ray's name
    assert os.environ["TUNE_DISABLE_STRICT_METRIC_CHECKING"] == "1"


def test_tune_still_knows_nothing_of_nodes_that_are_to_go():
    import ray.tune.execution.tune_controller as controller

    assert "drain" not in inspect.getsource(controller).lower()
    assert "drain" not in inspect.getsource(ray._private.state.GlobalState.node_table).lower()
    assert "get_draining_nodes" in dir(ray._private.state.GlobalState)
