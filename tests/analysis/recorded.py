"""Sweeps as the project records them, without the training: the real recorder and delivery, invented scores.

The numbers are a function of the seed; nothing here is a result.
"""

import io
import json
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import Mock, patch

import numpy as np
from PIL import Image

from searchers.ledger import Ledger
from searchers.recorder import Recorder
from searchers.recording import Delivery, SweepRecord

BEGIN = 1_790_000_000.0  # seconds since 1970
METRIC = "fd_efficientnet_lite0"
SETTINGS = {"dataset": "faces", "dataset_limit": 300, "image_size": 32, "width": 0.25}
SETTINGS |= {"seed": 0, "evaluation_samples": 500}
IDENTITY = "efficientnet_lite0-579344248a93-antialias64"
SPACES = {
    1: {"beta": {"type": "float", "lower": 1.0, "upper": 150.0, "log": False}},
    3: {
        "beta": {"type": "float", "lower": 1.0, "upper": 150.0, "log": False},
        "learning_rate": {"type": "float", "lower": 1e-5, "upper": 1e-2, "log": True},
        "latent_dim": {"type": "int", "lower": 8, "upper": 128, "log": False},
    },
}


@dataclass(frozen=True)
class Imagined:
    """What sweep to make up."""

    name: str
    trials: int = 12
    epochs: int = 9
    dimensions: int = 1
    seed: int = 0
    images: bool = True
    experiment: str = "beta-vae-gan"
    status: str | None = "FINISHED"
    extractor: str = IDENTITY
    std: float = 2.0
    points: tuple[dict, ...] = ()
    tags: tuple[tuple[str, str], ...] = ()
    stopping: bool = True
    seeds: int = 0


def record(
    imagined: Imagined, folder: Path, tracking_uri: str, delivery_class: type[Delivery] = Delivery
) -> Delivery:
    """Write the ledger through `Recorder`, deliver it through `Delivery`; return the latter."""
    space = SPACES[imagined.dimensions]
    folder = folder / imagined.name
    ledger = Ledger(folder / "ledger.jsonl")
    with patch("searchers.ledger.time.time") as clock, patch("searchers.ledger.os.fsync"):
        play(imagined, Recorder(ledger, folder, imagined.epochs), space, clock)
    delivery = delivery_class(ledger, folder, tracking_uri, sweep_record(imagined, space))
    delivery.start()
    unsent = delivery.close(timeout=1200)
    ledger.close()
    if unsent:
        raise RuntimeError(f"{unsent} events unsent: {delivery.error}")
    return delivery


def play(imagined: Imagined, recorder: Recorder, space: dict, clock: Mock) -> None:
    """Run the trials on two imagined workers: every third is stopped early, the sixth diverges."""
    random = np.random.default_rng(imagined.seed)
    free = [BEGIN, BEGIN + 1.0]  # when each worker is free again
    events = []
    for number in range(imagined.trials):
        worker = int(np.argmin(free))
        config = {name: draw(domain, random) for name, domain in space.items()}
        config |= imagined.points[number] if imagined.points else {}
        trial = SimpleNamespace(
            trial_id=f"{imagined.name}-{number:05d}",
            config=SETTINGS | config,
            get_ray_actor_ip=lambda worker=worker: f"10.0.0.{worker + 1}",
        )
        events.append((free[worker], recorder.on_trial_start, trial, None))
        diverges = imagined.stopping and number == 5
        stopped = imagined.stopping and number % 3 == 2 and not diverges
        for epoch in range(1, imagined.epochs + 1):
            free[worker] += random.uniform(8, 12)
            result = scores(config, epoch, random, imagined.std)
            result |= {"training_iteration": epoch, "pid": 7, "diverged": diverges and epoch == 3}
            if result["diverged"]:
                result[METRIC] = float("nan")
            if imagined.images and epoch in (1, imagined.epochs):
                names = ("samples", "reconstructions")
                result["images"] = {name: picture(number, epoch, k) for k, name in enumerate(names)}
            events.append((free[worker], recorder.on_trial_result, trial, result))
            if result["diverged"] or (stopped and epoch == 3):
                break
        if imagined.status is not None or number < imagined.trials - 1:
            events.append((free[worker], recorder.on_trial_complete, trial, None))
        free[worker] += 0.5
    for time, callback, trial, result in sorted(events, key=lambda event: event[0]):
        clock.return_value = time
        callback(0, [], trial, *([] if result is None else [result]))
    if imagined.status is not None:
        clock.return_value = max(free)
        recorder.ledger.append("note", status=imagined.status)


def sweep_record(imagined: Imagined, space: dict) -> SweepRecord:
    """Say of the sweep what `searchers.summary.about` says."""
    provenance = {
        "features": imagined.extractor,
        "reference_images": 3600,
        "data_hash": "0123abcd",
        "likelihood": "gaussian, identity covariance, pixels in [-1, 1]",
    }
    params = {"name": imagined.name, "epochs": imagined.epochs, "num_samples": imagined.trials}
    params |= {"grace_epochs": 1, "no_early_stopping": False, "dataset": "faces", "image_size": 32}
    if imagined.seeds:
        space = space | {"seed": {"type": "int", "lower": 0, "upper": imagined.seeds - 1, "log": False}}
    params |= provenance | {f"space/{name}": json.dumps(domain) for name, domain in space.items()}
    return SweepRecord(
        sweep_id=f"id-{imagined.name}-{imagined.seed}",
        name=imagined.name,
        experiment=imagined.experiment,
        description=f"**{imagined.name}**: made up for a test.",
        params=params,
        tags={
            "metric": METRIC,
            "mode": "min",
            "latentune.command": f"python -m searchers.beta_vaegan --name {imagined.name}",
            "latentune.program": "searchers.beta_vaegan",
            "latentune.model": "trainables.models.vaegan:VAEGAN",
            **dict(imagined.tags),
        },
        trial_params=lambda config: {**provenance, "beta_norm": config["beta"] / 96},
    )


def draw(domain: dict, random: np.random.Generator) -> float | int:
    """Draw a value of a dimension."""
    low, high = domain["lower"], domain["upper"]
    if domain["type"] == "int":
        return int(random.integers(low, high + 1))
    if domain["log"]:
        return float(np.exp(random.uniform(np.log(low), np.log(high))))
    return float(random.uniform(low, high))


def scores(config: dict, epoch: int, random: np.random.Generator, std: float) -> dict[str, float]:
    """Make up an epoch's scores: a bowl around β = 75 that training approaches."""
    bowl = 120 + 60 * ((config["beta"] - 75) / 75) ** 2
    bowl += 15 * abs(np.log10(config.get("learning_rate", 3e-4) / 3e-4))
    value = bowl + 150 * np.exp(-epoch / 3) + std * random.normal()
    return {
        METRIC: float(value),
        f"{METRIC}_std": std,
        "kid_efficientnet_lite0": float(value / 1000),
        "kid_efficientnet_lite0_std": std / 1000,
        "evaluated_images": 500,
        "elbo": float(-3000 + 100 * epoch - config["beta"]),
        "kl": float(60 / (1 + config["beta"] / 20)),
        "reconstruction_mse": float(0.01 + 0.0002 * config["beta"] + 0.02 / epoch),
        "loss/feature": float(20 / epoch),
        "loss/kl": float(60 / (1 + config["beta"] / 20)),
        "loss/gan": 1.9,
        "loss/discriminator_accuracy": 0.8,
        "images_per_second": 400.0,
        "evaluation_seconds": 3.0,
    }


def picture(*seed: int) -> bytes:
    """Draw a grid that is another one for each seed."""
    random = np.random.default_rng(seed)
    cells = random.integers(0, 256, (8, 8, 3), dtype=np.uint8).repeat(16, 0).repeat(16, 1)
    file = io.BytesIO()
    Image.fromarray(cells).save(file, "PNG")
    return file.getvalue()
