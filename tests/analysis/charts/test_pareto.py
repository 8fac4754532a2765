"""The front is what no trial beats, whatever the objectives' directions."""

from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.charts.pareto import Objective, draw_cost, draw_front, pareto_front
from analysis.charts.search import pareto
from analysis.record.store import AnalysisError
from analysis.record.tables import load
from tests.fixtures.recorded import METRIC


@given(st.lists(st.tuples(*[st.integers(0, 4)] * 3), min_size=1, max_size=30))
def test_the_pareto_front_is_what_nothing_dominates(points):
    front = set(pareto_front(np.array(points, dtype=float)))
    for k, a in enumerate(points):
        dominated = any(all(x <= y for x, y in zip(b, a, strict=True)) and b != a for b in points)
        assert (k in front) != dominated


def test_the_pareto_figure_is_of_the_sweeps_own_objectives(client):
    tables = load(client, "two-objectives")
    axes, colors = pareto(tables).axes
    assert colors.get_ylabel() == "β" and axes.texts[0].get_text().startswith("β = ")
    assert axes.get_ylabel() == "ELBO (nats), higher is better"
    (front,) = (line for line in axes.get_lines() if line.get_label() == "Pareto front")
    values = tables.trials[[f"metrics.{METRIC}", "metrics.elbo"]].to_numpy()
    expected = values[pareto_front(values * [1, -1])]
    np.testing.assert_allclose(np.sort(front.get_xdata()), np.sort(expected[:, 0]))


def test_no_name_on_a_front_covers_another_or_a_point():
    first, second = (
        Objective(name, np.array(values))
        for name, values in (
            ("a", [132, 139, 139.2, 157, 164.5, 160, 161.4]),
            ("b", [29, 23.1, 20.7, 16.9, 16.4, 18.7, 17.3]),
        )
    )
    values = [84.75, 54.61, 42.78, 23.43, 20.69, 22.0, 22.5]
    figure = draw_front(first, second, ["finished"] * 7, ("beta", values), range(5))
    figure.draw_without_rendering()
    axes = figure.axes[0]
    boxes = [text.get_window_extent() for text in axes.texts]
    assert not any(one.overlaps(other) for one, other in combinations(boxes, 2))
    points = axes.transData.transform(np.stack([first.values, second.values], axis=1))
    assert not any(box.contains(*point) for box in boxes for point in points)


def test_the_front_of_more_objectives_is_marked_but_not_joined():
    first, second = (
        Objective(name, np.array(values)) for name, values in (("a", [1.0, 2, 3]), ("b", [1.0, 3, 2]))
    )
    joined = draw_front(first, second, ["finished"] * 3, ("model", list("xyz")), [0])
    assert [line.get_label() for line in joined.axes[0].get_lines()] == ["Pareto front"]
    # The third objective keeps all three on the front, which these two do not.
    marked = draw_front(first, second, ["finished"] * 3, ("model", list("xyz")), [0, 1, 2])
    assert not marked.axes[0].get_lines()
    assert [text.get_text() for text in marked.axes[0].texts] == ["model = x", "model = y", "model = z"]


def test_who_asks_for_a_score_gets_the_next_better_trial():
    first = Objective("a", np.array([1.0, 2.0]), -1)
    figure = draw_front(
        first, Objective("b", np.array([1.0, 3.0])), ["finished"] * 2, ("beta", [1, 2]), [0, 1]
    )
    (line,) = figure.axes[0].get_lines()
    assert line.get_drawstyle() == "steps-pre"


def test_a_front_of_one_trial_is_said(client):
    """Lower is better in both here, so the best in the first may be the best in both."""
    tables = load(client, "two-objectives")
    row = tables.objective.idxmin()
    best = tables.trials.assign(**{"metrics.elbo": 0.0})
    best.loc[row, "metrics.elbo"] = 1.0
    number = best["number"][row]
    with pytest.raises(AnalysisError, match=f"Trial {number} of .* is the best in {METRIC} and in elbo"):
        pareto(replace(tables, trials=best))


def test_references_far_from_all_settings_are_told_and_do_not_press_them_together():
    cost = Objective("evaluations", np.array([2.0, 9, 10, 19, 20]))
    score = Objective("fd", np.array([34.0, 13, 12, 11, 10]))
    references = {"real images": 1.6, "mean image": 100.3, "grey": 206.0}
    (axes,) = draw_cost(cost, score, ["a"] * 5, list("abcde"), [0, 1, 4], references).axes
    assert axes.get_ylim()[1] < 60
    words = [text.get_text() for text in axes.texts]
    assert "beyond: mean image 100.3, grey 206" in words and "real images" in words
    assert [text.get_text() for text in axes.get_xticklabels()] == ["2", "9", "19"]
