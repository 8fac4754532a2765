"""Learning rates by progress, and running means whose memory is a share of the run."""

import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

from trainables.models.schedule import WARM_UP_STEPS, MeanWeights, power_exponent, power_mean, rate_share


def test_the_rate_rises_stays_and_falls_to_nothing():
    assert rate_share(0, 0.0) == pytest.approx(1 / WARM_UP_STEPS)
    assert rate_share(WARM_UP_STEPS - 1, 0.1) == rate_share(10**6, 0.5) == 1
    assert rate_share(10**6, 0.75) == pytest.approx(0.5)
    assert rate_share(10**6, 1.0) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("width", [0.05, 0.1, 0.2])
def test_the_exponent_has_the_width_asked_for(width):
    """The n-th of a long run of weights ∝ tᵞ: their deviation in units of the last t."""
    t = (torch.arange(200_000, dtype=torch.float64) + 0.5) / 200_000
    weights = t ** power_exponent(width)
    weights /= weights.sum()
    mean = (weights * t).sum()
    assert ((weights * (t - mean).square()).sum() ** 0.5).item() == pytest.approx(width, rel=1e-3)


def test_a_power_mean_weighs_updates_by_their_number():
    network = nn.BatchNorm1d(1)
    averaged = AveragedModel(network, multi_avg_fn=power_mean(0.1), use_buffers=True)
    expected, power = None, power_exponent(0.1) + 1
    for n, value in enumerate([3.0, -1.0, 2.0, 5.0], start=1):
        network.weight.data.fill_(value)
        network.num_batches_tracked.fill_(n)
        averaged.update_parameters(network)
        share = 1 - (1 - 1 / n) ** power
        expected = value if expected is None else expected + share * (value - expected)
    assert averaged.module.weight.item() == pytest.approx(expected)
    assert averaged.module.num_batches_tracked.item() == 4


def test_mean_weights_are_torch_s_averaged_model_beside_the_model():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    averaged = AveragedModel(network, multi_avg_fn=power_mean(0.1), use_buffers=True)
    mean = MeanWeights(network, 0.1)
    for _ in range(5):
        with torch.no_grad():
            network[0].weight.normal_()
        network(torch.randn(4, 3))
        averaged.update_parameters(network)
        mean.update()
    own = {name: value.clone() for name, value in network.state_dict().items()}
    with mean.in_place():
        for name, value in averaged.module.state_dict().items():
            torch.testing.assert_close(network.state_dict()[name], value)
    assert all(torch.equal(value, own[name]) for name, value in network.state_dict().items())
    again = MeanWeights(network, 0.1)
    again.load_state_dict(mean.state_dict())
    with again.in_place():
        torch.testing.assert_close(network[0].weight, averaged.module[0].weight)


@pytest.mark.parametrize("width", [0.0, 0.28, 1.0])
def test_widths_without_a_mean_are_refused(width):
    with pytest.raises(ValueError, match=f"ema_width is {width}; it must lie between 0 and 0.28"):
        power_exponent(width)


def test_a_buffer_that_a_model_assigns_is_averaged_as_one_that_it_moves():
    """`self.codebook = …` makes another tensor of it."""

    class Assigning(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("codebook", torch.zeros(2))
            self.register_buffer("moved", torch.zeros(2))

    network = Assigning()
    mean = MeanWeights(network, 0.1)
    for value in (1.0, 2.0, 4.0):
        network.codebook = torch.full((2,), value)
        network.moved.fill_(value)
        mean.update()
    assert torch.equal(mean.means["codebook"], mean.means["moved"]) and mean.means["moved"][0] > 2
    with mean.in_place():
        assert torch.equal(network.codebook, mean.means["codebook"])
        network.codebook = torch.zeros(2)  # as an evaluation may
    assert network.codebook[0] == network.moved[0] == 4
