"""The driver of a sweep killed at random moments, with damaged snapshots and changed clocks, then its books.

    python -m tests.searchers.kills --kills 60 --seed 0

Each sweep is killed and resumed until it ends; then the next begins. Between two starts, Tune's snapshots
stay, are cut, vanish, or an old one gets the latest name, and the time zone changes. After each death
nothing that the ledger had may be gone or changed, and at the end MLflow has each point of each trial once.
The exit code is 1 where it has not.
"""

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from mlflow import MlflowClient

from searchers.record.ledger import Ledger
from searchers.record.schema import DIVERGED, FINISHED, TRIAL_TAG
from searchers.record.trials import TrialRecord
from tests.searchers.test_beta_vaegan import METRIC, TINY

TRIALS, EPOCHS = 16, 4
SECONDS = (1.0, 45.0)  # after a start, before imports are done as well as in mid-sweep
ZONES = ("UTC", "Etc/GMT-2", "Etc/GMT-1", "Etc/GMT+11")


def damage(folder: Path, draw: random.Random) -> str:
    """Do to Tune's snapshots what crashes and clocks do; return what it was."""
    kind = draw.choice(("whole", "cut", "empty", "gone", "old one wins"))
    snapshots = sorted(folder.glob("tune/*.json"))
    for path in snapshots:
        if kind == "cut":
            path.write_bytes(path.read_bytes()[:500])
        elif kind == "empty":
            path.write_bytes(b"")
        elif kind == "gone":
            path.unlink()
    if kind == "old one wins" and snapshots:
        snapshots[0].rename(snapshots[0].with_name("experiment_state-2999-01-01_00-00-00.json"))
    return kind


def lost(before: dict[str, TrialRecord], now: dict[str, TrialRecord]) -> list[str]:
    """Return what was there before and is gone or changed: trials, their epochs, their ends."""
    wrong = []
    for trial, record in before.items():
        if trial not in now:
            wrong.append(f"trial {trial} is gone")
            continue
        after = now[trial]
        wrong += [f"{trial}: epoch {e}" for e, m in record.metrics.items() if after.metrics.get(e) != m]
        if record.status in (FINISHED, DIVERGED) and after.status != record.status:
            wrong.append(f"{trial}: was {record.status}, is {after.status}")
    return wrong


def unlike_mlflow(folder: Path, records: dict[str, TrialRecord]) -> list[str]:
    """Return how MLflow's runs differ from the ledger's trials: each point is there once."""
    client = MlflowClient(f"sqlite:///{folder}/mlflow.db")
    (experiment,) = [e for e in client.search_experiments() if e.name == "beta-vae-gan"]
    runs = [r for r in client.search_runs([experiment.experiment_id]) if TRIAL_TAG in r.data.tags]
    wrong = [f"{t}: {n} runs" for t, n in Counter(r.data.tags[TRIAL_TAG] for r in runs).items() if n != 1]
    if missing := set(records) - {r.data.tags[TRIAL_TAG] for r in runs}:
        wrong.append(f"no runs of {missing}")
    for run in runs:
        points = [(p.step, p.value) for p in client.get_metric_history(run.info.run_id, METRIC)]
        expected = sorted((e, m[METRIC]) for e, m in records[run.data.tags[TRIAL_TAG]].metrics.items())
        if sorted(points) != expected:
            wrong.append(f"{run.data.tags[TRIAL_TAG]}: {points} instead of {expected}")
    return wrong


def sweep(folder: Path, draw: random.Random, kills: int, counts: Counter) -> list[str]:
    """Run one sweep to its end, killed `kills` times at most; return what its books lack."""
    ledger = Ledger(folder / "results/killed/ledger.jsonl")
    begin = [*TINY.split(), "--num-samples", str(TRIALS), "--epochs", str(EPOCHS), "--trainings", "12"]
    before: dict[str, TrialRecord] = {}
    while True:
        begun = (ledger.path.parent / "sweep.json").exists()
        flags = ["--resume", "killed"] if begun else [*begin, "--name", "killed"]
        environment = os.environ | {"OMP_NUM_THREADS": "1", "TZ": draw.choice(ZONES)}
        with (folder / "log.txt").open("a") as log:
            command = [sys.executable, "-m", "searchers.beta_vaegan", *flags]
            driver = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log)
        try:
            code = driver.wait(draw.uniform(*SECONDS) if kills else None)
        except subprocess.TimeoutExpired:
            driver.send_signal(signal.SIGKILL)
            driver.wait()
            kills -= 1
            counts["kills"] += 1
            counts[damage(ledger.path.parent, draw)] += 1
            code = None
        now = ledger.trials() if ledger.path.exists() else {}
        if wrong := lost(before, now):
            return wrong
        before = now
        if code is not None:
            if code:
                return [f"exit code {code}: {(folder / 'log.txt').read_text()[-2000:]}"]
            open_ = [trial for trial, record in now.items() if not record.status]
            return [*unlike_mlflow(folder, now), *(f"{trial} has no end" for trial in open_)]


def main() -> int:
    """Run the command line; return its exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    draw, counts, began = random.Random(arguments.seed), Counter[str](), time.monotonic()
    while counts["kills"] < arguments.kills:
        with tempfile.TemporaryDirectory() as name:
            left = arguments.kills - counts["kills"]
            wrong = sweep(Path(name), draw, min(left, draw.randint(4, 12)), counts)
        counts["sweeps"] += 1
        print(f"{time.monotonic() - began:6.0f} s  {dict(counts)}", *wrong, sep="\n", flush=True)
        if wrong:
            return 1
    print("Nothing was lost, and nothing is there twice.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
