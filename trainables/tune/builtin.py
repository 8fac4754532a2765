"""The built-in trainables: one class a model, which names the model and leaves the rest to the base class."""

from trainables.models import convvae, edm, factorvae, flow, gan, latent_flow, modern, vae, vaegan, vqvae
from trainables.tune.trainable import GenerativeTrainable


class VAE(GenerativeTrainable):
    """Trains `trainables.models.vae.VAE`."""

    model_class = vae.VAE
    modern_class = modern.ModernVAE


class FactorVAE(GenerativeTrainable):
    """Trains `trainables.models.factorvae.FactorVAE`."""

    model_class = factorvae.FactorVAE


class GAN(GenerativeTrainable):
    """Trains `trainables.models.gan.GAN`."""

    model_class = gan.GAN
    modern_class = modern.ModernGAN


class VAEGAN(GenerativeTrainable):
    """Trains `trainables.models.vaegan.VAEGAN`, with β = 1 by default."""

    model_class = vaegan.VAEGAN
    modern_class = modern.ModernVAEGAN


class BetaVAEGAN(GenerativeTrainable):
    """Trains `trainables.models.vaegan.VAEGAN`, whose `beta` is there to be tuned ([BVG] sec. 4.2)."""

    model_class = vaegan.VAEGAN
    modern_class = modern.ModernVAEGAN


class VQVAE(GenerativeTrainable):
    """Trains `trainables.models.vqvae.VQVAE`, one of the two models that [HP] searches in.

    It also reports `loss/perplexity`, the number of codes in use.
    """

    model_class = vqvae.VQVAE


class ConvVAE(GenerativeTrainable):
    """Trains `trainables.models.convvae.ConvVAE`, the other model that [HP] searches in.

    It also reports `loss/beta`, which rises as it trains.
    """

    model_class = convvae.ConvVAE


class Flow(GenerativeTrainable):
    """Trains `trainables.models.flow.Flow`, best with `schedule` "cosine" and an `ema`."""

    model_class = flow.Flow


class EDM(GenerativeTrainable):
    """Trains `trainables.models.edm.EDM`, best with `schedule` "cosine" and an `ema`."""

    model_class = edm.EDM


class LatentFlow(GenerativeTrainable):
    """Trains `trainables.models.latent_flow.LatentFlow`: a VAE, then a flow over its codes."""

    model_class = latent_flow.LatentFlow
