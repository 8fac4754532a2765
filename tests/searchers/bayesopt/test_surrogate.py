"""From values to a Gaussian process: what is compressed, when, and that nothing else changes."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from searchers.bayesopt.history import Trial
from searchers.bayesopt.space import Real, Space
from searchers.bayesopt.surrogate import cap, compress, fit_model, scalarize

SPACE = Space([Real("x", 0.0, 1.0)])
VALUES = np.array([4.0, 1.0, 2.0, 3.0, 9.0])


def test_compression_is_a_logarithm_above_the_median():
    expected = [3 + 2 * np.log(1.5), 1.0, 2.0, 3.0, 3 + 2 * np.log(4.0)]  # median 3, best 1
    np.testing.assert_allclose(compress(VALUES), expected)
    np.testing.assert_array_equal(compress(np.ones(3)), np.ones(3))


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=20))
def test_compression_keeps_the_order_and_all_up_to_the_median(values):
    y = cap(np.array(values))
    z = compress(y)
    assert (np.diff(z[np.argsort(y, kind="stable")]) >= 0).all()
    low = y <= np.median(y)
    np.testing.assert_array_equal(z[low], y[low])
    assert (z <= y + 1e-9 * np.ptp(y)).all()


@pytest.mark.parametrize(("waiting", "compressed"), [(0, False), (2, False), (3, True), (16, True)])
def test_values_are_compressed_while_little_is_known(waiting, compressed):
    trials = [Trial({"x": x}) for x in np.linspace(0, 1, len(VALUES))]
    model, _ = fit_model("fitted", SPACE, trials, [], VALUES, np.zeros(len(VALUES)), None, waiting)
    seen = model.center + model.scale * model.gp.y
    np.testing.assert_allclose(seen, compress(cap(VALUES)) if compressed else cap(VALUES))


def test_neither_early_epochs_nor_an_outlier_decide_what_a_weight_of_an_objective_means():
    rng = np.random.default_rng(0)
    final = np.column_stack(
        [rng.permutation(np.linspace(10, 20, 11)), rng.permutation(np.linspace(0, 1, 11))]
    )
    weights, known = np.array([0.5, 0.5]), np.ones((11, 2))
    y, variances = scalarize(final, known, weights, np.ones(11, bool))
    z = 0.5 * (final - [10, 0]) / [10, 1]
    np.testing.assert_allclose(y, z.max(axis=1) + 0.05 * z.sum(axis=1))
    early = np.vstack([final, final + np.array([400, 0])])
    later = scalarize(early, np.ones((22, 2)), weights, np.arange(22) < 11)
    np.testing.assert_array_equal(later[0][:11], y)
    np.testing.assert_array_equal(later[1][:11], variances)
    broken = np.vstack([final, [1e6, 0.5]])
    capped = scalarize(broken, np.ones((12, 2)), weights, np.ones(12, bool))[0][:11]
    z = 0.5 * (final - [10, 0]) / [5.5 + 5 * 5.5, 1]  # the median is 15.5, the best 10
    np.testing.assert_allclose(capped, z.max(axis=1) + 0.05 * z.sum(axis=1))
    few = scalarize(early, np.ones((22, 2)), weights, np.arange(22) < 1)[0]
    assert np.ptp(few) <= 0.5 + 0.05  # until two are known, of all
