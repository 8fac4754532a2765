"""Tables and figures of what `quality.py` recorded.

python -m benchmarks.quality_report table RECORD        Markdown
python -m benchmarks.quality_report betas RECORD FOLDER     beta.png and disentanglement.png
python -m benchmarks.quality_report samples RECORD FOLDER   samples.png, a row a model or a β
"""

import argparse
import statistics
from collections import Counter
from itertools import product
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

from analysis.charts.bands import LINES, draw_band
from analysis.charts.style import CYCLE, axis_label, canvas, draw_references, legend_above, use_scale
from benchmarks.quality import BETA, PENALTY, best, samples_folder, samples_name, trained
from trainables.metrics.extractors.extractor import kid_key

CELL = 34  # pixels of a sample of 32 in its grid of eight columns
SHOWN = 2  # rows of the grid
MIXTURE = "ex_post_mixture"  # ten Gaussians fitted to the codes; one is what the recipe's prior is
FACTORS = {"mig": "MIG", "dci_disentanglement": "DCI", "sap": "SAP", "factor_vae": "FactorVAE score"}


def spread(values: list[float], digits: int | None = None) -> str:
    """Return mean ± standard deviation over seeds."""
    mean = statistics.mean(values)
    digits = digits or (2 if abs(mean) < 5 else 1)
    return (
        f"{mean:.{digits}f} ± {statistics.stdev(values):.{digits}f}"
        if len(values) > 1
        else f"{mean:.{digits}f}"
    )


def grouped(record: Path) -> dict[tuple, list[dict]]:
    """Return the rows by data set (in the record's order), model and β; by β, or the best model first."""
    groups: dict[tuple, list[dict]] = {}
    datasets = list(dict.fromkeys(row["dataset"] for row in trained(record)))
    for row in trained(record):
        groups.setdefault((row["dataset"], row["model"], row["beta"]), []).append(row)
    return dict(
        sorted(
            groups.items(),
            key=lambda item: (datasets.index(item[0][0]), item[0][2] or 0.0, mean_distance(item[1])),
        )
    )


def mean_distance(group: list[dict]) -> float:
    """Return the mean Fréchet distance of trainings."""
    return statistics.mean(row["scores"][row["metric"]] for row in group)


def table(record: Path) -> str:
    """Return the results as Markdown, a line a model or β, and what costs nothing."""
    chosen = best(record)
    metric = trained(record)[0]["metric"]
    columns = {"FD": (metric, 1.0), "FD, mixture": (f"{MIXTURE}/{metric}", 1.0)}
    of_betas = any(beta is not None for beta, _ in next(iter(over_beta(record).values()), []))
    if not of_betas:
        columns |= {
            "KID": (kid_key(metric), 1.0),
            "precision": ("precision", 1.0),
            "recall": ("recall", 1.0),
            "ms an image": ("cpu_milliseconds_an_image", 1.0),
            "parameters ·1000": ("parameters", 0.001),
        }
    else:
        columns |= {"squared error ·1000": ("reconstruction_mse", 1000.0), "KL, nats": ("kl", 1.0)}
    lines = [
        f"| data | model | trainings | epochs | CPU s | {' | '.join(columns)} |",
        f"|---|---|{'--:|' * (3 + len(columns))}",
    ]
    for (dataset, model, beta), group in grouped(record).items():
        cells = []
        for key, scale in columns.values():
            values = [scale * row["scores"][key] for row in group if key in row["scores"]]
            cells.append(spread(values) if values else "–")
        values = chosen.get((dataset, model), {}) if beta is None else {"values": {"beta": beta}}
        values = (values | group[0]).get("values", {})
        words = ", ".join(f"{name} {v if isinstance(v, str) else f'{v:.3g}'}" for name, v in values.items())
        epochs, seconds = (statistics.median(row[key] for row in group) for key in ("epochs", "cpu_seconds"))
        lines.append(
            f"| {dataset} | {f'{model}: {words}' if words else model} | {len(group)} "
            f"| {epochs:g} | {seconds:.0f} "
            f"| {' | '.join(cells)} |"
        )
    for dataset in dict.fromkeys(row["dataset"] for row in trained(record)):
        known = next(row["references"] for row in trained(record) if row["dataset"] == dataset)
        lines.append(f"\n{dataset}: " + ", ".join(f"{name} {value:.1f}" for name, value in known.items()))
    counts = Counter((row["dataset"], row["model"], row["beta"]) for row in trained(record, diverged=True))
    if counts:
        said = (f"{' '.join(str(part) for part in key if part is not None)} {n}" for key, n in counts.items())
        lines.append(f"\nDiverged, and in no mean: {', '.join(said)}")
    return "\n".join(lines + claims(record) + factors(record) if of_betas else lines)


def claims(record: Path) -> list[str]:
    """Return how much nearer than β = 1 the β is that the other seeds would choose, a line a data set."""
    head = "| data | samples | β by the others' mean | nearer than β = 1, % | mean |"
    lines = [f"\n{head}", "|---|---|--:|--:|--:|"]
    ways = [
        (dataset, curves)
        for penalty in (False, True)
        for dataset, curves in over_beta(record, penalty).items()
    ]
    for (dataset, curves), sampler in product(ways, ("prior", "mixture")):
        dataset += curves[0][1][0]["model"].removeprefix(BETA)  # ", penalty 5"
        metric = curves[0][1][0]["metric"]
        values = by_seed(curves, metric if sampler == "prior" else f"{MIXTURE}/{metric}")
        betas = [beta for beta, _ in curves]
        if len(values) < 2:
            continue
        chosen = [int(np.delete(values, seed, 0).mean(0)[1:].argmin()) + 1 for seed in range(len(values))]
        gains = [100 * (1 - row[n] / row[0]) for row, n in zip(values, chosen, strict=True)]
        lines.append(
            f"| {dataset} | {sampler} | {', '.join(f'{betas[n]:g}' for n in chosen)} "
            f"| {', '.join(f'{gain:.0f}' for gain in gains)} | {spread(gains)} |"
        )
    return lines


def factors(record: Path) -> list[str]:
    """Return how far single units stand for single factors, a line a β, of the drawn faces."""
    lines = [f"\n| β | {' | '.join(FACTORS.values())} |", f"|--:|{'--:|' * len(FACTORS)}"]
    for beta, group in over_beta(record).get("faces", []):
        scores = (spread([row["scores"][f"disentanglement/{key}"] for row in group], 3) for key in FACTORS)
        lines.append(f"| {beta:g} | {' | '.join(scores)} |")
    return lines


def over_beta(record: Path, penalty: bool = False) -> dict[str, list[tuple[float, list[dict]]]]:
    """Return each data set's trainings of the β-VAE-GAN by β, the least first; with a penalty or its own."""
    curves: dict[str, list[tuple[float, list[dict]]]] = {}
    for (dataset, model, beta), group in grouped(record).items():
        if model.startswith(PENALTY) if penalty else model == BETA:
            curves.setdefault(dataset, []).append((beta, group))
    return curves


def figure(record: Path) -> Figure:
    """Draw FD over β for each data set: of samples of the prior and of a mixture, mean ± deviation."""
    datasets, penalized = over_beta(record), over_beta(record, penalty=True)
    result, _ = canvas(4.2 * len(datasets), 4.0)
    result.clear()
    panels = result.subplots(1, len(datasets), squeeze=False)[0]
    for axes, (dataset, curves) in zip(panels, datasets.items(), strict=True):
        metric = curves[0][1][0]["metric"]
        bands = [(curves, metric, "prior", "-"), (curves, f"{MIXTURE}/{metric}", "mixture, ex post", "--")]
        if other := penalized.get(dataset):
            bands.append((other, metric, "prior" + other[0][1][0]["model"].removeprefix(BETA), ":"))
        for color, (of_band, key, name, line) in zip(CYCLE, bands, strict=False):
            values = by_seed(of_band, key)
            draw_band(axes, [beta for beta, _ in of_band], values, color, f"{name} (n = {len(values)})", line)
        axes.update_datalim([(curves[0][0], 0.0)])  # the axis begins there
        draw_references(axes, {"real": curves[0][1][0]["references"]["real"]})
        axes.set_xlabel(f"β ({dataset})")
        use_scale(axes, {"log": True})
        axes.set_ylabel(axis_label(metric, 1), fontsize="small")
        axes.set_ylim(bottom=0)
        legend_above(axes, columns=2)
    return result


def by_seed(curves: list[tuple[float, list[dict]]], key: str) -> NDArray[np.float64]:
    """Return a score of each β's trainings, (seeds, βs), of the seeds that all have, the least first."""
    scores = [{row["seed"]: row["scores"][key] for row in group} for _, group in curves]
    seeds = sorted(set.intersection(*map(set, scores)))
    return np.array([[of_beta[seed] for seed in seeds] for of_beta in scores]).T


def disentanglement(record: Path) -> Figure:
    """Draw how far single units stand for single factors, over β, on the drawn faces, mean ± deviation."""
    curves = over_beta(record)["faces"]
    result, axes = canvas(6.0, 4.0)
    for (key, name), line in zip(FACTORS.items(), LINES, strict=True):
        values = by_seed(curves, f"disentanglement/{key}")
        color = CYCLE[LINES.index(line)]
        draw_band(axes, [beta for beta, _ in curves], values, color, f"{name} (n = {len(values)})", line)
    axes.set(xlabel="β (faces)", ylabel="score, higher is better")
    use_scale(axes, {"log": True})
    axes.set_ylim(bottom=0)
    legend_above(axes, columns=2)
    return result


def samples(record: Path) -> Figure:
    """Draw each model's first sixteen samples, data sets side by side, as `grouped` has them, top down."""
    groups = grouped(record)
    datasets = list(dict.fromkeys(key[0] for key in groups))
    count = max(sum(key[0] == dataset for key in groups) for dataset in datasets)
    result, axes = canvas(4.2 * len(datasets), 1.3 * count, count, len(datasets), squeeze=False)
    for column, dataset in enumerate(datasets):
        of_dataset = [key for key in groups if key[0] == dataset]
        for row, key in enumerate(of_dataset):
            first = min(groups[key], key=lambda row: row["seed"])
            with Image.open(samples_folder(record) / f"{samples_name(*key, first['seed'])}.png") as image:
                box = image.crop((0, 0, image.width, SHOWN * CELL + 2))
            axes[row, column].imshow(box, interpolation="nearest")
            beta = "" if key[2] is None else f", β = {key[2]:g}"
            told = f"{dataset}, {key[1]}{beta}: {mean_distance([first]):.1f}"
            axes[row, column].set_title(told, fontsize="small")
        for cell in axes[:, column]:
            cell.axis("off")
    return result


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("part", choices=("table", "betas", "samples"))
    parser.add_argument("record", type=Path, help="file of JSON lines")
    parser.add_argument("folder", type=Path, nargs="?", default=Path(), help="of the figures")
    arguments = parser.parse_args()
    if arguments.part == "table":
        print(table(arguments.record))
    elif arguments.part == "betas":
        figure(arguments.record).savefig(arguments.folder / "beta.png", dpi=120)
        disentanglement(arguments.record).savefig(arguments.folder / "disentanglement.png", dpi=120)
    else:
        samples(arguments.record).savefig(arguments.folder / "samples.png", dpi=120)


if __name__ == "__main__":
    main()
