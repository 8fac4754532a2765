"""The connection to MLflow, whatever its tracking URI: a database or a server."""

import os
import sys
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from trainables.data.addresses import database_path, secret_in

if TYPE_CHECKING:
    from mlflow import MlflowClient

DEFAULT_TRACKING_URI = "sqlite:///mlflow.db"
PAGE = 1000
# An unreachable server is reported at once; small files need no progress bars.
ENVIRONMENT = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "60",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
}


class AnalysisError(ValueError):
    """The record cannot answer what was asked; the message is one sentence for the user."""


def connect(tracking_uri: str | None = None) -> "MlflowClient":
    """Return a client of MLflow at a URI, MLFLOW_TRACKING_URI, or ./mlflow.db.

    Raises AnalysisError where there is no database or nothing answers: MLflow itself would make an empty
    database, or try for minutes.
    """
    uri = tracking_uri or os.environ.get("MLFLOW_TRACKING_URI") or DEFAULT_TRACKING_URI
    if what := secret_in(uri):
        raise AnalysisError(
            f"MLflow's address holds a secret, {what}, which reports would show: leave it out, and set "
            "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or PGPASSWORD for PostgreSQL."
        )
    path = database_path(uri)
    if path is not None and not path.is_file():
        raise AnalysisError(
            f"There is no MLflow database at {path.absolute()}; go to the folder where the sweep ran, or "
            "name its record with --tracking-uri."
        )
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    from mlflow import MlflowClient  # seconds to import: wrong flags are answered at once
    from mlflow.exceptions import MlflowException

    try:
        client = MlflowClient(uri)
        client.search_experiments(max_results=1)
    except (MlflowException, ImportError) as error:
        raise AnalysisError(f"MLflow at {uri} does not answer: {reason_of(error)}.") from error
    return client


def is_of_mlflow(error: BaseException) -> bool:
    """Say whether MLflow raised an error; nothing is imported for the answer."""
    exceptions = sys.modules.get("mlflow.exceptions")
    return exceptions is not None and isinstance(error, exceptions.MlflowException)


def reason_of(error: BaseException) -> str:
    """Return the first sentence of an error of MLflow, which goes on with whole requests and tracebacks."""
    first = str(error).partition(" with exception")[0].partition(". ")[0].splitlines()
    return first[0].rstrip(".") if first else type(error).__name__


def paged(search: Callable[..., Any], *arguments: Any, **options: Any) -> Iterable[Any]:
    """Yield everything that a search of MLflow finds, page by page."""
    token = None
    while True:
        page = search(*arguments, page_token=token, max_results=PAGE, **options)
        yield from page
        token = page.token
        if not token:
            return
