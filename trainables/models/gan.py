"""The GAN baseline (Goodfellow et al. 2014): VAE-GAN's decoder against its discriminator.

With `gan_loss="wasserstein"` it is WGAN-GP (Gulrajani et al. 2017), whose published setting is the recipe
"wgan_gp": the discriminator is a critic without batch norm that takes several steps to each of the generator.
"""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from trainables.models.base import GenerativeModel
from trainables.models.losses import binary_cross_entropy
from trainables.models.networks import Decoder, Discriminator, initialize, running_mean
from trainables.models.wasserstein import gradient_penalty

WGAN_GP: dict[str, Any] = {  # Gulrajani et al. 2017, Algorithm 1
    "gan_loss": "wasserstein",
    "critic_steps": 5,
    "learning_rate": 1e-4,
    "adam_beta1": 0.0,
    "adam_beta2": 0.9,
}


@dataclass(frozen=True)
class GANConfig:
    """Hyperparameters of `GAN`; the defaults are the seed's Tables 1 and 3 and its section 5.5."""

    image_size: int = 64
    channels: int = 3
    width: float = 1.0
    latent_dim: int = 128
    learning_rate: float = 3e-4
    discriminator_learning_rate: float | None = None  # None: the same (Heusel et al. 2017 give each its own)
    adam_beta1: float = 0.5
    adam_beta2: float = 0.999
    gan_loss: Literal["non_saturating", "wasserstein"] = "non_saturating"
    gradient_penalty: float = 10.0  # this and the next are for "wasserstein" alone, labels for the other
    critic_steps: int = 1  # updates of the critic, each on a batch of its own, to one of the generator
    real_label: float = 0.95
    fake_label: float = 0.05
    label_swap: float = 0.05
    ema_decay: float | None = None  # None: images come from the generator as it is, not from its running mean


class GAN(GenerativeModel):
    """Non-saturating GAN: the generator descends −log D(G(z)) (Goodfellow et al. 2014, sec. 3)."""

    Config = GANConfig
    RECIPES: ClassVar = {"wgan_gp": WGAN_GP}

    def build(self) -> None:
        """Build generator and discriminator."""
        c = self.config
        check_gan_loss(c, ("non_saturating", "wasserstein"))
        critic = c.gan_loss == "wasserstein"
        self.decoder = Decoder(c.image_size, c.channels, c.width, c.latent_dim)
        self.discriminator = Discriminator(
            c.image_size, c.channels, c.width, "fully_connected", batch_norm=not critic
        )
        initialize(self)
        if critic:
            self.register_buffer("steps", torch.zeros((), dtype=torch.long))
        self.averaged_decoder = running_mean(self.decoder, c.ema_decay)

    def build_optimizers(self) -> dict[str, torch.optim.Optimizer]:
        """One Adam a network."""
        c = self.config
        rates = {
            "decoder": c.learning_rate,
            "discriminator": c.discriminator_learning_rate or c.learning_rate,
        }
        return {
            name: torch.optim.Adam(
                getattr(self, name).parameters(), lr=rate, betas=(c.adam_beta1, c.adam_beta2), fused=True
            )
            for name, rate in rates.items()
        }

    def training_step(self, x: Tensor) -> dict[str, Tensor]:
        """Update both networks from one forward pass of each, D on real and on generated images."""
        if self.config.gan_loss == "wasserstein":
            return self._wasserstein_step(x)
        self.train()
        shape = (len(x), self.config.latent_dim)
        z = torch.randn(shape, generator=self.generator, device=self.device, dtype=x.dtype)
        generated = self.decode(z)
        leaf = generated.detach().requires_grad_()
        _, real_logits = self.discriminator(x)
        _, fake_logits = self.discriminator(leaf)
        real, fake = discriminator_labels(self.config, self.generator)
        gan = binary_cross_entropy(real_logits, real) + binary_cross_entropy(fake_logits, fake)
        generator_loss = binary_cross_entropy(fake_logits, torch.ones_like(real))

        scaled = self.loss_scale("decoder") * generator_loss
        (image_gradient,) = torch.autograd.grad(scaled, leaf, retain_graph=True)
        for optimizer in self.optimizers.values():
            optimizer.zero_grad()
        (self.loss_scale("discriminator") * gan).backward(inputs=list(self.discriminator.parameters()))
        generated.backward(image_gradient)
        for name in self.optimizers:
            self.update(name)
        if self.averaged_decoder is not None:
            self.averaged_decoder.update_parameters(self.decoder)
        return {
            "gan": gan.detach(),
            "generator": generator_loss.detach(),
            "discriminator_accuracy": discriminator_accuracy(real_logits, fake_logits),
        }

    def _wasserstein_step(self, x: Tensor) -> dict[str, Tensor]:
        """Update the critic by E[D(G(z))] − E[D(x)] + λ·penalty, and where it is due G by −E[D(G(z))]."""
        self.train()
        shape = (len(x), self.config.latent_dim)
        z = torch.randn(shape, generator=self.generator, device=self.device, dtype=x.dtype)
        self.steps += 1
        due = int(self.steps) % self.config.critic_steps == 0
        with torch.set_grad_enabled(due):
            generated = self.decode(z)
        leaf = generated.detach().requires_grad_()
        real_scores, fake_scores = self.discriminator(x)[1], self.discriminator(leaf)[1]
        distance = real_scores.mean() - fake_scores.mean()
        with self.eager():
            penalty = gradient_penalty(lambda images: self.discriminator(images)[1], x, leaf, self.generator)
        if due:
            generator_loss = self.loss_scale("decoder") * -fake_scores.mean()
            (image_gradient,) = torch.autograd.grad(generator_loss, leaf, retain_graph=True)
            self.optimizers["decoder"].zero_grad()
            generated.backward(image_gradient)
            self.update("decoder")
        self.optimizers["discriminator"].zero_grad()
        critic_loss = self.config.gradient_penalty * penalty - distance
        scaled = self.loss_scale("discriminator") * critic_loss
        scaled.backward(inputs=list(self.discriminator.parameters()))
        self.update("discriminator")
        if due and self.averaged_decoder is not None:
            self.averaged_decoder.update_parameters(self.decoder)
        return {
            "critic": critic_loss.detach(),
            "wasserstein_distance": distance.detach(),
            "gradient_penalty": penalty.detach(),
        }

    def decode(self, z: Tensor) -> Tensor:
        """Return the images of latents (B, M); in evaluation mode, from the decoder's running mean."""
        averaged = None if self.training else self.averaged_decoder
        return (averaged or self.decoder)(z)


def check_gan_loss(config, known: tuple[str, ...]) -> None:
    """Raise ValueError, with the valid ones, for an unknown `gan_loss` or a `critic_steps` below 1."""
    if config.gan_loss not in known:
        raise ValueError(f"gan_loss is {config.gan_loss!r}; it is one of: {', '.join(known)}")
    if config.critic_steps < 1:
        raise ValueError(f"critic_steps is {config.critic_steps}; it must be 1 or more")


def discriminator_labels(config, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return (real, fake), swapped with probability `label_swap` at each iteration (seed sec. 5.5)."""
    swapped = torch.rand((), generator=generator, device=generator.device) < config.label_swap
    real = torch.where(swapped, config.fake_label, config.real_label)  # tensors: no wait for the device
    fake = torch.where(swapped, config.real_label, config.fake_label)
    return real, fake


def discriminator_accuracy(real_logits: Tensor, *fake_logits: Tensor) -> Tensor:
    """Share of images that the discriminator judges right, real and fake weighing the same."""
    fake = torch.cat(fake_logits)
    return ((real_logits > 0).float().mean() + (fake <= 0).float().mean()).detach() / 2
