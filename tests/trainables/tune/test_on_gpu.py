"""Trials on a GPU, pretended and real: whatever is made in them is made on the model's device."""

import importlib
import pkgutil
import re
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import nn

import trainables.models
from tests.fixtures.models import MODELS
from tests.fixtures.pretended_gpu import pretended_gpu
from trainables.evaluation.likelihoods import score
from trainables.models.base import GenerativeModel
from trainables.models.bernoulli_vae import BernoulliVAE
from trainables.models.conditional import ConditionalModel
from trainables.models.denoising import DenoisingModel
from trainables.models.modern import ModernModel
from trainables.models.vae import VAE
from trainables.tune.device import dtype_of
from trainables.tune.latent_optimization import LatentOptimizationTrainable
from trainables.tune.trainable import GenerativeTrainable

ROOT = Path(__file__).resolve().parents[3]
ABSTRACT = {GenerativeModel, ConditionalModel, DenoisingModel, ModernModel}
HALF = {"VAE", "WGAN-GP", "VAE-GAN, report", "modern VAE-GAN", "flow"}  # of each family one, in bfloat16
TRIAL = {"dataset": "faces", "dataset_limit": 60, "image_size": 16, "batch_size": 8, "features": "random"}
TRIAL |= {"evaluation_samples": 20, "epochs": 1, "epoch_steps": 1, "flip": True, "images": True}


class Dropped(GenerativeModel):
    """A model of one's own that draws from torch's generator of the GPU."""

    @dataclass(frozen=True)
    class Config:
        """Hyperparameters."""

        image_size: int = 16
        channels: int = 3

    def build(self):
        self.net = nn.Sequential(nn.Conv2d(3, 3, 3, padding=1), nn.Dropout(0.5))

    def loss(self, x):
        return (self.net(x) - x).square().mean()

    @torch.no_grad()
    def sample(self, n, generator=None):
        return torch.rand(n, 3, 16, 16, generator=generator, device=self.device) * 2 - 1


OWN = {"Dropped": (Dropped, {})}


class AnyModel(GenerativeTrainable):
    """Trains the one of `MODELS`, or of one's own, that `name` says."""

    @classmethod
    def model_of(cls, config):
        config = dict(config)
        model, settings = (MODELS | OWN)[config.pop("name")]
        return model, settings | config


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return str(tmp_path_factory.mktemp("cache"))


def test_every_place_that_knows_of_a_gpu_is_in_the_table_with_its_test():
    packages = ("trainables", "searchers", "analysis", "cluster")
    files = [path for name in packages for path in (ROOT / name).rglob("*.py")]
    know = {str(path.relative_to(ROOT)) for path in files if re.search("cuda|nccl", path.read_text())}
    (table,) = re.findall(r"## On a GPU\n.*?\n## ", (ROOT / "docs/contributing.md").read_text(), re.DOTALL)
    rows = [row.split("|") for row in table.splitlines() if row.startswith("| `")]
    assert know <= set(re.findall(r"`(\S+?)`", " ".join(row[1] for row in rows)))
    tests = "".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    named = re.findall(r"`(\w+)`", " ".join(row[3] for row in rows))
    assert len(named) >= len(rows) and [name for name in named if f"def {name}(" not in tests] == []


def test_every_model_of_the_project_is_tried():
    for module in pkgutil.iter_modules(trainables.models.__path__):
        importlib.import_module(f"trainables.models.{module.name}")

    def kinds(kind):
        return {kind}.union(*map(kinds, kind.__subclasses__()))

    ours = {kind for kind in kinds(GenerativeModel) if kind.__module__.startswith("trainables.")}
    assert ours - ABSTRACT == {kind for kind, _ in MODELS.values()}


@pytest.mark.parametrize("name", MODELS)
def test_a_trial_stays_on_its_device(name, cache, gpu, tmp_path):
    """It trains, is saved and restored, draws, rebuilds, encodes and is scored, as a sweep's trials are."""
    config = TRIAL | {"name": name, "cache_dir": cache, "precision": "auto" if name in HALF else "float32"}
    trial = AnyModel(config | ({} if MODELS[name][0].needs_progress else {"ema": 0.1}))
    assert trial.dtype == dtype_of(config["precision"], torch.device("cuda"))
    assert all(value.is_cuda for value in trial.model.state_dict().values())
    result = trial.step()
    assert "fd_random" in result and not result["diverged"]
    trial.save_checkpoint(str(tmp_path))
    trial.load_checkpoint(str(tmp_path))
    trial.train_epoch({}, {})


def test_the_next_trial_in_a_process_takes_over_the_images_on_the_gpu(cache, gpu):
    trial = AnyModel(TRIAL | {"name": "VAE", "cache_dir": cache})
    images = trial.batches._resident
    assert trial.reset_config(trial.config | {"seed": 1, "batch_size": 16})
    assert trial.batches._resident is images is not None


@pytest.mark.parametrize(
    ("name", "optimizer", "settings"),
    [
        ("modern VAE-GAN", "discriminator", {"vae_share": 0.5}),
        ("latent flow", "flow", {"first_share": 0.5}),
        ("WGAN-GP", "decoder", {}),
        ("VAE-GAN, WGAN-GP", "encoder", {}),
    ],
)
def test_an_optimizer_may_begin_in_a_later_phase(name, optimizer, settings, cache, gpu):
    """Gradients are measured every tenth step: before the phase, and in it."""
    settings = settings | {"cache_dir": cache, "epoch_steps": 12, "features": "none"}
    trial = AnyModel(TRIAL | {"name": name} | settings)
    assert trial.step()[f"gradient_norm/{optimizer}"] > 0


def test_a_search_in_latents_stays_on_its_device(cache, gpu):
    settings = {"dataset": "faces", "dataset_limit": 120, "image_size": 16, "scorer_epochs": 1}
    settings |= {"width": 0.05, "codes": 6, "embedding_dim": 3, "vqvae_epochs": 1}
    settings |= {"features": "random", "cache_dir": cache, "rounds": 1, "queries_a_round": 2, "trees": 5}
    trial = LatentOptimizationTrainable(settings | {"method": "vqvae-retrained"})
    assert "fd_random" in trial.step()


def test_likelihoods_are_computed_on_the_models_device(gpu):
    model = BernoulliVAE(BernoulliVAE.configure(MODELS["BernoulliVAE, dense"][1]), device="cuda")
    scores = score(model, torch.zeros(4, 3, 16, 16, device="cuda"))
    assert scores["nats_importance_weighted"] < 0


def test_a_tensor_on_the_default_device_is_found():
    class Made(VAE):
        def loss_scale(self, name):
            return torch.ones(1)

    class Drawn(VAE):
        def training_step(self, x):
            self.generator = torch.Generator().manual_seed(0)
            return super().training_step(x)

    with pretended_gpu():
        x = torch.zeros(2, 3, 16, 16, device="cuda")
        for kind, said in ((Made, "tensors of the CPU"), (Drawn, "another device than its generator")):
            model = kind(VAE.configure(MODELS["VAE"][1]), device="cuda")
            with pytest.raises(RuntimeError, match=said):
                model.training_step(x)
        with pytest.raises(TypeError, match="to numpy"):
            x.numpy()
        with pytest.raises(RuntimeError, match="tensors of the CPU"):
            torch.stack([x.sum(), torch.zeros(())])


@pytest.mark.gpu
@pytest.mark.parametrize("changes", [{"precision": "float16"}, {"compile": True}, {"channels_last": False}])
def test_options_of_training_work_on_a_gpu(changes, cache):
    result = AnyModel(
        TRIAL | {"name": "VAE-GAN, report", "cache_dir": cache, "epoch_steps": 4} | changes
    ).step()
    assert "fd_random" in result and not result["diverged"]


@pytest.mark.gpu
def test_what_a_model_draws_from_the_gpus_own_generator_is_restored(cache, tmp_path):
    trial = AnyModel(TRIAL | {"name": "Dropped", "cache_dir": cache, "epochs": 3})
    trial.step()
    trial.save_checkpoint(str(tmp_path))
    losses = []
    for _ in range(2):
        trial.load_checkpoint(str(tmp_path))
        losses.append(trial.step()["loss/loss"])
    assert losses[0] == losses[1]


@pytest.mark.gpu
@pytest.mark.parametrize("name", ["VAE-GAN, report", "modern VAE", "VQ-VAE", "flow"])
def test_a_gpu_computes_what_a_cpu_does(name):
    kind, settings = MODELS[name]
    models = [kind(kind.configure(settings), device=device).double().eval() for device in ("cpu", "cuda")]
    x = torch.rand(4, 3, 16, 16, generator=torch.Generator().manual_seed(0)).double() * 2 - 1
    with torch.no_grad():
        if name == "flow":
            a, b = (
                model.network(x.to(model.device), torch.full((4,), 0.3).to(x).to(model.device))
                for model in models
            )
        else:
            a, b = (model.reconstruct(x.to(model.device)) for model in models)
    torch.testing.assert_close(b.cpu(), a)
