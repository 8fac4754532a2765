"""Images at their own size, for scores that compare sets of files: read by the rules of data sets."""

from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from trainables.data.decoding import decode, reason
from trainables.data.formats.containers import Listing, list_folder
from trainables.data.formats.layout import ignored, is_image
from trainables.data.store import DataError

BATCH = 256


def folder_images(folder: Path) -> Iterator[NDArray[np.uint8]]:
    """Yield the images below a folder, sorted by path, in batches of one size, uint8 (B, H, W, 3).

    Hidden files are passed over and links followed, as for a data set. Raises DataError where there is none
    or one cannot be read: the score of the others would be another number.
    """
    listing = list_folder(folder)
    rows = [row for row, name in enumerate(listing.names) if is_image(name)]
    if not rows:
        raise DataError(f"no image in {folder}: its {len(listing.names)} files have other endings")
    images = (_read(folder, listing, row) for row in rows)
    for _, of_one_size in groupby(images, key=np.shape):
        yield from _batches(of_one_size)


def left_out(folder: Path) -> list[str]:
    """Return a sentence for each kind of file in a folder that `folder_images` leaves out."""
    listing = list_folder(folder)
    notes = ignored(name for name in listing.names if not is_image(name))
    return [*notes, *(f"{name} left out: {why}" for name, why in listing.rejects)]


def _read(folder: Path, listing: Listing, row: int) -> NDArray[np.uint8]:
    try:
        return np.asarray(decode(listing.reader.read(row)).convert("RGB"))
    except Exception as error:  # decoders raise anything
        raise DataError(f"{folder / listing.names[row]} is no readable image: {reason(error)}") from error


def _batches(images: Iterator[NDArray[np.uint8]]) -> Iterator[NDArray[np.uint8]]:
    batch = []
    for image in images:
        batch.append(image)
        if len(batch) == BATCH:
            yield np.stack(batch)
            batch = []
    if batch:
        yield np.stack(batch)
