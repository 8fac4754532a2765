"""The LEGO-face VAE: the slides' layers and loss, clipping, decay, exact restore, morphing."""

import math

import pytest
import torch
from torch.distributions import Independent, Normal
from torch.nn import functional as F

from trainables.models.lego_vae import LegoVAE, morph

SMALL = {"image_size": 16, "width": 0.25, "hidden": 12, "latent_dim": 5}


def images(n=8, image_size=16, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(n, 3, image_size, image_size, generator=generator) * 2 - 1


def build(seed=0, dtype=torch.float32, **changes):
    return LegoVAE(LegoVAE.configure(SMALL | changes), seed=seed).to(dtype)


def test_the_layers_are_the_slides():
    model = LegoVAE(LegoVAE.configure({"hidden": 130, "latent_dim": 9}))
    assert model.features == model.trunk[0].in_features == 256 * 9 * 9 == 20_736
    shapes = [tuple(p.shape) for name, p in model.named_parameters() if p.ndim > 1]
    convolutions = [(16, 3, 4, 4), (32, 16, 3, 3), (64, 32, 2, 2), (128, 64, 2, 2), (256, 128, 2, 2)]
    heads = [(130, 20_736), (65, 130), (9, 65), (65, 130), (9, 65)]
    dense = [(130, 9), (130, 130)]
    transposed = [(130, 128), (128, 64), (64, 32), (32, 16), (16, 8), (8, 3)]
    assert shapes == convolutions + heads + dense + [(*pair, 4, 4) for pair in transposed]
    assert model.sample(2).shape == (2, 3, 128, 128)


@pytest.mark.parametrize("image_size", [16, 32, 64])
def test_smaller_images_come_out_at_their_own_size(image_size):
    model = build(image_size=image_size)
    x = images(2, image_size)
    reconstruction = model.reconstruct(x)
    assert reconstruction.shape == x.shape
    assert -1 <= reconstruction.min() < reconstruction.max() <= 1


def test_the_loss_is_squared_error_plus_kl_both_summed():
    """The gradient is that of the authors' loss, and it is clipped as theirs is."""
    model, reference = (build(dtype=torch.float64, dropout=0.0) for _ in range(2))
    model.optimizers["autoencoder"].step = lambda: None
    x = images().double()
    losses = model.training_step(x)
    mean, log_variance = reference.encode(x)
    noise = torch.randn(mean.shape, generator=torch.Generator().manual_seed(0), dtype=mean.dtype)
    output = reference.decoder(mean + (0.5 * log_variance).exp() * noise)
    error = F.mse_loss(output, (x + 1) / 2, reduction="sum")
    kl = -0.5 * torch.sum(1 + log_variance - mean**2 - log_variance.exp())
    (error + kl).backward()
    norm = torch.sqrt(sum(p.grad.square().sum() for p in reference.parameters()))
    assert norm > 2
    for a, b in zip(model.parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad / norm, atol=1e-6, rtol=1e-4)
    assert losses["squared_error"].item() == pytest.approx(error.item() / len(x))
    assert losses["kl"].item() == pytest.approx(kl.item() / len(x))
    assert losses["gradient_norm"].item() == pytest.approx(norm.item() / len(x))


def test_a_small_gradient_is_left_as_it_is():
    model, reference = build(gradient_clip=1e9), build(gradient_clip=1e12)
    for m in (model, reference):
        m.optimizers["autoencoder"].step = lambda: None
        m.training_step(images())
    for a, b in zip(model.parameters(), reference.parameters(), strict=True):
        assert torch.equal(a.grad, b.grad)


def test_elbo_is_the_validation_loss_up_to_its_constant():
    model = build(dtype=torch.float64)
    x = images().double()
    terms = model.elbo(x, torch.Generator().manual_seed(3))
    mean, log_variance = model.encode(x)
    noise = torch.randn(mean.shape, generator=torch.Generator().manual_seed(3), dtype=mean.dtype)
    output = model.decoder(mean + (0.5 * log_variance).exp() * noise)
    likelihood = Independent(Normal(output, math.sqrt(0.5)), 3).log_prob((x + 1) / 2)
    torch.testing.assert_close(terms.log_likelihood, likelihood)
    loss = ((output - (x + 1) / 2) ** 2).sum((1, 2, 3)) + terms.kl_divergence
    constant = x[0].numel() / 2 * math.log(math.pi)
    torch.testing.assert_close(loss, -terms.elbo - constant)


def test_learning_rate_falls_linearly_and_stays():
    model = build(decay_steps=4, learning_rate=1e-3, final_learning_rate=2e-4)
    seen = []
    for step in range(6):
        model.training_step(images(4, seed=step))
        seen.append(model.optimizers["autoencoder"].param_groups[0]["lr"])
    assert seen == pytest.approx([1e-3, 8e-4, 6e-4, 4e-4, 2e-4, 2e-4])
    constant = build()
    constant.training_step(images(4))
    assert constant.optimizers["autoencoder"].param_groups[0]["lr"] == 1e-3


def test_dropout_drops_its_share_in_training_alone(monkeypatch):
    model = build(dropout=0.3, image_size=64)
    seen = []
    model.trunk.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    x = images(16, 64)
    with torch.no_grad():
        model.train()
        model.encode(x)
        raw = model.convolutions((x + 1) / 2).flatten(1)
        assert (seen[0] == 0).float().mean().item() == pytest.approx(0.3, abs=0.01)
        kept = seen[0] != 0
        torch.testing.assert_close(seen[0][kept], raw[kept] / 0.7)
        model.eval()
        assert torch.equal(model.encode(x)[0], model.encode(x)[0])


def test_restores_bit_equal_in_the_midst_of_a_decay():
    changes = {"decay_steps": 5, "dropout": 0.5}
    straight, interrupted = build(**changes), build(**changes)
    for step in range(4):
        straight.training_step(images(seed=step))
    for step in range(2):
        interrupted.training_step(images(seed=step))
    state = interrupted.training_state()
    torch.manual_seed(12345)  # the process's own random state must not matter
    resumed = build(seed=99, **changes)
    resumed.load_training_state(state)
    for step in (2, 3):
        resumed.training_step(images(seed=step))
    for (name, a), b in zip(straight.state_dict().items(), resumed.state_dict().values(), strict=True):
        assert torch.equal(a, b), name
    rates = [m.optimizers["autoencoder"].param_groups[0]["lr"] for m in (straight, resumed)]
    assert rates[0] == rates[1] < 1e-3


def test_training_lowers_the_loss():
    model = build(dropout=0.1)
    x = torch.cat([torch.full((4, 3, 16, 16), value) for value in (-0.8, 0.8)])
    first = model.training_step(x)
    for _ in range(120):
        last = model.training_step(x)
    assert last["squared_error"] < 0.3 * first["squared_error"]


def test_a_morph_runs_straight_from_one_reconstruction_to_the_other():
    model = build()
    x = images(2)
    frames = morph(model, x[0], x[1], steps=5)
    assert frames.shape == (5, 3, 16, 16)
    ends = model.reconstruct(x)
    torch.testing.assert_close(frames[[0, -1]], ends)
    with torch.no_grad():
        middle = model.decode(model.encode(x)[0].mean(0, keepdim=True))
    torch.testing.assert_close(frames[2], middle[0])
    with pytest.raises(ValueError, match="steps is 1"):
        morph(model, x[0], x[1], steps=1)


def test_sizes_that_the_layers_cannot_have_are_refused():
    with pytest.raises(ValueError, match=r"image_size is 48; it must be one of \(16, 32, 64, 128\)"):
        build(image_size=48)
    with pytest.raises(ValueError, match=r"dropout 1\.0"):
        build(dropout=1.0)
