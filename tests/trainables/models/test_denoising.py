"""Flow and diffusion on data of N(m, s²), whose velocity, denoiser and path from noise are known."""

import math

import pytest
import torch
from torch import nn

from trainables.models.edm import EDM
from trainables.models.flow import Flow
from trainables.models.unet import UNet

M, S = 0.1, 0.15  # samples stay inside [−1, 1], where nothing is clipped
SMALL = {"image_size": 16, "width": 0.25}


class Analytic(nn.Module):
    """In the network's place: a function of noisy images and levels (B, 1, 1, 1), and an offset."""

    def __init__(self, function, offset=0.0):
        super().__init__()
        self.function, self.offset = function, offset

    def forward(self, x, level, labels=None):
        return self.function(x, level[:, None, None, None]) + self.offset


def velocity(x, t):
    """E[x − ε | x_t]: the regression of two Gaussians."""
    return M + (t * S**2 - (1 - t)) / ((1 - t) ** 2 + t**2 * S**2) * (x - t * M)


def edm_network(deviation):
    """F of the denoiser E[x | x + σε] = m + s²/(s² + σ²)·(x + σε − m), by the paper's equations again."""

    def network(scaled, level):
        sigma = (4 * level).exp()
        total = sigma**2 + deviation**2
        noisy = scaled * total.sqrt()
        denoised = M + S**2 / (S**2 + sigma**2) * (noisy - M)
        return (denoised - deviation**2 / total * noisy) / (sigma * deviation / total.sqrt())

    return network


def analytic(model_class, offset=0.0, **changes):
    model = model_class(model_class.configure(SMALL | changes))
    function = velocity if model_class is Flow else edm_network(model.config.data_deviation)
    model.network = Analytic(function, offset)
    return model.double()


def gaussian_images(n, seed=0):
    noise = torch.randn(n, 3, 16, 16, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return M + S * noise


def exact_samples(model, n):
    noise = torch.randn(n, 3, 16, 16, generator=torch.Generator().manual_seed(3)).double()
    if isinstance(model, Flow):
        return M + S * noise
    high = model.config.sigma_max
    return M + (high * noise - M) * S / math.sqrt(S**2 + high**2)


def error(model, n=4):
    samples = model.sample(n, torch.Generator().manual_seed(3))
    return float((samples - exact_samples(model, n)).abs().max())


@pytest.mark.parametrize(("sampler", "order"), [("euler", 1), ("midpoint", 2), ("heun", 2)])
def test_flow_samples_converge_to_the_exact_path(sampler, order):
    few, many = (error(analytic(Flow, sampler=sampler, steps=steps)) for steps in (100, 200))
    assert math.log2(few / many) == pytest.approx(order, abs=0.15)


@pytest.mark.parametrize(("sampler", "order"), [("euler", 1), ("heun", 2)])
def test_edm_samples_converge_to_the_exact_path(sampler, order):
    """σ_min is so low that the last step, down to 0, is exact enough."""
    few, many = (
        error(analytic(EDM, sampler=sampler, steps=steps, sigma_min=1e-5, sigma_max=10.0))
        for steps in (100, 200)
    )
    assert math.log2(few / many) == pytest.approx(order, abs=0.15)


def least_loss(model):
    """Return the expected loss at its minimum: the target's conditional variance, over times or levels."""
    u = torch.distributions.Normal(0.0, 1.0).icdf((torch.arange(20_000).double() + 0.5) / 20_000)
    if isinstance(model, EDM):
        sigma = (model.config.noise_mean + model.config.noise_deviation * u).exp()
        deviation = model.config.data_deviation
        weight = (sigma**2 + deviation**2) / (sigma * deviation) ** 2
        return float((weight * S**2 * sigma**2 / (S**2 + sigma**2)).mean())
    t = (
        u.sigmoid()
        if model.config.times == "logit_normal"
        else (torch.arange(20_000).double() + 0.5) / 20_000
    )
    return float((S**2 + 1 - (t * S**2 - (1 - t)) ** 2 / ((1 - t) ** 2 + t**2 * S**2)).mean())


@pytest.mark.parametrize(
    ("model_class", "changes"),
    [(Flow, {}), (Flow, {"times": "uniform"}), (EDM, {}), (EDM, {"noise_mean": 0.3, "data_deviation": 0.2})],
)
def test_the_exact_network_has_the_least_loss(model_class, changes):
    """And one that is off by δ everywhere has δ² more of it."""
    x = gaussian_images(3000)
    exact, off = (float(analytic(model_class, offset, **changes).loss(x)) for offset in (0.0, 0.3))
    assert exact == pytest.approx(least_loss(analytic(model_class, **changes)), rel=0.02)
    assert off - exact == pytest.approx(0.3**2, rel=0.02)


@pytest.mark.parametrize("deviation", [0.25, 0.5])
def test_edms_network_has_inputs_and_targets_of_variance_1_at_any_level(deviation):
    model = EDM(EDM.configure(SMALL | {"data_deviation": deviation}))
    sigma = torch.tensor([0.002, 0.1, 0.5, 3.0, 80.0], dtype=torch.float64)
    skip, out, into = model.scalings(sigma)
    one = torch.ones(5, dtype=torch.float64)
    torch.testing.assert_close(into**2 * (sigma**2 + deviation**2), one)
    # The target of F is (x − c_skip·(x + σε))/c_out.
    torch.testing.assert_close(((1 - skip) ** 2 * deviation**2 + skip**2 * sigma**2) / out**2, one)


def test_a_fresh_edm_answers_nothing_and_has_a_loss_of_1():
    model = EDM(EDM.configure(SMALL | {"data_deviation": S})).double()
    assert float(model.loss(gaussian_images(500) - M).detach()) == pytest.approx(1, rel=0.02)


@pytest.mark.parametrize(
    ("model_class", "changes", "level_of_normal"),
    [
        (Flow, {"times": "logit_normal"}, lambda z: z.sigmoid()),
        (EDM, {"noise_mean": -0.7, "noise_deviation": 1.9}, lambda z: (-0.7 + 1.9 * z) / 4),
        (Flow, {"times": "uniform"}, lambda z: torch.special.ndtr(z)),
    ],
)
def test_levels_of_noise_have_the_distribution_that_was_asked_for(model_class, changes, level_of_normal):
    model, seen = analytic(model_class, **changes), []
    exact = model.network.function
    model.network.function = lambda x, level: seen.append(level.flatten()) or exact(x, level)
    model.loss(gaussian_images(4000)[:, :, :2, :2])
    quantiles = torch.linspace(0.05, 0.95, 19, dtype=torch.float64)
    expected = level_of_normal(torch.special.ndtri(quantiles))
    torch.testing.assert_close(torch.cat(seen).quantile(quantiles), expected, atol=0.05, rtol=0.05)


def test_edms_levels_are_the_papers():
    """Equation 5 with ρ = 7, and a straight line with ρ = 1."""
    levels = EDM(EDM.configure(SMALL | {"steps": 18})).sigmas()
    assert len(levels) == 19 and levels[-1] == 0
    assert levels[0] == pytest.approx(80) and levels[17] == pytest.approx(0.002)
    assert levels[5] == pytest.approx((80 ** (1 / 7) + 5 / 17 * (0.002 ** (1 / 7) - 80 ** (1 / 7))) ** 7)
    straight = EDM(EDM.configure(SMALL | {"steps": 5, "rho": 1.0, "sigma_max": 8.0, "sigma_min": 4.0}))
    assert straight.sigmas() == pytest.approx([8, 7, 6, 5, 4, 0])


class Labeled(nn.Module):
    """Answers a label everywhere, and −1 where none is given."""

    def forward(self, x, level, labels=None):
        labels = torch.full((len(x),), -1) if labels is None else labels
        return labels[:, None, None, None].expand_as(x).to(x)


def test_guidance_goes_beyond_what_labels_alone_would_do():
    model = Flow(Flow.configure(SMALL | {"classes": 4, "guidance": 1.5}))
    model.network = Labeled()
    labels = torch.tensor([0, 3])
    told = model.train().output(torch.zeros(2, 3, 16, 16), torch.zeros(2), labels)
    assert told[:, 0, 0, 0].tolist() == [0, 3]  # training knows of no guidance
    found = model.eval().output(torch.zeros(2, 3, 16, 16), torch.zeros(2), labels)
    torch.testing.assert_close(found[:, 0, 0, 0], torch.tensor([-1 + 1.5 * 1, -1 + 1.5 * 4.0]))
    assert torch.equal(
        model.output(torch.zeros(2, 3, 16, 16), torch.zeros(2), None), -torch.ones(2, 3, 16, 16)
    )


def test_samples_have_the_labels_that_are_asked_for_or_the_datas_shares():
    model = Flow(Flow.configure(SMALL | {"classes": 3, "steps": 1, "sampler": "euler"}))
    model.network, seen = Labeled(), []
    model.network.register_forward_hook(lambda _, inputs, __: seen.append(inputs[2]))
    model.class_shares.copy_(torch.tensor([0.75, 0.0, 0.25]))
    model.sample(2, torch.Generator(), torch.tensor([1, 0]))
    model.sample(400, torch.Generator().manual_seed(0))
    assert seen[0].tolist() == [1, 0]
    shares = torch.bincount(seen[1], minlength=3) / 400
    torch.testing.assert_close(shares, model.class_shares, atol=0.07, rtol=0)


def test_a_tenth_of_the_labels_is_left_out_in_training():
    model = Flow(Flow.configure(SMALL | {"classes": 3}))
    found = model.some_left_out(torch.full((5000,), 2))
    assert set(found.tolist()) == {-1, 2}
    assert float((found == -1).float().mean()) == pytest.approx(0.1, abs=0.02)


def stirred(network, seed=0):
    """Give all weights some value: fresh networks have zeros where a path ends."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter += 0.2 * torch.randn(parameter.shape, generator=generator)
    return network.double()


@pytest.mark.parametrize(("size", "channels"), [(16, 1), (64, 3)])
def test_the_network_sees_each_image_by_itself_its_level_and_its_label(size, channels):
    network = stirred(UNet(size, channels, 0.25, classes=3))
    x = torch.randn(4, channels, size, size, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    level = torch.tensor([0.1, 0.5, 0.9, 0.5], dtype=torch.float64)
    labels = torch.tensor([0, 1, 2, -1])
    with torch.no_grad():
        together = network(x, level, labels)
        assert together.shape == x.shape
        torch.testing.assert_close(network(x[1:2], level[1:2], labels[1:2]), together[1:2])
        torch.testing.assert_close(network(x, level)[3], together[3])  # −1 is no label
        assert not torch.allclose(network(x, level)[:3], together[:3])
        assert not torch.allclose(network(x, level + 0.1, labels), together)


def test_sizes_that_do_not_end_at_4_pixels_are_refused():
    with pytest.raises(ValueError, match="image_size is 48; the U-Net needs a power of two"):
        Flow(Flow.configure({"image_size": 48}))


@pytest.mark.parametrize(
    ("model_class", "changes", "sentence"),
    [
        (Flow, {"sampler": "rk4"}, "sampler is 'rk4'; choose euler, midpoint, heun"),
        (EDM, {"steps": 0}, "steps is 0; it must be 1 or more"),
        (Flow, {"times": "normal"}, "times is 'normal'; choose logit_normal, uniform"),
    ],
)
def test_settings_out_of_range_are_told(model_class, changes, sentence):
    with pytest.raises(ValueError, match=sentence):
        model_class(model_class.configure(SMALL | changes))
