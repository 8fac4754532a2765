"""What the scores cost and what they can tell: `python benchmarks/metrics.py [PART …]`, all parts by default.

frechet     the distance alone, 2048 features, against pytorch-fid, torch-fidelity and torchmetrics
evaluation  1000 images end to end, Inception with one set of random weights, against the same
resize      EfficientNet-Lite0 at 32 to 128 pixels: cost, and how clearly it sees four kinds of damage
bias        Fréchet distance, its extrapolation and KID of real faces at n = 500 … 10 000 (a figure)

One thread each. The last two parts read celeba10k.tar and smiles.tar from ../shared/data. The peers beside
pytorch-fid are not the project's dependencies:
  pip install --target PEERS --no-deps torch-fidelity torchmetrics lightning-utilities
  PYTHONPATH=PEERS python benchmarks/metrics.py
"""

import io
import os
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from scipy.ndimage import gaussian_filter

import trainables.torchvision_shim  # noqa: F401  before pytorch_fid, which imports torchvision
from trainables.metrics import features as extractors
from trainables.metrics import networks
from trainables.metrics.frechet import (
    ReferenceStatistics,
    estimate_frechet_distance,
    frechet_distance,
    reference_statistics,
)

ROOT = Path(__file__).resolve().parent.parent
DATA = ROOT.parent / "shared" / "data"
FIGURE = ROOT / "benchmarks" / "figures" / "metrics_bias.png"
PYTORCH_FID = "import trainables.torchvision_shim; from pytorch_fid.fid_score import main; main()"


def timed(function: Callable, repeats: int = 1):
    """Return the best time of some calls in seconds, and the last result."""
    best = float("inf")
    for _ in range(repeats):
        start = time.perf_counter()
        result = function()
        best = min(best, time.perf_counter() - start)
    return best, result


def statistics_of(features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The mean and covariance that a peer computes for the generated images."""
    return features.mean(0), np.cov(features, rowvar=False)


def benchmark_frechet() -> None:
    """Features: Gaussian with variances 1/k, as wide as Inception's; the reference is cached for all."""
    from pytorch_fid.fid_score import calculate_frechet_distance
    from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric
    from torchmetrics.image.fid import _compute_fid

    rng = np.random.default_rng(0)
    deviations = np.arange(1, 2049) ** -0.5
    mix = np.linalg.qr(rng.standard_normal((2048, 2048)))[0] * deviations[:, None]
    real = rng.standard_normal((20_000, 2048)) @ mix
    reference = ReferenceStatistics.of_features(real)
    real_statistics = reference.mean, reference.covariance
    print("| n | program | seconds | ratio | value | from singular values |")
    print("|--:|---|--:|--:|--:|--:|")
    for n in (1000, 10_000):
        X = 1.1 * rng.standard_normal((n, 2048)) @ mix + 0.01
        a, b = (X - X.mean(0)) / np.sqrt(n - 1), (real - real.mean(0)) / np.sqrt(len(real) - 1)
        triangle_a, triangle_b = np.linalg.qr(a, mode="r"), np.linalg.qr(b, mode="r")
        roots = np.linalg.svd(triangle_b @ triangle_a.T, compute_uv=False).sum()
        exact = (
            np.square(X.mean(0) - real.mean(0)).sum() + np.square(a).sum() + np.square(b).sum() - 2 * roots
        )

        def torchmetrics(X=X):
            sample = map(torch.from_numpy, statistics_of(X))
            return float(_compute_fid(*sample, *map(torch.from_numpy, real_statistics)))

        def torch_fidelity(X=X):
            real = dict(zip(("mu", "sigma"), real_statistics, strict=True))
            sample = fid_features_to_statistics(torch.from_numpy(X))
            return fid_statistics_to_metric(sample, real, False)["frechet_inception_distance"]

        ours, value = timed(lambda X=X: frechet_distance(X, reference), 3)
        rows = [("ours", ours, value)]
        with_deviation, estimate = timed(lambda X=X: estimate_frechet_distance(X, reference))
        rows.append(("ours, with its deviation", with_deviation, estimate.value))
        for name, peer in (
            (
                "pytorch-fid 0.3.0",
                lambda X=X: calculate_frechet_distance(*statistics_of(X), *real_statistics),
            ),
            ("torch-fidelity 0.4.0", torch_fidelity),
            ("torchmetrics 1.9.0", torchmetrics),
        ):
            rows.append((name, *timed(peer)))
        for name, seconds, value in rows:
            ratio, error = seconds / ours, value - exact
            print(f"| {n} | {name} | {seconds:.2f} | {ratio:.1f} | {value:.6f} | {error:+.1e} |", flush=True)


def benchmark_evaluation() -> None:
    """1000 PNG files of 64×64 against cached statistics, weights drawn after He; processes started anew."""
    faces = read_tar("celeba10k.tar", 64, limit=2000)
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        weights = folder / "hub" / "checkpoints" / Path(extractors.INCEPTION_URL).name
        weights.parent.mkdir(parents=True)
        network = networks.build_inception()
        networks.he_initialise(network, 0)
        torch.save(network.state_dict(), weights)
        generated = folder / "generated"
        generated.mkdir()
        for i, image in enumerate(blurred(faces[:1000], 0.5)):
            Image.fromarray(image).save(generated / f"{i:04d}.png")
        extractor = extractors.load_extractor("inception", weights=weights)
        reference = reference_statistics(faces[1000:], extractor, cache_dir=None, key="faces")
        reference.save(folder / "real.npz")
        # torch hub's cache is where pytorch-fid finds the weights; it does not check their hash.
        environment = os.environ | {"TORCH_HOME": str(folder), "OMP_NUM_THREADS": "1", "PYTHONPATH": path()}
        paths = [str(generated), str(folder / "real.npz")]
        ours = [sys.executable, "-m", "trainables.metrics", *paths, "--features", "inception"]
        ours += ["--weights", str(weights), "--threads", "1"]
        peer = [sys.executable, "-c", PYTORCH_FID, *paths, "--num-workers", "0", "--device", "cpu"]

        def call(command: list[str]) -> list[str]:
            done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True)
            if done.returncode:
                raise RuntimeError(done.stderr)
            return done.stdout.strip().splitlines()

        ours_seconds, lines = timed(lambda: call(ours))
        value = next(line.split()[1] for line in lines if line.startswith("fd_inception "))
        rows = [("ours, with deviation, floor and KID", ours_seconds, value)]
        seconds, lines = timed(lambda: call(peer))
        rows.append(("python -m pytorch_fid", seconds, lines[-1].split()[-1]))
        rows.append(
            ("torchmetrics 1.9.0, that network", *timed(lambda: torchmetrics_fid(weights, generated, faces)))
        )
    print("| program | seconds | ratio | value |")
    print("|---|--:|--:|--:|")
    for name, seconds, value in rows:
        print(f"| {name} | {seconds:.1f} | {seconds / ours_seconds:.2f} | {float(value):.6g} |")


def torchmetrics_fid(weights: Path, generated: Path, faces: np.ndarray) -> float:
    """Its class on pytorch-fid's network; the real images' part is not in the time that is reported."""
    raise NotImplementedError


def path() -> str:
    """PYTHONPATH for a subprocess: this project first."""
    return os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])


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
    smooth = gaussian_filter(images.astype(np.float32), (0, sigma, sigma, 0))
    return np.rint(smooth).clip(0, 255).astype(np.uint8)
