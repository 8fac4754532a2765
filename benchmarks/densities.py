"""[PML]'s Table 1 on MNIST by its own protocol, and ours.

    python -m benchmarks.densities            prints the table of what has been measured
    python -m benchmarks.densities train      goes on measuring, three minutes a call; exit code 0 when done

Protocol: all 60 000 training images, 25 epochs, batch 128, Adam at 1e-3, latent dimension 2; scores of the
10 000 test images, pixels in [0, 1]. The mixture's number of components is chosen on 5000 training images
that are held out, and it is then fitted to all 60 000. One thread. Reads LATENTUNE_DATA/mnist; training is
resumed from `results/densities-benchmark`; scores go to `densities.jsonl` beside this file.
"""

import gzip
import math
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from analysis.papers import DENSITIES
from benchmarks import records
from tests.fixtures.real_data import REAL
from trainables.data.batches import to_float
from trainables.evaluation.likelihoods import score
from trainables.models.bernoulli_vae import BernoulliVAE
from trainables.models.densities import PPCA, GaussianMixture, GaussianMixtureConfig, PPCAConfig
from trainables.tune.densities import train_epoch

ROOT = Path(__file__).resolve().parent.parent
MNIST = REAL / "mnist"
STATES = ROOT / "results" / "densities-benchmark"
EPOCHS, BATCH, SEEDS = 25, 128, 3
SECONDS = 180.0
AVERAGING = 1e-3
COMPONENTS = (5, 10, 20, 40)
HELD_OUT = 5000


@dataclass(frozen=True)
class Run:
    """One VAE to be trained: its name here, the paper's row that it stands beside, its hyperparameters."""

    name: str
    row: str
    values: dict[str, Any]
    seeds: int = SEEDS


# `averaging` changes no step: one training gives the last weights, as in the paper, and the running mean.
RUNS = (
    Run("ReLU", "vae", {"networks": "dense", "averaging": AVERAGING}),
    Run("two hidden layers", "vae", {"networks": "dense", "averaging": AVERAGING, "layers": 2}),
    Run("sine units", "vae", {"networks": "dense", "averaging": AVERAGING, "frequency": 2.0}),
    Run("convolutional", "conv_vae", {"networks": "convolutional", "averaging": AVERAGING}),
    # What `python -m searchers.densities` found, as README.md beside this file tells.
    Run(
        "ReLU, sizes of the sweep",
        "vae",
        {"networks": "dense", "averaging": AVERAGING, "hidden": 933, "latent_dim": 35},
        seeds=1,
    ),
)
PPCAS = {"PPCA": 2, "PPCA, size of the sweep": 512}


def mnist(part: str) -> np.ndarray:
    """Return the images of "train" or "t10k", uint8 (n, 28, 28, 1)."""
    with gzip.open(MNIST / f"{part}-images-idx3-ubyte.gz") as file:
        return np.frombuffer(file.read(), np.uint8, offset=16).reshape(-1, 28, 28, 1)


def train() -> bool:
    """Measure for about `SECONDS`; return whether all is done."""
    torch.set_num_threads(1)
    end = time.monotonic() + SECONDS
    have = {(s["name"], s["seed"]) for s in records.read("densities")}
    images, test = mnist("train"), to_float(mnist("t10k"))
    for name, latent_dim in PPCAS.items():
        if (name, 0) not in have:
            fit_ppca(name, latent_dim, images, test)
    for seed in range(SEEDS):
        for run in RUNS:
            wanted = seed < run.seeds and (run.name, seed) not in have
            if wanted and not train_vae(run, seed, images, test, end):
                return False
    if ("Gaussian mixture", 0) not in have:
        fit_mixture(images, test)
    return True


def train_vae(run: Run, seed: int, images: np.ndarray, test: torch.Tensor, end: float) -> bool:
    """Train from where the last call stopped; return False where the time is over before it is done."""
    model = BernoulliVAE(BernoulliVAE.configure(run.values), seed=seed)
    STATES.mkdir(parents=True, exist_ok=True)
    path = STATES / f"{run.name.replace(' ', '-')}-{seed}.pt"
    first = 0
    if path.exists():
        state = torch.load(path, weights_only=True)
        model.load_training_state(state["model"])
        first = state["epoch"]
    for epoch in range(first, EPOCHS):
        if time.monotonic() > end:
            return False
        train_epoch(model, images, epoch, BATCH, seed)
        torch.save({"model": model.training_state(), "epoch": epoch + 1}, path)
    averaged = score(model, test)
    model.average = None
    row = {"row": run.row, "name": run.name, "seed": seed}
    records.add("densities", row | {"last": score(model, test), "averaged": averaged})
    return True


def fit_ppca(name: str, q: int, images: np.ndarray, test: torch.Tensor) -> None:
    """Fit PPCA of q latents; evaluate its density directly, too, on both pixel scales."""
    model = PPCA(PPCAConfig(latent_dim=q))
    x = to_float(images)
    model.fit(x)
    direct = {}
    for scale in (1, 255):
        X, Y = ((part.flatten(1).double().numpy() + 1) / 2 * scale for part in (x, test))
        variances, axes = np.linalg.eigh(np.cov(X.T))
        noise = variances[:-q].mean()
        W = axes[:, -q:] * np.sqrt(variances[-q:] - noise)
        covariance = W @ W.T + noise * np.eye(784)
        centred = Y - X.mean(0)
        distance = (centred * np.linalg.solve(covariance, centred.T).T).sum(1)
        log_density = -0.5 * (784 * math.log(2 * math.pi) + np.linalg.slogdet(covariance)[1] + distance)
        direct[f"0–{scale}"] = float(log_density.mean())
    row = {"row": "ppca", "name": name, "seed": 0}
    records.add("densities", row | {"last": score(model, test), "direct": direct})


def fit_mixture(images: np.ndarray, test: torch.Tensor) -> None:
    """Choose the number of components on held-out training images, then fit it to all of them."""
    x = to_float(images)
    held_out = {}
    for components in COMPONENTS:
        model = GaussianMixture(GaussianMixtureConfig(components=components))
        model.fit(x[:-HELD_OUT])
        held_out[components] = float(model.log_likelihood(x[-HELD_OUT:]).mean())
        print(f"{components} components: {held_out[components]:.2f} nats held out", flush=True)
    best = max(held_out, key=held_out.get)
    model = GaussianMixture(GaussianMixtureConfig(components=best))
    model.fit(x)
    row = {"row": "mixture", "name": "Gaussian mixture", "seed": 0, "last": score(model, test)}
    records.add("densities", row | {"held_out": held_out, "chosen": best})


def table() -> None:
    """Print what has been measured: mean over seeds and their range."""
    print("| model | nats/image | bits/dim | MSE/pixel | seed: nats | seed: MSE | seeds |")
    print("|---|---|---|---|---|---|---|")
    scores = records.read("densities")
    for name in dict.fromkeys(s["name"] for s in scores):
        mine = [s for s in scores if s["name"] == name]
        for kind in ("last", "averaged"):
            each = [s[kind] for s in mine if kind in s]
            if not each:
                continue
            nats, bits, errors = (
                np.array([s[key] for s in each])
                for key in ("nats_per_image", "bits_per_dim", "reconstruction_mse")
            )
            spread = f" ± {np.ptp(nats) / 2:.2f}" if len(each) > 1 else ""
            seeds_nats, seeds_error = DENSITIES[mine[0]["row"]].on_unit_scale(784)
            title = f"{name}, averaged weights" if kind == "averaged" else name
            print(
                f"| {title} | {nats.mean():.2f}{spread} | {bits.mean():.4f} | {errors.mean():.6f} "
                f"| {seeds_nats:.2f} | {seeds_error:.6f} | {len(each)} |"
            )


def main() -> int:
    """Train or print."""
    if sys.argv[1:] == ["train"]:
        return 0 if train() else 1
    table()
    return 0


if __name__ == "__main__":
    sys.exit(main())
