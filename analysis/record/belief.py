"""What a sweep's searcher believed at its end, as the driver recorded it."""

import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from analysis.record.sweeps import Sweep
from searchers.record.schema import POSTERIOR_FILE

if TYPE_CHECKING:
    from mlflow import MlflowClient


def belief_of(client: "MlflowClient", sweep: Sweep) -> dict[str, Any]:
    """Return what the searcher recorded, {} where it did not: `finals`, and over numbers curves, `beliefs`.

    finals: by a trial's number, the metric that is expected of it after full training, and the values two
    standard deviations below and above.
    """
    if POSTERIOR_FILE not in [file.path for file in client.list_artifacts(sweep.run_id)]:
        return {}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(client.download_artifacts(sweep.run_id, POSTERIOR_FILE, folder))
        recorded: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return recorded
