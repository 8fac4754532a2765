"""The counted cost of a training step against closed forms."""

from dataclasses import dataclass

import pytest
import torch
from torch import nn

from benchmarks.cost import count, trainings
from tests.fixtures.models import MODELS
from trainables.models.base import GenerativeModel


class OneLayer(GenerativeModel):
    """One convolution, descended by Adam."""

    @dataclass(frozen=True)
    class Config:
        """Hyperparameters."""

        image_size: int = 8
        channels: int = 3

    def build(self):
        self.layer = nn.Conv2d(3, 4, 3, padding=1)

    def loss(self, x):
        return self.layer(x).square().mean()

    @torch.no_grad()
    def sample(self, n, generator=None):
        return self.layer(torch.zeros(n, 3, 8, 8))


def test_a_convolution_costs_what_the_formula_says():
    cost = count(OneLayer(OneLayer.Config()), images=4)
    forward = 2 * (8 * 8 * 4) * (3 * 3 * 3)  # outputs, each of as many products and sums
    assert cost.sample_operations == forward
    assert cost.operations == 2 * forward  # the weights' gradient costs the same; images need none
    assert cost.parameters == 4 * 27 + 4
    assert cost.optimizer_bytes == 4 * (2 * cost.parameters + 2)  # two moments, and two counts of steps
    kept = 4 * (3 * 8 * 8 + 4 * 8 * 8)  # the images, for the weights' gradient; the outputs, for the square's
    assert cost.activations == pytest.approx(kept, abs=8)


def test_a_batch_costs_as_its_images_do():
    kind, settings = MODELS["VAE-GAN, WGAN-GP"]
    few, many = (count(kind(kind.configure(settings)), images=n) for n in (2, 4))
    assert few.operations == many.operations and few.launches == many.launches
    assert few.activations == pytest.approx(many.activations, rel=0.05)


def test_what_is_told_is_what_the_presets_train():
    told = trainings()
    assert {training.study for training in told} >= {"beta_vaegan", "flow", "lego_vae", "happy_people"}
    for training in told:
        assert training.kind.configure(training.settings).image_size in (28, 64, 128)
