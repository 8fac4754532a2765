"""What README.md tells a user with three machines to type, typed: up, a sweep, a look at it, down."""

import re
import shutil
import stat
import time

import numpy as np
import pytest
from PIL import Image

from searchers.record.ledger import Ledger
from tests.fixtures.machines import MODULE, PACKAGES, REPOSITORY, Network
from tests.fixtures.waits import PATIENCE

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3 * PATIENCE)]
SWEEP = (
    "--dataset photos --image-size 16 --width 0.1 --batch-size 16 --evaluation-samples 20 "
    "--features random --num-samples 6 --epochs 2 --gpus-per-trial 1 --name tiny "
    "--results /mnt/shared/results --tracking-uri http://127.0.0.1:5000"
)


# Ctrl-C, once the sweep runs there and is shown here.
LEAVE = """
import signal, subprocess, sys

process = subprocess.Popen([sys.executable, "-m", *sys.argv[1:]], stdout=subprocess.PIPE, text=True)
for line in process.stdout:
    print(line, end="")
    if line.startswith("Data:"):
        process.send_signal(signal.SIGINT)
sys.exit(process.wait())
"""


class Laptop:
    """A checkout on the laptop, with the three lines of ray_cluster.yaml that a user edits edited."""

    def __init__(self, network: Network):
        self.network = network
        self.checkout = checkout = network.laptop.folder / "home/latentune"
        for name in PACKAGES:
            ignore = shutil.ignore_patterns("__pycache__")
            shutil.copytree(REPOSITORY / name, checkout / name, ignore=ignore)
        for name in ("requirements.lock", MODULE):
            shutil.copy(REPOSITORY / name, checkout)
        head, *workers = (machine.address for machine in network.machines)
        text = (REPOSITORY / "ray_cluster.yaml").read_text()
        for key, value in {
            "head_ip": head,
            "worker_ips": f"[{', '.join(workers)}]",
            "ssh_user": "root",
        }.items():
            text, edits = re.subn(rf"(?m)^( *{key}:) .*$", rf"\1 {value}", text)
            assert edits == 1
        # Beside those: this machine's key is no default one, and its GPUs are a pretence.
        text = text.replace("# ssh_private_key:", "ssh_private_key:")
        text = re.sub(
            r"ray start (--head|--address)",
            r"ray start --num-cpus=1 --num-gpus=1 --object-store-memory=80000000 \1",
            text,
        )
        (checkout / "ray_cluster.yaml").write_text(text)
        (checkout / "leave.py").write_text(LEAVE)
        (checkout / "photos").mkdir()
        for number in range(60):
            grey = Image.fromarray(np.full((16, 16, 3), 4 * number, np.uint8))
            grey.save(checkout / "photos" / f"{number} of 60.png")
        for machine in network.machines:  # they see this environment, which is the lock's
            installed = machine.folder / "home/latentune/installed.lock"
            shutil.copy(REPOSITORY / "requirements.lock", installed)

    def ray(self, arguments: str, check: bool = True) -> str:
        command = f"cd ~/latentune && PATH={REPOSITORY}/.venv/bin:$PATH ray {arguments}"
        return self.network.laptop.run(command, timeout=PATIENCE, check=check).stdout

    def type(self, arguments: str, check: bool = True) -> str:
        """Call Python, as a user does in the checkout; return what it printed."""
        command = f"cd ~/latentune && {REPOSITORY}/.venv/bin/python {arguments}"
        return self.network.laptop.run(command, timeout=PATIENCE, check=check).stdout

    def wait_for_nodes(self, number: int) -> str:
        deadline = time.monotonic() + PATIENCE
        while True:
            status = self.ray("exec ray_cluster.yaml 'ray status'", check=False)
            active = re.search(r"Active:\n(.*?)\nPending:", status, re.DOTALL)
            total = re.search(r"/([\d.]+) GPU", status)
            if active and total and float(total[1]) == number:
                return status
            assert time.monotonic() < deadline, status
            time.sleep(2)


@pytest.fixture(scope="module")
def laptop(network):
    return Laptop(network)


def test_up_sweep_down(laptop, network):
    head = network.machines[0]
    said = laptop.type("-m cluster.command status", check=False)
    assert "Cluster latentune is not up: ray up ray_cluster.yaml" in said and "Traceback" not in said
    said = laptop.ray("up -y ray_cluster.yaml")
    assert "MLflow is healthy at http://127.0.0.1:5000" in said
    laptop.wait_for_nodes(3)

    tokens = [machine.folder / "home/.ray/auth_token" for machine in network.machines]
    (token,) = {path.read_text() for path in tokens}
    assert {stat.S_IMODE(path.stat().st_mode) for path in tokens} == {0o600}
    for machine in network.machines:
        assert token not in str(machine.processes())
    check_a_stranger_is_refused(network)
    check_loopback(network)

    said = laptop.type(f"leave.py searchers.beta_vaegan --on ray_cluster.yaml {SWEEP}")
    assert "Sent photos, 0.0 MB, to /mnt/shared/results/sent/" in said, said
    assert "tiny goes on. To come back: latentune cluster attach tiny --on ray_cluster.yaml" in said
    (network.laptop.folder / "tmp/ray/cluster-latentune.state").unlink()  # as the laptop's restart does
    said = laptop.type("-m cluster.command status")
    assert re.search(r"tiny +\S+ \S+ +runs +searchers.beta_vaegan", said), said
    said = " ".join(laptop.type("-m cluster.command attach tiny").split())  # its lines are broken
    fetched = {path.name for path in (laptop.checkout / "results/tiny").iterdir()}
    assert fetched >= {"posterior.png", "report.html", "models", "ledger.jsonl"} and "tune" not in fetched, (
        said
    )
    assert "Data: photos, 60 images" in said and said.endswith("tiny has ended.")
    assert "Ray cluster at 10.77.0.10:6379: 3 nodes, 3 CPUs, 3 GPUs; a trial gets 1 CPU and 1 GPU" in said
    assert token not in said
    folder = network.shared / "results/tiny"
    trials = Ledger(folder / "ledger.jsonl").trials()
    # six of the search, and its best two trained again with another seed
    assert len(trials) == 8 and all(record.status for record in trials.values())
    runs = head.run(
        'cd ~/latentune && . cluster/environment.sh && python -c "'
        "from mlflow import MlflowClient; client = MlflowClient('http://127.0.0.1:5000'); "
        "(known,) = (e.experiment_id for e in client.search_experiments() if e.name == 'beta-vae-gan'); "
        "runs = client.search_runs([known]); "
        "(top,) = (r.info.run_id for r in runs if r.info.run_name == 'tiny'); "
        "print(sum(top in (r.info.run_id, r.data.tags.get('mlflow.parentRunId')) for r in runs))\"",
        timeout=PATIENCE,
    ).stdout
    assert runs.splitlines()[-1] == "9"  # the sweep and its trials
    data = head.folder / "home/latentune-tracking"
    assert (data / "mlflow.db").exists() and (data / "artifacts").exists()

    assert "Cluster latentune is down" in laptop.type("-m cluster.command down")
    deadline = time.monotonic() + PATIENCE
    while left := {machine.name: machine.processes() for machine in network.machines if machine.processes()}:
        assert time.monotonic() < deadline, left
        time.sleep(1)
    assert (data / "mlflow.db").exists()  # the results stay


def check_a_stranger_is_refused(network: Network) -> None:
    """From the laptop, which has no token, nobody joins the cluster."""
    join = "import ray; ray.init('10.77.0.10:6379', log_to_driver=False); print('joined', ray.nodes())"
    for mode in ("disabled", "token"):
        token = f"RAY_AUTH_MODE={mode} RAY_AUTH_TOKEN={'0' * 64}"
        said = network.laptop.run(
            f'{token} timeout 60 {REPOSITORY}/.venv/bin/python -c "{join}"', check=False, timeout=120
        )
        assert said.returncode != 0 and "joined" not in said.stdout


def check_loopback(network: Network) -> None:
    """MLflow, the dashboard and the like cannot be reached from another machine."""
    listening = network.machines[0].run("ss -ltnH").stdout
    addresses = [line.split()[3] for line in listening.splitlines()]
    assert "127.0.0.1:5000" in addresses
    beyond = {
        address.rpartition(":")[2] for address in addresses if not address.startswith(("127.", "[::1]"))
    }
    assert not beyond & {"5000", "8265"}
