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
KIND = {"kind": tune.choice(["a", "b"])}
SPACES = {
    "one number": ONE,
    "two, one inside": ONE | {"inner": {"rate": tune.loguniform(1e-4, 1e-2)}},
    "one and a choice": ONE | KIND,
    "no number": KIND,
}


@pytest.mark.parametrize("of", SPACES)
def test_finals_are_recorded_in_any_space_and_curves_over_its_numbers(of, tmp_path):
    study = SimpleNamespace(metric="fd", mode="min", space=SPACES[of], provenance={}, objectives={})
    search = BayesOptSearch(study.space, "fd", "min", seed=0)
    ledger = Ledger(tmp_path / "ledger.jsonl")
    recorder = SimpleNamespace(records={}, folder=tmp_path, ledger=ledger)
    for number in range(1, 6):
        config, epochs = search.suggest(str(number)), 2 if number % 2 else 4
        scores = {epoch: {"fd": config.get("beta", number) / epoch} for epoch in range(1, epochs + 1)}
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
    drawn = of != "no number"
    assert files == [POSTERIOR_FILE, *[FIGURE] * drawn]
    assert (tmp_path / FIGURE).exists() == ("beliefs" in told) == drawn
    if of == "two, one inside":
        best = recorder.records[search.best_trial()].config
        beta, rate = told["beliefs"]
        assert (beta["name"], rate["name"]) == ("beta", "inner/rate")
        assert beta["at"] == {"inner/rate": pytest.approx(best["inner"]["rate"])}
        assert rate["at"] == {"beta": pytest.approx(best["beta"])}
        nearest = min(range(len(beta["grid"])), key=lambda i: abs(beta["grid"][i] - best["beta"]))
        expected = search.forecast([best | {"beta": beta["grid"][nearest]}]).mean[0]
        assert beta["mean"][nearest] == pytest.approx(expected)


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
    (curve,) = told["beliefs"]
    assert curve["foretold"] == whole and len(told["finals"]) == (4 if whole else 0)
    assert (curve["gain"] is None) == bool(objectives) and (tmp_path / FIGURE).exists()
