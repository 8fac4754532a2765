"""Curves are the recorded histories; bands are mean and deviation over seeds."""

from dataclasses import replace

import numpy as np
import pytest

from analysis.charts import curves
from analysis.record.store import AnalysisError
from analysis.record.tables import load
from tests.fixtures.recorded import METRIC, Imagined, record


@pytest.fixture(scope="module")
def three(client):
    return load(client, "three")


def lines_of(axes):
    return [line for line in axes.get_lines() if len(line.get_xdata()) > 1]


def test_curves_are_the_recorded_histories(three):
    (axes,) = curves.learning_curves(three).axes
    drawn = {tuple(line.get_ydata()) for line in lines_of(axes)}
    for number in three.trials["number"]:
        curve = three.curves(METRIC)[number].dropna()
        assert tuple(curve) in drawn
    assert curves.rungs(three) == [1, 3]
    params = {**three.sweep.params, "evaluate_every": "2"}
    assert curves.rungs(replace(three, sweep=replace(three.sweep, params=params))) == [2, 6]


def test_a_search_for_a_front_has_no_rungs(client):
    """It pauses nothing, whatever its settings say of early stopping."""
    tables = load(client, "two-objectives")
    assert tables.sweep.params["early_stopping"] == "True" and curves.rungs(tables) == []


def test_seed_bands_are_mean_and_deviation(three):
    """Trials of one setting differ by their seed; here two settings are made one."""
    tables = load_as_one_setting(three)
    (axes,) = curves.seed_bands([("three", tables)]).axes
    numbers = tables.scored()["number"]
    expected = tables.curves(METRIC)[numbers]
    np.testing.assert_allclose(lines_of(axes)[0].get_ydata(), expected.mean(axis=1))
    band = axes.collections[0].get_paths()[0].vertices[:, 1]
    assert band.max() == pytest.approx((expected.mean(axis=1) + expected.std(axis=1, ddof=1)).max())


def test_where_nothing_but_the_seed_varies_there_is_one_band(folder, client):
    points = tuple({"beta": 60.0, "seed": seed} for seed in (0, 1, 2))
    record(
        Imagined("alike", trials=3, images=False, stopping=False, points=points, seeds=3),
        folder,
        client.tracking_uri,
    )
    tables = load(client, "alike")
    space = {"space/seed": tables.sweep.params["space/seed"]}
    params = {k: v for k, v in tables.sweep.params.items() if not k.startswith("space/")} | space
    tables = replace(tables, sweep=replace(tables.sweep, params=params))
    assert tables.settings == []
    (axes,) = curves.seed_bands([("alike", tables)]).axes
    expected = tables.curves(METRIC).mean(axis=1)
    np.testing.assert_allclose(lines_of(axes)[0].get_ydata(), expected)
    assert axes.get_legend().get_texts()[0].get_text() == "alike (n = 3)"


def load_as_one_setting(tables):
    names = ("beta", "learning_rate", "latent_dim")
    same = tables.trials.assign(**{f"params.{name}": 1.0 for name in names})
    return type(tables)(tables.sweep, same, tables.history)


def test_no_seeds_no_bands(three):
    with pytest.raises(AnalysisError, match="No setting was trained with several seeds"):
        curves.seed_bands([("three", three)])
