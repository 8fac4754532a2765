"""Synthetic faces: RGB portraits drawn from known factors, the data set that needs no download.

A face is layers of signed distances, each painted with the share of a pixel that it covers: what is
anti-aliased at 128 pixels is so at 32. Every operation is element-wise over a batch of images.
"""

import numpy as np

from trainables.data.synthetic.drawing import Drawing, Factor
from trainables.data.synthetic.portrait import paint

# Ramps (skin, hair, iris) run over a palette; angles are in radians.
FACES = Drawing(
    "faces",
    {
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
    },
    paint,
    label="smile_class",
    label_of="smile_degree",
    class_names=tuple("012345"),
)
