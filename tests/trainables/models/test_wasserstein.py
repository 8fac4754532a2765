"""WGAN-GP: the penalty by closed form, who gets which gradient against losses written the plain way."""

import pytest
import torch

from trainables.models.gan import GAN
from trainables.models.vaegan import VAEGAN
from trainables.models.wasserstein import gradient_penalty, mixed

SMALL = {"image_size": 16, "width": 0.1, "latent_dim": 6, "recipe": "wgan_gp"}


def images(n=10, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(n, 3, 16, 16, generator=generator, dtype=torch.float64) * 2 - 1


def build(model_class, seed=0, dtype=torch.float64, **changes):
    return model_class(model_class.configure(SMALL | changes), seed=seed).to(dtype)


def gradients(loss, network):
    found = torch.autograd.grad(
        loss, list(network.parameters()), retain_graph=True, allow_unused=True, materialize_grads=True
    )
    return list(found)


def assert_gradients(network, expected):
    for parameter, wanted in zip(network.parameters(), expected, strict=True):
        torch.testing.assert_close(parameter.grad, wanted, atol=1e-9, rtol=1e-6)


def test_a_linear_critics_penalty_is_that_of_its_slope():
    """D(x) = w·x has slope w everywhere, which gives (‖w‖ − 1)², whose gradient is 2(‖w‖ − 1) w/‖w‖."""
    w = torch.randn(12, dtype=torch.float64, generator=torch.Generator().manual_seed(0), requires_grad=True)
    real, fake = (torch.rand(5, 3, 2, 2, dtype=torch.float64) for _ in range(2))
    penalty = gradient_penalty(lambda x: x.flatten(1) @ w, real, fake)
    norm = w.detach().norm()
    torch.testing.assert_close(penalty.detach(), (norm - 1) ** 2)
    (slope,) = torch.autograd.grad(penalty, w)
    torch.testing.assert_close(slope, 2 * (norm - 1) * w.detach() / norm)


def test_slopes_are_taken_between_a_real_image_and_its_fake():
    """D(x) = ½‖x‖² has slope x, and on the line from (0, 0) to (3, 4) E(5u − 1)² is 25/3 − 5 + 1."""
    n = 40_000
    real, fake = torch.zeros(n, 2), torch.tensor([[3.0, 4.0]]).expand(n, 2)
    generator = torch.Generator().manual_seed(1)
    penalty = gradient_penalty(lambda x: 0.5 * x.square().sum(1), real, fake, generator)
    assert penalty.item() == pytest.approx(25 / 3 - 4, rel=0.02)


def test_a_mixture_takes_each_image_whole_from_one_batch():
    batches = [torch.arange(4000.0).reshape(1000, 4) + offset for offset in (0, 1e6)]
    drawn = mixed(batches, torch.Generator().manual_seed(0))
    first = (drawn == batches[0]).all(1)
    assert ((drawn == batches[1]).all(1) == ~first).all()
    assert first.float().mean().item() == pytest.approx(0.5, abs=0.05)


def test_the_critic_judges_each_image_alone():
    """The penalty is on each image's own slope (sec. 4), so a critic has no batch norm."""
    x = images()
    for model_class in (GAN, VAEGAN):
        critic = build(model_class).discriminator.train()
        torch.testing.assert_close(critic(x)[1][:3], critic(x[:3])[1])
        other = build(model_class, gan_loss="non_saturating").discriminator.train()
        assert not torch.allclose(other(x)[1][:3], other(x[:3])[1])


def test_gan_gives_critic_and_generator_their_losses(monkeypatch):
    model, reference = build(GAN, critic_steps=1), build(GAN, critic_steps=1)
    for optimizer in model.optimizers.values():
        monkeypatch.setattr(optimizer, "step", lambda: None)
    x = images()
    losses = model.training_step(x)
    z = torch.randn(len(x), 6, generator=reference.generator, dtype=x.dtype)
    fake = reference.decoder(z)

    def critic(y):
        return reference.discriminator(y)[1]

    penalty = gradient_penalty(critic, x, fake, reference.generator)
    distance = critic(x).mean() - critic(fake).mean()
    assert_gradients(model.discriminator, gradients(10 * penalty - distance, reference.discriminator))
    assert_gradients(model.decoder, gradients(-critic(fake).mean(), reference.decoder))
    torch.testing.assert_close(losses["wasserstein_distance"], distance.detach())
    torch.testing.assert_close(losses["critic"], (10 * penalty - distance).detach())


@pytest.mark.parametrize("reconstructions_are_fake", [True, False])
def test_vaegan_gives_each_network_its_losses(reconstructions_are_fake, monkeypatch):
    changes = {"beta": 7.0, "gamma": 0.3, "reconstructions_are_fake": reconstructions_are_fake}
    changes["critic_steps"] = 1
    model, reference = build(VAEGAN, **changes), build(VAEGAN, **changes)
    for optimizer in model.optimizers.values():
        monkeypatch.setattr(optimizer, "step", lambda: None)
    x = images()
    model.training_step(x)
    mean, log_variance = reference.encoder(x)
    noise = [torch.randn(mean.shape, generator=reference.generator, dtype=x.dtype) for _ in range(2)]
    reconstruction = reference.decoder(mean + (0.5 * log_variance).exp() * noise[0])
    fakes = [reference.decoder(noise[1])] + [reconstruction] * reconstructions_are_fake
    kl = 0.5 * (mean**2 + log_variance.exp() - 1 - log_variance).sum(1).mean()

    def critic(y):
        return reference.discriminator(y)[1]

    difference = reference.discriminator(x)[0] - reference.discriminator(reconstruction)[0]
    feature = 0.5 * difference.square().sum(1).mean()
    mixture = mixed([fake.detach() for fake in fakes], reference.generator)
    penalty = gradient_penalty(critic, x, mixture, reference.generator)
    fake_score = torch.stack([critic(fake).mean() for fake in fakes]).mean()
    assert_gradients(model.encoder, gradients(7 * kl + feature, reference.encoder))
    assert_gradients(model.decoder, gradients(0.3 * feature - fake_score, reference.decoder))
    critic_loss = fake_score - critic(x).mean() + 10 * penalty
    assert_gradients(model.discriminator, gradients(critic_loss, reference.discriminator))


@pytest.mark.parametrize(("model_class", "rest"), [(GAN, ["decoder"]), (VAEGAN, ["encoder", "decoder"])])
def test_several_steps_of_the_critic_to_one_of_the_others_also_after_a_restart(model_class, rest):
    model = build(model_class, dtype=torch.float32, critic_steps=3)
    moved = []
    for step in range(6):
        if step == 2:  # in the middle of the critic's steps
            state = model.training_state()
            model = build(model_class, seed=9, dtype=torch.float32, critic_steps=3)
            model.load_training_state(state)
        before = {n: [p.clone() for p in getattr(model, n).parameters()] for n in [*rest, "discriminator"]}
        model.training_step(images(seed=step).float())
        moved.append(
            {
                n
                for n, ps in before.items()
                if any((a != b).any() for a, b in zip(ps, getattr(model, n).parameters(), strict=True))
            }
        )
    due = {*rest, "discriminator"}
    assert moved == [{"discriminator"}, {"discriminator"}, due] * 2


@pytest.mark.parametrize("model_class", [GAN, VAEGAN])
def test_the_recipe_is_the_papers_and_typing_errors_are_named(model_class):
    config = model_class.configure({"recipe": "wgan_gp"})
    assert (config.critic_steps, config.gradient_penalty) == (5, 10.0)
    assert (config.learning_rate, config.adam_beta1, config.adam_beta2) == (1e-4, 0.0, 0.9)
    with pytest.raises(ValueError, match=r"gan_loss is 'wgan'; choose .*wasserstein"):
        build(model_class, gan_loss="wgan")
    with pytest.raises(ValueError, match="critic_steps is 0; it must be 1 or more"):
        build(model_class, critic_steps=0)
