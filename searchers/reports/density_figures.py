"""The pictures of a density: classes in latent space, the latent plane decoded, reconstructions, samples."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import norm
from torch import Tensor

from analysis.charts.clusters import draw_classes, plane
from analysis.charts.style import canvas
from trainables.data.batches import to_uint8
from trainables.data.pictures import save_grid
from trainables.data.store import spread
from trainables.evaluation.generation import EVALUATION_SEED
from trainables.models.densities import PPCA, GaussianMixture

if TYPE_CHECKING:
    from trainables.models.bernoulli_vae import BernoulliVAE

SHOWN, PAIRS, CLUSTERED, PLANE = 64, 32, 5000, 20
SIDE = 56  # pixels of each image of a grid


def draw_figures(
    model: "BernoulliVAE | PPCA | GaussianMixture", x: Tensor, labels: NDArray[np.integer], folder: Path
) -> list[Path]:
    """Write the figures that a model has into `folder`; return their paths.

    x (B, C, H, W): test images. `clusters.png`: their posterior means by label, along the two principal axes
    where there are more. `plane.png`: the decoded grid of latents at the prior's quantiles, where there are
    two. `components.png`: a mixture's means. `reconstructions.png`: pairs. `samples.png`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    pairs, clustered = (spread(np.arange(len(x)), count) for count in (PAIRS, CLUSTERED))
    grids = {
        "samples.png": (model.sample(SHOWN, torch.Generator().manual_seed(EVALUATION_SEED)), 8),
        "reconstructions.png": (torch.stack([x[pairs], model.reconstruct(x[pairs])], 1).flatten(0, 1), 8),
    }
    if isinstance(model, GaussianMixture):
        grids["components.png"] = (model.means()[:100], 10)
    elif model.config.latent_dim == 2:
        grids["plane.png"] = (decode_plane(model), PLANE)
    for name, (images, columns) in grids.items():
        save_grid(folder / name, to_uint8(images).cpu().numpy(), columns, SIDE)
    if not isinstance(model, GaussianMixture):
        encoded = model.encode(x[clustered])
        means = encoded if isinstance(encoded, Tensor) else encoded[0]
        draw_clusters(folder / "clusters.png", means.detach().double().numpy(), labels[clustered])
    return sorted(folder.glob("*.png"))


@torch.no_grad()
def decode_plane(model: "BernoulliVAE | PPCA", side: int = PLANE) -> Tensor:
    """Return the mean images of a grid of latents at equal quantiles of the prior, row by row from the top.

    Shape (side², C, H, W).
    """
    steps = torch.tensor(norm.ppf((np.arange(side) + 0.5) / side), dtype=torch.float32)
    z = torch.cartesian_prod(steps.flip(0), steps).flip(1)  # (z₁, z₂): right, up
    return model.decode(z)


def draw_clusters(path: Path, means: NDArray[np.floating], labels: NDArray[np.integer]) -> None:
    """Scatter posterior means (B, M) by label (B,); where M is 1, the label is the second dimension."""
    points, (first, second) = plane(means)
    if means.shape[1] == 1:
        points, second = np.stack([means[:, 0], labels], axis=1), "label"
    figure, axes = canvas(6.5, 6)
    draw_classes(axes, points, labels, {})
    axes.set(xlabel=first, ylabel=second)
    figure.savefig(path, dpi=120)
