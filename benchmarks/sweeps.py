"""Whole sweeps as a person starts them, on several seeds: minutes, trials, the winner's distance.

    python -m benchmarks.sweeps run searchers.beta_vaegan FOLDER [--seeds 5] [FLAGS OF THE SWEEP]
    python -m benchmarks.sweeps table
    python -m benchmarks.sweeps pictures FOLDER/searchers.beta_vaegan-0 PICTURES

Each sweep runs in a folder of its own, alone on the machine, with the preset quick where the flags name no
other; a row a sweep is kept in sweeps.jsonl (of the flags' paths their names), and what is there is not run
again. `pictures` copies the winner's samples and the posterior.
"""

import argparse
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from PIL import Image

from benchmarks import records
from searchers.record.ledger import Ledger
from searchers.record.trials import TrialRecord, best_record


def run(module: str, folder: Path, seeds: int, flags: list[str]) -> None:
    """Run the sweeps that are not on record yet, one after the other."""
    named = [Path(flag).name for flag in flags]
    known = {
        row["seed"] for row in records.read("sweeps") if (row["module"], row["flags"]) == (module, named)
    }
    for seed in sorted(set(range(seeds)) - known):
        (work := folder / f"{module}-{seed}").mkdir(parents=True)
        command = [sys.executable, "-m", module, "--preset", "quick", "--seed", str(seed), "--name", "sweep"]
        began = time.monotonic()
        subprocess.run([*command, *flags], cwd=work, check=True)
        minutes = (time.monotonic() - began) / 60
        trials = list(Ledger(work / "results" / "sweep" / "ledger.jsonl").trials().values())
        records.add("sweeps", row_of(module, named, seed, minutes, trials))


def metric_of(trials: list[TrialRecord]) -> str:
    """Return the key of the Fréchet distance that the trials report."""
    first = next(iter(trials[0].metrics.values()))
    return next(key for key in first if key == "fid" or (key.startswith("fd_") and "std" not in key))


def row_of(
    module: str, flags: list[str], seed: int, minutes: float, trials: list[TrialRecord]
) -> dict[str, Any]:
    """Return what is kept of a sweep: of each trial the values that differ among them, and how it ended."""
    metric, (config, *_) = metric_of(trials), [trial.config for trial in trials]
    searched = [k for k in config if k != "seed" and any(t.config[k] != config[k] for t in trials)]
    best = best_record(trials, metric, "min")
    return {
        "module": module,
        "flags": flags,
        "seed": seed,
        "minutes": round(minutes, 2),
        "epochs": config["epochs"],
        "metric": metric,
        "best": best.number if best else None,
        "trials": [
            {name: trial.config[name] for name in searched}
            | {"number": trial.number, "seed": trial.config["seed"], "status": trial.status}
            | {"epoch": trial.epoch, "score": trial.last(metric)}
            for trial in trials
        ],
    }


def table() -> None:
    """Print a table of the sweeps of each command, and what their winners have in common."""
    by_command: dict[str, list[dict[str, Any]]] = {}
    for row in records.read("sweeps"):
        by_command.setdefault(" ".join([row["module"], *row["flags"]]), []).append(row)
    for command, sweeps in by_command.items():
        best = [next(t for t in row["trials"] if t["number"] == row["best"]) for row in sweeps]
        searched = [k for k in best[0] if k not in ("number", "seed", "status", "epoch", "score")]
        header = [command, "minutes", "trials", "trained to the end", "FD of the best", *searched]
        cells = [
            [
                f"seed {row['seed']}",
                f"{row['minutes']:.1f}",
                str(len(row["trials"])),
                str(sum(trial["status"] == "finished" for trial in row["trials"])),
                f"{winner['score']:.1f}",
                *(f"{v:.3g}" if isinstance(v := winner[k], float) else str(v) for k in searched),
            ]
            for row, winner in zip(sweeps, best, strict=True)
        ]
        records.table(header, cells)
        scores = [winner["score"] for winner in best]
        print(f"Mean {statistics.mean(scores):.1f}, from {min(scores):.1f} to {max(scores):.1f}.\n")


def pictures(work: Path, target: Path) -> None:
    """Copy a sweep's posterior, and its winner's last samples at twice their size."""
    results = work / "results" / "sweep"
    trials = list(Ledger(results / "ledger.jsonl").trials().values())
    best = best_record(trials, metric_of(trials), "min")
    assert best is not None
    target.mkdir(parents=True, exist_ok=True)
    with Image.open(results / "images" / best.trial / f"samples_{best.epoch:04d}.png") as image:
        size = (2 * image.width, 2 * image.height)
        image.resize(size, Image.Resampling.NEAREST).save(target / "samples.png")
    shutil.copy(results / "posterior.png", target / "posterior.png")


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parts = parser.add_subparsers(dest="part", required=True)
    running = parts.add_parser("run")
    running.add_argument("module")
    running.add_argument("folder", type=Path)
    running.add_argument("--seeds", type=int, default=5)
    parts.add_parser("table")
    copying = parts.add_parser("pictures")
    for name in ("folder", "pictures"):
        copying.add_argument(name, type=Path)
    arguments, flags = parser.parse_known_args()
    if arguments.part == "run":
        run(arguments.module, arguments.folder, arguments.seeds, flags)
    elif arguments.part == "table":
        table()
    else:
        pictures(arguments.folder, arguments.pictures)


if __name__ == "__main__":
    main()
