"""The winner in MLflow's model registry: a version that carries where it is from, with the alias champion."""

import shlex
import shutil
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from mlflow.exceptions import MlflowException
from rich.console import Console

from analysis.judgement import comparable
from analysis.judgement.champion import save_pyfunc
from analysis.record.runs import Tables
from analysis.record.weights import download_weights

if TYPE_CHECKING:
    from mlflow import MlflowClient

ALIAS = "champion"
PYFUNC_FOLDER = "pyfunc"  # of the winner's artefacts


def promote(client: "MlflowClient", tables: Tables, winner: int, model_name: str, console: Console) -> str:
    """Register a trial's weights, with alias champion; return the version.

    The run itself is not begun again: its times and state stay what the sweep recorded.
    """
    trial = tables.trials.set_index("number").loc[winner]
    sweep, run_id = tables.sweep, trial["run_id"]
    provenance = comparable.provenance(tables.trials, sweep.metric).loc[tables.trials["number"] == winner]
    about = {
        "sweep": sweep.name,
        "sweep_id": sweep.sweep_id,
        "trial": str(winner),
        "metric": sweep.metric,
        "value": repr(float(trial[f"metrics.{sweep.metric}"])),
        "std": repr(float(trial.get(f"metrics.{sweep.metric}_std", np.nan))),
        **provenance.iloc[0].to_dict(),
    }
    with tempfile.TemporaryDirectory() as temporary:
        weights = download_weights(client, tables, winner, Path(temporary))
        save_pyfunc(weights, Path(temporary) / PYFUNC_FOLDER, about)
        client.log_artifacts(run_id, str(Path(temporary) / PYFUNC_FOLDER), PYFUNC_FOLDER)
    try:
        client.create_registered_model(model_name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    source = f"{client.get_run(run_id).info.artifact_uri}/{PYFUNC_FOLDER}"
    version = client.create_model_version(model_name, source, run_id, tags=about).version
    client.set_registered_model_alias(model_name, ALIAS, version)
    # MLflow starts uvicorn by its name, which is on the PATH in an activated environment alone.
    path = "" if shutil.which("uvicorn") else f"PATH={shlex.quote(str(Path(sys.executable).parent))}:$PATH "
    asked = '{"dataframe_records": [{"operation": "sample", "n": 4}]}'
    console.print(
        f"Registered trial {winner} as {model_name} version {version}, alias {ALIAS}. In Python:\n"
        f'  mlflow.set_tracking_uri("{client.tracking_uri}")\n'
        f'  model = mlflow.pyfunc.load_model("models:/{model_name}@{ALIAS}")\n'
        '  model.predict([{"operation": "sample", "n": 4}])  # PNG files in base64\n'
        f"Over HTTP:\n  {path}MLFLOW_TRACKING_URI={client.tracking_uri} mlflow models serve "
        f"-m 'models:/{model_name}@{ALIAS}' --env-manager local --port 5001\n"
        f"  curl http://127.0.0.1:5001/invocations -H 'Content-Type: application/json' -d '{asked}'",
        highlight=False,
        markup=False,
        soft_wrap=True,
    )
    return str(version)
