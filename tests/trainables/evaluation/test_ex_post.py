"""Ex post density estimation: the moments that are fitted, and the images decoded from them."""

import numpy as np
import torch

from trainables.data.batches import to_float, to_uint8
from trainables.evaluation.ex_post import IMAGES, aggregate_posterior, generate_ex_post
from trainables.models.fitted_prior import fit
from trainables.models.vae import VAE

SMALL = {"image_size": 16, "width": 0.1, "latent_dim": 3}


def test_moments_are_those_of_the_rows_codes():
    images = np.random.default_rng(0).integers(0, 256, (700, 16, 16, 3), np.uint8)
    rows = np.arange(5, 600)
    model = VAE(VAE.configure(SMALL))
    density = aggregate_posterior(model, images, rows)
    model.eval()
    with torch.no_grad():
        mean, log_variance = model.encode(to_float(images[rows]))
    exact = fit(mean, log_variance)
    torch.testing.assert_close(density.mean, exact.mean)
    torch.testing.assert_close(density.covariance(), exact.covariance())


def test_a_large_set_gives_as_many_images_as_it_takes(monkeypatch):
    images = np.zeros((10, 16, 16, 3), np.uint8)
    model, seen = VAE(VAE.configure(SMALL)), []
    encode = model.encode
    monkeypatch.setattr(model, "encode", lambda x: seen.append(len(x)) or encode(x))
    aggregate_posterior(model, images, np.zeros(IMAGES + 700, np.int64))
    assert sum(seen) == IMAGES


def test_images_are_decoded_draws_of_the_density():
    model = VAE(VAE.configure(SMALL))
    mean = torch.tensor([[1.0, -2.0, 0.5]])
    certain = fit(mean.expand(4, -1), torch.full((4, 3), -30.0))
    samples = generate_ex_post(model, certain, 7)
    assert samples.shape == (7, 16, 16, 3)
    with torch.no_grad():
        expected = to_uint8(model.eval().decode(mean))
    assert (samples.int() - expected.int()).abs().max() <= 1
