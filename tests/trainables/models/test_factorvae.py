"""FactorVAE: its losses written the plain way, its total correlation by closed form."""

import math

import pytest
import torch

from trainables.models.factorvae import FactorVAE, permute_units

SMALL = {"image_size": 16, "width": 0.1, "latent_dim": 6, "discriminator_hidden": 200}


def images(n=12, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(n, 3, 16, 16, generator=generator, dtype=dtype) * 2 - 1


def build(seed=0, dtype=torch.float64, **changes):
    return FactorVAE(FactorVAE.configure(SMALL | changes), seed=seed).to(dtype)


def test_permuting_keeps_each_units_values_and_breaks_their_ties():
    codes = torch.randn(2000, 1).expand(2000, 3) + torch.tensor([0.0, 10.0, 20.0])
    permuted = permute_units(codes, torch.Generator().manual_seed(0))
    assert torch.equal(permuted.sort(0).values, codes.sort(0).values)
    correlation = torch.corrcoef(permuted.T)
    assert (correlation - torch.eye(3)).abs().max() < 0.1  # it was 1


def test_each_network_gets_its_own_losses(monkeypatch):
    model, reference = build(gamma=7.0), build(gamma=7.0)
    for optimizer in model.optimizers.values():
        monkeypatch.setattr(optimizer, "step", lambda: None)
    x = images()
    model.training_step(x)
    mean, log_variance = reference.encoder(x)
    noise = torch.randn(mean.shape, generator=reference.generator, dtype=x.dtype)
    z = mean + (0.5 * log_variance).exp() * noise
    error = 0.5 * (x - reference.decoder(z)).square().sum((1, 2, 3)).mean()
    kl = 0.5 * (mean**2 + log_variance.exp() - 1 - log_variance).sum(1).mean()
    real = reference.discriminator(z)
    loss = error + kl + 7.0 * (real.sigmoid().log() - (1 - real.sigmoid()).log()).mean()
    permuted = reference.discriminator(permute_units(z.detach(), reference.generator))
    cost = -0.5 * (real.sigmoid().log().mean() + (1 - permuted.sigmoid()).log().mean())
    for name, wanted in (("encoder", loss), ("decoder", loss), ("discriminator", cost)):
        parameters = list(getattr(reference, name).parameters())
        expected = torch.autograd.grad(wanted, parameters, retain_graph=True)
        for parameter, gradient in zip(getattr(model, name).parameters(), expected, strict=True):
            torch.testing.assert_close(parameter.grad, gradient, atol=1e-9, rtol=1e-7)


def test_its_discriminator_finds_the_total_correlation_of_correlated_codes(monkeypatch):
    """Two units that correlate by ρ have TC = −½ log(1 − ρ²)."""
    model = build(
        dtype=torch.float32, latent_dim=2, discriminator_hidden=640, discriminator_learning_rate=1e-3
    )
    monkeypatch.setattr(model.optimizers["autoencoder"], "step", lambda: None)
    rho, generator, found = 0.9, torch.Generator().manual_seed(3), []
    x = torch.zeros(256, 3, 1, 1)

    def encode(x):
        a, b = torch.randn(2, len(x), generator=generator)
        codes = torch.stack([a, rho * a + math.sqrt(1 - rho**2) * b], 1)
        return codes.requires_grad_(), torch.full_like(codes, -30.0)

    monkeypatch.setattr(model, "encode", encode)
    monkeypatch.setattr(
        model, "decode", lambda z: torch.zeros_like(x) * z.sum() * model.decoder.layers[0].bias.sum()
    )
    monkeypatch.setattr(model.encoder, "parameters", lambda: iter([]))
    for _ in range(400):
        found.append(model.training_step(x)["total_correlation"].item())
    assert sum(found[-100:]) / 100 == pytest.approx(-0.5 * math.log(1 - rho**2), abs=0.15)


def test_it_restores_bit_equal():
    straight, interrupted = build(dtype=torch.float32), build(dtype=torch.float32)
    for step in range(3):
        straight.training_step(images(seed=step).float())
    interrupted.training_step(images(seed=0).float())
    resumed = build(seed=99, dtype=torch.float32)
    resumed.load_training_state(interrupted.training_state())
    for step in (1, 2):
        resumed.training_step(images(seed=step).float())
    for (name, a), b in zip(straight.state_dict().items(), resumed.state_dict().values(), strict=True):
        assert torch.equal(a, b), name


def test_the_discriminator_is_the_papers():
    discriminator = FactorVAE(FactorVAE.configure({"image_size": 16, "latent_dim": 10})).discriminator
    linear = [layer for layer in discriminator if isinstance(layer, torch.nn.Linear)]
    assert [layer.in_features for layer in linear] == [10, 1000, 1000, 1000, 1000, 1000]
