"""What the driver of a sweep costs: how many trials one can feed.

    python -m benchmarks.cluster driver     recorder, ledger and ASHA over 1 000 trials; proposals
    python -m benchmarks.cluster delivery   results a second into MLflow, over HTTP and into SQLite
    python -m benchmarks.cluster tune       Ray Tune's own cost of a report, on pretended CPUs of this machine

The 1 000 trials are simulated: their results come from a formula, at once, in the order in which 64 machines
would send them. Nothing to install.
"""

import math
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

from rich.console import Console
from rich.table import Table

MACHINES, TRIALS, EPOCHS = 64, 1000, 10


class Stopwatch:
    """Adds up seconds and calls by name."""

    def __init__(self):
        self.seconds, self.calls = defaultdict(float), defaultdict(int)

    @contextmanager
    def __call__(self, name: str):
        start = time.perf_counter()
        yield
        self.seconds[name] += time.perf_counter() - start
        self.calls[name] += 1

    def milliseconds(self, name: str) -> float:
        return 1000 * self.seconds[name] / self.calls[name]


def resident_mb() -> float:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize() / 2**20


def result_of(x: float, epoch: int) -> dict:
    return {
        "training_iteration": epoch,
        "fid": 100 * math.exp(-epoch / 3) + 50 * (x - 0.3) ** 2 + random.gauss(0, 1),
        **{f"loss/{name}": random.random() for name in ("kl", "reconstruction", "adversarial")},
        "elbo": random.random(),
        "images_per_second": random.random(),
        "images": {},
    }


def simulate(recorder, scheduler, watch: Stopwatch, trials: int) -> list[float]:
    """Run `trials` trials on MACHINES machines in turns; return the resident memory at each quarter."""
    running, begun, ended, memory = {}, 0, 0, [resident_mb()]
    while ended < trials:
        while len(running) < MACHINES and begun < trials:
            trial = SimpleNamespace(trial_id=f"{begun:08x}", config={"x": random.random()}, status="RUNNING")
            running[trial.trial_id] = (trial, 0)
            begun += 1
            with watch("a trial begun"):
                recorder.on_trial_start(0, [], trial)
        for key, (trial, epoch) in list(running.items()):
            result = result_of(trial.config["x"], epoch + 1)
            with watch("a result recorded"):
                recorder.on_trial_result(0, [], trial, result)
            with watch("a result judged by ASHA"):
                decision = scheduler.on_result(trial, epoch + 1, -result["fid"])
            running[key] = (trial, epoch + 1)
            if decision == "STOP" or epoch + 1 == EPOCHS:
                with watch("a trial ended"):
                    recorder.on_trial_complete(0, [], trial)
                del running[key]
                ended += 1
                if ended % (trials // 4) == 0:
                    memory.append(resident_mb())
    return memory


def driver(console: Console) -> None:
    from ray import tune
    from ray.tune.schedulers import AsyncHyperBandScheduler

    from searchers.bayesopt import BayesOptSearch
    from searchers.ledger import Ledger
    from searchers.recording import Recorder

    watch = Stopwatch()
    with tempfile.TemporaryDirectory() as folder:
        ledger = Ledger(Path(folder) / "ledger.jsonl")
        (bracket,) = AsyncHyperBandScheduler(max_t=EPOCHS, grace_period=2, reduction_factor=3)._brackets
        memory = simulate(Recorder(ledger, Path(folder), EPOCHS), bracket, watch, TRIALS)
        with watch("the ledger read (a resume)"):
            ledger.trials()
        size = (Path(folder) / "ledger.jsonl").stat().st_size / 2**20
        with open(Path(folder) / "peer", "ab", buffering=0) as file:
            for _ in range(500):
                with watch("300 bytes appended and fsynced (the disk's own share)"):
                    file.write(b"x" * 300)
                    os.fsync(file.fileno())
    table = Table("step", "times", "ms each", title=f"{TRIALS} trials, {MACHINES} at a time")
    for name in watch.calls:
        table.add_row(name, str(watch.calls[name]), f"{watch.milliseconds(name):.3f}")
    console.print(table)
    console.print(
        f"memory at each quarter, MB: {', '.join(f'{m:.0f}' for m in memory)}; ledger {size:.1f} MB"
    )

    table = Table("trials known", "a proposal, ms")
    for known in (20, 100, 300, 1000):
        search = BayesOptSearch({"x": tune.uniform(0, 1)}, metric="fid", mode="min", seed=0)
        for _ in range(known):
            x = random.random()
            search.add_evaluated_point({"x": x}, result_of(x, EPOCHS)["fid"])
        times = []
        for i in range(3 if known < 1000 else 1):
            start = time.perf_counter()
            search.suggest(f"t{i}")
            times.append(time.perf_counter() - start)
        table.add_row(str(known), f"{1000 * sorted(times)[len(times) // 2]:.0f}")
    console.print(table)


def delivery(console: Console, trials: int = 30) -> None:
    from ray.tune.schedulers import FIFOScheduler  # noqa: F401  ray's import is not to be timed below

    from cluster.tracking import is_healthy
    from searchers.ledger import Ledger
    from searchers.recording import Delivery, Recorder, SweepRecord

    table = Table("MLflow", "events", "seconds", "events a second")
    with tempfile.TemporaryDirectory() as folder:
        server = [sys.executable, "-m", "cluster.tracking", "--folder", f"{folder}/server", "--port", "5077"]
        process = subprocess.Popen(server, stdout=subprocess.PIPE)
        process.stdout.readline()
        assert is_healthy("http://127.0.0.1:5077")
        keep = SimpleNamespace(on_result=lambda *_: None)
        for name, uri in (("server", "http://127.0.0.1:5077"), ("SQLite", f"sqlite:///{folder}/mlflow.db")):
            sweep = Path(folder) / name
            ledger = Ledger(sweep / "ledger.jsonl")
            sender = Delivery(ledger, sweep, uri, SweepRecord(name, name, "speed", ""))
            sender._connect()
            simulate(Recorder(ledger, sweep, EPOCHS), keep, Stopwatch(), trials)
            start = time.perf_counter()
            sender._deliver()
            seconds = time.perf_counter() - start
            events = sum(1 for _ in ledger.events())
            table.add_row(name, str(events), f"{seconds:.1f}", f"{events / seconds:.1f}")
        process.terminate()
        process.wait(timeout=60)
    console.print(table)


def ray_tune(console: Console, slots: int = 4, trials: int = 16, epochs: int = 50) -> None:
    os.environ |= {"TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1", "RAY_AUTH_MODE": "disabled"}
    import ray
    from ray import tune

    class Idle(tune.Trainable):
        def step(self):
            return {"fid": 1.0}

        def reset_config(self, config):
            return True

        def save_checkpoint(self, folder):
            (Path(folder) / "state").touch()

        def load_checkpoint(self, folder):
            pass

    ray.init(address="local", num_cpus=slots, include_dashboard=False, log_to_driver=False, logging_level=40)
    table = Table("trials", "epochs", "seconds", "ms a report", "ms a trial")
    with tempfile.TemporaryDirectory() as folder:
        seconds = {}
        for each in (1, epochs):
            start = time.perf_counter()
            tune.run(
                Idle,
                name=f"each{each}",
                storage_path=folder,
                config={"x": tune.uniform(0, 1)},
                num_samples=trials,
                stop={"training_iteration": each},
                resources_per_trial={"cpu": 1},
                reuse_actors=True,
                checkpoint_config=tune.CheckpointConfig(checkpoint_frequency=1, num_to_keep=2),
                verbose=0,
            )
            seconds[each] = time.perf_counter() - start
        report = (seconds[epochs] - seconds[1]) / (trials * (epochs - 1))
        for each, value in seconds.items():
            table.add_row(
                str(trials), str(each), f"{value:.1f}", f"{1000 * report:.1f}", f"{1000 * value / trials:.0f}"
            )
    ray.shutdown()
    console.print(table)


def main() -> int:
    parts = {"driver": driver, "delivery": delivery, "tune": ray_tune}
    if sys.argv[1:2] and sys.argv[1] in parts:
        random.seed(0)
        parts[sys.argv[1]](Console(width=110))
        return 0
    print(__doc__, file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
