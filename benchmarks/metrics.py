"""What the scores cost and what they can tell: `python benchmarks/metrics.py [PART …]`, all parts by default.

frechet_1000, frechet_10000   the distance of that many images alone, 2048 features, beside three peers
evaluation_ours, evaluation_pytorch_fid, evaluation_torchmetrics   1000 images from files to value, Inception
order   EfficientNet-Lite0's layers and sizes as judges of damage, of a collapsed generator and of noise
bias    Fréchet distance, its extrapolation and KID of real faces at n = 500 … 10 000 (a figure)

Seconds are CPU time of one thread, which a busy machine changes least. The last two parts read celeba10k.tar
and smiles.tar from ../shared/data. The peers beside pytorch-fid are not the project's dependencies:
  pip install --target PEERS --no-deps torch-fidelity torchmetrics lightning-utilities
  OMP_NUM_THREADS=1 PYTHONPATH=PEERS python benchmarks/metrics.py
"""

import io
import os
import resource
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from PIL import Image
from scipy.ndimage import gaussian_filter

import trainables.torchvision_shim  # noqa: F401  before pytorch_fid, which imports torchvision
from trainables.metrics import features as extractors
from trainables.metrics import networks
from trainables.metrics.extractor import Extractor, Resize
from trainables.metrics.frechet import ReferenceStatistics, estimate_frechet_distance, frechet_distance
from trainables.metrics.infinity import MINIMUM, frechet_distance_infinity
from trainables.metrics.kid import kernel_inception_distance
from trainables.metrics.statistics import covariance_factor

ROOT = Path(__file__).resolve().parent.parent
DATA = ROOT.parent / "shared" / "data"
FIGURE = ROOT / "benchmarks" / "figures" / "metrics_bias.png"
PYTORCH_FID = "import trainables.torchvision_shim; from pytorch_fid.fid_score import main; main()"


def timed(function: Callable, repeats: int = 1):
    """Return the least CPU time of some calls in seconds, and the last result."""
    best = float("inf")
    for _ in range(repeats):
        start = time.process_time()
        result = function()
        best = min(best, time.process_time() - start)
    return best, result


def frechet(n: int) -> None:
    """Features: Gaussian with variances 1/k; the reference's mean, covariance and factor are at hand."""
    from pytorch_fid.fid_score import calculate_frechet_distance
    from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric
    from torchmetrics.image.fid import _compute_fid

    rng = np.random.default_rng(n)
    deviations = np.arange(1, 2049) ** -0.5
    mix = np.linalg.qr(rng.standard_normal((2048, 2048)))[0] * deviations[:, None]
    real = rng.standard_normal((20_000, 2048)) @ mix
    reference = ReferenceStatistics.of_features(real)
    real_statistics = reference.mean, reference.covariance
    X = 1.1 * rng.standard_normal((n, 2048)) @ mix + 0.01
    exact = by_singular_values(X, real)

    def statistics() -> tuple[np.ndarray, np.ndarray]:
        return X.mean(0), np.cov(X, rowvar=False)

    def torch_fidelity() -> float:
        real = dict(zip(("mu", "sigma"), real_statistics, strict=True))
        sample = fid_features_to_statistics(torch.from_numpy(X))
        return fid_statistics_to_metric(sample, real, False)["frechet_inception_distance"]

    programs = {
        "ours": lambda: frechet_distance(X, reference),
        "ours, with its deviation": lambda: estimate_frechet_distance(X, reference).value,
        "pytorch-fid 0.3.0": lambda: calculate_frechet_distance(*statistics(), *real_statistics),
        "torch-fidelity 0.4.0": torch_fidelity,
        "torchmetrics 1.9.0": lambda: float(
            _compute_fid(*map(torch.from_numpy, statistics()), *map(torch.from_numpy, real_statistics))
        ),
    }
    print("| n | program | CPU seconds | times ours | value | less the value from singular values |")
    print("|--:|---|--:|--:|--:|--:|")
    ours = None
    for name, program in programs.items():
        seconds, value = timed(program, 1 if ours else 3)
        ours = ours or seconds
        print(f"| {n} | {name} | {seconds:.2f} | {seconds / ours:.1f} | {value:.6f} | {value - exact:+.1e} |")


def by_singular_values(X: np.ndarray, Y: np.ndarray) -> float:
    """The distance from triangular factors of the centred sets: no covariance is formed."""
    a, b = (X - X.mean(0)) / np.sqrt(len(X) - 1), (Y - Y.mean(0)) / np.sqrt(len(Y) - 1)
    product = np.linalg.qr(b, mode="r") @ np.linalg.qr(a, mode="r").T
    roots = np.linalg.svd(product, compute_uv=False).sum()
    return np.square(X.mean(0) - Y.mean(0)).sum() + np.square(a).sum() + np.square(b).sum() - 2 * roots


def evaluation(program: str) -> None:
    """1000 PNG files of 64×64 against a file of statistics; one set of weights, drawn after He, for all.

    The statistics are those of 128 faces, the covariance drawn by a tenth to its diagonal for full rank.
    """
    faces = read_tar("celeba10k.tar", 64, limit=1128)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        # torch hub's cache is where pytorch-fid finds its weights; it does not check their hash.
        weights = folder / "hub" / "checkpoints" / Path(extractors.INCEPTION_URL).name
        weights.parent.mkdir(parents=True)
        network = networks.build_inception()
        networks.he_initialise(network, 0)
        torch.save(network.state_dict(), weights)
        generated = folder / "generated"
        generated.mkdir()
        for i, image in enumerate(blurred(faces[128:], 0.5)):
            Image.fromarray(image).save(generated / f"{i:04d}.png")
        extractor = extractors.load_extractor("inception", weights=weights, threads=1)
        features = extractor(faces[:128])
        covariance = np.cov(features, rowvar=False)
        covariance = 0.9 * covariance + 0.1 * np.diag(covariance.diagonal() + 1e-6)
        factor = covariance_factor(covariance)
        real = ReferenceStatistics(None, features.mean(0), covariance, factor, extractor.identity)
        real.save(folder / "real.npz")
        paths = [str(generated), str(folder / "real.npz")]
        if program == "ours":
            options = ["--features", "inception", "--weights", str(weights), "--threads", "1"]
            seconds, lines = call(["-m", "trainables.metrics", *paths, *options], folder)
            value = next(line.split()[1] for line in lines if line.startswith("fd_inception "))
        elif program == "pytorch-fid":
            options = ["--num-workers", "0", "--device", "cpu"]
            seconds, lines = call(["-c", PYTORCH_FID, *paths, *options], folder)
            value = lines[-1].split()[-1]
        else:
            seconds, value = timed(partial(torchmetrics_fid, weights, generated, real))
    print("| end to end, 1000 images | CPU seconds | value |\n|---|--:|--:|")
    print(f"| {program} | {seconds:.1f} | {float(value):.6g} |", flush=True)


def call(arguments: list[str], hub: Path) -> tuple[float, list[str]]:
    """Run Python anew; return its CPU time and the lines that it prints."""
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = os.environ | {"TORCH_HOME": str(hub), "OMP_NUM_THREADS": "1", "PYTHONPATH": path}
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([sys.executable, *arguments], env=environment, capture_output=True, text=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise RuntimeError(done.stderr)
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return seconds, done.stdout.strip().splitlines()


def torchmetrics_fid(weights: Path, generated: Path, real: ReferenceStatistics) -> float:
    """Its class on pytorch-fid's network; the real images' sums are set, as a cache would."""
    from pytorch_fid import inception
    from torchmetrics.image.fid import FrechetInceptionDistance

    inception.load_state_dict_from_url = lambda *_, **__: torch.load(weights, weights_only=True)

    class Network(torch.nn.Module):
        num_features = 2048

        def __init__(self):
            super().__init__()
            self.network = inception.InceptionV3().eval()

        def forward(self, images):
            return self.network(images.float() / 255)[0].flatten(1)

    metric = FrechetInceptionDistance(feature=Network())
    n = 1_000_000  # so many that n and n − 1 are the same
    metric.real_features_num_samples += n
    metric.real_features_sum += n * torch.from_numpy(real.mean)
    outer = np.outer(real.mean, real.mean)
    metric.real_features_cov_sum += torch.from_numpy((n - 1) * real.covariance + n * outer)
    files = sorted(generated.iterdir())
    with torch.inference_mode():
        for start in range(0, len(files), 50):
            batch = np.stack([np.asarray(Image.open(file)) for file in files[start : start + 50]])
            metric.update(torch.from_numpy(batch).permute(0, 3, 1, 2), real=False)
        return float(metric.compute())


def order(n: int = 200) -> None:
    """Fréchet distance over the reference's total variance, so that layers of any scale can be compared.

    Faces of 32×32. Falling values where the damage grows are marked: what a search must not be led by.
    """
    faces = read_tar("celeba10k.tar", 32, limit=1500 + n)
    real = faces[1500:].astype(np.float32)
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
    columns = {"block 14, 64 px": (14, 64), "last layer, 64 px": (None, 64), "block 10, 64 px": (10, 64)}
    columns["last layer, 128 px"] = None, 128
    table = {name: [] for name in damage}
    seconds = []
    for layer, size in columns.values():
        extractor = efficientnet(layer, size)
        reference = ReferenceStatistics.of_features(extractor(faces[:1500]))
        total = np.trace(reference.covariance)
        seconds.append(timed(partial(extractor, faces[:n]))[0])
        for name, images in damage.items():
            distances = [frechet_distance(extractor(to_uint8(x)), reference) / total for x in images]
            cells = [f"{distances[0]:.2f}"]
            cells += [f"{b:.2f}{'!' if b < a else ''}" for a, b in pairwise(distances)]
            table[name].append(" ".join(cells))
    print("| damage | " + " | ".join(columns) + " |\n|---|" + "---|" * len(columns))
    for name, cells in table.items():
        print(f"| {name} | {' | '.join(cells)} |")
    print("| CPU ms an image | " + " | ".join(f"{1000 * s / n:.1f}" for s in seconds) + " |", flush=True)


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
    print("| images | n | Fréchet distance | jackknife's σ | extrapolated | KID × 1000 | jackknife's σ |")
    print("|---|--:|--:|--:|--:|--:|--:|")
    for axis, name in zip(axes, ("celeba10k", "smiles"), strict=True):
        photographs = read_tar(f"{name}.tar", 32)
        features = np.stack([extractor(photographs), extractor(photographs[:, :, ::-1])], 1)
        lines = []
        for n in (500, 1000, 2000, 5000, 10_000):
            rows = [one_half(features, n, seed) for seed in range(repeats if n < 10_000 else 3)]
            means, spreads = np.mean(rows, 0), np.std(rows, 0, ddof=1)
            lines.append((n, means, spreads))
            cells = [f"{m:.2f} ± {s:.2f}" for m, s in zip(means, spreads, strict=True)]
            extrapolated = cells[2] if n >= MINIMUM else "–"
            print(
                f"| {name} | {n} | {cells[0]} | {means[1]:.2f} | {extrapolated} | {cells[3]} "
                f"| {means[4]:.2f} |",
                flush=True,
            )
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


def one_half(features: np.ndarray, n: int, seed: int) -> list[float]:
    """Score n images of a random half against the other: value, σ, extrapolation, 1000 KID, its σ."""
    halves = np.array_split(np.random.default_rng(seed).permutation(len(features)), 2)
    reference = ReferenceStatistics.of_features(features[halves[0]].reshape(-1, features.shape[2]))
    half = features[halves[1]].reshape(-1, features.shape[2])
    X = half[np.random.default_rng(seed).permutation(len(half))[:n]]
    infinite = frechet_distance_infinity(X, reference) if n >= MINIMUM else np.nan
    kid = kernel_inception_distance(X, reference)
    return [*estimate_frechet_distance(X, reference), infinite, 1000 * kid.value, 1000 * kid.std]


def read_tar(name: str, size: int, limit: int | None = None) -> np.ndarray:
    """Return the images of a tar as (n, size, size, 3) uint8: the middle square, averaged down."""
    images = []
    with tarfile.open(DATA / name) as tar:
        for member in tar:
            if not member.name.endswith(".jpg") or (limit is not None and len(images) == limit):
                continue
            image = Image.open(io.BytesIO(tar.extractfile(member).read())).convert("RGB")
            width, height = image.size
            top = (height - width) // 2
            images.append(np.asarray(image.resize((size, size), Image.BOX, (0, top, width, top + width))))
    return np.stack(images)


def blurred(images: np.ndarray, sigma: float) -> np.ndarray:
    """Blur by a Gaussian of sigma pixels and round to uint8."""
    return to_uint8(gaussian_filter(images.astype(np.float32), (0, sigma, sigma, 0)))


def to_uint8(images: np.ndarray) -> np.ndarray:
    return np.rint(images).clip(0, 255).astype(np.uint8)


PARTS = {
    "frechet_1000": partial(frechet, 1000),
    "frechet_10000": partial(frechet, 10_000),
    "evaluation_ours": partial(evaluation, "ours"),
    "evaluation_pytorch_fid": partial(evaluation, "pytorch-fid"),
    "evaluation_torchmetrics": partial(evaluation, "torchmetrics"),
    "order": order,
    "bias": bias,
}


def main() -> None:
    parts = sys.argv[1:] or list(PARTS)
    if unknown := set(parts) - set(PARTS):
        sys.exit(f"no part {min(unknown)!r}; there are: {', '.join(PARTS)}")
    torch.set_num_threads(1)
    for part in parts:
        print(f"\n{part}", flush=True)
        PARTS[part]()


if __name__ == "__main__":
    main()
