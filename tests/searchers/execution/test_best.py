"""Which trial of a sweep is called the best, what is said beside it, and whose weights are kept."""

from types import SimpleNamespace

import numpy as np
import pytest
from ray import tune

from searchers.bayesopt.searcher import BayesOptSearch
from searchers.execution import best
from searchers.execution.best import best_scores, recommended
from searchers.execution.fixed_points import FixedPoints
from searchers.record.ledger import Ledger
from searchers.record.trials import TrialRecord

SPACE = tune.uniform(0.5, 4)


def study(**changes):
    values = {"metric": "mig", "mode": "max", "objectives": {}, "space": {"beta": 1}}
    return SimpleNamespace(**values | changes)


@pytest.mark.parametrize(("checkpoint", "exported"), [(2, False), (4, True)])
def test_weights_that_were_not_scored_are_not_exported(tmp_path, monkeypatch, checkpoint, exported):
    record = TrialRecord(
        "a", 1, {}, {4: {"mig": 0.5}}, "finished", checkpoints={"checkpoint_000000": checkpoint}
    )
    (tmp_path / "tune/a/checkpoint_000000").mkdir(parents=True)
    written = []
    monkeypatch.setattr(best, "export_model", lambda *arguments: written.append(arguments))
    monkeypatch.setattr(best, "flush", lambda path: None)
    ledger = Ledger(tmp_path / "ledger.jsonl")
    best.export_best(study(trainable=None), None, [record], str(tmp_path), tmp_path, ledger)
    assert len(written) == exported


def test_the_recommended_trial_is_the_searchers_and_else_the_fully_trained_one_of_best_value():
    search = BayesOptSearch({"beta": SPACE}, "mig", "max", max_epochs=4)
    records = []
    for n, (beta, values) in enumerate(((1.0, [5, 6, 7, 8]), (2.0, [5, 6, 7, 7]), (3.0, [1, 1]))):
        search.history.start(str(n), {"beta": beta})
        for epoch, value in enumerate(values, 1):
            search.history.report(str(n), epoch, [float(value)], None)
        search.history.end(str(n), failed=False)
        metrics = {e: {"mig": float(v)} for e, v in enumerate(values, 1)}
        status = "finished" if len(values) == 4 else "stopped"
        records.append(TrialRecord(str(n), n, {"beta": beta}, metrics, status))
    assert recommended(study(), search, records)[0].trial == "0"
    assert recommended(study(), BayesOptSearch({"beta": SPACE}, "mig", "max"), records)[0].trial == "0"
    records[2].metrics[2]["mig"] = 9.0  # of half a training
    assert recommended(study(), FixedPoints([], "mig", "max"), records)[0].trial == "0"
    assert recommended(study(), FixedPoints([], "mig", "max"), []) == (None, [])
    for record in records:
        record.status = None  # as Ctrl-C leaves them
    assert recommended(study(), search, records)[0].trial == "0"  # the best of the longest, as the star


def searched(curves, space=(0.0, 1.0)):
    """Return a search over x for the least fid, of 9 epochs, and its records: trials with these curves."""
    search, records = BayesOptSearch({"x": tune.uniform(*space)}, "fid", "min", max_epochs=9), []
    for n, (x, values) in enumerate(curves, 1):
        search.history.start(str(n), {"x": x})
        for epoch, value in values.items():
            search.history.report(str(n), epoch, [value], None)
        search.history.end(str(n), failed=False)
        status = "finished" if 9 in values else "stopped"
        metrics = {epoch: {"fid": value} for epoch, value in values.items()}
        records.append(TrialRecord(str(n), n, {"x": x}, metrics, status))
    return search, records


def test_a_trial_that_was_not_fully_trained_is_not_the_best_but_promising():
    """Each curve is its height and 9/epoch, so that the lowest one, stopped at epoch 3, would end lowest."""
    curves = [(x, {e: 20 * x + 9 / e for e in (1, 3, 9)[: 2 + (x > 0.35)]}) for x in np.linspace(0.1, 1, 10)]
    search, records = searched(curves)
    chosen, words = recommended(study(metric="fid", mode="min", space={"x": 1}), search, records)
    assert chosen.status == "finished" and chosen.config["x"] == pytest.approx(0.4)
    (said,) = words
    assert said.startswith("Promising: trial 1, 5 after epoch 3, of which the model expects 3")
    assert said.endswith(") after full training.")
    assert best_scores(study(metric="fid"), chosen) == {"best/trial": 4.0, "best/fid": pytest.approx(9.0)}
    assert best_scores(study(metric="fid"), records[0]) == {}


def test_where_the_best_score_was_luck_that_is_said():
    rng = np.random.default_rng(0)
    x = np.linspace(0, 1, 60)
    values = 10 + 8 * (x - 0.3) ** 2 + 0.2 * rng.standard_normal(60)
    values[50] = 9.2
    search, records = searched([(at, {9: value}) for at, value in zip(x, values, strict=True)])
    chosen, words = recommended(study(metric="fid", mode="min", space={"x": 1}), search, records)
    assert abs(chosen.config["x"] - 0.3) < 0.2
    assert words == [f"Trial 51 scored 9.2; the model is sure that trial {chosen.number} is better."]


def test_the_recommended_trials_weights_are_kept_beside_those_of_the_best_scores(tmp_path, monkeypatch):
    records = [TrialRecord(str(n), n, {}, {4: {"mig": -float(n)}}, "finished") for n in range(6)]
    for record in records:
        record.checkpoints = {"checkpoint_000000": 4}
        (tmp_path / f"tune/{record.trial}/checkpoint_000000").mkdir(parents=True)
    monkeypatch.setattr(best, "export_model", lambda *arguments: None)
    monkeypatch.setattr(best, "flush", lambda path: None)
    for chosen, kept in ((records[1], "012"), (records[4], "4012")):
        ledger = Ledger(tmp_path / f"{kept}.jsonl")
        best.export_best(study(trainable=None), chosen, records, str(tmp_path), tmp_path, ledger)
        assert "".join(event["trial"] for _, event in ledger.events()) == kept
