"""Anti-aliased painting of signed distances on a batch of pictures, element-wise in float32.

Shapes: a plane is (n, h, w); a parameter of the pictures is a column (n, 1, 1); a color is (3, n, 1, 1).
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Plane = NDArray[np.floating[Any]]
Value = Plane | np.floating[Any] | float
Color = Plane | tuple[float, float, float]
Window = tuple[slice, slice, slice]
EVERYWHERE: Window = (slice(None), slice(None), slice(None))


class Canvas:
    """A batch of pictures being painted, back to front; colors in [0, 1]."""

    def __init__(self, n: int, size: int):
        self.rgb = np.zeros((3, n, size, size), np.float32)
        self.centers = pixel_centers(size)

    def paint(self, window: Window, cover: Plane, color: Color, shade: Plane | None = None) -> None:
        """Mix in a color, times `shade`, by the share `cover` of each pixel of the window."""
        paint = cover if shade is None else cover * shade
        rest = 1 - cover
        for plane, value in zip(self.rgb, color, strict=True):
            part = plane[window]
            part *= rest
            part += paint * np.float32(value)

    def images(self) -> NDArray[np.uint8]:
        """Round and clip to uint8, (n, H, W, 3)."""
        levels = np.minimum(np.maximum(self.rgb * np.float32(255) + np.float32(0.5), 0), 255)
        return np.ascontiguousarray(levels.astype(np.uint8).transpose(1, 2, 3, 0))


class Frame:
    """Coordinates of a moved, turned and scaled figure: planes `u`, `v`, and `pixels` a unit, a column.

    `x`, `y` are the centre and `unit` the length of a unit in the picture's [-1, 1]², `angle` in radians.
    """

    def __init__(self, size: int, x: Plane, y: Plane, unit: Plane, angle: Plane):
        self.size, self.x, self.y, self.unit = size, x, y, unit
        # float64, then rounded: the last bit of a float32 cosine may depend on its place in the array.
        self.cos = np.cos(angle.astype(np.float64)).astype(np.float32)
        self.sin = np.sin(angle.astype(np.float64)).astype(np.float32)
        centers = pixel_centers(size)
        dx, dy = (centers - x) / unit, (centers[:, None] - y) / unit
        self.u = dx * self.cos + dy * self.sin
        self.v = dy * self.cos - dx * self.sin
        self.pixels = unit * np.float32(size / 2)

    def window(self, u: tuple[float, float], v: tuple[float, float]) -> Window:
        """Return the smallest window that holds the box [u₀, u₁] × [v₀, v₁] of every picture."""
        corners = [(a, b) for a in u for b in v]
        dx = np.stack([a * self.cos - b * self.sin for a, b in corners]) * self.unit + self.x
        dy = np.stack([a * self.sin + b * self.cos for a, b in corners]) * self.unit + self.y
        return slice(None), self._span(dy), self._span(dx)

    def _span(self, positions: Plane) -> slice:
        pixels = (positions + 1) * (self.size / 2)
        first = int(np.clip(np.floor(pixels.min()) - 1, 0, self.size - 1))
        last = int(np.clip(np.ceil(pixels.max()) + 1, first + 1, self.size))
        return slice(first, last)


def pixel_centers(size: int) -> NDArray[np.float32]:
    """Return the pixels' centers along an axis of [-1, 1], (size,)."""
    return (np.arange(size, dtype=np.float32) + np.float32(0.5)) * np.float32(2 / size) - 1


def cover(distance: Plane) -> Plane:
    """Return the share of a pixel that lies inside, from the signed distance (in pixels, negative inside)."""
    share: Plane = np.minimum(np.maximum(np.float32(0.5) - distance, 0), 1)
    return share


def band(distance: Plane, half_width: Value) -> Plane:
    """Return the share of a pixel that a line covers, exact for lines thinner than a pixel, too."""
    return cover(distance - half_width) - cover(distance + half_width)


def smooth(x: Plane) -> Plane:
    """Return the smooth step 3x² - 2x³ from 0 to 1."""
    x = np.minimum(np.maximum(x, 0), 1)
    return x * x * (3 - 2 * x)


def ellipse(u: Plane, v: Plane, a: Value, b: Value) -> Plane:
    """Return the distance to an ellipse of half-axes a, b, to first order, in units."""
    p, q = u / a, v / b
    k = p * p + q * q
    slope = (p / a) ** 2 + (q / b) ** 2
    return (k - 1) / (2 * np.sqrt(slope) + np.float32(1e-3))


def ramp(palette: Sequence[tuple[int, int, int]], position: Plane) -> Plane:
    """Return the colors at `position` in [0, 1] along a palette, (3, *position.shape)."""
    knots = np.linspace(0, 1, len(palette))
    channels = np.asarray(palette, np.float64).T / 255
    return np.stack([np.interp(position, knots, channel) for channel in channels]).astype(np.float32)


def hue(position: Plane, saturation: Value, lightness: Plane) -> Plane:
    """Return colors of a hue circle, position in [0, 1], at a saturation and a lightness in [0, 1]."""
    circle = ((228, 74, 70), (232, 170, 60), (120, 190, 84), (60, 180, 184), (72, 112, 214), (178, 88, 200))
    pure = ramp((*circle, circle[0]), position)
    gray = np.float32(0.55)
    color = gray + saturation * (pure - gray)
    dark, light = color * (2 * lightness), 1 - (1 - color) * (2 - 2 * lightness)
    return np.where(lightness < 0.5, dark, light).astype(np.float32)
