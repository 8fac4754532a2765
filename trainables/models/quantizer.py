"""Vector quantization (van den Oord et al. 2017). Gradients or moving averages learn the codebook."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from trainables.models.losses import single

CodebookUpdate = Literal["gradient", "ema"]


@dataclass(frozen=True)
class Quantized:
    """The result of quantizing (B, D, h, w).

    `vectors` (B, D, h, w) are the nearest codebook entries, whose gradient goes straight through to what was
    quantized, and `indices` (B, h, w) are theirs. `codebook_loss` is mean‖sg[z] − e‖² (0 with moving
    averages) and `commitment_loss` is mean‖z − sg[e]‖², both means over all values (eq. 3). `perplexity` is
    exp of the entropy of the batch's indices and tells how many codes are in use.
    """

    vectors: Tensor
    indices: Tensor
    codebook_loss: Tensor
    commitment_loss: Tensor
    perplexity: Tensor


class VectorQuantizer(nn.Module):
    """A codebook of K vectors of D numbers, drawn from U(−1/K, 1/K).

    With "ema" (appendix A.1 of the paper) an entry is the moving average of the vectors that it is nearest
    to. The counts N and the sums m decay by `decay`, and the entry is m / N̂, where `epsilon` smooths N to
    N̂. An entry whose count falls below `revive_below` vectors a batch restarts at a vector of the batch,
    along with its count and its sum (Williams et al. 2020; Dhariwal et al. 2020).
    """

    codebook: Tensor
    counts: Tensor
    sums: Tensor

    def __init__(
        self,
        codes: int,
        dim: int,
        update: CodebookUpdate,
        *,
        decay: float = 0.99,
        epsilon: float = 1e-5,
        revive_below: float = 0.1,
    ):
        super().__init__()
        self.update, self.decay, self.epsilon, self.revive_below = update, decay, epsilon, revive_below
        entries = torch.empty(codes, dim).uniform_(-1 / codes, 1 / codes)
        if update == "gradient":
            self.codebook = nn.Parameter(entries)
        else:
            self.register_buffer("codebook", entries)
            self.register_buffer("counts", torch.ones(codes))
            self.register_buffer("sums", entries.clone())

    def forward(self, z: Tensor, generator: torch.Generator | None = None) -> Quantized:
        """Quantize z, (B, D, h, w). In training mode with "ema", move the codebook first.

        `generator` draws the vectors at which dead entries restart.
        """
        z = single(z)
        flat = z.permute(0, 2, 3, 1).flatten(0, 2)
        indices = self.nearest(flat.detach())
        if self.training and self.update == "ema":
            self._move(flat.detach(), indices, generator)
        shape = (z.shape[0], *z.shape[2:])
        vectors = self.lookup(indices.view(shape))
        usage = torch.bincount(indices, minlength=len(self.codebook)) / len(indices)
        codebook_loss = (vectors - z.detach()).square().mean()
        return Quantized(
            vectors=z + (vectors - z).detach(),
            indices=indices.view(shape),
            codebook_loss=codebook_loss if self.update == "gradient" else codebook_loss.detach() * 0,
            commitment_loss=(z - vectors.detach()).square().mean(),
            perplexity=torch.special.entr(usage).sum().exp(),
        )

    def nearest(self, flat: Tensor) -> Tensor:
        """Return the index of the nearest entry to each row: (n, D) -> (n,)."""
        e = self.codebook.detach()
        return (e.square().sum(1) - 2 * flat @ e.T).argmin(1)  # ‖z‖² is the same for all entries

    def lookup(self, indices: Tensor) -> Tensor:
        """Return the entries at indices: (B, h, w) -> (B, D, h, w)."""
        return nn.functional.embedding(indices, self.codebook).permute(0, 3, 1, 2)

    @torch.no_grad()
    def _move(self, flat: Tensor, indices: Tensor, generator: torch.Generator | None) -> None:
        codes = len(self.codebook)
        batch_counts = torch.bincount(indices, minlength=codes).to(flat.dtype)
        batch_sums = torch.zeros_like(self.sums).index_add_(0, indices, flat)
        self.counts.lerp_(batch_counts, 1 - self.decay)
        self.sums.lerp_(batch_sums, 1 - self.decay)
        dead = self.counts < self.revive_below
        drawn = torch.randint(len(flat), (codes,), generator=generator, device=flat.device)
        self.sums.copy_(torch.where(dead[:, None], flat[drawn], self.sums))
        self.counts.masked_fill_(dead, 1.0)
        total = self.counts.sum()
        smoothed = (self.counts + self.epsilon) / (total + codes * self.epsilon) * total
        self.codebook.copy_(self.sums / smoothed[:, None])
