"""The LEGO trainable reports the objective of [LEGO], and goes on from a checkpoint as if uninterrupted."""

from itertools import pairwise

import pytest
import torch
from torch.nn import functional as F

from trainables.data.batches import to_float
from trainables.evaluation.generation import EVALUATION_SEED
from trainables.models.losses import kl_divergence, reparameterize
from trainables.tune.evaluated import GRID_IMAGES
from trainables.tune.lego_vae import LegoVAE

LATENT = 3
SETTINGS = {
    "dataset": "faces",
    "dataset_limit": 60,
    "image_size": 16,
    "width": 0.1,
    "batch_size": 16,
    "features": "none",
    "evaluation_samples": 10,
    "hidden": 12,
    "latent_dim": LATENT,
}


@pytest.fixture
def settings(tmp_path_factory):
    return SETTINGS | {"cache_dir": str(tmp_path_factory.getbasetemp() / "images")}


def test_the_objective_is_squared_error_plus_kl_averaged_over_three_epochs(settings):
    trainable = LegoVAE(settings)
    losses = []
    for epoch in range(1, 5):
        result = trainable.train()
        noise = torch.Generator().manual_seed(EVALUATION_SEED)
        torch.randn(GRID_IMAGES, LATENT, generator=noise)  # the grid of samples is drawn before
        x = to_float(trainable.held_out_images)
        with torch.no_grad():
            mean, log_variance = trainable.model.encode(x)
            output = trainable.model.decoder(reparameterize(mean, log_variance, noise))
            error = F.mse_loss(output, (x + 1) / 2, reduction="sum")
            loss = (error + kl_divergence(mean, log_variance).sum()) / len(x)
        assert result["validation_loss"] == pytest.approx(loss.item(), rel=1e-5)
        losses.append(result["validation_loss"])
        last = losses[-3:]
        assert result["validation_loss_last3"] == pytest.approx(sum(last) / len(last))
        assert result["training_iteration"] == epoch
    assert "fd_efficientnet_lite0" not in result


def test_the_mean_is_over_epochs_where_not_each_is_evaluated(settings):
    trainable = LegoVAE(settings | {"evaluate_every": 2, "epochs": 8})
    results = [trainable.train() for _ in range(4)]
    losses = [result["validation_loss"] for result in results]
    means = [result["validation_loss_last3"] for result in results]
    assert means == pytest.approx([losses[0], *((a + b) / 2 for a, b in pairwise(losses))])


def test_a_restored_trial_reports_the_same_and_another_one_forgets(settings, tmp_path):
    straight = LegoVAE(settings)
    for _ in range(2):
        straight.train()
    straight.save_checkpoint(str(tmp_path))
    resumed = LegoVAE(settings)
    resumed.load_checkpoint(str(tmp_path))
    expected = straight.train()
    result = resumed.train()
    for name in ("validation_loss", "validation_loss_last3", "loss/kl"):
        assert result[name] == expected[name]
    assert resumed.reset_config(settings | {"hidden": 8})
    result = resumed.train()
    assert result["validation_loss_last3"] == result["validation_loss"]


def test_a_loss_that_is_not_finite_ends_the_trial_under_its_own_objective(settings):
    trainable = LegoVAE(settings | {"learning_rate": 1e30})
    while not (result := trainable.train())["done"]:
        assert trainable.epoch < 5
    assert result["diverged"]
    assert result["validation_loss_last3"] != result["validation_loss_last3"]
