"""What the scores cost, beside other programs: `python -m benchmarks.metrics [PART …]`, all parts by default.

table   what is on record of frechet and cost
frechet_1000, frechet_10000   the distance of that many images alone, 2048 features, beside three peers
evaluation_ours, evaluation_pytorch_fid, evaluation_torchmetrics   1000 images from files to value, Inception
cost    one evaluation of a trial, 500 images of 32×32, by EfficientNet-Lite0

Seconds are CPU time of one thread, which a busy machine changes least. All but frechet read celeba10k.tar
from the folder LATENTUNE_DATA. The peers beside pytorch-fid are not the project's dependencies:
  pip install --target PEERS --no-deps torch-fidelity torchmetrics lightning-utilities
  OMP_NUM_THREADS=1 PYTHONPATH=PEERS python -m benchmarks.metrics
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
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from scipy.ndimage import gaussian_filter

import trainables.torchvision_shim  # noqa: F401  before pytorch_fid, which imports torchvision
from benchmarks import records
from tests.fixtures.real_data import REAL
from trainables.metrics.extractors import features as extractors
from trainables.metrics.extractors import networks
from trainables.metrics.frechet import (
    ReferenceStatistics,
    estimate_frechet_distance,
    frechet_distance,
    real_floor,
    reference_statistics,
)
from trainables.metrics.kid import kernel_inception_distance
from trainables.metrics.scores import score
from trainables.metrics.statistics import GaussianStatistics, covariance_factor

ROOT = Path(__file__).resolve().parent.parent
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
    real = rng.standard_normal((5000, 2048)) @ mix
    gaussian = GaussianStatistics(2048)
    gaussian.update(real)
    reference = ReferenceStatistics.of(gaussian)
    real_statistics = reference.mean, reference.covariance
    X = 1.1 * rng.standard_normal((n, 2048)) @ mix + 0.01

    def statistics() -> tuple[np.ndarray, np.ndarray]:
        return X.mean(0), np.cov(X, rowvar=False)

    def torch_fidelity() -> float:
        real = dict(zip(("mu", "sigma"), real_statistics, strict=True))
        sample = fid_features_to_statistics(torch.from_numpy(X))
        return fid_statistics_to_metric(sample, real, False)["frechet_inception_distance"]

    generated = GaussianStatistics(2048)
    generated.update(X)
    mean, covariance = statistics()
    programs = {
        "ours": lambda: frechet_distance(X, reference),
        "ours, statistics at hand": lambda: frechet_distance(generated, reference),
        "pytorch-fid 0.3.0, statistics at hand": lambda: calculate_frechet_distance(
            mean, covariance, *real_statistics
        ),
        "ours, with its deviation": lambda: estimate_frechet_distance(X, reference).value,
        "pytorch-fid 0.3.0": lambda: calculate_frechet_distance(*statistics(), *real_statistics),
        "torch-fidelity 0.4.0": torch_fidelity,
        "torchmetrics 1.9.0": lambda: float(
            _compute_fid(*map(torch.from_numpy, statistics()), *map(torch.from_numpy, real_statistics))
        ),
    }
    rows = []
    for name, program in programs.items():
        seconds, value = timed(program, 3 if name.startswith("ours") else 1)
        rows.append({"program": name, "cpu_seconds": seconds, "value": value})
        print(rows[-1], flush=True)
    records.renew("metrics", f"frechet_{n}", rows)


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
        networks.he_initialize(network, 0)
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


def cost(n: int = 500) -> None:
    """Each piece of `trainables.metrics.scores.score`, the reference at hand."""
    faces = read_tar("celeba10k.tar", 32, limit=3 * n)
    extractor = extractors.load_extractor("efficientnet_lite0", threads=1)
    reference = reference_statistics(faces[n:], extractor, cache_dir=None, key="faces")
    features = extractor(faces[:n])
    pieces = {
        "features": lambda: extractor(faces[:n]),
        "Fréchet distance and its deviation": lambda: estimate_frechet_distance(features, reference),
        "KID and its deviation": lambda: kernel_inception_distance(features, reference),
        "floor, once a reference": lambda: real_floor.__wrapped__(reference, n),
        "all": lambda: score(faces[:n], extractor, reference),
    }
    rows = [{"piece": name, "cpu_seconds": timed(piece, 2)[0]} for name, piece in pieces.items()]
    records.renew("metrics", "cost", rows)


def table() -> None:
    """Print the record. A program is compared with ours from the same: features, or statistics at hand."""
    rows = []
    for n in (1000, 10_000):
        found = {row["program"]: row for row in records.read("metrics", f"frechet_{n}")}
        for name, row in found.items():
            ours = found[", ".join(["ours", *(["statistics at hand"] if "at hand" in name else [])])]
            ratio = f"{row['cpu_seconds'] / ours['cpu_seconds']:.1f}"
            less = "" if name.startswith("ours") else f"{row['value'] - ours['value']:+.0e}"
            rows.append([name, str(n), f"{row['cpu_seconds']:.2f}", ratio, less])
    records.table(["program", "n", "CPU seconds", "times ours", "value less ours"], rows)
    rows = [[row["piece"], f"{row['cpu_seconds']:.3f}"] for row in records.read("metrics", "cost")]
    records.table(["500 images", "CPU seconds"], rows)


def read_tar(name: str, size: int, limit: int | None = None) -> np.ndarray:
    """Return the images of a tar as (n, size, size, 3) uint8: the middle square, averaged down."""
    images = []
    with tarfile.open(REAL / name) as tar:
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
    "cost": cost,
    "table": table,
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
