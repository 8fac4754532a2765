"""The ranking against closed forms and, for Welch's test, SciPy's own on the raw values."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from analysis.judgement.ranking import SIGNIFICANCE, degrees_of, over_seeds, rank


def series(*values):
    return pd.Series(values, index=range(10, 10 + len(values)), dtype=float)


def test_the_best_comes_first_in_either_direction():
    values = series(3, 1, 2)
    assert list(rank(values, series(1, 1, 1)).index) == [11, 12, 10]
    assert list(rank(values, series(1, 1, 1), sign=-1).index) == [10, 12, 11]


@settings(max_examples=25, deadline=None)
@given(st.floats(0, 30), st.floats(0.1, 5), st.floats(0.1, 5))
def test_two_trials_win_with_the_probability_of_a_normal_difference(gap, a, b):
    ranked = rank(series(0, gap), series(a, b))
    expected = stats.norm.cdf(gap / np.hypot(a, b))
    assert ranked["p_best"].iloc[0] == pytest.approx(expected, abs=0.02)
    assert ranked["p_best"].sum() == pytest.approx(1)
    assert ranked["p_value"].iloc[1] == pytest.approx(1 - expected, abs=1e-12)


def test_a_deviation_of_few_degrees_of_freedom_tells_less():
    """Two trials win as often as two draws of Student's t differ, and Welch's test asks for more."""
    degrees = series(9, 9)
    ranked = rank(series(0, 3), series(1, 1), degrees=degrees)
    draws = np.random.default_rng(1).standard_t(9, (400_000, 2))
    assert ranked["p_best"].iloc[0] == pytest.approx((draws[:, 0] < 3 + draws[:, 1]).mean(), abs=0.005)
    assert ranked["p_value"].iloc[1] == pytest.approx(stats.t.sf(3 / np.sqrt(2), 18))
    upside_down = rank(series(0, -3), series(1, 1), degrees=degrees, sign=-1)
    assert list(upside_down["p_best"]) == list(ranked["p_best"])
    assert [degrees_of(name) for name in ("fid", "fd_dinov2", "kid", "kid_random")] == [9] * 4
    assert degrees_of("elbo") == degrees_of("fidelity") == np.inf


def test_ties_are_what_the_corrected_test_leaves_open():
    critical = stats.norm.isf(SIGNIFICANCE / 12) * np.sqrt(2)
    ranked = rank(series(0, critical - 0.01, critical + 0.01, 50), series(1, 1, 1, 1))
    assert list(ranked["tied"]) == [True, True, False, False]


def test_the_best_of_equals_is_rarely_called_apart():
    """20 equal trials: corrected for 19 pairs only, a third of such rankings told some apart."""
    random = np.random.default_rng(0)
    apart = 0
    for _ in range(100):
        ranked = rank(pd.Series(random.normal(size=20)), pd.Series(np.ones(20)))
        apart += (~ranked["tied"].astype(bool)).any()
    assert apart <= 10


def test_values_that_are_not_finite_are_left_out():
    ranked = rank(series(np.nan, 5, np.inf, 4), series(1, 1, 1, 1))
    assert list(ranked.index) == [13, 11]


def test_unknown_deviations_leave_the_question_open():
    ranked = rank(series(1, 2), series(np.nan, np.nan))
    assert list(ranked.index) == [10, 11]
    assert ranked["p_best"].isna().all() and ranked["tied"].isna().all()
    assert rank(series(), series()).empty


def test_seeds_are_compared_as_by_scipys_welch_test():
    a, b = [10.0, 11.0, 12.5], [14.0, 13.0, 17.0, 15.5]
    seeds = over_seeds(pd.Series(a + b), pd.Series(["a"] * 3 + ["b"] * 4))
    assert list(seeds["seeds"]) == [3, 4]
    assert seeds.loc["a", "std"] == pytest.approx(stats.sem(a))
    ranked = rank(seeds["value"], seeds["std"], degrees=seeds["degrees"])
    expected = stats.ttest_ind(b, a, equal_var=False, alternative="greater").pvalue
    assert ranked.loc["b", "p_value"] == pytest.approx(expected, rel=1e-9)
