"""Figures of a trained model: what it draws, rebuilds and passes through, and what its latents stand for."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import matplotlib
import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from scipy import stats
from torch import Tensor

from analysis.charts.clusters import draw_classes, plane
from analysis.charts.style import CYCLE, SCALE, canvas, plain
from analysis.record.store import AnalysisError
from analysis.record.trained_model import TrainedModel
from trainables.data.batches import to_float, to_uint8
from trainables.data.formats.folders import UNKNOWN
from trainables.data.pictures import WHITE, tile
from trainables.data.store import ImageStore, spread
from trainables.evaluation.generation import at_once

SEED = 0
ENCODED = 2000  # held-out images
DRAWS = 4096  # of the prior, for its moments
UNITS = 8  # latents that are traversed: those that carry most
REACH = 2.5  # standard deviations of the prior, either way
CLASSES = 12  # more are not told apart by color and marker
NEAREST = 3  # training images under a draw
AT_ONCE = 2**24  # numbers of training images whose distances are computed at once
FONT_SIZE, PADDING = 12, 6  # pixels
MIN_SIDE = 64  # a smaller image is enlarged by a whole factor, so that a person sees its pixels


@dataclass(frozen=True)
class Subject:
    """A model, the images it learnt from (None with the reason), and what to call it."""

    model: TrainedModel
    store: ImageStore | None
    title: str
    missing: str | None = None
    mirrored: bool = False
    """whether it was trained on mirrored images, too"""

    def held_out(self) -> ImageStore:
        """Return the store. Raises AnalysisError where there is none."""
        if self.store is None:
            raise AnalysisError(self.missing or "The images are not here.")
        return self.store

    def rows(self) -> NDArray[np.intp]:
        """Return held-out rows of the store. Raises AnalysisError as `held_out`."""
        rows = self.held_out().split("validation")
        return rows if len(rows) else self.held_out().split("train")

    def images(self, n: int) -> Tensor:
        """Return n held-out images, (n, C, H, W) in [−1, 1]."""
        return self._float(spread(self.rows(), n))

    @cached_property
    def codes(self) -> tuple[NDArray[np.floating], NDArray[np.intp]]:
        """Posterior means of held-out images, (n, M), and their rows of the store."""
        if not self.model.network.has_encoder or not hasattr(self.model.network.config, "latent_dim"):
            raise AnalysisError(f"{type(self.model.network).__name__} has no continuous latents of images.")
        rows = spread(self.rows(), ENCODED)
        size = at_once(self.held_out().images.shape[1:])
        parts = [self.model.encode(self._float(rows[k : k + size])) for k in range(0, len(rows), size)]
        return torch.cat(parts).cpu().numpy(), rows

    def _float(self, rows: NDArray[np.intp]) -> Tensor:
        return to_float(self.held_out().images[rows], self.model.network.device)


def samples(subject: Subject) -> Image.Image:
    """64 draws from the prior."""
    return labelled(grid(subject.model.sample(64, SEED), 8), f"{subject.title}: draws from the prior")


def nearest(subject: Subject) -> Image.Image:
    """Eight draws, each above the training images nearest to it in pixels: is it a copy of one?"""
    drawn = to_uint8(subject.model.sample(8, SEED)).cpu().numpy()
    store = subject.held_out()
    rows = store.split("train")
    found, turned = nearest_rows(drawn, store.images, rows, NEAREST, subject.mirrored)
    below = store.images[found.T]
    below = np.where(turned.T[..., None, None, None], below[..., ::-1, :], below)
    sheet = tile(np.concatenate([drawn, *below]), 8, ground=WHITE, scale=enlargement(drawn))
    them = f"{len(rows)} training images{' and their mirror images' * subject.mirrored}"
    title = f"{subject.title}: draws and the nearest of {them}, in pixels"
    return labelled(sheet, title, ("drawn", "nearest", *(f"number {k}" for k in range(2, len(below) + 1))))


def nearest_rows(
    images: NDArray[np.uint8],
    others: NDArray[np.uint8],
    rows: NDArray[np.intp],
    count: int,
    mirrored: bool = False,
) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
    """Return the `count` of `rows` of others (N, H, W, C) that are nearest to each image (n, H, W, C) in L2.

    Shape (n, count), the nearest first; with `mirrored` as they are or mirrored, whichever is nearer. The
    second array says which were mirrored.
    """
    seen = np.concatenate([images, images[:, :, ::-1]]) if mirrored else images
    x = seen.reshape(len(seen), -1).astype(np.float32)
    parts = []
    size = max(1, AT_ONCE // x.shape[1])
    for k in range(0, len(rows), size):
        y = others[rows[k : k + size]].reshape(-1, x.shape[1]).astype(np.float32)
        parts.append((y**2).sum(1) - 2 * x @ y.T)
    distances = np.concatenate(parts, axis=1).reshape(-1, len(images), len(rows))
    ranked = np.argsort(distances.min(0), axis=1, kind="stable")[:, :count]
    return rows[ranked], np.take_along_axis(distances.argmin(0), ranked, 1) == 1


def reconstructions(subject: Subject) -> Image.Image:
    """Held-out images, each above its reconstruction."""
    if not subject.model.network.has_encoder:
        raise AnalysisError(f"{type(subject.model.network).__name__} has no encoder.")
    x = subject.images(24)
    rebuilt = subject.model.reconstruct(x)
    columns = min(8, len(x))
    starts = range(0, len(x) // columns * columns, columns)  # a shorter last row would end in the next one's
    blocks = [part[k : k + columns] for k in starts for part in (x, rebuilt)]
    title = f"{subject.title}: held-out images and their reconstructions"
    return labelled(grid(torch.cat(blocks), columns), title, ("image", "rebuilt") * len(starts))


def interpolations(subject: Subject) -> Image.Image:
    """Six pairs of held-out images, each a row from one to the other."""
    require_continuous(subject)
    x = subject.images(12)
    if len(x) < 2:
        raise AnalysisError("A path from one held-out image to another needs two, and there is one.")
    rows = [subject.model.interpolate(9, ends=x[k : k + 2]) for k in range(0, len(x) - 1, 2)]
    title = f"{subject.title}: from one held-out image to another"
    return labelled(grid(torch.cat(rows), 9), title, [f"pair {k}" for k in range(1, len(rows) + 1)])


def interpolation(subject: Subject) -> list[Image.Image]:
    """A path through eight draws of the prior, as an animation."""
    require_continuous(subject, encoder=False)
    network = subject.model.network
    if not network.decodes_noise():
        raise AnalysisError(
            f"{type(network).__name__} draws in more steps than decoding a draw of its prior."
        )
    paths = [subject.model.interpolate(12, seed=SEED + k) for k in range(8)]
    return [grid(torch.stack([path[t] for path in paths]), 4) for t in range(12)]


def traversals(subject: Subject) -> Figure:
    """The most informative latents of an image moved one by one, each with the factor it follows best."""
    codes, rows = subject.codes
    order = np.argsort(-codes.var(0))[:UNITS]
    mean, deviation = prior_moments(subject.model)
    steps = torch.linspace(-REACH, REACH, 9, device=mean.device)
    start = torch.as_tensor(codes[0], dtype=torch.float32)  # a real image's: the prior's middle has no face
    figure, axes = canvas(7.5, 0.4 + 1.05 * len(order), len(order), 1, squeeze=False)
    for ax, unit in zip(axes[:, 0], order, strict=True):
        z = start.repeat(len(steps), 1)
        z[:, unit] = mean[unit] + deviation[unit] * steps
        with torch.no_grad():
            frames = subject.model.network.decode(z.to(subject.model.network.device))
        ax.imshow(np.asarray(grid(frames, len(steps))), cmap="gray" if frames.shape[1] == 1 else None)
        ax.set_xticks([])
        ax.set_yticks([])
        ax.spines[:].set_visible(False)
        ax.set_title(
            plain(f"z{unit} {controls(codes[:, unit], subject.held_out(), rows)}"), fontsize=8, pad=3
        )
    reach = f"from −{REACH:g} to {REACH:g} standard deviations of the prior"
    figure.suptitle(f"{plain(subject.title)}: each latent {reach}", fontsize=10)
    return figure


def controls(code: NDArray[np.floating], store: ImageStore, rows: NDArray[np.intp]) -> str:
    """Say which factor goes with a latent most closely (Spearman's correlation); "" without factors."""
    found = {}
    for name, values in store.factors.items():
        known = np.isfinite(values[rows])
        if known.sum() > 10 and np.ptp(values[rows][known]) > 0:
            found[name] = float(stats.spearmanr(code[known], values[rows][known]).statistic)
    if not found:
        return ""
    name = max(found, key=lambda key: abs(found[key]))
    return f"{name.replace('_', ' ')}, ρ = {found[name]:+.2f}"


def clustering(subject: Subject) -> Figure:
    """Posterior means of held-out images in two dimensions, colored by what is known of the images."""
    codes, rows = subject.codes
    store = subject.held_out()
    points, names = plane(codes)
    figure, ax = canvas(6.5, 5)
    labels = store.labels[rows]
    if 2 <= len(np.unique(labels)) <= CLASSES:
        known = dict(enumerate(store.manifest.get("class_names", ()))) | {UNKNOWN: "unknown"}
        draw_classes(ax, points, labels, known)
    elif store.factors:
        name, values = next(iter(store.factors.items()))
        drawn = ax.scatter(*points.T, c=values[rows], cmap=SCALE, s=6)
        figure.colorbar(drawn, label=plain(name.replace("_", " ")))
    else:
        ax.plot(*points.T, "o", color=CYCLE[0], markersize=3, alpha=0.6)
    ax.set(xlabel=names[0], ylabel=names[1], title=f"{plain(subject.title)}: {len(rows)} held-out images")
    return figure


def decoded_grid(subject: Subject) -> Image.Image:
    """A two-dimensional latent space, decoded at 15×15 quantiles of the prior."""
    if getattr(subject.model.network.config, "latent_dim", None) != 2:
        raise AnalysisError("A grid of decoded latents needs a model of two latent dimensions.")
    places = torch.as_tensor(stats.norm.ppf(np.linspace(0.02, 0.98, 15)), dtype=torch.float32)
    network = subject.model.network.eval()
    z = torch.cartesian_prod(places.flip(0), places).flip(1).to(network.device)
    with torch.no_grad():
        decoded = network.decode(network.from_noise(z))
    return labelled(grid(decoded, 15), f"{subject.title}: the latent plane, at quantiles of the prior")


def grid(images: Tensor, columns: int) -> Image.Image:
    """Return images (n, C, H, W) in [−1, 1] as one, row by row, small ones enlarged by a whole factor."""
    pixels = to_uint8(images).cpu().numpy()
    return tile(pixels, columns, ground=WHITE, scale=enlargement(pixels))


def enlargement(images: NDArray[np.uint8]) -> int:
    """Return the whole factor by which images (n, H, W, C) are enlarged to be seen."""
    return max(1, -(-MIN_SIDE // images.shape[1]))


def labelled(sheet: Image.Image, title: str, rows: Sequence[str] = ()) -> Image.Image:
    """Return a sheet of images under its title and beside the names of its rows; no pixel of it changes."""
    font = ImageFont.truetype(
        Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf", FONT_SIZE
    )
    left = round(max((font.getlength(name) for name in rows), default=0)) + (2 * PADDING if rows else 0)
    top = FONT_SIZE + 2 * PADDING
    width = max(left + sheet.width, round(font.getlength(title)) + PADDING)
    page = Image.new("RGB", (width, top + sheet.height), "white")
    page.paste(sheet, (left, top))
    draw = ImageDraw.Draw(page)
    draw.text((0, PADDING - 2), title, "black", font)
    for k, name in enumerate(rows):
        middle = top + round((k + 0.5) * sheet.height / len(rows))
        draw.text((left - PADDING, middle), name, "black", font, anchor="rm")
    return page


def prior_moments(model: TrainedModel) -> tuple[Tensor, Tensor]:
    """Return mean and standard deviation of the units of a model's prior, (M,) each, from draws of it."""
    draws = model.network.eval().prior_sample(DRAWS, model.generator(SEED))
    return draws.mean(0), draws.std(0)


def require_continuous(subject: Subject, encoder: bool = True) -> None:
    """Raise AnalysisError where a model has no continuous latents, or no encoder that finds an image's."""
    network = subject.model.network
    if not hasattr(network.config, "latent_dim") or (encoder and not network.has_encoder):
        raise AnalysisError(f"{type(network).__name__} has no continuous latents to pass through.")


MODEL_FIGURES: dict[str, Callable[[Subject], Figure | Image.Image | list[Image.Image]]] = {
    "samples": samples,
    "nearest": nearest,
    "reconstructions": reconstructions,
    "interpolations": interpolations,
    "interpolation": interpolation,
    "traversals": traversals,
    "clustering": clustering,
    "decoded-grid": decoded_grid,
}
