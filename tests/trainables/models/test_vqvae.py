"""VQ-VAE and the convolutional VAE of [HP]: layers, codebook, gradients, schedule, restore."""

import math
from copy import deepcopy
from itertools import pairwise

import pytest
import torch
from torch.nn import functional as F

from trainables.models.convvae import ConvVAE
from trainables.models.quantizer import VectorQuantizer
from trainables.models.vqvae import VQVAE

SMALL = {"image_size": 16, "width": 0.1, "grid": 4, "codes": 12, "embedding_dim": 6}
SMALL_VAE = {"image_size": 16, "width": 0.25, "latent_dim": 5}


def images(n=8, image_size=16, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(n, 3, image_size, image_size, generator=generator) * 2 - 1


def build(seed=0, **changes):
    return VQVAE(VQVAE.configure(SMALL | changes), seed=seed)


def latents(n=5, dim=3, grid=2, seed=0):
    return torch.randn(n, dim, grid, grid, generator=torch.Generator().manual_seed(seed))


def shapes(network):
    return [tuple(p.shape) for p in network.parameters() if p.ndim == 4]


def test_the_layers_are_the_papers():
    model = VQVAE(VQVAE.configure({}))
    residual = [(256, 256, 3, 3), (256, 256, 1, 1)] * 2
    down = [(64, 3, 4, 4), (128, 64, 4, 4), (256, 128, 4, 4), (256, 256, 3, 3)]
    assert shapes(model.encoder) == [*down, *residual, (64, 256, 1, 1)]
    up = [(256, 128, 4, 4), (128, 64, 4, 4), (64, 3, 4, 4)]
    assert shapes(model.decoder) == [(256, 64, 3, 3), *residual, *up]
    assert model.quantizer.codebook.shape == (256, 64)
    assert model.quantizer.codebook.abs().max() <= 1 / 256
    codes = model.encode(images(2, 64))
    assert codes.shape == (2, 64)
    assert model.decode(codes).shape == model.sample(2).shape == (2, 3, 64, 64)


def test_the_convolutional_vaes_layers_are_the_papers():
    model = ConvVAE(ConvVAE.configure({}))
    widths = [3, 32, 64, 128, 256, 512]
    assert shapes(model.encoder) == [(b, a, 3, 3) for a, b in pairwise(widths)]
    back = [512, 256, 128, 64, 32, 32]
    assert shapes(model.decoder) == [
        *((a, b, 3, 3) for a, b in pairwise(back)),
        (3, 32, 3, 3),
    ]
    dense = [tuple(p.shape) for p in model.parameters() if p.ndim == 2]
    assert dense == [(128, 2048), (2048, 64)]
    assert model.sample(2).shape == (2, 3, 64, 64)


@pytest.mark.parametrize(("image_size", "grid"), [(16, 8), (32, 8), (32, 4)])
def test_smaller_images_keep_their_size_and_grid(image_size, grid):
    model = build(image_size=image_size, grid=grid)
    x = images(2, image_size)
    assert model.encode(x).shape == (2, grid**2)
    assert model.reconstruct(x).shape == x.shape


@pytest.mark.parametrize("values", [{"image_size": 24}, {"image_size": 4}, {"grid": 16}])
def test_an_image_that_is_not_grid_times_a_power_of_two_is_refused(values):
    with pytest.raises(ValueError, match="must be 2, 4, 8, … times the grid"):
        build(**values)


def test_an_image_size_that_is_no_power_of_two_is_refused():
    with pytest.raises(ValueError, match="image_size is 24; it must be 8, 16"):
        ConvVAE(ConvVAE.configure({"image_size": 24}))


def test_quantising_takes_the_nearest_entry():
    quantizer = VectorQuantizer(7, 3, "gradient")
    with torch.no_grad():
        quantizer.codebook.normal_(generator=torch.Generator().manual_seed(1))
    z = latents()
    quantized = quantizer(z)
    flat = z.permute(0, 2, 3, 1).reshape(-1, 3)
    expected = torch.cdist(flat, quantizer.codebook).argmin(1)
    assert torch.equal(quantized.indices.flatten(), expected)
    entries = quantizer.codebook[expected].view(5, 2, 2, 3).permute(0, 3, 1, 2)
    torch.testing.assert_close(quantized.vectors, entries)
    torch.testing.assert_close(quantized.commitment_loss, F.mse_loss(z, entries))


def test_who_gets_which_gradient():
    """The encoder gets the decoder's and the commitment loss's, and the codebook that of its own loss."""
    quantizer = VectorQuantizer(7, 3, "gradient")
    z = latents().requires_grad_()
    weight = latents(seed=1)
    quantized = quantizer(z)
    for output, for_z, for_codebook in (
        ((quantized.vectors * weight).sum(), weight, None),
        (quantized.codebook_loss, None, "entries"),
        (quantized.commitment_loss, 2 * (z - quantized.vectors).detach() / z.numel(), None),
    ):
        gradients = torch.autograd.grad(output, [z, quantizer.codebook], retain_graph=True, allow_unused=True)
        assert (gradients[0] is None) == (for_z is None)
        if for_z is not None:
            torch.testing.assert_close(gradients[0], for_z)
        assert (gradients[1] is None) == (for_codebook is None)
    flat, indices = z.detach().permute(0, 2, 3, 1).reshape(-1, 3), quantized.indices.flatten()
    expected = torch.zeros(7, 3)
    for row, index in zip(flat, indices, strict=True):
        expected[index] += 2 * (quantizer.codebook.detach()[index] - row) / z.numel()
    (gradient,) = torch.autograd.grad(quantized.codebook_loss, quantizer.codebook)
    torch.testing.assert_close(gradient, expected)


def test_perplexity_counts_the_codes_in_use():
    quantizer = VectorQuantizer(6, 1, "gradient")
    with torch.no_grad():
        quantizer.codebook.copy_(torch.arange(6.0)[:, None])
    z = torch.tensor([0.0, 1.0, 2.0, 3.0]).view(1, 1, 2, 2)
    assert quantizer(z).perplexity.item() == pytest.approx(4.0)
    assert quantizer(torch.zeros(3, 1, 2, 2)).perplexity.item() == pytest.approx(1.0)


def test_moving_averages_follow_the_papers_appendix():
    decay, epsilon, codes = 0.9, 1e-5, 4
    quantizer = VectorQuantizer(codes, 3, "ema", decay=decay, epsilon=epsilon, revive_below=0.0)
    with torch.no_grad():
        quantizer.codebook.normal_(generator=torch.Generator().manual_seed(0))
    counts, sums = quantizer.counts.clone().double(), quantizer.sums.clone().double()
    quantizer.train()
    for step in range(3):
        z = latents(seed=step)
        flat = z.permute(0, 2, 3, 1).reshape(-1, 3)
        nearest = torch.cdist(flat, quantizer.codebook).argmin(1)
        quantizer(z)
        for k in range(codes):
            counts[k] = decay * counts[k] + (1 - decay) * (nearest == k).sum()
            sums[k] = decay * sums[k] + (1 - decay) * flat[nearest == k].sum(0)
        smoothed = (counts + epsilon) / (counts.sum() + codes * epsilon) * counts.sum()
        torch.testing.assert_close(
            quantizer.codebook.double(), sums / smoothed[:, None], atol=1e-5, rtol=1e-5
        )
    before = quantizer.codebook.clone()
    quantizer.eval()(latents(seed=9))
    assert torch.equal(quantizer.codebook, before)


def test_a_dead_entry_restarts_at_a_vector_of_the_batch_and_stays_alive():
    quantizer = VectorQuantizer(3, 2, "ema", revive_below=0.5)
    with torch.no_grad():
        quantizer.codebook.copy_(torch.tensor([[0.0, 0.0], [50.0, 50.0], [60.0, 60.0]]))
        quantizer.sums.copy_(quantizer.codebook)
        quantizer.counts.copy_(torch.tensor([1.0, 0.1, 0.1]))
    z = torch.randn(4, 2, 2, 2, generator=torch.Generator().manual_seed(0))
    quantizer.train()(z, torch.Generator().manual_seed(1))
    flat = z.permute(0, 2, 3, 1).reshape(-1, 2)
    for k in (1, 2):
        assert torch.cdist(quantizer.codebook[k : k + 1], flat).min() < 0.01
        assert quantizer.counts[k] == 1.0
        torch.testing.assert_close(quantizer.sums[k], quantizer.codebook[k], atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("codebook", ["gradient", "ema"])
def test_training_lowers_the_error_and_uses_several_codes(codebook):
    model = build(codebook=codebook, learning_rate=3e-3)
    x = F.interpolate(images(16, 4), 16, mode="bilinear").contiguous()
    history = [model.training_step(x) for _ in range(120)]
    assert history[-1]["squared_error"] < 0.6 * history[0]["squared_error"]
    assert history[-1]["perplexity"] > 2


def test_the_loss_is_the_papers():
    model, reference = build(), build()
    model.optimizers["autoencoder"].step = lambda: None
    x = images()
    losses = model.training_step(x)
    z = reference.train().encoder(x)
    nearest = torch.cdist(z.permute(0, 2, 3, 1).reshape(-1, 6), reference.quantizer.codebook).argmin(1)
    e = reference.quantizer.codebook[nearest].view(8, 4, 4, 6).permute(0, 3, 1, 2)
    output = reference.decoder(z + (e - z).detach())
    loss = F.mse_loss(output, (x + 1) / 2) + F.mse_loss(e, z.detach()) + 0.25 * F.mse_loss(z, e.detach())
    loss.backward()
    total = losses["squared_error"] + losses["codebook"] + 0.25 * losses["commitment"]
    torch.testing.assert_close(total, loss.detach())
    for a, b in zip(model.parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad, atol=1e-6, rtol=1e-4)


def test_the_prior_is_each_positions_histogram_and_the_elbo_counts_it():
    model = build()
    x = images()
    codes = model.encode(x)
    for _ in range(2):
        model._follow(codes.view(8, 4, 4))
    frequency = torch.stack([(codes == k).float().mean(0) for k in range(12)], 1)
    expected = 0.99**2 / 12 + (1 - 0.99**2) * frequency
    torch.testing.assert_close(model.prior, expected)
    terms = model.elbo(x)
    positions = range(16)
    log_prior = [sum(math.log(expected[p, code[p]]) for p in positions) for code in codes]
    torch.testing.assert_close(terms.kl_divergence, -torch.tensor(log_prior), rtol=1e-4, atol=1e-3)
    normal = torch.distributions.Normal(model.reconstruct(x), 1.0)
    torch.testing.assert_close(
        terms.log_likelihood, normal.log_prob(x).flatten(1).sum(1), rtol=1e-4, atol=1e-2
    )
    drawn = torch.full_like(model.prior, 0.0)
    drawn[:, 3] = 1.0
    model.prior.copy_(drawn)
    torch.testing.assert_close(model.sample(2), model.decode(torch.full((2, 16), 3)))


def test_beta_reaches_its_end_where_the_paper_says():
    model = ConvVAE(ConvVAE.configure(SMALL_VAE))

    def beta_at(step):
        model.steps.fill_(step)
        return model.current_beta()

    assert beta_at(0) == beta_at(5049) == 1e-6
    assert beta_at(5050) == pytest.approx(1.1e-6)
    assert beta_at(11_449) == pytest.approx(1e-6 * 1.1**128)
    assert beta_at(11_450) == beta_at(100_000) == 0.21471


def test_the_vaes_loss_is_squared_error_plus_beta_kl():
    settings = SMALL_VAE | {"beta_start": 0.1}
    model, reference = (ConvVAE(ConvVAE.configure(settings), seed=3) for _ in range(2))
    model.optimizers["autoencoder"].step = lambda: None
    x = images()
    losses = model.training_step(x)
    mean, log_variance = reference.train().encode(x)
    noise = torch.randn(mean.shape, generator=torch.Generator().manual_seed(3))
    output = reference.decoder(mean + (0.5 * log_variance).exp() * noise)
    posterior = torch.distributions.Normal(mean, (0.5 * log_variance).exp())
    kl = torch.distributions.kl_divergence(posterior, torch.distributions.Normal(0.0, 1.0)).sum() / 8
    error = F.mse_loss(output, (x + 1) / 2, reduction="sum") / 8
    (error + 0.1 * kl).backward()
    torch.testing.assert_close(losses["squared_error"], error.detach())
    torch.testing.assert_close(losses["kl"], kl.detach())
    for a, b in zip(model.parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize(
    ("model_class", "settings"),
    [
        (VQVAE, SMALL),
        (VQVAE, SMALL | {"codebook": "ema"}),
        (ConvVAE, SMALL_VAE | {"beta_warm_up": 1, "beta_every": 1}),
    ],
)
def test_a_restored_model_goes_on_bit_by_bit(model_class, settings):
    model = model_class(model_class.configure(settings), seed=1)
    for seed in range(3):
        model.training_step(images(seed=seed))
    state = deepcopy(model.training_state())
    other = model_class(model_class.configure(settings), seed=2)
    other.load_training_state(state)
    a, b = (m.training_step(images(seed=7)) for m in (model, other))
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert all(
        torch.equal(p, q)
        for p, q in zip(model.state_dict().values(), other.state_dict().values(), strict=True)
    )
    assert torch.equal(model.sample(2), other.sample(2))
