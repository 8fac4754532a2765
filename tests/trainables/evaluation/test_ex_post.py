"""Ex post density estimation: what is fitted to codes, and the images decoded from draws of it."""

import numpy as np
import pytest
import torch

from trainables.data.batches import to_float, to_uint8
from trainables.evaluation.ex_post import IMAGES, decoded, draw_mixture, draws, posteriors
from trainables.models.vae import VAE

SMALL = {"image_size": 16, "width": 0.1, "latent_dim": 3}


def test_posteriors_are_those_of_the_rows():
    images = np.random.default_rng(0).integers(0, 256, (700, 16, 16, 3), np.uint8)
    rows = np.arange(5, 600)
    model = VAE(VAE.configure(SMALL))
    found = posteriors(model, images, rows)
    with torch.no_grad():
        expected = model.eval().encode(to_float(images[rows]))
    torch.testing.assert_close(found, expected)


def test_a_large_set_gives_as_many_images_as_it_takes(monkeypatch):
    """Spread over all of them, which may lie in the order of their classes."""
    images = np.zeros((10, 16, 16, 3), np.uint8)
    images[5:] = 255
    model, seen = VAE(VAE.configure(SMALL)), []
    encode = model.encode
    monkeypatch.setattr(model, "encode", lambda x: seen.append(x[:, 0, 0, 0]) or encode(x))
    posteriors(model, images, np.repeat(np.arange(10), IMAGES // 5))
    seen = torch.cat(seen)
    assert len(seen) == IMAGES and int((seen > 0).sum()) == IMAGES // 2


def clusters(n=4000):
    """Codes of three clusters on a line, far from each other, in units of very different size."""
    random = np.random.default_rng(0)
    places = random.choice([-6.0, 0.0, 6.0], n, p=[0.5, 0.3, 0.2])
    z = np.stack([places + 0.2 * random.normal(size=n), 0.02 * random.normal(size=n) + 5], 1)
    return torch.tensor(z, dtype=torch.float32)


def test_both_densities_have_the_codes_moments_and_the_mixture_their_clusters_too():
    z = clusters()
    found = draws((z, torch.full_like(z, -30.0)), 4000)
    for drawn in found.values():
        torch.testing.assert_close(drawn.mean(0), z.mean(0), atol=0.3, rtol=0)
        torch.testing.assert_close(drawn.std(0) / z.std(0), torch.ones(2), atol=0.08, rtol=0)
    between = {
        name: float(((d[:, 0].abs() > 1) & (d[:, 0].abs() < 5)).float().mean()) for name, d in found.items()
    }
    assert between["ex_post_mixture"] < 0.01 < 0.4 < between["ex_post"]


def test_the_width_of_posteriors_is_in_both():
    z = clusters()
    for drawn in draws((0 * z, torch.full_like(z, 2 * np.log(3.0))), 4000).values():
        torch.testing.assert_close(drawn.std(0), torch.tensor([3.0, 3.0]), atol=0.2, rtol=0)


def test_few_codes_have_a_mixture_of_fewer():
    assert draw_mixture(torch.randn(5, 8, generator=torch.Generator().manual_seed(0)), 7).shape == (7, 8)


def test_images_are_those_that_codes_stand_for():
    model = VAE(VAE.configure(SMALL))
    z = torch.randn(7, 3, generator=torch.Generator().manual_seed(0))
    samples = decoded(model, z, (16, 16, 3))
    assert samples.shape == (7, 16, 16, 3)
    with torch.no_grad():
        expected = to_uint8(model.eval().decode(z))
    assert (samples.int() - expected.int()).abs().max() <= 1


@pytest.mark.parametrize("part", [0, 1])
def test_codes_that_are_not_finite_are_no_draws(part):
    codes = [torch.zeros(40, 3), torch.zeros(40, 3)]
    codes[part][7, 1] = 1e9 if part else torch.nan  # a log-variance whose deviation overflows
    with pytest.raises(FloatingPointError, match="the codes of training images are not finite"):
        draws(tuple(codes), 20)
