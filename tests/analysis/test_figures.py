"""Figures: what is plotted is what was recorded; what can't be drawn says why."""

import io

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from analysis import figures
from analysis.charts import search as charts
from analysis.charts import space as space_charts
from analysis.charts.style import BLUE, ORANGE, ink_on, unit
from analysis.judgement.ranking import pareto_front
from analysis.record.runs import AnalysisError, load
from tests.fixtures.recorded import METRIC


@pytest.fixture(scope="module")
def three(client):
    return load(client, "three")


def lines_of(axes):
    return [line for line in axes.get_lines() if len(line.get_xdata()) > 1]


def test_every_chart_is_drawn_whole(three):
    """Nothing lies outside the canvas: labels that are cut off show up here."""
    for draw in (
        charts.learning_curves,
        charts.evolution,
        charts.slices,
        space_charts.importance,
        space_charts.pairs,
        space_charts.parallel_coordinates,
        charts.gantt,
        charts.pareto,
    ):
        figure = draw(three)
        file = io.BytesIO()
        figure.savefig(file, dpi=50)
        box = figure.get_tightbbox()
        width, height = figure.get_size_inches()
        assert box.x0 > -0.05 and box.y0 > -0.05, draw.__name__
        assert box.x1 < width + 0.05 and box.y1 < height + 0.05, draw.__name__
        assert np.asarray(Image.open(file)).std() > 1


def test_curves_are_the_recorded_histories(three):
    (axes,) = charts.learning_curves(three).axes
    drawn = {tuple(line.get_ydata()) for line in lines_of(axes)}
    for number in three.trials["number"]:
        curve = three.curves(METRIC)[number].dropna()
        assert tuple(curve) in drawn
    assert charts.rungs(three) == [1, 3]


def test_importance_finds_the_setting_that_the_score_depends_on(three):
    """The made-up score is a bowl over β, 60 deep, with a slope of 15 a decade of the learning rate."""
    shares = space_charts.importances(three)
    assert next(iter(shares)) == "beta"
    assert sum(shares.values()) == pytest.approx(1)


def test_one_dimension_has_no_pairs_nor_importance(client):
    tables = load(client, "one")
    with pytest.raises(AnalysisError, match="Importance needs two dimensions"):
        space_charts.importance(tables)
    with pytest.raises(AnalysisError, match="Pairs need two dimensions of numbers"):
        space_charts.pairs(tables)


def test_nothing_is_interpolated_between_seeds_or_choices(three):
    spaces = {
        "seed": {"type": "int", "lower": 0, "upper": 4},
        "model": {"type": "categorical", "choices": "ab"},
    }
    tables = type(three)(three.sweep, three.trials, three.history)
    tables.__dict__["space"] = {"beta": three.space["beta"], **spaces}
    with pytest.raises(AnalysisError, match="has 1 and 19"):
        space_charts.pairs(tables)


@given(st.lists(st.tuples(*[st.integers(0, 4)] * 3), min_size=1, max_size=30))
def test_the_pareto_front_is_what_nothing_dominates(points):
    front = set(pareto_front(np.array(points, dtype=float)))
    for k, a in enumerate(points):
        dominated = any(all(x <= y for x, y in zip(b, a, strict=True)) and b != a for b in points)
        assert (k in front) != dominated


def test_the_pareto_figure_is_of_the_sweeps_own_objectives(client):
    tables = load(client, "two-objectives")
    (axes,) = charts.pareto(tables).axes
    assert axes.get_ylabel() == "ELBO (nats), higher is better"
    (front,) = (line for line in axes.get_lines() if line.get_label() == "Pareto front")
    values = tables.trials[[f"metrics.{METRIC}", "metrics.elbo"]].to_numpy()
    expected = values[pareto_front(values * [1, -1])]
    np.testing.assert_allclose(np.sort(front.get_xdata()), np.sort(expected[:, 0]))


def test_ink_is_seen_on_its_ground():
    assert ink_on("white") == ink_on(ORANGE) == "black"
    assert ink_on("black") == ink_on(BLUE) == "white"


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(1, 20), st.sampled_from("ab")), min_size=1))
def test_no_two_bars_of_a_worker_overlap(spans):
    begin = pd.Timestamp("2026-01-01")
    trials = pd.DataFrame(
        {
            "start": [begin + pd.Timedelta(seconds=s) for s, _, _ in spans],
            "end": [begin + pd.Timedelta(seconds=s + n) for s, n, _ in spans],
            "node": [node for _, _, node in spans],
        }
    )
    rows, names = charts.lanes(trials)
    assert set(rows) == set(range(len(names)))
    for lane in set(rows):
        bars = trials[[row == lane for row in rows]].sort_values("start")
        assert (bars["start"].to_numpy()[1:] >= bars["end"].to_numpy()[:-1]).all()
        assert bars["node"].nunique() == 1


def test_a_dimension_is_mapped_as_the_searcher_sees_it():
    log = {"type": "float", "lower": 1e-4, "upper": 1e-2, "log": True}
    np.testing.assert_allclose(unit([1e-4, 1e-3, 1e-2], log), [0, 0.5, 1])
    choice = {"type": "categorical", "choices": ["adam", "rmsprop", "sgd"]}
    np.testing.assert_allclose(unit(["sgd", "adam", "rmsprop"], choice), [1, 0, 0.5])


def test_seed_bands_are_mean_and_deviation(three):
    """Trials of one setting differ by their seed; here two settings are made one."""
    tables = load_as_one_setting(three)
    (axes,) = charts.seed_bands([("three", tables)]).axes
    numbers = tables.scored()["number"]
    expected = tables.curves(METRIC)[numbers]
    np.testing.assert_allclose(lines_of(axes)[0].get_ydata(), expected.mean(axis=1))
    band = axes.collections[0].get_paths()[0].vertices[:, 1]
    assert band.max() == pytest.approx((expected.mean(axis=1) + expected.std(axis=1, ddof=1)).max())


def load_as_one_setting(tables):
    names = ("beta", "learning_rate", "latent_dim")
    same = tables.trials.assign(**{f"params.{name}": 1.0 for name in names})
    return type(tables)(tables.sweep, same, tables.history)


def test_no_seeds_no_bands(three):
    with pytest.raises(AnalysisError, match="No setting was trained with several seeds"):
        charts.seed_bands([("three", three)])


def test_the_command_draws_what_it_can_and_says_what_it_cannot(client, tmp_path, capsys):
    arguments = ["--sweep", "three", "--tracking-uri", client.tracking_uri, "--output", str(tmp_path)]
    assert figures.main([*arguments, "--only", "gantt", "posterior", "--form", "svg"]) == 0
    said = capsys.readouterr().out
    assert (tmp_path / "three" / "gantt.svg").read_text().count("<svg") == 1
    assert "Left out posterior: Sweep 'three' has no posterior on record" in said
    assert figures.main([*arguments, "--only", "samples"]) == 2
    assert "The record has no weights of trial" in capsys.readouterr().out
    assert figures.main([*arguments, "--only", "mandala"]) == 2
    assert "There is no figure 'mandala'; there are: curves, seed-bands" in capsys.readouterr().err
