"""The LEGO-face sweep's budget: how many epochs of training each way of searching takes.

    python -m benchmarks.lego_vae [DATA]            replays 100-trial sweeps against recorded learning curves
    python -m benchmarks.lego_vae record [DATA]     trains what is missing of the curves, three minutes a call

DATA is faces (the default: 16 configurations, one training each) or minifigures (64, three each). A curve is
the validation loss an image (squared error + KL, in nats) of one training on 448 drawn images at 16×16, width
¼, by the slides' loss, Adam and batch of 64, on one thread; a configuration's is the mean of its trainings.
Between the grid's configurations a replay interpolates linearly, in the logarithms of both sizes. All
searches use the same curves, the project's own BayesOptSearch and Ray's own rungs; a trial's score is the
mean of its last three epochs, as in the slides' code. The budget is the sum of epochs trained.
"""

import json
import math
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
from scipy.interpolate import RegularGridInterpolator

from trainables.data.synthetic.drawing import Drawing
from trainables.data.synthetic.faces import FACES
from trainables.data.synthetic.minifigures import MINIFIGURES

EPOCHS, TRIALS, SEEDS = 50, 100, 5
RECORD_SECONDS = 180.0
SETTINGS = {"image_size": 16, "width": 0.25}
TRAIN, VALIDATION, BATCH = 448, 224, 64


@dataclass(frozen=True)
class Grid:
    """The configurations whose curves are recorded, `trainings` times each, and the file of the curves."""

    drawing: Drawing
    file: str
    hidden: tuple[int, ...]
    latent: tuple[int, ...]
    trainings: int

    @property
    def path(self) -> Path:
        """The file of the curves, beside this one; a line a training."""
        return Path(__file__).with_name(self.file)


GRIDS = {
    "faces": Grid(FACES, "lego_curves.jsonl", (128, 323, 813, 2048), (8, 16, 32, 64), 1),
    "minifigures": Grid(
        MINIFIGURES,
        "lego_minifigures.jsonl",
        (128, 190, 283, 420, 624, 927, 1378, 2048),
        (8, 11, 14, 20, 26, 35, 48, 64),
        3,
    ),
}


def trained(grid: Grid) -> dict[tuple[int, int, int], list[float]]:
    """Return the curves there are by (hidden, latent dimension, seed)."""
    lines = grid.path.read_text().splitlines() if grid.path.exists() else []
    curves = map(json.loads, lines)
    return {(c["hidden"], c["latent_dim"], c.get("seed", 0)): c["validation_loss"] for c in curves}


def recorded(grid: Grid) -> dict[tuple[int, int], list[float]]:
    """Return the mean curve of each configuration over the first seeds, as many as all configurations have.

    Where not even the first seed is whole, the curves of that are returned.
    """
    curves = trained(grid)
    sizes = list(product(grid.hidden, grid.latent))
    missing = (seed for seed in range(grid.trainings) if not all((*size, seed) in curves for size in sizes))
    seeds = range(max(1, next(missing, grid.trainings)))
    there = [size for size in sizes if (*size, 0) in curves]
    return {size: np.mean([curves[*size, seed] for seed in seeds], 0).tolist() for size in there}


def record(grid: Grid) -> int:
    """Train for about `RECORD_SECONDS`, append each finished curve; return how many are missing still."""
    import torch

    from trainables.data.batches import to_float

    torch.set_num_threads(1)
    images, _ = grid.drawing.render(TRAIN + VALIDATION, image_size=SETTINGS["image_size"])
    x = to_float(images)
    start = time.monotonic()
    # Seed by seed, so that what is recorded is balanced; small ones first, since the time may be over soon.
    everything = [(h, m, seed) for seed in range(grid.trainings) for h in grid.hidden for m in grid.latent]
    known = trained(grid)
    missing = [key for key in everything if key not in known]
    while missing and time.monotonic() - start < RECORD_SECONDS:
        hidden, latent_dim, seed = missing.pop(0)
        losses = learning_curve(x[:TRAIN], x[TRAIN:], hidden, latent_dim, seed)
        line = {"hidden": hidden, "latent_dim": latent_dim, "seed": seed, "validation_loss": losses}
        with grid.path.open("a") as file:
            file.write(json.dumps(line) + "\n")
        print(f"hidden {hidden}, latent {latent_dim}: {losses[-1]:.2f}; {len(missing)} to go", flush=True)
    return len(missing)


def learning_curve(train, validation, hidden: int, latent_dim: int, seed: int) -> list[float]:
    """Return the validation loss an image after each of `EPOCHS` epochs."""
    import torch

    from trainables.models.lego_vae import LegoVAE

    config = LegoVAE.configure({**SETTINGS, "hidden": hidden, "latent_dim": latent_dim})
    model = LegoVAE(config, seed=seed)
    constant = 0.5 * validation[0].numel() * math.log(math.pi)
    losses = []
    for epoch in range(EPOCHS):
        order = torch.from_numpy(np.random.default_rng([seed, epoch]).permutation(len(train)))
        for first in range(0, len(train), BATCH):
            model.training_step(train[order[first : first + BATCH]])
        noise = torch.Generator().manual_seed(1)
        losses.append(round(float(-model.elbo(validation, noise).elbo.mean()) - constant, 4))
    return losses


class Curves:
    """The learning curve of every configuration: scores (EPOCHS,), each the mean of up to three epochs."""

    def __init__(self, grid: Grid):
        curves, self.latent = recorded(grid), grid.latent
        # The largest sizes are recorded last; the sweep's range ends where the record does.
        self.hidden = [h for h in grid.hidden if all((h, m) in curves for m in grid.latent)]
        if len(self.hidden) < 2:
            raise SystemExit(f"{grid.path} has too few curves; record more")
        values = np.array([[curves[h, m] for m in self.latent] for h in self.hidden])
        ends = np.arange(1, EPOCHS + 1)
        totals = np.concatenate([np.zeros((*values.shape[:2], 1)), values.cumsum(-1)], -1)
        firsts = np.maximum(ends - 3, 0)
        scores = (totals[..., ends] - totals[..., firsts]) / (ends - firsts)
        self.at = RegularGridInterpolator((np.log2(self.hidden), np.log2(self.latent)), scores)
        self.best = scores.min()

    def __call__(self, config: dict[str, int]) -> np.ndarray:
        """Return the scores of a configuration."""
        return self.at(np.log2([config["hidden"], config["latent_dim"]]))[0]


def sweep(curves: Curves, *, stopping: bool, grace: int = 5, **search) -> Iterator[float]:
    """Yield, after each epoch trained, the best score that any trial has reached.

    With `stopping` trials pause by the sweeps' own rule, which spends a third of all epochs.
    """
    from ray import tune

    from searchers.bayesopt.searcher import BayesOptSearch
    from searchers.scheduling.rule import REDUCTION_FACTOR, PauseRule, decide

    searcher = BayesOptSearch(
        {
            "hidden": tune.randint(curves.hidden[0], curves.hidden[-1] + 1),
            "latent_dim": tune.randint(curves.latent[0], curves.latent[-1] + 1),
        },
        metric="loss",
        mode="min",
        max_epochs=EPOCHS,
        **search,
    )
    whole = EPOCHS * TRIALS
    rule = PauseRule(
        EPOCHS,
        grace if stopping else EPOCHS,
        first_trials=search.get("random_starts", 4),
        budget=whole / REDUCTION_FACTOR if stopping else whole,
        max_trials=TRIALS,
    )
    best, scores = math.inf, {}
    while (choice := decide(rule, searcher, str(len(scores)))) is not None:
        trial = choice if isinstance(choice, str) else str(len(scores))
        if trial in scores:
            rule.resume(trial)
            searcher.on_unpause(trial)
        else:
            scores[trial] = curves(choice)
        action = "continue"
        while action == "continue":
            epoch = rule.trials[trial].epoch + 1
            score = float(scores[trial][epoch - 1])
            best = min(best, score)
            yield best
            action = rule.report(trial, epoch, score)
            if action == "pause":
                searcher.on_pause(trial)
            tell = searcher.on_trial_complete if action == "stop" else searcher.on_trial_result
            tell(trial, {"loss": score, "training_iteration": epoch})


PROTOCOLS = {
    "slides: 10 random + 90 GP (ν = 5/2, ρ = 1), EI": {
        "stopping": False,
        "surrogate": "matern",
        "random_starts": 10,
    },
    "random search": {"stopping": False, "random_starts": TRIALS},
    "ours: pausing and resuming": {"stopping": True},
    "ours, nothing halted before 15 epochs": {"stopping": True, "grace": 15},
    "ours, nothing halted": {"stopping": False, "random_starts": 10},
}


def replay(grid: Grid) -> None:
    """Print, for each way of searching, the best score over the epochs trained: medians over seeds."""
    curves = Curves(grid)
    print(f"hidden {curves.hidden[0]} … {curves.hidden[-1]}, latent {curves.latent[0]} … ", end="")
    print(f"{curves.latent[-1]}; ", end="")
    print(f"lowest score of a recorded configuration: {curves.best:.3f}", flush=True)
    paths: dict[str, list[np.ndarray]] = {name: [] for name in PROTOCOLS}
    for seed in range(SEEDS):
        for name, protocol in PROTOCOLS.items():
            path = np.array(list(sweep(curves, seed=seed, **protocol)))
            paths[name].append(path)
            print(f"seed {seed}, {name}: {path[-1]:.3f} after {len(path)} epochs", flush=True)
    slides = next(iter(paths.values()))
    goal = float(np.median([path[-1] for path in slides]))
    whole = EPOCHS * TRIALS
    marks = [whole // 32, whole // 16, whole // 8, whole // 4, whole // 2, whole]
    heads = " | ".join(f"best after {mark}" for mark in marks)
    print(f"\n| search | {heads} | epochs to {goal:.3f} (to the slides' best of its seed) | all epochs |")
    print("|---" * (len(marks) + 3) + "|")
    for name, each in paths.items():
        bests = [np.median([path[min(mark, len(path)) - 1] for path in each]) for mark in marks]
        common = np.median([first_below(path, goal) for path in each])
        own = np.median([first_below(p, q[-1]) for p, q in zip(each, slides, strict=True)])
        total = np.median([len(path) for path in each])
        cells = " | ".join(f"{best:.3f}" for best in bests)
        print(f"| {name} | {cells} | {common:.0f} ({own:.0f}) | {total:.0f} |")


def first_below(path: np.ndarray, goal: float) -> float:
    """Return the number of epochs after which a path of best scores has reached a goal; inf if never."""
    reached = np.flatnonzero(path <= goal + 1e-9)
    return float(reached[0] + 1) if len(reached) else math.inf


def main() -> int:
    """Record or replay."""
    words = sys.argv[1:]
    grid = GRIDS[words[-1] if words and words[-1] in GRIDS else "faces"]
    if words[:1] == ["record"]:
        return 1 if record(grid) else 0
    replay(grid)
    return 0


if __name__ == "__main__":
    sys.exit(main())
