"""What a training by `--preset report` computes and holds: `python -m benchmarks.cost [count | table]`.

count   run steps of each model on a few images, and write what they took into `cost.jsonl`
table   the record, and the hours of an A100 by arithmetic, which no one has measured

A multiplication and an addition are two operations. Those of convolutions and products of matrices are
counted, forward and backward, by torch's formulas, and no others. They and the activations grow with the
number of images, so that a few images tell of a batch. Launches do not: each operation of torch that is no
mere view of a tensor is one.
"""

import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from benchmarks import records
from searchers import beta_vaegan, densities, flow, happy_people, lego_vae
from trainables.data.catalogue import DRAWN
from trainables.latent.settings import LatentConfig
from trainables.models.base import GenerativeModel
from trainables.models.bernoulli_vae import BernoulliVAE
from trainables.models.convvae import ConvVAE
from trainables.models.lego_vae import LegoVAE
from trainables.models.vqvae import VQVAE
from trainables.tune.baselines import MODELS

RECORD = records.FOLDER / "cost.jsonl"
IMAGES = 4  # of a step that is counted
STEPS = 10  # of a model whose training has phases
CELEBA, DIGITS, DRAWINGS = 162_770, 54_000, DRAWN * 8 // 10  # to train on; a tenth of MNIST's validates
A100 = 312e12  # operations a second in bfloat16, by NVIDIA's data sheet
USED = (0.3, 0.1)  # of them: an assumption, as the next one is
LAUNCH = 1e-5  # seconds, below which Python and torch do not begin an operation


@dataclass(frozen=True)
class Cost:
    """What a training step takes, for an image but for its launches; and what the model holds, bytes."""

    operations: float
    launches: float
    activations: float  # kept for the backward pass, at most at a time
    parameters: int
    optimizer_bytes: int
    sample_operations: float  # of an image that is drawn
    cpu_seconds: float


@dataclass(frozen=True)
class Training:
    """A model in its study's preset `report`: what it is, and how long it is trained."""

    study: str
    name: str
    kind: type[GenerativeModel]
    settings: dict[str, Any]
    images: int
    batch: int
    epochs: int


def trainings() -> list[Training]:
    """Return what the presets train: of what is searched the largest, of a study's models each."""
    main, faces = beta_vaegan.PRESETS["report"], flow.PRESETS["report"]
    heads, digits, smiles = lego_vae.PRESETS["report"], densities.PRESETS["report"], LatentConfig()
    rows = []
    for name in ("beta-VAE-GAN", "GAN", "WGAN-GP", "VAE", "FactorVAE", "latent-flow"):
        kind, settings, _ = MODELS[name]
        study = "beta_vaegan" if name == "beta-VAE-GAN" else "baselines"
        settings = settings | {"image_size": main.image_size, "width": main.width, "latent_dim": 128}
        rows.append(Training(study, name, kind, settings, CELEBA, main.batch_size, main.epochs))
    for name in ("flow", "EDM"):
        settings = {"image_size": faces.image_size, "width": faces.width}
        rows.append(
            Training("flow", name, MODELS[name][0], settings, DRAWINGS, faces.batch_size, faces.epochs)
        )
    settings = {"image_size": heads.image_size, "width": heads.width, "hidden": 2048, "latent_dim": 64}
    rows.append(Training("lego_vae", "LegoVAE", LegoVAE, settings, DRAWINGS, heads.batch_size, heads.epochs))
    settings = {"image_size": happy_people.PRESETS["report"].image_size}
    epochs = {VQVAE: (smiles.vqvae_batch_size, smiles.vqvae_epochs)}
    epochs[ConvVAE] = (smiles.vae_batch_size, smiles.vae_epochs)
    rows += [Training("happy_people", k.__name__, k, settings, CELEBA, *epochs[k]) for k in (VQVAE, ConvVAE)]
    for networks in ("dense", "convolutional"):
        settings = {"image_size": digits.image_size, "networks": networks, "latent_dim": 64}
        name = f"BernoulliVAE, {networks}"
        rows.append(
            Training("densities", name, BernoulliVAE, settings, DIGITS, digits.batch_size, digits.epochs)
        )
    return rows


class Operations(TorchDispatchMode):
    """Counts operations. torch's `FlopCounterMode` fails in steps that go back through a graph in parts."""

    total = launches = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        self.launches += not func.is_view
        if formula := flop_registry.get(func._overloadpacket):
            self.total += formula(*args, **(kwargs or {}), out_val=result)
        return result


class Kept:
    """The memory that tensors saved for the backward pass hold, each storage once, parameters aside."""

    def __init__(self, model: GenerativeModel):
        self.others = {tensor.untyped_storage().data_ptr() for tensor in model.state_dict().values()}
        self.users: Counter[int] = Counter()
        self.now = self.most = 0

    def keep(self, tensor: Tensor) -> Callable[[], Tensor]:
        """Count a tensor until what this returns is gone."""
        storage = tensor.untyped_storage()
        address, size = storage.data_ptr(), storage.nbytes()
        if address in self.others:
            return lambda: tensor
        self.users[address] += 1
        self.now += size if self.users[address] == 1 else 0
        self.most = max(self.most, self.now)
        return Saved(tensor, lambda: self.give_up(address, size))

    def give_up(self, address: int, size: int) -> None:
        """One user of a storage is gone."""
        self.users[address] -= 1
        self.now -= 0 if self.users[address] else size


class Saved:
    """A tensor that tells when it is no longer needed."""

    def __init__(self, tensor: Tensor, gone: Callable[[], None]):
        self.tensor, self.gone = tensor, gone

    def __call__(self) -> Tensor:
        return self.tensor

    def __del__(self) -> None:
        self.gone()


def count(model: GenerativeModel, images: int = IMAGES) -> Cost:
    """Return what a model costs, from as many steps as have all that a training has."""
    c = model.config
    shape = (images, c.image_size, c.image_size, c.channels)
    x = torch.rand(shape, generator=torch.Generator().manual_seed(0)).permute(0, 3, 1, 2) * 2 - 1
    steps = STEPS if model.needs_progress else getattr(c, "critic_steps", 1)
    kept, operations, drawing = Kept(model), Operations(), Operations()
    train(model, x, 1)  # the libraries choose their kernels, the optimizers make their state
    begin = time.process_time()
    train(model, x, steps)
    seconds = time.process_time() - begin
    with operations, saved_tensors_hooks(kept.keep, lambda saved: saved()):
        train(model, x, steps)
    with drawing:
        model.sample(images)
    states = [s for o in model.optimizers.values() for state in o.state.values() for s in state.values()]
    return Cost(
        operations=operations.total / steps / images,
        launches=operations.launches / steps,
        activations=kept.most / images,
        parameters=sum(p.numel() for p in model.parameters()),
        optimizer_bytes=sum(s.numel() * s.element_size() for s in states if isinstance(s, Tensor)),
        sample_operations=drawing.total / images,
        cpu_seconds=seconds / steps / images,
    )


def train(model: GenerativeModel, x: Tensor, steps: int) -> None:
    """Take steps that are spread over the whole of training."""
    for step in range(steps):
        model.progress = (step + 0.5) / steps
        model.training_step(x)


def record() -> None:
    """Count each training of the presets, one after another, in one thread."""
    torch.set_num_threads(1)
    RECORD.unlink(missing_ok=True)
    for training in trainings():
        cost = count(training.kind(training.kind.configure(training.settings)))
        about = {key: value for key, value in asdict(training).items() if key not in ("kind", "settings")}
        records.add("cost", about | {"image_size": training.settings["image_size"]} | asdict(cost))


def minutes(row: dict[str, Any], used: float) -> float:
    """Return the minutes of a training on an A100 of which this share is used, or that waits for launches."""
    step = max(row["operations"] * row["batch"] / (used * A100), row["launches"] * LAUNCH)
    return step * row["images"] * row["epochs"] / row["batch"] / 60


def table() -> None:
    """Print the record: how long each model trains, then what it holds."""
    found = records.read("cost")
    header = ["study: model", "images × epochs", "batch", "GFLOP a step", "launches", "A100, minutes"]
    rows = []
    for row in found:
        cells = [f"{row['study']}: {row['name']}", f"{row['images']} × {row['epochs']}", f"{row['batch']}"]
        cells += [f"{row['operations'] * row['batch'] / 1e9:.4g}", f"{row['launches']:.0f}"]
        cells += ["–".join(dict.fromkeys(f"{minutes(row, used):.2g}" for used in USED))]
        rows.append([*cells, f"{row['operations'] / row['cpu_seconds'] / 1e9:.1f}"])
    records.table([*header, "here, GFLOP/s"], rows)
    rows = []
    for row in found:
        activations, weights = row["activations"] * row["batch"], 4 * row["parameters"]
        cells = [row["name"], f"{row['image_size']}", f"{row['parameters'] / 1e6:.2f}"]
        cells += [f"{activations / 1e9:.2f}", f"{row['optimizer_bytes'] / 1e6:.1f}"]
        rows.append([*cells, f"{(activations + 2 * weights + row['optimizer_bytes']) / 1e9:.2f}"])
    header = ["model", "side", "parameters, millions", "activations, GB", "optimizer, MB", "in all, GB"]
    records.table(header, rows)


if __name__ == "__main__":
    record() if sys.argv[1:] == ["count"] else table()
