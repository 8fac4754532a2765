"""What a training step costs, beside two peers: `python -m benchmarks.training [ratios|profile]`.

ratios    each model, its networks, batch and data the same, in turns with
          plain: as the papers' code is written: per-image conversion in a DataLoader, the default memory
                 format, one full backward pass for each network's loss with the graph kept
          pythae: Pythae 0.1.2's trainers, given these networks (where it has the model)
profile   where a trial's time goes, with the quick preset of `searchers.beta_vaegan`

Seconds are CPU time of one thread, which a busy machine changes least; a ratio is the median over turns. The
peer is none of the project's dependencies:
  pip install --target PEERS --no-deps pythae==0.1.2 cloudpickle imageio
  OMP_NUM_THREADS=1 PYTHONPATH=PEERS python -m benchmarks.training ratios --image-size 32 --width 0.25
"""

import argparse
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from itertools import cycle

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

import trainables.torchvision_shim  # noqa: F401  before torchvision, which the peer imports
from trainables.data.batches import to_float
from trainables.data.faces import render
from trainables.models.base import GenerativeModel
from trainables.models.gan import GAN
from trainables.models.vae import VAE
from trainables.models.vaegan import VAEGAN

MODELS: dict[str, tuple[type[GenerativeModel], dict]] = {
    "VAE-GAN, report": (VAEGAN, {"recipe": "report"}),
    "VAE-GAN, larsen": (VAEGAN, {"recipe": "larsen"}),
    "VAE": (VAE, {}),
    "GAN": (GAN, {}),
}
Step = Callable[[], None]


class Images(Dataset):
    """Images as torchvision's ToTensor and Normalize(0.5, 0.5) give them: one at a time, channels first."""

    def __init__(self, images: np.ndarray):
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Tensor:
        image = torch.from_numpy(self.images[index].copy()).permute(2, 0, 1).contiguous()
        return image.float().div(255).sub(0.5).div(0.5)


def loaded(images: np.ndarray, batch_size: int) -> Iterator[Tensor]:
    loader = DataLoader(Images(images), batch_size, shuffle=True, drop_last=True)
    while True:
        yield from loader


def ours(name: str, images: np.ndarray, args: argparse.Namespace) -> Step:
    model_class, settings = MODELS[name]
    model = model_class(model_class.configure({**sizes(args), **settings}))
    order = np.random.default_rng(0)

    def step() -> None:
        model.training_step(to_float(images[order.choice(len(images), args.batch_size, replace=False)]))

    return step


def sizes(args: argparse.Namespace) -> dict:
    return {"image_size": args.image_size, "width": args.width}


def plain(name: str, images: np.ndarray, args: argparse.Namespace) -> Step:
    model_class, settings = MODELS[name]
    model = model_class(model_class.configure({**sizes(args), **settings}))
    model.to(memory_format=torch.contiguous_format).train()
    batches = loaded(images, args.batch_size)
    losses = {VAEGAN: vaegan_losses, VAE: vae_losses, GAN: gan_losses}[model_class]

    def step() -> None:
        found = losses(model, next(batches))
        gradients = {}
        for name, loss in found.items():
            model.zero_grad()
            loss.backward(retain_graph=True)
            parameters = [p for group in model.optimizers[name].param_groups for p in group["params"]]
            gradients[name] = [(p, p.grad) for p in parameters]
        for name, pairs in gradients.items():
            for parameter, gradient in pairs:
                parameter.grad = gradient
            model.optimizers[name].step()

    return step


def encoded(model, x: Tensor) -> tuple[Tensor, Tensor]:
    mean, log_variance = model.encoder(x)
    z = mean + (0.5 * log_variance).exp() * torch.randn_like(mean)
    return z, 0.5 * (mean**2 + log_variance.exp() - 1 - log_variance).sum(1).mean()


def cost(logits: Tensor, label: float) -> Tensor:
    return F.binary_cross_entropy_with_logits(logits, torch.full_like(logits, label))


def vae_losses(model: VAE, x: Tensor) -> dict[str, Tensor]:
    z, kl = encoded(model, x)
    return {"autoencoder": 0.5 * (x - model.decoder(z)).square().flatten(1).sum(1).mean() + kl}


def gan_losses(model: GAN, x: Tensor) -> dict[str, Tensor]:
    fake = model.decoder(torch.randn(len(x), model.config.latent_dim))
    fake_logits = model.discriminator(fake)[1]
    discriminator = cost(model.discriminator(x)[1], 0.95) + cost(fake_logits, 0.05)
    return {"decoder": cost(fake_logits, 1.0), "discriminator": discriminator}


def vaegan_losses(model: VAEGAN, x: Tensor) -> dict[str, Tensor]:
    c = model.config
    z, kl = encoded(model, x)
    reconstruction, generated = model.decoder(z), model.decoder(torch.randn_like(z))
    real_features, real_logits = model.discriminator(x)
    features, reconstruction_logits = model.discriminator(reconstruction)
    gan = cost(real_logits, c.real_label) + cost(model.discriminator(generated)[1], c.fake_label)
    if c.reconstructions_are_fake:
        gan = gan + cost(reconstruction_logits, c.fake_label)
    feature = 0.5 * (real_features - features).square().sum(1).mean()
    return {"encoder": kl + feature, "decoder": c.gamma * feature - gan, "discriminator": gan}


def pythae(name: str, images: np.ndarray, args: argparse.Namespace) -> Step | None:
    """Pythae's trainer one batch at a time: its own loader, model and update."""
    if name not in ("VAE-GAN, larsen", "VAE"):
        return None
    from pythae import models, trainers
    from pythae.data.datasets import BaseDataset
    from pythae.models.base.base_utils import ModelOutput
    from pythae.models.nn import BaseDecoder, BaseDiscriminator, BaseEncoder

    model_class, settings = MODELS[name]
    own = model_class(model_class.configure({**sizes(args), **settings}))
    own.to(memory_format=torch.contiguous_format)
    shared = {"input_dim": (3, args.image_size, args.image_size), "latent_dim": own.config.latent_dim}

    class Encoder(BaseEncoder):
        def __init__(self):
            super().__init__()
            self.network = own.encoder

        def forward(self, x):
            mean, log_variance = self.network(x)
            return ModelOutput(embedding=mean, log_covariance=log_variance)

    class Decoder(BaseDecoder):
        def __init__(self):
            super().__init__()
            self.network = own.decoder

        def forward(self, z):
            return ModelOutput(reconstruction=self.network(z))

    class Discriminator(BaseDiscriminator):
        depth = 2

        def __init__(self):
            super().__init__()
            self.network = own.discriminator

        def forward(self, x, output_layer_levels=None):
            if output_layer_levels:
                return ModelOutput(embedding_layer_1=self.network.features(x))
            return ModelOutput(embedding=torch.sigmoid(self.network(x)[1]))

    data = BaseDataset(torch.stack(list(Images(images))), torch.zeros(len(images)))
    folder = tempfile.mkdtemp()
    common = {"output_dir": folder, "per_device_train_batch_size": args.batch_size, "no_cuda": True}
    if name == "VAE":
        config = models.VAEConfig(**shared)
        model = models.VAE(config, Encoder(), Decoder())
        settings = trainers.BaseTrainerConfig(**common, learning_rate=3e-4)
        trainer = trainers.BaseTrainer(model, train_dataset=data, training_config=settings)
    else:
        config = models.VAEGANConfig(**shared, reconstruction_layer=1)
        model = models.VAEGAN(config, Encoder(), Decoder(), Discriminator())
        rates = dict.fromkeys(
            ("encoder_learning_rate", "decoder_learning_rate", "discriminator_learning_rate"), 3e-4
        )
        optimizers = dict.fromkeys(
            ("encoder_optimizer_cls", "decoder_optimizer_cls", "discriminator_optimizer_cls"), "RMSprop"
        )
        kind = trainers.CoupledOptimizerAdversarialTrainerConfig
        settings = kind(**common, **rates, **optimizers)
        trainer = trainers.CoupledOptimizerAdversarialTrainer(
            model, train_dataset=data, training_config=settings
        )
    trainer.prepare_training()
    trainer.model.train()
    batches = (inputs for loader in cycle([trainer.train_loader]) for inputs in loader)

    def step() -> None:
        inputs = trainer._set_inputs_to_device(next(batches))
        output = trainer.model(inputs, epoch=1, dataset_size=len(data), uses_ddp=False)
        trainer._optimizers_step(output)
        output.loss.item()

    return step


def seconds(step: Step, steps: int) -> float:
    start = time.process_time()
    for _ in range(steps):
        step()
    return (time.process_time() - start) / steps


def ratios(args: argparse.Namespace) -> None:
    images = render(args.images, image_size=args.image_size)[0]
    print(f"{args.image_size}×{args.image_size}, width {args.width}, batches of {args.batch_size}, ", end="")
    print(f"{args.turns} turns of {args.steps} steps")
    print("| model | ours, images/s | plain ÷ ours (range) | Pythae ÷ ours (range) |\n|---|--:|--:|--:|")
    for name in args.models:
        steps = {"ours": ours, "plain": plain, "pythae": pythae}
        steps = {peer: build(name, images, args) for peer, build in steps.items()}
        steps = {peer: step for peer, step in steps.items() if step is not None}
        for step in steps.values():
            step()  # allocations, and the libraries' choice of kernels
        turns = [{peer: seconds(step, args.steps) for peer, step in steps.items()} for _ in range(args.turns)]
        speed = args.batch_size / statistics.median(turn["ours"] for turn in turns)
        cells = [name, f"{speed:.0f}"]
        for peer in ("plain", "pythae"):
            found = sorted(turn[peer] / turn["ours"] for turn in turns if peer in turn)
            middle = f"{statistics.median(found):.2f} ({found[0]:.2f}–{found[-1]:.2f})" if found else "–"
            cells.append(middle)
        print("| " + " | ".join(cells) + " |", flush=True)


def profile(args: argparse.Namespace) -> None:
    """An epoch of the quick preset's trial; forward is what no other row accounts for."""
    from searchers.beta_vaegan import PRESETS, QUICK
    from trainables import BetaVAEGAN

    preset = PRESETS["quick"]
    names = ("dataset", "dataset_limit", "image_size", "width", "batch_size", "evaluation_samples")
    config = {name: getattr(preset, name) for name in names} | QUICK
    trial = BetaVAEGAN(config={**config, "beta": 1.0})
    spent: Counter[str] = Counter()

    def measured(what: str, function: Callable) -> Callable:
        def call(*arguments, **named):
            start = time.process_time()
            try:
                return function(*arguments, **named)
            finally:
                spent[what] += time.process_time() - start

        return call

    def batches(epoch: int) -> Iterator[Tensor]:
        iterator = epochs(epoch)
        take = measured("data", partial(next, iterator, None))
        while (x := take()) is not None:
            yield x

    epochs, trial.batches.epoch = trial.batches.epoch, batches
    for name in ("grad", "backward"):
        setattr(torch.autograd, name, measured("backward", getattr(torch.autograd, name)))
    for optimizer in trial.model.optimizers.values():
        optimizer.step = measured("optimiser", optimizer.step)
    trial.model.averaged_decoder.update_parameters = measured(
        "running mean of the decoder", trial.model.averaged_decoder.update_parameters
    )
    trial.evaluate = measured("evaluation", trial.evaluate)
    total = measured("total", trial.step)
    total()
    whole = spent.pop("total")
    spent["forward, losses, the rest"] = whole - spent.total()
    print(f"quick preset, one epoch of {len(trial.batches)} steps of {preset.batch_size} images, ", end="")
    print(f"{preset.evaluation_samples} samples evaluated: {whole:.1f} CPU s")
    print("| part | share |\n|---|--:|")
    for part, value in spent.most_common():
        print(f"| {part} | {100 * value / whole:.1f} % |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="*", choices=["ratios", "profile"], default=["ratios", "profile"])
    parser.add_argument("--models", nargs="+", choices=list(MODELS), default=list(MODELS))
    parser.add_argument("--image-size", type=int, default=64)
    parser.add_argument("--width", type=float, default=1.0)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--images", type=int, default=512)
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--turns", type=int, default=5)
    args = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    for part in args.parts:
        {"ratios": ratios, "profile": profile}[part](args)


if __name__ == "__main__":
    main()
