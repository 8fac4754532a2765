"""A flow over an autoencoder's codes: its two phases, what it draws, and the first stages it can have."""

import shutil

import pytest
import torch

from trainables.evaluation.diagnostics import gradient_norms
from trainables.models.fitted_prior import fit
from trainables.models.gan import GAN
from trainables.models.latent_flow import OF_FIRST_STAGE, LatentFlow
from trainables.models.storage import load_model, save_model
from trainables.models.vae import VAE
from trainables.models.vqvae import VQVAE

SMALL = {"image_size": 16, "width": 0.1, "latent_dim": 3}
PHASES = (0.0, 0.4, 0.8, 0.9)  # progress of four steps, of which the VAE has the first two


def build(seed=0, **changes):
    return LatentFlow(LatentFlow.configure(SMALL | {"hidden": 32, "first_share": 0.7} | changes), seed=seed)


def train(model, phases):
    for progress in phases:
        model.progress = progress
        x = torch.rand(8, 3, 16, 16, generator=torch.Generator().manual_seed(int(100 * progress)))
        losses = model.training_step(2 * x - 1)
    return losses


def weights(model, part):
    return {n: v.clone() for n, v in model.state_dict().items() if n.startswith(part)}


def moved(model, part, phases):
    before = weights(model, part)
    train(model, phases)
    return any(not torch.equal(value, before[name]) for name, value in weights(model, part).items())


@pytest.mark.parametrize("done", [1, 2, 3])
def test_it_goes_on_bit_equal_in_each_phase(done):
    straight, interrupted = build(), build()
    train(straight, PHASES)
    train(interrupted, PHASES[:done])
    resumed = build(seed=9)
    resumed.load_training_state(interrupted.training_state())
    train(resumed, PHASES[done:])
    for (name, value), other in zip(
        straight.state_dict().items(), resumed.state_dict().values(), strict=True
    ):
        assert torch.equal(value, other), name


def test_each_phase_trains_its_own_stage():
    model = build()
    assert moved(model, "autoencoder.encoder", PHASES[:2])
    assert not moved(model, "network", PHASES[:2])
    assert moved(model, "network", PHASES[2:])
    assert not moved(model, "autoencoder", PHASES[2:])


def test_a_flow_that_has_learned_nothing_draws_a_gaussian_of_the_codes_moments():
    model = build()
    assert torch.equal(
        model.sample(4, torch.Generator().manual_seed(1)),
        model.autoencoder.sample(4, torch.Generator().manual_seed(1)),
    )  # before the flow's first step
    codes = fit(torch.tensor([[1.0, 2.0, 3.0], [3.0, 2.0, 7.0]]), torch.zeros(2, 3))
    model.moments.load_state_dict(codes.state_dict())
    noise = torch.randn(4, 3, generator=torch.Generator().manual_seed(1))
    codes = torch.tensor([2.0, 2.0, 5.0]) + torch.tensor([2.0, 1.0, 5.0]).sqrt() * noise
    with torch.no_grad():
        torch.testing.assert_close(model.sample(4, torch.Generator().manual_seed(1)), model.decode(codes))
    torch.testing.assert_close(model.from_noise(noise), codes)
    assert not model.decodes_noise()


def test_it_learns_codes_that_no_gaussian_has(monkeypatch):
    """Two clusters at ±5, of which one is drawn twice as often."""
    model, seen = build(latent_dim=1, hidden=64, first_share=0.0, learning_rate=1e-2), []
    random = torch.Generator().manual_seed(0)

    def encode(x):
        places = torch.rand(len(x), 1, generator=random) < 2 / 3
        return 10.0 * places - 5, torch.full((len(x), 1), -4.0)

    monkeypatch.setattr(model.autoencoder, "encode", encode)
    monkeypatch.setattr(model, "decode", lambda z: seen.append(z) or torch.zeros(len(z), 3, 16, 16))
    for step in range(500):
        model.progress = step / 500
        model.training_step(torch.zeros(64, 3, 16, 16))
    model.sample(2000, torch.Generator().manual_seed(1))
    (codes,) = seen
    assert float((codes > 0).float().mean()) == pytest.approx(2 / 3, abs=0.06)
    assert float(((codes.abs() - 5).abs() < 1.5).float().mean()) > 0.9


def test_a_saved_model_is_its_first_stage_and_goes_with_it(tmp_path):
    first = VAE(VAE.configure(SMALL), seed=5)
    save_model(tmp_path / "first", VAE, first.hyperparameters(), first.state_dict())
    model = build(first_stage=str(tmp_path / "first"), latent_dim=64)
    assert model.config.latent_dim == 3 and list(model.optimizers) == ["flow"]
    x = torch.rand(2, 3, 16, 16) * 2 - 1
    torch.testing.assert_close(model.eval().encode(x), first.eval().encode(x))
    train(model, [0.5])
    save_model(tmp_path / "both", LatentFlow, model.hyperparameters(), model.state_dict())
    shutil.rmtree(tmp_path / "first")
    again = load_model(tmp_path / "both")
    samples = [m.sample(3, torch.Generator().manual_seed(2)) for m in (model, again)]
    assert torch.equal(*samples)


@pytest.mark.parametrize(
    ("model_class", "settings", "sentence"),
    [
        (GAN, SMALL, "first_stage is a GAN: it needs an encoder and codes that are Gaussians"),
        (VQVAE, {"image_size": 16, "width": 0.1, "grid": 4}, "first_stage is a VQVAE: it needs"),
        (VAE, SMALL | {"image_size": 32}, r"size and channels \(32, 3\), and these are of \(16, 3\)"),
        (None, {}, "which holds no saved model"),
    ],
)
def test_a_first_stage_that_cannot_be_one_is_told(tmp_path, model_class, settings, sentence):
    if model_class:
        model = model_class(model_class.configure(settings))
        save_model(tmp_path, model_class, model.hyperparameters(), model.state_dict())
    with pytest.raises(ValueError, match=sentence):
        build(first_stage=str(tmp_path))


@pytest.mark.parametrize("name", OF_FIRST_STAGE)
def test_what_a_trained_first_stage_does_not_use_is_refused(tmp_path, name):
    """Its own values, and the defaults, may be given."""
    first = VAE(VAE.configure(SMALL), seed=5)
    save_model(tmp_path, VAE, first.hyperparameters(), first.state_dict())
    build(first_stage=str(tmp_path))
    value = 0.5 if name == "first_share" else 7
    with pytest.raises(
        ValueError, match=f"{name} is {value}: with a first_stage, which is trained, it changes"
    ):
        build(first_stage=str(tmp_path), **{name: value})


def test_a_model_of_ones_own_is_no_first_stage(tmp_path):
    """No trial trusts its module."""
    save_model(tmp_path, VAE, VAE(VAE.configure(SMALL)).hyperparameters(), {})
    description = tmp_path / "model.json"
    description.write_text(description.read_text().replace("trainables.models.vae:VAE", "mine:Auto"))
    with pytest.raises(ValueError, match="first_stage is mine:Auto: only a model of this project can be one"):
        build(first_stage=str(tmp_path))


def test_the_first_stage_has_no_gradients_once_it_is_trained():
    model = build()
    train(model, PHASES[:2])
    assert set(gradient_norms(model.optimizers)) == {"autoencoder"}
    train(model, PHASES[2:])
    assert set(gradient_norms(model.optimizers)) == {"flow"}
