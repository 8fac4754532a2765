"""The weights that a record holds, found and fetched; nothing heavy is imported here."""

from pathlib import Path
from typing import TYPE_CHECKING

from analysis.record.store import AnalysisError
from searchers.record.schema import WEIGHTS_FOLDER

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from analysis.record.tables import Tables

SEARCHED_FOR_WEIGHTS = 20  # trials; a request each


def download_weights(client: "MlflowClient", tables: "Tables", number: int, folder: Path) -> Path:
    """Fetch a trial's weights and description into `folder`; return where they lie.

    Raises AnalysisError where the record has no weights of this trial, and says which it has.
    """
    trials = tables.trials.set_index("number")
    if number not in trials.index:
        raise AnalysisError(f"Sweep {tables.sweep.name!r} has no trial {number}.")
    run_id = trials.loc[number, "run_id"]
    if not client.list_artifacts(run_id, WEIGHTS_FOLDER):
        kept = with_weights(client, tables)
        there = f"it keeps those of {', '.join(map(str, kept))}" if kept else "it keeps none of this sweep"
        raise AnalysisError(f"The record has no weights of trial {number} of {tables.sweep.name!r}; {there}.")
    return Path(client.download_artifacts(run_id, WEIGHTS_FOLDER, str(folder)))


def with_weights(client: "MlflowClient", tables: "Tables") -> list[int]:
    """Return the numbers of those of the best trials whose weights the record has, the best first."""
    likely = tables.best_first().head(SEARCHED_FOR_WEIGHTS)
    return [
        int(row.number) for row in likely.itertuples() if client.list_artifacts(row.run_id, WEIGHTS_FOLDER)
    ]
