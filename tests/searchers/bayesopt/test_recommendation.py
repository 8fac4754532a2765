"""Which trial is called the best."""

import math

import numpy as np
import pytest

from searchers.bayesopt.recommendation import recommended
from searchers.bayesopt.searcher import BayesOptSearch
from searchers.bayesopt.space import Real
from searchers.bayesopt.surrogate import Forecast


class Predicting:
    """A model that says these finals of trials whose last values and epochs are these."""

    sure = 2.0

    def __init__(self, rows, gap_std, elsewhere=()):
        self.rows, self.gap_std, self.elsewhere = rows, gap_std, elsewhere

    def finals(self):
        trials = [
            type("Trial", (), {"epoch": e, "last": [v], "elsewhere": n in self.elsewhere})
            for n, (_, v, e) in enumerate(self.rows)
        ]
        mean, none = np.array([m for m, _, _ in self.rows]), np.zeros(len(self.rows))
        return trials, Forecast(mean, none, none, none)

    def difference(self, a, b):
        return self.rows[a][0] - self.rows[b][0], self.gap_std


@pytest.mark.parametrize(
    ("gap_std", "expected"), [(0.9 / 2.0, 1), (1.1 / 2.0, 0)], ids=["sure of the mean", "not sure"]
)
def test_another_trial_than_the_one_of_best_value_must_be_better_by_its_error(gap_std, expected):
    rows = [(2.0, 1.0, 9), (1.0, 1.5, 9), (3.0, 3.0, 9)]  # predicted, seen, epoch
    assert recommended(Predicting(rows, gap_std), 1.0, 9) == expected
    turned = Predicting([(m, -v, e) for m, v, e in rows], gap_std)
    assert recommended(turned, -1.0, 9) == expected


def test_a_value_of_partial_training_is_none():
    rows = [(2.0, 2.0, 9), (2.5, 0.5, 3), (1.0, 0.0, 3)]
    assert recommended(Predicting(rows, 10.0), 1.0, 9) == 0
    assert recommended(Predicting(rows, 0.1), 1.0, 9) == 2
    assert recommended(Predicting([*rows, (1.5, 3.0, 9)], 0.1), 1.0, 9, trained=True) == 3
    none = Predicting([(2.0, 0.0, 3), (1.0, 9.0, 3)], 10.0)
    assert recommended(none, 1.0, 9) == recommended(none, 1.0, 9, trained=True) == 1


def test_a_sweeps_best_is_its_own_also_where_another_sweep_has_a_better_one():
    shared = Predicting([(0.1, 0.2, 9), (2.0, 1.0, 9), (1.0, 1.5, 9)], 0.1, elsewhere=[0])
    assert recommended(shared, 1.0, 9) == 0
    assert recommended(shared, 1.0, 9, trained=True) == 2


def test_a_known_value_counts_as_fully_trained():
    assert recommended(Predicting([(2.0, 1.0, 0), (1.9, 5.0, 9)], 1.0), 1.0, 9) == 0


def ackley(x):
    wide = -20 * math.exp(-0.2 * math.sqrt(np.mean(x**2)))
    return wide - math.exp(np.mean(np.cos(2 * math.pi * x))) + 20 + math.e


def test_without_noise_it_is_the_best_that_was_seen():
    """A smooth model takes Ackley's ripples for noise; what it smooths away was no luck."""
    space = [Real("a", -4, 4), Real("b", -4, 4)]
    for seed in range(4):
        rng = np.random.default_rng(seed)
        search = BayesOptSearch(space, "loss", "min")
        for point in np.vstack([rng.uniform(-4, 4, (30, 2)), rng.normal(0, 0.3, (10, 2))]):
            search.add_evaluated_point({"a": float(point[0]), "b": float(point[1])}, ackley(point))
        best = min(search.observations(), key=lambda o: o.value)
        assert search.best()[0] == best.config
