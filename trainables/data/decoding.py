"""From an encoded image to uint8 pixels of the wanted size; runs in processes that need no torch."""

import hashlib
import io
import warnings
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from trainables.data.formats.readers import Reader
from trainables.data.store import DIGEST_BYTES, DataError, digest

MAX_PIXELS = 64_000_000  # a picture of more pixels is taken for a decompression bomb
MIN_SIDE = 8
# What is kept of an image: left, upper, right, lower. "larsen" on CelebA's 178×218: Larsen et al. 2016.
CROPS = {"larsen": (15 / 178, 40 / 218, 163 / 178, 188 / 218)}
CROP_NAMES = ("larsen", "square")


@dataclass(frozen=True)
class Settings:
    """What is done to each image: `crop` (None, "larsen", "square": the middle), resize to
    (image_size, image_size), `channels` 1 or 3. Raises DataError for other values.
    """

    image_size: int
    channels: int = 3
    crop: str | None = None

    def __post_init__(self) -> None:
        if not 8 <= self.image_size <= 1024:
            raise DataError(f"image_size is {self.image_size}; choose 8 to 1024, models here take 32 or 64")
        if self.channels not in (1, 3):
            raise DataError(f"channels is {self.channels}; choose 3 (RGB) or 1 (grey)")
        if self.crop not in (None, *CROP_NAMES):
            raise DataError(f"there is no crop {self.crop!r}; choose {' or '.join(CROP_NAMES)}, or none")


@dataclass(frozen=True)
class Chunk:
    """Some consecutive inputs, converted: `pixels` uint8 (n, H, W, C), for each its `digests` (n, 16) and
    `identities` uint64 (n,), a hash of the source's bytes; and for what could not be read its number and why.
    """

    inputs: int
    pixels: NDArray[np.uint8]
    digests: NDArray[np.uint8]
    identities: NDArray[np.uint64]
    rejects: list[tuple[int, str]]


def convert_chunk(reader: Reader, settings: Settings) -> Chunk:
    """Decode all of a reader's images; one that can't be read becomes a reject, never an error."""
    n, size = len(reader), settings.image_size
    pixels = np.empty((n, size, size, settings.channels), np.uint8)
    digests, identities = np.empty((n, DIGEST_BYTES), np.uint8), np.empty(n, np.uint64)
    done, rejects = 0, []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # bombs and odd metadata: what matters is checked here
        for i in range(n):
            try:
                encoded = reader.read(i)
                pixels[done] = fit(decode(encoded), settings)
            except Exception as error:  # decoders raise anything: OSError, SyntaxError, struct.error, …
                rejects.append((i, reason(error)))
                continue
            digests[done] = np.frombuffer(digest(pixels[done]), np.uint8)
            identities[done] = identity(encoded)
            done += 1
    return Chunk(n, pixels[:done], digests[:done], identities[:done], rejects)


def decode(encoded: bytes | NDArray[np.uint8]) -> Image.Image:
    """Return an image in mode L or RGB: upright (EXIF), first frame, 16 bits scaled to 8, alpha over white.

    Raises ValueError, or what Pillow raises, where it can't be read or its size is absurd.
    """
    if isinstance(encoded, np.ndarray):
        return Image.fromarray(encoded.squeeze(-1) if encoded.shape[2:] == (1,) else encoded)
    if not encoded:
        raise ValueError("the file is empty")
    image = Image.open(io.BytesIO(encoded))
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise ValueError(f"{width}×{height} pixels, more than {MAX_PIXELS // 10**6} million")
    if min(width, height) < MIN_SIDE:
        raise ValueError(f"{width}×{height} pixels, smaller than {MIN_SIDE}×{MIN_SIDE}")
    image.load()
    ImageOps.exif_transpose(image, in_place=True)
    return _eight_bits(image)


def _eight_bits(image: Image.Image) -> Image.Image:
    if image.mode in ("L", "RGB"):
        if "transparency" not in image.info:
            return image
        image = image.convert("RGBA")
    if image.mode.startswith("I") or image.mode == "F":
        # Pillow's own conversion clips 16-bit levels at 255.
        levels = np.asarray(image).astype(np.float64)
        return Image.fromarray(np.clip(levels / 257 + 0.5, 0, 255).astype(np.uint8))
    if image.mode == "P" or image.has_transparency_data:
        image = image.convert("RGBA")
        ground = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(ground, image).convert("RGB")
    return image.convert("L" if image.mode == "1" else "RGB")


def fit(image: Image.Image, settings: Settings) -> NDArray[np.uint8]:
    """Crop, convert and resize (bilinear over the whole footprint, as torchvision does); (H, W, C)."""
    mode = "RGB" if settings.channels == 3 else "L"
    if image.mode != mode:
        image = image.convert(mode)
    size, box = (settings.image_size, settings.image_size), _box(image.size, settings.crop)
    if box is not None and all(edge.is_integer() for edge in box):
        image, box = image.crop(tuple(int(edge) for edge in box)), None  # no weight for pixels beyond the box
    image = image.resize(size, Image.Resampling.BILINEAR, box=box)
    return np.asarray(image).reshape(*size, settings.channels)


def _box(size: tuple[int, int], crop: str | None) -> tuple[float, ...] | None:
    """Return the part to keep, (left, upper, right, lower) in pixels, or None: all."""
    width, height = size
    if crop is None:
        return None
    if crop == "square":
        side = min(width, height)
        left, upper = float((width - side) // 2), float((height - side) // 2)
        return left, upper, left + side, upper + side
    left, upper, right, lower = CROPS[crop]
    return left * width, upper * height, right * width, lower * height


def identity(encoded: bytes | NDArray[np.uint8]) -> int:
    """Return 64 bits that name a source image whatever is done to it: they choose its split."""
    data = encoded if isinstance(encoded, bytes) else np.ascontiguousarray(encoded)
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest())


def reason(error: Exception) -> str:
    """Return why an image was refused, in one line without addresses in memory."""
    if type(error).__name__ == "UnidentifiedImageError":
        return "not an image, or of a kind that Pillow does not know"
    if type(error).__name__ == "DecompressionBombError":
        return f"more than {MAX_PIXELS // 10**6} million pixels"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error).splitlines()[0] if str(error) else type(error).__name__
