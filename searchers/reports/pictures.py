"""Pictures of many images: a grid in one PNG, a film in one GIF; small images are enlarged pixel by pixel."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from trainables.data.batches import to_uint8

GAP = 2  # black pixels between the images of a grid


def save_grid(path: Path, images: Tensor, columns: int, side: int) -> None:
    """Write images (n, C, H, W) in [−1, 1] row by row, each enlarged to about `side` pixels."""
    levels = to_uint8(images).cpu().numpy()
    n, height, width, channels = levels.shape
    rows = -(-n // columns)
    grid = np.zeros((rows * columns, height + GAP, width + GAP, channels), np.uint8)
    grid[:n, :height, :width] = levels
    tiles = grid.reshape(rows, columns, height + GAP, width + GAP, channels).swapaxes(1, 2)
    whole = tiles.reshape(rows * (height + GAP), columns * (width + GAP), channels)
    _picture(whole[:-GAP, :-GAP], side, height).save(path, optimize=True)


def save_film(path: Path, frames: Tensor, side: int, milliseconds: int) -> None:
    """Write images (n, C, H, W) in [−1, 1] as an endless GIF."""
    levels = to_uint8(frames).cpu().numpy()
    pictures = [_picture(frame, side, frame.shape[0]) for frame in levels]
    pictures[0].save(path, save_all=True, append_images=pictures[1:], duration=milliseconds, loop=0)


def _picture(levels: NDArray[np.uint8], side: int, height: int) -> Image.Image:
    """Return levels (H, W, C) as a picture in which `height` of their pixels are about `side` high."""
    picture = Image.fromarray(np.ascontiguousarray(levels.squeeze(2) if levels.shape[2] == 1 else levels))
    factor = max(1, side // height)
    return picture.resize((picture.width * factor, picture.height * factor), Image.Resampling.NEAREST)
