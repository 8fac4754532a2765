"""VQ-VAE and the convolutional VAE as plain Tune trainables."""

import math

import pytest

from trainables import VQVAE, ConvVAE

SETTINGS = {"dataset": "faces", "dataset_limit": 80, "image_size": 16, "width": 0.1, "batch_size": 16}
SETTINGS |= {"features": "random", "evaluation_samples": 24}


@pytest.mark.parametrize(
    ("trainable", "settings", "loss"),
    [(VQVAE, {"codes": 8, "codebook": "ema"}, "loss/perplexity"), (ConvVAE, {"latent_dim": 4}, "loss/beta")],
)
def test_an_epoch_is_scored_and_goes_on_exactly_after_a_restore(tmp_path, trainable, settings, loss):
    config = SETTINGS | settings | {"cache_dir": str(tmp_path)}
    trial = trainable(config)
    trial.step()
    (tmp_path / "checkpoint").mkdir()
    trial.save_checkpoint(str(tmp_path / "checkpoint"))
    result = trial.step()
    assert {"fd_random", "elbo", "kl", "reconstruction_mse", loss} <= set(result)
    assert all(math.isfinite(result[key]) for key in ("fd_random", "elbo", "kl", loss))
    trial.reset_config(config)
    trial.load_checkpoint(str(tmp_path / "checkpoint"))
    again = trial.step()
    assert {key: again[key] for key in ("fd_random", "elbo", loss)} == {
        key: result[key] for key in ("fd_random", "elbo", loss)
    }
