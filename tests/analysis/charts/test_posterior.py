"""The searcher's belief: bands, trials at the final scores that are expected of them, references."""

from dataclasses import replace

import numpy as np
import pytest

from analysis.charts.posterior import Belief, Scored, draw_posterior
from searchers.record.schema import FINISHED, STOPPED

GRID = np.linspace(1, 150, 50)
FLAT = np.ones(len(GRID))
BELIEF = Belief(
    name="beta",
    grid=GRID,
    mean=30 * FLAT,
    band=np.array([26 * FLAT, 34 * FLAT]),
    band_of_run=np.array([22 * FLAT, 45 * FLAT]),
    gain=np.exp(-((GRID - 40) ** 2) / 50),
)
TRIALS = Scored(
    settings={"beta": np.array([10.0, 40.0, 90.0]), "lr": np.array([1e-4, 1e-3, 5e-3])},
    scores=np.array([33.0, 29.0, 80.0]),
    stds=np.array([0.5, 0.5, 0.4]),
    status=[FINISHED, FINISHED, STOPPED],
    finals=np.array([33.0, 29.0, 41.0]),
    lows=np.array([32.0, 28.0, 35.0]),
    highs=np.array([34.0, 30.0, 61.0]),
)


@pytest.fixture(scope="module")
def axes():
    return draw_posterior([BELIEF], TRIALS, "fd_x", references={"mean image": 100.3, "real images": 2.7}).axes


def test_a_stopped_trial_is_hollow_at_its_expected_final_score(axes):
    by_label = {container.get_label(): container for container in axes[0].containers}
    stopped = by_label["stopped: expected at the end, from where it is"]
    finished = by_label[FINISHED]
    assert list(stopped.lines[0].get_xydata()[0]) == [90.0, 41.0]
    assert stopped.lines[0].get_markerfacecolor() == "white"
    assert finished.lines[0].get_markerfacecolor() != "white"
    assert finished.lines[0].get_xydata().tolist() == [[10.0, 33.0], [40.0, 29.0]]
    low, high = stopped.lines[2][0].get_segments()[0][:, 1]
    assert (low, high) == (35.0, 61.0)


def test_a_thin_line_leads_there_from_where_it_stopped(axes):
    segments = [s for c in axes[0].collections if hasattr(c, "get_segments") for s in c.get_segments()]
    assert any(np.allclose(s, [[90.0, 80.0], [90.0, 41.0]]) for s in segments)


def test_the_outer_band_is_a_run_s(axes):
    bands = {
        c.get_label(): c.get_paths()[0].vertices[:, 1] for c in axes[0].collections if "±" in c.get_label()
    }
    assert {name: (v.min(), v.max()) for name, v in bands.items()} == {
        "± 2σ of a run": (22.0, 45.0),
        "± 2σ": (26.0, 34.0),
    }


def test_of_one_dimension_the_next_trial_is_told(axes):
    assert [text.get_text() for text in axes[1].texts] == ["next: 40.53"]


def test_references_are_lines_with_their_names(axes):
    assert {text.get_text() for text in axes[0].texts} >= {"mean image", "real images"}


def test_a_logarithmic_dimension_has_a_logarithmic_axis():
    belief = Belief("lr", np.geomspace(1e-4, 1e-2, 50), FLAT, *2 * [np.array([FLAT, FLAT])], FLAT, log=True)
    assert draw_posterior([belief], TRIALS, "fd_x").axes[1].get_xscale() == "log"


def test_each_dimension_has_a_column_that_tells_where_the_others_are():
    rate = Belief(
        "lr", np.geomspace(1e-4, 1e-2, 50), 31 * FLAT, BELIEF.band, BELIEF.band, FLAT, True, at={"beta": 40.0}
    )
    beta = replace(BELIEF, at={"lr": 0.001, "recipe": "modern"})
    figure = draw_posterior([beta, rate], TRIALS, "fd_x")
    axes = figure.axes
    assert [a.get_xlabel() for a in axes[2:]] == ["β", "lr"]
    assert figure.get_supxlabel() == "The curves go through lr = 0.001, recipe = modern, β = 40."
    assert [a.get_xscale() for a in axes[2:]] == ["linear", "log"]
    for above, trials in zip(axes[:2], ([10.0, 40.0], [1e-4, 1e-3]), strict=True):
        finished = {c.get_label(): c for c in above.containers}[FINISHED]
        assert finished.lines[0].get_xdata().tolist() == trials
    assert [a.get_lines()[0].get_ydata()[0] for a in axes[:2]] == [30.0, 31.0]
    assert axes[2].get_ylim() == axes[3].get_ylim() and axes[2].get_ylim()[1] >= 1
    assert not [text for a in axes[2:] for text in a.texts]  # the next trial may be beside both lines


def test_without_an_improvement_there_is_one_panel_and_last_scores_are_called_that():
    belief = replace(BELIEF, gain=None, foretold=False, log=True)
    (axes,) = draw_posterior([belief], TRIALS, "fd_x").axes
    assert axes.get_xlabel() == "β" and axes.get_xscale() == "log"
    labels = [line.get_label() for line in axes.get_lines()]
    assert "mean of the last scores" in labels and "mean after full training" not in labels
