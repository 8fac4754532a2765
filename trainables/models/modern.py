"""The recipe "modern": a β-VAE-GAN that draws after minutes on one CPU core; a VAE and a GAN made like it.

Who gets which gradient:

    encoder        L_rec + 2β/N·KL  (+ w/γ·L_G on reconstructions, where `encoder_adversarial`)
    decoder        L_rec + w/γ·L_G
    discriminator  L_D + penalty·(R1 + R2), both every 8th step and times 8

    L_rec = ‖x − x̂‖²/(N·v) + mean over D's stages of E(D_l(x) − D_l(x̂))²/Var D_l(x)

with N the values of an image and v their variance in the data. Times N/2 this is a Gaussian likelihood of
variance v, so that `beta` is the KL's weight against summed losses, as in the papers, and D's activations
count as much as pixels do. (Larsen et al. 2016 have the activations alone, and their decoder's gradient is
this one times γ, which Adam doesn't notice. Their encoder gets no L_G.) L_D and L_G are the relativistic
pairing loss (`trainables.models.relativistic`), each reconstruction paired with its original; R1 and R2 are
the penalties on real and on fake images.

Training has phases by `progress`: the VAE alone up to `vae_share`; then batches are half reconstructions and
half samples of the prior, w rising from 0 to 1 over `ramp_share`. The prior has the aggregate posterior's
moments (`trainables.models.fitted_prior`). Evaluation uses running means of encoder and decoder, and a prior
with the exact moments of that encoder's posteriors: batch norm in evaluation mode makes them narrower than
those of a batch of eight. All images that D sees in a step are moved by the same few pixels (DiffAugment's
translation; Zhao et al. 2020), or it would memorize a small data set.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from trainables.models.base import ElboTerms, GenerativeModel
from trainables.models.fitted_prior import FittedPrior
from trainables.models.losses import kl_divergence, reparameterize, single
from trainables.models.modern_networks import Decoder, Discriminator, Encoder
from trainables.models.relativistic import Verdict, judge, random_shift
from trainables.models.schedule import power_mean, rate_share
from trainables.models.settings import BelowOne, Count, NotNegative, Positive, Share

PENALTY_EVERY = 8  # steps (lazy regularization; Karras et al. 2020, sec. 3.1)
VARIANCE_WINDOW = 100  # batches that the running variance of pixels reaches back


@dataclass(frozen=True)
class ModernGANConfig:
    """Hyperparameters of `ModernGAN`."""

    image_size: Count = 64
    channels: Count = 3
    width: Positive = 1.0
    latent_dim: Count = 64
    learning_rate: Positive = 2e-3
    adam_beta1: BelowOne = 0.5
    adam_beta2: BelowOne = 0.99
    ema_width: float = 0.08  # of the running means: their deviation as a share of the steps so far
    penalty: NotNegative = 0.05
    discriminator_learning_rate: NotNegative | None = None  # None: that one; Heusel et al. (2017) use two


@dataclass(frozen=True)
class ModernVAEConfig:
    """Hyperparameters of `ModernVAE`."""

    image_size: Count = 64
    channels: Count = 3
    width: Positive = 1.0
    latent_dim: Count = 64
    learning_rate: Positive = 8e-3
    adam_beta1: BelowOne = 0.5
    adam_beta2: BelowOne = 0.99
    ema_width: float = 0.08
    beta: NotNegative = 20.0
    fitted_prior: bool = True  # with the aggregate posterior's moments, else N(0, I)


@dataclass(frozen=True)
class ModernVAEGANConfig(ModernVAEConfig):
    """Hyperparameters of `ModernVAEGAN`: the VAE's, and what the discriminator brings."""

    discriminator_learning_rate: NotNegative | None = 2e-3  # None: that one; Heusel et al. (2017) use two
    penalty: NotNegative = 0.05
    gamma: Positive = 3.0  # Larsen's: the weight of L_rec against L_G
    vae_share: BelowOne = 0.15  # of training, without a discriminator
    ramp_share: Share = 0.1  # of training, while L_G's weight rises
    encoder_adversarial: bool = True


class ModernModel(GenerativeModel):
    """What the three share: networks by name, Adam on a schedule, running means for evaluation."""

    RECIPES: ClassVar[dict[str, dict[str, Any]]] = {"modern": {}}
    needs_progress = True
    NETWORKS: ClassVar[dict[str, tuple[str, ...]]]  # the networks of each optimizer
    encoder: Encoder
    decoder: Decoder
    discriminator: Discriminator
    averaged_encoder: AveragedModel
    averaged_decoder: AveragedModel

    def build(self) -> None:
        """Build the networks, and the running means of those that are evaluated."""
        c = self.config
        size = (c.image_size, c.channels, c.width)
        for name in (name for names in self.NETWORKS.values() for name in names):
            network: nn.Module
            if name == "encoder":
                network = Encoder(*size, c.latent_dim)
            elif name == "decoder":
                network = Decoder(*size, c.latent_dim)
            else:
                network = Discriminator(*size)
            setattr(self, name, network)
            if name != "discriminator":
                mean = AveragedModel(network, multi_avg_fn=power_mean(c.ema_width), use_buffers=True)
                setattr(self, f"averaged_{name}", mean.requires_grad_(False))
        self.steps = 0

    def build_optimizers(self) -> dict[str, torch.optim.Optimizer]:
        """One Adam for encoder and decoder, whose losses have one scale, and one for the discriminator."""
        c = self.config
        return {
            optimizer: torch.optim.Adam(
                self.parameters_of(optimizer),
                lr=self.rate_of(optimizer),
                betas=(c.adam_beta1, c.adam_beta2),
                fused=True,
            )
            for optimizer in self.NETWORKS
        }

    def parameters_of(self, optimizer: str) -> list[nn.Parameter]:
        """Return the parameters that an optimizer steps."""
        return [p for name in self.NETWORKS[optimizer] for p in getattr(self, name).parameters()]

    def rate_of(self, optimizer: str) -> float:
        """Return the learning rate that an optimizer's schedule is a share of."""
        own = getattr(self.config, "discriminator_learning_rate", None)
        rate = own if optimizer == "discriminator" and own is not None else self.config.learning_rate
        return float(rate)

    def begin_step(self) -> None:
        """Go to training mode, set the rates that are due and forget the last gradients."""
        self.train()
        share = rate_share(self.steps, self.progress)
        for name, optimizer in self.optimizers.items():
            optimizer.zero_grad()
            for group in optimizer.param_groups:
                group["lr"] = self.rate_of(name) * share

    def end_step(self, *optimizers: str) -> None:
        """Step these optimizers, then the running means."""
        for name in optimizers:
            self.update(name)
        for name in ("encoder", "decoder"):
            if hasattr(self, name):
                getattr(self, f"averaged_{name}").update_parameters(getattr(self, name))
        self.steps += 1

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and log-variance of q(z|x), each (B, M)."""
        mean, log_variance = (self.encoder if self.training else self.averaged_encoder)(x)
        return mean, log_variance

    def decode(self, z: Tensor) -> Tensor:
        """Return the images of latents (B, M)."""
        images: Tensor = (self.decoder if self.training else self.averaged_decoder)(z)
        return images

    def judge(self, x: Tensor, fake: Tensor, pairs: int) -> Verdict:
        """Put the discriminator's gradient into its parameters, the penalties' where they are due."""
        due = self.steps % PENALTY_EVERY == 0
        return judge(
            self.discriminator,
            x,
            fake,
            pairs,
            scale=self.loss_scale("discriminator"),
            penalty=PENALTY_EVERY * self.config.penalty if due else 0.0,
            shift=random_shift(x.shape[-1], self.generator),
            eager=self.eager,
        )

    def training_state(self) -> dict[str, Any]:
        """Return what the next step depends on, the number of steps among it."""
        return super().training_state() | {"steps": self.steps}

    def load_training_state(self, state: dict[str, Any]) -> None:
        """Restore `training_state`; it raises as the base class does."""
        super().load_training_state(state)
        self.steps = state["steps"]


class ModernGAN(ModernModel):
    """The decoder against the discriminator, from the first step (R3GAN's losses, Huang et al. 2024)."""

    Config = ModernGANConfig
    NETWORKS: ClassVar = {"decoder": ("decoder",), "discriminator": ("discriminator",)}

    def training_step(self, x: Tensor) -> dict[str, Tensor]:
        """Update both networks on a batch of real images and as many samples."""
        self.begin_step()
        images = self.decode(self.prior_sample(len(x), self.generator).to(x.dtype))
        verdict = self.judge(x, images.detach().requires_grad_(), 0)
        images.backward(self.loss_scale("decoder") * verdict.gradient)
        self.end_step("decoder", "discriminator")
        return verdict.losses


class ModernVAE(ModernModel):
    """A β-VAE with the same networks and schedule."""

    Config = ModernVAEConfig
    NETWORKS: ClassVar = {"autoencoder": ("encoder", "decoder")}
    has_encoder = True
    settles_prior = True
    likelihood = "gaussian, identity covariance, pixels in [-1, 1]"
    pixel_variance: Tensor

    def build(self) -> None:
        """Build the networks, the prior and the running variance of pixels."""
        super().build()
        self.prior = FittedPrior(self.config.latent_dim)
        self.settled_prior = FittedPrior(self.config.latent_dim)  # of the running mean of the encoder
        self.register_buffer("pixel_variance", torch.ones(()))

    def from_noise(self, noise: Tensor) -> Tensor:
        """Return draws of the prior made of those of N(0, I), (n, M) -> (n, M)."""
        return self.present_prior().from_noise(noise) if self.config.fitted_prior else noise

    def present_prior(self) -> FittedPrior:
        """Return the prior of the encoder that is in use now, as far as it has been measured."""
        settled = not self.training and int(self.settled_prior.batches) > 0
        return self.settled_prior if settled else self.prior

    def settle_prior(self, posterior: nn.Module) -> None:
        """Take the moments of the aggregate posterior of the encoder that is evaluated."""
        self.settled_prior.load_state_dict(posterior.state_dict())

    @torch.no_grad()
    def elbo(self, x: Tensor, generator: torch.Generator | None = None) -> ElboTerms:
        """Bound log p(x) from below as the base class does, with the KL to this model's prior."""
        terms = super().elbo(x, generator)
        if not self.config.fitted_prior:
            return terms
        mean, log_variance = self.encode(x)
        unit_kl = self.present_prior().kl_divergence(mean, log_variance)
        kl = unit_kl.sum(1)
        return ElboTerms(terms.log_likelihood - kl, terms.log_likelihood, kl, mean, unit_kl)

    def training_step(self, x: Tensor) -> dict[str, Tensor]:
        """Descend ‖x − x̂‖²/(N·v) + 2β/N·KL."""
        self.begin_step()
        mean, log_variance = self.encode(x)
        self.prior.follow(mean, log_variance)
        reconstruction = self.decode(reparameterize(mean, log_variance, self.generator))
        pixel, kl = self.pixel_loss(x, reconstruction), kl_divergence(mean, log_variance).sum(1).mean()
        loss = pixel + self.kl_weight(x) * kl
        (self.loss_scale("autoencoder") * loss).backward()
        self.end_step("autoencoder")
        return {"pixel": pixel.detach(), "kl": kl.detach()}

    def kl_weight(self, x: Tensor) -> float:
        """Return 2β/N: β's weight where the pixels' error is a mean instead of half a sum."""
        return 2 * float(self.config.beta) / x[0].numel()

    def pixel_loss(self, x: Tensor, reconstruction: Tensor) -> Tensor:
        """Return the mean square error over the data's variance v, (): 1 for the mean image."""
        with torch.no_grad():
            variance = (single(x) - single(x).mean(0)).square().mean() * (len(x) / max(1, len(x) - 1))
            share = max(1 / VARIANCE_WINDOW, 1 / (self.steps + 1))
            if len(x) > 1:  # one image has no variance
                self.pixel_variance.lerp_(variance, share)
        return (single(x) - single(reconstruction)).square().mean() / self.pixel_variance.clamp(min=1e-6)


class ModernVAEGAN(ModernVAE):
    """The β-VAE-GAN: the VAE above, then encoder, decoder and discriminator from one forward pass each."""

    Config = ModernVAEGANConfig
    NETWORKS: ClassVar = {"autoencoder": ("encoder", "decoder"), "discriminator": ("discriminator",)}

    def adversarial_weight(self) -> float | None:
        """Return w of this moment, 0 to 1, or None while the VAE trains alone."""
        c = self.config
        if self.progress < c.vae_share:
            return None
        return min(1.0, (self.progress - c.vae_share) / c.ramp_share) if c.ramp_share else 1.0

    def training_step(self, x: Tensor) -> dict[str, Tensor]:
        """Update the networks that this phase trains, on half reconstructions and half samples."""
        weight = self.adversarial_weight()
        if weight is None:
            return super().training_step(x)
        self.begin_step()
        c, scale, pairs = self.config, self.loss_scale("autoencoder"), (len(x) + 1) // 2
        originals = x[:pairs]
        mean, log_variance = self.encode(originals)
        self.prior.follow(mean, log_variance)
        z = reparameterize(mean, log_variance, self.generator)
        # Graphs end at leaves, so that a backward pass reaches the networks it is meant for alone.
        z_leaf = z.detach().requires_grad_()
        images = self.decode(torch.cat([z_leaf, self.prior_sample(len(x) - pairs, self.generator).to(z)]))
        leaf = images.detach().requires_grad_()

        verdict = self.judge(x, leaf, pairs)
        pixel, kl = self.pixel_loss(originals, leaf[:pairs]), kl_divergence(mean, log_variance).sum(1).mean()
        (pixel_gradient,) = torch.autograd.grad(scale * pixel, leaf)
        reconstruction_gradient = pixel_gradient + scale * verdict.feature_gradient
        decoder_gradient = reconstruction_gradient + scale * weight / c.gamma * verdict.gradient
        decoder, encoder = list(self.decoder.parameters()), list(self.encoder.parameters())
        if c.encoder_adversarial:  # one pass back serves both
            images.backward(decoder_gradient, inputs=[*decoder, z_leaf])
            z_gradient = z_leaf.grad
        else:
            (z_gradient,) = torch.autograd.grad(images, z_leaf, reconstruction_gradient, retain_graph=True)
            images.backward(decoder_gradient, inputs=decoder)
        torch.autograd.backward([scale * self.kl_weight(x) * kl, z], [None, z_gradient], inputs=encoder)
        self.end_step("autoencoder", "discriminator")
        return verdict.losses | {"pixel": pixel.detach(), "kl": kl.detach()}
