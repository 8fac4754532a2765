"""The winner in MLflow's model registry: a version with its origin and the alias champion."""

import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlencode
from uuid import uuid4

import numpy as np
import pandas as pd
from mlflow.exceptions import MlflowException
from rich.console import Console

from analysis.judgement import comparable
from analysis.judgement.card import card
from analysis.judgement.champion import save_pyfunc
from analysis.judgement.verdict import objections, ranking_of, verdict_of
from analysis.record.images import latest_samples
from analysis.record.store import AnalysisError
from analysis.record.tables import Tables
from analysis.record.weights import download_weights
from trainables.data.addresses import SQLITE

if TYPE_CHECKING:
    from mlflow import MlflowClient

ALIAS = "champion"
PYFUNC_FOLDER = "pyfunc"  # of the winner's artifacts, with a folder for each version
ASKED = [{"operation": "sample", "n": 1}]
CHECK = """
import sys, mlflow, pandas
model = mlflow.pyfunc.load_model(sys.argv[1])
(answer,) = model.predict(pandas.DataFrame([{"operation": "sample", "n": 1}]))
assert len(answer["images"]) == 1, "it draws no image"
"""


def promote(
    client: "MlflowClient",
    tables: Tables,
    winner: int,
    model_name: str,
    console: Console,
    *,
    anyway: bool = False,
) -> str:
    """Register a trial's weights, with alias champion; return the version.

    The alias moves when the package has been loaded in a process of its own. The run itself is not begun
    again: its times and state stay what the sweep recorded. Raises AnalysisError where something speaks
    against the trial, unless `anyway`, and where the package cannot be loaded.
    """
    trial = tables.trials.set_index("number", drop=False).loc[winner]
    sweep, run_id = tables.sweep, trial["run_id"]
    if (against := objections(tables, trial)) and not anyway:
        raise AnalysisError(
            f"Trial {winner} of {sweep.name!r} is not promoted: {', and '.join(against)}; --anyway does it."
        )
    about = description_of(tables, trial, against)
    package = f"{PYFUNC_FOLDER}/{uuid4().hex}"  # its own: an earlier version's files are not written over
    with tempfile.TemporaryDirectory() as temporary:
        weights = download_weights(client, tables, winner, Path(temporary))
        save_pyfunc(weights, Path(temporary) / PYFUNC_FOLDER, about)
        client.log_artifacts(run_id, str(Path(temporary) / PYFUNC_FOLDER), package)
    created = _create_model(client, model_name)
    source = f"{client.get_run(run_id).info.artifact_uri}/{package}"
    version = str(client.create_model_version(model_name, source, run_id, tags=about).version)
    if reason := why_not_loaded(client.tracking_uri, f"models:/{model_name}/{version}"):
        client.delete_model_version(model_name, version)
        if created:
            client.delete_registered_model(model_name)
        raise AnalysisError(f"Trial {winner} is not promoted: its package cannot be loaded: {reason}.")
    client.update_model_version(model_name, version, described(client, tables, trial))
    client.set_registered_model_alias(model_name, ALIAS, version)
    console.print(
        f"Registered trial {winner} of {sweep.name} as {model_name} version {version}, alias {ALIAS}. "
        f"{how_to_use(client.tracking_uri, model_name)}",
        soft_wrap=True,
    )
    return version


def described(client: "MlflowClient", tables: Tables, trial: pd.Series) -> str:
    """Return what MLflow's page of a version shows: its samples, the sweep's verdict and the trial's card."""
    _, trials = comparable.groups(tables.scored(), tables.sweep.metric)[0]
    parts = [str(verdict_of(tables, ranking_of(tables, trials)))]
    if (samples := latest_samples(client, trial["run_id"])) is not None:
        where = urlencode({"path": samples, "run_uuid": trial["run_id"]})
        parts.insert(0, f"![what it draws](get-artifact?{where})")
    return "\n\n".join([*parts, card(tables, trial)])


def description_of(tables: Tables, trial: pd.Series, against: list[str]) -> dict[str, str]:
    """Return what a version says of itself: where it is from, its score, and what spoke against it."""
    sweep, n = tables.sweep, trial["number"]
    provenance = comparable.provenance(tables.trials, sweep.metric).loc[tables.trials["number"] == n]
    about = {
        "sweep": sweep.name,
        "sweep_id": sweep.sweep_id,
        "trial": str(n),
        "metric": sweep.metric,
        "value": repr(float(trial[f"metrics.{sweep.metric}"])),
        "std": repr(float(trial.get(f"metrics.{sweep.metric}_std", np.nan))),
        **provenance.iloc[0].to_dict(),
    }
    return about | {"objections": "; ".join(against)} if against else about


def _create_model(client: "MlflowClient", name: str) -> bool:
    """Create a registered model; return whether there was none of this name."""
    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
        return False
    return True


def why_not_loaded(tracking_uri: str, model_uri: str) -> str | None:
    """Load a registered model in a process of its own and draw an image; return what went wrong there."""
    environment = os.environ | {"MLFLOW_TRACKING_URI": absolute(tracking_uri)}
    environment.pop("PYTHONPATH", None)  # the package has its code with it
    command = [sys.executable, "-c", CHECK, model_uri]
    with tempfile.TemporaryDirectory() as elsewhere:  # nothing of the working folder is found from there
        done = subprocess.run(
            command, cwd=elsewhere, env=environment, capture_output=True, text=True, errors="replace"
        )
    if done.returncode == 0:
        return None
    lines = done.stderr.strip().splitlines()
    return lines[-1].rstrip(".") if lines else f"exit code {done.returncode}"


def absolute(tracking_uri: str) -> str:
    """Return an MLflow URI that means the same in any folder."""
    if not tracking_uri.startswith(SQLITE):
        return tracking_uri
    return SQLITE + str(Path(tracking_uri.removeprefix(SQLITE)).resolve())


def how_to_use(tracking_uri: str, model_name: str) -> str:
    """Say how the champion is loaded and served, from any folder."""
    tracking_uri = absolute(tracking_uri)
    uri = f"models:/{model_name}@{ALIAS}"
    # MLflow starts uvicorn by its name, which is on the PATH in an activated environment alone.
    path = "" if shutil.which("uvicorn") else f"PATH={shlex.quote(str(Path(sys.executable).parent))}:$PATH "
    asked = json.dumps({"dataframe_records": ASKED})
    where = shlex.quote(tracking_uri)
    return (
        "In Python:\n"
        "  import mlflow\n"
        f"  mlflow.set_tracking_uri({tracking_uri!r})\n"
        f"  model = mlflow.pyfunc.load_model({uri!r})\n"
        f"  model.predict({ASKED!r})  # PNG files in base64\n"
        f"Over HTTP:\n  {path}MLFLOW_TRACKING_URI={where} mlflow models serve "
        f"-m {shlex.quote(uri)} --env-manager local --port 5001\n"
        f"  curl http://127.0.0.1:5001/invocations -H 'Content-Type: application/json' -d '{asked}'"
    )
