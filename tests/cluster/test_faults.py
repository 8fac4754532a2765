"""Machines, processes and cables that fail in the midst of a sweep; then the books are read: nothing is lost.

One sweep takes each fault. Counted are: trials, epochs' results, MLflow runs and points (none lost, none
twice), and epochs that were begun more often than once (what the fault cost).
"""

import time

import pytest

from tests.cluster.conftest import start_ray
from tests.fixtures.books import Sweep, lose_head, process, rejoin
from tests.fixtures.waits import PATIENCE, wait_until

ASK_CLOCK = "PYTHONPATH=/root/clock ~/latentune/.venv/bin/python -c 'import time; print(time.time())'"

NOTICE = (
    "RAY_AUTH_MODE=disabled ~/latentune/.venv/bin/ray drain-node --address {head}:6379 --reason-message spot "
    "--reason DRAIN_NODE_REASON_PREEMPTION --deadline-remaining-seconds 3"
)

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3 * PATIENCE)]


@pytest.fixture
def sweep(ray_network, request):
    sweep = Sweep(ray_network, request.node.name.removeprefix("test_").replace("_", "-"))
    sweep.start()
    sweep.wait_for_results(2)
    return sweep


def test_a_trial_s_process_killed(sweep, ray_network):
    worker = ray_network.machines[1]
    worker.run(f"kill -9 {process(worker, '^ray::Tiny')}")
    sweep.wait()
    assert sweep.check_books() <= 1
    assert sweep.hosts() == {"machine0", "machine1", "machine2"}


def test_a_raylet_killed(sweep, ray_network):
    worker = ray_network.machines[1]
    worker.run(f"kill -9 {process(worker, 'raylet/raylet ')}")
    sweep.wait_for_results(8)
    rejoin(ray_network, worker)
    sweep.wait()
    assert sweep.check_books() <= 1


def test_a_machine_lost_and_back(sweep, ray_network):
    worker = ray_network.machines[2]
    worker.kill()
    sweep.wait_for_results(8)
    worker.boot(ray_network)
    rejoin(ray_network, worker)
    sweep.wait()
    assert sweep.check_books() <= 1


def test_a_machine_that_gives_notice_before_it_goes(sweep, ray_network):
    worker = ray_network.machines[1]
    worker.run(NOTICE.format(head=ray_network.machines[0].address))
    sweep.wait_until(lambda: "a machine is to be taken away" in sweep.log)
    wait_until(lambda: not any("ray::Tiny" in args for args in worker.processes().values()))
    worker.kill()
    worker.boot(ray_network)
    rejoin(ray_network, worker)
    sweep.wait()
    assert sweep.check_books() <= 1  # one may have begun as it was moved


def test_the_driver_killed_and_resumed(sweep):
    sweep.wait_for_results(5)
    before = sweep.proposals()
    sweep.kill_driver()
    unsaved = sweep.unsaved()
    sweep.start()
    sweep.wait()
    assert sweep.check_books() <= 3 + unsaved  # the epoch that each trial was in
    assert sweep.proposals()[: len(before)] == before


def test_a_cable_pulled_and_the_trial_goes_on_elsewhere(sweep, ray_network):
    worker = ray_network.machines[1]
    ray_network.cut(worker)
    # The machine that is cut off gives up before the head gives it up: its trial does not run twice at once.
    wait_until(lambda: not any("ray::Tiny" in args for args in worker.processes().values()))
    ray_network.mend(worker)
    sweep.wait()
    rejoin(ray_network, worker)
    assert sweep.check_books() <= 4  # it went on by itself until it noticed


def test_the_head_lost_and_up_again(sweep):
    sweep.wait_for_results(5)
    before = sweep.proposals()
    unsaved = lose_head(sweep)
    sweep.wait()
    assert sweep.check_books() <= 3 + unsaved
    assert sweep.proposals()[: len(before)] == before


CLOCK = """
import time
for name, hours in (("time", {hours}), ("time_ns", {hours} * 10**9)):
    setattr(time, name, lambda right=getattr(time, name), hours=hours: right() + 3600 * hours)
"""


def test_clocks_that_are_hours_apart(ray_network):
    """For Python, one worker is hours ahead, one behind; a trial moves. The driver's clock counts."""
    head, *workers = ray_network.machines
    for worker, hours in zip(workers, (3, -3), strict=True):
        clock = worker.folder / "home/clock"
        clock.mkdir()
        (clock / "sitecustomize.py").write_text(CLOCK.format(hours=hours))
        worker.run("~/latentune/.venv/bin/ray stop --force", check=False)
        start_ray(worker, head, "PYTHONPATH=/root/clock")
        assert abs(float(worker.run(ASK_CLOCK).stdout) - time.time() - 3600 * hours) < 60
    began = time.time()
    sweep = Sweep(ray_network, "clocks")
    sweep.start()
    sweep.wait_for_results(2)
    workers[0].run(f"kill -9 {process(workers[0], '^ray::Tiny')}")
    sweep.wait()
    assert sweep.check_books() <= 1
    assert sweep.hosts() == {"machine0", "machine1", "machine2"}
    times = [event["time"] / 1000 for event in sweep.events()]
    assert times == sorted(times) and began - 1 < times[0] and times[-1] < time.time() + 1
