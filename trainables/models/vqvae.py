"""VQ-VAE (van den Oord et al. 2017) with the networks of [HP], Tables 2–4: 8×8 codes an image."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from trainables.models.base import ElboTerms, GenerativeModel
from trainables.models.networks import channels_at
from trainables.models.quantizer import CodebookUpdate, VectorQuantizer
from trainables.models.settings import BelowOne, Count, NotNegative, Positive

PRIOR_DECAY = 0.99


@dataclass(frozen=True)
class VQVAEConfig:
    """Hyperparameters of `VQVAE`. The defaults are those of [HP], Tables 2–4.

    `grid` is the side of the latent grid. The codebook has `codes` entries (K) of `embedding_dim` numbers
    (D).
    """

    image_size: Count = 64
    channels: Count = 3
    width: Positive = 1.0
    grid: Count = 8
    codes: Count = 256
    embedding_dim: Count = 64
    commitment: NotNegative = 0.25
    codebook: CodebookUpdate = "gradient"
    ema_decay: BelowOne = 0.99
    learning_rate: Positive = 1e-3


class ResidualBlock(nn.Module):
    """Compute x + [3×3 convolution → ReLU → 1×1 convolution], both without bias, as in the authors' code."""

    def __init__(self, channels: int):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            nn.ReLU(),
            nn.Conv2d(channels, channels, 1, bias=False),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return the sum, of the shape of x, (B, channels, h, w)."""
        h: Tensor = x + self.layers(x)
        return h


class VQVAE(GenerativeModel):
    """A map from images to a grid of discrete codes and back.

    [HP] has no prior over codes. Here it is a histogram for each position, a moving average over the training
    batches, from which `sample` draws and which `elbo` takes into account. The posterior is a point, so that
    KL = −log p(z).
    """

    Config = VQVAEConfig
    config: VQVAEConfig
    prior: Tensor
    has_encoder = True
    likelihood = "gaussian, identity covariance, pixels in [-1, 1]"

    def build(self) -> None:
        """Build encoder, codebook, decoder and prior.

        Raises ValueError where the image is not the grid times a power of two.
        """
        c = self.config
        halvings = int(math.log2(c.image_size / c.grid)) if c.grid < c.image_size else 0
        if halvings < 1 or c.grid * 2**halvings != c.image_size:
            raise ValueError(
                f"image_size is {c.image_size}, grid {c.grid}; image_size must be 2, 4, 8, … times the grid"
            )
        widths = [channels_at(c.width, 64 * 2**k) for k in range(halvings)]
        trunk = channels_at(c.width, 256)
        down: list[nn.Module] = []
        for inputs, outputs in zip([c.channels, *widths[:-1]], widths, strict=True):
            down += [nn.Conv2d(inputs, outputs, 4, stride=2, padding=1), nn.LeakyReLU()]
        self.encoder = nn.Sequential(
            *down,
            nn.Conv2d(widths[-1], trunk, 3, padding=1),
            nn.LeakyReLU(),
            ResidualBlock(trunk),
            ResidualBlock(trunk),
            nn.Conv2d(trunk, c.embedding_dim, 1),
            nn.LeakyReLU(),
        )
        up: list[nn.Module] = []
        for inputs, outputs in zip([trunk, *widths[-2::-1]], widths[-2::-1], strict=False):
            up += [nn.ConvTranspose2d(inputs, outputs, 4, stride=2, padding=1), nn.LeakyReLU()]
        self.decoder = nn.Sequential(
            nn.Conv2d(c.embedding_dim, trunk, 3, padding=1),
            nn.LeakyReLU(),
            ResidualBlock(trunk),
            ResidualBlock(trunk),
            *up,
            nn.ConvTranspose2d(widths[0] if halvings > 1 else trunk, c.channels, 4, stride=2, padding=1),
            nn.Sigmoid(),
        )
        self.quantizer = VectorQuantizer(c.codes, c.embedding_dim, c.codebook, decay=c.ema_decay)
        self.register_buffer("prior", torch.full((c.grid**2, c.codes), 1 / c.codes))

    def build_optimizers(self) -> dict[str, torch.optim.Optimizer]:
        """Return one Adam over networks and codebook."""
        return {"autoencoder": torch.optim.Adam(self.parameters(), lr=self.config.learning_rate, fused=True)}

    def training_step(self, x: Tensor) -> dict[str, Tensor]:
        """Descend mean(x − x̂)² on [0, 1] + codebook loss + 0.25·commitment loss (van den Oord eq. 3).

        All three are means over values, as in the authors' code. The VAEs here sum over an image instead.
        """
        self.train()
        quantized = self.quantizer(self.encoder(x), self.generator)
        error = (self._decode_vectors(quantized.vectors) - x).square().mean() / 4  # [−1, 1] to [0, 1]
        loss = error + quantized.codebook_loss + self.config.commitment * quantized.commitment_loss
        self.descend("autoencoder", loss)
        self._follow(quantized.indices)
        return {
            "squared_error": error.detach(),
            "codebook": quantized.codebook_loss.detach(),
            "commitment": quantized.commitment_loss.detach(),
            "perplexity": quantized.perplexity.detach(),
        }

    @torch.no_grad()
    def _follow(self, indices: Tensor) -> None:
        histogram = nn.functional.one_hot(indices.flatten(1), self.config.codes).to(self.prior.dtype).mean(0)
        self.prior.lerp_(histogram, 1 - PRIOR_DECAY)

    def encode(self, x: Tensor) -> Tensor:
        """Return the codes of images, int64 (B, grid²), in the order of the grid's rows."""
        z = self.encoder(x)
        return self.quantizer.nearest(z.permute(0, 2, 3, 1).flatten(0, 2)).view(len(x), -1)

    def decode(self, z: Tensor) -> Tensor:
        """Return the images of codes (B, grid²)."""
        grid = self.config.grid
        return self._decode_vectors(self.quantizer.lookup(z.view(-1, grid, grid)))

    def _decode_vectors(self, vectors: Tensor) -> Tensor:
        images: Tensor = 2 * self.decoder(vectors) - 1
        return images

    @torch.no_grad()
    def sample(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """Decode n codes, each position of which is drawn from its own histogram: (n, C, H, W)."""
        self.eval()
        codes = torch.multinomial(self.prior, n, replacement=True, generator=generator or self.generator)
        return self.decode(codes.T)

    @torch.no_grad()
    def reconstruct(self, x: Tensor) -> Tensor:
        """Decode the codes of x."""
        self.eval()
        return self.decode(self.encode(x))

    @torch.no_grad()
    def elbo(self, x: Tensor, generator: torch.Generator | None = None) -> ElboTerms:
        """Return log p(x|z) + log p(z) at the codes of x; each value (B,), in nats."""
        self.eval()
        codes = self.encode(x)
        log_likelihood = self.log_likelihood(x, self.decode(codes))
        positions = torch.arange(codes.shape[1], device=codes.device)
        kl = -self.prior[positions, codes].clamp_min(torch.finfo(x.dtype).tiny).log().sum(1)
        return ElboTerms(log_likelihood - kl, log_likelihood, kl)
