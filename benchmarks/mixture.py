"""Which Gaussian mixture [PML] may have had: scikit-learn's settings against its −1.067·10⁷ and 3831.7.

    python -m benchmarks.mixture run SECONDS    fits what is missing, the cheapest first, to `mixtures.jsonl`
    python -m benchmarks.mixture                prints what there is as a table

The folder of MNIST's idx files is $LATENTUNE_DATA/mnist. Pixels are 0–255, or each is standardized by the
training images (a constant one stays 0); squared errors are on 0–255 always. The report gives a sum of
log-likelihoods over the 10 000 test images, and a squared error a pixel of what it does not define: here the
error by the mean of the likeliest component.
"""

import os
import sys
import time
from itertools import product
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sklearn.mixture import GaussianMixture

from analysis.papers import DENSITIES, IMAGES_SUMMED
from analysis.papers import PIXELS as DIMS
from benchmarks import records
from trainables.data.sources import load

COVARIANCES = ("spherical", "diag", "tied", "full")
COMPONENTS = (1, 2, 3, 4, 5, 10, 20, 50)
FLOORS = (1e-6, 1e-3, 1e-1, 1.0, 10.0)
IMAGES = (5_000, 60_000)
PIXELS = ("0-255", "standardized")
Setting = tuple[str, str, int, float, int]  # pixels, covariance, components, reg_covar, training images
NAMES = ("pixels", "covariance", "components", "reg_covar", "images")


def settings() -> list[Setting]:
    """Return all settings, the cheapest first; a spherical variance is far above any floor."""
    grid = product(PIXELS, COVARIANCES, COMPONENTS, FLOORS, IMAGES)
    return sorted((s for s in grid if s[1] != "spherical" or s[3] == FLOORS[0]), key=cost)


def cost(setting: Setting) -> int:
    """Return about how many products an iteration of EM takes."""
    _, kind, components, _, images = setting
    return components * images * (DIMS if kind in ("tied", "full") else 1)


def recorded() -> dict[Setting, dict[str, float]]:
    """Return what was fitted, by setting."""
    return {tuple(row[name] for name in NAMES): row for row in records.read("mixtures")}


def run(seconds: float) -> int:
    """Fit what is missing for so many CPU seconds, a line a setting; return how many are missing still."""
    mnist = load(Path(os.environ["LATENTUNE_DATA"]) / "mnist", image_size=28, channels=1)
    levels = mnist.images.reshape(len(mnist), -1).astype(np.float64)
    test = levels[mnist.split("test")]
    train = np.delete(levels, mnist.split("test"), axis=0)
    order = np.random.default_rng(0).permutation(len(train))
    scales = {"0-255": (np.zeros(DIMS), np.ones(DIMS)), "standardized": (train.mean(0), train.std(0))}
    known = recorded()
    missing = [setting for setting in settings() if setting not in known]
    while missing and time.process_time() < seconds:
        pixels, kind, components, floor, images = setting = missing.pop(0)
        mean, std = scales[pixels]
        line = dict(zip(NAMES, setting, strict=True))
        line |= fit(train[order[:images]], test, kind, components, floor, (mean, np.where(std, std, 1.0)))
        records.add("mixtures", line)
    return len(missing)


def fit(
    train: NDArray[np.float64],
    test: NDArray[np.float64],
    kind: str,
    components: int,
    floor: float,
    scale: tuple[NDArray[np.float64], NDArray[np.float64]],
) -> dict[str, float | str]:
    """Return the log-likelihood of all test images and their squared error, or why there is no fit.

    The mixture sees (pixels − mean) / std, by `scale`.
    """
    start = time.process_time()
    mean, std = scale
    seen = (test - mean) / std
    mixture = GaussianMixture(components, covariance_type=kind, reg_covar=floor, random_state=0)
    try:
        mixture.fit((train - mean) / std)
    except ValueError as error:  # a covariance that is not positive definite
        return {"error": str(error).split(".")[0]}
    nearest = mixture.means_[mixture.predict(seen)] * std + mean
    return {
        "log_likelihood": float(mixture.score_samples(seen).sum()),
        "squared_error": float(np.square(test - nearest).mean()),
        "cpu_seconds": round(time.process_time() - start, 1),
    }


def table() -> None:
    """Print the fits: log-likelihoods in units of 10⁷, and after the dot the squared errors."""
    paper = DENSITIES["mixture"]
    goal = f"{paper.nats * IMAGES_SUMMED / 1e7:.4g} · {paper.squared_error:.0f}"
    rows = recorded()
    counts = sorted({setting[2] for setting in rows})
    print(f"| {goal} | covariance | reg_covar | images | {' | '.join(map(str, counts))} |")
    print(f"|---|---|--:|--:{'|--:' * len(counts)}|")
    for pixels, kind, floor, images in sorted({(s[0], s[1], s[3], s[4]) for s in rows}):
        cells = [shown(rows.get((pixels, kind, count, floor, images))) for count in counts]
        print(f"| {pixels} | {kind} | {floor:g} | {images} | {' | '.join(cells)} |")


def shown(row: dict[str, float] | None) -> str:
    """Return a fit as a cell; a dash where there is none."""
    if row is None or "error" in row:
        return "–"
    return f"{row['log_likelihood'] / 1e7:.4g} · {row['squared_error']:.0f}"


def main() -> int:
    """Fit or print."""
    if sys.argv[1:2] == ["run"]:
        return 1 if run(float(sys.argv[2])) else 0
    table()
    return 0


if __name__ == "__main__":
    sys.exit(main())
