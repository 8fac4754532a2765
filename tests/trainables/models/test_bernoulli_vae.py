"""The MNIST VAEs: the layers of [PML], the Bernoulli bound, averaged weights, exact restore."""

import pytest
import torch
from torch.distributions import Bernoulli, Independent, Normal, kl_divergence
from torch.nn import functional as F

from trainables.models.bernoulli_vae import BernoulliVAE

SMALL = {"image_size": 8, "hidden": 10, "width": 0.25, "latent_dim": 3}


def images(n=6, image_size=8, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(n, 1, image_size, image_size, generator=generator) * 2 - 1


def build(seed=0, **changes):
    return BernoulliVAE(BernoulliVAE.configure(SMALL | changes), seed=seed)


def weights(model):
    return [tuple(p.shape) for p in model.networks.parameters() if p.ndim > 1]


def test_the_layers_are_the_papers():
    dense = BernoulliVAE(BernoulliVAE.configure({}))
    assert weights(dense) == [(400, 784), (4, 400), (400, 2), (784, 400)]
    deeper = BernoulliVAE(BernoulliVAE.configure({"layers": 2}))
    assert weights(deeper) == [(400, 784), (400, 400), (4, 400), (400, 2), (400, 400), (784, 400)]
    assert [type(module).__name__ for module in deeper.networks["decoder"]][1::2] == [
        "ReLU",
        "ReLU",
        "Unflatten",
    ]
    convolutional = BernoulliVAE(BernoulliVAE.configure({"networks": "convolutional"}))
    encoder = [(16, 1, 3, 3), (32, 16, 3, 3), (4, 1568)]
    assert weights(convolutional) == [*encoder, (1568, 2), (32, 16, 3, 3), (16, 1, 3, 3)]
    for model in (dense, convolutional):
        assert model.sample(2).shape == (2, 1, 28, 28)
    halves = convolutional.networks["encoder"][:4](torch.zeros(1, 1, 28, 28))
    assert halves.shape == (1, 32, 7, 7)


def test_sine_units_have_the_frequency_they_are_given():
    model = BernoulliVAE(BernoulliVAE.configure({"frequency": 2.0, "latent_dim": 3}), seed=4)
    first = model.networks["decoder"][0]
    assert first.weight.std().item() == pytest.approx(2.0, rel=0.1)
    z = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
    hidden = model.networks["decoder"][:2](z)
    torch.testing.assert_close(hidden, torch.sin(z @ first.weight.T + first.bias))


@pytest.mark.parametrize("networks", ["dense", "convolutional"])
def test_the_bound_is_that_of_bernoulli_pixels(networks):
    model = build(networks=networks).double()
    x = images().double()
    terms = model.elbo(x, torch.Generator().manual_seed(3))
    mean, log_variance = model.encode(x)
    posterior = Normal(mean, (0.5 * log_variance).exp())
    noise = torch.randn(mean.shape, generator=torch.Generator().manual_seed(3), dtype=mean.dtype)
    logits = model.logits(mean + posterior.stddev * noise)
    p = (x + 1) / 2
    # The log-likelihood is linear in the pixel, between the log-probabilities of 0 and of 1.
    likelihood = Bernoulli(logits=logits, validate_args=False)
    expected = p * likelihood.log_prob(torch.ones_like(p)) + (1 - p) * likelihood.log_prob(
        torch.zeros_like(p)
    )
    torch.testing.assert_close(terms.log_likelihood, expected.sum((1, 2, 3)))
    kl = kl_divergence(Independent(posterior, 1), Independent(Normal(torch.zeros(3).double(), 1.0), 1))
    torch.testing.assert_close(terms.kl_divergence, kl)
    torch.testing.assert_close(terms.elbo, terms.log_likelihood - terms.kl_divergence)
    torch.testing.assert_close(
        model.log_likelihood(x, 2 * torch.sigmoid(logits) - 1), terms.log_likelihood, rtol=1e-5, atol=1e-5
    )


def test_a_step_descends_the_bound():
    model, reference = build(), build()
    model.optimizers["autoencoder"].step = lambda: None
    x = images()
    losses = model.training_step(x)
    mean, log_variance = reference.encode(x)
    noise = torch.randn(mean.shape, generator=torch.Generator().manual_seed(0))
    probabilities = torch.sigmoid(reference.logits(mean + (0.5 * log_variance).exp() * noise))
    cross_entropy = F.binary_cross_entropy(probabilities, (x + 1) / 2, reduction="sum") / len(x)
    kl = -0.5 * torch.sum(1 + log_variance - mean**2 - log_variance.exp()) / len(x)
    (cross_entropy + kl).backward()
    for a, b in zip(model.networks.parameters(), reference.networks.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad, atol=1e-6, rtol=1e-4)
    assert losses["cross_entropy"].item() == pytest.approx(cross_entropy.item(), rel=1e-5)
    assert losses["kl"].item() == pytest.approx(kl.item(), rel=1e-5)


def test_averaged_weights_are_the_running_mean_of_the_steps():
    model = build(averaging=0.3)
    average = [p.detach().clone() for p in model.networks.parameters()]
    for step in range(1, 40):
        model.training_step(images(seed=step))
        share = max(0.3, min(1.0, 10 / (1 + step)))
        average = [
            a + share * (p.detach() - a) for a, p in zip(average, model.networks.parameters(), strict=True)
        ]
    for a, b in zip(average, model.average.parameters(), strict=True):
        torch.testing.assert_close(a, b)
    x = images(seed=99)
    model.eval()
    averaged = model.encode(x)[0]
    model.train()
    assert not torch.allclose(averaged, model.encode(x)[0], atol=1e-5)
    plain = build()
    assert torch.equal(plain.eval().encode(x)[0], plain.train().encode(x)[0])


@pytest.mark.parametrize("averaging", [0.0, 0.01])
def test_restores_bit_equal(averaging):
    straight, interrupted = build(averaging=averaging), build(averaging=averaging)
    for step in range(4):
        straight.training_step(images(seed=step))
    for step in range(2):
        interrupted.training_step(images(seed=step))
    torch.manual_seed(12345)  # the process's own random state must not matter
    resumed = build(seed=99, averaging=averaging)
    resumed.load_training_state(interrupted.training_state())
    for step in (2, 3):
        resumed.training_step(images(seed=step))
    for (name, a), b in zip(straight.state_dict().items(), resumed.state_dict().values(), strict=True):
        assert torch.equal(a, b), name
    x = images(seed=7)
    assert torch.equal(straight.elbo(x).elbo, resumed.elbo(x).elbo)


@pytest.mark.parametrize("networks", ["dense", "convolutional"])
def test_training_raises_the_bound(networks):
    model = build(networks=networks, learning_rate=1e-2)
    x = torch.cat([torch.full((8, 1, 8, 8), value) for value in (-0.9, 0.9)])
    before = model.elbo(x).elbo.mean()
    for _ in range(150):
        model.training_step(x)
    assert model.elbo(x).elbo.mean() > before + 15
    assert (model.reconstruct(x) - x).abs().mean() < 0.1


def test_settings_that_cannot_be():
    with pytest.raises(ValueError, match="image_size is 10; two halvings need a multiple of 4"):
        build(networks="convolutional", image_size=10)
    with pytest.raises(ValueError, match="networks is 'deep'"):
        build(networks="deep")
    with pytest.raises(ValueError, match="layers is 0"):
        build(layers=0)
    with pytest.raises(ValueError, match="averaging is 1"):
        build(averaging=1.0)
