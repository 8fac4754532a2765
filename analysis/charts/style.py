"""How all figures look: colors that color-blind readers tell apart, labelled axes, no pyplot."""

from collections.abc import Iterable, Mapping
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter
from numpy.typing import NDArray

from analysis.charts.text import SYMBOLS, number
from searchers.record.schema import DIVERGED, FAILED, FINISHED, INTERRUPTED, RUNNING, STOPPED

# Okabe and Ito 2008, https://jfly.uni-koeln.de/color/
BLUE, ORANGE, GREEN, VERMILION = "#0072B2", "#E69F00", "#009E73", "#D55E00"
PURPLE, SKY, BLACK, GREY = "#CC79A7", "#56B4E9", "#000000", "#7F7F7F"
INK = "#4D4D4D"  # GREY, dark enough to be read
CYCLE = (BLUE, ORANGE, GREEN, PURPLE, VERMILION, SKY, BLACK, GREY)  # their yellow is lost on white
STATUS = {  # color, marker, line: no status is told by its color alone
    FINISHED: (BLUE, "o", "-"),
    STOPPED: (ORANGE, "v", "--"),
    DIVERGED: (PURPLE, "X", ":"),
    FAILED: (VERMILION, "s", ":"),
    RUNNING: (GREEN, "D", "-."),
    INTERRUPTED: (GREY, "P", "-."),
}
MODELS = {  # of [BVG] and beside it
    "GAN": VERMILION,
    "WGAN-GP": ORANGE,
    "VAE": BLUE,
    "FactorVAE": SKY,
    "VAE-GAN": GREEN,
    "beta-VAE-GAN": PURPLE,
    "flow": BLACK,
    "EDM": GREY,
    "latent-flow": INK,
}
METHODS = {"vqvae-retrained": BLUE, "vqvae": VERMILION, "vae-retrained": GREEN}  # of [HP]
ON_TOP = 0.3  # of an axis: over a line there, a name may reach what stands at the top
CLOSE = 0.1  # of an axis: over a line so far below another, a name may reach that one's
REFERENCES = {"grey": ":", "mean image": "--", "real images": "-."}  # lines
SCALE = "viridis"  # for values: even steps look even, in grey as well
RC: dict[Any, Any] = {
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


def plain(text: str) -> str:
    """Return users' text so that Matplotlib writes it as it is: no formula, and no legend entry to hide."""
    text = text.replace("$", r"\$")
    return f" {text}" if text.startswith("_") else text


def label(name: str) -> str:
    """Return how a setting or metric is called on an axis."""
    if name.startswith("fd_") and not name.endswith("_std"):
        return plain(f"Fréchet distance ({name.removeprefix('fd_')})")
    return SYMBOLS.get(name, "FID" if name == "fid" else plain(name))


def axis_label(metric: str, sign: int) -> str:
    """Return an objective's name and which way is up; sign: 1 where lower is better, −1 where higher is."""
    return f"{label(metric)}, {'lower' if sign == 1 else 'higher'} is better"


def draw_references(axes: Axes, references: Mapping[str, float]) -> None:
    """Draw what images that no model made score, as horizontal lines with their names, after all else.

    What is farther from the drawn values than these from each other would press them together: it is told
    in words. Of two close lines the lower one has its name below it.
    """
    low, high = axes.dataLim.intervaly
    near = {
        name: value
        for name, value in references.items()
        if low >= high or 2 * low - high <= value <= 2 * high - low
    }
    beyond = ", ".join(f"{name} {number(references[name])}" for name in references if name not in near)
    style: dict[str, Any] = {"ha": "right", "fontsize": 8, "color": INK}
    for name, value in near.items():
        axes.axhline(value, color=GREY, linestyle=REFERENCES.get(name, ":"), linewidth=1, zorder=0)
    bottom, top = axes.get_ylim()
    on_top = max(near, key=lambda name: near[name], default="")
    if beyond and near.get(on_top, bottom) < top - ON_TOP * (top - bottom):
        axes.annotate(f"beyond: {beyond}", (1, 0.99), xycoords="axes fraction", va="top", **style)
        on_top = ""
    for name, value in near.items():
        words = f"{name} (beyond: {beyond})" if beyond and name == on_top else name
        under = any(0 < other - value < CLOSE * (top - bottom) for other in near.values())
        place = {"xytext": (-2, -2 if under else 2), "textcoords": "offset points", **style}
        place["va"] = "top" if under else "baseline"
        axes.annotate(words, (1, value), xycoords=("axes fraction", "data"), **place)


def ink_on(color: str) -> str:
    """Return black or white, whichever stands out from a color more (WCAG 2's contrast of luminances)."""
    channels = np.array(to_rgb(color))
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    return "black" if linear @ (0.2126, 0.7152, 0.0722) > 0.179 else "white"


def in_lines(text: str) -> str:
    """Break a label for a low axis."""
    return text.replace(" (", "\n(").replace(", ", ",\n")


def legend_above(axes: Axes, columns: int = 5) -> None:
    """Put the legend over the axes, where it covers no data."""
    handles, labels = axes.get_legend_handles_labels()
    unique: dict[str, Any] = dict(zip(labels, handles, strict=True))
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
    """Make an axis logarithmic where the search space is, its ticks so few that their labels stay apart."""
    if domain.get("log"):
        (axes.set_xscale if which == "x" else axes.set_yscale)("log")
        low, high = axes.get_xlim() if which == "x" else axes.get_ylim()
        axis = axes.xaxis if which == "x" else axes.yaxis
        axis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < 100 * low else (1,)))
        axis.set_major_formatter(FuncFormatter(lambda value, _: number(float(value))))
        axis.set_minor_formatter(NullFormatter())


def unit(values: Iterable[Any], domain: dict[str, Any]) -> NDArray[np.float64]:
    """Map a dimension's values to [0, 1] as the searcher sees them; choices to even steps.

    What is none of the choices becomes NaN.
    """
    if domain.get("type") == "categorical":
        places = {_choice(choice): k for k, choice in enumerate(domain["choices"])}
        found = [places.get(_choice(value), np.nan) for value in values]
        return np.array(found, dtype=float) / max(1, len(places) - 1)
    x = np.asarray(list(values), dtype=float)
    low, high = domain.get("lower", np.nanmin(x)), domain.get("upper", np.nanmax(x))
    if domain.get("log"):
        x, low, high = np.log(x), np.log(low), np.log(high)
    return (x - low) / (high - low) if high > low else np.full(len(x), 0.5)


def _choice(value: Any) -> float | str:
    """Return one name for a choice of the space and for its text in MLflow: 1, "1" and 1.0 are equal."""
    try:
        return str(value) if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        return str(value)
