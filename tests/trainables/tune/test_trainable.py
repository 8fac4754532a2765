"""The Tune trainable on its own: exact resume, reused actors, divergence, what it reports and exports."""

import io
import json
import math
import re
from dataclasses import dataclass, fields
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from PIL import Image
from ray.tune.logger import CSVLoggerCallback, JsonLoggerCallback
from safetensors.torch import load_file

from tests.fixtures.settings import SMALL_FACES
from trainables import (
    EDM,
    GAN,
    VAE,
    VAEGAN,
    VQVAE,
    BernoulliVAE,
    BetaVAEGAN,
    ConvVAE,
    FactorVAE,
    Flow,
    LatentFlow,
    LegoVAE,
    TrainingConfig,
)
from trainables.models.base import GenerativeModel
from trainables.models.schedule import power_exponent, rate_share
from trainables.models.storage import load_model, save_model
from trainables.tune import device
from trainables.tune.baselines import Baseline
from trainables.tune.evaluated import grid
from trainables.tune.export import export_model
from trainables.tune.trainable import GenerativeTrainable

SMALL = SMALL_FACES | {"ema_decay": 0.9}


@pytest.fixture(scope="module")
def cache_dir(tmp_path_factory):
    return str(tmp_path_factory.mktemp("cache"))


def build(trainable, cache_dir, **changes):
    """Return the trainable of small networks; of SMALL it is given what its model has."""
    named = hasattr(trainable, "model_class")
    kinds = [TrainingConfig, trainable.model_of(changes)[0].Config] if named else []
    known = {field.name for kind in kinds for field in fields(kind)} or SMALL.keys()
    settings = {key: value for key, value in SMALL.items() if key in known}
    return trainable(config={**settings, "cache_dir": cache_dir, **changes})


def weights(trainable):
    return {name: value.clone() for name, value in trainable.model.state_dict().items()}


def assert_equal(a, b):
    assert a.keys() == b.keys()
    assert all(torch.equal(a[name], b[name]) for name in a)


def scores(result):
    kept = ("fd_random", "kid_random", "elbo", "kl", "reconstruction_mse", "loss/", "ex_post")
    return {key: value for key, value in result.items() if key.startswith(kept)}


@pytest.mark.parametrize(
    ("trainable", "changes"),
    [
        (VAE, {}),
        (FactorVAE, {"precision": "bfloat16"}),
        (GAN, {"flip": True}),
        (GAN, {"recipe": "wgan_gp", "precision": "float16"}),
        (VAEGAN, {"channels_last": False}),
        (VAEGAN, {"precision": "float16"}),
        (VQVAE, {"grid": 4, "codes": 8, "codebook": "ema", "precision": "float16"}),
        (ConvVAE, {"beta_warm_up": 2, "beta_every": 3}),
        (LegoVAE, {"hidden": 32, "decay_steps": 20}),
        (BernoulliVAE, {"channels": 3, "averaging": 0.1}),
        (VAE, {"ema": 0.1, "schedule": "cosine", "epochs": 3}),
        (Flow, {"schedule": "cosine", "ema": 0.1, "epochs": 3, "steps": 2}),
        (LatentFlow, {"epochs": 3, "first_share": 0.5, "precision": "float16"}),
        (EDM, {"steps": 2, "precision": "bfloat16"}),
        (VAE, {"recipe": "modern", "epochs": 3}),
        (GAN, {"recipe": "modern", "epochs": 3, "precision": "float16"}),
        (BetaVAEGAN, {"recipe": "modern", "epochs": 3, "vae_share": 0.5, "precision": "bfloat16"}),
    ],
)
def test_an_interrupted_trial_ends_bit_equal_to_an_uninterrupted_one(trainable, changes, cache_dir, tmp_path):
    straight = build(trainable, cache_dir, **changes)
    straight_results = [straight.step() for _ in range(3)]
    interrupted = build(trainable, cache_dir, **changes)
    interrupted.step()
    interrupted.save_checkpoint(str(tmp_path))
    torch.rand(7)  # whatever happens in between
    resumed = build(trainable, cache_dir, **changes)
    resumed.load_checkpoint(str(tmp_path))
    assert resumed.iteration == 1  # whatever Tune takes the checkpoint for
    resumed_results = [resumed.step() for _ in range(2)]
    assert_equal(weights(straight), weights(resumed))
    assert [scores(r) for r in straight_results[1:]] == [scores(r) for r in resumed_results]
    assert [r["epoch"] for r in resumed_results] == [2, 3]


def test_a_reused_actor_trains_as_a_fresh_one_does(cache_dir):
    reused = build(BetaVAEGAN, cache_dir, beta=50.0)
    reused.step()
    store = reused.store
    config = {**reused.config, "beta": 3.0, "seed": 5}
    assert reused.reset_config(config)
    assert reused.store is store  # no second conversion, no second look at the real images
    fresh = build(BetaVAEGAN, cache_dir, beta=3.0, seed=5)
    assert scores(reused.step()) == scores(fresh.step())
    assert_equal(weights(reused), weights(fresh))


def test_a_reused_actor_loads_the_images_that_another_model_takes(cache_dir):
    reused = build(ConvVAE, cache_dir)
    smaller = {**reused.config, "image_size": 8, "channels": 1}
    reused.reset_config(smaller)
    fresh = build(ConvVAE, cache_dir, image_size=8, channels=1)
    assert reused.store.images.shape[1:] == (8, 8, 1)
    assert scores(reused.step()) == scores(fresh.step())


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
@pytest.mark.parametrize("trainable", [VAE, GAN, VAEGAN])
def test_half_precision_trains_as_float32_does(trainable, precision, cache_dir):
    """Roughly, over an epoch whose first steps float16 leaves out, until its scale is found."""
    full, half = (build(trainable, cache_dir, precision=p).step() for p in ("float32", precision))
    for name, value in full.items():
        if name.startswith("loss/") and "accuracy" not in name:
            assert half[name] == pytest.approx(value, rel=0.15), name
            assert half[name] != value
    assert {name.partition("/")[0] for name in half.keys() - full.keys()} == (
        {"loss_scale"} if precision == "float16" else set()
    )


def test_a_trial_that_moves_keeps_the_format_it_began_in(cache_dir, tmp_path, monkeypatch):
    """Machines choose it; one that was chosen by name holds on all."""
    monkeypatch.setattr(device, "has_bfloat16", lambda _: True)
    begun = build(VAE, cache_dir, precision="auto")
    begun.save_checkpoint(str(tmp_path))
    expected = begun.step()
    assert expected["precision"] == "bfloat16"
    monkeypatch.setattr(device, "has_bfloat16", lambda _: False)
    moved = build(VAE, cache_dir, precision="auto")
    assert moved.step()["precision"] == "float32"
    moved.load_checkpoint(str(tmp_path))
    again = moved.step()
    assert again["precision"] == "bfloat16" and scores(again) == scores(expected)
    named = build(VAE, cache_dir, precision="float32")
    named.load_checkpoint(str(tmp_path))
    assert named.step()["precision"] == "float32"


def test_seeds_differ(cache_dir):
    a, b = (build(GAN, cache_dir, seed=seed).step() for seed in (0, 1))
    assert scores(a) != scores(b)


def test_a_loss_that_is_not_finite_ends_the_trial(cache_dir):
    trial = build(VAE, cache_dir)
    with torch.no_grad():
        trial.model.encoder.mean.weight.fill_(math.nan)
    result = trial.step()
    assert result["diverged"]
    assert result["done"]
    assert math.isnan(result["fd_random"])


def test_codes_that_are_not_finite_end_a_vae_gan_in_any_phase(cache_dir):
    """The prior has their moments, whose factor is then not finite either."""
    settings = {"recipe": "modern", "vae_share": 0.0, "epochs": 1}
    trial = build(BetaVAEGAN, cache_dir, **settings)
    with torch.no_grad():
        next(trial.model.encoder.parameters()).fill_(math.nan)
    result = trial.step()
    assert result["diverged"] and result["done"] and math.isnan(result["fd_random"])


def test_tunes_loggers_write_numbers_and_no_pictures(cache_dir, tmp_path, monkeypatch):
    """With `images` in a sweep of one's own, Tune's JSON, CSV and TensorBoard loggers get the results."""
    result = build(VAE, cache_dir, images=True).train()
    trial = Mock(config={}, local_path=str(tmp_path), trial_id="t")
    for logger in (JsonLoggerCallback(), CSVLoggerCallback()):
        monkeypatch.setattr(logger, "_restore_from_remote", Mock())
        logger.log_trial_start(trial)
        logger.log_trial_result(1, trial, result)
        logger.log_trial_end(trial)
    (written,) = tmp_path.rglob("result.json")
    row = json.loads(written.read_text())
    assert row["fd_random"] == pytest.approx(result["fd_random"])
    assert re.fullmatch(r"PNG of \d+ bytes", row["images"]["samples"])
    assert all(path.stat().st_size < 10_000 for path in tmp_path.rglob("*") if path.is_file())


def test_pictures_begin_before_training(cache_dir):
    """The first result has what the untrained model draws, too; drawing it changes nothing."""
    trial, without = build(VAE, cache_dir, images=True), build(VAE, cache_dir)
    untrained = trial.untrained_grids()
    first, second = trial.step(), trial.step()
    assert first["first_images"] == untrained and "first_images" not in second
    assert first["images"].keys() == untrained.keys() and first["images"]["samples"] != untrained["samples"]
    without.step(), without.step()
    assert_equal(weights(trial), weights(without))


def test_grids_show_pixels_as_they_are(cache_dir):
    result = build(BetaVAEGAN, cache_dir, images=True).step()
    samples, pairs = (
        np.asarray(Image.open(io.BytesIO(result["images"][k]))) for k in ("samples", "reconstructions")
    )
    assert samples.shape == (3 * 18 - 2, 8 * 18 - 2, 3)  # twenty images, eight a row, on a black ground
    assert pairs.dtype == np.uint8
    levels = torch.tensor([[10, 20, 30]], dtype=torch.uint8).expand(64, 3).reshape(1, 8, 8, 3)
    shown = np.asarray(Image.open(io.BytesIO(grid(levels))))
    np.testing.assert_array_equal(np.unique(shown.reshape(-1, 3), axis=0), [[10, 20, 30]])


def test_elbo_alone_where_no_features_are_extracted(cache_dir):
    result = build(VAE, cache_dir, features="none").step()
    assert "fd_random" not in result
    assert result["elbo"] < 0 < result["kl"]


def test_an_exported_model_is_the_trained_one(cache_dir, tmp_path):
    trial = build(BetaVAEGAN, cache_dir, beta=2.0)
    trial.step()
    trial.save_checkpoint(str(tmp_path))
    export_model(BetaVAEGAN, trial.config, tmp_path, tmp_path / "model")
    loaded = load_model(tmp_path / "model")
    noise = [torch.Generator().manual_seed(3) for _ in range(2)]
    assert torch.equal(loaded.sample(4, noise[0]), trial.model.sample(4, noise[1]))
    assert loaded.config.beta == 2.0
    (tmp_path / "model" / "model.json").write_text('{"model": "os:system", "config": {}}')
    with pytest.raises(ValueError, match="loading it runs the code of os"):
        load_model(tmp_path / "model")


def test_what_is_scored_and_exported_are_the_mean_weights(cache_dir, tmp_path):
    """Beside a trial without: it trains alike, and draws from the mean of the weights after each step."""
    trials = [build(GAN, cache_dir, epochs=1, ema=width) for width in (0.1, 0.0)]
    tracked = []
    original = trials[1].model.training_step

    def note(x):
        losses = original(x)
        tracked.append(weights(trials[1]))
        return losses

    trials[1].model.training_step = note
    for trial in trials:
        trial.step()
    assert_equal(*map(weights, trials))
    trials[0].save_checkpoint(str(tmp_path))
    export_model(GAN, trials[0].config, tmp_path, tmp_path / "model")
    loaded = load_model(tmp_path / "model").state_dict()
    power = power_exponent(0.1) + 1
    for name, value in loaded.items():
        expected = tracked[0][name].double()
        for n, own in enumerate(tracked[1:], start=2):
            share = 1 - (1 - 1 / n) ** power if own[name].is_floating_point() else 1
            expected += share * (own[name] - expected)
        torch.testing.assert_close(value.double(), expected, rtol=1e-4, atol=1e-6)


def test_a_cosine_takes_each_optimizer_s_own_rate_to_nothing(cache_dir, monkeypatch):
    trial = build(GAN, cache_dir, epochs=4, schedule="cosine")
    built = {name: options[0]["lr"] for name, options in trial.model.options.items()}
    seen = []
    original = trial.model.training_step

    def note(x):
        seen.append({name: o.param_groups[0]["lr"] for name, o in trial.model.optimizers.items()})
        return original(x)

    monkeypatch.setattr(trial.model, "training_step", note)
    for _ in range(4):
        trial.step()
    total = len(seen)
    for step, rates in enumerate(seen):
        assert rates == pytest.approx({n: lr * rate_share(step, step / total) for n, lr in built.items()})


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"schedule": "cosine"}, "VAE has a schedule: set `epochs`"),
        ({"schedule": "linear"}, "schedule is 'linear'; choose constant, cosine"),
        ({"ema": 0.3}, "ema is 0.3; choose 0, or a width up to 0.28"),
        ({"ema": 0.1, "recipe": "modern", "epochs": 1}, "has its own schedule and means"),
    ],
)
def test_schedules_and_means_that_cannot_be(changes, sentence, cache_dir):
    with pytest.raises(ValueError, match=sentence):
        build(VAE, cache_dir, **changes)


@pytest.mark.parametrize(
    ("model", "own"),
    [
        ("GAN", {"gan_loss": "non_saturating", "learning_rate": 1e-3}),
        ("WGAN-GP", {"gan_loss": "wasserstein", "critic_steps": 5, "learning_rate": 1e-4}),
        ("VAE", {"beta": 1.0, "learning_rate": 1e-3}),
        ("FactorVAE", {"beta": 1.0, "learning_rate": 1e-4}),
        ("VAE-GAN", {"beta": 1.0, "gan_loss": "minimax"}),
        ("beta-VAE-GAN", {"beta": 9.0, "gan_loss": "minimax", "learning_rate": 1e-3}),
        ("flow", {"steps": 5, "learning_rate": 2e-3}),
        ("EDM", {"sampler": "heun", "learning_rate": 2e-3}),
        ("latent-flow", {"beta": 5.0, "learning_rate": 2e-3}),
    ],
)
def test_the_model_of_a_baseline_takes_what_it_has(cache_dir, model, own):
    shared = {"beta": 9.0, "gan_loss": "minimax", "learning_rate": 1e-3, "epochs": 1}
    trial = build(Baseline, cache_dir, model=model, **shared)
    assert {name: getattr(trial.model.config, name) for name in own} == own
    assert math.isfinite(trial.step()["fd_random"])


def test_wrong_settings_are_named_with_the_right_ones(cache_dir):
    with pytest.raises(
        ValueError, match=r"'betta' is no setting of VAEGAN .*; its settings: beta, .*, … \(\d+ in all\)"
    ):
        build(BetaVAEGAN, cache_dir, betta=1.0)
    with pytest.raises(ValueError, match="precision is 'fp16'; choose float32, bfloat16, float16, auto"):
        build(VAE, cache_dir, precision="fp16")
    with pytest.raises(
        ValueError, match="no model 'NVAE'; there are: GAN, WGAN-GP, VAE, FactorVAE, VAE-GAN, beta-VAE-GAN"
    ):
        build(Baseline, cache_dir, model="NVAE")


def test_progress_is_the_share_of_all_epochs_done(cache_dir, monkeypatch):
    trial = build(BetaVAEGAN, cache_dir, recipe="modern", epochs=4, evaluate_every=2)
    seen = []
    original = trial.model.training_step

    def note(x):
        seen.append(trial.model.progress)
        return original(x)

    monkeypatch.setattr(trial.model, "training_step", note)
    assert [trial.step()["epoch"] for _ in range(2)] == [2, 4]
    steps = len(trial.batches)
    assert seen == pytest.approx([step / (4 * steps) for step in range(4 * steps)])


def test_a_loss_is_averaged_over_the_steps_that_have_it(cache_dir, monkeypatch):
    trial = build(VAE, cache_dir)
    values = iter([{"a": 1.0}, {"a": 3.0, "b": 5.0}] + [{"a": 2.0}] * len(trial.batches))
    monkeypatch.setattr(
        trial.model, "training_step", lambda x: {k: torch.tensor(v) for k, v in next(values).items()}
    )
    result = trial.step()
    assert result["loss/a"] == 2.0
    assert result["loss/b"] == 5.0


def test_tune_counts_epochs_however_many_there_are_to_a_result(cache_dir, tmp_path):
    trial = build(VAE, cache_dir, epochs=4, evaluate_every=3)
    result = trial.train()
    assert (result["epoch"], result["training_iteration"]) == (3, 3)
    trial.save_checkpoint(str(tmp_path))
    resumed = build(VAE, cache_dir, epochs=4, evaluate_every=3)
    resumed.load_checkpoint(str(tmp_path))
    assert (resumed.iteration, resumed.epoch) == (3, 3)
    assert resumed.train()["training_iteration"] == 4  # what is left


@pytest.mark.parametrize(("trainable", "changes"), [(VAE, {}), (BetaVAEGAN, {"recipe": "modern"})])
def test_ex_post_samples_are_scored_after_the_last_epoch(trainable, changes, cache_dir):
    trial = build(trainable, cache_dir, epochs=2, **changes)
    assert [[key for key in trial.step() if key.startswith("ex_post")] for _ in range(2)] == [
        [],
        ["ex_post/fd_random", "ex_post_mixture/fd_random"],
    ]


@dataclass(frozen=True)
class CodesConfig:
    latent_dim: int = 2


class Codes(GenerativeModel):
    """An autoencoder whose Config has no image size: it sees the sweep's images."""

    Config = CodesConfig
    has_encoder = True

    def build(self):
        pixels, units = 3 * 16 * 16, self.config.latent_dim
        self.encoder, self.decoder = torch.nn.Linear(pixels, 2 * units), torch.nn.Linear(units, pixels)

    def encode(self, x):
        return self.encoder(x.flatten(1)).chunk(2, 1)

    def decode(self, z):
        return self.decoder(z).view(-1, 3, 16, 16).tanh()

    def loss(self, x):
        return (self.decode(self.encode(x)[0]) - x).square().mean()


class CodesTrainable(GenerativeTrainable):
    model_class = Codes


def test_a_model_whose_config_knows_no_image_size_is_trained_to_the_end(cache_dir):
    assert math.isfinite(build(CodesTrainable, cache_dir, epochs=1).step()["ex_post/fd_random"])


def test_a_model_without_gaussian_codes_has_no_ex_post_score(cache_dir):
    trial = build(VQVAE, cache_dir, grid=4, codes=8, epochs=1)
    assert not any(key.startswith("ex_post") for key in trial.step())


def test_a_schedule_needs_the_number_of_epochs(cache_dir):
    with pytest.raises(ValueError, match="ModernVAEGAN has a schedule: set `epochs`"):
        build(BetaVAEGAN, cache_dir, recipe="modern")


@dataclass(frozen=True)
class MeanConfig:
    learning_rate: float = 0.01


class MeanImage(GenerativeModel):
    """The easy case without noise: one image, descended to the mean of the batch."""

    Config = MeanConfig

    def build(self):
        self.image = torch.nn.Parameter(torch.zeros(3, 16, 16))
        self.seen = []

    def loss(self, x):
        self.seen.append(len(x))
        return (x - self.image).square().mean()

    @torch.no_grad()
    def sample(self, n, generator=None):
        return self.image.clamp(-1, 1).expand(n, -1, -1, -1).clone()


class Dropped(MeanImage):
    """It draws another picture in training mode than in evaluation mode."""

    def build(self):
        super().build()
        self.drop = torch.nn.Dropout(0.5)

    @torch.no_grad()
    def sample(self, n, generator=None):
        return self.drop(torch.full((n, 3, 16, 16), 0.5))


def test_a_model_is_scored_in_evaluation_mode(cache_dir):
    trainable = type("DroppedTrainable", (GenerativeTrainable,), {"model_class": Dropped})
    settings = {**SMALL_FACES, "cache_dir": cache_dir, "images": True}
    trial = trainable(config={k: v for k, v in settings.items() if k not in ("width", "latent_dim")})
    result = trial.step()
    assert result["sample_diversity"] == 0
    trial.model.train()
    assert len(trial.model.sample(2).unique()) == 2  # a forgotten eval() would be seen


def test_the_first_pictures_are_drawn_before_the_clock_starts(cache_dir, monkeypatch):
    trial, order = build(VAE, cache_dir, images=True), []
    monkeypatch.setattr(trial, "_first_pictures", lambda: order.append("pictures") or {})
    clock = Mock(monotonic=lambda: order.append("clock") or float(len(order)))
    monkeypatch.setattr("trainables.tune.trainable.time", clock)
    trial.step()
    assert order[:2] == ["pictures", "clock"]


def test_weights_that_share_memory_are_exported(tmp_path):
    model = MeanImage(MeanConfig())
    tied = {"image": model.image, "again": model.image}
    save_model(tmp_path, MeanImage, {"learning_rate": 0.01}, tied)
    assert load_file(tmp_path / "model.safetensors").keys() == {"image", "again"}


def test_a_machine_with_other_images_or_features_is_told(cache_dir):
    with pytest.raises(ValueError, match="are not those that the sweep has"):
        build(VAE, cache_dir, data_hash="0" * 64)
    with pytest.raises(ValueError, match="the extractor on this machine is random-seed-0"):
        build(VAE, cache_dir, feature_identity="random-seed-1-uint8-native")


def test_gradients_of_parts_of_a_batch_add_up_to_those_of_the_whole(cache_dir):
    x = torch.rand(10, 3, 16, 16) * 2 - 1
    steps = []
    for parts in (1, 3):
        model = MeanImage(MeanConfig())
        model.accumulate = parts
        loss = model.training_step(x)["loss"]
        steps.append((loss, model.image.grad.clone()))
    torch.testing.assert_close(*(loss for loss, _ in steps))
    torch.testing.assert_close(*(gradient for _, gradient in steps))
    assert model.seen == [4, 3, 3]  # never a part of one image
    with pytest.raises(ValueError, match="VAE has its own training step: leave accumulate out"):
        build(VAE, cache_dir, accumulate=2)
    with pytest.raises(ValueError, match="accumulate is 0; choose a whole number from 1"):
        build(VAE, cache_dir, accumulate=0)


def test_losses_keep_no_graph(cache_dir, monkeypatch):
    trial, losses = build(VAE, cache_dir), {}
    monkeypatch.setattr(
        trial.model, "training_step", lambda x: {"loss": torch.ones((), requires_grad=True) * 2}
    )
    trial.train_epoch(losses, {})
    assert len(losses["loss"]) == len(trial.batches) and not any(v.requires_grad for v in losses["loss"])


def sample_count(model, samples):
    return {"sample_count": len(samples)}


@pytest.mark.parametrize("features", ["none", "random"])
def test_own_scores_are_of_as_many_samples_as_are_asked_for(features, cache_dir):
    own = {"scores": f"{__name__}:sample_count", "features": features, "evaluation_samples": 70}
    assert build(VAE, cache_dir, **own).step()["sample_count"] == 70
    with pytest.raises(ValueError, match="sample_count is other code here than where the sweep began"):
        build(VAE, cache_dir, **own, scores_hash="0" * 64)


def test_codes_that_are_not_finite_at_the_last_epoch_are_a_divergence(cache_dir, monkeypatch):
    """scikit-learn's mixture would raise ValueError, and the trial be trained again."""
    trial = build(VAE, cache_dir, epochs=1)
    encode = trial.model.encode

    def overflowing(x):
        mean, log_variance = encode(x)
        return (mean, log_variance) if trial.model.training else (mean * torch.nan, log_variance)

    monkeypatch.setattr(trial.model, "encode", overflowing)
    result = trial.step()
    assert result["diverged"] and result["done"] and result["flags"].endswith("_not_finite")


def test_settings_of_one_name_and_two_meanings_are_each_models_own():
    asked = {"gamma": 0.1, "hidden": 64, "latent_dim": 8}
    for recipe in ("report", "modern"):
        taken = {
            name: Baseline.model_of({**asked, "model": name, "recipe": recipe})[1]
            for name in ("VAE-GAN", "FactorVAE", "latent-flow")
        }
        assert taken["VAE-GAN"]["gamma"] == 0.1  # Larsen's
        assert "gamma" not in taken["FactorVAE"] and "hidden" not in taken["latent-flow"]
        assert all(settings["latent_dim"] == 8 for settings in taken.values())
    with pytest.raises(ValueError, match="the baselines have no recipe 'larsen'; theirs are report and mod"):
        Baseline.model_of({"model": "VAE-GAN", "recipe": "larsen"})
