"""Which dimensions matter, and what may be interpolated between."""

import pytest

from analysis.charts import space
from analysis.record.store import AnalysisError
from analysis.record.tables import load
from tests.fixtures.recorded import METRIC


@pytest.fixture(scope="module")
def three(client):
    return load(client, "three")


def test_importance_finds_the_setting_that_the_score_depends_on(three):
    """The made-up score is a bowl over β, 60 deep, with a slope of 15 a decade of the learning rate."""
    _, shares = space.importances(three)
    assert next(iter(shares)) == "beta"
    assert sum(shares.values()) == pytest.approx(1)


def test_one_dimension_has_no_pairs_nor_importance(client):
    tables = load(client, "one")
    with pytest.raises(AnalysisError, match="Importance needs two dimensions; 'one' has 1"):
        space.importance(tables)
    with pytest.raises(AnalysisError, match="Pairs need two dimensions of numbers"):
        space.pairs(tables)


def test_nothing_is_interpolated_between_seeds_or_choices(three):
    others = {
        "seed": {"type": "int", "lower": 0, "upper": 4},
        "model": {"type": "categorical", "choices": "ab"},
    }
    tables = type(three)(three.sweep, three.trials, three.history)
    tables.__dict__["space"] = {"beta": three.space["beta"], **others}
    with pytest.raises(AnalysisError, match="has 1\\."):
        space.pairs(tables)


def test_scores_of_one_epoch_are_explained(three):
    """The made-up sweep stops every third trial at its third epoch: two thirds reach the ninth."""
    epoch, scored = three.common(10)
    assert epoch == 9 and len(scored) == len(three.trials[three.trials["epoch"] == 9])
    epoch, scored = three.common(19)
    curves = three.curves(METRIC)
    assert epoch == 3 and list(scored["score"]) == [curves.loc[3, n] for n in scored["number"]]
    with pytest.raises(AnalysisError, match="21 trials with a score at one epoch are needed; 'three' has 20"):
        three.common(21)
    assert space.importances(three)[0] == 9
