"""Trials on their workers."""

from types import SimpleNamespace

import pandas as pd
from hypothesis import given
from hypothesis import strategies as st

from analysis.charts import gantt
from analysis.record.tables import Tables
from tests.fixtures.recorded import METRIC

BEGIN = pd.Timestamp("2026-01-01")


def minutes(*since):
    return [BEGIN + pd.Timedelta(minutes=m) for m in since]


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
    rows, names = gantt.lanes(trials)
    assert set(rows) == set(range(len(names)))
    for lane in set(rows):
        bars = trials[[row == lane for row in rows]].sort_values("start")
        assert (bars["start"].to_numpy()[1:] >= bars["end"].to_numpy()[:-1]).all()
        assert bars["node"].nunique() == 1


def test_a_trial_that_waits_at_a_rung_has_no_bar_and_its_worker_another_trial():
    """Trial 1 waits from minute 6 to 26 after epoch 3, trial 2 for ever; trial 3 has a slow last epoch."""
    ends = {1: minutes(2, 4, 6, 28, 30), 2: minutes(8, 10, 12), 3: minutes(14, 16, 18, 20, 26)}
    history = [
        {"number": n, "epoch": k, "time": time, "metric": METRIC, "value": 1.0}
        for n, times in ends.items()
        for k, time in enumerate(times, 1)
    ]
    trials = pd.DataFrame(
        {
            "number": [1, 2, 3],
            "status": ["finished", "stopped", "finished"],
            "node": "a",
            "start": minutes(0, 6, 12),
            "end": minutes(30, 60, 26),
        }
    )
    params = {"early_stopping": "True", "grace_epochs": "3"}
    sweep = SimpleNamespace(name="x", params=params, epochs=5, signs={METRIC: 1})
    tables = Tables(sweep, trials, pd.DataFrame(history))
    worked = gantt.stretches(tables)
    assert list(worked["number"]) == [1, 1, 2, 3]
    assert list(worked["start"]) == minutes(0, 26, 6, 12) and list(worked["end"]) == minutes(6, 30, 12, 26)
    assert set(gantt.lanes(worked)[0]) == {0}
    assert [round(bar.get_width()) for bar in gantt.gantt(tables).axes[0].patches] == [6, 4, 6, 14]
    assert len(gantt.stretches(Tables(sweep, trials, tables.history.iloc[:0]))) == 3


def test_a_trial_goes_on_where_a_worker_became_free_and_not_on_one_that_is_not_there():
    """Trials 1 and 2 are on two workers; 1 goes on faster than usual, after 4 on its worker."""
    ends = {1: minutes(2, 4, 6, 13.5, 15.5), 2: minutes(2, 4, 6, 8, 10), 4: minutes(8, 10, 12)}
    history = [
        {"number": n, "epoch": k, "time": time, "metric": METRIC, "value": 1.0}
        for n, times in ends.items()
        for k, time in enumerate(times, 1)
    ]
    trials = pd.DataFrame(
        {
            "number": [1, 2, 4, 5],
            "status": ["finished", "finished", "stopped", "finished"],
            "node": None,
            "start": minutes(0, 0, 6, 10),
            "end": minutes(15.5, 10, 60, 20),
        }
    )
    sweep = SimpleNamespace(
        name="x", params={"early_stopping": "True", "grace_epochs": "3"}, epochs=5, signs={METRIC: 1}
    )
    worked = gantt.stretches(Tables(sweep, trials, pd.DataFrame(history)))
    assert list(worked["start"][worked["number"] == 1]) == minutes(0, 12)
    assert gantt.lanes(worked)[1] == ["worker · 1", "worker · 2"]
