"""How all figures look: colours that colour-blind readers tell apart, labelled axes, no pyplot."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from analysis.record.runs import DIVERGED, FAILED, FINISHED, RUNNING, STOPPED

if TYPE_CHECKING:
    from analysis.record.runs import Sweep

# Okabe and Ito 2008.
BLUE, ORANGE, GREEN, VERMILION = "#0072B2", "#E69F00", "#009E73", "#D55E00"
PURPLE, SKY, BLACK, GREY = "#CC79A7", "#56B4E9", "#000000", "#7F7F7F"
CYCLE = (BLUE, ORANGE, GREEN, PURPLE, VERMILION, SKY, BLACK, GREY)  # their yellow is lost on white
STATUS = {  # colour, marker, line: no status is told by its colour alone
    FINISHED: (BLUE, "o", "-"),
    STOPPED: (ORANGE, "v", "--"),
    DIVERGED: (PURPLE, "X", ":"),
    FAILED: (VERMILION, "s", ":"),
    RUNNING: (GREEN, "D", "-."),
    "interrupted": (GREY, "P", "-."),
}
SYMBOLS = {
    "beta": "β",
    "beta_norm": "β_norm",
    "learning_rate": "learning rate",
    "latent_dim": "latent dimensions",
    "hidden": "hidden units",
    "free": "free positions",
    "disentanglement/mig": "mutual information gap",
    "validation_loss_last3": "validation loss (mean of 3 epochs)",
    "images_per_second": "images / s",
    "reconstruction_mse": "reconstruction MSE (pixel in [0, 1])",
    "elbo": "ELBO (nats)",
    "kl": "KL (nats)",
    "nats_per_image": "log-likelihood (nats an image)",
}
SCALE = "viridis"  # for values: even steps look even, in grey as well
RC = {
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": "medium",
    "axes.titlelocation": "left",
    "savefig.dpi": 140,
}


def canvas(
    width: float, height: float, rows: int = 1, columns: int = 1, **options: Any
) -> tuple[Figure, Any]:
    """Return a figure of this size in inches, and its axes as Matplotlib's `subplots` returns them."""
    with matplotlib.rc_context(RC):
        figure = Figure(figsize=(width, height), layout="constrained")
        return figure, figure.subplots(rows, columns, **options)


def label(name: str) -> str:
    """Return how a setting or metric is called on an axis."""
    if name.startswith("fd_") and not name.endswith("_std"):
        return f"Fréchet distance ({name.removeprefix('fd_')})"
    return SYMBOLS.get(name, "FID" if name == "fid" else name)


def objective_label(sweep: "Sweep") -> str:
    """Return the objective's name and which way is up."""
    return f"{label(sweep.metric)}, {'lower' if sweep.mode == 'min' else 'higher'} is better"


def ink_on(colour: str) -> str:
    """Return black or white, whichever stands out from a colour more (WCAG 2's contrast of luminances)."""
    channels = np.array(to_rgb(colour))
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    return "black" if linear @ (0.2126, 0.7152, 0.0722) > 0.179 else "white"


def in_lines(text: str) -> str:
    """Break a label for a low axis."""
    return text.replace(" (", "\n(").replace(", ", ",\n")


def legend_above(axes: Axes, columns: int = 5) -> None:
    """Put the legend over the axes, where it covers no data."""
    handles, labels = axes.get_legend_handles_labels()
    unique = dict(zip(labels, handles, strict=True))
    if unique:
        axes.legend(
            unique.values(),
            unique.keys(),
            ncols=columns,
            loc="lower left",
            bbox_to_anchor=(0, 1.0),
            fontsize=8,
            frameon=False,
        )


def use_scale(axes: Axes, domain: dict[str, Any], which: str = "x") -> None:
    """Make an axis logarithmic where the search space is."""
    if domain.get("log"):
        (axes.set_xscale if which == "x" else axes.set_yscale)("log")


def unit(values: Iterable[Any], domain: dict[str, Any]) -> np.ndarray:
    """Map a dimension's values to [0, 1] as the searcher sees them; choices to even steps."""
    if domain.get("type") == "categorical":
        places = {str(choice): k for k, choice in enumerate(domain["choices"])}
        return np.array([places[str(v)] for v in values], dtype=float) / max(1, len(places) - 1)
    x = np.asarray(list(values), dtype=float)
    low, high = domain.get("lower", np.nanmin(x)), domain.get("upper", np.nanmax(x))
    if domain.get("log"):
        x, low, high = np.log(x), np.log(low), np.log(high)
    return (x - low) / (high - low) if high > low else np.full(len(x), 0.5)
