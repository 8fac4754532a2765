"""Training steps as others write them, of networks that are given: the peers of `benchmarks/training.py`."""

import argparse
import tempfile
from collections.abc import Callable, Iterator
from itertools import cycle

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

import trainables.torchvision_shim  # noqa: F401  before torchvision, which the peer imports
from trainables.models.base import GenerativeModel
from trainables.models.bernoulli_vae import BernoulliVAE
from trainables.models.convvae import ConvVAE
from trainables.models.factorvae import FactorVAE
from trainables.models.gan import GAN
from trainables.models.lego_vae import LegoVAE
from trainables.models.vae import VAE
from trainables.models.vaegan import VAEGAN
from trainables.models.vqvae import VQVAE

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


def build(
    model_class: type[GenerativeModel], settings: dict, args: argparse.Namespace, **options
) -> GenerativeModel:
    sizes = {"image_size": args.image_size, "width": args.width}
    return model_class(model_class.configure({**sizes, **settings}), **options)


def plain(
    model_class: type[GenerativeModel], settings: dict, images: np.ndarray, args: argparse.Namespace
) -> Step:
    model = build(model_class, settings, args)
    model.to(memory_format=torch.contiguous_format).train()
    for group in (group for optimizer in model.optimizers.values() for group in optimizer.param_groups):
        group["fused"] = None  # as PyTorch has it where nothing is asked for
    batches, number = loaded(images, args.batch_size), 0

    def step() -> None:
        nonlocal number
        number += 1
        if settings.get("recipe") == "wgan_gp":
            found = wgan_losses(model, next(batches), due=number % model.config.critic_steps == 0)
        else:
            found = LOSSES[model_class](model, next(batches))
        gradients = {}
        for name, loss in found.items():
            model.zero_grad()
            loss.backward(retain_graph=len(found) > 1)
            parameters = [p for group in model.optimizers[name].param_groups for p in group["params"]]
            gradients[name] = [(p, p.grad) for p in parameters]
        for name, pairs in gradients.items():
            for parameter, gradient in pairs:
                parameter.grad = gradient
            if model_class is LegoVAE:
                nn.utils.clip_grad_norm_(model.parameters(), model.config.gradient_clip)
            model.optimizers[name].step()

    return step


def encoded(model, x: Tensor) -> tuple[Tensor, Tensor]:
    mean, log_variance = model.encode(x)
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


def factorvae_losses(model: FactorVAE, x: Tensor) -> dict[str, Tensor]:
    z, kl = encoded(model, x)
    error = 0.5 * (x - model.decoder(z)).square().flatten(1).sum(1).mean()
    judged = model.discriminator(z)
    permuted = torch.stack([unit[torch.randperm(len(unit))] for unit in z.detach().unbind(1)], 1)
    discriminator = 0.5 * (cost(judged, 1.0) + cost(model.discriminator(permuted), 0.0))
    return {"autoencoder": error + kl + model.config.gamma * judged.mean(), "discriminator": discriminator}


def wgan_losses(model: GAN, x: Tensor, due: bool) -> dict[str, Tensor]:
    fake = model.decoder(torch.randn(len(x), model.config.latent_dim)).detach()
    share = torch.rand(len(x), 1, 1, 1)
    between = (share * x + (1 - share) * fake).requires_grad_()
    scores = model.discriminator(between)[1]
    (slope,) = torch.autograd.grad(scores, between, torch.ones_like(scores), create_graph=True)
    penalty = (slope.flatten(1).norm(dim=1) - 1).square().mean()
    critic = model.discriminator(fake)[1].mean() - model.discriminator(x)[1].mean() + 10 * penalty
    if not due:
        return {"discriminator": critic}
    fake = model.decoder(torch.randn(len(x), model.config.latent_dim))
    return {"discriminator": critic, "decoder": -model.discriminator(fake)[1].mean()}


def vqvae_losses(model: VQVAE, x: Tensor) -> dict[str, Tensor]:
    z = model.encoder(x).permute(0, 2, 3, 1).contiguous()
    flat, entries = z.flatten(0, 2), model.quantizer.codebook
    distances = flat.square().sum(1, keepdim=True) + entries.square().sum(1) - 2 * flat @ entries.T
    one_hot = F.one_hot(distances.argmin(1), len(entries)).float()
    quantized = (one_hot @ entries).view_as(z)
    loss = F.mse_loss(quantized, z.detach()) + model.config.commitment * F.mse_loss(quantized.detach(), z)
    quantized = z + (quantized - z).detach()
    decoded = 2 * model.decoder(quantized.permute(0, 3, 1, 2).contiguous()) - 1
    return {"autoencoder": F.mse_loss(decoded, x) / 4 + loss}


def summed_losses(model: ConvVAE | LegoVAE, x: Tensor) -> dict[str, Tensor]:
    z, kl = encoded(model, x)
    error = F.mse_loss(model.decode(z), x, reduction="sum") / 4
    weight = 1.0 if isinstance(model, LegoVAE) else model.config.beta_start
    return {"autoencoder": error + weight * len(x) * kl}


def bernoulli_losses(model: BernoulliVAE, x: Tensor) -> dict[str, Tensor]:
    z, kl = encoded(model, x)
    probability = torch.sigmoid(model.logits(z))
    error = F.binary_cross_entropy(probability, (x + 1) / 2, reduction="sum")
    return {"autoencoder": error / len(x) + kl}


LOSSES: dict[type[GenerativeModel], Callable] = {
    VAEGAN: vaegan_losses,
    VAE: vae_losses,
    GAN: gan_losses,
    FactorVAE: factorvae_losses,
    VQVAE: vqvae_losses,
    ConvVAE: summed_losses,
    LegoVAE: summed_losses,
    BernoulliVAE: bernoulli_losses,
}


def pythae(
    model_class: type[GenerativeModel], settings: dict, images: np.ndarray, args: argparse.Namespace
) -> Step | None:
    """Pythae's trainer one batch at a time: its own loader, model and update."""
    if model_class not in (VAE, VQVAE) and settings.get("recipe") != "larsen":
        return None
    from pythae import models, trainers
    from pythae.data.datasets import BaseDataset
    from pythae.models.base.base_utils import ModelOutput
    from pythae.models.nn import BaseDecoder, BaseDiscriminator, BaseEncoder

    own = build(model_class, settings, args)
    own.to(memory_format=torch.contiguous_format)
    latent_dim = own.config.embedding_dim if model_class is VQVAE else own.config.latent_dim
    shared = {"input_dim": (3, args.image_size, args.image_size), "latent_dim": latent_dim}

    class Encoder(BaseEncoder):
        def __init__(self):
            super().__init__()
            self.network = own.encoder

        def forward(self, x):
            if model_class is VQVAE:
                return ModelOutput(embedding=self.network(x))
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
    if model_class in (VAE, VQVAE):
        if model_class is VAE:
            model = models.VAE(models.VAEConfig(**shared), Encoder(), Decoder())
        else:
            config = models.VQVAEConfig(**shared, num_embeddings=own.config.codes)
            model = models.VQVAE(config, Encoder(), Decoder())
        settings = trainers.BaseTrainerConfig(**common, learning_rate=own.config.learning_rate)
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
