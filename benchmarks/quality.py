"""What models reach at the same CPU seconds, and the β-VAE-GAN over β: three trainings each, no search.

    python -m benchmarks.quality models RECORD faces PATH/celeba10k.tar PATH/smiles.tar
    python -m benchmarks.quality betas RECORD faces PATH/celeba10k.tar PATH/smiles.tar
    python -m benchmarks.quality table|figure RECORD

In the setting of `python -m searchers.beta_vaegan`: 2500 images at 32×32, batches of 16, a score of 500
samples. A β-VAE-GAN is trained for the preset's epochs; every other model for as many as cost the same CPU
seconds of one thread, by the time of its steps after warming up. RECORD is a file of JSON lines; a training
that it holds is not repeated, so that both parts can be stopped at any time. The first seed of all is trained
before the second of any. Photographs are mirrored at random, drawings are not: their light comes from a side.
"""

import argparse
import json
import os
import statistics
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure

from analysis.charts.bands import draw_band
from analysis.charts.style import axis_label, canvas, draw_references, legend_above
from searchers.beta_vaegan import PRESETS, model_settings
from searchers.execution.plan import step_seconds
from trainables.evaluation.references import reference_scores
from trainables.tune.baselines import MODERN, Baseline
from trainables.tune.builtin import VAE
from trainables.tune.trainable import GenerativeTrainable

BETAS = (1.0, 5.0, 12.0, 30.0, 70.0, 150.0)
MODEL_BETA = 12.0  # of the β-VAE-GAN among the models
VAE_BETAS = (2.0, 5.0, 10.0, 20.0)  # among which the plain VAE is tuned
SEEDS = (0, 1, 2)
DISENTANGLEMENT = ("mig", "dci", "sap", "factor_vae")
TIMED = 40  # steps


def trainings(part: str, datasets: list[str]) -> Iterator[tuple[str, str, float | None, int]]:
    """Yield data set, model, β where the model takes one, and seed of each training of a part."""
    for seed in SEEDS:
        for dataset in datasets:
            if part == "betas":
                yield from ((dataset, "beta-VAE-GAN", beta, seed) for beta in BETAS)
                continue
            for model in MODERN:
                if model == "VAE":
                    yield from ((dataset, "VAE", beta, seed) for beta in VAE_BETAS)
                else:
                    yield dataset, model, MODEL_BETA if model == "beta-VAE-GAN" else None, seed


def configuration(dataset: str, model: str, beta: float | None, seed: int, epochs: int) -> dict[str, Any]:
    """Return Tune's flat configuration of a training that is evaluated once, at its end."""
    preset = PRESETS["quick"]
    return {
        "dataset": dataset,
        "dataset_limit": preset.dataset_limit,
        "flip": dataset != "faces",
        "image_size": preset.image_size,
        "batch_size": preset.batch_size,
        "evaluation_samples": preset.evaluation_samples,
        "disentanglement": DISENTANGLEMENT if dataset == "faces" else False,
        "images": True,
        "epochs": epochs,
        "evaluate_every": epochs,
        "seed": seed,
        **model_settings(preset),
        **({} if model == "VAE" else {"model": model}),
        **({} if beta is None else {"beta": beta}),
    }


def trainable_of(model: str) -> type[GenerativeTrainable]:
    """Return the trainable of a model: the baselines' VAE has β = 1, this one is tuned."""
    return VAE if model == "VAE" else Baseline


def epoch_seconds(dataset: str, model: str, beta: float | None) -> float:
    """Return the CPU seconds of an epoch by this model's full step."""
    trainable = trainable_of(model)(configuration(dataset, model, beta, 0, 1))
    trainable.model.progress = 0.6  # all networks are trained by then
    seconds, steps = step_seconds(trainable, TIMED), len(trainable.batches)
    trainable.stop()
    # A penalty that is due every eighth step is in the mean, a disturbance of the machine is not.
    return steps * statistics.mean(seconds[: -TIMED // 20])


def train(dataset: str, model: str, beta: float | None, seed: int, epochs: int, folder: Path) -> dict:
    """Train one model; return its row, and write its samples into the folder."""
    trainable = trainable_of(model)(configuration(dataset, model, beta, seed, epochs))
    began = time.process_time()
    result = trainable.train()
    seconds = time.process_time() - began - result.get("evaluation_seconds", 0.0)
    name = "-".join(str(part) for part in (Path(dataset).stem, model, beta, seed) if part is not None)
    (folder / f"{name}.png").write_bytes(result["images"]["samples"])
    scores = {k: v for k, v in result.items() if isinstance(v, int | float) and not k.startswith("gradient")}
    references = reference_scores(trainable.store, trainable.extractor, trainable.reference, 500)
    trainable.stop()
    return {
        "dataset": Path(dataset).stem,
        "model": model,
        "beta": beta,
        "seed": seed,
        "epochs": epochs,
        "cpu_seconds": round(seconds, 1),
        "metric": trainable.metric,
        "scores": scores,
        "references": references,
    }


def run(part: str, record: Path, datasets: list[str], seeds: int) -> None:
    """Train what the record does not hold yet."""
    torch.set_num_threads(1)
    folder = record.parent / f"{record.stem}-samples"
    folder.mkdir(parents=True, exist_ok=True)
    known = {(r["dataset"], r["model"], r["beta"], r["seed"]) for r in rows(record)}
    full, cost = PRESETS["quick"].epochs, dict[str, float]()
    for dataset, model, beta, seed in trainings(part, datasets):
        if seed >= seeds or (Path(dataset).stem, model, beta, seed) in known:
            continue
        if model not in cost:  # measured at the same moment: these machines are shared
            standard = epoch_seconds(dataset, "beta-VAE-GAN", MODEL_BETA)
            cost[model] = epoch_seconds(dataset, model, beta) / standard
        epochs = full if model == "beta-VAE-GAN" else max(1, round(full / cost[model]))
        row = train(dataset, model, beta, seed, epochs, folder)
        with record.open("a") as file:
            file.write(json.dumps(row) + "\n")
        print(
            *(row[key] for key in ("dataset", "model", "beta", "seed", "epochs", "cpu_seconds")),
            row["scores"].get(row["metric"]),
            row["scores"].get(f"ex_post/{row['metric']}"),
            flush=True,
        )


def rows(record: Path) -> list[dict]:
    """Return the rows of a record, none where there is no file."""
    return [json.loads(line) for line in record.read_text().splitlines()] if record.exists() else []


def spread(values: list[float]) -> str:
    """Return mean ± standard deviation over seeds."""
    mean = statistics.mean(values)
    return f"{mean:.1f} ± {statistics.stdev(values):.1f}" if len(values) > 1 else f"{mean:.1f}"


def grouped(record: Path) -> dict[tuple, list[dict]]:
    """Return the rows by data set, model and β, in the record's order."""
    groups: dict[tuple, list[dict]] = {}
    for row in rows(record):
        groups.setdefault((row["dataset"], row["model"], row["beta"]), []).append(row)
    return groups


def table(record: Path) -> str:
    """Return the results as Markdown: the prior's samples, ex post ones, what the encoder keeps."""
    lines = [
        "| data | model | β | trainings | epochs | CPU s | FD | FD, ex post | mixture | squared error | KL |",
        "|---|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for (dataset, model, beta), group in sorted(
        grouped(record).items(), key=lambda item: (*item[0][:2], item[0][2] or 0.0)
    ):
        metric = group[0]["metric"]
        cells = []
        distances = [(key, 1) for key in (metric, f"ex_post/{metric}", f"ex_post_mixture/{metric}")]
        for key, scale in (*distances, ("reconstruction_mse", 1000), ("kl", 1)):
            values = [scale * row["scores"][key] for row in group if key in row["scores"]]
            cells.append(spread(values) if values else "–")
        epochs = statistics.median(row["epochs"] for row in group)
        seconds = statistics.median(row["cpu_seconds"] for row in group)
        lines.append(
            f"| {dataset} | {model} | {'–' if beta is None else f'{beta:g}'} | {len(group)} | {epochs:g} "
            f"| {seconds:.0f} | {' | '.join(cells)} |"
        )
    for dataset in dict.fromkeys(row["dataset"] for row in rows(record)):
        known = next(row["references"] for row in rows(record) if row["dataset"] == dataset)
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
            trained = min(len(group) for _, group in curves)
            values = np.array([[row["scores"][key] for row in group[:trained]] for _, group in curves]).T
            draw_band(axes, [beta for beta, _ in curves], values, color, f"{name} (n = {trained})", line)
        draw_references(axes, {"real": curves[0][1][0]["references"]["real"]})
        axes.set(xscale="log", xlabel=f"β ({dataset})")
        axes.set_ylabel(axis_label(metric, 1), fontsize="small")
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
    arguments = parser.parse_args()
    if arguments.part == "table":
        print(table(arguments.record))
    elif arguments.part == "figure":
        figure(arguments.record).savefig(arguments.record.with_suffix(".png"), dpi=120)
    else:
        datasets = [
            str(Path(name).resolve()) if os.path.exists(name) else name for name in arguments.datasets
        ]
        run(arguments.part, arguments.record, datasets, arguments.seeds)


if __name__ == "__main__":
    main()
