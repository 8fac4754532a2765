"""What synthetic faces are drawn from: palettes that a factor moves along, shapes of hair and glasses."""

import numpy as np

SKIN = ((255, 224, 202), (244, 204, 172), (228, 178, 138), (194, 136, 96), (142, 92, 62), (96, 62, 46))
HAIR = (
    (30, 25, 26),
    (60, 41, 31),
    (98, 62, 38),
    (142, 72, 42),
    (186, 138, 80),
    (230, 198, 138),
    (178, 176, 176),
)
IRIS = ((70, 42, 24), (112, 78, 42), (78, 112, 74), (70, 118, 170), (128, 142, 154))
LIPS = ((188, 104, 92), (196, 84, 84), (182, 52, 66))

# Rows: the classes of a factor. Hair: volume outside the skull · how far down it reaches · height of the
# hairline · its slant · its drop with u² · with u⁶ · curls · cover.
HAIR_STYLES = np.array(
    [
        (0.00, 0.30, -0.62, 0.00, 0.35, 0.60, 0.00, 0.40),
        (0.09, 0.36, -0.55, 0.10, 0.30, 1.60, 0.02, 1.00),
        (0.15, 0.50, -0.62, 0.42, 0.45, 1.60, 0.01, 1.00),
        (0.17, 1.90, -0.86, 0.06, 1.30, 2.20, 0.02, 1.00),
        (0.32, 0.95, -0.52, 0.00, 0.20, 3.00, 0.07, 1.00),
        (0.17, 1.10, -0.40, 0.05, 0.05, 7.00, 0.01, 1.00),
    ],
    np.float32,
)
# Half-width and half-height of a lens · how square it is · how dark · the frame's half-thickness.
GLASSES = np.array(
    [
        (0.20, 0.20, 0.0, 0.00, 0.000),
        (0.25, 0.23, 0.0, 0.08, 0.022),
        (0.27, 0.18, 0.9, 0.08, 0.032),
        (0.30, 0.21, 0.5, 0.90, 0.030),
    ],
    np.float32,
)
BEARDS = np.array([(0, 0), (0.28, 0.28), (0, 0.9), (0.9, 0.9)], np.float32)  # on the jaw · on the lip
