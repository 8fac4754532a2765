"""Which dimensions matter, and what may be interpolated between."""

from dataclasses import replace

import numpy as np
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
    shares = space.importances(three)
    assert next(iter(shares)) == "beta"
    assert shares.sum(axis=1).to_numpy() == pytest.approx(np.ones(space.FORESTS))
    assert (shares.std() > 0).all()  # another seed grows other trees


def test_importance_is_refused_where_most_were_stopped(three):
    status = three.trials["status"].where(three.trials["number"] < 9, "stopped")
    epochs = three.trials["epoch"].where(three.trials["number"] < 9, 3)
    stopped = replace(three, trials=three.trials.assign(status=status, epoch=epochs))
    with pytest.raises(AnalysisError, match="Importance needs 8 fully trained trials, at least half"):
        space.importances(stopped)
    assert space.pairs(stopped).axes  # in the space's own order


@pytest.mark.parametrize("mode", ["min", "max"])
def test_the_best_of_pairs_are_told_apart(three, mode):
    """Colors end behind the best value, however far it is from the others."""
    sweep = replace(three.sweep, tags=three.sweep.tags | {"mode": mode})
    far = (three.history["value"].clip(0) / 200) ** 20 * -sweep.sign
    tables = replace(three, sweep=sweep, history=three.history.assign(value=far))
    _, scored = tables.common(space.most_of(tables, space.PAIRED_LEAST))
    low, high = space.pairs(tables).axes[0].collections[-1].get_clim()
    assert low <= (scored["score"].min() if mode == "min" else scored["score"].max()) <= high


def test_one_dimension_has_no_parallel_coordinates(client):
    with pytest.raises(AnalysisError, match="Parallel coordinates need two dimensions; 'one' has 1"):
        space.parallel_coordinates(load(client, "one"))


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
