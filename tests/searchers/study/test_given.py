"""The words of `--space` and `--set`: what is meant is read, what is not meant gets a sentence."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from searchers.study.config import SweepConfig
from searchers.study.given import Call, read_settings, read_space


def test_domains_are_read_by_tunes_names():
    texts = [
        "lr=loguniform(1e-4, 3e-3)",
        "units=choice(32,64)",
        "kind=choice('a',b,None)",
        "n=tune.randint(-1,5)",
    ]
    assert read_space(texts) == {
        "lr": Call("loguniform", (1e-4, 3e-3)),
        "units": Call("choice", (32, 64)),
        "kind": Call("choice", ("a", "b", None)),
        "n": Call("randint", (-1, 5)),
    }


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0.1", 0.1),
        ("-3", -3),
        ("1e-3", 1e-3),
        ("larsen", "larsen"),
        ("true", True),
        ("None", None),
        ("2026-01-02", "2026-01-02"),
        ("/data/a b", "/data/a b"),
        ("results/my sweep (2)/models/ab12", "results/my sweep (2)/models/ab12"),
        ("'7'", "7"),
        ("[1, 2]", [1, 2]),
    ],
)
def test_values_are_python_s_and_else_strings(text, value):
    assert read_settings([f"x={text}"]) == {"x": value}
    assert type(read_settings([f"x={text}"])["x"]) is type(value)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("lr=logunifrom(1,2)", r"there is no logunifrom \(did you mean loguniform\?\); there are uniform, "),
        ("lr=nothing_like_it(1)", "there is no nothing_like_it; there are uniform, "),
        ("lr=3", "3 is no range; it is one of uniform, .*--set lr=3 holds it"),
        ("lr=uniform(low=1,high=2)", "arguments have no names here"),
        ("lr=uniform(1,2", "that is no range"),
        ("lr=uniform(1+x,2)", "1 \\+ x is no value"),
        ("lr", "it takes NAME=VALUE, such as latent_dim=choice"),
        ("=uniform(1,2)", "it takes NAME=VALUE"),
        ("a-b=uniform(1,2)", "it takes NAME=VALUE"),
    ],
)
def test_wrong_domains_get_a_sentence(text, sentence):
    with pytest.raises(ValueError, match=f"^--space .*{sentence}"):
        read_space([text])


def test_a_name_given_twice_and_a_range_to_be_set_get_a_sentence():
    with pytest.raises(ValueError, match="x is given twice"):
        read_settings(["x=1", "x=2"])
    with pytest.raises(ValueError, match=r"a range is searched; --space x=uniform\(1,2\) does that"):
        read_settings(["x=uniform(1,2)"])
    with pytest.raises(ValueError, match=r"--set x=uniform\(1,2: that is no range"):
        read_settings(["x=uniform(1,2"])


@given(st.text(max_size=30), st.booleans())
def test_any_text_is_read_or_refused_in_one_line(text, named):
    text = f"x={text}" if named else text
    for read in (read_space, read_settings):
        try:
            read([text])
        except ValueError as error:
            assert str(error).startswith("--")


def test_wrong_words_are_refused_before_anything_is_converted():
    with pytest.raises(ValueError, match="there is no unifrom"):
        SweepConfig(space=("x=unifrom(1,2)",))
    assert SweepConfig(set=["x=1"]).set == ("x=1",)  # as JSON has it
