"""Faults at random in the midst of sweeps on three machines, then the books: nothing may be lost.

    python -m tests.cluster.chaos --minutes 30 --seed 0

Needs root and the packages that tests/fixtures/machines.py names. Prints each fault as it comes and the count
at the end; the exit code is 1 where a book does not balance. A seed draws the same faults.
"""

import argparse
import random
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from tests.cluster.conftest import ship_code, start_ray
from tests.fixtures.books import Sweep, lose_head, process, rejoin
from tests.fixtures.machines import Machine, Network, missing

TRIALS, EPOCHS, EPOCH_SECONDS = 100, 4, 1.0
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

    def trial_killed(self, sweep: Sweep) -> None:
        machine, pid = self.draw.choice(self.running_trials())
        machine.run(f"kill -9 {pid}", check=False)

    def raylet_killed(self, sweep: Sweep) -> None:
        machine = self.draw.choice(self.network.machines[1:])
        machine.run(f"kill -9 {process(machine, 'raylet/raylet ')}", check=False)
        rejoin(self.network, machine)

    def machine_lost(self, sweep: Sweep) -> None:
        machine = self.draw.choice(self.network.machines[1:])
        machine.kill()
        time.sleep(self.draw.uniform(0, 10))
        machine.boot(self.network)
        rejoin(self.network, machine)

    def cable_pulled(self, sweep: Sweep) -> None:
        machine = self.draw.choice(self.network.machines[1:])
        self.network.cut(machine)
        time.sleep(self.draw.uniform(2, 60))
        self.network.mend(machine)
        rejoin(self.network, machine)

    def driver_killed(self, sweep: Sweep) -> None:
        sweep.kill_driver()
        sweep.start()

    def head_lost(self, sweep: Sweep) -> None:
        lose_head(sweep)

    def any(self, sweep: Sweep) -> str:
        """Do one of them; the head's loss, which costs the most time, comes less often."""
        faults = [self.trial_killed] * 4 + [self.raylet_killed] * 2 + [self.machine_lost] * 2
        faults += [self.cable_pulled] * 2 + [self.driver_killed] * 2 + [self.head_lost]
        fault = self.draw.choice(faults)
        fault(sweep)
        return fault.__name__


def run(network: Network, seconds: float, seed: int) -> tuple[Counter, int, int]:
    """Run sweeps under faults; return the faults by kind, the trials, and the epochs that were done twice."""
    draw = random.Random(seed)
    chaos, survived = Chaos(network, draw), Counter()
    head, *workers = network.machines
    ship_code(head)
    start_ray(head)
    for worker in workers:
        start_ray(worker, head)
    end, sweeps, repeated = time.monotonic() + seconds, 0, 0
    while time.monotonic() < end:
        sweep = Sweep(network, f"chaos{sweeps}", TRIALS, EPOCHS, EPOCH_SECONDS)
        sweep.start()
        sweep.wait_for_results(1)
        during: Counter = Counter()
        while time.monotonic() < end and sweep.results() < (TRIALS - 6) * EPOCHS:
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
        print(f"the books of {sweep.name} balance: {TRIALS} trials, {again} epochs done twice", flush=True)
    return survived, sweeps * TRIALS, repeated


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
            survived, trials, repeated = run(network, 60 * a.minutes, a.seed)
        except AssertionError as error:
            print(f"A book does not balance, or the sweep did not end: {error}", file=sys.stderr)
            return 1
    kinds = ", ".join(f"{number} {kind.replace('_', ' ')}" for kind, number in sorted(survived.items()))
    print(f"{survived.total()} faults ({kinds}) in sweeps of {trials} trials: nothing lost, nothing twice;")
    print(f"{repeated} epochs had to be done again")
    return 0


if __name__ == "__main__":
    sys.exit(main())
