"""Settings that were trained on several seeds: the only scores that say something of a setting itself."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from analysis.charts.text import value_of
from analysis.judgement import comparable
from analysis.judgement.ranking import over_seeds, rank
from analysis.record.sweeps import Sweep, sweeps
from analysis.record.tables import SEED, Tables
from analysis.record.trials import load_trials
from searchers.record import schema

if TYPE_CHECKING:
    from mlflow import MlflowClient


@dataclass(frozen=True)
class Seeds:
    """`settings`: `over_seeds` by the number of each setting's trial in the sweep; `trainings`: a row each.

    A training has the columns of `Tables.trials`, `setting` (that number) and `sweep_id`. `lost`: how many
    trainings diverged or failed and are in no mean, by setting, also of those that have no mean.
    """

    settings: pd.DataFrame
    trainings: pd.DataFrame
    lost: pd.Series


def retraining_sweeps(client: "MlflowClient", sweep: Sweep) -> list[Sweep]:
    """Return the sweeps that trained settings of this one again, the latest first."""
    return [s for s in sweeps(client) if s.tags.get(schema.RETRAINS_TAG) == sweep.sweep_id]


def seeds_of(client: "MlflowClient", tables: Tables) -> Seeds | None:
    """Return the settings that were trained to the end on several seeds; None where there are none.

    Their trainings are the sweep's own trials, where it tries seeds itself, and all retraining of it; a seed
    that was trained twice counts once. A setting is named by the number of the best of its trials in the
    sweep. Scores under other conditions than most have are left out.
    """
    sweep, metric = tables.sweep, f"metrics.{tables.sweep.metric}"
    found = [load_trials(client, s).assign(sweep_id=s.sweep_id) for s in retraining_sweeps(client, sweep)]
    if SEED in tables.space or schema.RETRAINS_TAG in sweep.tags:
        found.append(tables.trials.assign(sweep_id=sweep.sweep_id))
    found = [trials for trials in found if len(trials)]
    if not found:
        return None
    trials = pd.concat(found, ignore_index=True)
    best_last = tables.trials.set_index("number").loc[tables.best_first()["number"][::-1]]
    numbers = {tables.key_of(row): number for number, row in best_last.iterrows()}
    trials["setting"] = [numbers.get(tables.key_of(row)) for _, row in trials.iterrows()]
    trials = trials[trials["setting"].notna()].astype({"setting": int})
    whole = trials[(trials["status"] == schema.FINISHED) & np.isfinite(trials.get(metric, np.nan))]
    if whole.empty:
        return None
    _, whole = comparable.groups(whole, sweep.metric)[0]
    apart = ["setting", f"params.{SEED}"]
    whole = whole[~whole.duplicated(apart)]
    broken = trials[trials["status"].isin((schema.DIVERGED, schema.FAILED))]
    broken = broken[~pd.concat([whole, broken]).duplicated(apart)[broken.index]]  # another run may be whole
    settings = over_seeds(whole[metric], whole["setting"])
    settings = settings[settings["seeds"] > 1]
    return None if settings.empty else Seeds(settings, whole, broken["setting"].value_counts())


def ranking_over_seeds(tables: Tables, seeds: Seeds) -> pd.DataFrame:
    """Return `rank` of settings by their mean over seeds, by trial, with `seeds` and their columns."""
    known = seeds.settings
    ranked = rank(known["value"], known["std"], sign=tables.sweep.sign, degrees=known["degrees"])
    settings = tables.trials.set_index("number").filter(like="params.")
    lost = seeds.lost.reindex(ranked.index, fill_value=0)
    return ranked.join(known["seeds"]).assign(lost=lost).join(settings)


def setting_of(trial: pd.Series, tables: Tables, names: Iterable[str] | None = None) -> dict[str, Any]:
    """Return a trial's setting, or the parameters `names`, with the types that the sweep's command takes."""
    names = tables.settings if names is None else names
    values = {name: trial[f"params.{name}"] for name in names if f"params.{name}" in trial}
    return {name: _typed(value, tables.sweep.space.get(name, {})) for name, value in values.items()}


def _typed(value: Any, domain: Mapping[str, Any]) -> Any:
    """Return a choice of its domain, or the number, truth value, None or text that the record's text says."""
    for choice in domain.get("choices", ()):
        if str(choice) == str(value):
            return choice
    return value_of(value) if isinstance(value, str) else getattr(value, "item", lambda: value)()
