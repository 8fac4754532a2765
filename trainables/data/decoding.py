"""From an encoded image to uint8 pixels of the wanted size; runs in processes that need no torch."""

import hashlib
import io
import warnings
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from trainables.data.formats.readers import Reader
from trainables.data.store import DIGEST_BYTES, DataError, digest, first_line, raise_the_machines

MAX_PIXELS = 64_000_000  # a picture of more pixels is taken for a decompression bomb
MIN_SIDE = 8
# The kinds of file that are opened, by Pillow's name, with their endings. Pillow knows more: of these some
# start other programs (an EPS runs Ghostscript), whatever their ending, so that they must be named here.
FORMATS = {
    "PNG": (".png", ".apng"),
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif", ".mpo"),
    "WEBP": (".webp",),
    "GIF": (".gif",),
    "BMP": (".bmp", ".dib"),
    "TIFF": (".tif", ".tiff"),
    "PPM": (".ppm", ".pgm", ".pbm", ".pnm", ".pfm"),
    "JPEG2000": (".jp2", ".j2k"),
    "AVIF": (".avif",),
}
SUFFIXES = frozenset(ending for endings in FORMATS.values() for ending in endings)
# What is kept of an image: left, upper, right, lower. "larsen" on CelebA's 178×218: Larsen et al. 2016.
CROPS = {"larsen": (15 / 178, 40 / 218, 163 / 178, 188 / 218)}
CROP_NAMES = ("larsen", "square")
NOT_SQUARE = 1.05  # of the longer side to the shorter: where squashing begins to show
Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Preprocessing:
    """How images become a model's: `crop` (None, "larsen", "square": the middle), resize to
    (image_size, image_size), `channels` 1 or 3. Raises DataError for other values.
    """

    image_size: int
    channels: int = 3
    crop: str | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.image_size, int) or not 8 <= self.image_size <= 1024:
            raise DataError(f"image_size is {self.image_size}; choose 8 to 1024; 32 is usual on a CPU")
        if self.channels not in (1, 3):
            raise DataError(f"channels is {self.channels}; choose 3 (RGB) or 1 (grey)")
        if self.crop not in (None, *CROP_NAMES):
            raise DataError(f"there is no crop {self.crop!r}; choose {' or '.join(CROP_NAMES)}, or none")


@dataclass(frozen=True)
class Chunk:
    """Some consecutive inputs, converted: `pixels` uint8 (n, H, W, C), for each its `digests` (n, 16) and
    `identities` uint64 (n,), the `identity` of its source; `rejects` are the numbers of those that could
    not be read, with the reasons.
    """

    inputs: int
    pixels: NDArray[np.uint8]
    digests: NDArray[np.uint8]
    identities: NDArray[np.uint64]
    rejects: list[tuple[int, str]]
    squashed: int = 0
    """images that are made square although the sides of what is kept differ by a twentieth or more"""


def convert_chunk(reader: Reader, preprocessing: Preprocessing) -> Chunk:
    """Decode all of a reader's images; one that can't be read becomes a reject.

    Raises MemoryError and OSError where that is no image's fault.
    """
    n, size = len(reader), preprocessing.image_size
    pixels = np.empty((n, size, size, preprocessing.channels), np.uint8)
    digests, identities = np.empty((n, DIGEST_BYTES), np.uint8), np.empty(n, np.uint64)
    done, squashed, rejects = 0, 0, []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # bombs and odd metadata: what matters is checked here
        for i in range(n):
            try:
                encoded = reader.read(i)
                image = decode(encoded)
                pixels[done] = fit(image, preprocessing)
            except Exception as error:  # decoders raise anything: OSError, SyntaxError, struct.error, …
                raise_the_machines(error)
                rejects.append((i, reason(error)))
                continue
            digests[done] = np.frombuffer(digest(pixels[done]), np.uint8)
            identities[done] = identity(encoded)
            squashed += not_square(image.size, preprocessing.crop)
            done += 1
    return Chunk(n, pixels[:done], digests[:done], identities[:done], rejects, squashed)


def decode(encoded: bytes | NDArray[np.uint8]) -> Image.Image:
    """Return an image in mode L or RGB: upright (EXIF), first frame, 16 bits scaled to 8, alpha over white.

    This is the one way in which images are read, for data sets, scores and requests alike. Raises ValueError,
    or what Pillow raises, where the image can't be read or its size is absurd; `reason` puts either in words.
    """
    if isinstance(encoded, np.ndarray):
        return Image.fromarray(encoded.squeeze(-1) if encoded.shape[2:] == (1,) else encoded)
    if not encoded:
        raise ValueError("the file is empty")
    image = Image.open(io.BytesIO(encoded), formats=_formats())
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise ValueError(f"{width}×{height} pixels, more than {MAX_PIXELS // 10**6} million")
    if min(width, height) < MIN_SIDE:
        raise ValueError(f"{width}×{height} pixels, smaller than {MIN_SIDE}×{MIN_SIDE}")
    image.load()
    return in_eight_bits(image)


@cache
def _formats() -> tuple[str, ...]:
    """Return those of `FORMATS` that this Pillow was built with; it raises KeyError for another one."""
    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)


def in_eight_bits(image: Image.Image) -> Image.Image:
    """Return an open image as `decode` does: in mode L or RGB, and upright, which the image itself becomes.

    Raises ValueError where its levels are in no known range.
    """
    ImageOps.exif_transpose(image, in_place=True)
    if image.mode in ("L", "RGB"):
        if "transparency" not in image.info:
            return image
        image = image.convert("RGBA")
    if image.mode.startswith("I") or image.mode == "F":
        return Image.fromarray(_eight_bit_levels(np.asarray(image)))
    if image.mode == "P" or image.has_transparency_data:
        image = image.convert("RGBA")
        ground = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(ground, image).convert("RGB")
    return image.convert("L" if image.mode == "1" else "RGB")


def _eight_bit_levels(levels: NDArray[Any]) -> NDArray[np.uint8]:
    """Return 16-bit levels, or floats in [0, 1], [0, 255] or [0, 65535], as 8 bits; Pillow would clip them.

    Raises ValueError for other ranges, whose white level is unknown. Floats that go little beyond 1 are of
    one: they are no black picture of 255 levels.
    """
    low, high = float(levels.min()), float(levels.max())
    beyond = levels.dtype.kind == "f" and 1 < high < 2
    if beyond or not (low >= 0 and high <= 65535):  # NaN, too
        raise ValueError(f"its levels are from {low:.3g} to {high:.3g}, in no range that is known")
    scale = 1 / 257
    if levels.dtype.kind == "f":
        scale = 255.0 if high <= 1 else 1.0 if high <= 255 else 1 / 257
    return np.rint(levels.astype(np.float64) * scale).astype(np.uint8)


def fit(image: Image.Image, preprocessing: Preprocessing) -> NDArray[np.uint8]:
    """Crop, convert and resize (bilinear over the whole footprint, as torchvision does); (H, W, C)."""
    mode = "RGB" if preprocessing.channels == 3 else "L"
    if image.mode != mode:
        image = image.convert(mode)
    size, box = (preprocessing.image_size, preprocessing.image_size), _box(image.size, preprocessing.crop)
    if box is not None and all(edge.is_integer() for edge in box):
        image, box = image.crop(box), None  # no weight for pixels beyond the box
    image = image.resize(size, Image.Resampling.BILINEAR, box=box)
    return np.asarray(image).reshape(*size, preprocessing.channels)


def _box(size: tuple[int, int], crop: str | None) -> Box | None:
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


def not_square(size: tuple[int, int], crop: str | None) -> bool:
    """Return whether what a crop keeps of an image of (width, height) is squashed to make it square."""
    left, upper, right, lower = _box(size, crop) or (0, 0, *size)
    sides = right - left, lower - upper
    return max(sides) >= NOT_SQUARE * min(sides)


def identity(encoded: bytes | NDArray[np.uint8]) -> int:
    """Return a 64-bit hash of a source image's bytes; it assigns the image's split."""
    data = encoded if isinstance(encoded, bytes) else np.ascontiguousarray(encoded).data
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest())


def reason(error: Exception) -> str:
    """Return why an image was refused, in one line without addresses in memory."""
    if isinstance(error, UnidentifiedImageError):
        return "not an image, or of a kind that Pillow does not know"
    if isinstance(error, Image.DecompressionBombError):
        return f"more than {MAX_PIXELS // 10**6} million pixels"
    return first_line(error)
