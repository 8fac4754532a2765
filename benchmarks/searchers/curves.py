"""Full learning curves of our own models, recorded once and replayed in seconds.

`python -m benchmarks.searchers.curves` trains what is missing in `curves.jsonl`, one configuration after
another on one thread; `load` reads the file. Grids of β and learning rate, so that a replay looks values up
and invents none.
"""

import itertools
import json
import os
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

FILE = Path(__file__).with_name("curves.jsonl")
METRIC = "fd_efficientnet_lite0"
EPOCHS = 9
GRIDS = {  # model → (β, learning rate)
    "VAE": (tuple(0.1 * 4.0**i for i in range(6)), (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2)),
    "BetaVAEGAN": (tuple(0.1 * 3.0**i for i in range(8)), (1e-4, 3e-4, 1e-3, 3e-3, 1e-2)),
}
SETTINGS = {
    "dataset": "faces",
    "dataset_limit": 1500,
    "image_size": 16,
    "batch_size": 32,
    "features": "efficientnet_lite0",
    "evaluation_samples": 256,
    "width": 0.25,
    "hidden": 128,
    "latent_dim": 16,
    "seed": 0,
}


def load(model: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the curves, (β, learning rates, EPOCHS), and their sampling noise; nan where one diverged."""
    shape = (*map(len, GRIDS[model]), EPOCHS)
    values, errors = np.full(shape, np.nan), np.full(shape, np.nan)
    for curve in map(json.loads, FILE.read_text().splitlines()):
        if curve["model"] == model:
            at = tuple(curve["index"])
            values[at][: len(curve["values"])] = curve["values"]
            errors[at][: len(curve["errors"])] = curve["errors"]
    return values, errors


def record(seconds: float) -> int:
    """Train for about so many seconds and append the curves; return how many are missing still."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    import trainables

    done = FILE.read_text().splitlines() if FILE.exists() else []
    have = {(c["model"], *c["index"]) for c in map(json.loads, done)}
    every = [(m, *i) for m, g in GRIDS.items() for i in itertools.product(*(range(len(v)) for v in g))]
    missing = [key for key in every if key not in have]
    start, trained, running = time.monotonic(), 0, {}
    for model, i, j in missing:
        if time.monotonic() - start > seconds:
            break
        config = {"beta": GRIDS[model][0][i], "learning_rate": GRIDS[model][1][j]}
        settings = SETTINGS | config | {"cache_dir": os.path.join(tempfile.gettempdir(), "curves")}
        if model in running:
            running[model].reset_config(settings)
        else:
            running[model] = getattr(trainables, model)(config=settings)
        values, errors = [], []
        while len(values) < EPOCHS:
            result = running[model].step()
            values.append(result[METRIC])
            errors.append(result.get(f"{METRIC}_std", float("nan")))
            if result["diverged"]:
                break
        curve = {"model": model, "index": [i, j], **config}
        curve |= {"values": [round(v, 2) for v in values], "errors": [round(v, 2) for v in errors]}
        with FILE.open("a") as file:
            file.write(json.dumps(curve) + "\n")
        trained += 1
    return len(missing) - trained


if __name__ == "__main__":
    left = record(float(sys.argv[1]) if len(sys.argv) > 1 else float("inf"))
    print(f"{left} curves are missing")
