"""Latents of images in two dimensions, by the class of each image."""

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray
from scipy.spatial.distance import pdist

from analysis.charts.style import CYCLE, plain

MARKERS = "o^sDvP"
APART = 0.04  # of the figure: centers of classes whose names can be read side by side
PATCH = {"boxstyle": "round,pad=0.15", "facecolor": "white", "alpha": 0.8, "linewidth": 0}


def plane(codes: NDArray[np.floating]) -> tuple[NDArray[np.floating], tuple[str, str]]:
    """Return codes (n, M) in two dimensions, (n, 2), and the names of these.

    They are the two principal axes where M > 2; one-dimensional codes have zeros beside them.
    """
    if codes.shape[1] == 1:
        return np.concatenate([codes, np.zeros_like(codes)], axis=1), ("z0", "")
    if codes.shape[1] == 2:
        return codes, ("z0", "z1")
    centered = codes - codes.mean(0)
    _, singular, axes = np.linalg.svd(centered, full_matrices=False)
    share = singular**2 / (singular**2).sum()
    first, second = (f"principal axis {k + 1} ({share[k]:.0%} of the variance)" for k in range(2))
    return centered @ axes[:2].T, (first, second)


def draw_classes(
    axes: Axes, points: NDArray[np.floating], labels: NDArray[np.integer], names: Mapping[int, str]
) -> None:
    """Scatter points (n, 2) by label (n,), with each class's name on it where the names leave room.

    names: of the classes; a class without one is called by its number.
    """
    classes = np.unique(labels)
    centers = np.stack([np.median(points[labels == value], 0) for value in classes])
    spread = np.maximum(np.ptp(points, 0), 1e-12)
    apart = len(classes) > 1 and bool((pdist(centers / spread) > APART).all())
    for k, value in enumerate(classes):
        at = points[labels == value]
        name = plain(names.get(int(value), str(value)))
        color, marker = CYCLE[k % len(CYCLE)], MARKERS[k // len(CYCLE) % len(MARKERS)]
        axes.plot(*at.T, marker, color=color, markersize=3, alpha=0.6, label=name)
        if apart:
            axes.annotate(name, centers[k], fontsize=9, weight="bold", ha="center", bbox=PATCH)
    axes.legend(title="class", loc="upper left", bbox_to_anchor=(1, 1), frameon=False, markerscale=2)
