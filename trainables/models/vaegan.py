"""VAE-GAN (Larsen et al. 2016) and β-VAE-GAN ([BVG] sec. 4.2): with `beta` = 1 it is the former.

Each network descends its own loss:

    encoder        β·KL + L_feature
    decoder        γ·L_feature − L_GAN
    discriminator  L_GAN

L_feature = ½‖Dis_l(x) − Dis_l(x̃)‖² ([BVG] eq. 12), and L_GAN is the discriminator's binary cross-entropy
(eq. 9). x̃ is a reconstruction and x_p the image of a prior sample. `gan_loss` changes this:

- "non_saturating": the decoder gets −log D(x̃) − log D(x_p) instead of −L_GAN. That gradient does not vanish
  where the discriminator is sure (Goodfellow et al. 2014, sec. 3).
- "wasserstein": D is a critic without batch norm (Gulrajani et al. 2017). L_GAN is the critic's mean score of
  the fakes, less that of the real images, plus a gradient penalty, and the decoder gets the score of the
  fakes alone. The encoder and the decoder rest while the critic takes its further steps. The recipe "wgan_gp"
  holds the published settings of WGAN-GP.
"""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from trainables.models.adversarial import (
    WGAN_GP,
    GANLoss,
    discriminator_labels,
    minimax,
    non_saturating,
    wasserstein,
)
from trainables.models.base import GenerativeModel
from trainables.models.losses import kl_divergence, reparameterize, squared_error
from trainables.models.networks import Decoder, Discriminator, Encoder, FeatureLayer, initialize, running_mean
from trainables.models.settings import BelowOne, Count, NotNegative, Positive, Share
from trainables.models.wasserstein import mixed

# What Larsen's code (github.com/andersbll/autoencoding_beyond_pixels) does otherwise than [BVG].
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
# In Larsen's code these mean costs of the discriminator show that it or the decoder is far ahead.
REST_DISCRIMINATOR_BELOW = 0.33
REST_DECODER_ABOVE = 1.03


@dataclass(frozen=True)
class VAEGANConfig:
    """Hyperparameters of `VAEGAN`. The defaults are those of [BVG]."""

    image_size: Count = 64
    channels: Count = 3
    width: Positive = 1.0
    hidden: Count = 2048
    latent_dim: Count = 128
    beta: NotNegative = 1.0
    gamma: NotNegative = 1.0
    gan_loss: Literal["minimax", "non_saturating", "wasserstein"] = "minimax"
    gradient_penalty: NotNegative = (
        10.0  # this and `critic_steps` matter to "wasserstein" alone, labels to the others
    )
    critic_steps: Count = 1  # updates of the critic, each on its own batch, for one of the other networks
    feature_layer: FeatureLayer = "fully_connected"
    reconstructions_are_fake: bool = True
    equilibrium: bool = False
    real_label: float = 0.95
    fake_label: float = 0.05
    label_swap: Share = 0.05
    optimizer: Literal["adam", "rmsprop"] = "adam"
    learning_rate: Positive = 3e-4
    discriminator_learning_rate: NotNegative | None = None  # None: that one; Heusel et al. (2017) use two
    adam_beta1: BelowOne = 0.5
    adam_beta2: BelowOne = 0.999
    ema_decay: BelowOne | None = None  # with a decay, images come from the decoder's running mean


@dataclass(frozen=True)
class Graph:
    """One forward pass over a batch, cut into one graph for each network.

    A graph ends at leaves, so that a backward pass reaches only the networks that it is meant for. `fakes`
    are the leaves that the discriminator judges as fake: the generated images first and then, unless they
    count as neither, the reconstructions.
    """

    z: Tensor
    z_leaf: Tensor
    reconstruction: Tensor
    reconstruction_leaf: Tensor
    generated: Tensor
    fakes: list[Tensor]
    real_logits: Tensor
    fake_logits: list[Tensor]
    feature_loss: Tensor
    kl: Tensor


class VAEGAN(GenerativeModel):
    """Three networks, each updated once a step from one forward pass and the least backward work."""

    Config = VAEGANConfig
    RECIPES: ClassVar = {"report": {}, "larsen": LARSEN, "wgan_gp": WGAN_GP}
    config: VAEGANConfig
    steps: Tensor
    has_encoder = True
    likelihood = "gaussian, identity covariance, pixels in [-1, 1]"

    def build(self) -> None:
        """Build encoder, decoder and discriminator."""
        c = self.config
        self.encoder = Encoder(c.image_size, c.channels, c.width, c.hidden, c.latent_dim)
        self.decoder = Decoder(c.image_size, c.channels, c.width, c.latent_dim)
        critic = c.gan_loss == "wasserstein"
        self.discriminator = Discriminator(
            c.image_size, c.channels, c.width, c.feature_layer, batch_norm=not critic
        )
        initialize(self)
        if critic:
            self.register_buffer("steps", torch.zeros((), dtype=torch.long))
        self.averaged_decoder = running_mean(self.decoder, c.ema_decay)

    def build_optimizers(self) -> dict[str, torch.optim.Optimizer]:
        """Return one optimizer for each network."""
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

        The work is as follows. E, G and D are one pass of a network over a batch, "→" goes forward, "←x"
        backward to the input only, and "←" backward to the parameters too:
            → E(x), G(z), G(z_p), D(x), D(x̃), D(x_p)
            L_feature   ←x D(x̃)   ←x G(z)   ← E(x)
            L_GAN       ← D(x), D(x̃), D(x_p)   ← G(z), G(z_p)
        Three separate losses would cost two more passes back through D and two through E. G(z) is passed
        through twice because the encoder and the decoder get different gradients there. With Larsen's recipe
        D(x̃) goes up to the feature layer only, and G(z) and G(z_p) are still two batches. The non-saturating
        and the Wasserstein loss add ←x D(x̃), D(x_p), because the decoder's gradient is another one.
        """
        self.train()
        graph = self._forward(x)
        loss = self._gan_loss(x, graph)
        updated = self._updated(loss)
        for name in updated:
            self.optimizers[name].zero_grad()
        self._backward(graph, loss, updated)
        for name in updated:
            self.update(name)
        if self.averaged_decoder is not None and "decoder" in updated:
            self.averaged_decoder.update_parameters(self.decoder)
        losses = {"feature": graph.feature_loss, "kl": graph.kl, "gan": loss.discriminator}
        return {name: value.detach() for name, value in losses.items()} | loss.logs

    def _forward(self, x: Tensor) -> Graph:
        mean, log_variance = self.encode(x)
        z = reparameterize(mean, log_variance, self.generator)
        z_leaf = z.detach().requires_grad_()
        reconstruction = self.decode(z_leaf)
        z_prior = torch.randn(z.shape, generator=self.generator, device=self.device, dtype=x.dtype)
        generated = self.decode(z_prior)

        reconstruction_leaf = reconstruction.detach().requires_grad_()
        generated_leaf = generated.detach().requires_grad_()
        real_features, real_logits = self.discriminator(x)
        fakes, fake_logits = [generated_leaf], []
        if self.config.reconstructions_are_fake:
            features, reconstruction_logits = self.discriminator(reconstruction_leaf)
            fakes, fake_logits = [generated_leaf, reconstruction_leaf], [reconstruction_logits]
        else:
            features = self.discriminator.features(reconstruction_leaf)
        _, generated_logits = self.discriminator(generated_leaf)
        return Graph(
            z=z,
            z_leaf=z_leaf,
            reconstruction=reconstruction,
            reconstruction_leaf=reconstruction_leaf,
            generated=generated,
            fakes=fakes,
            real_logits=real_logits,
            fake_logits=[generated_logits, *fake_logits],
            feature_loss=squared_error(real_features.detach(), features).mean(),
            kl=kl_divergence(mean, log_variance).sum(1).mean(),
        )

    def _gan_loss(self, x: Tensor, graph: Graph) -> GANLoss:
        c = self.config
        if c.gan_loss != "wasserstein":
            labels = discriminator_labels(c.real_label, c.fake_label, c.label_swap, self.generator)
            loss = minimax if c.gan_loss == "minimax" else non_saturating
            return loss(graph.real_logits, graph.fake_logits, labels)
        with self.eager():
            return wasserstein(
                graph.real_logits,
                graph.fake_logits,
                lambda images: self.discriminator(images)[1],
                x,
                mixed(graph.fakes, self.generator),
                c.gradient_penalty,
                self.generator,
            )

    def _updated(self, loss: GANLoss) -> list[str]:
        """Return the names of the networks that this step updates."""
        everything = ["encoder", "decoder", "discriminator"]
        if self.config.gan_loss == "wasserstein":
            self.steps += 1
            return everything if int(self.steps) % self.config.critic_steps == 0 else ["discriminator"]
        if not self.config.equilibrium:
            return everything
        costs = torch.stack(loss.costs).detach()
        if self.average_values:  # all processes of a trial update the same networks
            self.average_values([costs])
        return awake(*costs)

    def _backward(self, graph: Graph, loss: GANLoss, updated: list[str]) -> None:
        """Add the gradients of the updated networks, each multiplied by its own optimizer's scale.

        A gradient that one network hands on to another changes from the one's scale to the other's.
        """
        c = self.config
        scale = {name: self.loss_scale(name) for name in self.optimizers}
        parameters = {name: list(getattr(self, name).parameters()) for name in updated}
        if "encoder" in updated:
            (feature_gradient,) = torch.autograd.grad(
                scale["encoder"] * graph.feature_loss, graph.reconstruction_leaf, retain_graph=True
            )
            (z_gradient,) = torch.autograd.grad(
                graph.reconstruction, graph.z_leaf, feature_gradient, retain_graph=True
            )
            torch.autograd.backward([scale["encoder"] * c.beta * graph.kl, graph.z], [None, z_gradient])

        inputs = parameters.get("discriminator", [])
        if loss.generator is None:
            inputs = inputs + graph.fakes
        elif "decoder" in updated:
            image_gradients = torch.autograd.grad(
                scale["decoder"] * loss.generator, graph.fakes, retain_graph=True
            )
        (scale["discriminator"] * loss.discriminator).backward(inputs=inputs)
        if loss.generator is None:
            sign = -scale["decoder"] / scale["discriminator"]  # the decoder ascends the discriminator's loss
            image_gradients = tuple(sign * fake.grad for fake in graph.fakes if fake.grad is not None)

        if "decoder" in updated:
            from_features = c.gamma * (scale["decoder"] / scale["encoder"] * feature_gradient)
            torch.autograd.backward(
                [graph.reconstruction, graph.generated],
                [sum(image_gradients[1:], from_features), image_gradients[0]],
                inputs=parameters["decoder"],
            )

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the mean and the log-variance of q(z|x), each (B, M)."""
        posterior: tuple[Tensor, Tensor] = self.encoder(x)
        return posterior

    def decode(self, z: Tensor) -> Tensor:
        """Return the images of latents (B, M), in evaluation mode from the decoder's running mean."""
        network = self.decoder if self.training or self.averaged_decoder is None else self.averaged_decoder
        images: Tensor = network(z)
        return images


def awake(real: Tensor, fake: Tensor) -> list[str]:
    """Return the networks that Larsen's equilibrium updates, given the discriminator's mean costs, each ().

    The discriminator rests while it is far ahead, and so does the decoder. If both would rest, neither does.
    """
    rest_discriminator = bool((real < REST_DISCRIMINATOR_BELOW) | (fake < REST_DISCRIMINATOR_BELOW))
    rest_decoder = bool((real > REST_DECODER_ABOVE) | (fake > REST_DECODER_ABOVE))
    if rest_discriminator == rest_decoder:
        return ["encoder", "decoder", "discriminator"]
    return ["encoder", "discriminator" if rest_decoder else "decoder"]
