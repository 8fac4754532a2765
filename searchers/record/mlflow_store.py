"""MLflow as a place to write to: how a client is made, and which of its errors waiting does not cure."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from pathlib import Path
from secrets import token_hex
from threading import Thread
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from filelock import FileLock

from trainables.data.addresses import SQLITE, database_path

if TYPE_CHECKING:
    from sqlite3 import Connection

    from mlflow import MlflowClient
    from mlflow.entities import Run

# We ask a dead server again ourselves, in the background; MLflow's client would do so for minutes in a call.
# Nor does the client print into the sweep's table where to look at each run that has ended.
CLIENT_SETTINGS = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}
# Error codes of a store that is away or overloaded. All others are answers: asking again gives the same.
PASSING = {"TEMPORARILY_UNAVAILABLE", "REQUEST_LIMIT_EXCEEDED", "ABORTED", "CANCELLED"}
UNKNOWN = "INTERNAL_ERROR"
LASTING = (FileNotFoundError, PermissionError, NotADirectoryError, IsADirectoryError)


class StoreError(ValueError):
    """MLflow can't be written to, and waiting does not help; the message is a clause that says why."""


def passes(error: Exception, tracking_uri: str) -> bool:
    """Whether the same call may go through later: the store is away, busy, or its disk is full."""
    from mlflow.exceptions import MlflowException

    if isinstance(error, MlflowException):
        # "Internal" is also what the client calls a server that does not answer; of a database it is final.
        return error.error_code in PASSING or (error.error_code == UNKNOWN and is_remote(tracking_uri))
    # The network's errors are OSErrors, and so is a full disk; a file that is not there stays away.
    return isinstance(error, OSError) and not isinstance(error, LASTING)


def sentence(error: Exception) -> str:
    """Return the first line of an error's text, or its name where it has none."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def import_early() -> None:
    """Import MLflow, seconds of work, in a thread while another waits for Ray; `client_of` tells errors."""

    def attempt() -> None:
        with suppress(ImportError):
            import_module("mlflow")

    Thread(target=attempt, name="import of MLflow", daemon=True).start()


def client_of(tracking_uri: str) -> "MlflowClient":
    """Return a client that retries once and prints no addresses. A missing SQLite database is made.

    Raises StoreError where MLflow is missing, where it knows no such store, and where the database is of
    another version; what MLflow or the network raise where a server is away.
    """
    for name, value in CLIENT_SETTINGS.items():
        os.environ.setdefault(name, value)
    try:
        from mlflow import (
            MlflowClient,  # seconds to import: the exporter's thread does, no sweep waits for it
        )
        from mlflow.exceptions import MlflowException
    except ImportError as error:
        raise StoreError(f"the package mlflow can't be imported: {sentence(error)}") from error
    logging.getLogger("mlflow").setLevel(logging.ERROR)
    logging.getLogger("alembic").setLevel(logging.ERROR)
    try:
        create_database(tracking_uri)
        return MlflowClient(tracking_uri)
    except MlflowException as error:
        if passes(error, tracking_uri):
            raise
        raise StoreError(sentence(error)) from error
    except OSError as error:
        raise StoreError(f"{error.strerror or error}: {error.filename or tracking_uri}") from error


def create_database(tracking_uri: str) -> None:
    """Make a SQLite database that is not there yet, whole or not at all.

    MLflow creates its tables in dozens of steps, and cannot go on with what a killed process left of them.
    A disk takes seconds to confirm them one by one, so it confirms the whole.
    """
    path = database_path(tracking_uri)
    if path is None or path.exists():
        return
    from mlflow import MlflowClient

    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{path}.lock"):
        if path.exists():
            return
        # A new name: one that a killed process left may be this one's number, and MLflow makes tables once.
        new = path.with_name(f"{path.name}.{token_hex(4)}.new")
        with _unconfirmed(new):
            MlflowClient(f"{SQLITE}{new}").search_experiments()
        with open(new, "rb") as file:
            os.fsync(file.fileno())
        new.replace(path)


@contextmanager
def _unconfirmed(path: Path) -> Iterator[None]:
    """Inside the block, new connections to this SQLite file do not wait for the disk.

    SQLAlchemy tells of every connection of the process, those of other threads to other files among them.
    """
    from sqlalchemy import event
    from sqlalchemy.engine import Engine

    def hurry(connection: "Connection", _: object) -> None:
        ((_, _, file),) = connection.execute("PRAGMA database_list")
        if Path(file) == path.resolve():
            connection.execute("PRAGMA synchronous = OFF")

    event.listen(Engine, "connect", hurry)
    try:
        yield
    finally:
        event.remove(Engine, "connect", hurry)


def runs_of(client: "MlflowClient", experiments: list[str], query: str) -> "Iterator[Run]":
    """Yield all runs that the query finds, page by page."""
    token = None
    while True:
        page = client.search_runs(experiments, query, page_token=token)
        yield from page
        token = page.token
        if not token:
            return


def is_remote(tracking_uri: str) -> bool:
    """Whether a server stands behind the address, which may be away for a while."""
    return urlsplit(tracking_uri).scheme in ("http", "https")
