"""Which scores may be ranked together."""

import pandas as pd

from analysis import comparable


def test_scores_of_two_scorers_are_two_rankings():
    """Each sweep trains its own scorer where none is given; only the hash tells them apart."""
    trials = pd.DataFrame({"params.scorer_hash": ["0a1b", "0a1b", "2c3d"], "params.scorer_weights": "None"})
    found = comparable.groups(trials, "top10")
    assert [list(group.index) for _, group in found] == [[0, 1], [2]]
    assert [depends["scorer"] for depends, _ in found] == ["0a1b", "2c3d"]
