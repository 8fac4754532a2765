"""A sweep of tiny trials, as `searchers.sweep.run` does one: what fault tests run on a machine as the driver.

    python job.py NAME --trials 8 --epochs 4 --seconds 1 --storage /mnt/shared

Each epoch that a trial begins leaves a file in <storage>/NAME-begun: what was done twice can be counted.
"""

import argparse
import json
import secrets
import socket
import time
from functools import partial
from pathlib import Path
from types import SimpleNamespace

from ray import tune

import cluster
import searchers
from cluster.connect import connect
from cluster.limiter import ClusterLimiter
from cluster.storage import has_snapshot, resolve
from cluster.watchdog import watchdogs
from searchers.bayesopt import BayesOptSearch
from searchers.ledger import Ledger
from searchers.recording import Delivery, Recorder, SweepRecord
from searchers.sweep import tune_arguments


class Tiny(tune.Trainable):
    """Waits instead of training; its state is the epoch and a number that each epoch must add to."""

    def setup(self, config):
        self.reset_config(config)

    def reset_config(self, config):
        self.parameters, self.epoch, self.sum = config, 0, 0.0
        return True

    def step(self):
        begun = Path(self.parameters["begun"])
        (begun / f"{self.trial_id}-{self.epoch + 1}-{socket.gethostname()}-{secrets.token_hex(4)}").touch()
        time.sleep(self.parameters["seconds"])
        self.epoch += 1
        self.sum += self.parameters["x"] * self.epoch
        return {"score": self.sum, "host": int(socket.gethostname()[-1]), "epoch": self.epoch}

    def save_checkpoint(self, folder):
        (Path(folder) / "state.json").write_text(json.dumps([self.epoch, self.sum]))

    def load_checkpoint(self, folder):
        self.epoch, self.sum = json.loads((Path(folder) / "state.json").read_text())


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("name")
    parser.add_argument("--trials", type=int, default=8)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--storage", default="/mnt/shared")
    parser.add_argument("--tracking-uri", default=f"sqlite:///{Path.home()}/mlflow.db")
    a = parser.parse_args()

    joined = connect(packages=[cluster, searchers])
    print(joined.describe(1, 1), flush=True)
    folder = Path.home() / "results" / a.name
    storage = resolve(a.storage, folder, joined)
    begun = Path(a.storage) / f"{a.name}-begun"
    begun.mkdir(exist_ok=True)
    ledger = Ledger(folder / "ledger.jsonl")
    recorder = Recorder(ledger, folder, a.epochs)
    record = SweepRecord(sweep_id=a.name, name=a.name, experiment="tiny", description="")
    delivery = Delivery(ledger, folder, a.tracking_uri, record)
    delivery.start()
    arguments = tune_arguments(SimpleNamespace(cpus_per_trial=1, gpus_per_trial=1))
    tune.run(
        Tiny,
        **arguments,
        storage_path=storage,
        trial_dirname_creator=lambda trial: trial.trial_id,
        config={"x": tune.uniform(0.0, 1.0), "seconds": a.seconds, "begun": str(begun)},
        metric="score",
        mode="max",
        search_alg=ClusterLimiter(BayesOptSearch(seed=0), joined, 1, 1),
        stop={"training_iteration": a.epochs},
        num_samples=a.trials,
        callbacks=[recorder, *watchdogs(1, 1, [str(folder), storage], partial(print, flush=True))],
        resume_config=tune.ResumeConfig() if has_snapshot(storage) else None,
    )
    ledger.append("note", status="FINISHED")
    print("unsent", delivery.close(timeout=120), flush=True)


if __name__ == "__main__":
    main()
