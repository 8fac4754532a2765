"""Minifigures: heads of toy figures with bold printed faces, drawn from known factors.

They are the sister of `faces`, for models that keep little of an image: a smile is a thick curve that moves
many pixels.
"""

from trainables.data.synthetic.drawing import Drawing, Factor
from trainables.data.synthetic.minifigure import paint

MINIFIGURES = Drawing(
    "minifigures",
    {
        "smile_degree": Factor(0, 5),
        "head_color": Factor(weights=(8, 3, 3, 2, 1, 1)),
        "hair": Factor(weights=(4, 3, 3, 3, 3, 3, 2)),
        "hair_color": Factor(0, 1),
        "cap_hue": Factor(0, 1),
        "cap_lightness": Factor(0, 1),
        "eyes": Factor(weights=(10, 3, 2, 2)),
        "eye_size": Factor(),
        "eye_spacing": Factor(),
        "brow_height": Factor(),
        "brow_slant": Factor(),
        "beard": Factor(weights=(10, 2, 2, 2, 2)),
        "freckles": Factor(weights=(4, 1)),
        "torso": Factor(weights=(3, 2, 2, 2)),
        "torso_hue": Factor(0, 1),
        "torso_lightness": Factor(0, 1),
        "turn": Factor(),
        "tilt": Factor(),
        "head_x": Factor(),
        "head_y": Factor(),
        "head_size": Factor(),
        "light": Factor(),
        "background_hue": Factor(0, 1),
        "background_lightness": Factor(0, 1),
    },
    paint,
    label="smile_class",
    label_of="smile_degree",
    class_names=tuple("012345"),
)
