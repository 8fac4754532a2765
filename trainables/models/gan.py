"""The GAN baseline (Goodfellow et al. 2014): VAE-GAN's decoder against its discriminator."""

from dataclasses import dataclass

import torch
from torch import Tensor

from trainables.models.base import GenerativeModel
from trainables.models.losses import binary_cross_entropy
from trainables.models.networks import Decoder, Discriminator, initialise, running_mean


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
    real_label: float = 0.95
    fake_label: float = 0.05
    label_swap: float = 0.05
    ema_decay: float | None = None  # None: images come from the generator as it is, not from its running mean


class GAN(GenerativeModel):
    """Non-saturating GAN: the generator descends −log D(G(z)) (Goodfellow et al. 2014, sec. 3)."""

    Config = GANConfig

    def build(self) -> None:
        """Build generator and discriminator."""
        c = self.config
        self.decoder = Decoder(c.image_size, c.channels, c.width, c.latent_dim)
        self.discriminator = Discriminator(c.image_size, c.channels, c.width, "fully_connected")
        initialise(self)
        self.averaged_decoder = running_mean(self.decoder, c.ema_decay)

    def build_optimizers(self) -> dict[str, torch.optim.Optimizer]:
        """One Adam a network."""
        c = self.config
        rates = {
            "decoder": c.learning_rate,
            "discriminator": c.discriminator_learning_rate or c.learning_rate,
        }
        return {
            name: torch.optim.Adam(getattr(self, name).parameters(), lr=rate, betas=(c.adam_beta1, 0.999))
            for name, rate in rates.items()
        }

    def training_step(self, x: Tensor) -> dict[str, Tensor]:
        """Update both networks from one forward pass of each, D on real and on generated images."""
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

        (image_gradient,) = torch.autograd.grad(generator_loss, leaf, retain_graph=True)
        for optimizer in self.optimizers.values():
            optimizer.zero_grad()
        gan.backward(inputs=list(self.discriminator.parameters()))
        generated.backward(image_gradient)
        for optimizer in self.optimizers.values():
            optimizer.step()
        if self.averaged_decoder is not None:
            self.averaged_decoder.update_parameters(self.decoder)
        return {
            "gan": gan.detach(),
            "generator": generator_loss.detach(),
            "discriminator_accuracy": discriminator_accuracy(real_logits, fake_logits),
        }

    def decode(self, z: Tensor) -> Tensor:
        """Return the images of latents (B, M); in evaluation mode, from the decoder's running mean."""
        averaged = None if self.training else self.averaged_decoder
        return (averaged or self.decoder)(z)


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
