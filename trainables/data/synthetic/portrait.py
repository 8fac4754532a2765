"""How a synthetic face is painted, layer over layer, from its factors; `faces.py` says what they are.

Coordinates: the picture is [-1, 1]², y down. The head's own frame (u, v) has its origin between the eyes, its
axes tilt with the head, and its unit is half the head's height.
"""

from types import SimpleNamespace

import numpy as np
from numpy.typing import NDArray

from trainables.data.synthetic.appearance import BEARDS, GLASSES, HAIR, HAIR_STYLES, IRIS, LIPS, SKIN
from trainables.data.synthetic.painting import (
    EVERYWHERE,
    Canvas,
    Frame,
    Plane,
    Window,
    band,
    cover,
    ellipse,
    hue,
    ramp,
    smooth,
)

FRAMES, MOUTH, PUPIL = (0.15, 0.13, 0.14), (0.30, 0.09, 0.10), (0.05, 0.04, 0.05)  # colors, in [0, 1]
WHITE, EYE_WHITE, TEETH = (1.0, 1.0, 1.0), (0.93, 0.92, 0.90), (0.95, 0.94, 0.90)


def paint(factors: dict[str, NDArray[np.float32]], size: int) -> NDArray[np.uint8]:
    """Paint faces of these factors, each (n,); return uint8 (n, size, size, 3)."""
    portrait = Portrait(factors, size)
    portrait.background()
    portrait.back_hair()
    portrait.body()
    portrait.head_and_ears()
    portrait.cheeks()
    portrait.beard()
    portrait.mouth()
    portrait.nose()
    portrait.eyes()
    portrait.brows()
    portrait.glasses()
    portrait.front_hair()
    return portrait.finished()


class Portrait:
    """Faces being painted; each method is a layer. `f` holds the factors as columns (n, 1, 1)."""

    def __init__(self, factors: dict[str, NDArray[np.float32]], size: int):
        self.f = f = SimpleNamespace(**{name: value[:, None, None] for name, value in factors.items()})
        n = len(f.skin)
        self.canvas = Canvas(n, size)
        unit = 0.64 + 0.05 * f.head_size
        x, y = 0.09 * f.head_x, 0.02 + 0.06 * f.head_y
        self.head = Frame(size, x, y, unit, f.tilt)
        self.torso = Frame(size, x * 0.7 - 0.3 * f.tilt, y, unit, 0.3 * f.tilt)
        self.smile = f.smile_degree / 5
        self.turn = 0.15 * f.turn  # how far the middle of the face lies beside the head's axis
        self.width = 0.75 + 0.05 * f.head_width
        self.skin = ramp(SKIN, f.skin)
        self.hair = ramp(HAIR, f.hair_color)
        self.light_u = (0.06 + 0.26 * f.light_strength) * np.sin(f.light_angle.astype(np.float64))
        self.light_v = -(0.04 + 0.12 * f.light_strength) * np.cos(f.light_angle.astype(np.float64))
        self.light_u, self.light_v = self.light_u.astype(np.float32), self.light_v.astype(np.float32)
        self.style = HAIR_STYLES[factors["hair_style"].astype(int)].T[:, :, None, None]

    def _face(self, u: tuple[float, float], v: tuple[float, float]) -> tuple[Window, Plane, Plane, Plane]:
        """Return a window, its planes u (0 in the middle of the face) and v, and the pixels a unit."""
        window = self.head.window((u[0] - 0.15, u[1] + 0.15), v)
        return window, self.head.u[window] - self.turn, self.head.v[window], self.head.pixels

    def background(self) -> None:
        """Two tones of a color across the picture, and a soft light."""
        f, x = self.f, self.canvas.centers
        y = x[:, None]
        angle = f.background_angle.astype(np.float64)
        cos, sin = np.cos(angle).astype(np.float32), np.sin(angle).astype(np.float32)
        lightness = 0.22 + 0.5 * f.background_lightness
        near = hue(f.background_hue, np.float32(0.55), lightness)
        far = hue((f.background_hue + 0.07) % 1, np.float32(0.45), lightness + 0.2)
        self.canvas.rgb[...] = near
        self.canvas.paint(EVERYWHERE, smooth((0.5 + 0.45 * cos * x) + 0.45 * sin * y), far)
        glow = (1 - 2.5 * (x - 0.8 * cos) ** 2) - 2.5 * (y - 0.6 * sin) ** 2
        self.canvas.paint(EVERYWHERE, 0.35 * smooth(glow), 0.5 * far + 0.5)

    def back_hair(self) -> None:
        """The hair behind the head; its outline serves the front, too."""
        volume, reach, _, _, _, _, curls, opacity = self.style
        u, v = self.head.u, self.head.v
        outline = ellipse(u, v + 0.08, self.width + volume, np.where(v < -0.08, 0.94 + volume, reach))
        self.outline = outline + curls * np.sin(13 * u + 2) * np.sin(13 * v)
        strands = np.sin(u * (34 + 8 * v))
        shine = smooth(1 - np.abs(3.6 * v + 2.8 - 1.8 * u * u))
        light = (1.2 * self.light_u) * u + (1.2 * self.light_v) * v
        self.gloss = 1 + 0.09 * strands + 0.3 * shine + light
        cover_ = opacity * cover(self.outline * self.head.pixels)
        self.canvas.paint(EVERYWHERE, cover_, self.hair, 0.72 * self.gloss)

    def body(self) -> None:
        """Shoulders in their clothes, and the neck in the chin's shadow."""
        f, frame = self.f, self.torso
        window = frame.window((-4, 4), (0.4, 3))
        u, v, pixels = frame.u[window], frame.v[window], frame.pixels
        clothes = hue(f.clothes_hue, np.float32(0.5), 0.12 + 0.7 * f.clothes_lightness)
        shade = 1 + 0.5 * self.light_u * u - 0.15 * u * u
        self.canvas.paint(window, cover(ellipse(u, v - 2.15, 1.45, 1.05) * pixels), clothes, shade)
        neck = np.minimum(
            ellipse(u, v - 0.95, 0.40, 0.45), np.maximum(np.abs(u) - 0.36, np.abs(v - 0.8) - 0.3)
        )
        shadow = 0.88 - 0.22 * smooth((1.35 - v) / 0.5) + self.light_u * u
        self.canvas.paint(window, cover(neck * pixels), self.skin, shadow)

    def head_and_ears(self) -> None:
        """The skull and jaw, shaded as a rounded body under the light."""
        window = self.head.window((-1.1, 1.1), (-0.2, 0.4))
        u, v, pixels = self.head.u[window], self.head.v[window], self.head.pixels
        ear_u = np.abs(u + 0.4 * self.turn) - self.width
        ear = ellipse(ear_u, v - 0.1, 0.12, 0.2)
        shade = 0.92 + self.light_u * u
        shade -= 0.14 * cover((ear + 0.06) * pixels)
        self.canvas.paint(window, cover(ear * pixels), self.skin, shade)
        window = self.head.window((-0.85, 0.85), (-1.05, 1.05))
        u, v = self.head.u[window], self.head.v[window]
        below = np.maximum(v, 0)
        narrow = 1 - (0.13 + 0.07 * self.f.jaw) * below * below
        distance = ellipse(u / narrow, v, self.width, np.float32(1))
        rounding = (u / self.width) ** 2 + 0.6 * v * v
        shade = 1.04 + self.light_u * u + self.light_v * v - 0.13 * rounding * rounding
        self.face_window, self.face_cover = window, cover(distance * pixels)
        self.canvas.paint(window, self.face_cover, self.skin, shade)

    def cheeks(self) -> None:
        """A blush, which a smile lifts, and the folds that it draws from the nose to the mouth."""
        window, u, v, pixels = self._face((-0.7, 0.7), (0.0, 0.95))
        side = np.abs(u)
        radius = ((side - 0.4) / 0.26) ** 2 + ((v - 0.36 + 0.06 * self.smile) / 0.2) ** 2
        red = self.skin * np.asarray([1.0, 0.66, 0.62], np.float32)[:, None, None, None]
        self.canvas.paint(window, (0.16 + 0.2 * self.smile) * smooth(1 - radius), red)
        fold = band((side - 0.2 - 0.75 * (v - 0.34) + 0.9 * (v - 0.34) ** 2) * pixels, 0.016 * pixels)
        ends = smooth((v - 0.30) / 0.1) * smooth((0.62 - v) / 0.12)
        self.canvas.paint(window, 0.5 * self.smile * fold * ends, self.skin * 0.66)

    def beard(self) -> None:
        """Stubble, moustache or full beard."""
        jaw, lip = BEARDS[self.f.beard[:, 0, 0].astype(int)].T[:, :, None, None]
        window, u, v = self.face_window, self.head.u[self.face_window], self.head.v[self.face_window]
        middle = u - self.turn
        edge = 0.58 - 0.62 * u * u / (self.width * self.width)
        on_jaw = jaw * smooth((v - edge) / 0.16 + 0.5)
        arc = 0.475 + 0.5 * middle * middle
        on_lip = lip * smooth(1.6 - np.abs(v - arc) / 0.05) * smooth((0.34 - np.abs(middle)) / 0.1)
        grain = 0.82 + 0.14 * np.sin(46 * u + 3 * v) * np.sin(17 * v + 8 * u) + self.light_u * u
        self.canvas.paint(window, self.face_cover * np.maximum(on_jaw, on_lip), self.hair, grain)

    def mouth(self) -> None:
        """Lips whose corners rise and which part with the degree of the smile."""
        window, u, v, pixels = self._face((-0.5, 0.5), (0.35, 0.95))
        t = self.smile
        half = 0.23 + 0.13 * t
        q = (u / half) ** 2
        lift = -0.05 + 0.21 * t
        opening = 0.17 * np.maximum(t - 0.3, 0) / 0.7
        within = np.maximum(1 - q, np.float32(-0.3))
        top = 0.62 + lift * (0.45 - q)
        bottom = top + opening * within
        upper = top - 0.055 * within * (1 + 0.5 * q)
        lower = bottom + (0.085 - 0.02 * t) * within
        lips = cover(np.maximum(upper - v, v - lower) * pixels) * cover((np.abs(u) - half) * pixels)
        color = (
            0.45 * ramp(LIPS, self.f.lips)
            + 0.55 * self.skin * np.asarray([0.86, 0.56, 0.54])[:, None, None, None]
        )
        color = color.astype(np.float32)
        gleam = 0.92 + 0.22 * smooth(1 - np.abs(v - 0.5 * (bottom + lower)) / 0.04)
        self.canvas.paint(window, lips, color, gleam)
        shadow = smooth(1 - np.abs(v - lower - 0.05) / 0.05) * smooth((0.2 - np.abs(u)) / 0.1)
        self.canvas.paint(window, 0.25 * shadow, self.skin * 0.6)
        inside = cover((np.maximum(top - v, v - bottom) - 0.012) * pixels) * cover(
            (np.abs(u) - half) * pixels
        )
        self.canvas.paint(window, inside, MOUTH)
        teeth = np.maximum(top + 0.006 - v, v - top - 0.66 * opening * within)
        shade = 1 - 0.25 * q
        self.canvas.paint(window, inside * cover(teeth * pixels), TEETH, shade)

    def nose(self) -> None:
        """Its shadow on the side away from the light, wings, nostrils and a gleam on the tip."""
        window, u, v, pixels = self._face((-0.35, 0.35), (-0.2, 0.55))
        u = u - 0.35 * self.turn * smooth(v + 0.4)
        width = 0.115 + 0.025 * self.f.nose
        away = np.where(self.light_u > 0, -1, 1).astype(np.float32)
        flank = smooth(1 - np.abs(u * away - 0.3 * width - 0.25 * width * v) / (0.9 * width))
        along = smooth((v + 0.16) / 0.25) * smooth((0.42 - v) / 0.12)
        self.canvas.paint(window, (0.12 + 0.3 * self.f.light_strength) * flank * along, self.skin * 0.62)
        side = np.abs(u)
        tip = ellipse(u, v - 0.33, width, np.float32(0.1))
        under = smooth(1 - np.abs(tip - 0.005) / 0.035) * smooth((v - 0.33) / 0.06)
        self.canvas.paint(window, 0.55 * under, self.skin * 0.55)
        nostril = ellipse(side - 0.5 * width, v - 0.405, np.float32(0.034), np.float32(0.018))
        self.canvas.paint(window, 0.7 * cover(nostril * pixels), self.skin * 0.3)
        gleam = (u / 0.05) ** 2 + ((v - 0.29) / 0.07) ** 2
        self.canvas.paint(window, 0.3 * smooth(1 - gleam), 0.4 * self.skin + 0.6)
        bridge = smooth(1 - np.abs(u) / 0.05) * smooth((v + 0.12) / 0.15) * smooth((0.28 - v) / 0.15)
        self.canvas.paint(window, 0.16 * bridge, 0.5 * self.skin + 0.5)

    def eyes(self) -> None:
        """Both at once: `side` mirrors the face, `inward` doesn't, so that they look one way."""
        f = self.f
        window, u, v, pixels = self._face((-0.6, 0.6), (-0.25, 0.2))
        self.spacing = 0.325 + 0.03 * f.eye_spacing
        side = np.abs(u) - self.spacing
        inward = np.where(u > 0, side, -side)
        half = 0.15 + 0.016 * f.eye_size
        open_ = (0.088 + 0.02 * f.eye_size) * (1 - 0.22 * self.smile)
        socket = (side / 0.22) ** 2 + ((v + 0.03) / 0.15) ** 2
        self.canvas.paint(window, 0.3 * smooth(1.1 - socket), self.skin * 0.66)
        curve = np.maximum(1 - (side / half) ** 2, np.float32(-0.4))
        upper, lower = -open_ * curve, (0.72 - 0.3 * self.smile) * open_ * curve
        eye = cover(np.maximum(upper - v, v - lower) * pixels) * cover((np.abs(side) - half) * pixels)
        self.canvas.paint(window, eye, EYE_WHITE, 1 - 0.15 * smooth((upper - v) / 0.05 + 1))
        iris_u, iris_v = inward - 0.055 * f.gaze_x, v + 0.012 - 0.022 * f.gaze_y
        radius = np.sqrt(iris_u * iris_u + iris_v * iris_v)
        ring = 1.1 - 0.5 * smooth((radius - 0.05) / 0.03)
        self.canvas.paint(
            window, np.minimum(eye, cover((radius - 0.08) * pixels)), ramp(IRIS, f.eye_color), ring
        )
        self.canvas.paint(window, np.minimum(eye, cover((radius - 0.036) * pixels)), PUPIL)
        glint = np.sqrt((iris_u + 0.025) ** 2 + (iris_v + 0.03) ** 2)
        self.canvas.paint(window, np.minimum(eye, 0.9 * cover((glint - 0.02) * pixels)), WHITE)
        lashes = band((v - upper) * pixels, 0.018 * pixels) * cover((np.abs(side) - half) * pixels)
        self.canvas.paint(window, 0.85 * lashes, self.hair * 0.3)
        rim = band((v - lower) * pixels, 0.008 * pixels) * cover((np.abs(side) - half) * pixels)
        self.canvas.paint(window, 0.4 * rim, self.skin * 0.5)

    def brows(self) -> None:
        """An arch that thins outwards."""
        window, u, v, pixels = self._face((-0.7, 0.7), (-0.5, -0.05))
        side = np.abs(u) - self.spacing
        arch = -0.235 - 0.025 * self.f.brow + 1.1 * (side - 0.03) ** 2 - 0.12 * self.f.brow * side
        thickness = 0.042 * (1 - 1.6 * side)
        cover_ = band((v - arch) * pixels, thickness * pixels) * smooth((0.21 - np.abs(side)) / 0.06)
        self.canvas.paint(window, 0.9 * cover_, self.hair * 0.55)

    def glasses(self) -> None:
        """Lenses, frames, bridge and temples; without glasses all of them cover nothing."""
        a, b, square, dark, frame = GLASSES[self.f.glasses[:, 0, 0].astype(int)].T[:, :, None, None]
        window, u, v, pixels = self._face((-0.9, 0.9), (-0.35, 0.35))
        side, down = np.abs(u) - self.spacing, v - 0.015
        box = np.maximum(np.abs(side) - a, np.abs(down) - b)
        lens = ellipse(side, down, a, b) * (1 - square) + box * square
        glare = smooth(1 - np.abs(side + down - 0.05) / 0.05)
        inside = cover(lens * pixels)
        self.canvas.paint(window, dark * inside, FRAMES, 1 + 2.5 * glare)
        bar = band((down + 0.05) * pixels, frame * pixels) * cover(-lens * pixels)
        bar *= cover((np.abs(u + self.turn) - self.width) * pixels)
        self.canvas.paint(window, np.maximum(bar, band(lens * pixels, frame * pixels)), FRAMES)

    def front_hair(self) -> None:
        """The hair above the hairline; what lies beside the face hangs as far as the outline."""
        _, _, height, slant, arch, sides, curls, opacity = self.style
        u, v, pixels = self.head.u, self.head.v, self.head.pixels
        w = np.minimum(np.maximum(u, -1), 1)
        w2 = w * w
        hairline = height + slant * w + arch * w2 + sides * w2 * w2 * w2
        slope = slant + 2 * arch * w + 6 * sides * w2 * w2 * w
        wave = curls * np.sin(17 * u) + 0.02 * np.sin(31 * u)
        distance = np.maximum((v - hairline + wave) / np.sqrt(1 + slope * slope), self.outline)
        edge = smooth(1 - np.abs(v - hairline) / 0.14)
        shadow = opacity * 0.3 * smooth(1 - (v - hairline) / 0.12) * cover(-distance * pixels)
        self.canvas.paint(self.face_window, (shadow[self.face_window] * self.face_cover), self.skin * 0.5)
        self.canvas.paint(EVERYWHERE, opacity * cover(distance * pixels), self.hair, self.gloss - 0.15 * edge)

    def finished(self) -> NDArray[np.uint8]:
        """Tint all by the light's warmth, and round."""
        warmth = self.f.light_warmth
        exposure = 0.94 + 0.1 * self.f.light_strength
        for plane, tint in zip(self.canvas.rgb, (0.05, 0.0, -0.08), strict=True):
            plane *= exposure * (1 + tint * warmth)
        return self.canvas.images()
