"""The figures of [LEGO]: faces drawn from the prior, faces rebuilt, and one face turning into another."""

from pathlib import Path

import torch

from trainables.data.batches import to_float, to_uint8
from trainables.data.pictures import save_film, save_grid
from trainables.data.store import ImageStore
from trainables.models.base import GenerativeModel
from trainables.models.lego_vae import morph

SEED = 20_200
SHOWN, PAIRS, COLUMNS, SIDE = 64, 32, 8, 128
MORPHS = 4  # pairs of faces; the film goes round all of them
FILM_STEPS, FILM_MILLISECONDS, PAUSE = (
    16,
    60,
    8,
)  # frames from face to face, how long each is, and each face stays


@torch.no_grad()
def draw_faces(model: GenerativeModel, store: ImageStore, folder: Path) -> list[Path]:
    """Write `generated.png`, `reconstructed.png` (pairs), `morph.png` and `morph.gif`; return their paths.

    Reconstructed and morphed are images of the test split; of the validation split where that has too few.
    """
    held_out = store.split("test")
    if len(held_out) <= MORPHS:
        held_out = store.split("validation")
    x = to_float(store.images[held_out[:PAIRS]], model.device)
    faces = [x[i % len(x)] for i in range(MORPHS + 1)]
    generated = model.sample(SHOWN, torch.Generator(model.device).manual_seed(SEED))
    grids = {
        "generated.png": generated,
        "reconstructed.png": torch.stack([x, model.reconstruct(x)], 1).flatten(0, 1),
        "morph.png": torch.cat([morph(model, faces[i], faces[i + 1], COLUMNS) for i in range(MORPHS)]),
    }
    folder.mkdir(parents=True, exist_ok=True)
    for name, images in grids.items():
        save_grid(folder / name, to_uint8(images).cpu().numpy(), COLUMNS, SIDE)
    frames = []
    for i in range(MORPHS):
        leg = morph(model, faces[i], faces[(i + 1) % MORPHS], FILM_STEPS)
        frames += [leg[:1].expand(PAUSE, -1, -1, -1), leg[1:-1]]
    film = to_uint8(torch.cat(frames)).cpu().numpy()
    save_film(folder / "morph.gif", film, SIDE, FILM_MILLISECONDS)
    return [folder / name for name in (*grids, "morph.gif")]
