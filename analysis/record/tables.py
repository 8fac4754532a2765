"""A sweep's trials and metric histories as tables, read from MLflow alone.

    tables = load(connect("sqlite:///mlflow.db"), "my-sweep")
    tables.trials      one row a trial: number, status, …, params.<name>, metrics.<name> (the last epoch's)
    tables.history     one row a trial, metric and epoch: number, metric, epoch, value, time

Columns are named as `mlflow.search_runs` names them. Histories are kept as Parquet: a trial is read again
only where MLflow says that it has changed.
"""

import hashlib
import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from analysis.record.histories import load_histories
from analysis.record.store import AnalysisError
from analysis.record.sweeps import Sweep, find
from analysis.record.trials import as_numbers, table_of, trial_runs
from searchers.record import schema

if TYPE_CHECKING:
    from mlflow import MlflowClient

SEED = "seed"  # a dimension of some spaces, but no setting


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

    @cached_property
    def settings(self) -> list[str]:
        """The names of what a setting is: the space's dimensions, and what given points changed beside them.

        Without the RNG's seed, in which trainings of one setting differ.
        """
        held = self.sweep.shared.keys() - {*self.space, *schema.SHARED}
        changed = [name for name in sorted(held) if self._changed(f"params.{name}")]
        return [*(name for name in self.space if name != SEED), *changed]

    @property
    def columns(self) -> list[str]:
        """The names of what tells a trial from others: `settings`, and a seed that the space has."""
        return [*self.settings, *(name for name in self.space if name == SEED)]

    def key_of(self, trial: pd.Series) -> tuple[str, ...]:
        """Name a trial's setting, of this sweep or of a retraining: those of other seeds have one name."""
        return tuple(str(trial.get(f"params.{name}")) for name in self.settings)

    def _changed(self, column: str) -> bool:
        """Whether a trial has another value of a parameter than the sweep."""
        if column not in self.trials:
            return False
        of_sweep = as_numbers(pd.Series([self.sweep.shared[column.removeprefix("params.")]])).iloc[0]
        return bool(self.trials[column].ne(of_sweep).any())

    @property
    def objective(self) -> pd.Series:
        """The sweep's metric of each trial at its last epoch; NaN where there is none."""
        return self.metric(self.sweep.metric)

    @property
    def complete(self) -> pd.Series:
        """Whether each trial has been trained to the sweep's last epoch.

        Scores at different epochs are different numbers: only those of complete trials stand in one ranking.
        """
        finished = self.trials["status"] == schema.FINISHED
        epochs = self.sweep.epochs
        if epochs is None:
            return finished
        # Of one that diverged in its last epoch the latest score may be an earlier epoch's.
        broken = self.trials["status"].isin((schema.DIVERGED, schema.FAILED))
        return finished | ((self.trials["epoch"] >= epochs) & ~broken)

    def metric(self, key: str) -> pd.Series:
        """A metric of each trial at its last epoch; NaN where it was not recorded."""
        if f"metrics.{key}" in self.trials:
            return self.trials[f"metrics.{key}"]
        return pd.Series(np.nan, self.trials.index, dtype=float)

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
        """The scored trials: the complete ones by the metric, then the others, the longer trained first.

        Raises AnalysisError as `scored`.
        """
        scored = self.scored()
        order = pd.DataFrame(
            {
                "partial": ~self.complete[scored.index],
                "epoch": np.where(self.complete[scored.index], 0, -scored["epoch"]),
                "score": self.sweep.sign * self.objective[scored.index],
            }
        )
        return scored.loc[order.sort_values(["partial", "epoch", "score"], kind="stable").index]

    def curves(self, metric: str) -> pd.DataFrame:
        """A metric's history with epochs as rows and trial numbers as columns."""
        chosen = self.history[self.history["metric"] == metric]
        return chosen.pivot(index="epoch", columns="number", values="value")

    def common(self, least: int) -> tuple[int, pd.DataFrame]:
        """Return the latest epoch at which `least` trials have a finite score, and those trials.

        Their column `score` is the sweep's metric at that epoch. Raises AnalysisError where fewer have any.
        """
        curves = self.curves(self.sweep.metric).replace([np.inf, -np.inf], np.nan)
        counts = curves.notna().sum(axis=1)
        if counts.empty or counts.max() < least:
            reached = 0 if counts.empty else int(counts.max())
            raise AnalysisError(
                f"{least} trials with a score at one epoch are needed; {self.sweep.name!r} has {reached}."
            )
        epoch = counts.index[counts >= least].max()
        there = curves.loc[epoch].dropna()
        trials = self.trials[self.trials["number"].isin(there.index)]
        return int(epoch), trials.assign(score=there[trials["number"]].to_numpy())


def load(client: "MlflowClient", sweep: Sweep | str, *, cache: Path | None = None) -> Tables:
    """Return a sweep's tables; histories come from the cache folder as far as they have not changed.

    cache: a folder, `cache_folder()` if not given. Raises AnalysisError as `find`.
    """
    if isinstance(sweep, str):
        sweep = find(client, sweep)
    runs = trial_runs(client, sweep)
    trials = table_of(runs, sweep)
    folder = cache_folder() if cache is None else cache
    key = hashlib.sha256(f"{client.tracking_uri}\n{sweep.sweep_id}".encode(errors="replace")).hexdigest()[:20]
    table = load_histories(client, runs, folder / f"{key}.parquet")
    history = table.to_pandas(strings_to_categorical=True)
    numbers = pd.Series(trials["number"].to_numpy(), index=trials["run_id"].to_numpy())
    history.insert(0, "number", history.pop("run_id").map(numbers).astype(int))
    # By name, whatever order the store has; of several points of a step the last, as MLflow shows.
    history["metric"] = history["metric"].cat.reorder_categories(sorted(history["metric"].cat.categories))
    history = history.sort_values(["number", "metric", "epoch", "time"], ignore_index=True)
    history = history.drop_duplicates(["number", "metric", "epoch"], keep="last", ignore_index=True)
    return Tables(sweep, trials, history)


def cache_folder() -> Path:
    """Return where histories are kept: XDG_CACHE_HOME/latentune/analysis."""
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(root) / "latentune" / "analysis"


def _yet(sweep: Sweep) -> str:
    return " yet; it is still running" if sweep.state == "running" else ""


def _observed(values: pd.Series) -> dict[str, Any]:
    if pd.api.types.is_numeric_dtype(values):
        return {"type": "float", "lower": float(values.min()), "upper": float(values.max()), "log": False}
    return {"type": "categorical", "choices": sorted(values.dropna().astype(str).unique())}
