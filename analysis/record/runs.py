"""Sweeps, trials and metric histories as tables, read from MLflow alone, whatever its tracking URI.

    tables = load(connect("sqlite:///mlflow.db"), "my-sweep")
    tables.trials      one row a trial: number, status, …, params.<name>, metrics.<name> (the last epoch's)
    tables.history     one row a trial, metric and epoch: number, metric, epoch, value, time

Columns are named as `mlflow.search_runs` names them. Histories are kept as Parquet: a trial is read again
only where MLflow says that it has changed.
"""

import hashlib
import json
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from analysis.record.histories import load_histories

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

DEFAULT_TRACKING_URI = "sqlite:///mlflow.db"
SWEEP_TAG, TRIAL_TAG, STATUS_TAG = "latentune.sweep", "latentune.trial", "latentune.status"
NUMBER_TAG, NODE_TAG, OBJECTIVES_TAG = "latentune.number", "latentune.node", "latentune.objectives"
FINISHED, STOPPED, DIVERGED, FAILED, RUNNING = "finished", "stopped", "diverged", "failed", "running"
SEED = "seed"  # a dimension of some spaces, but no setting
PAGE = 1000
# A server that is away is said to be away at once; bars for files of milliseconds are noise.
SETTINGS = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "60",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
}


class AnalysisError(ValueError):
    """What was asked for cannot be answered from the record; the message is one sentence for the user."""


@dataclass(frozen=True)
class Sweep:
    """What the sweep's parent run says. `state`: running, finished or interrupted; times are UTC."""

    sweep_id: str
    name: str
    run_id: str
    experiment: str
    experiment_id: str
    state: str
    started: pd.Timestamp
    ended: pd.Timestamp | None
    params: dict[str, str]
    tags: dict[str, str]

    @property
    def metric(self) -> str:
        """The key that the sweep optimises."""
        return self.tags["metric"]

    @property
    def mode(self) -> str:
        """`min` or `max`."""
        return self.tags.get("mode", "min")

    @property
    def sign(self) -> int:
        """1 where lower is better, −1 where higher is."""
        return 1 if self.mode == "min" else -1

    @property
    def signs(self) -> dict[str, int]:
        """All objectives with their signs, the metric first; several where a Pareto front was searched."""
        modes = json.loads(self.tags.get(OBJECTIVES_TAG, "{}"))
        return {self.metric: self.sign} | {name: 1 if mode == "min" else -1 for name, mode in modes.items()}

    @property
    def epochs(self) -> int | None:
        """The epochs of a trial that nothing stops; None where the record does not say."""
        return int(self.params["epochs"]) if "epochs" in self.params else None

    @cached_property
    def space(self) -> dict[str, dict[str, Any]]:
        """The search space by dimension: `type`, then `lower`, `upper` (inclusive), `log`, or `choices`.

        A record whose domains are not readable gives empty ones: the names alone are known.
        """
        domains = {}
        for key, value in self.params.items():
            if key.startswith("space/"):
                domains[key.removeprefix("space/")] = _domain(value)
        return domains


@dataclass(frozen=True)
class Tables:
    """A sweep's record: `trials` and `history`, as this module's head says."""

    sweep: Sweep
    trials: pd.DataFrame
    history: pd.DataFrame

    @cached_property
    def space(self) -> dict[str, dict[str, Any]]:
        """The search space that trials have recorded; without one, the parameters in which trials differ."""
        space = {n: d for n, d in self.sweep.space.items() if f"params.{n}" in self.trials}
        if space or self.trials.empty:
            return space
        return {
            column.removeprefix("params."): _observed(self.trials[column])
            for column in self.trials
            if column.startswith("params.") and self.trials[column].nunique() > 1
        }

    @property
    def settings(self) -> list[str]:
        """The names of the search space's dimensions, without the seed."""
        return [name for name in self.space if name != SEED]

    @property
    def objective(self) -> pd.Series:
        """The sweep's metric of each trial at its last epoch; NaN where there is none."""
        return self.metric(self.sweep.metric)

    def metric(self, key: str) -> pd.Series:
        """A metric of each trial at its last epoch; NaN where it was not recorded."""
        return self.trials.get(f"metrics.{key}", pd.Series(np.nan, self.trials.index, dtype=float))

    def param(self, name: str) -> pd.Series:
        """A parameter of each trial, numbers as numbers. Raises AnalysisError where no trial has it."""
        if f"params.{name}" not in self.trials:
            known = sorted(c.removeprefix("params.") for c in self.trials if c.startswith("params."))
            raise AnalysisError(f"The trials of {self.sweep.name!r} have no {name!r}; they have: {known}")
        return self.trials[f"params.{name}"]

    def scored(self) -> pd.DataFrame:
        """The trials with a finite value of the sweep's metric. Raises AnalysisError where there is none."""
        if self.trials.empty:
            raise AnalysisError(f"Sweep {self.sweep.name!r} has no trial{_yet(self.sweep)}.")
        scored = self.trials[np.isfinite(self.objective)]
        if scored.empty:
            metric, name = self.sweep.metric, self.sweep.name
            raise AnalysisError(f"No trial of {name!r} has reported {metric}{_yet(self.sweep)}.")
        return scored

    def best_first(self) -> pd.DataFrame:
        """The scored trials by the sweep's metric at their last epoch. Raises AnalysisError as `scored`."""
        scored = self.scored()
        order = (self.sweep.sign * self.objective[scored.index]).sort_values(kind="stable").index
        return scored.loc[order]

    def curves(self, metric: str) -> pd.DataFrame:
        """A metric's history with epochs as rows and trial numbers as columns."""
        chosen = self.history[self.history["metric"] == metric]
        return chosen.pivot(index="epoch", columns="number", values="value")


def _yet(sweep: Sweep) -> str:
    return " yet; it is still running" if sweep.state == "running" else ""


def connect(tracking_uri: str | None = None) -> "MlflowClient":
    """Return a client of MLflow at a URI, MLFLOW_TRACKING_URI, or ./mlflow.db.

    Raises AnalysisError where there is no database or nothing answers: MLflow itself would make an empty
    database, or try for minutes.
    """
    uri = tracking_uri or os.environ.get("MLFLOW_TRACKING_URI") or DEFAULT_TRACKING_URI
    if uri.startswith("sqlite:///"):
        path = Path(uri.removeprefix("sqlite:///"))
        if not path.is_file():
            raise AnalysisError(
                f"There is no MLflow database at {path.absolute()}; go to the folder where the sweep ran, or "
                "name its record with --tracking-uri."
            )
    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)
    from mlflow import MlflowClient  # seconds to import: wrong flags are answered at once
    from mlflow.exceptions import MlflowException

    try:
        client = MlflowClient(uri)
        client.search_experiments(max_results=1)
    except (MlflowException, ImportError) as error:
        reason = str(error).partition(" with exception")[0].partition(". ")[0].splitlines()[0]
        raise AnalysisError(f"MLflow at {uri} does not answer: {reason.rstrip('.')}.") from error
    return client


def sweeps(client: "MlflowClient") -> list[Sweep]:
    """Return all sweeps of all experiments, the latest first."""
    experiments = {e.experiment_id: e.name for e in _paged(client.search_experiments, max_results=PAGE)}
    if not experiments:
        return []
    parents = f"tags.`{SWEEP_TAG}` IS NOT NULL AND tags.`{TRIAL_TAG}` IS NULL"
    runs = _paged(client.search_runs, list(experiments), parents, max_results=PAGE)
    return [_sweep(run, experiments[run.info.experiment_id]) for run in runs]


def find(client: "MlflowClient", name: str) -> Sweep:
    """Return the sweep of this name or id.

    Raises AnalysisError where there is none, with the latest names, or where several have the name, with
    their ids.
    """
    known = sweeps(client)
    found = [sweep for sweep in known if name in (sweep.name, sweep.sweep_id)]
    if not found:
        names = ", ".join(sweep.name for sweep in known[:8]) or "none"
        raise AnalysisError(f"MLflow has no sweep {name!r}; the latest are: {names}.")
    if len(found) > 1:
        ids = ", ".join(f"{sweep.sweep_id} ({sweep.started:%Y-%m-%d %H:%M})" for sweep in found)
        raise AnalysisError(f"{len(found)} sweeps are called {name!r}; give the id of one: {ids}.")
    return found[0]


def load(client: "MlflowClient", sweep: Sweep | str, *, cache: Path | None = None) -> Tables:
    """Return a sweep's tables; histories come from the cache folder as far as they have not changed.

    cache: a folder, `cache_folder()` if not given. Raises AnalysisError as `find`.
    """
    if isinstance(sweep, str):
        sweep = find(client, sweep)
    runs = _trial_runs(client, sweep)
    trials = _trials(runs, sweep)
    folder = cache_folder() if cache is None else cache
    key = hashlib.sha256(f"{client.tracking_uri}\n{sweep.sweep_id}".encode()).hexdigest()[:20]
    table = load_histories(client, runs, folder / f"{key}.parquet")
    history = table.to_pandas(strings_to_categorical=True)
    numbers = pd.Series(trials["number"].to_numpy(), index=trials["run_id"].to_numpy())
    history.insert(0, "number", history.pop("run_id").map(numbers).astype(int))
    # By name, whatever order the store has; of several points of a step the last, as MLflow shows.
    history["metric"] = history["metric"].cat.reorder_categories(sorted(history["metric"].cat.categories))
    history = history.sort_values(["number", "metric", "epoch", "time"], ignore_index=True)
    history = history.drop_duplicates(["number", "metric", "epoch"], keep="last", ignore_index=True)
    return Tables(sweep, trials, history)


def load_trials(client: "MlflowClient", sweep: Sweep) -> pd.DataFrame:
    """Return a sweep's trials without their histories, one row each, as `Tables.trials`."""
    return _trials(_trial_runs(client, sweep), sweep)


def cache_folder() -> Path:
    """Return where histories are kept: XDG_CACHE_HOME/latentune/analysis."""
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(root) / "latentune" / "analysis"


def _trial_runs(client: "MlflowClient", sweep: Sweep) -> list["Run"]:
    mine = f"tags.`{SWEEP_TAG}` = '{sweep.sweep_id}' AND tags.`{TRIAL_TAG}` IS NOT NULL"
    return list(_paged(client.search_runs, [sweep.experiment_id], mine, max_results=PAGE))


def _paged(search: Callable, *arguments: Any, **options: Any) -> Iterable[Any]:
    token = None
    while True:
        page = search(*arguments, page_token=token, **options)
        yield from page
        token = page.token
        if not token:
            return


def _sweep(run: "Run", experiment: str) -> Sweep:
    state = {"RUNNING": "running", "FINISHED": "finished"}.get(run.info.status, "interrupted")
    return Sweep(
        sweep_id=run.data.tags[SWEEP_TAG],
        name=run.info.run_name,
        run_id=run.info.run_id,
        experiment=experiment,
        experiment_id=run.info.experiment_id,
        state=state,
        started=pd.Timestamp(run.info.start_time, unit="ms"),
        ended=None if state == "running" else pd.Timestamp(run.info.end_time, unit="ms"),
        params=dict(run.data.params),
        tags=dict(run.data.tags),
    )


def _domain(text: str) -> dict[str, Any]:
    try:
        domain = json.loads(text)
    except json.JSONDecodeError:
        return {}
    return domain if isinstance(domain, dict) else {}


def _observed(values: pd.Series) -> dict[str, Any]:
    if pd.api.types.is_numeric_dtype(values):
        return {"type": "float", "lower": float(values.min()), "upper": float(values.max()), "log": False}
    return {"type": "categorical", "choices": sorted(values.dropna().astype(str).unique())}


def _trials(runs: list["Run"], sweep: Sweep) -> pd.DataFrame:
    """One row a trial in the order of their numbers."""
    rows = []
    for run in runs:
        tags, points = run.data.tags, run.data._metric_objs
        number = tags.get(NUMBER_TAG) or run.info.run_name.rsplit("-", 1)[-1]
        rows.append(
            {
                "number": int(number),
                "trial": tags[TRIAL_TAG],
                "run_id": run.info.run_id,
                "name": run.info.run_name,
                "status": tags.get(STATUS_TAG, RUNNING if sweep.state == "running" else "interrupted"),
                "node": tags.get(NODE_TAG),
                "start": run.info.start_time,
                "end": run.info.end_time or max((p.timestamp for p in points), default=run.info.start_time),
                "epoch": max((p.step for p in points), default=0),
                **{f"params.{key}": value for key, value in run.data.params.items()},
                **{f"metrics.{p.key}": p.value for p in points},
            }
        )
    if not rows:
        return pd.DataFrame(columns=["number", "trial", "run_id", "name", "status", "start", "end", "epoch"])
    trials = pd.DataFrame(rows).sort_values("number", ignore_index=True)
    if "params.features" in trials:
        # A trial may name the extractor alone, as its configuration does; the sweep's record has it whole.
        full = sweep.params.get("features", "")
        named = trials["params.features"].map(lambda name: full.startswith(str(name)))
        trials["params.features"] = trials["params.features"].mask(named, full)
    for column in ("start", "end"):
        trials[column] = pd.to_datetime(trials[column], unit="ms")
    for column in trials.columns:
        if column.startswith("params."):
            trials[column] = _numbers(trials[column])
        elif column.startswith("metrics."):
            trials[column] = _finite_or_infinite(trials[column].astype(float))
    return trials


def _numbers(values: pd.Series) -> pd.Series:
    """MLflow keeps parameters as text; where all are numbers, return numbers."""
    try:
        return pd.to_numeric(values)
    except (ValueError, TypeError):
        return values


def _finite_or_infinite(values: pd.Series) -> pd.Series:
    """MLflow's stores write ±inf as the largest floats; undo that."""
    largest = np.finfo(np.float64).max
    return values.mask(values >= 0.999 * largest, np.inf).mask(values <= -0.999 * largest, -np.inf)
