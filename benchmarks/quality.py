"""What models reach at the same CPU seconds, and the β-VAE-GAN over β: three trainings each.

    python -m benchmarks.quality models RECORD faces PATH/celeba10k.tar PATH/smiles.tar
    python -m benchmarks.quality betas RECORD faces PATH/celeba10k.tar PATH/smiles.tar
    python -m benchmarks.quality table|figure RECORD

In the setting of `python -m searchers.beta_vaegan`: 2500 images at 32×32, batches of 16, a score of 500
samples. A β-VAE-GAN is trained for the preset's epochs, every other model for as many as cost the same CPU
seconds of one thread, by the time of its steps after warming up. Of the models each is tuned first, by this
project's search over two hyperparameters with the budget of three of its trainings, and then trained on seeds
that the search has not seen. RECORD is a file of JSON lines; what it holds is not repeated, so that both
parts can be stopped at any time. Photographs are mirrored at random, drawings are not: their light comes from
a side.
"""

import argparse
import json
import os
import statistics
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray

from analysis.charts.bands import LINES, draw_band
from analysis.charts.style import CYCLE, axis_label, canvas, draw_references, legend_above, use_scale
from searchers.beta_vaegan import PRESETS
from searchers.execution.plan import step_seconds
from searchers.study.study import Study
from searchers.tune import sweep, trainable_for
from trainables.evaluation.generation import generate
from trainables.evaluation.references import reference_scores
from trainables.metrics.manifold import manifold_scores
from trainables.models.base import GenerativeModel
from trainables.tune.baselines import MODERN
from trainables.tune.trainable import GenerativeTrainable

EPOCHS = PRESETS["quick"].epochs  # of the β-VAE-GAN
BETAS = (1.0, 5.0, 12.0, 30.0, 70.0, 150.0)
SEEDS = (0, 1, 2)
DISENTANGLEMENT = ("mig", "dci", "sap", "factor_vae")
TIMED = 40  # steps
TUNING = 3.0  # trainings of each model that its search may spend, stopped ones by their part
SEARCH_SEED = 100
RATE = ("learning_rate", (5e-4, 2e-3, 8e-3))
# Each model's two hyperparameters: the least value, the first that is tried, the greatest; or a choice.
SPACES: dict[str, dict[str, tuple]] = {
    "GAN": dict([RATE, ("penalty", (0.01, 0.05, 1.0))]),
    "WGAN-GP": {"learning_rate": (5e-5, 1e-4, 2e-3), "gradient_penalty": (1.0, 10.0, 30.0)},
    "VAE": dict([RATE, ("beta", (1.0, 10.0, 50.0))]),
    "FactorVAE": {"learning_rate": (1e-4, 1e-3, 5e-3), "gamma": (1.0, 10.0, 50.0)},
    "VAE-GAN": dict([RATE, ("gamma", (0.3, 3.0, 30.0))]),
    "beta-VAE-GAN": dict([RATE, ("beta", (1.0, 12.0, 150.0))]),
    "flow": dict([RATE, ("times", ("logit_normal", "uniform"))]),
    "EDM": dict([RATE, ("noise_deviation", (0.6, 1.2, 2.0))]),
    "latent-flow": dict([RATE, ("beta", (1.0, 5.0, 50.0))]),
}


def model_of(model: str) -> tuple[type[GenerativeModel], dict[str, Any]]:
    """Return a model's class and the settings that it has here."""
    model_class, settings, _ = MODERN[model]
    latents = {"latent_dim": 64} if "latent_dim" in model_class.Config.__dataclass_fields__ else {}
    return model_class, latents | settings


def data_settings(dataset: str) -> dict[str, Any]:
    """Return what all trainings on a data set share."""
    size = PRESETS["quick"]
    names = ("dataset_limit", "image_size", "batch_size", "evaluation_samples")
    return {"dataset": dataset, "flip": dataset != "faces"} | {name: getattr(size, name) for name in names}


def configuration(dataset: str, model: str, values: dict[str, Any], seed: int, epochs: int) -> dict[str, Any]:
    """Return Tune's flat configuration of a training that is evaluated once, at its end."""
    return {
        **data_settings(dataset),
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


def epoch_seconds(dataset: str, model: str) -> float:
    """Return the CPU seconds of an epoch by this model's full step."""
    trainable = trainable_of(model, configuration(dataset, model, {}, 0, 1))
    trainable.model.progress = 0.6  # all networks are trained by then
    seconds, steps = step_seconds(trainable, TIMED), len(trainable.batches)
    trainable.stop()
    # A penalty that is due every eighth step is in the mean, a disturbance of the machine is not.
    return steps * statistics.mean(seconds[: -TIMED // 20])


def search(dataset: str, model: str, folder: Path) -> dict:
    """Tune a model; return the row of its search: the best values, and the epochs of its trainings."""
    from ray import tune

    # Measured at the same moment: these machines are shared.
    cost = epoch_seconds(dataset, model) / epoch_seconds(dataset, "beta-VAE-GAN")
    epochs = max(3, round(EPOCHS / cost))
    space, first = {}, {}
    for name, values in SPACES[model].items():
        words = isinstance(values[0], str)
        space[name] = tune.choice(list(values)) if words else tune.loguniform(values[0], values[-1])
        first[name] = values[0] if words else values[1]
    model_class, settings = model_of(model)
    settings = {name: value for name, value in settings.items() if name not in space}
    outcome = sweep(
        Study(trainable=model_class, space=space, settings=settings, points_to_evaluate=(first,)),
        **data_settings(dataset),
        epochs=epochs,
        evaluate_every=epochs // 3,
        grace_epochs=epochs // 3,
        num_samples=12,
        trainings=TUNING,
        seed=SEARCH_SEED,
        results=str(folder),
        tracking_uri=f"sqlite:///{folder}/mlflow.db",
    )
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


def train(dataset: str, model: str, values: dict[str, Any], seed: int, epochs: int, folder: Path) -> dict:
    """Train one model; return its row, and write its samples into the folder."""
    trainable = trainable_of(model, configuration(dataset, model, values, seed, epochs))
    began = time.process_time()
    result = trainable.train()
    seconds = time.process_time() - began - result.get("evaluation_seconds", 0.0)
    beta = values["beta"] if tuple(values) == ("beta",) else None
    name = "-".join(str(part) for part in (Path(dataset).stem, model, beta, seed) if part is not None)
    (folder / f"{name}.png").write_bytes(result["images"]["samples"])
    scores = {k: v for k, v in result.items() if isinstance(v, int | float) and not k.startswith("gradient")}
    references = reference_scores(trainable.store, trainable.extractor, trainable.reference, 500)
    row = {
        "dataset": Path(dataset).stem,
        "model": model,
        "beta": beta,
        "seed": seed,
        "epochs": epochs,
        "cpu_seconds": round(seconds, 1),
        "metric": trainable.metric,
        "scores": scores | drawing_scores(trainable),
        "references": references,
    }
    trainable.stop()
    return row


def drawing_scores(trainable: GenerativeTrainable) -> dict[str, float]:
    """Return precision and recall against held-out images, an image's CPU time, and the parameters."""
    noise = torch.Generator().manual_seed(0)
    began = time.process_time()
    images = generate(trainable.model, len(trainable.held_out), noise, trainable.held_out_images)
    seconds = time.process_time() - began
    manifold = manifold_scores(*(trainable.extractor(x.numpy()) for x in (images, trainable.held_out_images)))
    return {
        "precision": manifold.precision,
        "recall": manifold.recall,
        "cpu_milliseconds_an_image": 1000 * seconds / len(images),
        "parameters": sum(p.numel() for p in trainable.model.parameters()),
    }


def run(part: str, record: Path, datasets: list[str], seeds: int, processes: int) -> None:
    """Search for and train what the record does not hold yet."""
    folder = record.parent.resolve() / f"{record.stem}-samples"
    folder.mkdir(parents=True, exist_ok=True)

    def write(row: dict) -> None:
        with record.open("a") as file:
            file.write(json.dumps(row) + "\n")
        print(*(row.get(k) for k in ("dataset", "model", "beta", "seed", "epochs", "values")), flush=True)
        print("   ", row["found"] if "search" in row else row["scores"].get(row["metric"]), flush=True)

    tuned = {(row["dataset"], row["model"]): row for row in rows(record) if "search" in row}
    jobs = []
    for dataset in datasets:
        if part == "betas":
            jobs += [(dataset, "beta-VAE-GAN", {"beta": beta}, EPOCHS) for beta in BETAS]
            continue
        for model in SPACES:
            key = (Path(dataset).stem, model)
            if key not in tuned:
                write(tuned.setdefault(key, search(dataset, model, folder)))
            jobs.append((dataset, model, tuned[key]["values"], tuned[key]["epochs"]))
    known = {(row["dataset"], row["model"], row["beta"], row["seed"]) for row in trained(record)}
    with ProcessPoolExecutor(processes, get_context("spawn")) as pool:
        futures = [
            pool.submit(train, dataset, model, values, seed, epochs, folder)
            for seed in SEEDS[:seeds]
            for dataset, model, values, epochs in jobs
            if (Path(dataset).stem, model, values.get("beta") if part == "betas" else None, seed) not in known
        ]
        for future in as_completed(futures):
            write(future.result())


def rows(record: Path) -> list[dict]:
    """Return the rows of a record, none where there is no file."""
    return [json.loads(line) for line in record.read_text().splitlines()] if record.exists() else []


def trained(record: Path) -> list[dict]:
    """Return the rows of trainings."""
    return [row for row in rows(record) if "search" not in row]


def spread(values: list[float]) -> str:
    """Return mean ± standard deviation over seeds."""
    mean = statistics.mean(values)
    digits = 2 if abs(mean) < 5 else 1
    return (
        f"{mean:.{digits}f} ± {statistics.stdev(values):.{digits}f}"
        if len(values) > 1
        else f"{mean:.{digits}f}"
    )


def grouped(record: Path) -> dict[tuple, list[dict]]:
    """Return the rows by data set, model and β, in the record's order."""
    groups: dict[tuple, list[dict]] = {}
    datasets = list(dict.fromkeys(row["dataset"] for row in trained(record)))
    for row in trained(record):
        groups.setdefault((row["dataset"], row["model"], row["beta"]), []).append(row)
    return dict(
        sorted(groups.items(), key=lambda item: (datasets.index(item[0][0]), item[0][1], item[0][2] or 0.0))
    )


def table(record: Path) -> str:
    """Return the results as Markdown, a line a model or β, and what costs nothing."""
    searches = {(row["dataset"], row["model"]): row["values"] for row in rows(record) if "search" in row}
    metric = trained(record)[0]["metric"]
    columns = {
        "FD": (metric, 1.0),
        "FD, ex post": (f"ex_post/{metric}", 1.0),
        "FD, mixture": (f"ex_post_mixture/{metric}", 1.0),
        "KID": (metric.replace("fd_", "kid_"), 1.0),
        "precision": ("precision", 1.0),
        "recall": ("recall", 1.0),
        "squared error ·1000": ("reconstruction_mse", 1000.0),
        "KL, nats": ("kl", 1.0),
        "ms an image": ("cpu_milliseconds_an_image", 1.0),
        "parameters ·1000": ("parameters", 0.001),
    }
    columns = {
        heading: column
        for heading, column in columns.items()
        if any(column[0] in row["scores"] for row in trained(record))
    }
    lines = [
        f"| data | model | trainings | epochs | CPU s | {' | '.join(columns)} |",
        f"|---|---|{'--:|' * (3 + len(columns))}",
    ]
    for (dataset, model, beta), group in grouped(record).items():
        cells = []
        for key, scale in columns.values():
            values = [scale * row["scores"][key] for row in group if key in row["scores"]]
            cells.append(spread(values) if values else "–")
        values = searches.get((dataset, model), {}) if beta is None else {"beta": beta}
        words = ", ".join(f"{name} {v if isinstance(v, str) else f'{v:.3g}'}" for name, v in values.items())
        epochs, seconds = (statistics.median(row[key] for row in group) for key in ("epochs", "cpu_seconds"))
        lines.append(
            f"| {dataset} | {model}: {words} | {len(group)} | {epochs:g} | {seconds:.0f} "
            f"| {' | '.join(cells)} |"
        )
    for dataset in dict.fromkeys(row["dataset"] for row in trained(record)):
        known = next(row["references"] for row in trained(record) if row["dataset"] == dataset)
        lines.append(f"\n{dataset}: " + ", ".join(f"{name} {value:.1f}" for name, value in known.items()))
    return "\n".join(lines)


def figure(record: Path) -> Figure:
    """Draw FD over β for each data set: of the prior's samples and of ex post ones, mean ± deviation."""
    groups = {key: group for key, group in grouped(record).items() if key[1] == "beta-VAE-GAN"}
    datasets = list(dict.fromkeys(key[0] for key in groups))
    result, _ = canvas(4.2 * len(datasets), 4.0)
    result.clear()
    for axes, dataset in zip(result.subplots(1, len(datasets), squeeze=False)[0], datasets, strict=True):
        curves = sorted((key[2], group) for key, group in groups.items() if key[0] == dataset)
        metric = curves[0][1][0]["metric"]
        for key, color, name, line in (
            (metric, "C0", "prior", "-"),
            (f"ex_post/{metric}", "C1", "ex post", "--"),
        ):
            values = by_seed(curves, key)
            draw_band(axes, [beta for beta, _ in curves], values, color, f"{name} (n = {len(values)})", line)
        draw_references(axes, {"real": curves[0][1][0]["references"]["real"]})
        axes.set_xlabel(f"β ({dataset})")
        use_scale(axes, {"log": True})
        axes.set_ylabel(axis_label(metric, 1), fontsize="small")
        axes.set_ylim(bottom=0)
        legend_above(axes, columns=2)
    return result


def by_seed(curves: list[tuple[float, list[dict]]], key: str) -> NDArray[np.float64]:
    """Return a score of each β's trainings, (seeds, βs), of the seeds that all have."""
    seeds = min(len(group) for _, group in curves)
    return np.array([[row["scores"][key] for row in group[:seeds]] for _, group in curves]).T


def disentanglement(record: Path) -> Figure:
    """Draw how far single units stand for single factors, over β, on the drawn faces, mean ± deviation."""
    curves = [(key[2], group) for key, group in grouped(record).items() if key[0] == "faces"]
    result, axes = canvas(6.0, 4.0)
    names = {"mig": "MIG", "dci_disentanglement": "DCI", "sap": "SAP", "factor_vae": "FactorVAE"}
    for (key, name), line in zip(names.items(), LINES, strict=True):
        values = by_seed(curves, f"disentanglement/{key}")
        color = CYCLE[LINES.index(line)]
        draw_band(axes, [beta for beta, _ in curves], values, color, f"{name} (n = {len(values)})", line)
    axes.set(xlabel="β (faces)", ylabel="score, higher is better")
    use_scale(axes, {"log": True})
    axes.set_ylim(bottom=0)
    legend_above(axes, columns=2)
    return result


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("part", choices=("models", "betas", "table", "figure"))
    parser.add_argument("record", type=Path, help="file of JSON lines")
    parser.add_argument("datasets", nargs="*", default=["faces"], help="faces, or paths")
    parser.add_argument("--seeds", type=int, default=len(SEEDS), help="the first so many")
    parser.add_argument("--processes", type=int, default=1, help="trainings side by side, a thread each")
    arguments = parser.parse_args()
    if arguments.part == "table":
        print(table(arguments.record))
    elif arguments.part == "figure":
        figure(arguments.record).savefig(arguments.record.with_suffix(".png"), dpi=120)
        target = arguments.record.with_name(f"{arguments.record.stem}_disentanglement.png")
        disentanglement(arguments.record).savefig(target, dpi=120)
    else:
        datasets = [
            str(Path(name).resolve()) if os.path.exists(name) else name for name in arguments.datasets
        ]
        run(arguments.part, arguments.record, datasets, arguments.seeds, arguments.processes)


if __name__ == "__main__":
    main()
