"""What the searcher remembers of trials, and what a trial that was stopped early teaches."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from searchers.bayesopt.history import ENDED, FAILED, PAUSED, RUNNING, History, last_value


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


def test_an_empty_history_and_measured_noise():
    assert len(last_value(History())) == 0
    history = History()
    history.start("a", {"x": 0.1})
    history.report("a", 1, [3.0], [0.5])
    history.start("b", {"x": 0.2})
    history.report("b", 1, [4.0], None)
    for trial in "ab":
        history.end(trial, failed=False)
    assert last_value(history, [2.0]).variances[:, 0].tolist() == [0.25, 4.0]


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_value_that_is_not_finite_marks_a_failure(bad):
    history = history_of([[3.0], [4.0, bad], [5.0]])
    assert history.trials["1"].state == FAILED
    assert values(last_value(history)) == [3.0, 5.0]


def test_a_paused_trial_counts_and_is_not_pending():
    history = history_of(CURVES, running=(1,))
    history.pause("1")
    assert history.trials["1"].state == PAUSED and not history.pending()
    assert values(last_value(history)) == [5.0, 4.0, 3.0, 11.0, 20.0]
    history.report("1", 5, [3.5], None)  # Tune tells the searcher of a result after the scheduler
    assert history.trials["1"].state == PAUSED
    history.resume("1")
    assert history.pending() == [history.trials["1"]]
    history.pause("1")
    history.end("1", failed=False)
    assert history.trials["1"].state == ENDED and history.ended == 5


def test_a_row_after_a_trials_end_may_make_it_bad_and_none_is_learned_from():
    history = history_of(CURVES)
    history.report("0", 5, [math.nan], None)
    assert history.trials["0"].state == FAILED
    assert values(last_value(history)) == [4.0, 3.0, 11.0, 20.0]


def test_a_trial_that_is_tried_again_after_an_error_is_pending():
    history = history_of(CURVES, running=(0,))
    history.end("0", failed=True)
    assert not history.pending()
    history.report("0", 5, [4.0], None)
    assert history.trials["0"].state == RUNNING and history.pending() == [history.trials["0"]]


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
