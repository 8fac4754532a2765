"""VAE-GAN (Larsen et al. 2016) and β-VAE-GAN (the seed, sec. 4.2): `beta` = 1 is the former.

Who gets which gradient:

    encoder        β·KL + L_feature
    decoder        γ·L_feature − L_GAN
    discriminator  L_GAN

with L_feature = ½‖Dis_l(x) − Dis_l(x̃)‖² (seed eq. 12) and L_GAN the discriminator's binary cross-entropy
(eq. 9), x̃ a reconstruction and x_p the image of a prior sample. With `gan_loss="non_saturating"` the decoder
gets −log D(x̃) − log D(x_p) instead of −L_GAN, whose gradient does not vanish where the discriminator is sure
(Goodfellow et al. 2014, sec. 3). With "wasserstein" D is a critic without batch norm (Gulrajani et al. 2017):
L_GAN is its mean score of the fakes less that of the real images and a gradient penalty, and the decoder gets
the fakes' score alone. The recipe "wgan_gp" is WGAN-GP's published setting; there the encoder and the decoder
rest while the critic takes its further steps.
"""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from trainables.models.base import GenerativeModel
from trainables.models.gan import WGAN_GP, check_gan_loss, discriminator_accuracy, discriminator_labels
from trainables.models.losses import binary_cross_entropy, kl_divergence, reparameterize, squared_error
from trainables.models.networks import Decoder, Discriminator, Encoder, FeatureLayer, initialize, running_mean
from trainables.models.wasserstein import gradient_penalty, mixed

# What Larsen's code does otherwise than the seed's report (andersbll/autoencoding_beyond_pixels).
LARSEN: dict[str, Any] = {
    "hidden": 1024,
    "feature_layer": "convolution",
    "gamma": 1e-6,
    "reconstructions_are_fake": False,
    "equilibrium": True,
    "real_label": 1.0,
    "fake_label": 0.0,
    "label_swap": 0.0,
    "optimizer": "rmsprop",
}
# Larsen's equilibrium: a network rests while its mean −log cost shows it far ahead.
REST_DISCRIMINATOR_BELOW = 0.33
REST_DECODER_ABOVE = 1.03


@dataclass(frozen=True)
class VAEGANConfig:
    """Hyperparameters of `VAEGAN`; the defaults are the seed's report."""

    image_size: int = 64
    channels: int = 3
    width: float = 1.0
    hidden: int = 2048
    latent_dim: int = 128
    beta: float = 1.0
    gamma: float = 1.0
    gan_loss: Literal["minimax", "non_saturating", "wasserstein"] = "minimax"
    gradient_penalty: float = 10.0  # this and the next are for "wasserstein" alone, labels for the others
    critic_steps: int = 1  # updates of the critic, each on a batch of its own, to one of the others
    feature_layer: FeatureLayer = "fully_connected"
    reconstructions_are_fake: bool = True
    equilibrium: bool = False
    real_label: float = 0.95
    fake_label: float = 0.05
    label_swap: float = 0.05
    optimizer: Literal["adam", "rmsprop"] = "adam"
    learning_rate: float = 3e-4
    discriminator_learning_rate: float | None = None  # None: the same (Heusel et al. 2017 give each its own)
    adam_beta1: float = 0.5
    adam_beta2: float = 0.999
    ema_decay: float | None = None  # None: images come from the decoder as it is, not from its running mean


class VAEGAN(GenerativeModel):
    """Three networks, one update each a step, from one forward and the least backward work."""

    Config = VAEGANConfig
    RECIPES: ClassVar = {"report": {}, "larsen": LARSEN, "wgan_gp": WGAN_GP}
    has_encoder = True
    likelihood = "gaussian, identity covariance, pixels in [-1, 1]"

    def build(self) -> None:
        """Build encoder, decoder and discriminator."""
        c = self.config
        self.encoder = Encoder(c.image_size, c.channels, c.width, c.hidden, c.latent_dim)
        self.decoder = Decoder(c.image_size, c.channels, c.width, c.latent_dim)
        check_gan_loss(c, ("minimax", "non_saturating", "wasserstein"))
        critic = c.gan_loss == "wasserstein"
        self.discriminator = Discriminator(
            c.image_size, c.channels, c.width, c.feature_layer, batch_norm=not critic
        )
        initialize(self)
        if critic:
            self.register_buffer("steps", torch.zeros((), dtype=torch.long))
        self.averaged_decoder = running_mean(self.decoder, c.ema_decay)

    def build_optimizers(self) -> dict[str, torch.optim.Optimizer]:
        """One optimiser a network."""
        c = self.config
        rates = dict.fromkeys(("encoder", "decoder", "discriminator"), c.learning_rate)
        if c.discriminator_learning_rate is not None:
            rates["discriminator"] = c.discriminator_learning_rate

        def optimizer(network: nn.Module, rate: float) -> torch.optim.Optimizer:
            if c.optimizer == "rmsprop":
                return torch.optim.RMSprop(network.parameters(), lr=rate)
            return torch.optim.Adam(
                network.parameters(), lr=rate, betas=(c.adam_beta1, c.adam_beta2), fused=True
            )

        return {name: optimizer(getattr(self, name), rate) for name, rate in rates.items()}

    def training_step(self, x: Tensor) -> dict[str, Tensor]:
        """Update the three networks (Larsen's Algorithm 1).

        The work, with E, G, D one pass of a network over a batch, "→" forward, "←x" backward to the input
        only and "←" backward to the parameters too:
            → E(x), G(z), G(z_p), D(x), D(x̃), D(x_p)
            L_feature   ←x D(x̃)   ←x G(z)   ← E(x)
            L_GAN       ← D(x), D(x̃), D(x_p)   ← G(z), G(z_p)
        Three separate losses would cost two more passes back through D and two through E. G(z) is passed
        through twice because the encoder and the decoder get different gradients there. With Larsen's recipe
        D(x̃) goes up to the feature layer only, and G(z) and G(z_p) still are two batches. The non-saturating
        loss adds ←x D(x̃), D(x_p): its gradient is another one.
        """
        c = self.config
        self.train()
        mean, log_variance = self.encode(x)
        z = reparameterize(mean, log_variance, self.generator)
        z_leaf = z.detach().requires_grad_()
        reconstruction = self.decode(z_leaf)
        z_prior = torch.randn(z.shape, generator=self.generator, device=self.device, dtype=x.dtype)
        generated = self.decode(z_prior)

        # Each graph ends at leaves, so that a backward pass reaches the networks it is meant for alone.
        reconstruction_leaf = reconstruction.detach().requires_grad_()
        generated_leaf = generated.detach().requires_grad_()
        real_features, real_logits = self.discriminator(x)
        if c.reconstructions_are_fake:
            features, reconstruction_logits = self.discriminator(reconstruction_leaf)
        else:
            features = self.discriminator.features(reconstruction_leaf)
        _, generated_logits = self.discriminator(generated_leaf)

        feature_loss = squared_error(real_features.detach(), features).mean()
        kl = kl_divergence(mean, log_variance).sum(1).mean()
        leaves, fake_logits = [generated_leaf], [generated_logits]
        if c.reconstructions_are_fake:
            leaves, fake_logits = [*leaves, reconstruction_leaf], [*fake_logits, reconstruction_logits]
        if c.gan_loss == "wasserstein":
            self.steps += 1
            gan_real, gan_fakes = -real_logits.mean(), [torch.cat(fake_logits).mean()]
            with self.eager():
                penalty = gradient_penalty(
                    lambda images: self.discriminator(images)[1],
                    x,
                    mixed(leaves, self.generator),
                    self.generator,
                )
            gan = gan_real + gan_fakes[0] + c.gradient_penalty * penalty
            fooled = -gan_fakes[0]
        else:
            real, fake = discriminator_labels(c, self.generator)
            gan_real = binary_cross_entropy(real_logits, real)
            gan_fakes = [binary_cross_entropy(logits, fake) for logits in fake_logits]
            gan = gan_real + sum(gan_fakes)
            fooled = sum(binary_cross_entropy(logits, torch.ones_like(real)) for logits in fake_logits)

        updated = self._updated(gan_real, gan_fakes)
        for name in updated:
            self.optimizers[name].zero_grad()
        # Where a gradient goes on to another optimiser, it takes on that one's scale.
        scale = {name: self.loss_scale(name) for name in self.optimizers}
        parameters = {name: list(getattr(self, name).parameters()) for name in updated}
        if "encoder" in updated:
            (feature_gradient,) = torch.autograd.grad(
                scale["encoder"] * feature_loss, reconstruction_leaf, retain_graph=True
            )
            (z_gradient,) = torch.autograd.grad(reconstruction, z_leaf, feature_gradient, retain_graph=True)
            torch.autograd.backward([scale["encoder"] * c.beta * kl, z], [None, z_gradient])
        if c.gan_loss != "minimax" and "decoder" in updated:
            image_gradients = torch.autograd.grad(scale["decoder"] * fooled, leaves, retain_graph=True)
        judged = parameters.get("discriminator", []) + (leaves if c.gan_loss == "minimax" else [])
        (scale["discriminator"] * gan).backward(inputs=judged)
        if c.gan_loss == "minimax":
            image_gradients = [-scale["decoder"] / scale["discriminator"] * leaf.grad for leaf in leaves]
        if "decoder" in updated:
            feature_gradient = scale["decoder"] / scale["encoder"] * feature_gradient
            torch.autograd.backward(
                [reconstruction, generated],
                [sum(image_gradients[1:], c.gamma * feature_gradient), image_gradients[0]],
                inputs=parameters["decoder"],
            )
        for name in updated:
            self.update(name)
        if self.averaged_decoder is not None and "decoder" in updated:
            self.averaged_decoder.update_parameters(self.decoder)

        losses = {"feature": feature_loss.detach(), "kl": kl.detach(), "gan": gan.detach()}
        if c.gan_loss == "wasserstein":
            distance = -(gan_real + gan_fakes[0])
            return losses | {
                "wasserstein_distance": distance.detach(),
                "gradient_penalty": penalty.detach(),
            }
        return losses | {"discriminator_accuracy": discriminator_accuracy(real_logits, generated_logits)}

    def _updated(self, gan_real: Tensor, gan_fakes: list[Tensor]) -> tuple[str, ...]:
        """Name the networks that this step updates: all, or what Larsen's equilibrium leaves awake."""
        if self.config.gan_loss == "wasserstein":
            due = int(self.steps) % self.config.critic_steps == 0
            return ("encoder", "decoder", "discriminator") if due else ("discriminator",)
        if not self.config.equilibrium:
            return ("encoder", "decoder", "discriminator")
        fake = sum(gan_fakes) / len(gan_fakes)
        rest_discriminator = bool((gan_real < REST_DISCRIMINATOR_BELOW) | (fake < REST_DISCRIMINATOR_BELOW))
        rest_decoder = bool((gan_real > REST_DECODER_ABOVE) | (fake > REST_DECODER_ABOVE))
        if rest_discriminator and rest_decoder:
            rest_discriminator = rest_decoder = False
        names = ["encoder"]
        if not rest_decoder:
            names.append("decoder")
        if not rest_discriminator:
            names.append("discriminator")
        return tuple(names)

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and log-variance of q(z|x), each (B, M)."""
        return self.encoder(x)

    def decode(self, z: Tensor) -> Tensor:
        """Return the images of latents (B, M); in evaluation mode, from the decoder's running mean."""
        averaged = None if self.training else self.averaged_decoder
        return (averaged or self.decoder)(z)
