"""What the searcher expects of each trial, as it is drawn and recorded while a sweep runs."""

import json
from types import SimpleNamespace

import pytest
from ray import tune

from searchers.bayesopt.searcher import BayesOptSearch
from searchers.display.posterior import FIGURE, PosteriorFigure
from searchers.record.ledger import Ledger
from searchers.record.schema import FINISHED, POSTERIOR_FILE
from searchers.record.trials import TrialRecord

ONE = {"beta": tune.uniform(1, 150)}
SPACES = {1: ONE, 2: ONE | {"rate": tune.loguniform(1e-4, 1e-2)}}


@pytest.mark.parametrize("dimensions", SPACES)
def test_finals_are_recorded_in_any_space_and_curves_over_one_number(dimensions, tmp_path):
    study = SimpleNamespace(metric="fd", mode="min", space=SPACES[dimensions], provenance={}, objectives={})
    search = BayesOptSearch(study.space, "fd", "min", seed=0)
    ledger = Ledger(tmp_path / "ledger.jsonl")
    recorder = SimpleNamespace(records={}, folder=tmp_path, ledger=ledger)
    for number in range(1, 6):
        config, epochs = search.suggest(str(number)), 2 if number % 2 else 4
        scores = {epoch: {"fd": config["beta"] / epoch} for epoch in range(1, epochs + 1)}
        for epoch, score in scores.items():
            search.on_trial_result(str(number), score | {"training_iteration": epoch})
        search.on_trial_complete(str(number), scores[epochs] | {"training_iteration": epochs})
        status = FINISHED if epochs == 4 else "stopped"
        recorder.records[str(number)] = TrialRecord(str(number), number, config, scores, status)
    PosteriorFigure(study, search, recorder, SimpleNamespace(wake=lambda: None)).draw()
    told = json.loads((tmp_path / POSTERIOR_FILE).read_text())
    expected = search.predicted_finals()
    assert told["finals"] == {n: pytest.approx(list(expected[n])) for n in expected}
    files = [event["path"] for _, event in ledger.events()]
    assert files == [POSTERIOR_FILE, FIGURE][: 1 if dimensions > 1 else 2]
    assert (tmp_path / FIGURE).exists() == ("grid" in told) == (dimensions == 1)


@pytest.mark.parametrize(
    ("surrogate", "epochs", "objectives"),
    [
        ("fitted", (2, 2, 2, 2), {}),  # of four: what is known is of half a training
        ("matern", (2, 4, 2, 4), {}),
        ("fitted", (4, 4, 4, 4), {}),
        ("fitted", (4, 4, 4, 4), {"kl": "min"}),
    ],
)
def test_scores_of_partial_training_are_not_called_final_and_several_objectives_name_no_next(
    surrogate, epochs, objectives, tmp_path
):
    study = SimpleNamespace(metric="fd", mode="min", space=ONE, provenance={}, objectives=objectives)
    search = BayesOptSearch(ONE, "fd", "min", surrogate=surrogate, max_epochs=4, objectives=objectives)
    ledger = Ledger(tmp_path / "ledger.jsonl")
    recorder = SimpleNamespace(records={}, folder=tmp_path, ledger=ledger)
    for number, last in enumerate(epochs):
        config = search.suggest(str(number))
        score = {"fd": config["beta"], "kl": 1.0}
        search.on_trial_complete(str(number), score | {"training_iteration": last})
        recorder.records[str(number)] = TrialRecord(str(number), number, config, {last: score}, FINISHED)
    PosteriorFigure(study, search, recorder, SimpleNamespace(wake=lambda: None)).draw()
    told = json.loads((tmp_path / POSTERIOR_FILE).read_text())
    whole = min(epochs) == 4
    assert told["foretold"] == whole and len(told["finals"]) == (4 if whole else 0)
    assert (told["gain"] is None) == bool(objectives) and (tmp_path / FIGURE).exists()
