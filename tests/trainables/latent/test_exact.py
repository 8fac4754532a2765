"""Both exact maximizers against all codes, which the booster itself scores."""

from itertools import product

import numpy as np
import pytest
import xgboost as xgb
from hypothesis import given, settings
from hypothesis import strategies as st

from trainables.latent.ensemble import Ensemble, Leaf, parse, restrict
from trainables.latent.leaf_mip import maximize_leaf_mip
from trainables.latent.pairwise import maximize_pairwise, tables

POSITIONS, CATEGORIES = 7, 9
SINGLE = 1e-5  # a sum of some dozen float32 leaves


def matrix(codes, y=None, kinds="c"):
    kinds = [kinds] * codes.shape[1]
    return xgb.DMatrix(codes.astype(np.float32), y, feature_types=kinds, enable_categorical=True)


def fit(seed, depth=2, rounds=40):
    rng = np.random.default_rng(seed)
    codes = rng.integers(CATEGORIES - 1, size=(500, POSITIONS))  # the last category is never seen
    y = sum(rng.normal(size=CATEGORIES)[codes[:, p]] for p in range(POSITIONS))
    for _ in range(8):
        i, j = rng.choice(POSITIONS, 2, replace=False)
        y += rng.normal(size=(CATEGORIES, CATEGORIES))[codes[:, i], codes[:, j]] * 2
    settings = {"max_depth": depth, "min_child_weight": 10, "eta": 0.3, "nthread": 1, "seed": seed}
    settings["max_cat_to_onehot"] = 1 if seed % 2 else 20  # sets of categories, or one against the rest
    return xgb.train(settings, matrix(codes, y), rounds), codes


def all_codes(base, free):
    """Return every code that agrees with `base` outside the free positions."""
    codes = np.repeat(base[None], CATEGORIES ** len(free), 0)
    codes[:, free] = list(product(range(CATEGORIES), repeat=len(free)))
    return codes


def decode(restriction, base, labels):
    code = base.copy()
    for position, members, label in zip(restriction.free, restriction.classes, labels, strict=True):
        code[position] = members[label][0]
    return code


@pytest.mark.parametrize("seed", range(4))
def test_the_leaves_add_up_to_the_boosters_prediction(seed):
    booster, _ = fit(seed, depth=3)
    ensemble = parse(booster, CATEGORIES)
    codes = np.random.default_rng(99).integers(CATEGORIES, size=(200, POSITIONS))
    ours = [ensemble.base_score + ensemble.leaf_values(code).sum() for code in codes]
    assert np.allclose(ours, booster.predict(matrix(codes)), atol=SINGLE)


@pytest.mark.parametrize("seed", range(4))
def test_a_restriction_is_the_ensemble_on_its_codes(seed):
    booster, codes = fit(seed, depth=3)
    base, free = codes[seed], [5, 0, 3]
    restriction = restrict(parse(booster, CATEGORIES), base, free)
    every = all_codes(base, np.array(free))
    class_of = np.empty((3, CATEGORIES), dtype=int)
    for i, classes in enumerate(restriction.classes):
        for label, members in enumerate(classes):
            class_of[i, members] = label
    ours = [restriction.value([class_of[i, code[p]] for i, p in enumerate(free)]) for code in every]
    assert np.allclose(ours, booster.predict(matrix(every)), atol=SINGLE)


@pytest.mark.parametrize(("maximize", "depth"), [(maximize_pairwise, 2), (maximize_leaf_mip, 3)])
@pytest.mark.parametrize("seed", range(3))
def test_the_maximum_over_all_codes_again_and_again_as_tried_ones_are_excluded(seed, maximize, depth):
    booster, codes = fit(seed, depth)
    ensemble, base, free = parse(booster, CATEGORIES), codes[seed], np.array([6, 2, 4])
    every = all_codes(base, free)
    values = np.sort(booster.predict(matrix(every)))[::-1]
    tried = np.empty((0, POSITIONS), dtype=int)
    for expected in values[:6]:
        restriction = restrict(ensemble, base, free, tried)
        best = maximize(restriction)
        code = decode(restriction, base, best.labels)
        assert booster.predict(matrix(code[None]))[0] == pytest.approx(expected, abs=SINGLE)
        assert best.value == pytest.approx(expected, abs=SINGLE)
        assert best.value <= best.upper_bound <= best.value + 1e-6
        assert not (tried == code).all(1).any()
        tried = np.vstack([tried, code])


@pytest.mark.parametrize("maximize", [maximize_pairwise, maximize_leaf_mip])
def test_nothing_is_left_where_every_code_was_tried(maximize):
    booster, codes = fit(0)
    every = all_codes(codes[0], np.array([1]))
    restriction = restrict(parse(booster, CATEGORIES), codes[0], [1], every)
    assert maximize(restriction) is None


@pytest.mark.parametrize("maximize", [maximize_pairwise, maximize_leaf_mip])
def test_without_a_free_position_the_code_itself_is_the_answer(maximize):
    booster, codes = fit(1)
    best = maximize(restrict(parse(booster, CATEGORIES), codes[3], []))
    assert len(best.labels) == 0
    assert best.value == pytest.approx(float(booster.predict(matrix(codes[3:4]))[0]), abs=SINGLE)


def test_codes_tried_from_another_base_exclude_nothing():
    booster, codes = fit(0)
    other = codes[0].copy()
    other[6] = (other[6] + 1) % CATEGORIES
    restriction = restrict(parse(booster, CATEGORIES), codes[0], [1, 2], all_codes(other, np.array([1, 2])))
    assert len(restriction.excluded) == 0


def center_of(restriction, base):
    pairs = zip(restriction.free, restriction.classes, strict=True)
    return np.array(
        [next(k for k, members in enumerate(labels) if base[p] in members) for p, labels in pairs]
    )


@pytest.mark.parametrize("radius", [0, 1, 2])
def test_a_trust_region_bounds_the_changes(radius):
    booster, codes = fit(2)
    base, free = codes[0], np.array([6, 2, 4])
    ensemble = parse(booster, CATEGORIES)
    restriction = restrict(ensemble, base, free)
    center = center_of(restriction, base)
    best = maximize_leaf_mip(restriction, center=center, radius=radius)
    every = all_codes(base, free)
    near = every[(every != base).sum(1) <= radius]
    assert best.value == pytest.approx(float(booster.predict(matrix(near)).max()), abs=SINGLE)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 5), st.integers(2, 4))
def test_branching_is_exact_where_the_relaxation_is_not_tight(seed, variables, labels):
    """The random pairwise tables are from no booster, and full of ties and frustrated cycles."""
    rng = np.random.default_rng(seed)
    trees = []
    for _ in range(6 * variables):
        i, j = rng.choice(variables, 2, replace=False)
        a, b = rng.random((2, labels)) < 0.5
        v = rng.integers(-3, 4, size=4).astype(float)
        corners = [(a, b, v[0]), (a, ~b, v[1]), (~a, b, v[2]), (~a, ~b, v[3])]
        trees.append([Leaf(value, {int(i): first, int(j): second}) for first, second, value in corners])
    ensemble = Ensemble(0.5, trees, variables, labels)
    excluded = np.unique(rng.integers(labels, size=(4, variables)), axis=0)
    restriction = restrict(ensemble, np.zeros(variables, dtype=int), range(variables), excluded)
    allowed = [
        0.5 + ensemble.leaf_values(np.array(code)).sum()
        for code in product(range(labels), repeat=variables)
        if not (excluded == code).all(1).any()
    ]
    best = maximize_pairwise(restriction)
    assert (best is None) == (not allowed)
    if best is not None:
        assert best.value == pytest.approx(max(allowed), abs=1e-9)
        assert restriction.value(best.labels) == pytest.approx(best.value, abs=1e-9)


@pytest.mark.parametrize("seed", range(5))
def test_what_a_time_limit_leaves_unproven_is_in_the_gap(seed):
    booster, codes = fit(seed)
    ensemble, base = parse(booster, CATEGORIES), codes[0]
    restriction = restrict(ensemble, base, [0, 1, 2])
    optimum = maximize_pairwise(restriction).value
    stopped = maximize_pairwise(restriction, time_limit=-1.0)
    assert stopped.nodes == 0
    assert stopped.value <= optimum + 1e-9 <= stopped.upper_bound + 2e-9
    assert stopped.upper_bound > stopped.value
    assert restriction.value(stopped.labels) == pytest.approx(stopped.value)


@pytest.mark.parametrize("radius", [0, 1, 2, None])
@pytest.mark.parametrize("seed", range(3))
def test_a_program_out_of_time_gives_the_best_known_and_what_is_not_proven(seed, radius):
    booster, codes = fit(seed, depth=3)
    base, free = codes[0], np.array([6, 2, 4])
    restriction = restrict(parse(booster, CATEGORIES), base, free)
    center = center_of(restriction, base)
    optimum = maximize_leaf_mip(restriction, center=center, radius=radius)
    stopped = maximize_leaf_mip(restriction, center=center, radius=radius, time_limit=0.0)
    assert (stopped.labels != center).sum() <= (3 if radius is None else radius)
    assert restriction.value(stopped.labels) == pytest.approx(stopped.value)
    every = all_codes(base, free)
    one_away = every[(every != base).sum(1) <= (1 if radius is None else min(radius, 1))]
    assert stopped.value >= booster.predict(matrix(one_away)).max() - SINGLE
    assert stopped.value <= optimum.value + 1e-9 <= stopped.upper_bound + 2e-9


def test_a_program_out_of_time_proposes_no_tried_code():
    booster, codes = fit(0, depth=3)
    base, free = codes[0], np.array([6, 2, 4])
    ensemble = parse(booster, CATEGORIES)
    tried = base[None]
    restriction = restrict(ensemble, base, free, tried)
    center = center_of(restriction, base)
    stopped = maximize_leaf_mip(restriction, center=center, radius=1, time_limit=0.0)
    assert (stopped.labels != center).sum() == 1
    assert maximize_leaf_mip(restriction, center=center, radius=0, time_limit=0.0) is None


def test_both_maximizers_agree_on_more_positions_than_can_be_listed():
    booster, codes = fit(3, rounds=60)
    ensemble = parse(booster, CATEGORIES)
    for base in codes[:3]:
        restriction = restrict(ensemble, base, range(POSITIONS))
        fast, slow = maximize_pairwise(restriction), maximize_leaf_mip(restriction)
        assert fast.value == pytest.approx(slow.value, abs=1e-6)


def test_what_cannot_be_taken_apart_says_why():
    booster, codes = fit(0, depth=4)
    ensemble = parse(booster, CATEGORIES)
    with pytest.raises(ValueError, match=r"a leaf depends on [34] free positions; here 2 at most"):
        tables(restrict(ensemble, codes[0], range(POSITIONS)))
    with pytest.raises(ValueError, match="the booster splits on category 7; there are 4"):
        parse(booster, 4)
    with pytest.raises(ValueError, match="must differ and be below 7"):
        restrict(ensemble, codes[0], [1, 1])
    with pytest.raises(ValueError, match="values 0 to 9; it must be 7 categories below 9"):
        restrict(ensemble, np.array([9, 0, 0, 0, 0, 0, 0]), [1])
    numbers = xgb.train({"max_depth": 1, "nthread": 1}, matrix(codes, codes[:, 0], kinds="q"), 1)
    with pytest.raises(ValueError, match="splits feature 0 as a number"):
        parse(numbers, CATEGORIES)
    linear = xgb.train({"booster": "gblinear", "nthread": 1}, xgb.DMatrix(codes, codes[:, 0]), 1)
    with pytest.raises(ValueError, match="gblinear"):
        parse(linear, CATEGORIES)
