"""The GAN baseline (Goodfellow et al. 2014): VAE-GAN's decoder against its discriminator.

With `gan_loss="wasserstein"` it is WGAN-GP (Gulrajani et al. 2017). There the discriminator is a critic
without batch norm, which takes several steps for each of the generator. The recipe "wgan_gp" holds the
published settings.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from trainables.models.adversarial import (
    WGAN_GP,
    GANLoss,
    discriminator_labels,
    non_saturating,
    wasserstein,
)
from trainables.models.base import GenerativeModel
from trainables.models.networks import Decoder, Discriminator, initialize, running_mean
from trainables.models.settings import BelowOne, Count, NotNegative, Positive, Share


@dataclass(frozen=True)
class GANConfig:
    """Hyperparameters of `GAN`. The defaults are those of [BVG], Tables 1 and 3 and section 5.5."""

    image_size: Count = 64
    channels: Count = 3
    width: Positive = 1.0
    latent_dim: Count = 128
    learning_rate: Positive = 3e-4
    discriminator_learning_rate: NotNegative | None = None  # None: that one; Heusel et al. (2017) use two
    adam_beta1: BelowOne = 0.5
    adam_beta2: BelowOne = 0.999
    gan_loss: Literal["non_saturating", "wasserstein"] = "non_saturating"
    gradient_penalty: NotNegative = (
        10.0  # this and `critic_steps` matter to "wasserstein" alone, labels to the other
    )
    critic_steps: Count = 1  # updates of the critic, each on its own batch, for one of the generator
    real_label: float = 0.95
    fake_label: float = 0.05
    label_swap: Share = 0.05
    ema_decay: BelowOne | None = None  # with a decay, images come from the generator's running mean


class GAN(GenerativeModel):
    """A generator against a discriminator or, with `gan_loss="wasserstein"`, against a critic."""

    Config = GANConfig
    RECIPES: ClassVar = {"wgan_gp": WGAN_GP}
    config: GANConfig
    steps: Tensor

    def build(self) -> None:
        """Build generator and discriminator."""
        c = self.config
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
        """Return one Adam for each network."""
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
        """Update both networks from one forward pass of each, D on real and on generated images.

        The generator rests, without a gradient, in the steps that are the critic's alone.
        """
        self.train()
        due = self._generator_is_due()
        shape = (len(x), self.config.latent_dim)
        z = torch.randn(shape, generator=self.generator, device=self.device, dtype=x.dtype)
        with torch.set_grad_enabled(due):
            generated = self.decode(z)
        leaf = generated.detach().requires_grad_()  # ends D's graph, so that G is passed through once
        loss = self._gan_loss(x, leaf)
        assert loss.generator is not None

        updated = list(self.optimizers) if due else ["discriminator"]
        for name in updated:
            self.optimizers[name].zero_grad()
        if due:
            scaled = self.loss_scale("decoder") * loss.generator
            (image_gradient,) = torch.autograd.grad(scaled, leaf, retain_graph=True)
        scaled = self.loss_scale("discriminator") * loss.discriminator
        scaled.backward(inputs=list(self.discriminator.parameters()))
        if due:
            generated.backward(image_gradient)
        for name in updated:
            self.update(name)
        if due and self.averaged_decoder is not None:
            self.averaged_decoder.update_parameters(self.decoder)
        if self.config.gan_loss == "wasserstein":
            return {"critic": loss.discriminator.detach()} | loss.logs
        return {"gan": loss.discriminator.detach(), "generator": loss.generator.detach()} | loss.logs

    def _generator_is_due(self) -> bool:
        if self.config.gan_loss != "wasserstein":
            return True
        self.steps += 1
        return int(self.steps) % self.config.critic_steps == 0

    def _gan_loss(self, x: Tensor, fake: Tensor) -> GANLoss:
        c = self.config
        real_logits, fake_logits = self.discriminator(x)[1], self.discriminator(fake)[1]
        if c.gan_loss == "non_saturating":
            labels = discriminator_labels(c.real_label, c.fake_label, c.label_swap, self.generator)
            return non_saturating(real_logits, [fake_logits], labels)
        with self.eager():
            return wasserstein(
                real_logits,
                [fake_logits],
                lambda images: self.discriminator(images)[1],
                x,
                fake,
                c.gradient_penalty,
                self.generator,
            )

    def decode(self, z: Tensor) -> Tensor:
        """Return the images of latents (B, M), in evaluation mode from the decoder's running mean."""
        network = self.decoder if self.training or self.averaged_decoder is None else self.averaged_decoder
        images: Tensor = network(z)
        return images
