"""What the searcher remembers of trials, and what a trial that was stopped early teaches."""

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from searchers.bayesopt.history import (
    EARLY_STOPS,
    ENDED,
    FAILED,
    WHOLE,
    History,
    extrapolated,
    finals_only,
    highest_rung,
    last_value,
)


def history_of(curves, running=()):
    """A history of trials 0, 1, …, each with its values at epochs 1, 2, …"""
    history = History()
    for i, curve in enumerate(curves):
        history.start(str(i), {"x": i / 10})
        for epoch, value in enumerate(curve, start=1):
            history.report(str(i), epoch, [value], None)
        if i not in running:
            history.end(str(i), failed=False)
    return history


CURVES = [[9.0, 7.0, 6.0, 5.0], [8.0, 6.0, 5.0, 4.0], [7.0, 5.0, 4.0, 3.0], [12.0, 11.0], [20.0]]


def values(rows):
    return rows.values[:, 0].tolist()


def test_last_value_takes_every_ended_trial():
    assert values(last_value(history_of(CURVES))) == [5.0, 4.0, 3.0, 11.0, 20.0]
    assert values(last_value(history_of(CURVES, running=(1, 4)))) == [5.0, 3.0, 11.0]


def test_finals_only_takes_those_trained_to_the_end():
    assert values(finals_only(history_of(CURVES))) == [5.0, 4.0, 3.0]
    assert values(finals_only(history_of(CURVES, running=(0, 1, 2)))) == [11.0, 20.0]  # better than nothing


def test_highest_rung_compares_at_one_epoch_and_counts_running_trials():
    # One dimension: three are enough; four epochs were reached by three.
    assert values(highest_rung(history_of(CURVES, running=(2,)))) == [5.0, 4.0, 3.0]
    assert values(highest_rung(history_of(CURVES[1:]))) == [6.0, 5.0, 11.0]
    history = history_of(CURVES)
    history.start("known", {"x": 0.9})
    history.report("known", WHOLE, [2.0], None)
    history.end("known", failed=False)
    assert values(highest_rung(history)) == [5.0, 4.0, 3.0, 2.0]


def test_highest_rung_leaves_a_failed_trial_to_whoever_counts_failures():
    """Its good rows of before would stand beside the bad value that its configuration is given."""
    history = history_of(CURVES)
    history.start("broken", {"x": 0.9})
    for epoch, value in enumerate((8.0, 6.0, 5.0, 4.5, math.nan), start=1):
        history.report("broken", epoch, [value], None)
    history.end("broken", failed=False)
    assert history.trials["broken"].state == FAILED
    assert values(highest_rung(history)) == [5.0, 4.0, 3.0]


def test_extrapolated_adds_what_others_still_gained():
    rows = extrapolated(history_of(CURVES))
    # From epoch 2 to 4 the others gained −2 each; from epoch 1 to 4, −4.
    assert values(rows) == [5.0, 4.0, 3.0, 9.0, 16.0]
    assert not rows.variances.any()
    uneven = history_of([[9.0, 5.0], [9.0, 6.0], [9.0, 8.0], [9.0]])
    gains = np.array([-4.0, -3.0, -1.0])
    rows = extrapolated(uneven)
    assert rows.values[3, 0] == 9.0 + np.median(gains)
    assert math.sqrt(rows.variances[3, 0]) == pytest.approx(1.4826 * 1.0)


@pytest.mark.parametrize("strategy", EARLY_STOPS.values())
def test_strategies_take_an_empty_history_and_measured_noise(strategy):
    assert len(strategy(History())) == 0
    history = History()
    history.start("a", {"x": 0.1})
    history.report("a", 1, [3.0], [0.5])
    history.start("b", {"x": 0.2})
    history.report("b", 1, [4.0], None)
    for trial in "ab":
        history.end(trial, failed=False)
    assert strategy(history, [2.0]).variances[:, 0].tolist() == [0.25, 4.0]


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_value_that_is_not_finite_marks_a_failure(bad):
    history = history_of([[3.0], [4.0, bad], [5.0]])
    assert history.trials["1"].state == FAILED
    assert values(last_value(history)) == [3.0, 5.0]


def test_errors_clear_what_waits_and_a_cancelled_trial_is_forgotten():
    history = history_of([[3.0], [4.0]], running=(0, 1))
    assert len(history.pending()) == 2
    history.end("0", failed=True)
    history.end("1", failed=False)
    history.start("2", {"x": 0.2})
    history.end("2", failed=False)
    assert not history.pending()
    assert {k: t.state for k, t in history.trials.items()} == {"0": FAILED, "1": ENDED}


def test_a_trial_nobody_hears_of_waits_no_longer():
    history = History()
    history.start("lost", {"x": 0.5})
    for i in range(10):
        assert [t.codes for t in history.pending()] == [{"x": 0.5}]
        history.start(str(i), {"x": 0.1})
        history.report(str(i), 1, [1.0], None)
        history.end(str(i), failed=False)
    history.start("next", {"x": 0.1})
    history.report("next", 1, [1.0], None)
    history.end("next", failed=False)
    assert not history.pending()


@given(
    st.lists(
        st.tuples(
            st.lists(st.floats(allow_nan=False), max_size=4), st.sampled_from(["running", "ended", "failed"])
        ),
        max_size=5,
    )
)
def test_json_holds_it_exactly(trials):
    history = History()
    for i, (curve, state) in enumerate(trials):
        history.start(str(i), {"x": 0.1 + i, "c": i})
        for epoch, value in enumerate(curve, start=1):
            history.report(str(i), epoch, [value], [0.1 * epoch] if epoch % 2 else None)
        if state != "running":
            history.end(str(i), failed=state == "failed")
    again = History.from_json(json.loads(json.dumps(history.to_json())))
    assert again.to_json() == history.to_json()
    assert again.trials == history.trials and again.ended == history.ended
