"""The figures of [LEGO]: faces drawn from the prior, faces rebuilt, and one face turning into another."""

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from analysis.charts.style import canvas
from trainables.data.batches import to_float, to_uint8
from trainables.data.pictures import save_film, save_grid
from trainables.data.store import ImageStore
from trainables.evaluation.generation import EVALUATION_SEED
from trainables.models.base import GenerativeModel
from trainables.models.lego_vae import morph

SHOWN, PAIRS, COLUMNS, SIDE = 64, 16, 8, 128
MORPHS = 4  # pairs of faces; the film goes round all of them
FILM_STEPS, FILM_MILLISECONDS, PAUSE = (
    16,
    60,
    8,
)  # frames from face to face, how long each is, and each face stays


@torch.no_grad()
def draw_faces(model: GenerativeModel, store: ImageStore, folder: Path) -> list[Path]:
    """Write `generated.png`, `reconstructed.png`, `morph.png` and `morph.gif`; return their paths.

    Reconstructed and morphed are images of the test split; of the validation split where that has too few.
    """
    held_out = store.split("test")
    if len(held_out) <= MORPHS:
        held_out = store.split("validation")
    x = to_float(store.images[held_out[:PAIRS]], model.device)
    faces = [x[i % len(x)] for i in range(MORPHS + 1)]
    generated = model.sample(SHOWN, torch.Generator(model.device).manual_seed(EVALUATION_SEED))
    grids = {
        "generated.png": generated,
        "morph.png": torch.cat([morph(model, faces[i], faces[i + 1], COLUMNS) for i in range(MORPHS)]),
    }
    folder.mkdir(parents=True, exist_ok=True)
    for name, images in grids.items():
        save_grid(folder / name, to_uint8(images).cpu().numpy(), COLUMNS, SIDE)
    rebuilt = model.reconstruct(x)
    draw_rebuilt(folder / "reconstructed.png", *(to_uint8(part).cpu().numpy() for part in (x, rebuilt)))
    frames = []
    for i in range(MORPHS):
        leg = morph(model, faces[i], faces[(i + 1) % MORPHS], FILM_STEPS)
        frames += [leg[:1].expand(PAUSE, -1, -1, -1), leg[1:-1]]
    film = to_uint8(torch.cat(frames)).cpu().numpy()
    save_film(folder / "morph.gif", film, SIDE, FILM_MILLISECONDS)
    return [folder / name for name in (*grids, "reconstructed.png", "morph.gif")]


def draw_rebuilt(path: Path, images: NDArray[np.uint8], rebuilt: NDArray[np.uint8]) -> None:
    """Draw held-out images, (n, H, W, C), in rows, each above the row of what the model makes of them."""
    starts = range(0, len(images), COLUMNS)
    figure, panels = canvas(COLUMNS, 2.1 * len(starts), 2 * len(starts), 1, squeeze=False)
    for k, axes in enumerate(panels[:, 0]):
        part = (rebuilt if k % 2 else images)[starts[k // 2] : starts[k // 2] + COLUMNS]
        axes.imshow(np.concatenate(list(part), 1), cmap="gray", interpolation="nearest")
        axes.set_ylabel("rebuilt" if k % 2 else "held out", fontsize=8)
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set_visible(False)
    figure.savefig(path, dpi=120)
