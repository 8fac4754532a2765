"""What the scores can tell: `python -m benchmarks.metrics_judgement [PART …]`, all parts by default.

order   EfficientNet-Lite0's layers and sizes as judges of damage, of a collapsed generator and of noise
bias    Fréchet distance, its extrapolation and KID of real faces at n = 500 … 10 000 (a figure)
table   what is on record of both

They read celeba10k.tar in the folder LATENTUNE_DATA, bias smiles.tar, too.
"""

import sys
from functools import partial
from itertools import pairwise

import numpy as np
import torch
from matplotlib.figure import Figure
from scipy.ndimage import gaussian_filter

from benchmarks import records
from benchmarks.metrics import ROOT, read_tar, timed, to_uint8
from trainables.metrics.extractors import features as extractors
from trainables.metrics.extractors import networks
from trainables.metrics.extractors.extractor import Extractor, Resize
from trainables.metrics.frechet import ReferenceStatistics, estimate_frechet_distance, frechet_distance
from trainables.metrics.infinity import MINIMUM, frechet_distance_infinity
from trainables.metrics.kid import kernel_inception_distance

FIGURE = ROOT / "docs" / "benchmarks" / "figures" / "metrics_bias.png"
JUDGES = {  # EfficientNet's block, None for its last layer, and the images' side
    "block 14, 64 px": (14, 64),
    "last layer, 64 px": (None, 64),
    "block 10, 64 px": (10, 64),
    "last layer, 128 px": (None, 128),
}

SCORES = ("distance", "its jackknife", "extrapolated", "1000 KID", "KID's jackknife")


def order(n: int = 100, columns: dict[str, tuple[int | None, int]] = JUDGES) -> None:
    """Fréchet distance over the reference's total variance, so that layers of any scale can be compared.

    Faces of 32×32. Falling values where the damage grows are marked: what a search must not be led by.
    """
    faces = read_tar("celeba10k.tar", 32, limit=700 + n)
    real = faces[700:].astype(np.float32)
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:32, :32]
    checkers = np.where((x + y) % 2, 1.0, -1.0)[..., None]
    square = np.where(((x < 23) & (y < 23))[..., None], [255.0, 255, 0], [0.0, 255, 0])
    noise = rng.standard_normal(real.shape)
    damage = {
        "none": [real],
        "blur, σ = 0.6, 1, 2.5, 8": [gaussian_filter(real, (0, s, s, 0)) for s in (0.6, 1, 2.5, 8)],
        "noise, σ = 6, 25, 50, 200": [real + s * noise for s in (6, 25, 50, 200)],
        "checkerboard, ±6, 25, 50, 100": [real + s * checkers for s in (6, 25, 50, 100)],
        "other faces mixed in, 20, 35, 50 %": [(1 - s) * real + s * real[::-1] for s in (0.2, 0.35, 0.5)],
        "drawn to one face, 30, 60, 80, 100 %": [(1 - s) * real + s * real[0] for s in (0.3, 0.6, 0.8, 1)],
        "drawn to a yellow square, 30, 70, 85, 100 %": [
            (1 - s) * real + s * square for s in (0.3, 0.7, 0.85, 1)
        ],
        "contrast, 40, 20, 5, 0 %": [127 + s * (real - 127) for s in (0.4, 0.2, 0.05, 0)],
        "uniform noise": [rng.uniform(0, 255, real.shape)],
    }
    rows = []
    for judge, (layer, size) in columns.items():
        extractor = efficientnet(layer, size)
        reference = ReferenceStatistics.of_features(extractor(faces[:700]))
        total = np.trace(reference.covariance)
        found = {
            name: [float(frechet_distance(extractor(to_uint8(x)), reference) / total) for x in images]
            for name, images in damage.items()
        }
        seconds = timed(partial(extractor, faces[:n]))[0] / n
        rows.append({"judge": judge, "distances": found, "cpu_seconds": seconds})
        print(rows[-1], flush=True)
    records.renew("metrics", "order", rows)


def efficientnet(block: int | None, size: int) -> Extractor:
    """EfficientNet-Lite0 up to a block, None for its last layer, at size × size pixels."""
    network = networks.build_efficientnet_lite0(size).eval()
    networks.load_weights(network, networks.efficientnet_lite0_weights())
    features = networks.up_to_block(network, 15 if block is None else block)
    if block is None:
        features = torch.nn.Sequential(
            *features[:-3], network._conv_head, network._bn1, network._swish, *features[-3:]
        )
    networks.fold_batch_norm(features)
    scale = extractors.EFFICIENTNET_LITE0_RESIZE
    resize = Resize(size, antialias=True, scale=scale.scale, shift=scale.shift)
    features = features.to(memory_format=torch.channels_last)
    return Extractor("efficientnet_lite0", features, "", resize, reason="", threads=1)


def bias(repeats: int = 8) -> None:
    """One half of the real photographs against the other, which is 0 apart; mirror images double a half."""
    extractor = extractors.load_extractor("efficientnet_lite0", threads=1)
    figure = Figure(figsize=(7, 3), layout="constrained")
    axes = figure.subplots(1, 2)
    rows = []
    for axis, name in zip(axes, ("celeba10k", "smiles"), strict=True):
        photographs = read_tar(f"{name}.tar", 32)
        features = np.stack([extractor(photographs), extractor(photographs[:, :, ::-1])], 1)
        lines = []
        for n in (500, 1000, 2000, 5000, 10_000):
            halves = [one_half(features, n, seed) for seed in range(repeats if n < 10_000 else 3)]
            means, spreads = np.mean(halves, 0), np.std(halves, 0, ddof=1)
            lines.append((n, means, spreads))
            scores = {k: v for k, *v in zip(SCORES, means, spreads, strict=True) if np.isfinite(v).all()}
            rows.append({"images": name, "n": n, "scores": scores})
            print(rows[-1], flush=True)
        sizes = np.array([n for n, _, _ in lines])
        for column, label in ((0, "Fréchet distance"), (3, "KID × 1000"), (2, "Fréchet, extrapolated")):
            values = np.array([m[column] for _, m, _ in lines])
            errors = np.array([s[column] for _, _, s in lines])
            shown = np.isfinite(values)
            axis.errorbar(sizes[shown], values[shown], errors[shown], fmt="o-", ms=3, capsize=2, label=label)
        axis.axhline(0, color="grey", lw=0.8)
        axis.set(xscale="log", xlabel="generated images, n", title=f"{name}: real against real")
    axes[0].legend(frameon=False)
    FIGURE.parent.mkdir(exist_ok=True)
    figure.savefig(FIGURE, dpi=150)
    records.renew("metrics", "bias", rows)


def table() -> None:
    """Print the record. A value that falls although the damage grows has a mark."""
    judges, rows = records.read("metrics", "order"), []
    for name in judges[0]["distances"]:
        cells = [name]
        for judge in judges:
            first, *_ = found = judge["distances"][name]
            falls = [f"{b:.2f}{'!' if b < a else ''}" for a, b in pairwise(found)]
            cells.append(" ".join([f"{first:.2f}", *falls]))
        rows.append(cells)
    rows.append(["CPU ms an image", *(f"{1000 * judge['cpu_seconds']:.1f}" for judge in judges)])
    records.table(["damage", *(judge["judge"] for judge in judges)], rows)
    rows = []
    for row in records.read("metrics", "bias"):
        cells = [f"{mean:.2f} ± {spread:.2f}" for mean, spread in row["scores"].values()]
        distance, jackknife, *extrapolated, kid, of_kid = cells
        deviations = [cell.split()[0] for cell in (jackknife, of_kid)]
        cells = [distance, deviations[0], *(extrapolated or ["–"]), kid, deviations[1]]
        rows.append([row["images"], str(row["n"]), *cells])
    header = ["images", "n", "Fréchet distance", "jackknife's σ", "extrapolated", "KID × 1000"]
    records.table([*header, "jackknife's σ"], rows)


def one_half(features: np.ndarray, n: int, seed: int) -> list[float]:
    """Score n images of a random half against the other: value, σ, extrapolation, 1000 KID, its σ."""
    halves = np.array_split(np.random.default_rng(seed).permutation(len(features)), 2)
    reference = ReferenceStatistics.of_features(features[halves[0]].reshape(-1, features.shape[2]))
    half = features[halves[1]].reshape(-1, features.shape[2])
    X = half[np.random.default_rng(seed).permutation(len(half))[:n]]
    infinite = frechet_distance_infinity(X, reference) if n >= MINIMUM else np.nan
    kid = kernel_inception_distance(X, reference)
    return [*estimate_frechet_distance(X, reference), infinite, 1000 * kid.value, 1000 * kid.std]


PARTS = {"order": order, "bias": bias, "table": table}


def main() -> None:
    parts = sys.argv[1:] or ["order", "bias"]
    if unknown := set(parts) - set(PARTS):
        sys.exit(f"no part {min(unknown)!r}; there are: {', '.join(PARTS)}")
    torch.set_num_threads(1)
    for part in parts:
        print(f"\n{part}", flush=True)
        PARTS[part]()


if __name__ == "__main__":
    main()
