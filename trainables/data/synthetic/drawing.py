"""Data sets that are drawn: from a seed to factors, from factors to pictures.

Factors are independent of each other, as measures of disentanglement need them.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Factors = dict[str, NDArray[np.float32]]

BATCH = 16  # images drawn at a time: their planes fit a core's cache
_DRAWS = 64  # random numbers an image: room for factors to come


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


@dataclass(frozen=True, eq=False)
class Drawing:
    """A kind of picture that is drawn from known factors.

    `factors` are all that a picture depends on, in the order of the random numbers: append, never insert, or
    the pictures of a seed change. `paint` draws at least one whole batch: factors, each (n,), and a size ->
    uint8 (n, size, size, C). The label is the factor `label_of`, rounded, and is stored as a factor, too.
    """

    name: str
    factors: Mapping[str, Factor]
    paint: Callable[[Factors, int], NDArray[np.uint8]]
    label: str
    label_of: str
    class_names: tuple[str, ...]
    channels: int = 3

    def sample_factors(self, n: int, *, seed: int = 0, first: int = 0) -> Factors:
        """Draw the factors of the images `first` … `first + n - 1` of a seed, each float32, (n,)."""
        bits = np.random.Philox(key=seed)
        bits.advance(first * _DRAWS // 4)  # a step of Philox is four numbers
        u = np.random.Generator(bits).random((n, _DRAWS))
        factors = {name: factor.sample(u[:, k]) for k, (name, factor) in enumerate(self.factors.items())}
        factors[self.label] = np.rint(factors[self.label_of])
        return factors

    def render(
        self, n: int, *, image_size: int = 64, seed: int = 0, first: int = 0
    ) -> tuple[NDArray[np.uint8], Factors]:
        """Draw n random pictures; return them, uint8 (n, H, W, C), and their factors, each float32 (n,).

        Image i is a function of the seed and of `first + i` alone. Raises ValueError below 8 pixels.
        """
        factors = self.sample_factors(n, seed=seed, first=first)
        return self.draw(factors, image_size=image_size), factors

    def draw(self, factors: Mapping[str, NDArray], *, image_size: int = 64) -> NDArray[np.uint8]:
        """Draw the pictures of the factors' values, each (n,); return uint8 (n, H, W, C).

        Raises ValueError below 8 pixels, and where a factor is missing.
        """
        if image_size < 8:
            raise ValueError(f"image_size is {image_size}; a drawn picture needs at least 8 pixels")
        if missing := [name for name in self.factors if name not in factors]:
            raise ValueError(f"the factor {missing[0]!r} is missing; needed: {', '.join(self.factors)}")
        f = {name: np.asarray(factors[name], np.float32) for name in self.factors}
        n = len(f[self.label_of])
        images = np.empty((n, image_size, image_size, self.channels), np.uint8)
        for start in range(0, n, BATCH):
            # Always whole batches: the last bits of numpy's functions depend on an array's length.
            rows = np.arange(start, start + BATCH).clip(max=n - 1)
            painted = self.paint({name: value[rows] for name, value in f.items()}, image_size)
            images[start : start + BATCH] = painted[: n - start]
        return images
