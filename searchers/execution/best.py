"""Which trial of a sweep is called the best, and what is kept of it."""

import math
from pathlib import Path

from ray.tune.search import Searcher

from analysis.charts.text import number
from searchers.bayesopt.fidelity import CurveModel
from searchers.bayesopt.searcher import BayesOptSearch
from searchers.execution.rebuild import latest_checkpoint
from searchers.record.files import flush
from searchers.record.folders import MODELS
from searchers.record.ledger import Ledger
from searchers.record.schema import FINISHED, MODEL
from searchers.record.trials import TrialRecord, best_record, ranked
from searchers.study.study import Study
from trainables.tune.export import export_model

EXPORTED = 3  # the best trials' weights go into the record


def export_best(
    study: Study,
    best: TrialRecord | None,
    records: list[TrialRecord],
    storage: str,
    folder: Path,
    ledger: Ledger,
) -> None:
    """Export the weights of `best` and of the best by score, so that they outlive the checkpoints."""
    by_score = ranked(records, study.metric, study.mode)[:EXPORTED]
    for record in by_score if best is None or best in by_score else [best, *by_score]:
        found = latest_checkpoint(record, storage)
        if found is not None and found.epoch == record.epoch:  # these weights were scored
            path = Path(MODELS) / record.trial
            with found.checkpoint.as_directory() as directory:
                export_model(study.trainable, record.config, Path(directory), folder / path)
            flush(folder / path)
            ledger.append(MODEL, trial=record.trial, path=str(path))


def recommended(
    study: Study, search: Searcher, records: list[TrialRecord]
) -> tuple[TrialRecord | None, list[str]]:
    """Return the trial that is called the best, and what the searcher's model says beside it, a line each.

    It is a fully trained trial: the best by score or, where one score alone was searched for, another one of
    which the model is sure. Before one is fully trained it is the best by score of those that came furthest,
    and None before any finite value.
    """
    best = best_record(records, study.metric, study.mode)
    if best is None or best.status != FINISHED or not isinstance(search, BayesOptSearch) or study.objectives:
        return best, []
    try:
        model = search.model()
    except ValueError:  # there is no finite value
        return best, []
    known, words = {record.trial: record for record in records}, []
    chosen = known.get(search.best_trial(model, trained=True))
    if chosen is not None and chosen.status == FINISHED and chosen is not best:
        score = number(best.last(study.metric))
        words = [
            f"Trial {best.number} scored {score}; the model is sure that trial {chosen.number} is better."
        ]
        best = chosen
    other = known.get(search.best_trial(model))
    if isinstance(model, CurveModel) and other is not None and other.status != FINISHED:
        expected, low, high = map(number, search.predicted_finals(model)[other.trial])
        score = number(other.last(study.metric))
        words.append(
            f"Promising: trial {other.number}, {score} after epoch {other.epoch}, of which the model expects "
            f"{expected} ({low} to {high}) after full training."
        )
    return best, words


def best_scores(study: Study, best: TrialRecord | None) -> dict[str, float]:
    """Return what the parent run says of the winner: its number, its score and the deviation of that.

    A score of partial training is another number: nothing is said of it.
    """
    if best is None or best.status != FINISHED:
        return {}
    scores = {name: best.last(name) for name in (study.metric, f"{study.metric}_std")}
    known = {f"best/{name}": value for name, value in scores.items() if math.isfinite(value)}
    return {"best/trial": float(best.number), **known}
