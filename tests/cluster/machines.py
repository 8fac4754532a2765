"""Several "machines" on this one: Linux namespaces, each with its own sshd, home, /tmp and processes.

A machine is a network, mount, PID, UTS and IPC namespace, joined to a bridge in a namespace of its own,
where the "laptop" lives. Nothing has a name outside: when the leading processes die, the kernel takes all the
rest along.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
INTERPRETER = Path(os.path.realpath(sys.executable)).parents[1]
# What `ray up` ships.
PACKAGES = ("cluster", "trainables", "searchers", "analysis")
SUBNET = "10.77.0"
IDLE = "sleep infinity"
NEEDED = ("unshare", "nsenter", "setpriv", "ip", "ssh", "rsync", "/usr/sbin/sshd")


def missing() -> str | None:
    """Return why machines cannot be made here, or None."""
    absent = [tool for tool in NEEDED if shutil.which(tool) is None]
    if absent:
        return f"needs {', '.join(absent)} (apt-get install openssh-server openssh-client iproute2 rsync)"
    if os.geteuid():
        return "needs root, to make namespaces"
    if " " in str(REPOSITORY):
        return f"needs a checkout whose path has no space, not {REPOSITORY}"
    trial = subprocess.run(["unshare", "--net", "--mount", "--pid", "--fork", "true"], capture_output=True)
    return "the kernel refuses to make namespaces" if trial.returncode else None


# A machine knows its own name; there is no name server, and nobody waits for its answer.
_NAMES = """
            mkdir -p /tmp/.etc
            printf '127.0.0.1 localhost\n%s %s\n' $address $(hostname) > /tmp/.etc/hosts
            : > /tmp/.etc/resolv.conf
            for file in hosts resolv.conf; do mount --bind /tmp/.etc/$file /etc/$file; done
"""


class Namespace:
    """A leading process in namespaces of its own; commands run inside; its death ends all that is inside."""

    def __init__(self, name: str, folder: Path):
        self.name, self.folder = name, folder
        self.leader: int | None = None
        self._unshare: subprocess.Popen | None = None

    def start(self, script: str) -> None:
        """Start the namespaces with a shell script as their first process; it signals READY when set up."""
        self.folder.mkdir(parents=True, exist_ok=True)
        log = (self.folder / "leader.log").open("ab")
        # setpriv: a test run that is killed takes its machines along.
        flags = ["--net", "--mount", "--pid", "--uts", "--ipc", "--fork", "--kill-child", "--mount-proc"]
        self._unshare = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", "unshare", *flags, "bash", "-euc", script],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            start_new_session=True,
            env={"PATH": os.environ["PATH"], "LANG": "C.UTF-8"},
        )
        children = Path(f"/proc/{self._unshare.pid}/task/{self._unshare.pid}/children")
        deadline = time.monotonic() + 10
        while not (pids := children.read_text().split()):
            if time.monotonic() > deadline:
                raise RuntimeError(f"{self.name}: no process in the new namespaces after 10 s")
            time.sleep(0.01)
        self.leader = int(pids[0])

    def release(self) -> None:
        """Let the script go on (its network is plugged in now), and wait until it says READY."""
        self._unshare.stdin.write(b"go\n")
        self._unshare.stdin.flush()
        if self._unshare.stdout.readline() != b"READY\n":
            raise RuntimeError(f"{self.name} did not start: {(self.folder / 'leader.log').read_text()}")

    def command(self, *arguments: str) -> list[str]:
        """Return the command line that runs `arguments` inside, with the inside's root folder and /proc."""
        inside = ["--net", "--mount", "--pid", "--uts", "--ipc"]
        return ["nsenter", "--target", str(self.leader), *inside, "--wd=/", *arguments]

    def run(self, script: str, *, timeout: float = 300, check: bool = True) -> subprocess.CompletedProcess:
        """Run a shell script inside; return what it printed (both streams together)."""
        # Into a file, not a pipe: what ssh leaves in the background would hold a pipe open.
        with tempfile.TemporaryFile("w+") as output:
            done = subprocess.run(
                self.command("env", "-i", *self.environment(), "bash", "-c", script),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                timeout=timeout,
            )
            output.seek(0)
            done.stdout = output.read()
        if check and done.returncode:
            raise AssertionError(f"{self.name}: `{script}` exited with {done.returncode}:\n{done.stdout}")
        return done

    def environment(self) -> list[str]:
        """Return what a command inside starts with."""
        return ["HOME=/root", "USER=root", "LANG=C.UTF-8", "TERM=xterm", f"PATH={os.environ['PATH']}"]

    def processes(self) -> dict[int, str]:
        """Return the command lines inside, by process id: all but the leaders', sshd's and this one's."""
        listing = self.run("ps -ww -eo pid=,ppid=,args=").stdout.splitlines()
        rows = {
            int(pid): (int(parent), args) for pid, parent, args in (row.split(None, 2) for row in listing)
        }
        own = {pid for pid, (_, args) in rows.items() if args.startswith("ps -ww") or args == IDLE}
        own |= {rows[pid][0] for pid in own} | {1}
        return {
            pid: args
            for pid, (_, args) in rows.items()
            if pid not in own and not args.startswith(("sshd:", "/usr/sbin/sshd"))
        }

    def kill(self) -> None:
        """End all that is inside at once, as a power cut does."""
        if self._unshare is not None:
            if self.leader is not None:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(self.leader, signal.SIGKILL)
            self._unshare.wait(timeout=30)
            self._unshare = self.leader = None


class Machine(Namespace):
    """A host with sshd at `address`, which sees the interpreter, the environment and a folder all share."""

    def __init__(self, name: str, address: str, folder: Path, shared: Path, key: Path):
        super().__init__(name, folder)
        self.address, self.shared, self.key = address, shared, key

    def boot(self, network: "Network") -> None:
        """Start the machine and plug it in. Its home and /tmp are what the last boot left."""
        home, tmp = self.folder / "home", self.folder / "tmp"
        for folder in (home / ".ssh", home / "latentune/.venv", tmp):
            folder.mkdir(parents=True, exist_ok=True)
        tmp.chmod(0o1777)
        home.chmod(0o700)
        if not (self.folder / "host_key").exists():
            _make_key(self.folder / "host_key")
        shutil.copy(self.key.with_suffix(".pub"), home / ".ssh/authorized_keys")
        shutil.copy("/etc/skel/.bashrc", home / ".bashrc") if not (home / ".bashrc").exists() else None
        environment = REPOSITORY / ".venv"
        options = {
            "PasswordAuthentication": "no",
            "PermitRootLogin": "yes",
            "UsePAM": "no",
            "StrictModes": "no",
            "PidFile": "none",
            "MaxStartups": "100",
            "HostKey": "/run/host_key",
            "SetEnv": f"PATH={os.environ['PATH']}",
        }
        flags = " ".join(f"-o {name}={value}" for name, value in options.items())
        self.start(f"""
            hostname {self.name}
            address={self.address}
            stage=$(mktemp -d)
            mount --make-rprivate /
            mount -t tmpfs tmpfs $stage
            mkdir $stage/interpreter $stage/environment $stage/shared $stage/home $stage/tmp
            mount --bind {INTERPRETER} $stage/interpreter
            # The environment that the lock makes: without this project, whose code `ray up` ships.
            mkdir $stage/removed $stage/work
            layers=lowerdir={environment},upperdir=$stage/removed,workdir=$stage/work
            mount -t overlay overlay -o $layers $stage/environment
            rm -r $stage/environment/lib/python3*/site-packages/*latentune*
            mount --bind {self.shared} $stage/shared
            mount --bind {home} $stage/home
            mount --bind {tmp} $stage/tmp
            cp {self.folder}/host_key $stage/host_key
            mount -t tmpfs tmpfs /mnt
            mkdir /mnt/stage
            mount --rbind $stage /mnt/stage
            mount -t tmpfs -o size=256m tmpfs /dev/shm
            mount -t tmpfs tmpfs /run
            mkdir /run/sshd
            cp /mnt/stage/host_key /run/host_key
            chmod 600 /run/host_key
            # What a machine has of this one: neither its homes nor the repository.
            mount --bind /mnt/stage/home /root
            mount --bind /mnt/stage/tmp /tmp
            mkdir -p {REPOSITORY}
            mount -t tmpfs tmpfs {REPOSITORY}
            mkdir -p {INTERPRETER} {environment}
            mount --bind -o ro /mnt/stage/interpreter {INTERPRETER}
            mount --bind -o ro /mnt/stage/environment {environment}
            mount --bind -o ro /mnt/stage/environment /root/latentune/.venv
            mkdir /mnt/shared
            mount --bind /mnt/stage/shared /mnt/shared
            {_NAMES}
            ip link set lo up
            read -r _
            ip link set eth0 up
            ip address add $address/24 dev eth0
            ip route add default via {SUBNET}.1
            /usr/sbin/sshd {flags}
            echo READY
            {IDLE} & wait  # bash stays: it buries the dead, as an init does
        """)
        network.plug(self)
        self.release()


class Network:
    """A laptop and some machines on one bridge. A context manager; leaving it ends them all."""

    def __init__(self, folder: Path, machines: int = 3):
        self.folder = folder
        self.key = folder / "id_ed25519"
        self.laptop = Namespace("laptop", folder / "laptop")
        self.shared = folder / "shared"
        self.machines = [
            Machine(f"machine{i}", f"{SUBNET}.{10 + i}", folder / f"machine{i}", self.shared, self.key)
            for i in range(machines)
        ]

    def __enter__(self) -> "Network":
        self.shared.mkdir(parents=True)
        _make_key(self.key)
        home, tmp = self.laptop.folder / "home", self.laptop.folder / "tmp"
        for folder in (home / ".ssh", tmp):
            folder.mkdir(parents=True)
        shutil.copy(self.key, home / ".ssh/id_ed25519")
        interpreter = f"mkdir -p {INTERPRETER}; mount --bind /mnt/interpreter {INTERPRETER}"
        try:
            self.laptop.start(f"""
                hostname laptop
                address={SUBNET}.1
                mount --make-rprivate /
                ip link set lo up
                ip link add bridge type bridge
                ip link set bridge up
                ip address add $address/24 dev bridge
                stage=$(mktemp -d)
                mount -t tmpfs tmpfs $stage
                mkdir $stage/interpreter $stage/repository $stage/home $stage/tmp
                mount --bind {INTERPRETER} $stage/interpreter
                mount --bind {REPOSITORY} $stage/repository
                mount --bind {home} $stage/home
                mount --bind {tmp} $stage/tmp
                mount --rbind $stage /mnt
                mount --bind /mnt/home /root
                {interpreter}
                mount --bind /mnt/tmp /tmp
                {_NAMES}
                mkdir -p {REPOSITORY}
                mount --bind /mnt/repository {REPOSITORY}
                read -r _
                echo READY
                exec sleep infinity
            """)
            self.laptop.release()
            for machine in self.machines:
                machine.boot(self)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for machine in (*self.machines, self.laptop):
            machine.kill()

    def plug(self, machine: Machine) -> None:
        """Join a machine's eth0 to the bridge."""
        port = f"to-{machine.name}"
        # The kernel takes its time to bury a dead machine's cable.
        with contextlib.suppress(subprocess.CalledProcessError):
            self._lan(f"ip link delete {port}")
        self._lan(f"ip link add {port} type veth peer name eth0 netns {machine.leader}")
        self._lan(f"ip link set {port} master bridge up")

    def cut(self, machine: Machine) -> None:
        """Pull the machine's network cable."""
        self._lan(f"ip link set to-{machine.name} down")

    def mend(self, machine: Machine) -> None:
        """Plug the cable in again."""
        self._lan(f"ip link set to-{machine.name} up")

    def _lan(self, command: str) -> None:
        # Only the network namespace of the laptop: `netns PID` is a process id of the outside.
        subprocess.run(
            ["nsenter", "--target", str(self.laptop.leader), "--net", *command.split()],
            check=True,
            capture_output=True,
            text=True,
        )


def _make_key(path: Path) -> None:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)], check=True)
