"""Drawn pictures are functions of their factors alone."""

import numpy as np
import pytest

from trainables.data.synthetic.digits import DRAWN_DIGITS
from trainables.data.synthetic.faces import FACES
from trainables.data.synthetic.minifigures import MINIFIGURES

ALL = (FACES, MINIFIGURES, DRAWN_DIGITS)
DRAWINGS = [pytest.param(drawing, id=drawing.name) for drawing in ALL]
# What hides the factor from view is left out: sunglasses hide eyes, beards and goggles brows, hats hair.
HIDING = {"faces": {"glasses": 0}, "minifigures": {"eyes": 0, "hair": 1}, "drawn-digits": {"wave": 1}}
SHOWN_BY = {"cap_hue": {"hair": 5}, "cap_lightness": {"hair": 5}}


@pytest.mark.parametrize("size", [16, 32, 64])
@pytest.mark.parametrize("drawing", DRAWINGS)
def test_a_picture_does_not_depend_on_those_drawn_with_it(drawing, size):
    together, factors = drawing.render(40, image_size=size, seed=3)
    some = [5, 17, 38, 0]
    alone = drawing.draw({name: factors[name][some] for name in drawing.factors}, image_size=size)
    np.testing.assert_array_equal(alone, together[some])
    later, _ = drawing.render(7, image_size=size, seed=3, first=31)
    np.testing.assert_array_equal(later, together[31:38])


@pytest.mark.parametrize("drawing", DRAWINGS)
def test_factors_stay_in_their_ranges_and_are_independent(drawing):
    factors = drawing.sample_factors(20_000, seed=1)
    for name, factor in drawing.factors.items():
        values = factors[name]
        if factor.weights:
            share = np.bincount(values.astype(int), minlength=len(factor.weights)) / len(values)
            np.testing.assert_allclose(share, np.divide(factor.weights, sum(factor.weights)), atol=0.015)
        else:
            assert factor.low <= values.min() < values.max() <= factor.high
            np.testing.assert_allclose(values.mean(), (factor.low + factor.high) / 2, atol=0.02 * np.pi)
    table = np.stack([factors[name] for name in drawing.factors])
    correlation = np.corrcoef(table) - np.eye(len(table))
    assert np.abs(correlation).max() < 5 / np.sqrt(20_000)
    np.testing.assert_array_equal(factors[drawing.label], np.rint(factors[drawing.label_of]))
    assert factors[drawing.label].max() == len(drawing.class_names) - 1


@pytest.mark.parametrize(
    ("drawing", "name"),
    [pytest.param(drawing, name, id=f"{drawing.name}-{name}") for drawing in ALL for name in drawing.factors],
)
def test_each_factor_changes_the_picture(drawing, name):
    factor = drawing.factors[name]
    low, high = (0, len(factor.weights) - 1) if factor.weights else (factor.low, factor.high)
    held = drawing.sample_factors(16, seed=2)
    for other, value in (HIDING[drawing.name] | SHOWN_BY.get(name, {})).items():
        held[other] = np.full(16, value)
    one = drawing.draw(held | {name: np.full(16, low)}, image_size=64)
    if name.endswith(("angle", "hue", "phase")):  # the ends of a circle are one
        high = (low + high) / 2
    other = drawing.draw(held | {name: np.full(16, high)}, image_size=64)
    changed = (one != other).any(axis=(1, 2, 3))
    assert changed.mean() > 0.5, f"{name} shows in {changed.mean():.0%} of the pictures"


@pytest.mark.parametrize("drawing", DRAWINGS)
def test_small_pictures_are_the_large_ones_averaged(drawing):
    small, _ = drawing.render(32, image_size=32)
    large, _ = drawing.render(32, image_size=128)
    averaged = large.reshape(32, 32, 4, 32, 4, -1).mean(axis=(2, 4))
    assert np.abs(small - averaged).mean() < 4  # of 255 levels: painted anti-aliased


def test_the_smile_of_a_minifigure_moves_what_a_small_model_keeps():
    factors = MINIFIGURES.sample_factors(256, seed=5)
    grave, grinning = (
        MINIFIGURES.draw(factors | {"smile_degree": np.full(256, degree)}, image_size=32).astype(int)
        for degree in (0, 5)
    )
    moved = (np.abs(grave - grinning).max(-1) > 32).mean()  # of 255 levels: what an eye sees
    assert moved >= 0.04


def test_a_missing_factor_is_named():
    with pytest.raises(ValueError, match="factor 'skin' is missing"):
        FACES.draw({name: np.zeros(1) for name in FACES.factors if name != "skin"})
