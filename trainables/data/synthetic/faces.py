"""Synthetic faces: RGB portraits drawn from known factors, the data set that needs no download.

`render` draws n faces at random; `draw` draws the faces of given factors, so that one factor can be held or
moved alone. A face is layers of signed distances, each painted with the share of a pixel that it covers: what
is anti-aliased at 128 pixels is so at 32. Every operation is element-wise over a batch of images.

Factors are independent of each other, as measures of disentanglement need them.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trainables.data.synthetic.portrait import paint

Factors = dict[str, NDArray[np.float32]]

BATCH = 16  # images drawn at a time: their planes fit a core's cache
SMILE_CLASSES = ("0", "1", "2", "3", "4", "5")
HAIR_STYLES = ("shaved", "short", "parted", "long", "curly", "bob")
GLASSES = ("none", "round", "square", "sunglasses")
BEARDS = ("none", "stubble", "moustache", "full")


@dataclass(frozen=True)
class Factor:
    """How one factor varies: uniform in [low, high], or one of the weighted classes 0, 1, …"""

    low: float = -1.0
    high: float = 1.0
    weights: tuple[float, ...] = ()

    def sample(self, u: NDArray[np.float64]) -> NDArray[np.float32]:
        """Map uniform numbers in [0, 1) to values."""
        if self.weights:
            edges = np.cumsum(self.weights) / np.sum(self.weights)
            return np.searchsorted(edges[:-1], u, side="right").astype(np.float32)
        return (self.low + u * (self.high - self.low)).astype(np.float32)


# All that a picture depends on, in the order of the random numbers: append, never insert, or the faces of a
# seed change. Ramps (skin, hair, iris) run over a palette; angles are in radians.
FACTORS = {
    "smile_degree": Factor(0, 5),
    "skin": Factor(0, 1),
    "hair_color": Factor(0, 1),
    "hair_style": Factor(weights=(1, 4, 4, 4, 2, 3)),
    "eye_color": Factor(0, 1),
    "eye_size": Factor(),
    "eye_spacing": Factor(),
    "gaze_x": Factor(),
    "gaze_y": Factor(),
    "brow": Factor(),
    "glasses": Factor(weights=(12, 3, 3, 2)),
    "beard": Factor(weights=(12, 2, 2, 3)),
    "head_x": Factor(),
    "head_y": Factor(),
    "head_size": Factor(),
    "head_width": Factor(),
    "jaw": Factor(),
    "nose": Factor(),
    "tilt": Factor(-0.24, 0.24),
    "turn": Factor(),
    "lips": Factor(0, 1),
    "background_hue": Factor(0, 1),
    "background_lightness": Factor(0, 1),
    "background_angle": Factor(-np.pi, np.pi),
    "clothes_hue": Factor(0, 1),
    "clothes_lightness": Factor(0, 1),
    "light_angle": Factor(-1.25, 1.25),
    "light_strength": Factor(0, 1),
    "light_warmth": Factor(),
}
_DRAWS = 64  # random numbers an image: room for factors to come


def sample_factors(n: int, *, seed: int = 0, first: int = 0) -> Factors:
    """Draw the factors of the images `first` … `first + n - 1` of a seed, each float32, (n,), independent."""
    bits = np.random.Philox(key=seed)
    bits.advance(first * _DRAWS // 4)  # a step of Philox is four numbers
    u = np.random.Generator(bits).random((n, _DRAWS))
    factors = {name: factor.sample(u[:, k]) for k, (name, factor) in enumerate(FACTORS.items())}
    factors["smile_class"] = np.rint(factors["smile_degree"])
    return factors


def render(
    n: int, *, image_size: int = 64, seed: int = 0, first: int = 0
) -> tuple[NDArray[np.uint8], Factors]:
    """Draw n random faces; return the images, uint8 (n, H, W, 3), and their factors, each float32 (n,).

    Image i is a function of the seed and of `first + i` alone. Raises ValueError below 8 pixels.
    """
    factors = sample_factors(n, seed=seed, first=first)
    return draw(factors, image_size=image_size), factors


def draw(factors: Mapping[str, NDArray], *, image_size: int = 64) -> NDArray[np.uint8]:
    """Draw the faces of `FACTORS`' values, each (n,); return uint8 (n, H, W, 3).

    Raises ValueError below 8 pixels, and where a factor is missing.
    """
    if image_size < 8:
        raise ValueError(f"image_size is {image_size}; a face needs at least 8 pixels")
    if missing := [name for name in FACTORS if name not in factors]:
        raise ValueError(f"the factor {missing[0]!r} is missing; needed: {', '.join(FACTORS)}")
    f = {name: np.asarray(factors[name], np.float32) for name in FACTORS}
    n = len(f["skin"])
    images = np.empty((n, image_size, image_size, 3), np.uint8)
    for start in range(0, n, BATCH):
        # Always whole batches: the last bits of numpy's functions depend on an array's length.
        rows = np.arange(start, start + BATCH).clip(max=n - 1)
        painted = paint({name: value[rows] for name, value in f.items()}, image_size)
        images[start : start + BATCH] = painted[: n - start]
    return images
