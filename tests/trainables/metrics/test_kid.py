from itertools import pairwise

import numpy as np
import pytest

from trainables.metrics import kid
from trainables.metrics.errors import IdentityMismatchError
from trainables.metrics.kernels import polynomial_kernel
from trainables.metrics.kid import kernel_inception_distance
from trainables.metrics.reference import ReferenceStatistics
from trainables.metrics.statistics import Identity


def by_loops(X, Y):
    """The unbiased estimator of Gretton et al. 2012, eq. 3, pair by pair."""

    def k(x, y):
        return (x @ y / len(x) + 1) ** 3

    n, m = len(X), len(Y)
    inner = sum(k(X[i], X[j]) for i in range(n) for j in range(n) if i != j) / (n * (n - 1))
    real = sum(k(Y[i], Y[j]) for i in range(m) for j in range(m) if i != j) / (m * (m - 1))
    return inner + real - 2 * sum(k(x, y) for x in X for y in Y) / (n * m)


def test_it_is_the_estimator_and_its_jackknife():
    rng = np.random.default_rng(0)
    X, Y = rng.standard_normal((23, 6)) + 0.3, rng.standard_normal((31, 6)).astype(np.float32)
    value, std = kernel_inception_distance(X, ReferenceStatistics.of_features(Y), groups=4)
    assert value == pytest.approx(by_loops(X, Y.astype(np.float64)), rel=1e-10)
    edges = np.arange(5) * 23 // 4
    left_out = [by_loops(np.delete(X, np.arange(a, b), 0), Y.astype(np.float64)) for a, b in pairwise(edges)]
    assert std == pytest.approx(np.sqrt(3 / 4 * np.square(left_out - np.mean(left_out)).sum()), rel=1e-9)


def test_its_memory_is_bounded_however_many_images_there_are(monkeypatch):
    rng = np.random.default_rng(0)
    X, Y = rng.standard_normal((230, 6)) + 0.3, rng.standard_normal((31, 6))
    reference = ReferenceStatistics.of_features(Y)
    whole, rows = kernel_inception_distance(X, reference, groups=4), []

    def spied(X, Y):
        rows.append(len(X))
        return polynomial_kernel(X, Y)

    monkeypatch.setattr(kid, "polynomial_kernel", spied)
    monkeypatch.setattr(kid, "ROWS", 10)
    assert kernel_inception_distance(X, reference, groups=4) == pytest.approx(whole, rel=1e-9)
    assert max(rows) == 10 and sum(rows) == 2 * len(X)


def test_it_is_unbiased_and_its_deviation_is_honest():
    rng = np.random.default_rng(1)
    reference = ReferenceStatistics.of_features(rng.standard_normal((4000, 10)))
    for shift, expected_ratio in ((0.0, np.sqrt(2)), (0.4, 1.0)):  # √2: degenerate where nothing differs
        estimates = [
            kernel_inception_distance(rng.standard_normal((60, 10)) + shift, reference) for _ in range(150)
        ]
        values = np.array([e.value for e in estimates])
        large = kernel_inception_distance(rng.standard_normal((4000, 10)) + shift, reference)
        error = np.hypot(values.std() / np.sqrt(len(values)), large.std)
        assert abs(values.mean() - large.value) < 4 * error
        ratio = np.sqrt(np.mean([e.std**2 for e in estimates])) / values.std()
        assert 0.8 < ratio / expected_ratio < 1.25


def test_bad_input_is_refused():
    X = np.random.default_rng(2).standard_normal((20, 4))
    reference = ReferenceStatistics.of_features(X, Identity("a", "0", "r"))
    with pytest.raises(IdentityMismatchError):
        kernel_inception_distance(X, reference, identity=Identity("b", "0", "r"))
    with pytest.raises(ValueError, match="5 dimensions; the reference has 4"):
        kernel_inception_distance(np.zeros((20, 5)), reference)
    with pytest.raises(ValueError, match="10 groups of 19 images"):
        kernel_inception_distance(X[:19], reference)
    bare = ReferenceStatistics(20, reference.mean, reference.covariance, reference.factor)
    with pytest.raises(ValueError, match="kept no features"):
        kernel_inception_distance(X, bare)
