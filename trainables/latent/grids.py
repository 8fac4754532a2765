"""Images as lossless PNGs: a row that can be taken apart again, and grids to look at."""

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image


def row(images: NDArray[np.uint8]) -> bytes:
    """Return images (n, H, W, 1 or 3) side by side, without a gap, as one PNG."""
    n, height, width, channels = images.shape
    joined = images.transpose(1, 0, 2, 3).reshape(height, n * width, channels)
    file = io.BytesIO()
    Image.fromarray(joined.squeeze(2) if channels == 1 else joined).save(file, "PNG", optimize=True)
    return file.getvalue()


def take_apart(png: bytes) -> NDArray[np.uint8]:
    """Return the square images (n, H, W, 1 or 3) of `row`."""
    joined = np.asarray(Image.open(io.BytesIO(png)))
    joined = joined[..., None] if joined.ndim == 2 else joined
    height, width, channels = joined.shape
    return joined.reshape(height, width // height, height, channels).transpose(1, 0, 2, 3)
