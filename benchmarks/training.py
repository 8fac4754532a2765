"""What a training step costs, beside two peers: `python -m benchmarks.training [PART …]`.

ratios    each model, its networks, batch and data the same, in turns with the peers of `training_peers.py`
          plain: as the papers' code is written: per-image conversion in a DataLoader, the default memory
                 format, one full backward pass for each network's loss with the graph kept
          pythae: Pythae 0.1.2's trainers, given these networks (where it has the model)
options   one model in each number format, memory format, and compiled
table     what is on record of ratios
processes a trial in one process and in two, an epoch of each by turns, with the studies' quick presets

Seconds are CPU time of one thread, which a busy machine changes least; a ratio is the median over turns. The
peer is none of the project's dependencies:
  pip install --target PEERS --no-deps pythae==0.1.2 cloudpickle imageio
  OMP_NUM_THREADS=1 PYTHONPATH=PEERS python -m benchmarks.training ratios --image-size 32 --width 0.25
"""

import argparse
import os
import statistics
import time
from typing import Any

import numpy as np
import torch

from benchmarks import records
from benchmarks.training_peers import Step, build, plain, pythae
from trainables.data.batches import to_float
from trainables.data.synthetic.faces import FACES
from trainables.models.base import GenerativeModel
from trainables.models.bernoulli_vae import BernoulliVAE
from trainables.models.convvae import ConvVAE
from trainables.models.factorvae import FactorVAE
from trainables.models.gan import GAN
from trainables.models.lego_vae import LegoVAE
from trainables.models.vae import VAE
from trainables.models.vaegan import VAEGAN
from trainables.models.vqvae import VQVAE

MODELS: dict[str, tuple[type[GenerativeModel], dict]] = {
    "VAE-GAN, report": (VAEGAN, {"recipe": "report"}),
    "VAE-GAN, larsen": (VAEGAN, {"recipe": "larsen"}),
    "GAN": (GAN, {}),
    "WGAN-GP": (GAN, {"recipe": "wgan_gp"}),
    "VAE": (VAE, {}),
    "FactorVAE": (FactorVAE, {}),
    "VQ-VAE": (VQVAE, {}),
    "ConvVAE": (ConvVAE, {}),
    "LegoVAE": (LegoVAE, {}),
    "BernoulliVAE": (BernoulliVAE, {"networks": "convolutional", "channels": 3}),
}
CRITIC_STEPS = 5
OPTIONS: dict[str, dict] = {
    "float32, channels last": {},
    "float32, channels first": {"channels_last": False},
    "bfloat16": {"dtype": torch.bfloat16},
    "float16": {"dtype": torch.float16},
    "float32, compiled": {"compiled": True},
}


def ours(
    name: str,
    images: np.ndarray,
    args: argparse.Namespace,
    dtype: torch.dtype | None = None,
    channels_last: bool = True,
    compiled: bool = False,
) -> Step:
    model = build(*MODELS[name], args, scale_losses=dtype == torch.float16)
    if not channels_last:
        model.to(memory_format=torch.contiguous_format)
    if compiled:
        model.compile()
    order = np.random.default_rng(0)

    def step() -> None:
        x = to_float(images[order.choice(len(images), args.batch_size, replace=False)])
        x = x if channels_last else x.contiguous()
        with torch.autocast("cpu", dtype or torch.bfloat16, enabled=dtype is not None):
            model.training_step(x)

    return step


def seconds(step: Step, steps: int) -> float:
    start = time.process_time()
    for _ in range(steps):
        step()
    return (time.process_time() - start) / steps


def ratios(args: argparse.Namespace) -> None:
    images = FACES.render(args.images, image_size=args.image_size)[0]
    settings = {key: getattr(args, key) for key in ("image_size", "width", "batch_size", "steps")}
    rows = []
    for name in args.models:
        steps = {
            "ours": ours(name, images, args),
            "plain": plain(*MODELS[name], images, args),
            "pythae": pythae(*MODELS[name], images, args),
        }
        steps = {peer: step for peer, step in steps.items() if step is not None}
        count = args.steps if name != "WGAN-GP" else CRITIC_STEPS  # one of the generator among them
        for step in steps.values():
            for _ in range(count):
                step()  # allocations, and the libraries' choice of kernels
        turns = [{peer: seconds(step, count) for peer, step in steps.items()} for _ in range(args.turns)]
        rows.append({"model": name, **settings, "turns": turns})  # CPU seconds of a step
        print(rows[-1], flush=True)
    records.renew("training", "ratios", rows)


def table(_: argparse.Namespace | None = None) -> None:
    """Print the record: medians over turns (range)."""
    rows = []
    for row in records.read("training", "ratios"):
        speed = row["batch_size"] / statistics.median(turn["ours"] for turn in row["turns"])
        cells = [row["model"], f"{speed:.0f}"]
        for peer in ("plain", "pythae"):
            found = sorted(turn[peer] / turn["ours"] for turn in row["turns"] if peer in turn)
            cells.append(f"{statistics.median(found):.2f} ({found[0]:.2f}–{found[-1]:.2f})" if found else "–")
        rows.append(cells)
    records.table(["model", "ours, images/s", "plain ÷ ours", "Pythae 0.1.2 ÷ ours"], rows)


def options(args: argparse.Namespace) -> None:
    images = FACES.render(args.images, image_size=args.image_size)[0]
    (name, *_) = args.models
    print(f"{name}, {args.image_size}×{args.image_size}, width {args.width}, batches of {args.batch_size}")
    print("| option | images/s | ÷ float32, channels last (range) | first step, s |\n|---|--:|--:|--:|")
    steps = {option: ours(name, images, args, **settings) for option, settings in OPTIONS.items()}
    first = {}
    for option, step in steps.items():
        start = time.monotonic()  # the compiler's other processes count, too
        step()
        first[option] = time.monotonic() - start
    for step in steps.values():
        step()
    turns = [{option: seconds(step, args.steps) for option, step in steps.items()} for _ in range(args.turns)]
    (plainest, *_) = steps
    for option in steps:
        speed = args.batch_size / statistics.median(turn[option] for turn in turns)
        found = sorted(turn[plainest] / turn[option] for turn in turns)
        ratio = f"{statistics.median(found):.2f} ({found[0]:.2f}–{found[-1]:.2f})"
        print(f"| {option} | {speed:.0f} | {ratio} | {first[option]:.1f} |", flush=True)


def processes(args: argparse.Namespace) -> None:
    """The later half of training, where all networks train; both see the same batches."""
    from cluster import ray_patches
    from searchers import beta_vaegan, flow
    from trainables import BetaVAEGAN, Flow

    os.environ["RAY_AUTH_MODE"] = "disabled"
    ray_patches.apply()
    ray_patches.start_patiently(log_to_driver=False, num_cpus=2)
    print("| model | batch | one process, CPU ms | the slower of two | one ÷ two (range) | by the clock |")
    print("|---|--:|--:|--:|--:|--:|")
    for trainable, preset, settings in (
        (BetaVAEGAN, beta_vaegan.PRESETS["quick"], beta_vaegan.RECIPES["quick"]),
        (Flow, flow.PRESETS["quick"], {}),
    ):
        names = ("dataset", "dataset_limit", "image_size", "width")
        config = {name: getattr(preset, name) for name in names} | settings
        config |= {"epochs": 2, "epoch_steps": args.steps, "features": "none"}
        for batch in (preset.batch_size, 4 * preset.batch_size):
            trials = [trainable(config | {"batch_size": batch, "processes": n}) for n in (1, 2)]
            turns = np.array([[epoch_seconds(trial) for trial in trials] for _ in range(args.turns + 1)])[1:]
            one, two = 1000 * np.median(turns[..., 0], 0) / args.steps
            ratios = np.sort(turns[:, 0] / turns[:, 1], 0)
            cells = [trainable.__name__, str(batch), f"{one:.0f}", f"{two:.0f}"]
            cells += [f"{np.median(r):.2f} ({r[0]:.2f}–{r[-1]:.2f})" for r in ratios.T]
            print("| " + " | ".join(cells) + " |", flush=True)
            for trial in trials:
                trial.cleanup()


def epoch_seconds(trial: Any) -> tuple[float, float]:
    """Return the CPU seconds of the slower of a trial's processes in an epoch, and those by the clock."""
    import ray

    others = trial.peers.replicas if trial.peers else []

    def clocks() -> np.ndarray:
        times = [replica.__ray_call__.remote(lambda _: time.process_time()) for replica in others]
        return np.array([time.process_time(), *(ray.get(t) for t in times)])

    before, begin = clocks(), time.monotonic()
    if trial.peers:
        trial.peers.begin(1)
    trial.epoch = 1
    trial.train_epoch({}, {})
    if trial.peers:
        trial.peers.finish({})
    seconds = time.monotonic() - begin
    return float((clocks() - before).max()), seconds


PARTS = {"ratios": ratios, "options": options, "processes": processes, "table": table}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="*", choices=list(PARTS), default=["ratios"])
    parser.add_argument("--models", nargs="+", choices=list(MODELS), default=list(MODELS))
    parser.add_argument("--image-size", type=int, default=64)
    parser.add_argument("--width", type=float, default=1.0)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--images", type=int, default=512)
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--turns", type=int, default=5)
    args = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    for part in args.parts:
        PARTS[part](args)


if __name__ == "__main__":
    main()
