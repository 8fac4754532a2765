"""Images that are in a program's memory, as a file that all trials read."""

import hashlib
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from trainables.data.decoding import in_eight_bits
from trainables.data.hub import written
from trainables.data.store import DataError, first_line
from trainables.own import RAISED

LABELS = ("label", "labels", "class")


def kept(images: Any, folder: Path) -> Path:
    """Write images into `folder`, once, as a file by the name of their content; return its path.

    `images`: an array or a tensor, (N, H, W), (N, H, W, C) or (N, C, H, W); or a sequence such as a
    `torch.utils.data.Dataset`, whose items are an image (PIL, array, tensor), begin with one and a label, a
    number or a word, or are dictionaries with an image and, as `label`, one; some may have no label. uint8,
    or floats in [0, 1]. Or a `datasets.Dataset`. Raises DataError where there is no image, or they differ in
    size.
    """
    if hasattr(images, "to_parquet") and hasattr(images, "_fingerprint"):
        # A `datasets.Dataset`, whose images may differ in size.
        path = folder / f"memory-{images._fingerprint}.parquet"
        if not path.exists():
            folder.mkdir(parents=True, exist_ok=True)
            written(images, path)
        return path
    if isinstance(images, Mapping):
        raise DataError(f"{type(images).__name__} holds {', '.join(map(str, images))}: give one of them")
    arrays = {"images": _array(images)} if hasattr(images, "__array__") else _collected(images)
    if not arrays["images"].size or arrays["images"].dtype == object:
        raise DataError(f"{type(images).__name__} holds no images")
    digest = hashlib.sha256()
    for name, values in sorted(arrays.items()):
        digest.update(f"{name} {values.dtype} {values.shape}".encode())
        digest.update(np.ascontiguousarray(values).data)
    path = folder / f"memory-{digest.hexdigest()[:16]}.npz"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder, suffix=".npz", delete=False) as file:
            np.savez(file, **arrays)  # type: ignore[arg-type]  # names are data
        os.replace(file.name, path)
    return path


def _collected(images: Any) -> dict[str, NDArray[Any]]:
    """Return the images and, where each has one, the labels of a sequence."""
    pixels: list[NDArray[Any]] = []
    labels: list[float | str | None] = []
    try:
        length = len(images)
    except TypeError as error:
        raise DataError(
            f"{type(images).__name__} is no data set: it takes a path, an array, or a sequence of images"
        ) from error
    for number in range(length):
        try:
            image, label = _taken(images[number])
        except RAISED as error:  # whatever a person's data set raises
            said = f"{type(error).__name__}: {first_line(error)}"
            raise DataError(f"item {number} of {type(images).__name__} can't be read: {said}") from error
        if image is None:
            raise DataError(f"item {number} of {type(images).__name__} is no image and holds none")
        if pixels and image.shape != pixels[0].shape:
            raise DataError(
                f"images differ in shape ({pixels[0].shape} and, number {number}, {image.shape}): resize "
                "them in the data set's transform, or give a folder of files"
            )
        pixels.append(image)
        labels.append(label)
    arrays: dict[str, NDArray[Any]] = {"images": np.array(pixels)}
    if any(isinstance(label, str) for label in labels):
        arrays["labels"] = np.array(["" if label is None else str(label) for label in labels])
    elif None not in labels:
        arrays["labels"] = np.array(labels)
    elif set(labels) != {None}:
        arrays["labels"] = np.array([np.nan if label is None else label for label in labels], float)
    return arrays


def _taken(item: Any) -> tuple[NDArray[Any] | None, float | str | None]:
    """Return an item's image and label, None where it has none."""
    label: Any = None
    if isinstance(item, Mapping):
        label = next((item[name] for name in LABELS if name in item), None)
        item = next((value for value in item.values() if _is_image(value)), None)
    elif isinstance(item, tuple | list) and item:
        label = item[1] if len(item) > 1 else None
        item = item[0]
    if not _is_image(item):
        return None, None
    if isinstance(item, Image.Image):
        item = in_eight_bits(item.copy())
    label = label.item() if hasattr(label, "item") and np.ndim(label) == 0 else label
    return _array(item), label if isinstance(label, int | float | str) else None


def _array(images: Any) -> NDArray[Any]:
    """Return an array of an array, a picture, or a tensor on any device and of any precision."""
    if hasattr(images, "detach"):
        images = images.detach().cpu()
        images = images.float() if images.is_floating_point() else images
    return np.asarray(images)


def _is_image(value: Any) -> bool:
    return isinstance(value, Image.Image) or len(getattr(value, "shape", ())) in (2, 3)
