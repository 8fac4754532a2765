import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainables.metrics.manifold import manifold_scores
from trainables.metrics.neighbors import near_copy_share, nearest_neighbors


def by_definition(X, Y, k):
    """Precision, recall, density, coverage point by point, as their papers write them."""

    def radii(A):
        return [np.sort([np.linalg.norm(a - b) for b in A])[k] for a in A]

    r, s = radii(Y), radii(X)
    inside = [[np.linalg.norm(x - y) <= r[i] for i, y in enumerate(Y)] for x in X]
    recalled = [any(np.linalg.norm(x - y) <= s[j] for j, x in enumerate(X)) for y in Y]
    precision = np.mean([any(row) for row in inside])
    density = sum(map(sum, inside)) / (k * len(X))
    coverage = np.mean([any(row[i] for row in inside) for i in range(len(Y))])
    return precision, np.mean(recalled), density, coverage


@settings(max_examples=40, deadline=None)
@given(st.integers(6, 25), st.integers(6, 25), st.integers(1, 5), st.floats(0, 2), st.integers(0, 2**32 - 1))
def test_scores_are_those_of_the_papers(n, m, k, shift, seed):
    rng = np.random.default_rng(seed)
    X, Y = rng.standard_normal((n, 3)) * 0.7 + shift, rng.standard_normal((m, 3))
    scores = manifold_scores(X, Y, k=k)
    found = (scores.precision, scores.recall, scores.density, scores.coverage)
    assert found == pytest.approx(by_definition(X, Y, k), abs=1e-12)


def test_lost_modes_cost_recall_and_outliers_cost_precision():
    rng = np.random.default_rng(0)
    centres = 100 * np.eye(5)
    real = np.concatenate([c + rng.standard_normal((50, 5)) for c in centres])
    one_mode = manifold_scores(centres[0] + rng.standard_normal((250, 5)), real)
    assert one_mode.precision > 0.9
    assert one_mode.recall <= 0.2
    assert one_mode.coverage <= 0.2
    outliers = np.concatenate([real[::2] + 0.1, 1000 + rng.standard_normal((125, 5))])
    assert manifold_scores(outliers, real).precision == pytest.approx(0.5, abs=0.02)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 30), st.integers(3, 40), st.integers(1, 3), st.booleans(), st.integers(0, 2**32 - 1))
def test_neighbors_are_those_of_all_distances(n, m, k, far, seed):
    rng = np.random.default_rng(seed)
    Q, T = rng.standard_normal((n, 4, 2)), rng.standard_normal((m, 4, 2))
    if far:  # where float32 products alone lose the distances
        Q, T = Q + 1000, T + 1000
    Q, T = Q.astype(np.float32), T.astype(np.float32)
    exact = np.linalg.norm((Q[:, None].astype(np.float64) - T).reshape(n, m, -1), axis=2)
    found = nearest_neighbors(Q, T, k)
    np.testing.assert_allclose(found.distances, np.sort(exact, 1)[:, :k], rtol=1e-9)
    np.testing.assert_allclose(np.take_along_axis(exact, found.indices, 1), found.distances, rtol=1e-9)


def test_copies_are_found_in_pixels():
    rng = np.random.default_rng(1)
    training = rng.integers(0, 256, (300, 8, 8, 3), np.uint8)
    noise = rng.integers(-8, 9, (40, 8, 8, 3))
    copies = np.clip(training[100:140] + noise, 0, 255).astype(np.uint8)
    found = nearest_neighbors(copies, training)
    assert found.indices[:, 0].tolist() == list(range(100, 140))
    assert nearest_neighbors(training[7:8], training).distances[0, 0] == 0
    new = rng.integers(0, 256, (60, 8, 8, 3), np.uint8)
    assert near_copy_share(np.concatenate([copies, new]), training) == pytest.approx(0.4)


def test_bad_input_is_refused():
    X = np.random.default_rng(2).standard_normal((10, 3))
    for k in (0, 10):
        with pytest.raises(ValueError, match=f"k is {k}; it must be at least 1 and below 10"):
            manifold_scores(X, X, k=k)
    with pytest.raises(ValueError, match="4 dimensions; the real ones have 3"):
        manifold_scores(np.zeros((10, 4)), X)
    with pytest.raises(ValueError, match="k is 11; it must be between 1 and 10"):
        nearest_neighbors(X, X, 11)
    with pytest.raises(ValueError, match="4 values a row; training has 3"):
        nearest_neighbors(np.zeros((2, 4)), X)
    with pytest.raises(ValueError, match="queries hold values that are not finite"):
        nearest_neighbors(np.full((1, 3), np.nan), X)
    with pytest.raises(ValueError, match=r"training have shape \(0, 3\)"):
        nearest_neighbors(X, X[:0])
    with pytest.raises(ValueError, match="ratio is 0"):
        near_copy_share(X, X, ratio=0)
