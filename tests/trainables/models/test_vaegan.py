"""VAE-GAN: who gets which gradient, against losses written the plain way; shapes; exact restore."""

import pytest
import torch
from torch import nn

from trainables.models.gan import GAN
from trainables.models.losses import binary_cross_entropy, kl_divergence, reparameterize, squared_error
from trainables.models.vae import VAE
from trainables.models.vaegan import VAEGAN, awake

SMALL = {"image_size": 16, "width": 0.1, "latent_dim": 6}
NETWORKS = ("encoder", "decoder", "discriminator")


def images(n=12, image_size=16, channels=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(n, image_size, image_size, channels, generator=generator).permute(0, 3, 1, 2) * 2 - 1


def build(model_class, seed=0, dtype=torch.float32, **changes):
    return model_class(model_class.configure(SMALL | changes), seed=seed).to(dtype)


def plain_losses(model, x):
    """Equations 7 to 16 of [BVG] written one after the other, for one backward pass a network."""
    c = model.config
    mean, log_variance = model.encoder(x)
    z = reparameterize(mean, log_variance, model.generator)
    z_prior = torch.randn(z.shape, generator=model.generator, dtype=x.dtype)
    reconstruction, generated = model.decoder(z), model.decoder(z_prior)
    swapped = torch.rand((), generator=model.generator) < c.label_swap
    real, fake = (c.fake_label, c.real_label) if swapped else (c.real_label, c.fake_label)
    real, fake = torch.tensor(real), torch.tensor(fake)  # float32, as the model has them
    real_features, real_logits = model.discriminator(x)
    features, reconstruction_logits = model.discriminator(reconstruction)
    _, generated_logits = model.discriminator(generated)
    gan = binary_cross_entropy(real_logits, real) + binary_cross_entropy(generated_logits, fake)
    if c.reconstructions_are_fake:
        gan = gan + binary_cross_entropy(reconstruction_logits, fake)
    fooled = binary_cross_entropy(generated_logits, torch.ones(()))
    if c.reconstructions_are_fake:
        fooled = fooled + binary_cross_entropy(reconstruction_logits, torch.ones(()))
    kl = kl_divergence(mean, log_variance).sum(1).mean()
    feature = squared_error(real_features, features).mean()
    return {"kl": kl, "feature": feature, "gan": gan, "fooled": fooled}


def gradients(loss, network):
    parameters = list(network.parameters())
    found = torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True)
    return [torch.zeros_like(p) if g is None else g for p, g in zip(parameters, found, strict=True)]


# Rows of the routing table: what arrives where, with which coefficient. Everything else must be 0.
ROUTING = {
    "encoder": {"kl": "beta", "feature": 1.0, "gan": 0.0},
    "decoder": {"kl": 0.0, "feature": "gamma", "gan": -1.0},
    "discriminator": {"kl": 0.0, "feature": 0.0, "gan": 1.0},
}


@pytest.mark.parametrize("recipe", ["report", "larsen"])
@pytest.mark.parametrize("network", NETWORKS)
def test_each_network_gets_its_own_losses_alone(recipe, network, monkeypatch):
    changes = {"recipe": recipe, "beta": 7.0, "gamma": 0.3, "equilibrium": False, "label_swap": 0.5}
    model = build(VAEGAN, dtype=torch.float64, **changes)
    reference = build(VAEGAN, dtype=torch.float64, **changes)
    for optimizer in model.optimizers.values():
        monkeypatch.setattr(optimizer, "step", lambda: None)
    x = images().double()
    model.training_step(x)
    losses = plain_losses(reference, x)
    expected = None
    for name, coefficient in ROUTING[network].items():
        weight = {"beta": 7.0, "gamma": 0.3}.get(coefficient, coefficient)
        terms = [weight * g for g in gradients(losses[name], getattr(reference, network))]
        expected = terms if expected is None else [a + b for a, b in zip(expected, terms, strict=True)]
    for parameter, wanted in zip(getattr(model, network).parameters(), expected, strict=True):
        torch.testing.assert_close(parameter.grad, wanted, atol=1e-9, rtol=1e-7)


@pytest.mark.parametrize("reconstructions_are_fake", [True, False])
@pytest.mark.parametrize("network", NETWORKS)
def test_the_non_saturating_loss_is_the_decoders_alone(network, reconstructions_are_fake, monkeypatch):
    changes = {"gamma": 0.3, "label_swap": 0.5, "reconstructions_are_fake": reconstructions_are_fake}
    model = build(VAEGAN, dtype=torch.float64, gan_loss="non_saturating", **changes)
    reference = build(VAEGAN, dtype=torch.float64, **changes)
    for optimizer in model.optimizers.values():
        monkeypatch.setattr(optimizer, "step", lambda: None)
    model.training_step(images().double())
    losses = plain_losses(reference, images().double())
    total = {
        "encoder": losses["kl"] + losses["feature"],
        "decoder": 0.3 * losses["feature"] + losses["fooled"],
        "discriminator": losses["gan"],
    }[network]
    expected = gradients(total, getattr(reference, network))
    for parameter, wanted in zip(getattr(model, network).parameters(), expected, strict=True):
        torch.testing.assert_close(parameter.grad, wanted, atol=1e-9, rtol=1e-7)


@pytest.mark.parametrize("model_class", [VAEGAN, GAN])
def test_images_come_from_the_running_mean_of_the_decoder(model_class):
    model = build(model_class, ema_decay=0.75)
    expected = None
    for step in range(3):
        model.training_step(images(seed=step))
        now = {name: value.clone() for name, value in model.decoder.state_dict().items()}
        expected = expected or now
        expected = {name: 0.75 * expected[name] + 0.25 * now[name] for name in now}
    averaged = model.averaged_decoder.module.state_dict()
    for name in expected:
        if averaged[name].is_floating_point():
            torch.testing.assert_close(averaged[name], expected[name], msg=name)
    plain = build(model_class)
    plain.decoder.load_state_dict(averaged)
    noise = [torch.Generator().manual_seed(5) for _ in range(2)]
    torch.testing.assert_close(model.sample(4, noise[0]), plain.sample(4, noise[1]))
    assert not any(p.requires_grad for p in model.averaged_decoder.parameters())
    with pytest.raises(ValueError, match=r"ema_decay is 1\.0; it must be from 0 to below 1"):
        build(model_class, ema_decay=1.0)


@pytest.mark.parametrize("loss", ["kl", "feature", "gan"])
@pytest.mark.parametrize("network", NETWORKS)
def test_a_loss_reaches_only_the_networks_it_is_meant_for(loss, network, monkeypatch):
    """Silence the other losses' weights and see whether the network's gradient is zero."""
    model = build(VAEGAN, dtype=torch.float64, beta=1.0 if loss == "kl" else 0.0, gamma=1.0)
    for optimizer in model.optimizers.values():
        monkeypatch.setattr(optimizer, "step", lambda: None)
    if loss != "feature":
        monkeypatch.setattr("trainables.models.vaegan.squared_error", lambda a, b: (a * 0 + b * 0).sum(1))
    if loss != "gan":
        monkeypatch.setattr(
            "trainables.models.adversarial.binary_cross_entropy", lambda logits, t: (logits * 0).sum()
        )
    model.training_step(images().double())
    arrived = any(p.grad is not None and p.grad.abs().max() > 0 for p in getattr(model, network).parameters())
    assert arrived == (ROUTING[network][loss] != 0.0)


def count_passes(model, x):
    """Return how often one training step passes forward through each network."""
    forward = dict.fromkeys(NETWORKS, 0)

    def count(name):
        def hook(*_):
            forward[name] += 1

        return hook

    first = {
        "encoder": model.encoder.trunk[0],
        "decoder": model.decoder.layers[0],
        "discriminator": model.discriminator.trunk[0],
    }
    handles = [layer.register_forward_hook(count(name)) for name, layer in first.items()]
    model.training_step(x)
    for handle in handles:
        handle.remove()
    return forward


def test_one_forward_pass_a_network_and_batch():
    assert count_passes(build(VAEGAN), images()) == {"encoder": 1, "decoder": 2, "discriminator": 3}


def test_feature_layers_have_the_papers_sizes():
    x = images(2, 64)
    report = VAEGAN(VAEGAN.configure({"recipe": "report"}))
    larsen = VAEGAN(VAEGAN.configure({"recipe": "larsen"}))
    with torch.no_grad():
        assert report.discriminator(x)[0].shape == (2, 512)
        assert larsen.discriminator(x)[0].shape == larsen.discriminator.features(x).shape == (2, 16384)
        assert report.encoder.trunk[-3].out_features == 2048
        assert larsen.encoder.trunk[-3].out_features == 1024
        assert report.sample(2).shape == (2, 3, 64, 64)


def test_initial_weights_are_the_papers():
    model = VAEGAN(VAEGAN.configure({}))
    weight = model.encoder.trunk[3].weight
    assert weight.std().item() == pytest.approx(0.02, rel=0.02)
    assert model.decoder.layers[1].weight.mean().item() == pytest.approx(1.0, abs=0.002)
    assert all(not p.any() for n, p in model.named_parameters() if n.endswith("bias"))


@pytest.mark.parametrize(
    ("real", "fake", "updated"),
    [
        (0.5, 0.5, {"encoder", "decoder", "discriminator"}),
        (0.1, 0.5, {"encoder", "decoder"}),
        (0.5, 1.5, {"encoder", "discriminator"}),
        (0.1, 1.5, {"encoder", "decoder", "discriminator"}),
    ],
)
def test_larsens_equilibrium_rests_the_network_that_is_ahead(real, fake, updated):
    assert set(awake(torch.tensor(real), torch.tensor(fake))) == updated


@pytest.mark.parametrize(
    "changes", [{}, {"recipe": "larsen"}, {"gan_loss": "non_saturating", "ema_decay": 0.9}]
)
def test_vaegan_restores_bit_equal(changes):
    assert_restores_exactly(VAEGAN, **changes)


@pytest.mark.parametrize("model_class", [VAE, GAN])
def test_baselines_restore_bit_equal(model_class):
    assert_restores_exactly(model_class)


def assert_restores_exactly(model_class, **changes):
    straight = build(model_class, **changes)
    interrupted = build(model_class, **changes)
    for step in range(3):
        straight.training_step(images(seed=step))
    interrupted.training_step(images(seed=0))
    state = interrupted.training_state()
    resumed = build(model_class, seed=99, **changes)
    resumed.load_training_state(state)
    for step in (1, 2):
        resumed.training_step(images(seed=step))
    for (name, a), b in zip(straight.state_dict().items(), resumed.state_dict().values(), strict=True):
        assert torch.equal(a, b), name


@pytest.mark.parametrize("model_class", [VAEGAN, GAN])
def test_the_discriminator_may_learn_at_its_own_rate(model_class):
    model = build(model_class, learning_rate=1e-3, discriminator_learning_rate=2e-4)
    rates = {name: optimizer.param_groups[0]["lr"] for name, optimizer in model.optimizers.items()}
    assert rates.pop("discriminator") == 2e-4
    assert set(rates.values()) == {1e-3}
    assert build(model_class, learning_rate=1e-3).optimizers["discriminator"].param_groups[0]["lr"] == 1e-3


def test_vae_descends_the_negative_elbo():
    model = build(VAE, dtype=torch.float64, beta=3.0)
    reference = build(VAE, dtype=torch.float64, beta=3.0)
    model.optimizers["autoencoder"].step = lambda: None
    x = images().double()
    model.training_step(x)
    mean, log_variance = reference.encoder(x)
    z = mean + (0.5 * log_variance).exp() * torch.randn(
        mean.shape, generator=torch.Generator().manual_seed(0), dtype=x.dtype
    )
    error = 0.5 * ((x - reference.decoder(z)) ** 2).sum((1, 2, 3)).mean()
    kl = 0.5 * (mean**2 + log_variance.exp() - 1 - log_variance).sum(1).mean()
    (error + 3.0 * kl).backward()
    for a, b in zip(model.parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad)


def test_gan_gives_each_network_its_own_loss():
    model = build(GAN, dtype=torch.float64, label_swap=0.0)
    reference = build(GAN, dtype=torch.float64, label_swap=0.0)
    for optimizer in model.optimizers.values():
        optimizer.step = lambda: None
    x = images().double()
    model.training_step(x)
    z = torch.randn(len(x), 6, generator=reference.generator, dtype=x.dtype)
    generated = reference.decoder(z)
    _, real_logits = reference.discriminator(x)
    _, fake_logits = reference.discriminator(generated)
    bce = nn.functional.binary_cross_entropy_with_logits
    gan = bce(real_logits, torch.full_like(real_logits, 0.95)) + bce(
        fake_logits, torch.full_like(fake_logits, 0.05)
    )
    for parameter, wanted in zip(
        model.discriminator.parameters(), gradients(gan, reference.discriminator), strict=True
    ):
        torch.testing.assert_close(parameter.grad, wanted)
    generator_loss = bce(fake_logits, torch.ones_like(fake_logits))
    for parameter, wanted in zip(
        model.decoder.parameters(), gradients(generator_loss, reference.decoder), strict=True
    ):
        torch.testing.assert_close(parameter.grad, wanted)


def test_elbo_is_log_likelihood_minus_kl_and_scores_are_in_evaluation_mode():
    model = build(VAE)
    terms = model.elbo(images(), torch.Generator().manual_seed(1))
    torch.testing.assert_close(terms.elbo, terms.log_likelihood - terms.kl_divergence)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    model.sample(3)
    model.reconstruct(images())
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())


def test_typing_errors_name_what_is_valid():
    with pytest.raises(ValueError, match=r"VAEGAN has no hyperparameter 'betta'; it has: image_size, .*beta"):
        VAEGAN.configure({"betta": 3})
    with pytest.raises(ValueError, match=r"VAEGAN has no recipe 'larson'; its recipes: report, larsen"):
        VAEGAN.configure({"recipe": "larson"})
    with pytest.raises(ValueError, match="image_size is 28; it must be a multiple of 8"):
        build(VAE, image_size=28)
