"""Which Gaussian mixture [PML] may have had: scikit-learn's settings against its −1.067·10⁷ and 3831.7.

    python -m benchmarks.mixture run SECONDS    fits what is missing, the cheapest first, to `MIXTURES`
    python -m benchmarks.mixture                prints what there is as a table, the nearest first

The folder of MNIST's idx files is $LATENTUNE_DATA/mnist. Pixels are 0–255. The report gives a sum of
log-likelihoods over the 10 000 test images, and a squared error a pixel of what it does not define: here the
error by the mean of the likeliest component.
"""

import json
import os
import sys
import time
from itertools import product
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sklearn.mixture import GaussianMixture

from analysis.papers import DENSITIES, IMAGES_SUMMED
from trainables.data.sources import load

MIXTURES = Path(__file__).with_name("mixtures.jsonl")
COVARIANCES = ("spherical", "diag", "tied", "full")
COMPONENTS = (1, 2, 5, 10, 20, 50)
FLOORS = (1e-6, 1e-3, 1e-1, 1.0, 10.0)
IMAGES = (5_000, 60_000)
Setting = tuple[str, int, float, int]  # covariance, components, reg_covar, training images


def settings() -> list[Setting]:
    """Return all settings, the cheapest first; a spherical variance is far above any floor."""
    grid = product(IMAGES, COVARIANCES, COMPONENTS, FLOORS)
    all_ = [(kind, components, floor, images) for images, kind, components, floor in grid]
    return [setting for setting in all_ if setting[0] != "spherical" or setting[2] == FLOORS[0]]


def recorded() -> dict[Setting, dict[str, float]]:
    """Return what was fitted, by setting."""
    lines = MIXTURES.read_text().splitlines() if MIXTURES.exists() else []
    rows = map(json.loads, lines)
    return {(r["covariance"], r["components"], r["reg_covar"], r["images"]): r for r in rows}


def run(seconds: float) -> int:
    """Fit what is missing for so many CPU seconds, a line a setting; return how many are missing still."""
    mnist = load(Path(os.environ["LATENTUNE_DATA"]) / "mnist", image_size=28, channels=1)
    pixels = mnist.images.reshape(len(mnist), -1).astype(np.float64)
    test = pixels[mnist.split("test")]
    train = np.delete(pixels, mnist.split("test"), axis=0)
    order = np.random.default_rng(0).permutation(len(train))
    missing = [setting for setting in settings() if setting not in recorded()]
    while missing and time.process_time() < seconds:
        kind, components, floor, images = missing.pop(0)
        line = {"covariance": kind, "components": components, "reg_covar": floor, "images": images}
        line |= fit(train[order[:images]], test, kind, components, floor)
        with MIXTURES.open("a") as file:
            file.write(json.dumps(line) + "\n")
        print(line, flush=True)
    return len(missing)


def fit(
    train: NDArray[np.float64], test: NDArray[np.float64], kind: str, components: int, floor: float
) -> dict[str, float | str]:
    """Return the log-likelihood of all test images and their squared error, or why there is no fit."""
    start = time.process_time()
    mixture = GaussianMixture(components, covariance_type=kind, reg_covar=floor, random_state=0)
    try:
        mixture.fit(train)
    except ValueError as error:  # a covariance that is not positive definite
        return {"error": str(error).split(".")[0]}
    return {
        "log_likelihood": float(mixture.score_samples(test).sum()),
        "squared_error": float(np.square(test - mixture.means_[mixture.predict(test)]).mean()),
        "cpu_seconds": round(time.process_time() - start, 1),
    }


def table() -> None:
    """Print the fits as a table; the nearest to the report's two numbers come first."""
    paper = DENSITIES["mixture"]
    goal = paper.nats * IMAGES_SUMMED

    def distance(row: dict[str, float]) -> float:
        nats, error = row["log_likelihood"] / goal - 1, row["squared_error"] / paper.squared_error - 1
        return float(np.hypot(nats, error))

    rows = recorded().values()
    print("| covariance | components | reg_covar | images | log-likelihood, sum | squared error |")
    print("|---|--:|--:|--:|--:|--:|")
    print(f"| [PML] | | | | {goal:.4g} | {paper.squared_error:.1f} |")
    for r in sorted((row for row in rows if "error" not in row), key=distance):
        scores = f"{r['log_likelihood']:.4g} | {r['squared_error']:.1f}"
        print(f"| {r['covariance']} | {r['components']} | {r['reg_covar']:g} | {r['images']} | {scores} |")


def main() -> int:
    """Fit or print."""
    if sys.argv[1:2] == ["run"]:
        return 1 if run(float(sys.argv[2])) else 0
    table()
    return 0


if __name__ == "__main__":
    sys.exit(main())
