"""Drawn digits: pen strokes like handwriting, white on black as in MNIST, from known factors."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainables.data.synthetic.drawing import Drawing, Factor
from trainables.data.synthetic.painting import cover, pixel_centers

Point = tuple[float, float]
SEGMENTS = 28  # straight pieces of a digit

# Two ways to write each digit, as strokes through points (x, y), y down; a stroke bends smoothly, its ends
# are where the pen turns or leaves the paper.
OVAL = [
    (0.0, -1.0),
    (-0.4, -0.7),
    (-0.5, 0.0),
    (-0.38, 0.7),
    (0.0, 1.0),
    (0.4, 0.7),
    (0.5, 0.0),
    (0.38, -0.7),
]
TWO = [(-0.5, -0.6), (-0.3, -0.92), (0.05, -1.0), (0.4, -0.85), (0.45, -0.45), (0.2, 0.05), (-0.55, 0.92)]
THREE = [
    [(-0.45, -0.75), (-0.1, -1.0), (0.3, -0.9), (0.42, -0.55), (0.25, -0.2), (-0.12, -0.05)],
    [(-0.12, -0.05), (0.3, 0.05), (0.5, 0.4), (0.35, 0.85), (-0.05, 1.0), (-0.5, 0.8)],
]
BELLY = [(-0.4, -0.1), (0.0, -0.25), (0.4, -0.05), (0.5, 0.4), (0.3, 0.85), (-0.1, 1.0), (-0.5, 0.8)]
SIX = [(0.35, -1.0), (-0.05, -0.7), (-0.38, -0.15), (-0.45, 0.4), (-0.25, 0.9), (0.1, 1.0), (0.42, 0.75)]
EIGHT = [(0.0, -0.05), (-0.4, -0.4), (-0.35, -0.85), (0.0, -1.0), (0.38, -0.82), (0.38, -0.4), (0.0, -0.05)]
EIGHT += [(-0.42, 0.35), (-0.42, 0.8), (0.0, 1.0), (0.42, 0.8), (0.42, 0.35), (0.0, -0.05)]
NINE = [(0.42, -0.55), (0.2, -0.93), (-0.15, -1.0), (-0.42, -0.7), (-0.38, -0.3), (-0.05, -0.1), (0.3, -0.25)]
STROKES: list[tuple[list[list[Point]], list[list[Point]]]] = [
    ([[*OVAL, OVAL[0]]], [[(0.25, -0.95), *OVAL, (0.1, -1.02)]]),
    ([[(0.0, -1.0), (0.0, 1.0)]], [[(-0.32, -0.62), (0.05, -1.0)], [(0.05, -1.0), (0.05, 1.0)]]),
    (
        [TWO, [TWO[-1], (0.6, 0.92)]],
        [[*TWO[:-1], (-0.3, 0.75), (-0.55, 0.85), (-0.5, 0.5), (-0.15, 0.6), (0.2, 0.92), (0.6, 0.85)]],
    ),
    (THREE, [[(-0.5, -0.95), (0.45, -0.95)], [(0.45, -0.95), (-0.1, -0.15)], [(-0.1, -0.15), *THREE[1][1:]]]),
    (
        [[(-0.2, -0.95), (-0.5, 0.15)], [(-0.5, 0.15), (0.58, 0.12)], [(0.28, -0.85), (0.2, 1.0)]],
        [[(0.25, -1.0), (-0.58, 0.3)], [(-0.58, 0.3), (0.6, 0.3)], [(0.25, -1.0), (0.25, 1.0)]],
    ),
    (
        [[(0.5, -0.95), (-0.35, -0.95)], [(-0.35, -0.95), BELLY[0]], BELLY],
        [[(0.5, -0.9), (-0.2, -0.95), (-0.42, -0.55), (-0.3, -0.15), (0.1, -0.1), *BELLY[3:]]],
    ),
    (
        [[*SIX, (0.42, 0.35), (0.15, 0.05), (-0.2, 0.15), (-0.42, 0.5)]],
        [[(0.0, -1.0), (-0.3, -0.4), *SIX[3:], (0.35, 0.3), (-0.05, 0.2), (-0.4, 0.55)]],
    ),
    (
        [[(-0.5, -0.9), (0.5, -0.9)], [(0.5, -0.9), (0.15, -0.1), (-0.1, 1.0)]],
        [
            [(-0.5, -0.75), (-0.45, -0.95), (0.5, -0.9)],
            [(0.5, -0.9), (0.15, -0.1), (-0.05, 1.0)],
            [(-0.25, 0.05), (0.45, 0.0)],
        ],
    ),
    (
        [EIGHT],
        [
            [
                (0.4, -0.8),
                *EIGHT[3:1:-1],
                (-0.3, -0.3),
                (0.38, 0.35),
                *EIGHT[10:7:-1],
                (-0.3, 0.3),
                (0.45, -0.75),
            ]
        ],
    ),
    (
        [[*NINE, NINE[0]], [NINE[0], (0.42, 0.2), (0.2, 1.0)]],
        [[*NINE, NINE[0]], [NINE[0], (0.45, 0.2), (0.3, 0.8), (-0.05, 1.0), (-0.35, 0.85)]],
    ),
]


def smooth_stroke(points: list[Point], pieces: int) -> NDArray[np.float64]:
    """Return `pieces + 1` points of the Catmull-Rom curve through the points, (pieces + 1, 2)."""
    p = np.array(points)
    p = np.concatenate([2 * p[:1] - p[1:2], p, 2 * p[-1:] - p[-2:-1]])
    at = np.linspace(0, len(points) - 1, pieces + 1)
    k = np.minimum(at.astype(int), len(points) - 2)
    t = (at - k)[:, None]
    a, b, c, d = p[k], p[k + 1], p[k + 2], p[k + 3]
    curve: NDArray[np.float64] = b + 0.5 * t * (
        c - a + t * (2 * a - 5 * b + 4 * c - d + t * (3 * (b - c) + d - a))
    )
    return curve


def segments(strokes: list[list[Point]]) -> NDArray[np.float32]:
    """Return the straight pieces of a digit: x₀, y₀, x₁, y₁, (4, SEGMENTS); long strokes have more."""
    lengths = np.array([len(points) - 1 for points in strokes], float)
    ends = np.rint(np.cumsum(lengths) / lengths.sum() * SEGMENTS).astype(int)
    curves = [
        smooth_stroke(points, pieces)
        for points, pieces in zip(strokes, np.diff(ends, prepend=0), strict=True)
    ]
    pieces = [np.concatenate([curve[:-1], curve[1:]], 1) for curve in curves]
    return np.concatenate(pieces).T.astype(np.float32)


SKELETONS = np.array([[segments(way) for way in ways] for ways in STROKES])  # (10, 2, 4, SEGMENTS)


def paint(factors: dict[str, NDArray[np.float32]], size: int) -> NDArray[np.uint8]:
    """Paint digits of these factors, each (n,); return uint8 (n, size, size, 1)."""
    f = {name: value[:, None] for name, value in factors.items()}
    pieces = SKELETONS[factors["digit"].astype(int), factors["way"].astype(int)]
    x0, y0 = _bent(pieces[:, 0], pieces[:, 1], f)
    x1, y1 = _bent(pieces[:, 2], pieces[:, 3], f)
    centers = pixel_centers(size)
    nearest: NDArray[Any] = np.full((len(pieces), size, size), np.inf, np.float32)
    for k in range(SEGMENTS):
        ax, ay, bx, by = (end[:, k, None, None] for end in (x0, y0, x1, y1))
        dx, dy = bx - ax, by - ay
        u, v = centers - ax, centers[:, None] - ay
        along = (u * dx + v * dy) / (dx * dx + dy * dy + np.float32(1e-9))
        along = np.minimum(np.maximum(along, 0), 1)
        np.minimum(nearest, np.square(u - along * dx) + np.square(v - along * dy), out=nearest)
    half = (0.085 + 0.035 * f["thickness"])[:, :, None]
    ink = cover((np.sqrt(nearest) - half) * np.float32(size / 2) * np.float32(0.8))  # a soft pen
    levels = (0.9 + 0.1 * f["ink"])[:, :, None] * ink * np.float32(255) + np.float32(0.5)
    return levels.astype(np.uint8)[..., None]


def _bent(
    x: NDArray[np.float32], y: NDArray[np.float32], f: dict[str, NDArray[np.float32]]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return points (n, SEGMENTS) as this hand writes them: slanted, stretched, bowed, and shifted."""
    bow = 0.06 * f["bow"] * (1 - 2 * y * y)
    waves = (0.10 * f["wave"]) * np.sin((2.6 * y + np.pi * f["phase"]).astype(np.float64)).astype(np.float32)
    wide = x * (0.74 + 0.2 * f["width"]) + bow + waves
    high = y * (0.62 + 0.07 * f["height"]) + 0.12 * f["skew"] * x
    return wide - (0.20 * f["slant"] + 0.12) * high + 0.06 * f["x"], high + 0.06 * f["y"]


DRAWN_DIGITS = Drawing(
    "drawn-digits",
    {
        "digit": Factor(weights=(1,) * 10),
        "way": Factor(weights=(1, 1)),
        "slant": Factor(),
        "width": Factor(),
        "height": Factor(),
        "thickness": Factor(),
        "bow": Factor(),
        "wave": Factor(),
        "phase": Factor(),
        "skew": Factor(),
        "x": Factor(),
        "y": Factor(),
        "ink": Factor(),
    },
    paint,
    label="digit_class",
    label_of="digit",
    class_names=tuple("0123456789"),
    channels=1,
)
