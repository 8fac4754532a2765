"""Settings that were trained on several seeds: the only scores that say something of a setting itself."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

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

    A training has the columns of `Tables.trials`, `setting` (that number) and `sweep_id`.
    """

    settings: pd.DataFrame
    trainings: pd.DataFrame


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
    found = [trials[trials["status"] == schema.FINISHED] for trials in found if metric in trials]
    if not sum(map(len, found)):
        return None
    trials = pd.concat(found, ignore_index=True)
    trials = trials[np.isfinite(trials[metric])]
    if trials.empty:
        return None
    _, trials = comparable.groups(trials, sweep.metric)[0]
    numbers = {key_of(row, tables.settings): row["number"] for _, row in tables.best_first()[::-1].iterrows()}
    trials = trials.assign(
        setting=[numbers.get(key_of(row, tables.settings)) for _, row in trials.iterrows()]
    )
    trials = trials[trials["setting"].notna()]
    trials = trials[~trials.duplicated(["setting", f"params.{SEED}"])]
    settings = over_seeds(trials[metric], trials["setting"])
    settings = settings[settings["seeds"] > 1]
    if settings.empty:
        return None
    return Seeds(settings.set_axis(settings.index.astype(int)), trials)


def ranking_over_seeds(tables: Tables, seeds: Seeds) -> pd.DataFrame:
    """Return `rank` of settings by their mean over seeds, by trial, with `seeds` and their columns."""
    known = seeds.settings
    ranked = rank(known["value"], known["std"], sign=tables.sweep.sign, degrees=known["degrees"])
    settings = tables.trials.set_index("number").filter(like="params.")
    return ranked.join(known["seeds"]).join(settings)


def key_of(trial: pd.Series, settings: Iterable[str]) -> tuple[str, ...]:
    """Name a setting; trials of one setting that differ by their seed have one name."""
    return tuple(str(trial.get(f"params.{name}")) for name in settings)
