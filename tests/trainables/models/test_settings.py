"""Wrong names are answered with those that were meant, not with a page of all."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Optional

import pytest

from trainables.models.settings import check_kind, kinds_of, nearest, some_of

NAMES = [
    "beta",
    "gamma",
    "learning_rate",
    "latent_dim",
    "width",
    "gan_loss",
    "recipe",
    "ema",
    "flip",
    "epochs",
]


def test_of_many_names_those_most_like_the_wrong_one_are_told():
    said = some_of("gama", NAMES)
    assert said.startswith("gamma, ") and said.endswith("… (10 in all)") and said.count(",") == 8
    assert nearest("gama", NAMES) == " (did you mean gamma?)"


def test_few_names_are_all_told_in_their_order():
    assert some_of("x", NAMES[:3]) == "beta, gamma, learning_rate"


@dataclass(frozen=True)
class Own:
    rate: "float | None" = None
    layer: Literal["conv", "linear"] = "conv"
    count: Optional[int] = None  # noqa: UP045  as a person may write it
    sizes: tuple[int, ...] | None = None
    place: "Path | str" = ""


@dataclass(frozen=True)
class Unknown:
    rate: "Elsewhere" = 0  # noqa: F821
    hidden: int = 1


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("rate", None, None),
        ("rate", 3, None),
        ("rate", True, "rate is True; it must be a number"),
        ("rate", "1e-3", "rate is '1e-3'; it must be a number"),
        ("rate", float("nan"), "rate is nan; it must be finite"),
        ("layer", "linear", None),
        ("layer", "conv2d", "layer is 'conv2d'; choose conv, linear"),
        ("layer", None, "layer is None; choose conv, linear"),
        ("count", None, None),
        ("count", 2.5, "count is 2.5; it must be a whole number"),
        ("sizes", [1, 2], None),
        ("place", 3, None),
    ],
)
def test_a_value_is_of_its_settings_type(name, value, sentence):
    kind = kinds_of(Own)[name]
    if sentence is None:
        check_kind(name, value, kind)
    else:
        with pytest.raises(ValueError, match=sentence):
            check_kind(name, value, kind)


def test_one_is_not_true_and_a_type_that_is_not_there_hides_no_other():
    with pytest.raises(ValueError, match="channels is True; choose 1, 3"):
        check_kind("channels", True, Literal[1, 3])
    assert kinds_of(Unknown)["hidden"] is int
