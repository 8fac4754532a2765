"""A trial in two processes: losses and weights as in one, resumed exactly, and a lost process is told."""

from dataclasses import dataclass
from datetime import timedelta
from unittest.mock import Mock

import numpy as np
import pytest
import ray
import torch
import torch.distributed as dist
from ray import tune
from torch import nn

from tests.fixtures.embedded import embedded_ray
from tests.fixtures.models import MODELS
from trainables import BetaVAEGAN, TrainingConfig
from trainables.evaluation.inputs import require_fit
from trainables.models.base import GenerativeModel
from trainables.models.vaegan import VAEGAN
from trainables.models.vqvae import VQVAE
from trainables.tune import parallel
from trainables.tune.parallel import Place, ReplicaProcess, share_gradients
from trainables.tune.trainable import GenerativeTrainable


class Auto(GenerativeModel):
    """An autoencoder without noise or batch norm, which clips its gradients."""

    @dataclass(frozen=True)
    class Config:
        """Hyperparameters."""

        image_size: int = 8
        channels: int = 3
        learning_rate: float = 0.01
        own_steps: bool = False

    def build(self):
        size = self.config.channels * self.config.image_size**2
        self.net = nn.Sequential(nn.Flatten(), nn.Linear(size, 4), nn.Tanh(), nn.Linear(4, size))

    def training_step(self, x):
        loss = (self.net(x) - x.flatten(1)).square().mean()
        if self.config.own_steps:  # as a model does that doesn't know `update`
            self.optimizers["model"].zero_grad()
            loss.backward()
            self.optimizers["model"].step()
        else:
            self.descend("model", loss, max_norm=0.05)
        return {"loss": loss.detach()}

    @torch.no_grad()
    def sample(self, n, generator=None):
        c = self.config
        return torch.zeros(n, c.channels, c.image_size, c.image_size)


class Ahead(VAEGAN):
    """By its own part of a batch one process rests the discriminator and the other one the decoder."""

    def _gan_loss(self, x, graph):
        costs = ((0.1, 0.5), (0.5, 1.5))[dist.get_rank()]
        return super()._gan_loss(x, graph)._replace(costs=tuple(map(torch.tensor, costs)))


class Full(Auto):
    """Its other process finds no memory: as it is built, or as it trains."""

    class Config(Auto.Config):
        """Hyperparameters."""

    def build(self):
        super().build()
        self.refuse("setup")

    def training_step(self, x):
        self.refuse("training")
        return super().training_step(x)

    def refuse(self, when):
        if dist.get_rank() and (when == "setup") != self.config.own_steps:
            raise MemoryError(f"no memory in {when}")


class Any(GenerativeTrainable):
    """Trains an `Auto` or, by `kind`, a β-VAE-GAN of the modern recipe or of Larsen's."""

    model_class = Auto

    @classmethod
    def model_of(cls, config):
        config = dict(config)
        kind = config.pop("kind", None)
        if kind == "full":
            return Full, config
        if kind == "modern":
            return BetaVAEGAN.model_of({**config, "recipe": "modern"})
        return (Ahead, {**config, "recipe": "larsen"}) if kind == "larsen" else (Auto, config)


@pytest.fixture(scope="module")
def settings(tmp_path_factory):
    cache = str(tmp_path_factory.mktemp("cache"))
    return {"dataset": "faces", "dataset_limit": 60, "batch_size": 8, "features": "none", "flip": True} | {
        "image_size": 8, "epochs": 3, "cache_dir": cache, "evaluation_samples": 20,
    }  # fmt: skip


@pytest.fixture(scope="module")
def modern(settings):
    return {**settings, "image_size": 16, "width": 0.1, "latent_dim": 6, "kind": "modern", "processes": 2}


@pytest.fixture(scope="module")
def two(settings):
    """The one trial of two processes that these tests share: it becomes another trial in each."""
    with embedded_ray(num_cpus=2):
        trial = Any({**settings, "processes": 2})
        yield trial
        trial.stop()


def weights(trainable):
    return torch.cat([p.detach().flatten() for p in trainable.model.parameters()])


def of_the_other(trainable, look):
    """Return what a function finds in the trial's second process."""
    (replica,) = trainable.peers.replicas
    return ray.get(replica.__ray_call__.remote(lambda process: look(process.trainable)))


@pytest.mark.parametrize("own_steps", [False, True])
def test_two_processes_do_what_one_does(two, settings, own_steps):
    settings = {**settings, "own_steps": own_steps, "seed": 5}
    one = Any(settings)
    assert two.reset_config({**settings, "processes": 2})
    for _ in range(3):
        a, b = one.train(), two.train()
        assert a["loss/loss"] == pytest.approx(b["loss/loss"], abs=1e-5)
    np.testing.assert_allclose(weights(one), weights(two), atol=1e-5)


def test_it_is_resumed_bit_equal_with_the_noise_of_each_process(two, modern, tmp_path):
    two.reset_config(modern)
    two.train()
    two.save_checkpoint(str(tmp_path))
    first = [two.train() for _ in range(2)]
    end = weights(two)
    two.reset_config({**modern, "seed": 9})
    two.reset_config(modern)
    two.load_checkpoint(str(tmp_path))
    second = [two.train() for _ in range(2)]
    for a, b in zip(first, second, strict=True):
        losses = [name for name in a if name.startswith("loss/")]
        assert losses and all(a[name] == b[name] for name in losses)
    np.testing.assert_array_equal(end, weights(two))


def test_each_process_has_its_part_of_the_batch_its_noise_and_the_same_weights(two, modern):
    two.reset_config(modern)
    two.train()
    other, rows = of_the_other(two, lambda t: (weights(t), list(t.batches.rows(1))))
    torch.testing.assert_close(other, weights(two))
    for a, b in zip(two.batches.rows(1), rows, strict=True):
        assert len(a) == len(b) == 4 and not set(a) & set(b)
    states = [two.model.generator.get_state(), two.peers.each("random_state")[0]["model"]]
    assert not torch.equal(*states)


def test_larsens_equilibrium_is_that_of_the_whole_batch(two, modern):
    """The means of the costs, 0.3 and 1.0, rest the discriminator."""
    two.reset_config({**modern, "kind": "larsen"})
    before = {name: value.clone() for name, value in two.model.named_parameters()}
    two.train()
    changed = {
        name.partition(".")[0] for name, p in two.model.named_parameters() if (p != before[name]).any()
    }
    assert changed == {"encoder", "decoder"}
    torch.testing.assert_close(of_the_other(two, weights), weights(two))


def test_other_processes_have_as_many_threads(settings, monkeypatch):
    begun, settings = [], {**settings, "processes": 2}
    monkeypatch.setattr(Place, "meet", lambda *_: None)
    monkeypatch.setattr(parallel, "_resources", lambda _: {})
    replica = Mock(options=lambda: Mock(remote=lambda *given: begun.append(given)))
    monkeypatch.setattr(parallel, "Replica", replica)
    torch.set_num_threads(3)
    parallel.Peers(Any, settings, 2, torch.device("cpu"))
    torch.set_num_threads(1)
    ((kind, config, place),) = begun
    try:
        ReplicaProcess(kind, config, place)
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(1)


def test_a_part_of_a_model_leaves_out_a_step_that_overflowed_in_another_process(monkeypatch):
    """Averaged, the gradients of both are infinite."""
    monkeypatch.setattr(parallel, "_average", lambda tensors: [t.fill_(torch.inf) for t in tensors])
    kind, narrow = MODELS["latent flow"]
    model = kind(kind.configure(narrow | {"first_share": 0.5}), scale_losses=True)
    share_gradients(model)
    before = [p.detach().clone() for p in model.autoencoder.parameters()]
    model.training_step(torch.rand(4, 3, 16, 16))
    assert all(torch.equal(p, b) for p, b in zip(model.autoencoder.parameters(), before, strict=True))
    assert model.scalers["autoencoder"].get_scale() < 2**16


def test_a_trial_of_another_number_of_processes_is_not_taken_in(two, settings):
    assert not two.reset_config({**settings, "processes": 1})


def test_a_batch_that_cannot_be_shared_out_is_refused(settings):
    with pytest.raises(ValueError, match="batch_size is 8, and 3 processes share each batch: choose a multi"):
        require_fit(Auto, TrainingConfig(batch_size=8, processes=3))
    with pytest.raises(
        ValueError, match="codebook is ema, and processes is 2: each would move a codebook of"
    ):
        require_fit(VQVAE, TrainingConfig(batch_size=8, processes=2), VQVAE.configure({"codebook": "ema"}))


def test_a_lost_process_fails_the_trial(two, settings):
    two.reset_config({**settings, "processes": 2})
    ray.kill(two.peers.replicas[0])
    with pytest.raises((RuntimeError, ray.exceptions.RayActorError)):
        two.train()


@pytest.mark.parametrize(("own_steps", "when"), [(False, "setup"), (True, "training")])
def test_the_reason_of_another_process_is_told_at_once(two, settings, monkeypatch, own_steps, when):
    """While the first one waits for its message."""
    monkeypatch.setattr(parallel, "PATIENCE", timedelta(seconds=60))
    with pytest.raises(Exception, match=f"MemoryError: no memory in {when}$"):
        Any({**settings, "processes": 2, "kind": "full", "own_steps": own_steps}).train()


@pytest.mark.gpu
@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="fewer than two GPUs")
def test_two_gpus_do_what_one_does(settings, tmp_path):
    """Through NCCL, in a trial that Tune gave two bundles of a GPU each."""
    losses = []
    with embedded_ray(num_cpus=2, num_gpus=2):
        for processes in (1, 2):
            bundles = tune.PlacementGroupFactory([{"CPU": 1, "GPU": 1}] * processes)
            tuner = tune.Tuner(
                tune.with_resources(Any, bundles),
                param_space={**settings, "processes": processes},
                run_config=tune.RunConfig(storage_path=str(tmp_path), stop={"training_iteration": 3}),
            )
            (result,) = tuner.fit()
            losses.append(result.metrics["loss/loss"])
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)
