"""How a minifigure's head is painted, layer over layer; `minifigures.py` says from which factors.

Coordinates: the picture is [-1, 1]², y down. In the head's own frame (u, v) the unit is half its width.
What is printed on the head bends around its cylinder: `_print` gives coordinates along the surface.
"""

from types import SimpleNamespace

import numpy as np
from numpy.typing import NDArray

from trainables.data.synthetic.appearance import HAIR
from trainables.data.synthetic.painting import (
    EVERYWHERE,
    Canvas,
    Frame,
    Plane,
    Value,
    Window,
    band,
    cover,
    ellipse,
    hue,
    ramp,
    smooth,
)

PLASTIC = np.array(
    [(250, 205, 42), (250, 196, 158), (214, 150, 100), (130, 76, 48), (232, 232, 228), (128, 196, 92)]
)
INK, WHITE, TONGUE = (0.09, 0.07, 0.07), (0.98, 0.98, 0.96), (0.80, 0.22, 0.22)
WIDTH, TOP, CHIN = 0.94, -0.74, 0.84  # of the head; above it is the stud, below it the neck
FLAT, PARTED = 1.5, 2.8  # below this degree the mouth bends down; above that one it opens
# Rows: the classes of `hair`. How far it reaches down at the sides · height of the hairline · how it slants ·
# how it arches · volume · cover.
HAIRS = np.array(
    [
        (0.0, -0.9, 0.0, 0.0, 0.00, 0.0),
        (-0.30, -0.56, 0.00, 0.10, 0.10, 1.0),
        (-0.05, -0.52, 0.30, 0.10, 0.13, 1.0),
        (0.62, -0.50, -0.12, 0.35, 0.16, 1.0),
        (1.40, -0.58, 0.06, 0.45, 0.13, 1.0),
        (0.0, -0.9, 0.0, 0.0, 0.00, 0.0),
        (0.0, -0.9, 0.0, 0.0, 0.00, 0.0),
    ],
    np.float32,
)
CAP, BEANIE = 5, 6


def paint(factors: dict[str, NDArray[np.float32]], size: int) -> NDArray[np.uint8]:
    """Paint minifigures of these factors, each (n,); return uint8 (n, size, size, 3)."""
    figure = Minifigure(factors, size)
    figure.background()
    figure.back_hair()
    figure.torso()
    figure.head()
    figure.freckles()
    figure.beard()
    figure.mouth()
    figure.eyes()
    figure.brows()
    figure.front_hair()
    figure.cap()
    return figure.finished()


def box(u: Plane, v: Plane, a: Value, b: Value, corner: float) -> Plane:
    """Return the distance to a box of half-sides a, b with rounded corners, in units."""
    p, q = np.abs(u) - (a - np.float32(corner)), np.abs(v) - (b - np.float32(corner))
    outside = np.sqrt(np.square(np.maximum(p, 0)) + np.square(np.maximum(q, 0)))
    distance: Plane = outside + np.minimum(np.maximum(p, q), 0) - np.float32(corner)
    return distance


class Minifigure:
    """Heads being painted; each method is a layer. `f` holds the factors as columns (n, 1, 1)."""

    def __init__(self, factors: dict[str, NDArray[np.float32]], size: int):
        self.f = f = SimpleNamespace(**{name: value[:, None, None] for name, value in factors.items()})
        self.canvas = Canvas(len(f.turn), size)
        self.frame = Frame(
            size, 0.04 * f.head_x, -0.02 + 0.04 * f.head_y, 0.72 + 0.03 * f.head_size, 0.10 * f.tilt
        )
        self.pixels = self.frame.pixels
        plastic = (PLASTIC[factors["head_color"].astype(int)].T / 255)[:, :, None, None]
        self.plastic = plastic.astype(np.float32)
        self.hair_color = ramp(HAIR, f.hair_color)
        self.turn = 0.22 * f.turn
        self.light = 0.22 * f.light

    def _planes(self, u: tuple[float, float], v: tuple[float, float]) -> tuple[Window, Plane, Plane]:
        window = self.frame.window(u, v)
        return window, self.frame.u[window], self.frame.v[window]

    def _print(self, v: tuple[float, float]) -> tuple[Window, Plane, Plane]:
        """Return a window, coordinates (a, v) on the cylinder with a = 0 in the middle of the face."""
        window, u, height = self._planes((-WIDTH, WIDTH), v)
        s = np.minimum(np.maximum(u / np.float32(WIDTH), -1), 1)
        s2 = s * s
        around = s * (1 + s2 * (np.float32(0.17) + np.float32(0.25) * s2 * s2))  # near to arcsin
        return window, np.float32(WIDTH) * around - self.turn, height

    def background(self) -> None:
        """A color that brightens towards the light's side."""
        f, x = self.f, self.canvas.centers
        lightness = 0.25 + 0.5 * f.background_lightness
        near = hue(f.background_hue, np.float32(0.5), lightness)
        self.canvas.rgb[...] = near
        glow = smooth(0.5 + 0.4 * np.sign(f.light) * x - 0.35 * x[:, None])
        self.canvas.paint(EVERYWHERE, np.float32(0.55) * glow, 0.45 * near + 0.55)

    def back_hair(self) -> None:
        """What of the hair hangs behind the head and beside the neck."""
        reach, _, _, _, volume, opacity = HAIRS[self.f.hair[:, 0, 0].astype(int)].T[:, :, None, None]
        u, v = self.frame.u, self.frame.v
        top = np.float32(TOP - 0.16)
        middle, half = (reach + top) / 2, np.maximum((reach - top) / 2, np.float32(0.2))
        self.outline = box(u, v - middle, WIDTH + volume, half + volume, 0.34)
        self.gloss = 1 + self.light * u + 0.22 * smooth(1 - np.abs(3.2 * v + 2.4 - 1.2 * u * u))
        hanging = opacity * (reach > 0) * cover(self.outline * self.pixels)
        self.canvas.paint(EVERYWHERE, hanging, self.hair_color, 0.7 * self.gloss)

    def torso(self) -> None:
        """Shoulders and arms in one color, a print on them, and the neck in the head's shadow."""
        f = self.f
        window, u, v = self._planes((-3, 3), (0.8, 3))
        color = hue(f.torso_hue, np.float32(0.75), 0.2 + 0.55 * f.torso_lightness)
        side = np.abs(u)
        body = np.maximum((side - 0.78 - 0.34 * (v - 1.06)) * np.float32(0.95), 1.06 - v)
        arm = box(side - 1.10 - 0.22 * (v - 1.1), v - 2.1, 0.26, np.float32(0.95), 0.25)
        shade = 1 + self.light * u - 0.1 * u * u
        self.canvas.paint(window, cover(arm * self.pixels), color, 0.8 * shade)
        on_body = cover(body * self.pixels)
        self.canvas.paint(window, on_body, color, shade)
        kind = f.torso
        stripes = (kind == 1) * band(
            np.abs((v - 1.06) % np.float32(0.24) - 0.12) * self.pixels, 0.05 * self.pixels
        )
        vest = (kind == 2) * cover((0.20 + 0.35 * (v - 1.06) - side) * self.pixels)
        tie = (kind == 3) * cover((side - 0.09 - 0.1 * (v - 1.06)) * self.pixels)
        self.canvas.paint(window, on_body * np.maximum(stripes, tie), 0.25 * color + 0.72)
        self.canvas.paint(window, on_body * vest, color * 0.4)
        neck = box(u, v - 0.9, np.float32(0.46), np.float32(0.24), 0.06)
        self.canvas.paint(window, cover(neck * self.pixels), self.plastic, 0.72 + self.light * u)
        shadow = smooth((1.34 - v) / 0.3) * on_body
        self.canvas.paint(window, 0.3 * shadow, 0.3 * color)

    def head(self) -> None:
        """The stud, and the cylinder with its rounded edges and its gleam."""
        window, u, v = self._planes((-1, 1), (-1.1, 0.95))
        s = u / np.float32(WIDTH)
        shade = 1.02 + self.light * s - 0.30 * s * s * s * s
        stud = box(u, v - (TOP - 0.05), np.float32(0.44), np.float32(0.20), 0.06)
        ring = 0.10 * smooth(1 - np.abs(v - TOP + 0.20) / 0.06)
        narrow = 1.0 + self.light * (u / 0.44) - 0.25 * (u / 0.44) ** 4
        self.canvas.paint(window, cover(stud * self.pixels), self.plastic, narrow + ring)
        middle, half = (CHIN + TOP) / 2, (CHIN - TOP) / 2
        head = box(u, v - middle, np.float32(WIDTH), np.float32(half), 0.30)
        on_face = cover(head * self.pixels)
        self.face = np.zeros_like(self.canvas.rgb[0])
        self.face[window] = on_face
        edge = smooth(1 + head / 0.16)
        self.canvas.paint(window, on_face, self.plastic, shade - 0.16 * edge * smooth(v + 0.5))
        gleam = smooth(1 - np.abs(s - 1.6 * self.light - 0.45 * np.sign(self.light)) / 0.16)
        gleam *= smooth((v - TOP - 0.1) / 0.2) * smooth((CHIN - 0.12 - v) / 0.3)
        self.canvas.paint(window, 0.30 * gleam * on_face, 0.35 * self.plastic + 0.65)

    def freckles(self) -> None:
        """Three dots on each cheek."""
        window, a, v = self._print((-0.05, 0.4))
        side = np.abs(a) - 0.50
        dots = np.minimum(
            np.square(side) + np.square(v - 0.24), np.square(np.abs(side) - 0.13) + np.square(v - 0.12)
        )
        distance = np.sqrt(dots) - np.float32(0.042)
        self.canvas.paint(window, (self.f.freckles == 1) * cover(distance * self.pixels), self.plastic * 0.5)

    def beard(self) -> None:
        """Stubble, moustache, goatee or full beard; around the mouth it is shaved."""
        kind = self.f.beard
        window, a, v = self._print((0.05, CHIN))
        jaw = 0.42 - 0.40 * np.minimum(a * a, 1)
        mouth = ellipse(a, v - 0.42, np.float32(0.50), np.float32(0.24))
        full = np.maximum(jaw - v, -mouth)
        opacity = (kind == 4) + np.float32(0.35) * (kind == 1)
        self.canvas.paint(window, opacity * self.face[window] * cover(full * self.pixels), self.hair_color)
        thickness = np.maximum(0.075 - 0.3 * a * a, 0)
        lip = band((v - 0.12 - 0.3 * a * a) * self.pixels, thickness * self.pixels)
        self.canvas.paint(window, (kind == 2) * lip, self.hair_color)
        goatee = ellipse(a, v - 0.82, np.float32(0.20), np.float32(0.16))
        self.canvas.paint(window, (kind == 3) * cover(goatee * self.pixels), self.hair_color)

    def mouth(self) -> None:
        """A thick curve that bends with the degree of the smile; a grin parts it and shows teeth."""
        window, a, v = self._print((-0.1, CHIN))
        degree = self.f.smile_degree
        lift = np.float32(0.105) * (degree - FLAT)
        half = 0.36 + 0.035 * degree
        opening = np.float32(0.20) * np.maximum(degree - PARTED, 0)
        q = (a / half) ** 2
        slope = 2 * lift * a / (half * half)
        top = 0.40 - 0.30 * opening + lift * (0.45 - q) * (1 - 1.2 * opening)
        within = np.maximum(1 - q, 0)
        bottom = top + opening * within
        line = np.float32(0.07)
        ends = np.abs(a) - half
        at_end = 0.40 - 0.30 * opening - 0.55 * lift * (1 - 1.2 * opening)
        cap = np.sqrt(np.square(np.maximum(ends, 0)) + np.square(v - at_end))
        steep = np.sqrt(1 + slope * slope)
        between = np.maximum(np.maximum(top - v, v - bottom), 0) / steep
        lips = np.where(ends > 0, cap, between)
        self.canvas.paint(window, cover((lips - line) * self.pixels), INK)
        inside = np.maximum(np.maximum(top - v, v - bottom) + 0.5 * line, ends + 1.5 * line)
        within_ink = cover(inside * self.pixels) * (opening > 0)
        self.canvas.paint(window, within_ink, TONGUE)
        teeth = v - top - 0.62 * opening * within
        self.canvas.paint(window, within_ink * cover(teeth * self.pixels), WHITE)

    def eyes(self) -> None:
        """Dots with a glint, alone or behind glasses; goggles and dark glasses."""
        f = self.f
        window, a, v = self._print((-0.65, 0.3))
        kind = f.eyes
        spacing = 0.36 + 0.03 * f.eye_spacing
        side, down = np.abs(a) - spacing, v + np.float32(0.14)
        radius = np.sqrt(side * side + down * down)
        dark = box(side, down, np.float32(0.27), np.float32(0.18), 0.1)
        lens = np.where(kind == 3, dark, radius - np.float32(0.27))
        on = cover(lens * self.pixels)
        self.canvas.paint(window, ((kind == 2) + np.float32(0.35) * (kind == 1)) * on, WHITE)
        eye = cover((radius - 0.125 - 0.015 * f.eye_size) * self.pixels)
        self.canvas.paint(window, eye, INK)
        glint_a = a - np.where(a > 0, spacing, -spacing) + np.float32(0.045)
        glint = np.sqrt(glint_a * glint_a + np.square(down + np.float32(0.05)))
        self.canvas.paint(window, cover((glint - 0.04) * self.pixels), WHITE)
        self.canvas.paint(window, (kind == 3) * on, INK, 1 + 3 * smooth(1 - np.abs(side + down) / 0.06))
        half = np.where(kind == 2, np.float32(0.06), np.float32(0.035)) * self.pixels
        rim = band(lens * self.pixels, half)
        strap = band(down * self.pixels, half) * cover(-lens * self.pixels) * self.face[window]
        shade = np.where(kind == 2, np.float32(4), np.float32(1.3))
        self.canvas.paint(window, (kind > 0) * np.maximum(rim, strap), INK, shade)

    def brows(self) -> None:
        """Two thick strokes that rise and slant."""
        window, a, v = self._print((-0.8, -0.2))
        side = np.abs(a) - 0.36
        line = v + 0.47 + 0.04 * self.f.brow_height + 0.30 * self.f.brow_slant * side + 0.9 * side * side
        stroke = band(line * self.pixels, np.float32(0.05) * self.pixels)
        stroke *= cover((np.abs(side) - 0.19) * self.pixels) * (self.f.eyes != 2)
        self.canvas.paint(window, stroke, self.hair_color * 0.6)

    def front_hair(self) -> None:
        """The hair above its hairline and along the sides of the face."""
        _, height, slant, arch, _, opacity = HAIRS[self.f.hair[:, 0, 0].astype(int)].T[:, :, None, None]
        u, v = self.frame.u, self.frame.v
        w = np.minimum(np.maximum(u - 0.6 * self.turn, -1), 1)
        w2 = w * w
        hairline = height + slant * w + arch * w2 + 2.6 * w2 * w2 * w2 * w2
        distance = np.maximum(v - hairline, self.outline)
        self.canvas.paint(EVERYWHERE, opacity * cover(distance * self.pixels), self.hair_color, self.gloss)

    def cap(self) -> None:
        """A cap with its visor, or a knitted beanie."""
        f = self.f
        window, u, v = self._planes((-1.4, 1.4), (-1.4, -0.1))
        color = hue(f.cap_hue, np.float32(0.8), 0.2 + 0.5 * f.cap_lightness)
        shade = 1.05 + self.light * u - 0.18 * u * u
        dome = np.maximum(ellipse(u, v + 0.46, np.float32(1.02), np.float32(0.72)), v + 0.44)
        worn = (f.hair == CAP) * cover(dome * self.pixels)
        self.canvas.paint(window, worn, color, shade)
        visor = ellipse(u - 0.9 * self.turn, v + 0.46, np.float32(0.86), np.float32(0.13))
        self.canvas.paint(window, (f.hair == CAP) * cover(visor * self.pixels), color, 0.68 + self.light * u)
        knit = 1 + 0.10 * np.sin(24 * u.astype(np.float64)).astype(np.float32)
        wool = np.maximum(ellipse(u, v + 0.50, np.float32(1.0), np.float32(0.62)), v + 0.50)
        self.canvas.paint(window, (f.hair == BEANIE) * cover(wool * self.pixels), color, shade * knit)
        fold = box(u, v + 0.52, np.float32(1.02), np.float32(0.13), 0.1)
        self.canvas.paint(
            window, (f.hair == BEANIE) * cover(fold * self.pixels), 0.55 * color + 0.4, shade * knit
        )

    def finished(self) -> NDArray[np.uint8]:
        """Round to uint8."""
        return self.canvas.images()
