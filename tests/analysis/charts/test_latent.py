"""Figures of a trained model's latents."""

from types import SimpleNamespace

import numpy as np
import pytest

from analysis.charts import latent


def subject(labels, class_names):
    codes = np.random.default_rng(0).normal(size=(len(labels), 2))
    store = SimpleNamespace(labels=np.array(labels), manifest={"class_names": class_names}, factors={})
    return SimpleNamespace(codes=(codes, np.arange(len(labels))), held_out=lambda: store, title="made up")


@pytest.mark.parametrize(
    ("labels", "class_names", "expected"),
    [
        ([-1, 0, 1, 1], ["not smiling", "smiling"], ["unknown", "not smiling", "smiling"]),
        ([2, 0, 2, 0], ["a", "b", "c"], ["a", "c"]),  # no held-out image of b
        ([3, 7, 3, 7], [], ["3", "7"]),
    ],
)
def test_clusters_are_named_by_their_class(labels, class_names, expected):
    (axes,) = latent.clustering(subject(labels, class_names)).axes
    assert [text.get_text() for text in axes.get_legend().get_texts()] == expected
