"""What models reach at the same CPU seconds, and the β-VAE-GAN over β: three trainings each.

    python -m benchmarks.quality models RECORD faces PATH/celeba10k.tar PATH/smiles.tar
    python -m benchmarks.quality betas RECORD faces PATH/celeba10k.tar PATH/smiles.tar
    python -m benchmarks.quality betas RECORD faces --preset thorough
    python -m benchmarks.quality betas RECORD PATH/celeba10k.tar --penalty 5
    python -m benchmarks.quality papers RECORD faces

`quality_report.py` makes tables and figures of RECORD.

In the setting of `python -m searchers.beta_vaegan`: 2500 images at 32×32, batches of 16, a score of 500
samples. A β-VAE-GAN is trained for the preset's epochs, every other model for as many as cost the same CPU
seconds of one thread, by the time of its steps throughout training. Each model is tuned first, by this
project's search over two hyperparameters with the budget of three of its trainings. The setting that its
search began with is trained to the end as well, and the better of both is then trained on seeds that the
search has not seen. `papers` are the networks, losses and rates of [BVG] at a quarter of their width, as they
are. RECORD is a file of JSON lines; what it holds is not repeated, so that both parts can be stopped at any
time. Photographs are mirrored at random, drawings are not: their light comes from a side.
"""

import argparse
import json
import math
import os
import time
from collections.abc import Callable
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from contextlib import nullcontext
from itertools import product
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch

from analysis.papers import BASELINE_FID
from searchers.beta_vaegan import PRESETS
from searchers.execution.plan import step_seconds
from searchers.study.study import Study
from searchers.tune import sweep, trainable_for
from trainables.evaluation.generation import generate
from trainables.evaluation.references import reference_scores
from trainables.metrics.manifold import manifold_scores
from trainables.models.base import GenerativeModel
from trainables.tune.baselines import MODELS, MODERN
from trainables.tune.trainable import GenerativeTrainable

EPOCHS = PRESETS["quick"].epochs  # of the β-VAE-GAN
BETAS = (1.0, 5.0, 12.0, 30.0, 70.0, 150.0)
SEEDS = (0, 1, 2)
BETA = "beta-VAE-GAN"
OF_PAPER, PAPERS_WIDTH, PAPERS_BETA = " of [BVG]", 0.25, 75.0
APART, APART_BETA = "beta-VAE-GAN, the encoder apart", 5.0  # no adversarial gradient goes into the encoder
PENALTY = "beta-VAE-GAN, penalty "  # of a model's name, a value behind it
DISENTANGLEMENT = ("mig", "dci", "sap", "factor_vae")
MOMENTS, TIMED = 20, 8  # moments of training at which steps are timed, and how many there
TUNING = 3.0  # trainings of each model that its search may spend, stopped ones by their part
SEARCH_SEED = 100
RATE = ("learning_rate", (5e-4, 2e-3, 8e-3))
VAES_RATE = ("learning_rate", (1e-3, 8e-3, 3e-2))
PENALTIES = ("penalty", (0.01, 0.05, 10.0))  # of the discriminator's gradients, as the main job has them
# Each model's two hyperparameters: the least value, the first that is tried, the greatest; or a choice.
SPACES: dict[str, dict[str, tuple]] = {
    "GAN": dict([RATE, PENALTIES]),
    "WGAN-GP": {"learning_rate": (5e-5, 1e-4, 2e-3), "gradient_penalty": (1.0, 10.0, 30.0)},
    "VAE": dict([VAES_RATE, ("beta", (0.3, 1.0, 50.0))]),
    "FactorVAE": {"learning_rate": (1e-4, 1e-3, 5e-3), "gamma": (1.0, 10.0, 50.0)},
    "VAE-GAN": dict([PENALTIES, ("gamma", (0.3, 3.0, 30.0))]),
    "beta-VAE-GAN": dict([PENALTIES, ("beta", (1.0, 5.0, 150.0))]),
    "flow": dict([RATE, ("times", ("logit_normal", "uniform"))]),
    "EDM": dict([RATE, ("noise_deviation", (0.6, 1.2, 2.0))]),
    "latent-flow": {"learning_rate": (5e-4, 8e-3, 3e-2), "beta": (0.3, 1.0, 50.0)},
}


def model_of(model: str) -> tuple[type[GenerativeModel], dict[str, Any]]:
    """Return a model's class and the settings that it has here."""
    if model.endswith(OF_PAPER):
        model_class, settings, _ = MODELS[model.removesuffix(OF_PAPER)]
        return model_class, settings | {"width": PAPERS_WIDTH}
    model_class, settings, _ = MODERN[BETA if model.startswith((APART, PENALTY)) else model]
    if model == APART:
        settings = settings | {"encoder_adversarial": False}
    if model.startswith(PENALTY):
        settings = settings | {"penalty": float(model.removeprefix(PENALTY))}
    latents = {"latent_dim": 64} if "latent_dim" in model_class.Config.__dataclass_fields__ else {}
    return model_class, latents | settings


def data_settings(dataset: str, preset: str = "quick") -> dict[str, Any]:
    """Return what all trainings on a data set share."""
    size = PRESETS[preset]
    names = ("dataset_limit", "image_size", "batch_size", "evaluation_samples")
    shared = {"dataset": dataset, "flip": dataset != "faces", "precision": "float32"}
    return shared | {name: getattr(size, name) for name in names}


def configuration(
    dataset: str, model: str, values: dict[str, Any], seed: int, epochs: int, preset: str = "quick"
) -> dict[str, Any]:
    """Return Tune's flat configuration of a training that is evaluated once, at its end."""
    return {
        **data_settings(dataset, preset),
        "disentanglement": DISENTANGLEMENT if dataset == "faces" else False,
        "images": True,
        "epochs": epochs,
        "evaluate_every": epochs,
        "seed": seed,
        **model_of(model)[1],
        **values,
    }


def trainable_of(model: str, config: dict[str, Any]) -> GenerativeTrainable:
    """Return a trainable of a model, one thread."""
    torch.set_num_threads(1)
    return trainable_for(model_of(model)[0])(config)


def equal_epochs(dataset: str, model: str) -> int:
    """Return in how many epochs a model costs as a β-VAE-GAN does.

    Both are timed in turn, from the beginning of training to its end: networks join and leave on the way.
    """
    pair = [trainable_of(name, configuration(dataset, name, {}, 0, 1)) for name in (model, BETA)]
    seconds = [0.0, 0.0]
    for moment, (k, trainable) in product(range(MOMENTS), enumerate(pair)):
        trainable.model.progress = (moment + 0.5) / MOMENTS
        seconds[k] += sum(step_seconds(trainable, TIMED)) * len(trainable.batches)
    for trainable in pair:
        trainable.stop()
    return max(3, round(EPOCHS * seconds[1] / seconds[0]))


def beta_of(values: dict[str, Any]) -> float | None:
    """Return β where nothing else is set."""
    return values["beta"] if tuple(values) == ("beta",) else None


def first(model: str) -> dict[str, Any]:
    """Return the setting that a model's search begins with: its recipe's own."""
    return {name: v[0] if isinstance(v[0], str) else v[1] for name, v in SPACES[model].items()}


def search(dataset: str, model: str, folder: Path) -> dict:
    """Tune a model; return the row of its search: the best values, and the epochs of its trainings."""
    from ray import tune

    epochs = equal_epochs(dataset, model)
    space = {
        name: tune.choice(list(v)) if isinstance(v[0], str) else tune.loguniform(v[0], v[-1])
        for name, v in SPACES[model].items()
    }
    model_class, settings = model_of(model)
    settings = {name: value for name, value in settings.items() if name not in space}
    outcome = sweep(
        Study(trainable=model_class, space=space, settings=settings, points_to_evaluate=(first(model),)),
        **data_settings(dataset),
        epochs=epochs,
        evaluate_every=epochs // 3,
        grace_epochs=epochs // 3,
        early_stopping=model != "latent-flow",  # there is no flow before `first_share` of training
        num_samples=12,
        trainings=TUNING,
        seed=SEARCH_SEED,
        results=str(folder),
        tracking_uri=f"sqlite:///{folder}/mlflow.db",
    )
    if outcome.ending.interrupted:
        raise KeyboardInterrupt
    assert outcome.best is not None, f"no trial of {model} on {dataset} has a score"
    return {
        "search": True,
        "dataset": Path(dataset).stem,
        "model": model,
        "epochs": epochs,
        "values": {name: outcome.best.config[name] for name in space},
        "trials": len(outcome.records),
        "finished": sum(record.status == "finished" for record in outcome.records),
        "found": outcome.best.last(outcome.study.metric),
    }


def train(
    dataset: str,
    model: str,
    values: dict[str, Any],
    seed: int,
    epochs: int,
    folder: Path,
    preset: str = "quick",
) -> dict:
    """Train one model; return its row, and write its samples into the folder.

    A row of a training that diverged has the reason, `diverged`, in place of scores.
    """
    trainable = trainable_of(model, configuration(dataset, model, values, seed, epochs, preset))
    seconds = timed(trainable)
    result = trainable.train()
    beta = beta_of(values)
    row = {"dataset": Path(dataset).stem, "model": model, "beta": beta, "seed": seed, "epochs": epochs}
    row["values"] = values
    row["cpu_seconds"] = round(sum(seconds), 1)
    if result["diverged"]:
        trainable.stop()
        return row | {"diverged": result["flags"]}
    name = samples_name(Path(dataset).stem, model, beta, seed)
    (folder / f"{name}.png").write_bytes(result["images"]["samples"])
    scores = {k: v for k, v in result.items() if isinstance(v, int | float) and not k.startswith("gradient")}
    row["metric"] = trainable.metric
    row["scores"] = scores | drawing_scores(trainable)
    row["references"] = reference_scores(
        trainable.store, trainable.extractor, trainable.reference, trainable.training.evaluation_samples
    )
    trainable.stop()
    return row


def timed(trainable: GenerativeTrainable) -> list[float]:
    """Return a list that takes the CPU seconds of each epoch that is trained from now on."""
    seconds: list[float] = []
    train_epoch = trainable.train_epoch

    def train(*arguments: Any) -> None:
        began = time.process_time()
        train_epoch(*arguments)
        seconds.append(time.process_time() - began)

    trainable.train_epoch = train  # type: ignore[method-assign]
    return seconds


def drawing_scores(trainable: GenerativeTrainable) -> dict[str, float]:
    """Return precision and recall against held-out images, an image's CPU time, and the parameters."""
    noise = torch.Generator().manual_seed(0)
    began = time.process_time()
    with trainable.mean.in_place() if trainable.mean else nullcontext():
        images = generate(trainable.model, len(trainable.held_out), noise, trainable.held_out_images)
    seconds = time.process_time() - began
    manifold = manifold_scores(*(trainable.extractor(x.numpy()) for x in (images, trainable.held_out_images)))
    return {
        "precision": manifold.precision,
        "recall": manifold.recall,
        "cpu_milliseconds_an_image": 1000 * seconds / len(images),
        "parameters": sum(p.numel() for p in trainable.model.parameters()),
    }


def run(
    part: str,
    record: Path,
    datasets: list[str],
    seeds: int,
    processes: int,
    preset: str,
    penalty: float | None = None,
) -> None:
    """Search for and train what the record does not hold yet."""
    folder = samples_folder(record)
    folder.mkdir(parents=True, exist_ok=True)

    def write(row: dict) -> None:
        with record.open("a") as file:
            file.write(json.dumps(row) + "\n")
        keys = ("dataset", "model", "beta", "seed", "epochs", "values", "found", "diverged")
        told = (row.get(k) for k in keys)
        print(*told, row["scores"][row["metric"]] if "scores" in row else "", flush=True)

    if part == "betas":
        epochs = PRESETS[preset].epochs
        if others := {row["epochs"] for row in trained(record)} - {epochs}:
            raise SystemExit(
                f"{record} has trainings of {max(others)} epochs, not {epochs}: name another file"
            )
        model = BETA if penalty is None else f"{PENALTY}{penalty:g}"
        ways = [(model, beta) for beta in BETAS] + ([(APART, APART_BETA)] if penalty is None else [])
        jobs = [
            (dataset, model, {"beta": beta}, epochs) for dataset, (model, beta) in product(datasets, ways)
        ]
    elif part == "papers":
        papers = {f"{name}{OF_PAPER}": {} for name in BASELINE_FID} | {BETA + OF_PAPER: {"beta": PAPERS_BETA}}
        jobs = [
            (dataset, model, values, equal_epochs(dataset, model))
            for dataset, (model, values) in product(datasets, papers.items())
        ]
    else:
        tune_models(record, datasets, processes, write)
        chosen = best(record)
        jobs = [
            (dataset, model, row["values"], row["epochs"])
            for dataset, model in product(datasets, SPACES)
            for row in [chosen[Path(dataset).stem, model]]
        ]
    ended = trained(record) + trained(record, diverged=True)
    known = {(row["dataset"], row["model"], row["beta"], row["seed"]) for row in ended}
    with ProcessPoolExecutor(processes, get_context("spawn")) as pool:
        trainings = [
            pool.submit(train, dataset, model, values, seed, epochs, folder, preset)
            for seed in SEEDS[:seeds]
            for dataset, model, values, epochs in jobs
            if (Path(dataset).stem, model, beta_of(values), seed) not in known
        ]
        for training in as_completed(trainings):
            if (result := result_of(training)) is not None:
                write(result)


def tune_models(record: Path, datasets: list[str], processes: int, write: Callable[[dict], None]) -> None:
    """Search for each model's setting, and train the one that its search began with to the end."""
    folder = samples_folder(record)
    for dataset, model in product(datasets, SPACES):
        if (Path(dataset).stem, model) not in tried(record, True):
            write(search(dataset, model, folder))
    searched, own = tried(record, True), tried(record, False)
    missing = [
        (dataset, model)
        for dataset, model in product(datasets, SPACES)
        if (Path(dataset).stem, model) not in own
    ]
    with ProcessPoolExecutor(processes, get_context("spawn")) as pool:
        futures = {}
        for dataset, model in missing:
            row = searched[Path(dataset).stem, model] | {"search": False, "values": first(model)}
            job = (dataset, model, row["values"], SEARCH_SEED, row["epochs"], folder)
            futures[pool.submit(train, *job)] = row
        for future in as_completed(futures):
            if (result := result_of(future)) is None:
                continue
            found = math.inf if "diverged" in result else result["scores"][result["metric"]]
            write(futures[future] | {"found": found})


def result_of(training: Future[dict]) -> dict | None:
    """Return a training's row; None, after its reason, where it failed, so that no other is lost by it."""
    try:
        return training.result()
    except Exception as error:
        print(f"A training failed, and is done again by the next call: {error!r}", flush=True)
        return None


def samples_folder(record: Path) -> Path:
    """Return the folder of the samples that a record's trainings drew."""
    return record.parent.resolve() / f"{record.stem}-samples"


def samples_name(*parts: str | float | None) -> str:
    """Return the name of a training's samples: data set, model, β where that is all that is set, and seed."""
    return "-".join(str(part) for part in parts if part is not None)


def tried(record: Path, search: bool) -> dict[tuple[str, str], dict]:
    """Return, by data set and model, what searches ended with, or their first settings trained to the end."""
    return {(row["dataset"], row["model"]): row for row in rows(record) if row.get("search") is search}


def best(record: Path) -> dict[tuple[str, str], dict]:
    """Return the better of both for each data set and model."""
    own = tried(record, False)
    return {
        key: min(row, own.get(key, row), key=lambda row: row["found"])
        for key, row in tried(record, True).items()
    }


def rows(record: Path) -> list[dict]:
    """Return the rows of a record, none where there is no file."""
    return [json.loads(line) for line in record.read_text().splitlines()] if record.exists() else []


def trained(record: Path, diverged: bool = False) -> list[dict]:
    """Return the rows of trainings that have scores, or of those that diverged."""
    return [row for row in rows(record) if "search" not in row and ("diverged" in row) is diverged]


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("part", choices=("models", "betas", "papers"))
    parser.add_argument("record", type=Path, help="file of JSON lines")
    parser.add_argument("datasets", nargs="*", default=["faces"], help="faces, or paths")
    parser.add_argument("--seeds", type=int, default=len(SEEDS), help="the first so many")
    parser.add_argument("--processes", type=int, default=1, help="trainings side by side, a thread each")
    parser.add_argument("--preset", choices=("quick", "thorough"), default="quick", help="of betas alone")
    parser.add_argument("--penalty", type=float, help="of betas alone: the discriminator's, not the recipe's")
    arguments = parser.parse_args()
    if arguments.part != "betas" and (arguments.preset != "quick" or arguments.penalty is not None):
        parser.error("--preset and --penalty are of betas alone")
    datasets = [str(Path(name).resolve()) if os.path.exists(name) else name for name in arguments.datasets]
    sizes = (arguments.seeds, arguments.processes, arguments.preset, arguments.penalty)
    run(arguments.part, arguments.record, datasets, *sizes)


if __name__ == "__main__":
    main()
