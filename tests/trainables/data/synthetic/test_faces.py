"""The synthetic faces are functions of their factors alone."""

import numpy as np
import pytest

from trainables.data.synthetic import faces


@pytest.mark.parametrize("size", [16, 32, 64])
def test_a_face_does_not_depend_on_those_drawn_with_it(size):
    together, factors = faces.render(40, image_size=size, seed=3)
    some = [5, 17, 38, 0]
    alone = faces.draw({name: factors[name][some] for name in faces.FACTORS}, image_size=size)
    np.testing.assert_array_equal(alone, together[some])
    later, _ = faces.render(7, image_size=size, seed=3, first=31)
    np.testing.assert_array_equal(later, together[31:38])


def test_factors_stay_in_their_ranges_and_are_independent():
    factors = faces.sample_factors(20_000, seed=1)
    for name, factor in faces.FACTORS.items():
        values = factors[name]
        if factor.weights:
            share = np.bincount(values.astype(int), minlength=len(factor.weights)) / len(values)
            np.testing.assert_allclose(share, np.divide(factor.weights, sum(factor.weights)), atol=0.015)
        else:
            assert factor.low <= values.min() < values.max() <= factor.high
            np.testing.assert_allclose(values.mean(), (factor.low + factor.high) / 2, atol=0.02 * np.pi)
    table = np.stack([factors[name] for name in faces.FACTORS])
    correlation = np.corrcoef(table) - np.eye(len(table))
    assert np.abs(correlation).max() < 5 / np.sqrt(20_000)
    np.testing.assert_array_equal(factors["smile_class"], np.rint(factors["smile_degree"]))


@pytest.mark.parametrize("name", faces.FACTORS)
def test_each_factor_changes_the_picture(name):
    factor = faces.FACTORS[name]
    base = faces.sample_factors(16, seed=2)
    low, high = (0, len(factor.weights) - 1) if factor.weights else (factor.low, factor.high)
    # Sunglasses hide the eyes.
    held = {key: np.zeros(16) if key == "glasses" else base[key] for key in faces.FACTORS}
    one = faces.draw(held | {name: np.full(16, low)}, image_size=64)
    if name.endswith(("angle", "hue")):  # the ends of a circle are one
        high = (low + high) / 2
    other = faces.draw(held | {name: np.full(16, high)}, image_size=64)
    changed = (one != other).any(axis=(1, 2, 3))
    assert changed.mean() > 0.5, f"{name} shows in {changed.mean():.0%} of the faces"


def test_small_pictures_are_the_large_ones_averaged():
    small, _ = faces.render(32, image_size=32)
    large, _ = faces.render(32, image_size=128)
    averaged = large.reshape(32, 32, 4, 32, 4, 3).mean(axis=(2, 4))
    assert np.abs(small - averaged).mean() < 4  # of 255 levels: painted anti-aliased


def test_a_missing_factor_is_named():
    with pytest.raises(ValueError, match="factor 'skin' is missing"):
        faces.draw({name: np.zeros(1) for name in faces.FACTORS if name != "skin"})
