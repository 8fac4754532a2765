"""The MLflow server: healthy or a sentence, gone as a whole, and nothing is lost while it is away."""

import contextlib
import os
import re
import signal
import socket
import stat
import subprocess
import sys
import threading
import urllib.request
from pathlib import Path
from types import SimpleNamespace

import pytest
from mlflow import MlflowClient

from cluster import tracking
from cluster.tracking import TrackingConfig, is_healthy, main
from searchers.record.ledger import Ledger
from searchers.record.ledger_callback import LedgerCallback
from searchers.record.mlflow_exporter import MlflowExporter
from searchers.record.schema import TRIAL_TAG
from searchers.record.sweep_record import SweepRecord
from tests.fixtures.waits import PATIENCE, wait_until

REPOSITORY = Path(__file__).resolve().parents[2]


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def command(folder: Path, port: int, *flags: str) -> list[str]:
    return [sys.executable, "-m", "cluster.tracking", "--folder", str(folder), "--port", str(port), *flags]


def owner_and_group(folder: Path) -> list[int]:
    return [int(number) for number in (folder / "lock").read_text().split()]


def group_lives(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def caught(pid: int) -> set[int]:
    """Return the signals that a process handles."""
    (mask,) = re.findall(r"SigCgt:\s*(\w+)", Path(f"/proc/{pid}/status").read_text())
    return {number for number in range(1, 65) if int(mask, 16) >> (number - 1) & 1}


@pytest.fixture
def server(tmp_path):
    """A server started as `ray up` does, following a listening socket that stands for Ray's head."""
    folder, port = tmp_path / "tracking", free_port()
    with socket.socket() as head:
        head.bind(("127.0.0.1", 0))
        head.listen(100)
        follow = f"127.0.0.1:{head.getsockname()[1]}"
        arguments = command(folder, port, "--detach", "--follow", follow)
        done = subprocess.run(arguments, cwd=REPOSITORY, capture_output=True, text=True, timeout=PATIENCE)
        assert done.returncode == 0, done.stderr
        yield SimpleNamespace(
            folder=folder, port=port, url=f"http://127.0.0.1:{port}", head=head, said=done.stdout
        )
    with contextlib.suppress(ProcessLookupError):
        os.kill(owner_and_group(folder)[0], signal.SIGTERM)


def play(recorder: LedgerCallback, trial: str, epochs: range, ends: bool) -> None:
    trial = SimpleNamespace(trial_id=trial, config={"beta": 1.5})
    recorder.on_trial_start(0, [], trial)
    for epoch in epochs:
        recorder.on_trial_result(
            0, [], trial, {"training_iteration": epoch, "fid": 10.0 / epoch, "images": {}}
        )
    if ends:
        recorder.on_trial_complete(0, [], trial)


@pytest.mark.timeout(3 * PATIENCE)
def test_a_killed_server_comes_back_and_has_all_of_it(server, tmp_path, capsys):
    assert is_healthy(server.url)
    assert "workflowType=machine_learning" in server.said  # MLflow's other mode hides the runs
    _, group = owner_and_group(server.folder)
    sweep = tmp_path / "sweep"
    ledger = Ledger(sweep / "ledger.jsonl")
    recorder = LedgerCallback(ledger, sweep, epochs=4)
    record = SweepRecord(sweep_id="s1", name="one", experiment="killed", description="")
    delivery = MlflowExporter(ledger, sweep, server.url, record)
    delivery.start()
    play(recorder, "a", range(1, 3), ends=False)
    wait_until(lambda: not any(ledger.events(delivery.offset)))

    os.killpg(group, signal.SIGKILL)
    wait_until(lambda: not is_healthy(server.url))
    play(recorder, "a", range(3, 5), ends=True)  # the sweep goes on: this returns with the server dead
    play(recorder, "b", range(1, 5), ends=True)
    ledger.append("note", status="FINISHED")
    wait_until(lambda: delivery.error is not None)
    wait_until(lambda: is_healthy(server.url))  # its supervisor started it anew
    assert delivery.close(timeout=PATIENCE) == 0
    assert capsys.readouterr().out == ""  # the terminal is the sweep's

    client = MlflowClient(server.url)
    experiment = client.get_experiment_by_name("killed")
    runs = client.search_runs([experiment.experiment_id])
    children = {run.data.tags[TRIAL_TAG]: run for run in runs if TRIAL_TAG in run.data.tags}
    assert len(runs) == 3 and sorted(children) == ["a", "b"]  # none twice
    assert {run.info.status for run in runs} == {"FINISHED"}
    for run in children.values():
        history = client.get_metric_history(run.info.run_id, "fid")
        assert [(point.step, point.value) for point in history] == [(e, 10.0 / e) for e in range(1, 5)]

    # Then the cluster goes: the server ends by itself, as a whole.
    group = owner_and_group(server.folder)[1]
    server.head.close()
    wait_until(lambda: not group_lives(group))
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", server.port))
    assert stat.S_IMODE(server.folder.stat().st_mode) == 0o700


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--port", "99999"], "--port is 99999; it must be between 1 and 65535"),
        (["--follow", "head"], "--follow is 'head'; it must be host:port"),
        (
            ["--backend-store-uri", "postgresql://me:hunter2@host/db"],
            "process list; set the environment variable",
        ),
        (["--artifacts-destination", "s3://KEY:hunter2@bucket"], "a password before the @"),
        (["--folder", "/proc/nowhere"], "Nothing can be written in /proc/nowhere"),
    ],
)
def test_what_cannot_be_is_a_sentence_and_exit_code_2(arguments, words, capsys):
    assert main(arguments) == 2
    said = capsys.readouterr().err
    assert words in said
    assert "hunter2" not in said


def test_a_taken_port_is_named(tmp_path, capsys):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        assert main(["--folder", str(tmp_path), "--port", str(port)]) == 2
    assert f"Cannot listen on 127.0.0.1:{port} (Address already in use)" in capsys.readouterr().err


def test_a_server_that_keeps_crashing_ends_when_it_is_told(monkeypatch):
    started, told = [], []

    def stop():
        if not told:  # `serve` waits, from now on, before it starts the server anew
            told.append(threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGTERM)))
            told[0].start()

    crashing = SimpleNamespace(
        config=SimpleNamespace(follow=None),
        start=lambda owner, stopping: started.append(1),
        alive=lambda: False,
        stop=stop,
        welcome=lambda: "",
    )
    monkeypatch.setattr(tracking, "RESTART_SECONDS", (10 * PATIENCE,))
    handlers = {sign: signal.getsignal(sign) for sign in (signal.SIGTERM, signal.SIGINT)}
    try:
        tracking.serve(crashing, None, lambda words: None)
    finally:
        for sign, handler in handlers.items():
            signal.signal(sign, handler)
    assert len(started) == 1


def test_a_folder_has_one_server(tmp_path, capsys):
    from cluster.background import only_one

    with only_one(tmp_path):
        assert main(["--folder", str(tmp_path)]) == 2
    assert f"Process {os.getpid()} serves {tmp_path} already" in capsys.readouterr().err


def test_a_server_may_wait_for_its_folder(tmp_path):
    from cluster.background import only_one

    begun = threading.Event()

    def second() -> None:
        with only_one(tmp_path, wait=True):
            begun.set()

    thread = threading.Thread(target=second, daemon=True)
    with only_one(tmp_path):
        thread.start()
        process = subprocess.Popen(command(tmp_path, free_port(), "--wait"), cwd=REPOSITORY)
        try:
            # A container's first process is ended by no signal that it does not catch.
            wait_until(lambda: process.poll() is not None or signal.SIGTERM in caught(process.pid))
            assert not begun.wait(2) and process.poll() is None
            process.terminate()
            assert process.wait(timeout=PATIENCE) == 130
        finally:
            process.kill()
    assert begun.wait(PATIENCE)


@pytest.mark.parametrize(
    ("host", "is_open"),
    [
        ("127.0.0.1", False),
        ("::1", False),
        ("localhost", False),
        ("0.0.0.0", True),
        ("10.0.0.1", True),
        ("box", True),
    ],
)
def test_what_is_beyond_loopback(host, is_open):
    assert TrackingConfig(host=host).is_open == is_open


def test_beyond_loopback_without_a_login_is_refused(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert main(["--folder", str(tmp_path), "--host", "0.0.0.0", "--port", str(free_port())]) == 2
    assert "users must log in, which needs Flask-WTF" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.timeout(2 * PATIENCE)
def test_beyond_loopback_only_the_password_opens(tmp_path, monkeypatch):
    pytest.importorskip("flask_wtf", reason="needs Flask-WTF (pip install 'Flask-WTF<2')")
    folder, port = tmp_path / "tracking", free_port()
    process = subprocess.Popen(
        command(folder, port, "--host", "0.0.0.0"), cwd=REPOSITORY, stdout=subprocess.PIPE
    )
    try:
        said = process.stdout.readline().decode()
        assert str(folder / "credentials") in said
        secret_files = [folder / name for name in ("credentials", "session_key", "authentication.ini")]
        assert {stat.S_IMODE(path.stat().st_mode) for path in secret_files} == {0o600}
        password = (folder / "credentials").read_text().split("mlflow_tracking_password = ")[1].split()[0]
        search = f"http://127.0.0.1:{port}/api/2.0/mlflow/experiments/search?max_results=1"
        with pytest.raises(urllib.error.HTTPError, match="401"):
            urllib.request.urlopen(search)
        monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "admin")
        monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", password)
        assert MlflowClient(f"http://127.0.0.1:{port}").create_experiment("mine")
        arguments = subprocess.run(["ps", "-ww", "-eo", "args"], capture_output=True, text=True).stdout
        assert password not in arguments + said + (folder / "server.log").read_text()
    finally:
        process.terminate()
        process.wait(timeout=PATIENCE)
