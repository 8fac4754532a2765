"""The four densities' trainables report the same scores, each true to its own model."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from trainables.data.batches import to_float
from trainables.data.store import DataError
from trainables.evaluation.likelihoods import likelihood_scores, log_weights, score
from trainables.metrics.likelihood import importance_weighted_bound
from trainables.models import bernoulli_vae, densities
from trainables.models.storage import load_model
from trainables.tune.densities import PPCA, BernoulliVAE, GaussianMixture, train
from trainables.tune.export import export_model

SETTINGS = {
    "dataset": "digits",
    "image_size": 8,
    "channels": 1,
    "batch_size": 64,
    "features": "none",
    "evaluation_samples": 50,
    "images": True,
}
KEYS = {"nats_per_image", "bits_per_dim", "reconstruction_mse"}
CASES = [
    (BernoulliVAE, {"networks": "dense", "hidden": 20}),
    (BernoulliVAE, {"networks": "convolutional", "width": 0.25}),
    (PPCA, {"latent_dim": 3}),
    (GaussianMixture, {"components": 2, "subspace": 10}),
]


@pytest.fixture
def settings(tmp_path_factory):
    return SETTINGS | {"cache_dir": str(tmp_path_factory.getbasetemp() / "images")}


@pytest.mark.parametrize(("trainable_class", "model"), CASES)
def test_every_model_reports_the_same_scores(settings, tmp_path, trainable_class, model):
    trainable = trainable_class(settings | model)
    result = trainable.train()
    assert set(result) >= KEYS
    assert all(math.isfinite(result[key]) for key in KEYS)
    assert set(result["images"]) == {"samples", "reconstructions"}
    held_out = to_float(trainable.store.images[trainable.store.some("validation", 50)])
    direct = score(trainable.model, held_out)
    assert direct["reconstruction_mse"] == pytest.approx(result["reconstruction_mse"], rel=1e-4)
    assert direct["nats_per_image"] == pytest.approx(result["nats_per_image"], rel=0.05)
    trainable.save_checkpoint(str(tmp_path))
    restored = trainable_class(settings | model)
    restored.load_checkpoint(str(tmp_path))
    export_model(trainable_class, settings | model, tmp_path, tmp_path / "model")
    loaded = load_model(tmp_path / "model")
    samples = [
        m.sample(3, torch.Generator().manual_seed(0)) for m in (trainable.model, restored.model, loaded)
    ]
    torch.testing.assert_close(samples[1], samples[0])
    torch.testing.assert_close(samples[2], samples[0])


@pytest.mark.parametrize("trainable_class", [BernoulliVAE, PPCA, GaussianMixture])
def test_other_images_than_the_sweep_s_are_refused(settings, trainable_class):
    with pytest.raises(DataError, match="are not those that the sweep has"):
        trainable_class(settings | {"data_hash": "0" * 64})


def test_a_fitted_density_is_done_after_one_step_and_is_fitted_to_the_training_images(settings):
    trainable = PPCA(settings | {"latent_dim": 3})
    result = trainable.train()
    assert result["done"]
    assert result["epoch"] == 1
    store = trainable.store
    by_hand = densities.PPCA(densities.PPCAConfig(image_size=8, latent_dim=3))
    by_hand.fit(to_float(store.images[store.split("train")]))
    held_out = to_float(store.images[store.some("validation", 50)])
    assert result["nats_per_image"] == pytest.approx(float(by_hand.log_likelihood(held_out).mean()))


def test_half_of_the_images_are_mirrored_and_others_in_each_epoch():
    images = np.arange(40 * 2 * 2, dtype=np.uint8).reshape(40, 2, 2, 1)
    before, seen = images.copy(), []
    model = SimpleNamespace(device=None, training_step=lambda x: seen.append(x.flatten(1)))
    train(model, images, epochs=2, batch_size=16, flip=True)
    np.testing.assert_array_equal(images, before)
    x = to_float(images)
    straight, mirrored = x.flatten(1), x.flip(3).flatten(1)
    turned = []
    for epoch in (torch.cat(seen[:3]), torch.cat(seen[3:])):
        rows = [int(((straight == image).all(1) | (mirrored == image).all(1)).nonzero()) for image in epoch]
        assert sorted(rows) == list(range(40))
        turned.append({row for row, image in zip(rows, epoch, strict=True) if (mirrored[row] == image).all()})
    assert all(10 < len(rows) < 30 for rows in turned)
    assert turned[0] != turned[1]


def test_a_vaes_importance_weighted_bound_lies_between_its_elbo_and_the_likelihood():
    """The likelihood is the integral over the two latents, summed on a fine grid."""
    model = bernoulli_vae.BernoulliVAE(bernoulli_vae.BernoulliVAE.configure({"image_size": 4, "hidden": 9}))
    images = np.random.default_rng(0).integers(0, 256, (60, 4, 4, 1), dtype=np.uint8)
    train(model, images, epochs=20, batch_size=20)
    x = to_float(images)
    axis = torch.linspace(-6, 6, 241)
    grid = torch.cartesian_prod(axis, axis)
    prior = torch.distributions.Normal(0.0, 1.0).log_prob(grid).sum(1)
    with torch.no_grad():
        decoded = model.logits(grid)
        joint = torch.stack(
            [bernoulli_vae.bernoulli_log_likelihood(i.expand_as(decoded), decoded) for i in x]
        )
    evidence = torch.logsumexp((joint + prior).double(), 1) + 2 * math.log(float(axis[1] - axis[0]))
    weights = log_weights(model, x, 2000, torch.Generator().manual_seed(1))
    torch.testing.assert_close(importance_weighted_bound(weights), evidence, atol=0.02, rtol=0)
    scores = score(model, x)
    assert scores["importance_samples"] == 50
    assert scores["nats_importance_weighted"] == pytest.approx(float(evidence.mean()), abs=0.02)
    assert scores["nats_per_image"] < scores["nats_importance_weighted"]
    ppca = densities.PPCA(densities.PPCAConfig(image_size=4, latent_dim=2))
    ppca.fit(x)
    assert "nats_importance_weighted" not in score(ppca, x)


def test_bits_are_of_grey_levels_for_a_gaussian_and_of_binary_pixels_for_a_bernoulli():
    # A uniform density on [0, 1] is one of 8 bits a level (255 steps); a fair coin has one bit a pixel.
    gaussian = likelihood_scores(0.0, 10, densities.LIKELIHOOD)
    assert gaussian["bits_per_dim"] == pytest.approx(math.log2(255))
    coin = likelihood_scores(-10 * math.log(2), 10, bernoulli_vae.BernoulliVAE.likelihood)
    assert coin["bits_per_dim"] == pytest.approx(1.0)
    assert coin["nats_per_image"] == -10 * math.log(2)


def test_training_takes_every_image_once_an_epoch(monkeypatch):
    model = bernoulli_vae.BernoulliVAE(bernoulli_vae.BernoulliVAE.configure({"image_size": 4}))
    seen = []
    monkeypatch.setattr(model, "training_step", lambda x: seen.append(x))
    images = np.arange(11, dtype=np.uint8)[:, None, None, None] * np.ones((1, 4, 4, 1), np.uint8)
    train(model, images, epochs=2, batch_size=4, seed=0)
    assert [len(x) for x in seen] == [4, 4, 3] * 2
    first, second = (torch.cat(seen[i : i + 3])[:, 0, 0, 0] for i in (0, 3))
    assert torch.equal(first.sort().values, to_float(images)[:, 0, 0, 0])
    assert not torch.equal(first, second)


def test_unknown_settings_are_named_with_the_known_ones(settings):
    with pytest.raises(ValueError, match=r"'laten_dim' is no setting of PPCA .*; its settings: latent_dim, "):
        PPCA(settings | {"laten_dim": 3})
    with pytest.raises(ValueError, match="'components' is no setting of BernoulliVAE"):
        BernoulliVAE(settings | {"components": 3})
