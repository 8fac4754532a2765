"""The vision transformer of DINOv2 (Oquab et al. 2023), to read its published weights without its code base.

Parameter names are the published files'. D is the width, N the number of patches, P = 14 a patch's side.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

PATCH = 14
TRAINED_SIDE = 518 // PATCH  # patches a side that the position embeddings were trained for
# Sampling the positions of N' < N patches, the published code enlarges N' by this before it divides.
POSITION_OFFSET = 0.1
HEAD_DIM = 64


class PatchEmbedding(nn.Module):
    """One vector a patch: (B, 3, H, W) -> (B, N, D)."""

    def __init__(self, width: int):
        super().__init__()
        self.proj = nn.Conv2d(3, width, PATCH, stride=PATCH)

    def forward(self, x: Tensor) -> Tensor:
        """Cut and project."""
        patches: Tensor = self.proj(x)
        return patches.flatten(2).transpose(1, 2)


class Attention(nn.Module):
    """Multi-head self-attention, heads of 64 dimensions: (B, N + 1, D) -> (B, N + 1, D)."""

    def __init__(self, width: int):
        super().__init__()
        self.heads = width // HEAD_DIM
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Attend from each token to all."""
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, HEAD_DIM)).permute(2, 0, 3, 1, 4)
        attended: Tensor = self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
        return attended


class FeedForward(nn.Module):
    """Two layers with GELU between them, of width 4 D."""

    def __init__(self, width: int):
        super().__init__()
        self.fc1 = nn.Linear(width, 4 * width)
        self.fc2 = nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Apply to each token alone."""
        out: Tensor = self.fc2(F.gelu(self.fc1(x)))
        return out


class LayerScale(nn.Module):
    """A factor for each channel (Touvron et al. 2021, eq. 4)."""

    def __init__(self, width: int):
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        """Scale."""
        return x * self.gamma


class Block(nn.Module):
    """Attention and feed-forward, each normalized before and scaled after, around a residual stream."""

    def __init__(self, width: int):
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=1e-6)
        self.attn = Attention(width)
        self.ls1 = LayerScale(width)
        self.norm2 = nn.LayerNorm(width, eps=1e-6)
        self.mlp = FeedForward(width)
        self.ls2 = LayerScale(width)

    def forward(self, x: Tensor) -> Tensor:
        """Add both branches."""
        x = x + self.ls1(self.attn(self.norm1(x)))
        out: Tensor = x + self.ls2(self.mlp(self.norm2(x)))
        return out


class DinoV2(nn.Module):
    """ViT with patches of 14 (S: width 384, depth 12; B: 768, 12; L: 1024, 24), to the class token's output.

    (B, 3, H, W), H and W multiples of 14, normalized by ImageNet's mean and deviation -> (B, D).
    """

    def __init__(self, width: int, depth: int):
        super().__init__()
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + TRAINED_SIDE**2, width))
        self.mask_token = nn.Parameter(torch.zeros(1, width))  # in the files; for training only
        self.patch_embed = PatchEmbedding(width)
        self.blocks = nn.ModuleList(Block(width) for _ in range(depth))
        self.norm = nn.LayerNorm(width, eps=1e-6)

    def forward(self, x: Tensor) -> Tensor:
        """Return the normalized class token."""
        rows, columns = x.shape[2] // PATCH, x.shape[3] // PATCH
        tokens = torch.cat([self.cls_token.expand(len(x), -1, -1), self.patch_embed(x)], 1)
        tokens = tokens + self._positions(rows, columns)
        for block in self.blocks:
            tokens = block(tokens)
        normalized: Tensor = self.norm(tokens)
        return normalized[:, 0]

    def _positions(self, rows: int, columns: int) -> Tensor:
        if rows == columns == TRAINED_SIDE:
            return self.pos_embed
        grid = self.pos_embed[:, 1:].unflatten(1, (TRAINED_SIDE, TRAINED_SIDE)).permute(0, 3, 1, 2)
        factors = tuple((side + POSITION_OFFSET) / TRAINED_SIDE for side in (rows, columns))
        grid = F.interpolate(grid, scale_factor=factors, mode="bicubic")
        return torch.cat([self.pos_embed[:, :1], grid.flatten(2).transpose(1, 2)], 1)
