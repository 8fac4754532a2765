"""Trials on their workers."""

import pandas as pd
from hypothesis import given
from hypothesis import strategies as st

from analysis.charts import gantt


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
