"""What all figures share: colors, labels, and how values are placed."""

import io
from itertools import pairwise

import numpy as np
import pytest
from matplotlib import cbook

from analysis.charts.style import (
    BLUE,
    ORANGE,
    axis_label,
    canvas,
    draw_references,
    ink_on,
    label,
    legend_above,
    plain,
    unit,
    use_scale,
)


def test_ink_is_seen_on_its_ground():
    assert ink_on("white") == ink_on(ORANGE) == "black"
    assert ink_on("black") == ink_on(BLUE) == "white"


def test_a_dimension_is_mapped_as_the_searcher_sees_it():
    log = {"type": "float", "lower": 1e-4, "upper": 1e-2, "log": True}
    np.testing.assert_allclose(unit([1e-4, 1e-3, 1e-2], log), [0, 0.5, 1])
    choice = {"type": "categorical", "choices": ["adam", "rmsprop", "sgd"]}
    np.testing.assert_allclose(unit(["sgd", "adam", "rmsprop"], choice), [1, 0, 0.5])


def test_a_choice_is_found_as_mlflow_wrote_it():
    numbers = {"type": "categorical", "choices": [1, 2.5, 10]}
    np.testing.assert_allclose(unit([10.0, 1.0, 2.5], numbers), [1, 0, 0.5])
    mixed = {"type": "categorical", "choices": [True, "none", 8]}
    np.testing.assert_allclose(unit(["True", "8", "none", "gone"], mixed), [0, 1, 0.5, np.nan])


@pytest.mark.parametrize("name", ["a$b$c_{", "$x^", "_hidden", r"\alpha $", "100%"])
def test_users_text_is_drawn_as_it_is(name):
    """It is no formula, which could end the drawing, and no entry that the legend leaves out."""
    figure, axes = canvas(3, 2)
    axes.plot([0, 1], [0, 1], label=plain(name))
    axes.set(title=plain(name), xlabel=label(name))
    legend_above(axes)
    figure.savefig(io.BytesIO())
    assert axes.get_legend().get_texts()[0].get_text().replace(r"\$", "$").strip() == name
    assert not cbook.is_math_text(axes.get_title(loc="left"))


def test_a_score_says_which_way_is_up():
    assert axis_label("fd_dinov2", 1) == "Fréchet distance (dinov2), lower is better"
    assert axis_label("elbo", -1) == "ELBO (nats), higher is better"


def test_a_reference_is_a_line_at_its_score_with_its_name():
    _, axes = canvas(3, 2)
    draw_references(axes, {"grey": 206.0, "mean image": 100.0})
    assert [line.get_ydata()[0] for line in axes.get_lines()] == [206.0, 100.0]
    assert [text.get_text() for text in axes.texts] == ["grey", "mean image"]
    assert len({line.get_linestyle() for line in axes.get_lines()}) == 2


@pytest.mark.parametrize(
    ("drawn", "lines", "words"),
    [
        ((26.0, 70.0), [100.3, 1.6], ["mean image (beyond: grey 206)", "real images"]),
        ((26.0, 30.0), [], ["beyond: grey 206, mean image 100.3, real images 1.6"]),
        ((90.0, 103.0), [100.3], ["mean image (beyond: grey 206, real images 1.6)"]),
        ((99.0, 180.0), [206.0, 100.3], ["grey (beyond: real images 1.6)", "mean image"]),
        ((20.0, 190.0), [206.0, 100.3, 1.6], ["grey", "mean image", "real images"]),
    ],
)
def test_a_reference_far_from_all_scores_is_told_in_words(drawn, lines, words):
    _, axes = canvas(3, 2)
    (curve,) = axes.plot((0, 1), drawn)
    draw_references(axes, {"grey": 206.0, "mean image": 100.3, "real images": 1.6})
    assert [line.get_ydata()[0] for line in axes.get_lines() if line is not curve] == lines
    assert [text.get_text() for text in axes.texts] == words


@pytest.mark.parametrize("drawn", [(20.0, 190.0), (90.0, 103.0), (100.0, 118.0), (16.0, 26.0), (60.0, 230.0)])
def test_no_two_names_of_references_stand_over_each_other(drawn):
    figure, axes = canvas(7.5, 4.5)
    axes.plot((0, 1), drawn)
    draw_references(axes, {"grey": 104.0, "mean image": 100.3, "real images": 17.0})
    figure.draw_without_rendering()
    boxes = sorted((text.get_window_extent() for text in axes.texts), key=lambda box: box.y0)
    assert all(below.y1 <= above.y0 for below, above in pairwise(boxes))


@pytest.mark.parametrize(
    ("ends", "labels"),
    [((2e-4, 2.5e-3), ["0.0002", "0.0005", "0.001", "0.002"]), ((2e-4, 0.5), ["0.001", "0.01", "0.1"])],
)
def test_a_logarithmic_axis_has_few_labels(ends, labels):
    figure, axes = canvas(4, 3)
    axes.plot(ends, (0, 1))
    use_scale(axes, {"log": True})
    figure.draw_without_rendering()
    low, high = axes.get_xlim()
    ticks = [(tick.get_loc(), tick.label1.get_text()) for tick in axes.xaxis.get_major_ticks()]
    assert [text for at, text in ticks if low <= at <= high] == labels
    assert all(tick.label1.get_text() == "" for tick in axes.xaxis.get_minor_ticks())
