"""Settings of sampling on a trained model: what they change, what they cost, and which there are."""

from dataclasses import dataclass

import pytest
import torch
from torch import nn

from trainables.evaluation.sampling import counted, default_values, with_settings
from trainables.models.base import GenerativeModel
from trainables.models.edm import EDM
from trainables.models.flow import Flow
from trainables.models.latent_flow import LatentFlow
from trainables.models.vae import VAE

SMALL = {"image_size": 16, "width": 0.25}


def trained(model_class, **changes):
    model = model_class(model_class.configure(SMALL | changes))
    model.training_step(torch.rand(4, 3, 16, 16) * 2 - 1)
    return model


@pytest.mark.parametrize(
    ("model_class", "settings", "evaluations"),
    [
        (Flow, {"sampler": "euler", "steps": 3}, 3),
        (Flow, {"sampler": "midpoint", "steps": 3}, 6),
        (EDM, {"sampler": "heun", "steps": 3}, 5),
        (Flow, {"sampler": "euler", "steps": 3, "guidance": 2.0}, 6),
        (LatentFlow, {"sampler": "midpoint", "steps": 3}, 6),
    ],
)
def test_the_weights_stay_and_the_cost_is_counted(model_class, settings, evaluations):
    model = trained(model_class, **({"first_share": 0.0} if model_class is LatentFlow else {"classes": 2}))
    changed = with_settings(model, settings)
    assert {name: getattr(changed.config, name) for name in settings} == settings
    for (name, value), other in zip(model.state_dict().items(), changed.state_dict().values(), strict=True):
        assert torch.equal(value, other), name
    with counted(changed) as cost:
        images = [changed.sample(n, torch.Generator().manual_seed(0)) for n in (5, 2)]
    assert [len(part) for part in images] == [5, 2]
    assert cost.images == 7 and cost.evaluations == 7 * evaluations and cost.seconds > 0
    changed.sample(3, torch.Generator())
    assert cost.images == 7 and cost.evaluations == 7 * evaluations  # the count ended with its block


def test_no_setting_of_sampling_changes_training():
    model = trained(EDM, classes=2)
    x, labels = torch.rand(4, 3, 16, 16) * 2 - 1, torch.tensor([0, 1, 1, 0])
    losses = []
    for settings in ({}, {"steps": 3, "sampler": "euler", "guidance": 3.0, "rho": 2.0, "sigma_max": 9.0}):
        other = with_settings(model, settings)
        other.generator.manual_seed(1)
        losses.append(other.training_step(x, labels)["loss"])
    assert torch.equal(*losses)


@pytest.mark.parametrize(
    ("model", "settings", "sentence"),
    [
        (
            Flow,
            {"step": 3},
            r"step is no setting of sampling of Flow \(did you mean steps\?\); it has sampler",
        ),
        (
            Flow,
            {"learning_rate": 0.1},
            "learning_rate is no setting of sampling of Flow; it has sampler, steps",
        ),
        (VAE, {"steps": 3}, "steps is no setting of sampling of VAE; it has none"),
        (Flow, {"steps": 2.5}, "steps is 2.5; it must be a whole number"),
        (Flow, {"sampler": "rk4"}, "sampler is 'rk4'; choose euler, midpoint, heun"),
        (Flow, {"guidance": 2.0}, "guidance is 2, and there are no classes: it would change nothing"),
        (EDM, {"rho": 0}, "rho is 0; it must be above 0"),
        (EDM, {"sigma_min": 0.0}, "sigma_min is 0.0; it must be above 0"),
        (EDM, {"sigma_max": 0.001}, "sigma_max is 0.001, sigma_min 0.002; sigma_max must be above sigma_min"),
    ],
)
def test_other_settings_and_values_are_refused(model, settings, sentence):
    with pytest.raises(ValueError, match=sentence):
        with_settings(model(model.configure(SMALL)), settings)


def test_steps_and_samplers_are_tried_by_default():
    assert set(default_values(trained(Flow))) == {"sampler", "steps"}
    assert default_values(VAE(VAE.configure(SMALL))) == {}


class Called(nn.Module):
    """A network that takes its batch by name, as those of diffusers may."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Conv2d(3, 3, 3, padding=1)

    def forward(self, *, scale, sample):
        return self.layer(sample) * scale


class InDictionary(GenerativeModel):
    """A model whose networks are in a dictionary, the largest of which draws nothing."""

    @dataclass(frozen=True)
    class Config:
        """Hyperparameters."""

        steps: int = 3

    def build(self):
        self.networks = nn.ModuleDict({"unused": nn.Linear(50, 50), "drawing": Called()})

    def sample(self, n, generator=None):
        x = torch.zeros(n, 3, 8, 8)
        for _ in range(self.config.steps):
            x = self.networks["drawing"](scale=torch.tensor(0.5), sample=x)
        return x


def test_what_a_network_of_ones_own_costs_is_counted():
    model = InDictionary(InDictionary.Config())
    with counted(model) as cost:
        model.sample(5)
        model.sample(2)
    assert cost.evaluations == 21
