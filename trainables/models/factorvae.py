"""FactorVAE (Kim & Mnih 2018): a VAE whose latent units are held independent of each other.

It adds γ times the total correlation KL(q(z) ‖ Π_j q(z_j)) of the codes to the negative ELBO. A discriminator
estimates it by telling codes from codes of which each unit was permuted over the batch on its own (sec. 3).
"""

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn

from trainables.models.losses import binary_cross_entropy, kl_divergence, reparameterize, squared_error
from trainables.models.networks import channels_at
from trainables.models.settings import Count, NotNegative, Positive
from trainables.models.vae import VAE, VAEConfig

LAYERS = 6


@dataclass(frozen=True)
class FactorVAEConfig(VAEConfig):
    """Hyperparameters of `FactorVAE`: the VAE's, whose `beta` is 1 in the paper, and the paper's own."""

    learning_rate: Positive = 1e-4
    gamma: NotNegative = 10.0
    discriminator_hidden: Count = 1000
    discriminator_learning_rate: NotNegative = 1e-4


class CodeDiscriminator(nn.Sequential):
    """Map codes (B, M) to the logit (B, 1) that the encoder gave them, unpermuted (app. A: six layers)."""

    def __init__(self, latent_dim: int, hidden: int):
        layers: list[nn.Module] = []
        sizes = [latent_dim, *[hidden] * (LAYERS - 1)]
        for inputs, outputs in pairwise(sizes):
            layers += [nn.Linear(inputs, outputs), nn.LeakyReLU(0.2)]
        super().__init__(*layers, nn.Linear(hidden, 1))


class FactorVAE(VAE):
    """The VAE and its code discriminator, each updated once a step from one forward pass of the VAE."""

    Config = FactorVAEConfig
    config: FactorVAEConfig

    def build(self) -> None:
        """Build encoder, decoder and code discriminator, which keeps PyTorch's initial weights."""
        super().build()
        c = self.config
        self.discriminator = CodeDiscriminator(c.latent_dim, channels_at(c.width, c.discriminator_hidden))

    def build_optimizers(self) -> dict[str, torch.optim.Optimizer]:
        """Return one Adam for the VAE and one with β₁ = 0.5, β₂ = 0.9 for the discriminator (app. A)."""
        c = self.config
        vae = [*self.encoder.parameters(), *self.decoder.parameters()]
        discriminator = self.discriminator.parameters()
        return {
            "autoencoder": torch.optim.Adam(vae, lr=c.learning_rate, fused=True),
            "discriminator": torch.optim.Adam(
                discriminator, lr=c.discriminator_learning_rate, betas=(0.5, 0.9), fused=True
            ),
        }

    def training_step(self, x: Tensor) -> dict[str, Tensor]:
        """Descend −ELBO + γ·TC, then the discriminator's cross-entropy (the paper's Algorithm 2).

        The permuted codes come from the same batch, as in disentanglement_lib. The paper draws a second one.
        """
        self.train()
        c = self.config
        mean, log_variance = self.encode(x)
        z = reparameterize(mean, log_variance, self.generator)
        error = squared_error(x, self.decode(z)).mean()
        kl = kl_divergence(mean, log_variance).sum(1).mean()
        total_correlation = self.discriminator(z).mean()  # the best logit is log q(z) − log Π_j q(z_j)
        for optimizer in self.optimizers.values():
            optimizer.zero_grad()
        loss = error + c.beta * kl + c.gamma * total_correlation
        loss = self.loss_scale("autoencoder") * loss
        loss.backward(inputs=[*self.encoder.parameters(), *self.decoder.parameters()])

        codes = z.detach()
        one, zero = codes.new_ones((), dtype=torch.float32), codes.new_zeros((), dtype=torch.float32)
        judged = self.discriminator(codes)
        permuted = self.discriminator(permute_units(codes, self.generator))
        cost = 0.5 * (binary_cross_entropy(judged, one) + binary_cross_entropy(permuted, zero))
        (self.loss_scale("discriminator") * cost).backward()
        for name in self.optimizers:
            self.update(name)
        right = (judged > 0).float().mean() + (permuted <= 0).float().mean()
        return {
            "squared_error": error.detach(),
            "kl": kl.detach(),
            "total_correlation": total_correlation.detach(),
            "discriminator": cost.detach(),
            "code_discriminator_accuracy": right.detach() / 2,
        }


def permute_units(codes: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Permute the values of each unit over the batch on their own (Algorithm 1). (B, M) -> (B, M)."""
    keys = torch.rand(codes.shape, generator=generator, device=codes.device)
    return codes.gather(0, keys.argsort(0))
