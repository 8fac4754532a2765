import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import trainables.torchvision_shim  # noqa: F401  before pytorch_fid, which imports torchvision

from pytorch_fid.fid_score import calculate_frechet_distance  # isort: skip
from trainables.metrics.errors import IdentityMismatchError
from trainables.metrics.frechet import (
    GaussianStatistics,
    ReferenceStatistics,
    estimate_frechet_distance,
    frechet_distance,
    real_floor,
)
from trainables.metrics.infinity import extrapolate, frechet_distance_infinity
from trainables.metrics.statistics import Identity


def by_singular_values(X, Y):
    """d² from the two sets themselves: tr(ΣS)^½ is the nuclear norm of the centred sets' product."""
    a, b = X - X.mean(0), Y - Y.mean(0)
    n, m = len(X) - 1, len(Y) - 1
    roots = np.linalg.svd(b @ a.T / np.sqrt(n * m), compute_uv=False)
    means = np.square(X.mean(0) - Y.mean(0)).sum()
    return means + np.square(a).sum() / n + np.square(b).sum() / m - 2 * roots.sum()


def distance(X, Y):
    return frechet_distance(X, ReferenceStatistics.of_features(Y))


def test_equal_covariances_leave_the_squared_distance_of_the_means():
    X = np.random.default_rng(0).standard_normal((300, 20))
    shift = np.linspace(-1, 2, 20)
    assert distance(X + shift, X) == pytest.approx(np.square(shift).sum(), rel=1e-12)


def test_commuting_covariances_leave_the_squared_distance_of_the_deviations():
    X = np.random.default_rng(1).standard_normal((300, 8))
    X = np.linalg.solve(np.linalg.cholesky(np.cov(X, rowvar=False)), (X - X.mean(0)).T).T  # whitened
    a, b = np.linspace(0.1, 3, 8), np.linspace(2, 1, 8)
    assert distance(X * a, X * b) == pytest.approx(np.square(a - b).sum(), rel=1e-12)


def test_one_dimension():
    x, y = np.array([[0.0], [2.0], [4.0]]), np.array([[1.0], [1.0], [4.0]])
    assert distance(x, y) == pytest.approx(0 + (2.0 - np.sqrt(3.0)) ** 2, rel=1e-12)


@settings(max_examples=60, deadline=None)
@given(
    n=st.integers(2, 90),
    m=st.integers(2, 90),
    d=st.integers(1, 50),
    decades=st.sampled_from([0.0, 2.0, 6.0]),
    dead=st.booleans(),
    seed=st.integers(0, 2**32 - 1),
)
def test_it_is_what_singular_values_give(n, m, d, decades, dead, seed):
    rng = np.random.default_rng(seed)
    spectrum = np.logspace(0, -decades, d)
    X, Y = rng.standard_normal((n, d)) * spectrum, (rng.standard_normal((m, d)) * 1.3 + 0.2) * spectrum
    if dead:
        X[:, : d // 2] = 0.0
        Y[:, d // 3 :] = 1.0
    expected = by_singular_values(X, Y)
    total = X.var(0).sum() + Y.var(0).sum()
    reference = ReferenceStatistics.of_features(Y.astype(np.float64))
    statistics = GaussianStatistics(d)
    statistics.update(X)
    for sample in (X, statistics, ReferenceStatistics.of_features(X)):
        assert abs(frechet_distance(sample, reference) - expected) < 1e-10 * max(total, expected)


@pytest.mark.parametrize("n", [2, 30, 64, 65, 500])
@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e4])
def test_identical_sets_are_at_zero(n, scale):
    X = np.maximum(np.random.default_rng(n).standard_normal((n, 64)), 0) * scale
    assert distance(X, X) == 0.0
    assert distance(X, X[::-1]) < 1e-12 * scale**2


@pytest.mark.parametrize("n", [40, 5000])
def test_pytorch_fid_agrees(n):
    rng = np.random.default_rng(2)
    X, Y = np.maximum(rng.standard_normal((n, 64)), 0), np.maximum(rng.standard_normal((5000, 64)), -0.1)
    peer = calculate_frechet_distance(X.mean(0), np.cov(X, rowvar=False), Y.mean(0), np.cov(Y, rowvar=False))
    ours = distance(X, Y)
    assert abs(ours - peer) < (1e-3 if n < 64 else 1e-6 * ours)


@pytest.mark.slow
@pytest.mark.parametrize(("n", "tolerance"), [(1000, 1e-3), (10_000, 1e-6)])
def test_pytorch_fid_agrees_at_its_own_width(n, tolerance):
    rng = np.random.default_rng(3)
    spectrum = np.logspace(0, -2, 2048)
    X, Y = rng.standard_normal((n, 2048)) * spectrum, rng.standard_normal((10_000, 2048)) * spectrum + 0.01
    peer = calculate_frechet_distance(X.mean(0), np.cov(X, rowvar=False), Y.mean(0), np.cov(Y, rowvar=False))
    ours = distance(X, Y)
    assert abs(ours - peer) < (tolerance if n < 2048 else tolerance * ours)


def test_the_jackknife_gives_the_deviation_over_repeated_samples():
    rng = np.random.default_rng(4)
    reference = ReferenceStatistics.of_features(rng.standard_normal((4000, 12)))
    for n in (8, 150):  # below and above the number of features
        estimates = [
            estimate_frechet_distance(1.2 * rng.standard_normal((n, 12)) + 0.3, reference, groups=4)
            for _ in range(200)
        ]
        values = np.array([e.value for e in estimates])
        mean_variance = np.mean([e.std**2 for e in estimates])
        # Both sides are estimates: a standard deviation from 200 values is known to 5 %.
        assert 0.75 < np.sqrt(mean_variance) / values.std() < 1.45


def test_the_jackknife_is_what_leaving_out_by_hand_gives():
    rng = np.random.default_rng(5)
    Y = rng.standard_normal((200, 16))
    reference = ReferenceStatistics.of_features(Y)
    for n in (12, 60):
        X = rng.standard_normal((n, 16)) * 1.5
        left_out = [by_singular_values(np.delete(X, part, 0), Y) for part in np.array_split(np.arange(n), 4)]
        value, std = estimate_frechet_distance(X, reference, groups=4)
        assert value == pytest.approx(by_singular_values(X, Y), rel=1e-12)
        assert std == pytest.approx(np.sqrt(3 / 4 * np.square(left_out - np.mean(left_out)).sum()), rel=1e-9)


def test_the_floor_is_the_distance_of_real_images_to_the_others():
    Y = np.random.default_rng(6).standard_normal((90, 10)).astype(np.float32)
    reference = ReferenceStatistics.of_features(Y)
    kept = reference.features.astype(np.float64)
    assert sorted(map(tuple, kept)) == sorted(map(tuple, Y))
    for n in (5, 30):
        assert real_floor(reference, n) == pytest.approx(by_singular_values(kept[:n], kept[n:]), rel=1e-9)
    with pytest.raises(ValueError, match="needs 46 kept features and 92 images; this reference has 90 of 90"):
        real_floor(reference, 46)


def test_the_extrapolation_removes_the_bias_of_few_samples():
    rng = np.random.default_rng(7)
    reference = ReferenceStatistics.of_features(rng.standard_normal((60_000, 40)))
    X = rng.standard_normal((2000, 40))
    infinite = extrapolate(X, reference, np.linspace(500, 2000, 15).astype(int), None, seed=0)
    assert frechet_distance(X, reference) > 0.2  # truly 0
    assert abs(infinite) < 0.06
    with pytest.raises(ValueError, match="extrapolation from 2000 images"):
        frechet_distance_infinity(X, reference)


def test_values_that_mean_nothing_are_refused():
    X = np.random.default_rng(8).standard_normal((20, 4))
    identity = Identity("a", "0", "r")
    reference = ReferenceStatistics.of_features(X, identity)
    assert frechet_distance(X, reference, identity=identity) == 0
    with pytest.raises(IdentityMismatchError):
        frechet_distance(X, reference, identity=Identity("a", "1", "r"))
    with pytest.raises(IdentityMismatchError):
        frechet_distance(ReferenceStatistics.of_features(X, Identity("b", "0", "r")), reference)
    with pytest.raises(IdentityMismatchError):
        estimate_frechet_distance(X, reference, identity=Identity("a", "1", "r"))
    with pytest.raises(ValueError, match="features of 1 images; at least 2"):
        frechet_distance(X[:1], reference)
    with pytest.raises(ValueError, match="features of 0 images; at least 2"):
        frechet_distance(X[:0], reference)
    with pytest.raises(ValueError, match="5 dimensions; the reference has 4"):
        frechet_distance(np.zeros((20, 5)), reference)
    with pytest.raises(ValueError, match="not finite"):
        frechet_distance(np.where(X > 1, np.nan, X), reference)
    with pytest.raises(ValueError, match="10 groups of 9 images"):
        estimate_frechet_distance(X[:9], reference)
