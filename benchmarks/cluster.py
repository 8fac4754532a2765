"""What the driver of a sweep costs: how many trials one can feed.

    python -m benchmarks.cluster driver     recorder, ledger and ASHA over 1 000 trials; proposals
    python -m benchmarks.cluster delivery   results a second into MLflow, over HTTP and into SQLite
    python -m benchmarks.cluster tune       a sweep of trials that sleep, on pretended GPUs; then may follow
                                            GPUS TRIALS NODES SCHEDULER EPOCHS SECONDS, by default 64 1000 16
                                            asha 4 10; schedulers are asha, pause (which sweeps take) and fifo
    python -m benchmarks.cluster overhead results/*/ledger.jsonl     how long places wait between trials

The trials of `driver` and `delivery` are simulated: their results come from a formula, at once, in the order
in which 64 machines would send them. Nothing to install.
"""

import json
import math
import os
import random
import resource
import statistics
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

    from searchers.bayesopt.searcher import BayesOptSearch
    from searchers.record.ledger import Ledger
    from searchers.record.ledger_callback import LedgerCallback

    watch = Stopwatch()
    with tempfile.TemporaryDirectory() as folder:
        ledger = Ledger(Path(folder) / "ledger.jsonl")
        (bracket,) = AsyncHyperBandScheduler(max_t=EPOCHS, grace_period=2, reduction_factor=3)._brackets
        memory = simulate(LedgerCallback(ledger, Path(folder), EPOCHS), bracket, watch, TRIALS)
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
    from searchers.record.ledger import Ledger
    from searchers.record.ledger_callback import LedgerCallback
    from searchers.record.mlflow_exporter import MlflowExporter
    from searchers.record.sweep_record import SweepRecord

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
            sender = MlflowExporter(ledger, sweep, uri, SweepRecord(name, name, "speed", ""))
            sender._connect()
            simulate(LedgerCallback(ledger, sweep, EPOCHS), keep, Stopwatch(), trials)
            start = time.perf_counter()
            sender._deliver()
            seconds = time.perf_counter() - start
            events = sum(1 for _ in ledger.events())
            table.add_row(name, str(events), f"{seconds:.1f}", f"{events / seconds:.1f}")
        process.terminate()
        process.wait(timeout=60)
    console.print(table)


def ray_tune(console: Console) -> None:
    """Run a sweep on pretended nodes, whose trials sleep: Ray, Tune, searcher, ledger and MLflow are real.

    A node costs 260 MB and 2 % of a core, a trial's process 100 MB.
    """
    import ray
    from ray import tune
    from ray.cluster_utils import Cluster as PretendedNodes
    from ray.tune.schedulers import AsyncHyperBandScheduler, FIFOScheduler

    from cluster.connect import connect
    from cluster.limiter import ClusterLimiter
    from searchers.bayesopt.searcher import BayesOptSearch
    from searchers.execution.driver import tune_settings
    from searchers.record.ledger import Ledger
    from searchers.record.ledger_callback import LedgerCallback
    from searchers.record.mlflow_exporter import MlflowExporter
    from searchers.record.sweep_record import SweepRecord
    from searchers.scheduling.rule import PauseRule
    from searchers.scheduling.tune_scheduler import PauseScheduler

    given = dict(enumerate(sys.argv[2:]))
    gpus, trials, nodes = (int(given.get(i, usual)) for i, usual in enumerate((64, TRIALS, 16)))
    kind, epochs, seconds = given.get(3, "asha"), int(given.get(4, 4)), float(given.get(5, 10))

    class Idle(tune.Trainable):
        def step(self):
            time.sleep(seconds)
            return {"fid": self.config["x"] / (1 + self.training_iteration)}

        def reset_config(self, config):
            self.config = config
            return True

        def save_checkpoint(self, folder):
            (Path(folder) / "state").touch()

        def load_checkpoint(self, folder):
            pass

    tenth, watch = trials // 10, Stopwatch()

    class Timed(BayesOptSearch):
        def next_trial(self, *arguments, **options):
            began = time.thread_time()
            with watch("proposal"):
                found = super().next_trial(*arguments, **options)
            watch.seconds["CPU"] += time.thread_time() - began
            return found

    class Memory(tune.Callback):
        """The driver's memory, each time a tenth of the trials has ended."""

        def __init__(self):
            self.ended, self.resident = 0, []

        def on_trial_complete(self, iteration, trials, trial, **info):
            self.ended += 1
            if self.ended % tenth == 0:
                self.resident.append(resident_mb())

    os.environ["RAY_AUTH_MODE"] = "disabled"
    memory, arguments = Memory(), tune_settings(1, 1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        each = gpus // nodes
        size = {"num_cpus": each, "num_gpus": each, "object_store_memory": 80_000_000}
        pretended = PretendedNodes(initialize_head=True, head_node_args=size | {"include_dashboard": False})
        for _ in range(nodes - 1):
            pretended.add_node(wait=False, **size)
        pretended.wait_for_nodes(timeout=600)
        joined = connect(pretended.address)
        console.print(joined.describe(1, 1))
        ledger = Ledger(folder / "ledger.jsonl")
        sender = MlflowExporter(
            ledger, folder, f"sqlite:///{name}/mlflow.db", SweepRecord("s", "s", "speed", "")
        )
        sender.start()
        search, paused = Timed(seed=0), lambda: 0
        scheduler = AsyncHyperBandScheduler(max_t=epochs, grace_period=2, reduction_factor=3)
        if kind == "pause":  # as sweeps do; the budget is that of half as many whole trainings as trials
            budget = trials * epochs / 2
            rule = PauseRule(epochs, 2, first_trials=3, budget=budget, max_trials=trials)
            scheduler = PauseScheduler(rule)
            search, paused = scheduler.gate(search), lambda: len(rule.paused)
        elif kind == "fifo":
            scheduler = FIFOScheduler()
        began, spent = time.perf_counter(), time.process_time()
        tune.run(
            Idle,
            **arguments,
            storage_path=name,
            config={"x": tune.uniform(0, 1)},
            metric="fid",
            mode="min",
            search_alg=ClusterLimiter(search, joined, 1, 1, None, paused),
            scheduler=scheduler,
            stop={"training_iteration": epochs},
            num_samples=-1 if kind == "pause" else trials,
            callbacks=[LedgerCallback(ledger, folder, epochs), memory],
        )
        wall, cpu = time.perf_counter() - began, time.process_time() - spent
        records = ledger.trials().values()
        results = sum(record.epoch for record in records)
        ended = sum(record.status is not None for record in records)
        unsent = sender.close(timeout=1800)
        delivered = time.perf_counter() - began
        ray.shutdown()
        pretended.shutdown()
    table = Table(
        "trials", "results", "seconds", "results a second", "driver, CPU ms a result", "of a trial",
        "of that proposals", "proposals", "proposal, ms", "MLflow done after",
    )  # fmt: skip
    table.add_row(
        str(ended), str(results), f"{wall:.0f}", f"{results / wall:.1f}", f"{1000 * cpu / results:.1f}",
        f"{1000 * cpu / ended:.0f}", f"{1000 * watch.seconds['CPU'] / ended:.0f}",
        str(watch.calls["proposal"]), f"{watch.milliseconds('proposal'):.0f}",
        f"{delivered:.0f} s, {unsent} unsent",
    )  # fmt: skip
    console.print(table)
    console.print(f"memory at each tenth, MB: {', '.join(f'{m:.0f}' for m in memory.resident)}")


def overhead(console: Console) -> None:
    """How long places wait within a trial and between trials: of sweeps that were run, from their ledgers."""
    table = Table(
        "sweep", "places", "trained, s", "idle, %", "within a trial, s", "to another, s", "at most", "times"
    )
    for name in sys.argv[2:]:
        events = [json.loads(line) for line in Path(name).read_text().splitlines()]
        worked = sorted(
            (e["time"] / 1000 - e["metrics"]["time_this_iter_s"], e["time"] / 1000, e["trial"])
            for e in events
            if e["event"] == "result"
        )
        # A trial goes on where it was, another one takes the place that was left last.
        places: list[tuple[str, float]] = []
        within, between = [], []
        for begun, ended, trial in worked:
            free = [
                (place[0] == trial, place[1], i) for i, place in enumerate(places) if place[1] < begun + 0.05
            ]
            if not free:
                places.append((trial, ended))
                continue
            same, left, i = max(free)
            (within if same else between).append(begun - left)
            places[i] = (trial, ended)
        seconds = sum(ended - begun for begun, ended, _ in worked)
        span = max(ended for _, ended, _ in worked) - worked[0][0]
        table.add_row(
            Path(name).parent.name, str(len(places)), f"{seconds:.0f}",
            f"{100 * (1 - seconds / len(places) / span):.1f}", f"{statistics.median(within):.2f}",
            f"{statistics.median(between):.2f}", f"{max(between):.2f}", str(len(between)),
        )  # fmt: skip
    console.print(table)


def main() -> int:
    parts = {"driver": driver, "delivery": delivery, "tune": ray_tune, "overhead": overhead}
    if sys.argv[1:2] and sys.argv[1] in parts:
        random.seed(0)
        parts[sys.argv[1]](Console(width=110))
        return 0
    print(__doc__, file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
