"""The main job on several data sets, with the baselines beside it: times, scores and peak memory.

    python -m benchmarks.main_job faces PATH/celeba10k.tar PATH/smiles.tar --folder RESULTS

Runs `python -m searchers.beta_vaegan` and `python -m searchers.baselines` for each data set, resumes what an
earlier run of this benchmark left unfinished, and prints a table in Markdown. `--figures FOLDER` copies the
first data set's best grid and its figures there, for README.md.
"""

import argparse
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
from PIL import Image

from searchers.baselines import by_model
from searchers.record.ledger import Ledger
from searchers.record.trials import TrialRecord, best_record


def run(module: str, name: str, folder: Path, flags: list[str]) -> None:
    """Run a sweep to its end in `folder`; write its seconds and its peak memory beside its ledger."""
    cost_path = folder / "results" / name / "cost.json"
    if cost_path.exists():
        return
    going_on = (folder / "results" / name / "sweep.json").exists()
    command = [sys.executable, "-m", module, *(["--resume", name] if going_on else [*flags, "--name", name])]
    print(" ".join(command[1:]), flush=True)
    began, peak = time.monotonic(), 0
    process = subprocess.Popen(command, cwd=folder)
    while process.poll() is None:
        peak = max(peak, memory(process.pid))
        time.sleep(2.0)
    if process.returncode:
        raise SystemExit(f"{name} ended with code {process.returncode}")
    seconds = None if going_on else time.monotonic() - began
    cost_path.write_text(json.dumps({"seconds": seconds, "peak_bytes": peak}))


def memory(pid: int) -> int:
    """Return the proportional set size of a process and all its descendants, in bytes."""
    total = 0
    try:
        root = psutil.Process(pid)
        for process in [root, *root.children(recursive=True)]:
            try:
                total += process.memory_full_info().pss
            except psutil.Error:  # it has ended meanwhile
                continue
    except psutil.Error:
        return 0
    return total


def records_of(folder: Path, name: str) -> tuple[list[TrialRecord], str]:
    """Return a sweep's trials and its metric."""
    records = list(Ledger(folder / "results" / name / "ledger.jsonl").trials().values())
    first = records[0].metrics[min(records[0].metrics)]
    return records, next(key for key in first if key == "fid" or (key.startswith("fd_") and "std" not in key))


def report(folder: Path, names: list[str]) -> str:
    """Return the results as two Markdown tables."""
    lines = [
        "| data | images | trials (stopped early) | best β | β_norm | first epoch → best | time | memory |",
        "|---|---|---|---|---|---|---|---|",
    ]
    baselines = [
        "| data | metric | GAN | VAE | VAE-GAN | β-VAE-GAN, best trial |",
        "|---|---|---|---|---|---|",
    ]
    for name in names:
        records, metric = records_of(folder, name)
        best = best_record(records, metric, "min")
        stopped = sum(record.status == "stopped" for record in records)
        cost = json.loads((folder / "results" / name / "cost.json").read_text())
        size = best.config["image_size"]
        norm = best.config["beta"] * best.config["latent_dim"] / (3 * size**2)
        time_taken = f"{cost['seconds'] / 60:.1f} min" if cost["seconds"] else "resumed"
        lines.append(
            f"| {name} | {best.config['dataset_limit'] or 'all'}, {size}×{size} | {len(records)} ({stopped}) "
            f"| {best.config['beta']:.1f} | {norm:.2f} "
            f"| {best.metrics[min(best.metrics)][metric]:.0f} → {best.last(metric):.0f} "
            f"± {best.last(metric + '_std'):.0f} "
            f"| {time_taken} | {cost['peak_bytes'] / 2**30:.1f} GiB |"
        )
        trained, _ = records_of(folder, f"{name}-baselines")
        cells = []
        for curves in by_model(trained, metric).values():
            last = np.array([curve[max(curve)] for curve in curves])
            cells.append(f"{last.mean():.0f} ± {last.std(ddof=1):.0f}")
        cells.append(f"{best.last(metric):.0f}")
        baselines.append(f"| {name} | {metric} | {' | '.join(cells)} |")
    return "\n".join([*lines, "", *baselines])


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("datasets", nargs="+", help="faces, or paths")
    parser.add_argument("--folder", type=Path, default=Path("main_job"), help="where results go")
    parser.add_argument("--seeds", type=int, default=3, help="of each baseline")
    parser.add_argument("--figures", type=Path, help="copy the first data set's pictures here")
    arguments, further = parser.parse_known_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    flags = {}
    for dataset in arguments.datasets:
        path = Path(dataset)
        known = str(path.resolve()) if path.exists() else dataset
        flags[path.name.split(".")[0]] = ["--dataset", known, *further]
    names = list(flags)
    for name in names:
        run("searchers.beta_vaegan", name, arguments.folder, flags[name])
    for name in names:
        baselines = ["--models", "GAN", "VAE", "VAE-GAN", "--seeds", str(arguments.seeds)]
        run("searchers.baselines", f"{name}-baselines", arguments.folder, [*flags[name], *baselines])
    print(report(arguments.folder, names))
    if arguments.figures:
        records, metric = records_of(arguments.folder, names[0])
        best = best_record(records, metric, "min")
        results = arguments.folder / "results"
        arguments.figures.mkdir(parents=True, exist_ok=True)
        grid = results / names[0] / "images" / best.trial / f"samples_{best.epoch:04d}.png"
        with Image.open(grid) as image:
            image.resize((2 * image.width, 2 * image.height), Image.Resampling.NEAREST).save(
                arguments.figures / "samples.png"
            )
        shutil.copy(results / names[0] / "posterior.png", arguments.figures / "posterior.png")
        shutil.copy(results / f"{names[0]}-baselines" / "baselines.png", arguments.figures / "baselines.png")


if __name__ == "__main__":
    main()
