import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainables.metrics.errors import IdentityMismatchError
from trainables.metrics.statistics import GaussianStatistics, Identity, as_features, covariance_factor


def relative_difference(a, b):
    return np.abs(a - b).max() / np.abs(b).max()


@st.composite
def data_and_workers(draw):
    """Rows, a cut into batches, and the worker that each batch goes to."""
    n, d = draw(st.integers(2, 60)), draw(st.integers(1, 8))
    offset = draw(st.sampled_from([0.0, 1.0, 1e3]))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    X = rng.standard_normal((n, d)) + offset
    cuts = sorted(draw(st.sets(st.integers(1, n - 1), max_size=8)))
    batches = np.split(X, cuts)
    workers = [draw(st.integers(0, 3)) for _ in batches]
    return X, batches, workers, draw(st.permutations(range(4)))


@settings(max_examples=200, deadline=None)
@given(data_and_workers())
def test_any_batches_workers_and_order_give_the_same_statistics(case):
    X, batches, workers, order = case
    parts = [GaussianStatistics(X.shape[1]) for _ in range(4)]
    for batch, worker in zip(batches, workers, strict=True):
        parts[worker].update(batch)
    merged = GaussianStatistics(X.shape[1])
    for worker in order:
        merged.merge(parts[worker])
    assert merged.n == len(X)
    assert relative_difference(merged.mean, X.mean(0)) < 1e-12
    expected = np.atleast_2d(np.cov(X, rowvar=False))
    # Deviations of data at 1e3 are themselves known to 1e3·ε only.
    assert np.abs(merged.covariance - expected).max() < 1e-12 * max(1.0, np.abs(expected).max())


def test_a_large_mean_costs_no_digits():
    rng = np.random.default_rng(0)
    X = np.round(rng.standard_normal((1000, 3)) * 64) / 64  # exact in float64 even at 2^30
    near, far = GaussianStatistics(3), GaussianStatistics(3)
    for rows in np.split(X, 10):
        near.update(rows)
        far.update(rows + 2.0**30)
    assert relative_difference(far.covariance, near.covariance) < 1e-12


def test_statistics_of_too_few_images_are_refused():
    statistics = GaussianStatistics(2)
    with pytest.raises(ValueError, match="no images"):
        statistics.mean  # noqa: B018
    statistics.update([[1.0, 2.0]])
    assert statistics.mean.tolist() == [1.0, 2.0]
    with pytest.raises(ValueError, match=r"1 image\(s\)"):
        statistics.covariance  # noqa: B018


def test_bad_features_are_named():
    with pytest.raises(ValueError, match=r"1 of 3 images are not finite \(first: image 1\)"):
        as_features([[0.0], [np.nan], [1.0]])
    with pytest.raises(ValueError, match=r"\(n, d\)"):
        as_features([1.0, 2.0])
    with pytest.raises(ValueError, match="4 dimensions; these statistics have 3"):
        GaussianStatistics(3).update(np.zeros((2, 4)))
    with pytest.raises(ValueError, match="of 2 dimensions cannot join those of 3"):
        GaussianStatistics(3).merge(GaussianStatistics(2))


@pytest.mark.parametrize(("n", "d"), [(40, 10), (6, 10), (11, 10)])
def test_the_factor_times_its_transpose_is_the_covariance(n, d):
    X = np.random.default_rng(n).standard_normal((n, d))
    X[:, 3] = 5.0  # a feature that never varies
    S = np.cov(X, rowvar=False)
    W = covariance_factor(S, n - 1)
    assert W.shape[1] == min(n - 1, d - 1)
    assert np.abs(W @ W.T - S).max() < 1e-13 * np.abs(S).max()


def test_identities_that_differ_in_any_part_are_refused():
    identity = Identity("inception", "6726825d", "uint8-bilinear-299")
    identity.require(None)
    identity.require(Identity("inception", "6726825d", "uint8-bilinear-299"))
    for other in (
        Identity("random", "6726825d", "uint8-bilinear-299"),
        Identity("inception", "00000000", "uint8-bilinear-299"),
        Identity("inception", "6726825d", "uint8-bilinear-antialias-299"),
    ):
        with pytest.raises(IdentityMismatchError, match="cannot be compared"):
            identity.require(other)
        assert len({str(identity), str(other)}) == 2
