"""Images on disk as batches, uint8 (B, H, W, C), for `python -m trainables.metrics`."""

import json
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from trainables.metrics.errors import MetricError

EXTENSIONS = frozenset({".bmp", ".jpg", ".jpeg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"})
BATCH = 256


def folder_images(folder: Path) -> Iterator[NDArray[np.uint8]]:
    """Yield the images of a folder and those below it, in RGB, sorted by path; a batch is of one size.

    Raises MetricError where there is none or one cannot be read.
    """
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in EXTENSIONS)
    if not files:
        raise MetricError(f"no image in {folder}; there are none with {', '.join(sorted(EXTENSIONS))}")
    for _, same_size in groupby(map(_read, files), key=np.shape):
        yield from _batches(same_size)


def store_images(path: Path) -> Iterator[NDArray[np.uint8]]:
    """Yield the images of an image store, all splits, in the order of its rows.

    Reads the Arrow file by its documented columns, since metrics do not know the data package. Raises
    MetricError where it is no such store.
    """
    try:
        with pa.memory_map(str(path)) as file:
            table = pa.ipc.open_file(file).read_all()
        manifest = json.loads(table.schema.metadata[b"latentune"])
        shape = (manifest["image_size"], manifest["image_size"], manifest["channels"])
        column = table["image"]
    except (OSError, pa.ArrowInvalid, KeyError, TypeError) as error:
        raise MetricError(f"{path} is neither a folder of images, an image store nor an .npz file") from error
    if not len(column):
        raise MetricError(f"no image in {path}")
    for start in range(0, len(column), BATCH):
        rows = column.slice(start, BATCH).to_pylist()
        yield np.frombuffer(b"".join(rows), np.uint8).reshape(len(rows), *shape)


def _batches(images: Iterator[NDArray[np.uint8]]) -> Iterator[NDArray[np.uint8]]:
    batch = []
    for image in images:
        batch.append(image)
        if len(batch) == BATCH:
            yield np.stack(batch)
            batch = []
    if batch:
        yield np.stack(batch)


def _read(path: Path) -> NDArray[np.uint8]:
    try:
        with Image.open(path) as image:
            return np.asarray(image.convert("RGB"))
    except (UnidentifiedImageError, OSError, SyntaxError) as error:
        raise MetricError(f"{path} is no readable image: {error}") from error
