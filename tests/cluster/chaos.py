"""Faults at random in the midst of sweeps on three machines, then the books: nothing may be lost.

    python -m tests.cluster.chaos --minutes 30 --seed 0

The sweeps pause and resume their trials, as every sweep does, and are sent from a laptop (`--on`), which
leaves them, comes back and is closed, too. Needs root and the packages that tests/fixtures/machines.py names.
Prints each fault as it comes and the count at the end; the exit code is 1 where a book does not balance. A
seed draws the same faults.
"""

import argparse
import random
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from tests.cluster.conftest import ship_code, start_ray
from tests.cluster.test_faults import CLOCK
from tests.cluster.test_ray_up import Laptop
from tests.fixtures.books import lose_head, process, rejoin
from tests.fixtures.machines import Machine, Network, missing
from tests.fixtures.sent import SentSweep
from tests.searchers.kills import damage

TRIALS, TRAININGS, EPOCHS, EPOCH_SECONDS = 100, 60, 4, 1.0
PAUSE_SECONDS = (5, 12)


class Chaos:
    """The faults; each returns when the machine is whole again."""

    def __init__(self, network: Network, draw: random.Random):
        self.network, self.draw = network, draw

    def running_trials(self) -> list[tuple[Machine, int]]:
        return [
            (machine, pid)
            for machine in self.network.machines
            for pid, args in machine.processes().items()
            if args.startswith("ray::Tiny")
        ]

    def trial_killed(self, sweep: SentSweep) -> None:
        machine, pid = self.draw.choice(self.running_trials())
        machine.run(f"kill -9 {pid}", check=False)

    def raylet_killed(self, sweep: SentSweep) -> None:
        machine = self.draw.choice(self.network.machines[1:])
        machine.run(f"kill -9 {process(machine, 'raylet/raylet ')}", check=False)
        rejoin(self.network, machine)

    def machine_lost(self, sweep: SentSweep) -> None:
        machine = self.draw.choice(self.network.machines[1:])
        machine.kill()
        time.sleep(self.draw.uniform(0, 10))
        machine.boot(self.network)
        rejoin(self.network, machine)

    def cable_pulled(self, sweep: SentSweep) -> None:
        machine = self.draw.choice(self.network.machines[1:])
        self.network.cut(machine)
        time.sleep(self.draw.uniform(2, 60))
        self.network.mend(machine)
        rejoin(self.network, machine)

    def driver_killed(self, sweep: SentSweep) -> None:
        sweep.kill_driver()
        sweep.start()

    def head_lost(self, sweep: SentSweep) -> None:
        lose_head(sweep)

    def snapshot_damaged(self, sweep: SentSweep) -> None:
        sweep.kill_driver()
        damage(self.network.shared / sweep.name, self.draw)
        sweep.start()

    def clock_changed(self, sweep: SentSweep) -> None:
        """Set the clock of a machine's Python, and begin there anew: the driver, or Ray of a worker."""
        machine = self.draw.choice(self.network.machines)
        clock = machine.folder / "home/clock"
        clock.mkdir(exist_ok=True)
        (clock / "sitecustomize.py").write_text(CLOCK.format(hours=self.draw.choice((-3, -1, 1, 3))))
        if machine is sweep.head:
            self.driver_killed(sweep)
        else:
            machine.run("~/latentune/.venv/bin/ray stop --force", check=False)
            start_ray(machine, sweep.head, "PYTHONPATH=/root/clock")

    def laptop_closed(self, sweep: SentSweep) -> None:
        sweep.close_laptop()

    def detached_and_attached(self, sweep: SentSweep) -> None:
        sweep.detach()

    def any(self, sweep: SentSweep) -> str:
        """Do one of them; those that cost the most time come less often."""
        faults = [self.trial_killed] * 3 + [self.raylet_killed] * 2 + [self.machine_lost] * 2
        faults += [self.driver_killed, self.snapshot_damaged, self.clock_changed] * 2
        faults += [self.laptop_closed, self.detached_and_attached] * 2 + [self.cable_pulled, self.head_lost]
        fault = self.draw.choice(faults)
        fault(sweep)
        return fault.__name__


def run(network: Network, seconds: float, seed: int) -> tuple[Counter, int, int, int]:
    """Run sweeps under faults; return the faults by kind, the trials, their epochs, and those done twice."""
    draw = random.Random(seed)
    chaos, survived = Chaos(network, draw), Counter()
    head, *workers = network.machines
    checkout = Laptop(network).checkout
    ship_code(head)
    start_ray(head)
    for worker in workers:
        start_ray(worker, head)
    end, sweeps, trials, epochs, repeated = time.monotonic() + seconds, 0, 0, 0, 0
    while time.monotonic() < end:
        plan = {"trials": TRIALS, "epochs": EPOCHS, "seconds": EPOCH_SECONDS, "trainings": TRAININGS}
        sweep = SentSweep(network, checkout, f"chaos{sweeps}", **plan)
        sweep.start()
        sweep.wait_for_results(1)
        during: Counter = Counter()
        while time.monotonic() < end and sweep.results() < 0.9 * TRAININGS * EPOCHS:
            time.sleep(draw.uniform(*PAUSE_SECONDS))
            sweep.wait_until(lambda sweep=sweep: sweep.ended or chaos.running_trials())
            if sweep.ended:
                break
            kind = chaos.any(sweep)
            during[kind] += 1
            print(f"{time.strftime('%H:%M:%S')} {kind}; {sweep.results()} results", flush=True)
        sweep.wait()
        again = sweep.check_books()
        sweeps, repeated, survived = sweeps + 1, repeated + again, survived + during
        trials, epochs = trials + len(sweep.proposals()), epochs + sweep.results()
        print(f"the books of {sweep.name} balance: {sweep.results()} epochs, {again} done twice", flush=True)
    return survived, trials, epochs, repeated


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.cluster.chaos", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--seed", type=int, default=0)
    a = parser.parse_args()
    if reason := missing():
        print(f"chaos {reason}", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory() as folder, Network(Path(folder) / "network") as network:
        try:
            survived, trials, epochs, repeated = run(network, 60 * a.minutes, a.seed)
        except AssertionError as error:
            print(f"A book does not balance, or the sweep did not end: {error}", file=sys.stderr)
            return 1
    kinds = ", ".join(f"{number} {kind.replace('_', ' ')}" for kind, number in sorted(survived.items()))
    print(f"{survived.total()} faults ({kinds}) in sweeps of {trials} trials and {epochs} epochs:")
    print(f"nothing lost, nothing twice; {repeated} epochs had to be done again")
    return 0


if __name__ == "__main__":
    sys.exit(main())
