"""Samples are checked before they are scored: what breaks the contract gets no number, but a reason."""

import math
from types import SimpleNamespace

import pytest
import torch

from tests.fixtures.settings import SMALL_FACES
from trainables import VAE
from trainables.evaluation.generation import at_once, generate
from trainables.models import vae

LIKE = torch.randint(0, 256, (40, 16, 16, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


class Drawn:
    """A model that draws what it is given, batch after batch."""

    def __init__(self, samples):
        self.samples, self.at = samples, 0

    def sample(self, n, generator):
        self.at += n
        return self.samples[self.at - n : self.at]


def noise(*shape, low=-1.0, high=1.0):
    return torch.rand(shape, generator=torch.Generator().manual_seed(1)) * (high - low) + low


def test_samples_come_as_levels_in_order():
    x = noise(300, 3, 16, 16)
    images = generate(Drawn(x), 300, torch.Generator(), LIKE)
    assert torch.equal(images, ((x + 1) * 127.5).round().to(torch.uint8).permute(0, 2, 3, 1))


def broken(x, value, index):
    x = x.clone()
    x[index, 0, 3, 3] = value
    return x


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_sample_that_is_not_finite_is_never_scored(value):
    """Also in a later batch than the first: clipping would hide infinity, and rounding makes NaN a 0."""
    with pytest.raises(FloatingPointError, match="1 of 50 samples of Drawn are not finite"):
        generate(Drawn(broken(noise(300, 3, 16, 16), value, 270)), 300, torch.Generator(), LIKE)


@pytest.mark.parametrize(
    ("samples", "words"),
    [
        (
            noise(40, 3, 8, 8),
            r"returned \(40, 3, 8, 8\), torch.float32; it should be",
        ),
        (noise(40, 1, 16, 16), r"returned \(40, 1, 16, 16\)"),
        (noise(40, 16, 16, 3), r"returned \(40, 16, 16, 3\)"),
        (noise(39, 3, 16, 16), r"returned \(39, 3, 16, 16\)"),
        (LIKE.permute(0, 3, 1, 2), "torch.uint8"),
        (LIKE.numpy(), "numpy.ndarray"),
        (noise(40, 3, 16, 16, low=0.0, high=255.0), "are from 0.* to 255; they should be in"),
        (noise(40, 3, 16, 16, low=0.0), r"never below 0, and the data are: they seem to be in \[0, 1\]"),
    ],
)
def test_samples_of_another_size_type_or_range_are_refused(samples, words):
    with pytest.raises(ValueError, match=words):
        generate(Drawn(samples), 40, torch.Generator(), LIKE // 2 if "never" in words else LIKE)


def test_bright_samples_of_bright_data_and_collapsed_ones_pass():
    bright = LIKE // 2 + 128
    assert generate(Drawn(noise(40, 3, 16, 16, low=0.0)), 40, torch.Generator(), bright).min() >= 127
    white = torch.ones(40, 3, 16, 16)
    assert (generate(Drawn(white), 40, torch.Generator(), LIKE // 2) == 255).all()


@pytest.fixture(scope="module")
def cache_dir(tmp_path_factory):
    return str(tmp_path_factory.mktemp("cache"))


def build(trainable, cache_dir):
    return trainable(config={**SMALL_FACES, "latent_dim": 6, "cache_dir": cache_dir})


def test_a_trial_whose_samples_are_not_finite_ends_with_the_reason(cache_dir, monkeypatch):
    trial = build(VAE, cache_dir)
    monkeypatch.setattr(trial.model, "sample", lambda n, g: torch.full((n, 3, 16, 16), math.nan))
    result = trial.step()
    assert result["done"] and result["diverged"]
    assert result["flags"] == "samples_not_finite"
    assert math.isnan(result["fd_random"])
    assert "kid_random" not in result


def test_a_trial_whose_likelihood_is_not_finite_ends_with_the_reason(cache_dir, monkeypatch):
    trial = build(VAE, cache_dir)
    elbo = trial.model.elbo

    def infinite(x, generator):
        terms = elbo(x, generator)
        return type(terms)(terms.elbo - math.inf, terms.log_likelihood, terms.kl_divergence)

    monkeypatch.setattr(trial.model, "elbo", infinite)
    result = trial.step()
    assert result["done"] and result["flags"] == "elbo_not_finite"
    assert "elbo" not in result


class Small(vae.VAE):
    """A model that draws images of half the size."""

    def sample(self, n, generator=None):
        return super().sample(n, generator)[..., ::2, ::2]


class SmallTrainable(VAE):
    model_class = Small


def test_a_model_of_the_wrong_size_is_told_before_it_is_trained(cache_dir):
    with pytest.raises(ValueError, match=r"Small.sample\(2\) returned \(2, 3, 8, 8\)"):
        build(SmallTrainable, cache_dir)


def test_large_images_are_drawn_few_at_a_time():
    asked = []
    model = SimpleNamespace(sample=lambda n, _: (asked.append(n), torch.zeros(n, 3, 512, 512))[1], spec=None)
    images = generate(model, 9, torch.Generator(), torch.full((4, 512, 512, 3), 128, dtype=torch.uint8))
    assert asked == [3, 3, 3] and images.shape == (9, 512, 512, 3)
    assert [at_once((side, side)) for side in (16, 64, 128, 4096)] == [250, 250, 62, 1]
