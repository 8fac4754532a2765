"""Who won a sweep, in words: how sure that is, and what speaks against the winner."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from analysis.charts.pareto import pareto_front
from analysis.charts.text import number, with_deviation
from analysis.judgement.ranking import degrees_of, rank
from analysis.judgement.seeds import Seeds, ranking_over_seeds
from analysis.record.sweeps import Sweep
from analysis.record.tables import Tables
from searchers.record import schema

NAMED = 10  # trials in a sentence
MEAN_IMAGE = "mean image"


@dataclass(frozen=True)
class Verdict:
    """`headline`: who is best, and what speaks against it. `details`: how sure that is, a sentence each."""

    headline: str
    details: tuple[str, ...]

    def __str__(self) -> str:
        return " ".join((self.headline, *self.details))


def ranking_of(tables: Tables, trials: pd.DataFrame) -> pd.DataFrame:
    """Rank trials by the sweep's metric: `rank`'s columns and their own, and `ranked`, `place`, `peers`.

    Scores at different epochs are different numbers, so those that were trained to the end are ranked; where
    there are none yet, those that have reached the latest epoch that half of them have, by the scores there.
    All others follow, the longer trained first, each with its `place` among the `peers` that have a score at
    its own last epoch. The column of every objective holds what it is at the epoch of the ranking.
    """
    sweep, complete = tables.sweep, tables.complete[trials.index]
    scores = [*sweep.signs, f"{sweep.metric}_std"]
    numbers = trials["number"]
    curves = tables.curves(sweep.metric).reindex(columns=numbers).replace([np.inf, -np.inf], np.nan)
    if complete.any():
        epochs = trials["epoch"][complete]
        found = {name: tables.metric(name)[epochs.index] for name in scores}
    else:
        counts = curves.notna().sum(axis=1)
        epoch = counts.index[counts >= (len(trials) + 1) // 2].max()
        there = numbers[numbers.map(curves.loc[epoch]).notna()]
        epochs = pd.Series(epoch, there.index)
        found = {
            name: there.map(tables.curves(name).reindex(index=[epoch], columns=numbers).loc[epoch])
            for name in scores
        }
    values, stds = found[sweep.metric], found[f"{sweep.metric}_std"]
    degrees = pd.Series(degrees_of(sweep.metric), values.index)
    ranked = rank(values, stds, sign=sweep.sign, degrees=degrees)
    ranked = ranked.join(trials.assign(**{f"metrics.{name}": found[name] for name in sweep.signs}))
    ranked["epoch"] = epochs[ranked.index]
    others = _standing(tables, trials.drop(ranked.index), curves)
    table = pd.concat([ranked.assign(ranked=True), others]) if len(others) else ranked.assign(ranked=True)
    return table.assign(**{name: table.get(name, pd.NA) for name in ("place", "peers")}).astype(
        {"place": "Int64", "peers": "Int64", "ranked": bool}
    )


def _standing(tables: Tables, trials: pd.DataFrame, curves: pd.DataFrame) -> pd.DataFrame:
    """Return trials that cannot be ranked, each with where it stood at its own last epoch."""
    sweep, rows = tables.sweep, []
    for index, trial in trials.iterrows():
        scores = sweep.sign * curves[trial["number"]].dropna()
        epoch = int(scores.index.max())
        peers = sweep.sign * curves.loc[epoch].dropna()
        rows.append({"index": index, "epoch": epoch, "peers": len(peers)})
        rows[-1]["place"] = 1 + int((peers < scores.loc[epoch]).sum())
    if not rows:
        return trials
    found = pd.DataFrame(rows).set_index("index")
    found = trials.drop(columns="epoch").join(found).sort_values(["epoch", "place"], ascending=[False, True])
    unknown = {"p_best": np.nan, "p_value": np.nan, "tied": False, "ranked": False}
    values = tables.metric(sweep.metric)[found.index]
    return found.assign(value=values, std=tables.metric(f"{sweep.metric}_std")[found.index], **unknown)


def objections(tables: Tables, trial: pd.Series, value: float | None = None) -> list[str]:
    """Return what speaks against calling a trial a winner, in clauses; nothing for one that is.

    value: its score, if another one than the record's is to be held against the mean image.
    """
    sweep, found = tables.sweep, []
    complete = tables.complete[tables.trials["number"] == trial["number"]]
    if not complete.all():
        of = f" of {sweep.epochs}" if sweep.epochs else ""
        found.append(f"it is {trial['status']} at epoch {int(trial['epoch'])}{of}")
    if schema.COLLAPSED in str(trial.get("flags", "")).split(","):
        found.append("it has collapsed: its images are all but one picture")
    scored = dict(trial) | ({} if value is None else {f"metrics.{sweep.metric}": value})
    if np.isnan(scored.get(f"metrics.{sweep.metric}", np.nan)):
        found.append(f"it has no {sweep.metric}")
    for metric in dict.fromkeys([sweep.metric, *sweep.referred]):
        mean_image = sweep.references(metric).get(MEAN_IMAGE)
        score, sign = scored.get(f"metrics.{metric}", np.nan), sweep.signs.get(metric, 1)
        if mean_image is None or np.isnan(score) or sign * score < sign * mean_image:
            continue
        by = "" if metric == sweep.metric else f" by {metric}"
        found.append(f"it does not beat the mean training image, which scores {number(mean_image)}{by}")
    return found


def verdict_of(tables: Tables, ranked: pd.DataFrame) -> Verdict:
    """Say which single training is best. This judges its weights, not its settings."""
    sweep, best = tables.sweep, ranked.iloc[0]
    against = objections(tables, best, best["value"])
    headline = _headline(best, sweep.metric, place(ranked, tables.columns), best["number"], against)
    first = ranked[ranked["ranked"]]
    details = []
    if len(first) == 1:
        details.append("There is no other to compare it with.")
    elif np.isnan(best["p_value"]):
        details.append(f"No deviation of {sweep.metric} is recorded, so nothing says how sure that is.")
    else:
        details.append(_apart(first, list(first["number"]), "These weights", "those of "))
        details.append("± is the chance of drawing other images from these weights, not of training again.")
    details += _replicates(tables, first)
    details += _not_ranked(ranked[~ranked["ranked"]])
    details += _references(sweep)
    details += _heard(sweep)
    if on_front := front(tables, first):
        names = ", ".join(map(str, on_front))
        details.append(f"Pareto front of {' and '.join(sweep.signs)}: trial {names}.")
    return Verdict(headline, tuple(details))


def verdict_over_seeds(tables: Tables, seeds: Seeds) -> Verdict:
    """Say which setting is best on average over training seeds."""
    ranked = ranking_over_seeds(tables, seeds)
    sweep, best = tables.sweep, ranked.iloc[0]
    trial = tables.trials.set_index("number", drop=False).loc[ranked.index[0]]
    against = [words for words in objections(tables, trial, best["value"]) if "beat" in words]
    if best["lost"]:
        trainings = best["seeds"] + best["lost"]
        against.append(f"{best['lost']} of its {trainings} trainings diverged or failed, and are in no mean")
    setting = place(ranked, tables.settings)
    headline = _headline(best, f"mean {sweep.metric}", setting, ranked.index[0], against)
    if len(ranked) == 1:
        sure = "There is no other setting that was trained on several seeds."
    else:
        sure = _apart(ranked, list(ranked.index), "This setting", "")
    means = f"Means are over {ranked['seeds'].min()} training seeds or more, and ± is their standard error."
    return Verdict(headline, (sure, means, *_lost(seeds, ranked.index[0]), *_references(sweep)))


def _lost(seeds: Seeds, best: int) -> list[str]:
    """Say of which settings beside the best one trainings diverged or failed."""
    whole, others = seeds.trainings["setting"].value_counts(), seeds.lost.drop(best, errors="ignore")
    lost = [f"{k} of {k + whole.get(n, 0)} of trial {n}'s setting" for n, k in others.items()]
    return [f"Trainings that diverged or failed are in no mean: {', '.join(lost)}."] if lost else []


def verdict_of_repeats(tables: Tables, ranked: pd.DataFrame) -> Verdict:
    """Say who is best of trials that were evaluated again with other noise."""
    best, name = ranked.iloc[0], ranked.index[0]
    against = objections(tables, tables.trials.set_index("number", drop=False).loc[name], best["value"])
    headline = _headline(best, f"mean {tables.sweep.metric}", "", name, against)
    if len(ranked) == 1:
        return Verdict(headline, ("There is no other to compare it with.",))
    return Verdict(headline, (_apart(ranked, list(ranked.index), "These weights", "those of "),))


def _headline(best: pd.Series, metric: str, setting: str, name: int, against: Sequence[str]) -> str:
    words = f"Best: trial {name}{f' ({setting})' if setting else ''}, {metric} "
    words += with_deviation(best["value"], best["std"])
    return f"{words}. But {', and '.join(against)}." if against else f"{words}."


def _apart(ranked: pd.DataFrame, names: list[int], subject: str, of: str) -> str:
    """Say which of a ranking cannot be told apart from its first."""
    ties = [str(name) for name, tied in zip(names[1:], ranked["tied"].iloc[1:], strict=True) if tied]
    others = len(ranked) - 1
    verb = "are" if subject.endswith("s") and subject.startswith("These") else "is"
    if np.isnan(ranked.iloc[0]["p_value"]):
        return "No deviation is known, so nothing says how sure that is."
    if not ties:
        return f"{subject} {verb} told apart from {of}all others at the 5 % level."
    more = f" and {len(ties) - NAMED} more" if len(ties) > NAMED else ""
    shown = ", ".join(ties[:NAMED]) + more
    return f"{subject} cannot be told apart from {of}{len(ties)} of {others} others: trial {shown}."


def _replicates(tables: Tables, ranked: pd.DataFrame) -> list[str]:
    """Say what the other trainings of the best trial's settings score, which differ by their seed alone."""
    keys = [tables.key_of(row) for _, row in ranked.iterrows()]
    same = ranked[[key == keys[0] for key in keys]] if keys else ranked
    if len(same) < 2:
        return []
    others = ", ".join(
        f"trial {row['number']} {number(row['value'])}" for _, row in same.iloc[1 : 1 + NAMED].iterrows()
    )
    return [
        f"Trained on other seeds, its settings score {others}; the mean of all {len(same)} is "
        f"{number(float(same['value'].mean()))}. The best of several is flattered."
    ]


def _not_ranked(partial: pd.DataFrame) -> list[str]:
    if partial.empty:
        return []
    places = [
        f"trial {row['number']} was number {row['place']} of {row['peers']} at epoch {row['epoch']}"
        for _, row in partial.head(NAMED).iterrows()
    ]
    more = f", and {len(partial) - NAMED} more" if len(partial) > NAMED else ""
    return [
        f"{len(partial)} with fewer epochs {'is' if len(partial) == 1 else 'are'} not ranked, as a score at "
        f"another epoch is another number: {', '.join(places)}{more}."
    ]


def _references(sweep: Sweep) -> list[str]:
    known = [f"{name} {number(value)}" for name, value in sweep.references().items()]
    return [f"The references score {', '.join(known)}."] if known else []


def _heard(sweep: Sweep) -> list[str]:
    """Say what other sweeps the search learned from while they ran."""
    known = json.loads(sweep.tags.get(schema.HEARD_TAG, "{}"))
    said = " and ".join(f"{trials} trials of {name}" for name, trials in known.items())
    return [f"The search also learned from {said}, which this sweep does not rank."] if said else []


def front(tables: Tables, trials: pd.DataFrame) -> list[int]:
    """Return the numbers of the trials on the Pareto front of the objectives; none where there is but one.

    trials: those of a ranking.
    """
    signs = tables.sweep.signs
    if len(signs) < 2:
        return []
    scores = np.stack([sign * trials[f"metrics.{name}"] for name, sign in signs.items()], axis=1)
    known = np.isfinite(scores).all(1)
    return [int(n) for n in trials["number"][known].iloc[pareto_front(scores[known])]]


def place(ranked: pd.DataFrame, names: Iterable[str]) -> str:
    """Return the named parameters of the first of a ranking."""
    return ", ".join(f"{name} = {number(ranked.iloc[0][f'params.{name}'])}" for name in names)


def direction(sweep: Sweep) -> str:
    """Say which way is up."""
    return "lower is better" if sweep.mode == "min" else "higher is better"
