"""Checkpoints that nobody needs any more.

    latentune clean SWEEP [--results results] [--dry-run]

While a sweep can be resumed, the latest checkpoint of each trial stays that goes on, or that finished and may
be the best; after its end that of the best ones, whose weights are on record besides.
"""

import sys
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path

import pyarrow.fs
import tyro
from rich.console import Console

from analysis.charts.text import megabytes
from latentune import LEDGER
from searchers.execution.rebuild import latest_checkpoint
from searchers.record.folders import TUNE, SweepFolder
from searchers.record.ledger import Ledger, LedgerBusyError
from searchers.study.command import run_command
from searchers.study.config import UsageError

PROGRAM = "python -m searchers.clean"
CHECKPOINT = "checkpoint_"  # how Tune begins the names of their folders


@dataclass(frozen=True)
class CleanConfig:
    """Options of `searchers.clean`."""

    sweep: tyro.conf.Positional[str]
    """name of the sweep"""
    results: Path = Path("results")
    """folder of all sweeps"""
    dry_run: bool = False
    """say what would go, and delete nothing"""


def clean(config: CleanConfig, console: Console) -> int:
    """Delete the checkpoints of a sweep and its parts that neither a resumption nor the best trials need."""
    whole = SweepFolder.read(config.results / config.sweep)
    sweeps = [sweep for sweep in (whole, *whole.parts) if (sweep.path / LEDGER).exists()]
    count = freed = 0
    with ExitStack() as claimed:
        for sweep in sweeps:
            ledger = claimed.enter_context(closing(Ledger(sweep.path / LEDGER)))
            try:
                ledger.claim()
            except LedgerBusyError:
                raise UsageError(
                    f"Sweep {sweep.path.name!r} is running: its checkpoints are in use"
                ) from None
        for sweep in sweeps:
            file_system, unneeded = unneeded_checkpoints(sweep)
            count += len(unneeded)
            for path in unneeded:
                inside = file_system.get_file_info(pyarrow.fs.FileSelector(path, recursive=True))
                freed += sum(info.size or 0 for info in inside)
                if not config.dry_run:
                    file_system.delete_dir(path)
    verb = "would be deleted" if config.dry_run else "deleted"
    over = all(sweep.complete for sweep in sweeps)
    kept = "the best trials keep theirs" if over else "it can be resumed as before"
    console.print(f"{count} checkpoints {verb}, {megabytes(freed)}; {kept}.", highlight=False)
    return 0


def unneeded_checkpoints(sweep: SweepFolder) -> tuple[pyarrow.fs.FileSystem, list[str]]:
    """Return the file system of a sweep's checkpoints, and the folders of those that can go."""
    file_system, root = pyarrow.fs.FileSystem.from_uri(sweep.storage)
    selector = pyarrow.fs.FileSelector(f"{root}/{TUNE}", recursive=True, allow_not_found=True)
    found = [info for info in file_system.get_file_info(selector) if info.base_name.startswith(CHECKPOINT)]
    there = {info.path for info in found if info.type == pyarrow.fs.FileType.Directory}
    latest = (latest_checkpoint(trial, sweep.storage) for trial in sweep.needed)
    return file_system, sorted(there - {saved.checkpoint.path for saved in latest if saved})


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return its exit code."""
    return run_command(PROGRAM, CleanConfig, clean, arguments)


if __name__ == "__main__":
    sys.exit(main())
