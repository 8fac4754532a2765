"""Wrong names are answered with those that were meant, not with a page of all."""

from trainables.models.settings import nearest, some_of

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
