"""The recipe "modern": who gets which gradient in which phase, exact resume, sizes, priors, running means."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from trainables.models.fitted_prior import fit
from trainables.models.losses import kl_divergence, reparameterize
from trainables.models.modern import ModernGAN, ModernVAE, ModernVAEGAN
from trainables.models.modern_networks import Decoder, Discriminator, Encoder
from trainables.models.relativistic import random_shift, relative_error, translated

SMALL = {"image_size": 16, "width": 0.2, "latent_dim": 6}
PHASES = {"VAE phase": 0.0, "ramp": 0.2, "constant rate": 0.4, "falling rate": 0.8}
MODELS = (ModernVAE, ModernVAEGAN, ModernGAN)


def images(n=12, size=16, channels=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(n, size, size, channels, generator=generator).permute(0, 3, 1, 2) * 2 - 1


def build(model_class=ModernVAEGAN, seed=0, dtype=torch.float32, progress=0.0, **changes):
    model = model_class(model_class.configure(SMALL | changes), seed=seed).to(dtype)
    model.progress = progress
    return model


def without_steps(model, monkeypatch):
    for optimizer in model.optimizers.values():
        monkeypatch.setattr(optimizer, "step", lambda: None)
    return model


def plain_losses(model, x):
    """The losses of the module's docstring, one after the other, of one graph without leaves."""
    pairs = (len(x) + 1) // 2
    originals = x[:pairs]
    mean, log_variance = model.encoder(originals)
    model.prior.follow(mean, log_variance)
    z = reparameterize(mean, log_variance, model.generator)
    samples = model.prior_sample(len(x) - pairs, model.generator)
    fake = model.decoder(torch.cat([z, samples]))
    shift = random_shift(x.shape[-1], model.generator)
    stages, real_logits = model.discriminator(translated(x, shift))
    fake_stages, logits = model.discriminator(translated(fake, shift))
    error = (originals - fake[:pairs]).square().mean()
    variance = originals.var(0, correction=1).mean()
    shown = torch.cat([translated(x, shift), translated(fake, shift)]).detach().requires_grad_()
    (gradient,) = torch.autograd.grad(model.discriminator(shown)[1].sum(), shown, create_graph=True)
    return {
        "kl": 2 / x[0].numel() * kl_divergence(mean, log_variance).sum(1).mean(),
        "reconstruction": error / variance + relative_error(stages, [a[:pairs] for a in fake_stages]),
        "generator": F.softplus(real_logits - logits).mean(),
        "generator, samples": F.softplus(real_logits - logits)[pairs:].sum() / len(x),
        "discriminator": F.softplus(logits - real_logits).mean(),
        "penalty": gradient.square().flatten(1).sum(1).mean(),
    }


# Coefficients of the losses that arrive at each network; "w" is the adversarial weight over γ.
ROUTING = {
    "encoder": {"kl": "beta", "reconstruction": 1.0, "generator": "w"},
    "decoder": {"reconstruction": 1.0, "generator": "w"},
    "discriminator": {"discriminator": 1.0, "penalty": 8 * 0.05},
}


@pytest.mark.parametrize("encoder_adversarial", [True, False])
@pytest.mark.parametrize("network", list(ROUTING))
@pytest.mark.parametrize("progress", [0.2, 0.6])
def test_each_network_gets_its_own_losses_alone(network, encoder_adversarial, progress, monkeypatch):
    changes = {"beta": 7.0, "gamma": 4.0, "encoder_adversarial": encoder_adversarial, "progress": progress}
    model = without_steps(build(dtype=torch.float64, **changes), monkeypatch)
    reference = build(dtype=torch.float64, **changes)
    x = images().double()
    model.training_step(x)
    losses = plain_losses(reference.train(), x)
    weight = {0.2: 0.5, 0.6: 1.0}[progress] / 4.0
    coefficients = dict(ROUTING[network])
    if network == "encoder" and not encoder_adversarial:
        coefficients["generator"] = 0.0
    weights = {"beta": 7.0, "w": weight}
    total = sum(weights.get(c, c) * losses[name] for name, c in coefficients.items())
    own = list(getattr(reference, network).parameters())
    for parameter, wanted in zip(
        getattr(model, network).parameters(), torch.autograd.grad(total, own), strict=True
    ):
        torch.testing.assert_close(parameter.grad, wanted, atol=1e-9, rtol=1e-6)


@pytest.mark.parametrize("model_class", [ModernVAE, ModernVAEGAN])
def test_the_vae_phase_is_a_vae(model_class, monkeypatch):
    model = without_steps(build(model_class, dtype=torch.float64, beta=7.0), monkeypatch)
    reference = build(model_class, dtype=torch.float64, beta=7.0).train()
    x = images().double()
    model.training_step(x)
    mean, log_variance = reference.encoder(x)
    error = (x - reference.decoder(reparameterize(mean, log_variance, reference.generator))).square().mean()
    kl = kl_divergence(mean, log_variance).sum(1).mean()
    (error / x.var(0).mean() + 2 * 7.0 / x[0].numel() * kl).backward()
    for network in ("encoder", "decoder"):
        for parameter, wanted in zip(
            getattr(model, network).parameters(), getattr(reference, network).parameters(), strict=True
        ):
            torch.testing.assert_close(parameter.grad, wanted.grad)
    if model_class is ModernVAEGAN:
        assert all(p.grad is None for p in model.discriminator.parameters())


def test_beta_weighs_the_kl_against_summed_squared_errors(monkeypatch):
    """At twice the images' variance, N/2 times the loss is ½‖x − x̂‖²/v + β·KL."""
    model = without_steps(build(ModernVAE, dtype=torch.float64, beta=3.0), monkeypatch)
    x = images().double()
    losses = model.training_step(x)
    variance = model.pixel_variance.item()
    assert variance == pytest.approx(x.var(0).mean().item())
    summed = 0.5 * losses["pixel"] * variance * x[0].numel() / variance + 3.0 * losses["kl"]
    loss = losses["pixel"] + model.kl_weight(x) * losses["kl"]
    torch.testing.assert_close(loss * x[0].numel() / 2, summed)


def test_the_gans_players_get_the_pairing_losses(monkeypatch):
    model = without_steps(build(ModernGAN, dtype=torch.float64, penalty=0.0), monkeypatch)
    reference = build(ModernGAN, dtype=torch.float64, penalty=0.0).train()
    x = images().double()
    model.training_step(x)
    noise = torch.randn(len(x), 6, generator=reference.generator)
    fake = reference.decoder(noise.double())
    shift = random_shift(16, reference.generator)
    real_logits = reference.discriminator(translated(x, shift))[1]
    logits = reference.discriminator(translated(fake, shift))[1]
    for network, loss in (
        ("decoder", F.softplus(real_logits - logits).mean()),
        ("discriminator", F.softplus(logits - real_logits).mean()),
    ):
        own = list(getattr(reference, network).parameters())
        expected = torch.autograd.grad(loss, own, retain_graph=True)
        for parameter, wanted in zip(getattr(model, network).parameters(), expected, strict=True):
            torch.testing.assert_close(parameter.grad, wanted)


def test_penalties_are_due_every_eighth_step(monkeypatch):
    model = build(progress=0.5)
    seen = []
    original = nn.Module.__call__

    def count(module, *arguments):
        seen.append(module)
        return original(module, *arguments)

    monkeypatch.setattr(Discriminator, "__call__", count)
    passes = []
    for step in range(10):
        seen.clear()
        model.training_step(images(seed=step))
        passes.append(len(seen))
    assert passes == [3, 2, 2, 2, 2, 2, 2, 2, 3, 2]


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("model_class", MODELS)
def test_training_goes_on_bit_equal(model_class, phase):
    straight, interrupted = build(model_class), build(model_class)
    for model, steps in ((straight, range(12)), (interrupted, range(6))):
        train(model, steps, PHASES[phase])
    resumed = build(model_class, seed=99)
    resumed.load_training_state(interrupted.training_state())
    assert resumed.progress == interrupted.progress
    train(resumed, range(6, 12), PHASES[phase])
    for (name, a), b in zip(straight.state_dict().items(), resumed.state_dict().values(), strict=True):
        assert torch.equal(a, b), name


@pytest.mark.parametrize("boundary", [0.15, 0.25, 0.5])
def test_training_goes_on_bit_equal_across_phases(boundary):
    """Six steps before and six behind where a phase begins, stopped just there."""
    straight, interrupted = build(), build()
    train(straight, range(12), boundary - 0.06, 0.01)
    train(interrupted, range(6), boundary - 0.06, 0.01)
    resumed = build(seed=99)
    resumed.load_training_state(interrupted.training_state())
    train(resumed, range(6, 12), boundary - 0.06, 0.01)
    for (name, a), b in zip(straight.state_dict().items(), resumed.state_dict().values(), strict=True):
        assert torch.equal(a, b), name


def train(model, steps, progress, increment=0.0):
    for step in steps:
        model.progress = progress + increment * step
        model.training_step(images(seed=step))


@pytest.mark.parametrize("model_class", MODELS)
@pytest.mark.parametrize(("size", "channels"), [(16, 3), (32, 1), (32, 3), (64, 1), (64, 3)])
@pytest.mark.parametrize("dtype", [None, torch.bfloat16])
def test_every_size_color_and_precision(model_class, size, channels, dtype):
    model = build(model_class, image_size=size, channels=channels, progress=0.5)
    x = images(4, size, channels)
    with torch.autocast("cpu", dtype or torch.bfloat16, enabled=dtype is not None):
        losses = model.training_step(x)
    assert all(math.isfinite(value) for value in losses.values())
    assert all(value.dtype == torch.float32 for value in losses.values())
    generated = model.sample(3)
    assert generated.shape == (3, channels, size, size)
    assert generated.dtype == torch.float32
    assert generated.abs().max() <= 1
    if model.has_encoder:
        assert model.reconstruct(x).shape == x.shape


@pytest.mark.parametrize("size", [8, 24, 48])
def test_other_sizes_are_refused(size):
    with pytest.raises(ValueError, match=rf"image_size is {size}; the recipe modern needs a power of two"):
        build(image_size=size)


@pytest.mark.parametrize("changes", [{"gamma": 0.0}, {"vae_share": 1.0}, {"ramp_share": -0.1}])
def test_weights_and_shares_out_of_range_are_refused(changes):
    with pytest.raises(ValueError, match=next(iter(changes))):
        build(**changes)


def test_the_pixels_variance_is_of_more_than_one_image():
    """A batch of two has one reconstruction in the adversarial phase."""
    model = build(progress=0.5)
    model.pixel_variance.fill_(0.25)
    model.training_step(images(2))
    assert float(model.pixel_variance) == 0.25
    model.training_step(images(6))
    assert float(model.pixel_variance) != 0.25


def test_stages_are_deeper_for_larger_images():
    shapes = [a.shape[1:] for a in Discriminator(64, 3, 1.0).trunk(images(1, 64))]
    assert shapes == [(16, 32, 32), (32, 16, 16), (64, 8, 8), (128, 4, 4)]


def test_the_discriminator_judges_each_image_by_itself():
    network = Discriminator(16, 3, 0.2)
    x = images(5)
    torch.testing.assert_close(network(x)[1][2:3], network(x[2:3])[1])


def test_fresh_transposed_convolutions_are_nearest_upsampling_and_a_3x3_convolution():
    layer = Decoder(32, 3, 0.5, 8).stages[0][0]
    h = torch.randn(2, layer.in_channels, 4, 4)
    upsampled = layer(h)
    # Inside, a constant input gives a constant output: no checkerboard.
    flat = layer(torch.ones(1, layer.in_channels, 4, 4))[:, :, 1:-1, 1:-1]
    torch.testing.assert_close(flat, flat[:, :, :1, :1].expand_as(flat), atol=1e-5, rtol=1e-4)
    kernel = kernel_of_nearest(layer.weight)
    expected = F.conv2d(F.interpolate(h, scale_factor=2.0), kernel, padding=1)
    torch.testing.assert_close(upsampled, expected, atol=1e-4, rtol=1e-4)


def kernel_of_nearest(weight):
    """Return conv2d's 3×3 kernel that, summed over 2×2 windows and flipped, is this transposed 4×4 one."""
    kernel = torch.zeros(*weight.shape[:2], 3, 3)
    for row in range(3):
        for column in range(3):
            above = kernel[:, :, row - 1, column] if row else 0
            left = kernel[:, :, row, column - 1] if column else 0
            corner = kernel[:, :, row - 1, column - 1] if row and column else 0
            kernel[:, :, row, column] = weight[:, :, row, column] - above - left - corner
    return kernel.flip(2, 3).transpose(0, 1)


def test_fresh_pixel_shuffles_draw_no_checkerboard():
    last = Decoder(16, 3, 0.2, 8).last
    drawn = last(torch.randn(2, last[0].in_channels, 8, 8))
    blocks = drawn.unfold(2, 2, 2).unfold(3, 2, 2).flatten(4)
    torch.testing.assert_close(blocks, blocks[..., :1].expand_as(blocks))


@torch.no_grad()
def test_fresh_layers_keep_the_size_of_signals():
    torch.manual_seed(0)
    x = torch.randn(64, 3, 32, 32)
    sizes = [a.square().mean().item() for a in Discriminator(32, 3, 1.0).trunk(x)]
    assert all(0.4 < size < 1.6 for size in sizes), sizes
    decoder = Decoder(32, 3, 1.0, 64).eval()
    h = decoder.project(torch.randn(64, 64)).unflatten(1, (4, 4, -1)).permute(0, 3, 1, 2)
    assert decoder.stages[0][0](h).square().mean() == pytest.approx(2 / 1.04 * h.square().mean(), rel=0.5)
    assert decoder(torch.randn(64, 64)).abs().mean() < 0.6


def test_fresh_posteriors_have_about_one_variance():
    encoder = Encoder(32, 3, 1.0, 64)
    _, log_variance = encoder(images(32, 32))
    assert log_variance.std() < 0.3


@pytest.mark.parametrize("model_class", [ModernVAE, ModernVAEGAN])
def test_images_come_from_running_means(model_class):
    model = build(model_class, progress=0.4)
    for step in range(3):
        model.training_step(images(seed=step))
    plain = build(model_class)
    plain.load_state_dict(model.state_dict())
    plain.averaged_decoder, plain.averaged_encoder = plain.decoder, plain.encoder
    averaged = {
        f"{name}.{key}": value
        for name in ("decoder", "encoder")
        for key, value in getattr(model, f"averaged_{name}").module.state_dict().items()
    }
    assert not torch.equal(averaged["decoder.project.weight"], model.decoder.project.weight)
    plain.load_state_dict(averaged, strict=False)
    noise = [torch.Generator().manual_seed(5) for _ in range(2)]
    torch.testing.assert_close(model.sample(4, noise[0]), plain.sample(4, noise[1]))
    torch.testing.assert_close(model.reconstruct(images()), plain.reconstruct(images()))


def test_samples_are_of_the_fitted_prior_or_the_standard_one():
    fitted, standard = build(ModernVAE), build(ModernVAE, fitted_prior=False)
    for model in (fitted, standard):
        model.prior.mean.fill_(3.0)
        model.prior.mean_covariance.copy_(0.25 * torch.eye(6))
    generator = torch.Generator().manual_seed(0)
    z = fitted.prior_sample(20_000, generator)
    assert z.mean().item() == pytest.approx(3.0, abs=0.01)
    assert z.std().item() == pytest.approx(0.5, abs=0.01)
    assert standard.prior_sample(20_000, generator).mean().item() == pytest.approx(0.0, abs=0.02)


def test_what_is_evaluated_has_the_prior_of_the_encoder_that_is_evaluated():
    """A batch of eight widens the codes of an encoder that trains, and the prior that follows them."""
    model = build(ModernVAE)
    generator = torch.Generator().manual_seed(1)
    mixing = torch.randn(6, 6, generator=generator)
    means = 3 + torch.randn(5000, 6, generator=generator) @ mixing
    model.settle_prior(fit(means, torch.full_like(means, -2.0)))
    running = model.prior.mean.clone()
    model.eval()
    z = model.prior_sample(50_000, generator)
    torch.testing.assert_close(z.mean(0), means.mean(0), atol=0.1, rtol=0)
    expected = means.T.cov(correction=0) + math.exp(-2.0) * torch.eye(6)
    torch.testing.assert_close(z.T.cov(), expected, atol=0.3, rtol=0.03)
    model.train()
    torch.testing.assert_close(model.prior_sample(50_000, generator).mean(0), running, atol=0.05, rtol=0)
    resumed = build(ModernVAE)
    resumed.load_training_state(model.training_state())
    assert torch.equal(resumed.settled_prior.mean, model.settled_prior.mean)


@pytest.mark.parametrize("fitted_prior", [True, False])
def test_the_elbo_has_the_kl_to_the_models_prior(fitted_prior):
    model = build(ModernVAE, fitted_prior=fitted_prior)
    train(model, range(5), 0.3)
    terms = model.elbo(images(), torch.Generator().manual_seed(1))
    torch.testing.assert_close(terms.elbo, terms.log_likelihood - terms.kl_divergence)
    mean, log_variance = model.encode(images())
    kl = model.prior.kl_divergence if fitted_prior else kl_divergence
    torch.testing.assert_close(terms.kl_divergence, kl(mean, log_variance).sum(1))
    torch.testing.assert_close(terms.unit_kl.sum(1), terms.kl_divergence)


@pytest.mark.parametrize("model_class", [ModernGAN, ModernVAEGAN])
def test_the_discriminator_may_learn_at_its_own_rate(model_class):
    x, rates = torch.rand(4, 3, 16, 16) * 2 - 1, {}
    for own in (None, 5e-4):
        model = build(model_class, progress=0.9, learning_rate=2e-3, discriminator_learning_rate=own)
        model.training_step(x)
        rates[own] = {name: o.param_groups[0]["lr"] for name, o in model.optimizers.items()}
    (player,) = rates[None].keys() - {"discriminator"}
    assert rates[None]["discriminator"] == rates[None][player] == rates[5e-4][player] > 0
    assert rates[5e-4]["discriminator"] == pytest.approx(rates[None]["discriminator"] / 4)


def test_rates_are_the_configurations_whatever_the_checkpoint_says():
    """PBT changes them while it goes on from another trial's state."""
    before = build(learning_rate=1e-3)
    train(before, range(2), 0.3)
    after = build(learning_rate=4e-3, discriminator_learning_rate=None)
    after.load_training_state(before.training_state())
    train(after, [2], 0.3)
    rates = {group["lr"] for optimizer in after.optimizers.values() for group in optimizer.param_groups}
    assert rates == {4e-3 * 3 / 50}
