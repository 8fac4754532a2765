"""The search space: every value of every kind of dimension there and back, and what is refused."""

import json
import math

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st
from ray import tune

from searchers.bayesopt.acquisition import sobol
from searchers.bayesopt.space import Choice, Integer, Ordinal, Real, Space, SpaceError
from searchers.bayesopt.space_json import from_json, to_json
from searchers.bayesopt.tune_space import has_dimensions, read_space

SLOW = [HealthCheck.too_slow]  # a loaded machine is no failure
finite = st.floats(-1e6, 1e6, allow_nan=False)
positive = st.floats(1e-6, 1e6)


@st.composite
def dimensions(draw, name="x"):
    kind = draw(st.sampled_from(["real", "log", "step", "integer", "log integer", "choice", "ordinal"]))
    if kind in ("choice", "ordinal"):
        choices = draw(
            st.lists(st.integers(-5, 5) | st.sampled_from("abc"), min_size=1, max_size=6, unique=True)
        )
        return (Choice if kind == "choice" else Ordinal)(name, choices)
    if kind in ("integer", "log integer"):
        low, high = sorted(draw(st.tuples(st.integers(1, 300), st.integers(1, 300))))
        step = draw(st.integers(1, 4))
        assume(math.ceil(low / step) <= high // step)
        return Integer(name, low, high, log=kind == "log integer", step=step)
    low, high = sorted(draw(st.tuples(*[positive if kind == "log" else finite] * 2)))
    step = None
    if kind == "step":
        assume(high - low > 1e-3)
        step = (high - low) / draw(st.integers(1, 20)) / 2
    return Real(name, low, high, log=kind == "log", step=step)


@st.composite
def spaces(draw):
    return Space(
        [draw(dimensions(name=f"group/{i}" if i % 2 else f"d{i}")) for i in range(draw(st.integers(1, 4)))]
    )


@settings(deadline=None, max_examples=80, suppress_health_check=SLOW)
@given(dimension=dimensions(), u=st.floats(0, 1))
def test_a_value_goes_there_and_back(dimension, u):
    value = dimension.value(u)
    code = json.loads(json.dumps(dimension.encode(value)))
    assert dimension.decode(code) == value and type(dimension.decode(code)) is type(value)
    again = dimension.value(dimension.unit(value))
    if isinstance(dimension, Choice):
        assert again == value
    else:
        assert again == pytest.approx(value, rel=1e-9, abs=1e-9)
        assert dimension.low <= value <= dimension.high
        assert type(value) is (int if dimension.integer else float)
        if dimension.step is not None and dimension.size > 1:
            assert abs(value / dimension.step - round(value / dimension.step)) < 1e-6


@settings(deadline=None, max_examples=40, suppress_health_check=SLOW)
@given(space=spaces(), seed=st.integers(0, 10**6))
@example(space=Space([Integer("x", 1, 3, step=3)]), seed=0)
def test_a_configuration_goes_there_and_back(space, seed):
    for u in space.fill(sobol(4, len(space), np.random.default_rng(seed))):
        codes = space.codes(u)
        config = space.configuration(json.loads(json.dumps(codes)))
        assert space.encode(config) == codes
        np.testing.assert_allclose(space.unit(codes), u, atol=1e-9)


@settings(deadline=None, max_examples=40, suppress_health_check=SLOW)
@given(space=spaces(), seed=st.integers(0, 10**6))
def test_snapping_moves_to_the_nearest_point_that_exists_and_then_no_further(space, seed):
    U = np.random.default_rng(seed).random((8, len(space)))
    snapped = space.snap(U)
    np.testing.assert_array_equal(space.snap(snapped), snapped)
    for j, grid in enumerate(space.grids):
        if grid is None:
            np.testing.assert_array_equal(snapped[:, j], U[:, j])
        else:
            nearest = np.abs(grid[None] - U[:, j : j + 1]).min(axis=1)
            np.testing.assert_allclose(np.abs(snapped[:, j] - U[:, j]), nearest, atol=1e-12)


def test_filling_gives_each_discrete_value_its_share():
    space = Space([Integer("a", 1, 4), Choice("b", ("x", "y", "z", "w"))])
    U = space.fill(sobol(64, 2, np.random.default_rng(0)))
    for j in range(2):
        assert set(np.unique(U[:, j], return_counts=True)[1]) == {16}


@settings(deadline=None, max_examples=15, suppress_health_check=SLOW)
@given(seed=st.integers(0, 10**6))
def test_what_tune_samples_lies_in_the_space_that_is_read(seed):
    notation = {
        "a": tune.uniform(-2.0, 3.0),
        "b": tune.loguniform(1e-5, 1e-1),
        "c": tune.quniform(0.0, 2.0, 0.25),
        "d": tune.randint(2, 9),
        "e": tune.lograndint(1, 1000),
        "f": tune.qrandint(0, 12, 3),
        "g": tune.choice(["adam", None, (1, 2), True]),
        "h": tune.choice([16, 32, 64]),
        "nested": {
            "i": tune.uniform(0, 1),
            "fixed": "yes",
            "deeper": {"j": tune.qloguniform(1e-3, 1.0, 1e-3)},
        },
        "constant": [1, 2],
    }
    space = read_space(notation)
    assert [d.name for d in space.dimensions][-2:] == ["nested/i", "nested/deeper/j"]
    np.random.seed(seed)  # Tune's domains draw from numpy's global generator
    config = {k: v.sample() for k, v in notation.items() if hasattr(v, "sample")}
    config["nested"] = {
        "i": notation["nested"]["i"].sample(),
        "deeper": {"j": notation["nested"]["deeper"]["j"].sample()},
    }
    back = space.configuration(space.encode(config))
    for key in "abcdefgh":
        assert (
            back[key] == pytest.approx(config[key])
            if isinstance(config[key], float)
            else back[key] == config[key]
        )
    assert back["constant"] == [1, 2] and back["nested"]["fixed"] == "yes"


def test_bounds_are_tunes():
    space = read_space({"a": tune.randint(2, 9), "b": tune.qrandint(0, 12, 3), "c": tune.quniform(0, 1, 0.5)})
    a, b, c = space.dimensions
    assert [a.value(u) for u in (0, 1)] == [2, 8]
    assert [b.value(u) for u in (0, 1)] == [0, 12] and b.size == 5
    assert [c.value(x) for x in c.grid()] == [0.0, 0.5, 1.0]


def test_numbers_in_rising_order_are_ordered_and_others_are_not():
    space = read_space(
        {"a": tune.choice([16, 32, 64]), "b": tune.choice([64, 16, 32]), "c": tune.choice([1, 2])}
    )
    assert [d.categorical for d in space.dimensions] == [False, True, True]


@pytest.mark.parametrize(
    ("notation", "says"),
    [
        ({"a": tune.sample_from(lambda spec: 1)}, "conditional"),
        ({"a": tune.choice([{"b": tune.uniform(0, 1)}, {"c": 1}])}, "conditional"),
        ({"a": tune.grid_search([1, 2])}, "grid_search"),
        ({"a": tune.randn(0, 1)}, "no bounds"),
        ({"a": [tune.uniform(0, 1)]}, "inside a list"),
        ({"a": 3}, "no dimension"),
        ({"a": {"b/c": tune.uniform(0, 1)}}, "a/b/c: 'b/c' leads to a range; such a key must be a string"),
        ({3: {"b": tune.uniform(0, 1)}}, "3: 3 leads to a range"),
    ],
)
def test_what_cannot_be_searched_is_refused_by_name(notation, says):
    with pytest.raises(SpaceError, match=says):
        read_space(notation)


@pytest.mark.parametrize(
    ("build", "says"),
    [
        (lambda: Real("x", 2, 1), "in order"),
        (lambda: Real("x", 0, math.inf), "finite"),
        (lambda: Real("x", 0, 1, log=True), "above 0"),
        (lambda: Real("x", 0, 1, step=-1), "step"),
        (lambda: Real("x", 0.6, 0.9, step=0.5), "no multiple"),
        (lambda: Integer("x", 1.5, 3), "integer"),
        (lambda: Choice("x", ()), "no choices"),
        (lambda: Space([Real("x", 0, 1), Real("x", 0, 2)]), "one name"),
        (lambda: Space([]), "no dimension"),
        (lambda: Real("x", 0, 1).unit(1.5), r"x = 1.5 lies outside \[0, 1\]"),
        (lambda: Real("x", 0, 1).unit("a"), "not a number"),
        (lambda: Choice("x", ("a", "b")).encode("c"), r"'c' is none of \['a', 'b'\]"),
        (lambda: Space([Real("x", 0, 1)]).encode({"y": 1}), "no x"),
    ],
)
def test_errors_say_the_wrong_value(build, says):
    with pytest.raises(SpaceError, match=says):
        build()


def test_a_configuration_may_be_flat_or_partial():
    space = Space([Real("a/b", 0, 1), Integer("c", 1, 3)], {"a": {"fixed": 5}})
    assert space.encode({"a/b": 0.5, "c": 2}) == space.encode({"a": {"b": 0.5}, "c": 2})
    assert space.encode({"c": 2}, partial=True) == {"c": 2}
    config = space.configuration({"a/b": 0.5, "c": 2})
    assert config == {"a": {"fixed": 5, "b": 0.5}, "c": 2}
    config["a"]["fixed"] = 6
    assert space.constants == {"a": {"fixed": 5}}


def test_size_counts_configurations():
    assert Space([Integer("a", 1, 4), Choice("b", "xyz")]).size == 12
    assert Space([Integer("a", 1, 4), Real("b", 0, 1)]).size == math.inf
    assert Space([Real("b", 3, 3)]).size == 1


def test_choices_that_are_equal_but_of_other_types_are_told_apart():
    d = Choice("x", (1, True, 1.5, "1"))
    assert [d.encode(v) for v in (1, True, 1.5, "1")] == [0, 1, 2, 3]
    assert Choice("x", ((3, 3), (5, 5))).encode([5, 5]) == 1


def test_a_choice_is_known_as_json_brings_it_back():
    choices = ((1, (2, 3)), [4], {"sizes": (5,)})
    dimension = Choice("x", choices)
    for choice in choices:
        assert dimension.decode(dimension.encode(json.loads(json.dumps(choice)))) is choice
    space = read_space({"a": tune.uniform(0, 1), "b/c": 3, 4: 5})  # constants may have any keys
    assert space.constants == {"b/c": 3, 4: 5}


def test_has_dimensions():
    assert has_dimensions({"a": {"b": tune.uniform(0, 1)}}) and not has_dimensions({"a": {"b": 1}})


def test_several_trials_points_are_those_of_one_after_another():
    space = Space(
        [
            Real("a", 1e-3, 10.0, log=True),
            Integer("b", 2, 9),
            Real("c", -1.0, 2.0, step=0.5),
            Choice("d", ("x", "y", "z")),
            Choice("e", (1, 5, 10), ordered=True),
            Real("f", 3.0, 3.0),
        ]
    )
    rng = np.random.default_rng(0)
    codes = [space.codes(u) for u in space.fill(rng.random((20, 6)))]
    np.testing.assert_allclose(space.units(codes), [space.unit(c) for c in codes], rtol=1e-12)


@pytest.mark.parametrize("log", [False, True])
def test_a_dimension_of_too_many_values_to_list_snaps_to_them(log):
    d = Integer("n", 1, 2**40, log=log)
    assert d.grid() is None
    u = d.snap(np.random.default_rng(0).random(50))
    values = [d.value(x) for x in u]
    np.testing.assert_allclose([d.unit(v) for v in values], u, atol=1e-12)


def named(config):
    """A choice that is a function."""


def test_a_space_as_plain_data_and_back():
    space = Space(
        [
            Real("a", 1e-3, 10.0, log=True),
            Integer("b", 2, 9),
            Choice("c", ("x", None, 3, 2.5, True, (1, 2), named, {"deep": [1]})),
        ]
    )
    described = json.loads(json.dumps(to_json(space)))
    again = from_json(described)
    assert to_json(again) == described and again.dimensions[:2] == space.dimensions[:2]
    assert again.dimensions[2].choices[6] is named
    assert "0x" not in json.dumps(described)  # no address
    with pytest.raises(SpaceError, match="cannot be built again"):
        from_json(to_json(Space([Choice("c", (object(), 1))])))


def test_copies_of_a_choice_are_left_out_and_equal_numbers_of_other_types_are_not():
    assert Choice("c", ("a", "b", "a", 1, 1.0, True, 1)).choices == ("a", "b", 1, 1.0, True)
