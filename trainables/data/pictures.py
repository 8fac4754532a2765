"""Pictures out of pixels: one image, many as tiles, a film, PNG bytes. Nothing is resampled or stretched.

All images are uint8, (n, H, W, C) with C = 1 or 3, as `batches.to_uint8` returns them.
"""

import io
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

GAP = 2  # pixels between tiles, before they are enlarged
BLACK, WHITE = 0, 255


def picture(image: NDArray[np.uint8], scale: int = 1) -> Image.Image:
    """Return one image (H, W, C) in mode L or RGB, each pixel enlarged to scale × scale."""
    image = image.repeat(scale, 0).repeat(scale, 1)
    return Image.fromarray(image.squeeze(2) if image.shape[2] == 1 else image)


def tile(
    images: NDArray[np.uint8], columns: int, *, gap: int = GAP, ground: int = BLACK, scale: int = 1
) -> Image.Image:
    """Return images (n, H, W, C) row by row on one sheet, with `gap` pixels of the ground's level between."""
    n, height, width, channels = images.shape
    rows = -(-n // columns)
    cells = np.full((rows * columns, height + gap, width + gap, channels), ground, np.uint8)
    cells[:n, :height, :width] = images
    lines = cells.reshape(rows, columns, height + gap, width + gap, channels).swapaxes(1, 2)
    sheet = lines.reshape(rows * (height + gap), columns * (width + gap), channels)
    return picture(sheet[: sheet.shape[0] - gap, : sheet.shape[1] - gap], scale)


class PNG(bytes):
    """A PNG file. Loggers that write a result as text, as Tune's own do, write its size."""

    def __repr__(self) -> str:
        return f"PNG of {len(self)} bytes"

    __str__ = __repr__


def png(image: Image.Image) -> PNG:
    """Return the picture as a PNG file."""
    file = io.BytesIO()
    image.save(file, "PNG", optimize=True)
    return PNG(file.getvalue())


def row(images: NDArray[np.uint8]) -> bytes:
    """Return images side by side, without a gap, as one PNG, which `take_apart` turns back into them."""
    return png(tile(images, len(images), gap=0))


def take_apart(row: bytes) -> NDArray[np.uint8]:
    """Return the square images (n, H, W, C) of `row`'s PNG."""
    joined = np.asarray(Image.open(io.BytesIO(row), formats=("PNG",)))
    joined = joined[..., None] if joined.ndim == 2 else joined
    height, width, channels = joined.shape
    return joined.reshape(height, width // height, height, channels).transpose(1, 0, 2, 3)


def save_grid(path: Path, images: NDArray[np.uint8], columns: int, side: int) -> None:
    """Write images as tiles, each enlarged by a whole factor to about `side` pixels."""
    tile(images, columns, scale=max(1, side // images.shape[1])).save(path, optimize=True)


def save_film(path: Path, frames: NDArray[np.uint8], side: int, milliseconds: int) -> None:
    """Write images as an endless GIF, each shown that long and enlarged as by `save_grid`."""
    scale = max(1, side // frames.shape[1])
    first, *others = (picture(frame, scale) for frame in frames)
    first.save(path, save_all=True, append_images=others, duration=milliseconds, loop=0)
