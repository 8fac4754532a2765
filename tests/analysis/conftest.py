"""One MLflow database with made-up sweeps for all tests of analysis: making one takes seconds."""

import os
import socket
import sqlite3
import sys
from pathlib import Path

import pytest
from mlflow import MlflowClient
from sqlalchemy import Engine, event

from analysis.record.store import connect
from tests.fixtures.processes import chromium, started
from tests.fixtures.recorded import METRIC, Imagined, record

SWEEPS = (
    Imagined("one"),
    Imagined("three", trials=20, dimensions=3, images=False, seed=1),
    Imagined("twin", trials=2, images=False, seed=2),
    Imagined("twin", trials=2, images=False, seed=3),
    Imagined("empty", trials=0),
    Imagined("going-on", trials=3, images=False, status=None),
    Imagined("inception", trials=4, images=False, extractor="inception-6726825d0af5-plain299", seed=4),
    Imagined(
        "two-objectives",
        trials=6,
        images=False,
        stopping=False,
        seed=5,
        tags=(("latentune.objectives", f'{{"{METRIC}": "min", "elbo": "max"}}'),),
    ),
)


@event.listens_for(Engine, "connect")
def _do_not_wait_for_the_disk(connection, _):
    if isinstance(connection, sqlite3.Connection):
        connection.execute("PRAGMA synchronous = OFF")


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("recorded")


@pytest.fixture(scope="session")
def tracking_uri(folder):
    uri = f"sqlite:///{folder}/mlflow.db"
    MlflowClient(uri).create_experiment("beta-vae-gan", artifact_location=str(folder / "artefacts"))
    for k, imagined in enumerate(SWEEPS):
        record(imagined, folder / str(k), uri)
    return uri


@pytest.fixture(scope="session")
def client(tracking_uri):
    return connect(tracking_uri)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """No test reads what another one, or a person, has in the cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("MPLCONFIGDIR", str(tmp_path / "matplotlib"))


@pytest.fixture
def free_port():
    return _free_port()


def _free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


@pytest.fixture(scope="session")
def server(tracking_uri):
    """An MLflow server on the database; it takes half a minute to start."""
    port = _free_port()
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", tracking_uri]
    command += ["--port", str(port), "--workers", "1"]
    environment = os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    with started(command, f"http://127.0.0.1:{port}/health", environment) as url:
        yield url.removesuffix("/health")


@pytest.fixture(scope="session")
def browser():
    with chromium() as driver:
        if driver is None:
            pytest.skip("needs selenium, and Debian's chromium and chromium-driver")
        yield driver


@pytest.fixture(scope="session")
def artifacts():
    """The folder for screenshots; git ignores it."""
    folder = Path(__file__).parents[1] / "artefacts"
    folder.mkdir(exist_ok=True)
    return folder
