"""The main job, as a person runs it, where the driver's disk is full or MLflow is down for good.

After `--resume` are counted: trials, their epochs, MLflow's runs, points and images; none lost, none twice.
"""

import contextlib
import os
import re
import signal
import subprocess
import time
from collections import Counter

import pytest
from mlflow import MlflowClient

from searchers.record.ledger import Ledger
from searchers.record.schema import TRIAL_TAG
from tests.fixtures.waits import PATIENCE
from tests.searchers.test_beta_vaegan import TINY, command, environment

pytestmark = [pytest.mark.slow, pytest.mark.timeout(4 * PATIENCE)]
TRIALS, EPOCHS = 4, 3
CALL = r"\S*(python -m searchers\.|latentune sweep )beta_vaegan"  # as it is installed, or from a checkout
SWEEP = [*TINY.split(), "--num-samples", str(TRIALS), "--epochs", str(EPOCHS), "--no-early-stopping"]
SWEEP += ["--replicates", "0"]


def start(folder, *arguments):
    return subprocess.Popen(
        command(*arguments),
        cwd=folder,
        env=environment(folder),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(driver) -> tuple[int, str, str]:
    out, err = driver.communicate(timeout=PATIENCE)
    return driver.returncode, out, err


def start_until(results, folder, *arguments, name):
    """Start a sweep; return its driver once it has so many results."""
    driver = start(folder, *arguments, "--name", name)
    ledger = folder / "results" / name / "ledger.jsonl"
    deadline = time.monotonic() + PATIENCE
    while not (ledger.exists() and ledger.read_text().count('"event": "result"') >= results):
        if driver.poll() is not None or time.monotonic() > deadline:
            driver.kill()
            pytest.fail(f"no {results} results: {driver.communicate()}")
        time.sleep(0.1)
    return driver


def check_books(folder, name, database):
    ledger = Ledger(folder / "results" / name / "ledger.jsonl")
    trials = ledger.trials()
    events = [event for _, event in ledger.events()]
    results = [(e["trial"], e["epoch"]) for e in events if e["event"] == "result" and e["trial"] in trials]
    assert len(trials) == TRIALS
    assert Counter(results) == Counter((t, e) for t in trials for e in range(1, EPOCHS + 1))
    assert {record.status for record in trials.values()} == {"finished"}

    client = MlflowClient(f"sqlite:///{database}")
    (experiment,) = [e for e in client.search_experiments() if e.name == "beta-vae-gan"]
    runs = client.search_runs([experiment.experiment_id])
    assert {run.info.status for run in runs} == {"FINISHED"}
    children = {run.data.tags[TRIAL_TAG]: run.info.run_id for run in runs if TRIAL_TAG in run.data.tags}
    assert len(runs) == 1 + TRIALS and set(children) == set(trials)
    for trial, record in trials.items():
        history = client.get_metric_history(children[trial], "fd_random")
        assert [(p.step, p.value) for p in history] == [
            (epoch, metrics["fd_random"]) for epoch, metrics in record.metrics.items()
        ]
        images = [file.path for file in client.list_artifacts(children[trial], "images")]
        assert sum(path.endswith(".png") for path in images) == 2 * EPOCHS


@pytest.fixture
def small_disk(tmp_path):
    """The folder of the sweeps' results, on a disk of 260 MB."""
    folder = tmp_path / "results"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=260m", "tmpfs", str(folder)]
    if os.geteuid() or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("needs root, to make a small disk")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(folder, leave):
    """Fill a disk with a file, but for so many bytes; return the file."""
    filling = folder / "filling"
    with filling.open("wb") as file:
        while True:
            disk = os.statvfs(folder)
            with contextlib.suppress(OSError):  # a trial has written meanwhile
                os.posix_fallocate(file.fileno(), 0, max(1, disk.f_bavail * disk.f_frsize - leave))
                return filling


def test_a_disk_that_fills_up_ends_the_sweep_while_it_can_be_saved(small_disk, tmp_path):
    driver = start_until(3, tmp_path, *SWEEP, name="tight")
    filling = fill(small_disk, leave=100 * 2**20)
    code, out, err = finish(driver)
    assert code == 130, out + err
    assert "the sweep stops while it can still be saved" in out and "--resume tight" in out
    filling.unlink()
    code, out, err = finish(start(tmp_path, "--resume", "tight"))
    assert code == 0, out + err
    check_books(tmp_path, "tight", tmp_path / "mlflow.db")


def test_a_disk_that_is_full_at_once_ends_the_sweep_with_a_sentence(small_disk, tmp_path):
    driver = start_until(3, tmp_path, *SWEEP, name="full")
    driver.send_signal(signal.SIGSTOP)  # between two of its looks at the disk
    filling = fill(small_disk, leave=0)
    driver.send_signal(signal.SIGCONT)
    code, out, err = finish(driver)
    assert code == 2, out + err
    assert "Traceback" not in out + err and re.search(rf"Free space, then: {CALL} --resume full", err)
    filling.unlink()
    code, out, err = finish(start(tmp_path, "--resume", "full"))
    assert code == 0, out + err
    check_books(tmp_path, "full", tmp_path / "mlflow.db")


def test_mlflow_down_for_good_and_another_one_on_resume(tmp_path):
    """Nothing listens at the address; the sweep does not wait, and a later call delivers all of it."""
    down = ["--tracking-uri", "http://127.0.0.1:9"]
    code, out, err = finish(start(tmp_path, *SWEEP, "--name", "silent", *down))
    assert code == 0, out + err
    assert re.search(rf"nothing is lost: {CALL} --resume silent", " ".join(out.split()))
    up = ["--tracking-uri", f"sqlite:///{tmp_path}/later.db"]
    code, out, err = finish(start(tmp_path, "--resume", "silent", *up))
    assert code == 0, out + err
    check_books(tmp_path, "silent", tmp_path / "later.db")
