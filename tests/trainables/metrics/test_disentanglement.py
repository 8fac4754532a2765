"""Disentanglement: closed forms on complete grids of factors, whose histograms are exact."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from xgboost import XGBClassifier

from trainables.metrics import disentanglement as d
from trainables.metrics import information

CLASSES, FACTORS = 4, 3


@pytest.fixture(scope="module")
def grid():
    """Every combination of three factors of four classes, twelve times, shuffled: exactly independent."""
    axes = np.meshgrid(*[np.arange(CLASSES)] * FACTORS, indexing="ij")
    rows = np.tile(np.stack(axes, -1).reshape(-1, FACTORS), (12, 1)).astype(float)
    return np.random.default_rng(0).permutation(rows)


def noise(n, units, seed=1):
    return np.random.default_rng(seed).normal(size=(n, units))


def rotated(factors):
    """The first two factors turned by 45°."""
    a, b = factors[:, 0], factors[:, 1]
    return np.column_stack([a + b, a - b, factors[:, 2]])


def boosted():
    return XGBClassifier(n_estimators=20, max_depth=3, n_jobs=1, importance_type="total_gain")


def whitened(n, units):
    """Samples whose covariance is the identity, exactly."""
    x = noise(n, units)
    x -= x.mean(0)
    return x @ np.linalg.inv(np.linalg.cholesky(np.cov(x, rowvar=False))).T


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**31), bins=st.integers(2, 30))
def test_discretize_is_numpys_histogram(seed, bins):
    x = noise(200, 1, seed)
    edges = np.histogram(x[:, 0], bins)[1]
    np.testing.assert_array_equal(information.discretize(x, bins)[:, 0], np.digitize(x[:, 0], edges[:-1]) - 1)
    counts = np.bincount(information.discretize(x, bins)[:, 0], minlength=bins)
    np.testing.assert_array_equal(counts, np.histogram(x[:, 0], bins)[0])


def test_a_column_without_spread_is_one_bin():
    assert not information.discretize(np.full((5, 2), 3.7)).any()


def test_mig_of_the_factors_themselves_is_one(grid):
    shuffled = grid[:, [2, 0, 1]] * [-3.0, 0.1, 1000.0] + 5
    assert information.mutual_information_gap(shuffled, grid) == pytest.approx(1.0)


def test_mig_of_a_factor_in_two_units_is_zero(grid):
    assert information.mutual_information_gap(np.hstack([grid, grid]), grid) == pytest.approx(0.0)


def test_mig_of_a_noisy_channel_is_its_capacity():
    factor = np.repeat([0, 1], 100)
    code = factor.copy()
    code[:20] = 1  # a fifth of each class crosses over
    code[100:120] = 0
    independent = np.tile([0, 1], 100)
    binary_entropy = -(0.2 * math.log(0.2) + 0.8 * math.log(0.8))
    mig = information.mutual_information_gap(np.column_stack([code, independent]), factor[:, None])
    assert mig == pytest.approx(1 - binary_entropy / math.log(2))


def test_mig_of_noise_and_of_rotated_codes(grid):
    assert information.mutual_information_gap(noise(len(grid), 5), grid) < 0.02
    # a + b and a − b tell the same of a, so that two of three factors have no gap.
    assert information.mutual_information_gap(rotated(grid), grid) == pytest.approx(1 / 3)


@pytest.mark.parametrize(
    ("importance", "disentanglement", "completeness"),
    [
        (np.eye(3), 1.0, 1.0),
        (np.full((3, 3), 1 / 3), 0.0, 0.0),
        (np.zeros((3, 3)), 0.0, 0.0),
        # Two units stand for one factor each of four; one stands for two in equal parts.
        (np.array([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 1]]), 0.5 + 0.5 * 0.5, 1.0),
        (np.eye(4)[:, :3], 1.0, 1.0),  # an unused unit costs nothing
    ],
)
def test_dci_of_known_importances(importance, disentanglement, completeness):
    assert d.disentanglement_of(importance) == pytest.approx(disentanglement, abs=1e-6)
    assert d.disentanglement_of(importance.T) == pytest.approx(completeness, abs=1e-6)


def test_dci_of_good_rotated_and_useless_codes(grid):
    codes = np.hstack([grid, noise(len(grid), 1)])
    good = d.dci(codes, grid, classifier=boosted())
    assert good.importance.shape == (4, 3)
    assert good.disentanglement > 0.98
    assert good.completeness > 0.98
    assert good.informativeness == 1.0
    turned = d.dci(rotated(grid), grid, classifier=boosted())
    assert turned.disentanglement < 0.8
    assert turned.completeness < 0.8
    assert turned.informativeness > 0.95  # all is there, only not in single units
    useless = d.dci(noise(len(grid), 3), grid, classifier=boosted())
    assert useless.disentanglement < 0.1
    assert useless.informativeness == pytest.approx(1 / CLASSES, abs=0.06)


def test_dci_tells_disentanglement_from_completeness(grid):
    """One unit for two factors: each factor is in one unit, but the unit is not of one factor."""
    codes = np.column_stack([grid[:, 0] + CLASSES * grid[:, 1], noise(len(grid), 1)])
    parts = d.dci(codes, grid[:, :2], classifier=boosted().set_params(max_depth=6))
    assert parts.disentanglement < 0.05
    assert parts.completeness > 0.9


def test_dci_takes_disentanglement_libs_classifier_by_default(grid):
    parts = d.dci(grid[:150], grid[:150, :2])
    np.testing.assert_allclose(parts.importance[:, 0], [1, 0, 0], atol=0.02)
    assert parts.informativeness == 1.0


def test_sap_of_continuous_factors_is_the_gap_of_r_squared():
    x = whitened(500, 3)
    assert d.separated_attribute_predictability(x, x, continuous=True) == pytest.approx(1.0)
    half = np.column_stack([x[:, 0] + x[:, 1], x[:, 0] - x[:, 1], x[:, 2]])
    assert d.separated_attribute_predictability(half, x, continuous=True) == pytest.approx(1 / 3)
    weak = np.column_stack([0.6 * x[:, 0] + 0.8 * x[:, 1], np.zeros(500)])
    assert d.separated_attribute_predictability(weak, x[:, :1], continuous=True) == pytest.approx(0.36)


def test_sap_of_classes_keeps_the_chance_level():
    factors = np.random.default_rng(0).permutation(np.tile([[0, 0], [0, 1], [1, 0], [1, 1]], (150, 1)))
    codes = 2.0 * factors - 1
    assert d.separated_attribute_predictability(codes, factors) == pytest.approx(0.5, abs=0.06)
    assert d.separated_attribute_predictability(noise(600, 2), factors) < 0.06
    mixed = d.separated_attribute_predictability(codes, factors, continuous=[True, False])
    assert mixed == pytest.approx(0.75, abs=0.04)


def test_factor_vae_score_of_the_factors_themselves_is_one(grid):
    codes = grid[:, [1, 2, 0]] + 0.2 * noise(len(grid), 3)
    codes *= [1.0, 50.0, 0.1]  # the global variance takes the scales out
    assert d.factor_vae_score(d.resampler(codes, grid), FACTORS, votes=300) == 1.0


def test_factor_vae_score_of_noise_is_chance(grid):
    score = d.factor_vae_score(d.resampler(noise(len(grid), 4), grid), FACTORS, votes=2000, batch=16)
    assert score == pytest.approx(1 / FACTORS, abs=0.06)


def test_factor_vae_score_of_collapsed_units(grid):
    assert d.factor_vae_score(d.resampler(noise(len(grid), 4) * 0.01, grid), FACTORS, votes=10) == 0.0
    half = np.column_stack([grid[:, 0], 1e-3 * noise(len(grid), 1)])
    score = d.factor_vae_score(d.resampler(half, grid), FACTORS, votes=600)
    assert score == pytest.approx(1 / FACTORS, abs=0.06)  # one unit left: one factor is always named


def test_resampler_holds_the_factor_it_is_asked_to(grid):
    sample = d.resampler(grid, grid)
    for k in range(FACTORS):
        drawn = sample(40, k)
        assert np.ptp(drawn[:, k]) == 0
        assert np.ptp(np.delete(drawn, k, 1), axis=0).min() > 0
    assert len({sample(5, 1)[0, 1] for _ in range(60)}) == CLASSES


def test_modularity_closed_forms(grid):
    assert information.modularity(grid, grid) == pytest.approx(1.0)
    both = grid[:, :1] + CLASSES * grid[:, 1:2]  # tells two factors of three, the same of each
    assert information.modularity(both, grid) == pytest.approx(0.5)
    assert information.modularity(np.column_stack([grid[:, 0], np.ones(len(grid))]), grid) == pytest.approx(
        0.5
    )


def test_explicitness_of_linear_codes_and_of_noise(grid):
    binary = (grid > 1.5).astype(float)
    assert d.explicitness(rotated(binary), binary) == pytest.approx(1.0)
    assert d.explicitness(noise(len(grid), 3), grid) == pytest.approx(0.5, abs=0.05)


def test_explicitness_is_the_mean_of_the_areas_that_there_are(grid):
    """A factor of which the held-out rows have none of the classes that were learned has no area."""
    binary = (grid > 1.5).astype(float)
    rows = np.arange(len(grid))
    binary[:, 2] = np.where(rows < 2 * len(rows) // 3, rows % 2, 2 + rows % 2)
    assert d.explicitness(rotated(binary), binary) == pytest.approx(1.0)


@settings(max_examples=20, deadline=None)
@given(correlation=st.floats(-0.99, 0.99), scale=st.floats(0.01, 100))
def test_total_correlation_of_two_gaussians(correlation, scale):
    x = whitened(60, 2)
    codes = np.column_stack(
        [x[:, 0], scale * (correlation * x[:, 0] + math.sqrt(1 - correlation**2) * x[:, 1])]
    )
    expected = -0.5 * math.log(1 - correlation**2)
    assert information.total_correlation(codes) == pytest.approx(expected, abs=1e-9)
    # A unit that never moves depends on nothing.
    assert information.total_correlation(np.column_stack([codes, np.ones(60)])) == pytest.approx(
        expected, abs=1e-9
    )


def test_total_correlation_of_degenerate_codes():
    x = whitened(60, 2)
    assert information.total_correlation(np.column_stack([x, 2 * x[:, 0]])) > 10
    assert information.total_correlation(x[:, :1]) == 0.0


def test_pairwise_mutual_information_closed_forms(grid):
    assert information.mean_pairwise_mutual_information(grid) == pytest.approx(0.0, abs=1e-12)
    twice = np.column_stack([grid, -grid[:, 0]])  # one pair of six is the same unit
    assert information.mean_pairwise_mutual_information(twice) == pytest.approx(math.log(CLASSES) / 6)
    assert information.mean_pairwise_mutual_information(grid[:, :1]) == 0.0


def test_all_scores_order_good_above_rotated_above_useless(grid):
    continuous = grid.copy()
    continuous[:, 2] += 0.5 * np.random.default_rng(2).random(len(grid))  # more than 20 values
    scores = [
        d.disentanglement_scores(codes, continuous, classifier=boosted(), votes=200)
        for codes in (continuous, rotated(continuous), noise(len(grid), 3))
    ]
    for name in ("mig", "dci_disentanglement", "dci_completeness", "factor_vae", "modularity"):
        good, turned, useless = (s[name] for s in scores)
        assert good > turned + 0.05, name
        assert turned > useless + 0.05 or name == "modularity", name
    assert scores[0]["sap"] > scores[1]["sap"] > scores[2]["sap"]
    assert scores[0]["total_correlation"] == pytest.approx(0.0, abs=0.01)


def test_errors_say_what_is_wrong():
    x, y = noise(30, 2), np.tile([0, 1], 15)[:, None]
    with pytest.raises(ValueError, match="codes of 30 images and factors of 20"):
        information.mutual_information_gap(x, y[:20])
    with pytest.raises(ValueError, match="factor 0 has the one value 3; it must vary"):
        d.dci(x, np.full((30, 1), 3))
    with pytest.raises(ValueError, match="1 latent unit"):
        information.mutual_information_gap(x[:, :1], y)
    with pytest.raises(ValueError, match="1 factor"):
        information.modularity(x, y)
    with pytest.raises(ValueError, match="1 values that are not finite"):
        information.total_correlation(np.array([[1.0], [np.nan]]))
    with pytest.raises(ValueError, match=r"shape \(30,\)"):
        information.total_correlation(x[:, 0])


def test_factors_may_all_be_classes():
    """As CelebA's attributes are: none of them has more than twenty values."""
    factors = np.random.default_rng(0).integers(2, size=(600, 3))
    codes = factors + 0.01 * np.random.default_rng(1).standard_normal((600, 3))
    scores = d.disentanglement_scores(codes, factors, only=("mig", "modularity"))
    assert scores["mig"] > 0.9 and scores["modularity"] > 0.9
