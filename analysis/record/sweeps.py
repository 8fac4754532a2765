"""Sweeps as their parent runs in MLflow tell them."""

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import pandas as pd

from analysis.record.store import AnalysisError, paged
from searchers.record import schema

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

SHOWN = 8  # names of other sweeps, where the one that was asked for is not there


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
        """The key that the sweep optimizes."""
        return self.tags[schema.METRIC_TAG]

    @property
    def mode(self) -> str:
        """`min` or `max`."""
        return self.tags.get(schema.MODE_TAG, "min")

    @property
    def sign(self) -> int:
        """1 where lower is better, −1 where higher is."""
        return 1 if self.mode == "min" else -1

    @property
    def signs(self) -> dict[str, int]:
        """All objectives with their signs, the metric first; several where a Pareto front was searched."""
        modes = json.loads(self.tags.get(schema.OBJECTIVES_TAG, "{}"))
        return {self.metric: self.sign} | {name: 1 if mode == "min" else -1 for name, mode in modes.items()}

    @property
    def epochs(self) -> int | None:
        """The epochs of a trial that nothing stops; None where the record does not say."""
        return int(self.params["epochs"]) if "epochs" in self.params else None

    @property
    def arguments(self) -> dict[str, Any] | None:
        """The settings that the sweep's command ran with; None where the record does not have them."""
        text = self.tags.get(schema.ARGUMENTS_TAG)
        return None if text is None else json.loads(text)

    @property
    def shared(self) -> dict[str, str]:
        """The parameters that all trials have, which stand with the sweep alone."""
        names = json.loads(self.tags.get(schema.SHARED_TAG, "[]"))
        return {name: self.params[name] for name in names if name in self.params}

    def references(self, metric: str | None = None) -> dict[str, float]:
        """Return what a grey image, the mean image and real images score, by name, as far as it is recorded.

        metric: a score; the sweep's own, if not given.
        """
        found = {}
        for name, key in schema.REFERENCES.items():
            text = self.params.get(schema.reference_param(key, metric or self.metric))
            if text is not None:
                found[name] = float(text)
        return found

    @property
    def referred(self) -> list[str]:
        """The scores that images of no model have on record: Fréchet distances, of which lower is better."""
        known = (key.split("/", 2)[2] for key in self.params if key.startswith(schema.REFERENCE_PARAM))
        return list(dict.fromkeys(known))

    @cached_property
    def space(self) -> dict[str, dict[str, Any]]:
        """The search space by dimension: `type`, then `lower`, `upper` (inclusive), `log`, or `choices`.

        A record whose domains are not readable gives empty ones: the names alone are known.
        """
        domains = {}
        for key, value in self.params.items():
            if key.startswith(schema.SPACE_PARAM):
                domains[key.removeprefix(schema.SPACE_PARAM)] = _domain(value)
        return domains


def sweeps(client: "MlflowClient") -> list[Sweep]:
    """Return all sweeps of all experiments, the latest first."""
    experiments = {e.experiment_id: e.name for e in paged(client.search_experiments)}
    if not experiments:
        return []
    parents = f"tags.`{schema.SWEEP_TAG}` IS NOT NULL AND tags.`{schema.TRIAL_TAG}` IS NULL"
    runs = paged(client.search_runs, list(experiments), parents)
    return [_sweep(run, experiments[run.info.experiment_id]) for run in runs]


def find(client: "MlflowClient", name: str) -> Sweep:
    """Return the sweep of this name or id.

    Raises AnalysisError where there is none, with the latest names, or where several have the name, with
    their ids.
    """
    known = sweeps(client)
    found = [sweep for sweep in known if name in (sweep.name, sweep.sweep_id)]
    if not found:
        names = ", ".join(sweep.name for sweep in known[:SHOWN]) or "none"
        raise AnalysisError(f"MLflow has no sweep {name!r}; the latest are: {names}.")
    if len(found) > 1:
        ids = ", ".join(f"{sweep.sweep_id} ({sweep.started:%Y-%m-%d %H:%M})" for sweep in found)
        raise AnalysisError(f"{len(found)} sweeps are called {name!r}; give the id of one: {ids}.")
    return found[0]


def distinct(client: "MlflowClient", wanted: Iterable[Sweep | str]) -> dict[str, Sweep]:
    """Return sweeps by name, each once; where several have a name, their ids stand behind it.

    wanted: themselves, or names or ids, for which it raises as `find`.
    """
    found: dict[str, Sweep] = {}
    for one in wanted:
        sweep = find(client, one) if isinstance(one, str) else one
        found.setdefault(sweep.sweep_id, sweep)
    alike = Counter(sweep.name for sweep in found.values())
    return {s.name if alike[s.name] == 1 else f"{s.name} ({s.sweep_id})": s for s in found.values()}


def _sweep(run: "Run", experiment: str) -> Sweep:
    state = {"RUNNING": "running", "FINISHED": "finished"}.get(run.info.status, "interrupted")
    return Sweep(
        sweep_id=run.data.tags[schema.SWEEP_TAG],
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
