"""The Tune trainables of the models that "Happy People" searches in, for sweeps of their own."""

from trainables.models import convvae, vqvae
from trainables.tune.trainable import GenerativeTrainable


class VQVAE(GenerativeTrainable):
    """Trains `trainables.models.vqvae.VQVAE`; also reports `loss/perplexity`, the codes in use."""

    model_class = vqvae.VQVAE


class ConvVAE(GenerativeTrainable):
    """Trains `trainables.models.convvae.ConvVAE`; also reports `loss/beta`, which rises as it trains."""

    model_class = convvae.ConvVAE
