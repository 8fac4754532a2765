"""Runs the MLflow tracking server without containers: `python -m cluster.tracking`.

The server keeps runs in SQLite and artifacts in a folder, or where --backend-store-uri and
--artifacts-destination say. It announces itself once it is healthy, ends with all its processes, and is
restarted when its server process dies. Beyond loopback it asks for the user and password in
`<folder>/credentials`, which it makes on first use, readable by this user alone.
"""

import configparser
import contextlib
import importlib.util
import ipaddress
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import tyro

from cluster.background import BackgroundError, Owner, only_one, run_detached
from cluster.interrupts import take_sigterm_as_ctrl_c
from latentune import called
from trainables.data.addresses import secret_in

PROGRAM = "python -m cluster.tracking"
START_SECONDS = 180  # importing MLflow took 10 s on two cores; a cold disk takes several times as long
STOP_SECONDS = 10
# `ray stop` and a new `ray up` take about as long together: a server that follows Ray outlives a restart.
FOLLOW_SECONDS = 15
RESTART_SECONDS = (1, 2, 5, 10, 30)


class TrackingError(RuntimeError):
    """The server cannot run as asked; the message says why, and what to do."""


@dataclass(frozen=True)
class TrackingConfig:
    """Settings of the server; also its command line."""

    folder: Path = Path("~/latentune-tracking")
    """holds the database, artifacts, log and credentials"""
    host: str = "127.0.0.1"
    """address to listen on; beyond loopback, users must log in"""
    port: int = 5000
    """port to listen on"""
    backend_store_uri: str | None = None
    """database, as postgresql://host/name; one with a password goes into MLFLOW_BACKEND_STORE_URI"""
    artifacts_destination: str | None = None
    """artifact store, as s3://bucket/folder; a folder beside the database, if not given"""
    allowed_hosts: tuple[str, ...] = ()
    """more host names by which clients reach this server"""
    detach: bool = False
    """return once the server is healthy, and replace one that already serves the folder"""
    wait: bool = False
    """wait while another process serves the folder, also on another machine, and then serve it"""
    follow: str | None = None
    """end when nothing listens at this host:port any longer"""

    def __post_init__(self):
        if not 0 < self.port < 65536:
            raise TrackingError(f"--port is {self.port}; it must be between 1 and 65535")
        for name, remedy in (
            ("backend_store_uri", "set the environment variable MLFLOW_BACKEND_STORE_URI instead"),
            (
                "artifacts_destination",
                "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY instead",
            ),
        ):
            if what := secret_in(getattr(self, name) or ""):
                raise TrackingError(
                    f"--{name.replace('_', '-')} holds a secret, {what}, which every user of this machine "
                    f"could read in the process list; {remedy}"
                )
        if self.follow and not self.follow.rpartition(":")[2].isdigit():
            raise TrackingError(f"--follow is {self.follow!r}; it must be host:port")

    @property
    def url(self) -> str:
        """Return the address at which clients on this machine reach the server."""
        everywhere = self.host in ("0.0.0.0", "::")
        host = "127.0.0.1" if everywhere else self.host
        return f"http://[{host}]:{self.port}" if ":" in host else f"http://{host}:{self.port}"

    @property
    def is_open(self) -> bool:
        """Return whether other machines reach the server."""
        try:
            return not ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host != "localhost"


class TrackingServer:
    """One `mlflow server` and all its processes, for one folder."""

    def __init__(self, config: TrackingConfig):
        self.config = replace(config, folder=config.folder.expanduser().resolve())
        self.log = self.config.folder / "server.log"
        self._process: subprocess.Popen | None = None

    def start(self, owner: Owner, stopping: list) -> None:
        """Start the server; return when it is healthy, or when `stopping` is no longer empty.

        Raises TrackingError where it does not start.
        """
        c = self.config
        _refuse_taken_port(c)
        command = [sys.executable, "-m", "mlflow", "server", "--host", c.host, "--port", str(c.port)]
        # One process serves a sweep's single writer; four would take 1.8 GB and a minute to start.
        command += ["--workers", "1"]
        command += ["--artifacts-destination", c.artifacts_destination or str(c.folder / "artifacts")]
        # By environment, not by argument: the process list would show a database's password to all users.
        environment = dict(os.environ) | {
            "MLFLOW_BACKEND_STORE_URI": self.backend_store_uri,
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
            "MLFLOW_DISABLE_TELEMETRY": "true",
        }
        environment.pop("MLFLOW_TRACKING_URI", None)
        if c.is_open:
            command += ["--app-name", "basic-auth", "--allowed-hosts", ",".join(_allowed_hosts(c))]
            environment |= self._authentication()
        self.log.touch(mode=0o600)
        start = self.log.stat().st_size
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment,
                cwd=c.folder,
                start_new_session=True,  # one signal to the group ends all its processes
            )
        owner.answers_for(self._process.pid)
        deadline = time.monotonic() + START_SECONDS
        while not stopping and not is_healthy(c.url):
            if self._process.poll() is not None:
                raise TrackingError(f"MLflow's server ended at its start: {_last_error(self.log, start)}")
            if time.monotonic() > deadline:
                raise TrackingError(f"MLflow's server is silent after {START_SECONDS} s; see {self.log}")
            time.sleep(0.2)

    @property
    def backend_store_uri(self) -> str:
        """Return the database: as given, else from the environment, else SQLite in the folder."""
        given = self.config.backend_store_uri or os.environ.get("MLFLOW_BACKEND_STORE_URI")
        return given or f"sqlite:///{self.config.folder / 'mlflow.db'}"

    def welcome(self) -> str:
        """Return a line that says where the server is."""
        c = self.config
        login = f"; user and password are in {c.folder / 'credentials'}" if c.is_open else ""
        # Without this parameter MLflow 3 opens its page in the mode "GenAI", which hides the table of runs.
        page = f"{c.url}/#/experiments?workflowType=machine_learning"
        return f"MLflow is healthy at {page}{login}"

    def alive(self) -> bool:
        """Return whether the server's process runs."""
        return self._process is not None and self._process.poll() is None

    def stop(self) -> None:
        """End the server and all its processes."""
        if self._process is None:
            return
        for sign, patience in ((signal.SIGTERM, STOP_SECONDS), (signal.SIGKILL, STOP_SECONDS)):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, sign)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(patience)
        self._process = None

    def _authentication(self) -> dict[str, str]:
        """Return the settings of MLflow's log-in; make the administrator's password on first use."""
        if importlib.util.find_spec("flask_wtf") is None:
            raise TrackingError(
                f"Beyond loopback (--host {self.config.host}) users must log in, which needs Flask-WTF: "
                "pip install 'Flask-WTF<2'"
            )
        folder = self.config.folder
        credentials, session_key, settings = (
            folder / name for name in ("credentials", "session_key", "authentication.ini")
        )
        if not credentials.exists():
            # The format of ~/.mlflow/credentials: a client copies the file there.
            user = {
                "mlflow_tracking_username": "admin",
                "mlflow_tracking_password": secrets.token_urlsafe(24),
            }
            _write_private(credentials, {"mlflow": user})
            session_key.unlink(missing_ok=True)
        if not session_key.exists():
            _write_private(session_key, {"mlflow": {"key": secrets.token_hex(32)}})
        _write_private(
            settings,
            {
                "mlflow": {
                    "default_permission": "READ",
                    "database_uri": f"sqlite:///{folder / 'users.db'}",
                    "admin_username": "admin",
                    "authorization_function": "mlflow.server.auth:authenticate_request_basic_auth",
                }
            },
        )
        return {
            "MLFLOW_AUTH_CONFIG_PATH": str(settings),
            "MLFLOW_AUTH_ADMIN_PASSWORD": _read(credentials)["mlflow_tracking_password"],
            "MLFLOW_FLASK_SERVER_SECRET_KEY": _read(session_key)["key"],
        }


def is_healthy(url: str) -> bool:
    """Return whether an MLflow server answers at `url`."""
    try:
        with urllib.request.urlopen(f"{url}/health", timeout=2) as answer:
            return answer.read().strip() == b"OK"
    except (OSError, ValueError):
        return False


def serve(server: TrackingServer, owner: Owner, announce: Callable[[str], object]) -> None:
    """Start and announce the server; restart it when it dies, until a signal or the end of what it follows.

    Raises TrackingError where the first start fails.
    """
    stopping = []
    for sign in (signal.SIGTERM, signal.SIGINT):
        signal.signal(sign, lambda *_: stopping.append(True))
    try:
        server.start(owner, stopping)
        if not stopping:
            announce(server.welcome())
        follow, seen, attempt = server.config.follow, time.monotonic(), 0
        while not stopping:
            time.sleep(0.5)
            if follow is not None:
                if _listens(follow):
                    seen = time.monotonic()
                elif time.monotonic() - seen > FOLLOW_SECONDS:
                    return
            if server.alive():
                continue
            server.stop()  # its remaining processes hold the port
            again = time.monotonic() + RESTART_SECONDS[min(attempt, len(RESTART_SECONDS) - 1)]
            while time.monotonic() < again and not stopping:
                time.sleep(0.2)
            if stopping:
                return
            attempt += 1
            with contextlib.suppress(TrackingError):
                server.start(owner, stopping)
                attempt = 0
    finally:
        server.stop()


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return its exit code, which is 2 where the server cannot run as asked."""
    try:
        config = tyro.cli(
            TrackingConfig, prog=called(PROGRAM), args=arguments, description=__doc__.split("\n")[0]
        )
        server = TrackingServer(config)
        folder = server.config.folder
        if config.detach:
            print(run_detached(folder, server.log, partial(serve, server)))
        else:
            if config.wait:
                take_sigterm_as_ctrl_c()
            with only_one(folder, config.wait) as owner:
                serve(server, owner, partial(print, flush=True))
    except (TrackingError, BackgroundError) as error:
        print(f"{called(PROGRAM)}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    return 0


def _allowed_hosts(config: TrackingConfig) -> list[str]:
    """Return the host names under which the server accepts requests (their Host header)."""
    names = {socket.gethostname(), socket.getfqdn(), "localhost", "127.0.0.1", *config.allowed_hosts}
    names |= {config.host} - {"0.0.0.0", "::"}
    # MLflow accepts private addresses by itself, but no longer once it is given names.
    private = ["10.*", "192.168.*", *(f"172.{i}.*" for i in range(16, 32))]
    return sorted(names | {f"{name}:{config.port}" for name in names}) + private


def _refuse_taken_port(config: TrackingConfig) -> None:
    family = socket.AF_INET6 if ":" in config.host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((config.host, config.port))
        except OSError as error:
            what = "an MLflow server" if is_healthy(config.url) else error.strerror
            raise TrackingError(
                f"Cannot listen on {config.host}:{config.port} ({what}); name a free port with --port"
            ) from error


def _listens(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=2).close()
    except OSError:
        return False
    return True


def _last_error(log: Path, start: int) -> str:
    """Return the log's last line about an error. A whole traceback could show a database's password."""
    with log.open("rb") as file:
        file.seek(start)
        lines = [line.strip() for line in file.read().decode(errors="replace").splitlines() if line.strip()]
    return next((line for line in reversed(lines) if "Error" in line or "error" in line), f"see {log}")


def _write_private(path: Path, sections: dict[str, dict[str, str]]) -> None:
    path.unlink(missing_ok=True)
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        parser = configparser.ConfigParser(interpolation=None)
        parser.read_dict(sections)
        parser.write(file)


def _read(path: Path) -> dict[str, str]:
    parser = configparser.ConfigParser(interpolation=None)
    parser.read(path)
    return dict(parser["mlflow"])


if __name__ == "__main__":
    sys.exit(main())
