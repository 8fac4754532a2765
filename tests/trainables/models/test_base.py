"""A model of one's own: its inherited training step, updates in half precision, mistakes that are told."""

from dataclasses import dataclass, make_dataclass
from typing import Literal

import pytest
import torch
from torch import nn

from tests.fixtures.models import MODELS
from trainables.models.base import GenerativeModel
from trainables.models.settings import (
    BelowOne,
    Count,
    NotNegative,
    Positive,
    Share,
    check_values,
    kinds_of,
    rules_of,
)

SIZES = {
    *(
        "channels",
        "codes",
        "discriminator_hidden",
        "embedding_dim",
        "grid",
        "hidden",
        "image_size",
        "latent_dim",
    ),
    "width",
}


class Own(GenerativeModel):
    """One layer."""

    @dataclass(frozen=True)
    class Config:
        """Hyperparameters."""

        own_steps: bool = False

    def build(self):
        self.net = nn.Linear(4, 4)

    def loss(self, x):
        return self.net(x).square().mean()

    def sample(self, n, generator=None):
        return torch.zeros(n, 3, 8, 8)

    def update_once(self, x):
        if not self.config.own_steps:
            self.descend("model", self.loss(x))
            return
        self.optimizers["model"].zero_grad()
        self.loss(x).backward()
        self.optimizers["model"].step()


class Twice(Own):
    """Two updates a step."""

    def training_step(self, x):
        self.update_once(x)
        self.update_once(x)
        return {}


@pytest.mark.parametrize("own_steps", [False, True])
def test_a_second_update_of_a_step_is_by_the_new_weights_in_half_precision(own_steps):
    together, apart = (Twice(Twice.Config(own_steps)) for _ in range(2))
    x = torch.rand(8, 4, generator=torch.Generator().manual_seed(0))
    with torch.autocast("cpu", torch.bfloat16):
        together.training_step(x)
    for _ in range(2):
        with torch.autocast("cpu", torch.bfloat16):
            apart.update_once(x)
    assert torch.equal(together.net.weight, apart.net.weight)


class Renamed(Own):
    """Its one optimizer has another name."""

    def build_optimizers(self):
        return {"adam": torch.optim.SGD(self.parameters(), lr=1.0)}


def test_the_only_optimizer_descends_the_loss_whatever_its_name():
    model = Renamed(Own.Config())
    before = model.net.weight.clone()
    model.training_step(torch.ones(2, 4))
    torch.testing.assert_close(model.net.weight, before - model.net.weight.grad)


class Several(Own):
    """Two optimizers, and no training step that says which does what."""

    def build_optimizers(self):
        return {name: torch.optim.Adam(self.parameters()) for name in ("model", "critic")}


class Lightning(Own):
    """What PyTorch Lightning calls."""

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters())


class Named(Own):
    """Losses by name."""

    def loss(self, x):
        return {"loss": super().loss(x)}


class Logged(Own):
    """A loss and what is logged."""

    def loss(self, x):
        return super().loss(x), {}


class Plain(Own):
    """A number of Python's."""

    def loss(self, x):
        return super().loss(x).item()


@pytest.mark.parametrize(
    ("kind", "sentence"),
    [
        (Several, "Several has 2 optimizers, and loss descends one: define training_step"),
        (
            Lightning,
            "Lightning defines configure_optimizers, which nothing calls; here it is build_optimizers",
        ),
        (Named, "Named.loss returned dict; it must be one number, a tensor"),
        (Logged, "Logged.loss returned tuple; it must be one number"),
        (Plain, "Plain.loss returned float; it must be one number"),
    ],
)
def test_a_common_mistake_is_told(kind, sentence):
    with pytest.raises(TypeError, match=sentence):
        kind(Own.Config()).training_step(torch.ones(2, 4))


@pytest.mark.parametrize("name", MODELS)
def test_a_number_out_of_its_range_is_refused(name):
    """All numbers have one but those whose sign means something, and none allows a network of no units."""
    kind, settings = MODELS[name]
    numbers = {key for key, found in kinds_of(kind.Config).items() if found in (int, float, float | None)}
    assert {"channels", "image_size", "width"} <= numbers
    kinds = kinds_of(kind.Config, rules=True)
    for key in numbers - {"ema_width", "guidance", "noise_mean", "real_label", "fake_label", "subspace"}:
        (rule,) = rules_of(kinds[key])
        for value in (-1, 0) if key in SIZES or not rule.holds(0) else (-1,):
            with pytest.raises(ValueError, match=f"^{key} is {value}; it must be {rule.words}$"):
                kind(kind.configure(settings | {key: value}))


@pytest.mark.parametrize(
    ("kind", "least", "below", "words"),
    [(Count, 1, 0, "1 or more"), (Positive, 1e-9, 0.0, "above 0"), (NotNegative, 0, -1e-9, "0 or more"),
     (Share, 1.0, 1.01, "from 0 to 1"), (BelowOne, 0, 1, "from 0 to below 1")],
)  # fmt: skip
def test_a_rule_beside_a_type(kind, least, below, words):
    """Of `X | None`, too, whose None keeps it."""
    for there in (kind, kind | None):
        config = make_dataclass("Config", [("size", there)])
        check_values(config(least))
        check_values(config(None))
        with pytest.raises(ValueError, match=f"^size is {below}; it must be {words}$"):
            check_values(config(below))


def test_a_word_is_one_of_those_that_are_known():
    config = make_dataclass("Config", [("loss", Literal["hinge", "minimax"])])
    check_values(config("hinge"))
    with pytest.raises(ValueError, match=r"^loss is 'wgan'; choose hinge, minimax$"):
        check_values(config("wgan"))
