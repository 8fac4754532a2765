"""What an earlier sweep found, as `BayesOptSearch(warm_start=…)` takes it.

Values are comparable only where metric, data and training budget are the same.
"""

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from searchers.ledger import DIVERGED, FINISHED, STOPPED, Ledger, TrialRecord
from searchers.space import Choice, Dimension, Space, SpaceError

if TYPE_CHECKING:
    import pandas

    from searchers.sweep import SweepConfig

# Of a sweep's settings, those that decide its scores beside what is searched.
COMPARED = ("dataset", "dataset_limit", "image_size", "epochs", "evaluation_samples", "features")

Known = tuple[dict[str, Any], float | list[float]]


def from_sweep(folder: Path, metric: str, config: "SweepConfig") -> list[Known]:
    """Return (configuration, value) of each finished trial of a sweep's folder, nan where it diverged.

    For a trial that was stopped early the value is the list of its values, epoch by epoch. Raises
    FileNotFoundError where there is no sweep, ValueError where no trial reported the metric or where the
    scores are not those of a sweep with this configuration.
    """
    path = Path(folder) / "ledger.jsonl"
    if not path.exists():
        raise FileNotFoundError(f"{folder} holds no sweep: there is no ledger.jsonl in it")
    stored = json.loads((Path(folder) / "sweep.json").read_text())["config"]
    if differ := [name for name in COMPARED if stored.get(name) != getattr(config, name)]:
        its, ours = (
            " ".join(f"--{name.replace('_', '-')} {settings.get(name)}" for name in differ)
            for settings in (stored, vars(config))
        )
        raise ValueError(f"{folder} was scored with {its}, this sweep is with {ours}: no comparable scores")
    records = list(Ledger(path).trials().values())
    known = [(r.config, value) for r in records if (value := _value(r, metric)) is not None]
    if not any(metric in row for r in records for row in r.metrics.values()):
        names = {name for r in records for row in r.metrics.values() for name in row}
        raise ValueError(f"No trial of {folder} reported {metric!r}; reported were {sorted(names)}")
    return known


def _value(record: TrialRecord, metric: str) -> float | list[float] | None:
    values = [row.get(metric, math.nan) for _, row in sorted(record.metrics.items())]
    if record.status == DIVERGED:
        return math.nan
    if not values or not math.isfinite(values[-1]) or record.status not in (FINISHED, STOPPED):
        return None
    return values if record.status == STOPPED else values[-1]


def from_mlflow(runs: "pandas.DataFrame", metric: str, space: Space) -> list[Known]:
    """Return (configuration, value) of the runs of `mlflow.search_runs` that logged the metric.

    MLflow keeps parameters as text; the space says what they were. Runs whose parameters do not lie in the
    space are left out. Raises ValueError where no run is left.
    """
    known = []
    for _, run in runs.iterrows():
        value = run.get(f"metrics.{metric}", math.nan)
        texts = {d.name: run.get(f"params.{d.name}") for d in space.dimensions}
        try:
            config = {d.name: _parse(texts[d.name], d) for d in space.dimensions}
            space.encode(config)
        except (SpaceError, TypeError, ValueError):
            continue
        if math.isfinite(value):
            known.append((config, float(value)))
    if not known:
        columns = [c for c in runs.columns if c.startswith(("metrics.", "params."))]
        names = [d.name for d in space.dimensions]
        raise ValueError(f"No run has {metric!r} and the parameters {names}; there are the columns {columns}")
    return known


def _parse(text: str, dimension: Dimension) -> Any:
    if isinstance(dimension, Choice):
        return {str(choice): choice for choice in dimension.choices}.get(text, text)
    return int(text) if dimension.integer else float(text)
