"""A sweep of tiny trials, driven as every sweep is: what fault tests run on a machine as the driver.

    python job.py NAME --trials 8 --epochs 4 --seconds 1 --storage /mnt/shared

Each epoch that a trial begins leaves a file in <storage>/NAME-begun: what was done twice can be counted.
"""

import argparse
import json
import secrets
import socket
import time
from pathlib import Path

from ray import tune
from rich.console import Console

from searchers.bayesopt import BayesOptSearch
from searchers.configuration import SweepConfig
from searchers.driver import Driver
from searchers.recording import SweepRecord


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

    begun = Path(a.storage) / f"{a.name}-begun"
    begun.mkdir(exist_ok=True)
    config = SweepConfig(
        name=a.name,
        results=str(Path.home() / "results"),
        storage=a.storage,
        tracking_uri=a.tracking_uri,
        gpus_per_trial=1,
        epochs=a.epochs,
        num_samples=a.trials,
    )
    driver = Driver(
        config, a.name, "python -m job", Console(width=200), epochs=a.epochs, num_samples=a.trials
    )
    driver.deliver(SweepRecord(sweep_id=a.name, name=a.name, experiment="tiny", description=""))
    driver.run(
        Tiny,
        settings={"x": tune.uniform(0.0, 1.0), "seconds": a.seconds, "begun": str(begun)},
        search=BayesOptSearch(seed=0),
        metric="score",
        mode="max",
        dimensions=["x"],
    )
    print("unsent", driver.close(dict), flush=True)


if __name__ == "__main__":
    main()
