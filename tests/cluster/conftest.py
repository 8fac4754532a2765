"""Three machines with Ray on them, one GPU each by pretence, for the tests that need several nodes."""

import shutil
from collections.abc import Iterator

import pytest

from tests.fixtures.machines import MODULE, PACKAGES, REPOSITORY, Machine, Network, missing

# As cluster/environment.sh has it; the token is for the test of `ray up`.
SETTINGS = "RAY_AUTH_MODE=disabled RAY_gcs_rpc_server_reconnect_timeout_s=20"


@pytest.fixture(scope="session")
def network(tmp_path_factory) -> Iterator[Network]:
    """Three machines and a laptop; nothing runs on them yet."""
    if reason := missing():
        pytest.skip(reason)
    with Network(tmp_path_factory.mktemp("network")) as network:
        yield network


@pytest.fixture(scope="module")
def ray_network(network) -> Iterator[Network]:
    """Ray on all three, started by hand; the code is on the head alone."""
    head, *workers = network.machines
    ship_code(head)
    start_ray(head)
    for worker in workers:
        start_ray(worker, head)
    yield network
    for machine in network.machines:
        machine.kill()
        machine.boot(network)


def ship_code(machine: Machine) -> None:
    """Copy the code to a machine, as `ray up` does."""
    for package in PACKAGES:
        shutil.copytree(
            REPOSITORY / package,
            machine.folder / "home/latentune" / package,
            ignore=shutil.ignore_patterns("__pycache__"),
            dirs_exist_ok=True,
        )
    shutil.copy(REPOSITORY / MODULE, machine.folder / "home/latentune")


def start_ray(machine: Machine, head: Machine | None = None, environment: str = "") -> None:
    """Start Ray on a machine: as head, or as a worker of `head`. One CPU, one GPU."""
    role = f"--address={head.address}:6379" if head else "--head --port=6379 --include-dashboard=false"
    for _ in range(3):  # a starved machine needs longer than the 30 s that Ray waits for itself
        done = machine.run(
            f"cd ~ && {environment} {SETTINGS} ~/latentune/.venv/bin/ray start {role} "
            "--num-cpus=1 --num-gpus=1 "
            f"--node-ip-address={machine.address} --object-store-memory=80000000 --disable-usage-stats",
            check=False,
        )
        if done.returncode == 0:
            return
        machine.run("~/latentune/.venv/bin/ray stop --force", check=False)
    raise AssertionError(f"{machine.name}: {done.stdout}")


def run_python(machine: Machine, program: str, environment: str = "", timeout: float = 120) -> str:
    """Run a program on a machine, in ~/latentune; return what it printed."""
    (machine.folder / "home/program.py").write_text(program)
    return machine.run(
        f"cd ~/latentune && {environment} RAY_AUTH_MODE=disabled PYTHONPATH=$PWD OMP_NUM_THREADS=1 "
        ".venv/bin/python ~/program.py",
        timeout=timeout,
    ).stdout
