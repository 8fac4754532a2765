"""What notices of 30 s before a machine goes save: `python -m tests.cluster.notices --pairs 2`, as root.

Three machines made of namespaces, a trial on each, epochs of ten seconds. One machine is told of by Ray's
drain protocol, goes 30 s later and comes back; then the same with a driver that does not listen to notices.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path

from tests.cluster.conftest import ship_code, start_ray
from tests.fixtures.books import Sweep, rejoin
from tests.fixtures.machines import Network

NOTICE = (
    "RAY_AUTH_MODE=disabled ~/latentune/.venv/bin/ray drain-node --address {head}:6379 --reason-message spot "
    "--reason DRAIN_NODE_REASON_PREEMPTION --deadline-remaining-seconds 30"
)
# The trial notes how long it trains in each epoch that it begins.
WAIT = 'time.sleep(self.parameters["seconds"])'
BEATS = """for beat in range(int(10 * self.parameters["seconds"])):
            time.sleep(0.1)
            mark.write_text(str((beat + 1) / 10))"""
DEAF = "import cluster.watchdog\n\ncluster.watchdog.draining_nodes = dict\n\n\nclass Tiny"
EPOCH, SECONDS = 10.0, 30


def sweep_with_a_notice(network: Network, name: str, listens: bool, which: int) -> dict:
    """Return what a notice came to: epochs begun again, their seconds of lost training, and the sweep's."""
    sweep = Sweep(network, name, trials=3, epochs=8, seconds=EPOCH)
    job = sweep.home / "job.py"
    code = job.read_text().replace(WAIT, BEATS, 1)
    job.write_text(code if listens else code.replace("class Tiny", DEAF, 1))
    sweep.start()
    sweep.wait_for_results(3 + which)
    worker = network.machines[1 + which % 2]
    worker.run(NOTICE.format(head=network.machines[0].address))
    time.sleep(SECONDS)
    worker.kill()
    worker.boot(network)
    rejoin(network, worker)
    sweep.wait()
    trained: dict[tuple[str, ...], list[float]] = {}
    for path in (network.shared / f"{name}-begun").iterdir():
        trained.setdefault(tuple(path.name.split("-")[:2]), []).append(float(path.read_text() or 0))
    lost = [seconds for times in trained.values() for seconds in sorted(times)[:-1]]
    events = sweep.events()
    took = (events[-1]["time"] - events[0]["time"]) / 1000
    return {"sweep": name, "again": sweep.check_books(), "lost": lost, "took": round(took)}


def main() -> None:
    """Print a line of JSON for each sweep."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=2)
    pairs = parser.parse_args().pairs
    with Network(Path(tempfile.mkdtemp(prefix="notices-"))) as network:
        head, *workers = network.machines
        ship_code(head)
        start_ray(head)
        for worker in workers:
            start_ray(worker, head)
        for which in range(pairs):
            for listens in (True, False):
                name = f"{'heard' if listens else 'unheard'}-{which}"
                print(json.dumps(sweep_with_a_notice(network, name, listens, which)), flush=True)


if __name__ == "__main__":
    main()
