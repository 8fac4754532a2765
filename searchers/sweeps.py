"""Which sweeps there are: what became of them, and what they fill.

latentune list [--results results]
"""

import sys
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from analysis.charts.text import megabytes
from searchers.record.folders import TUNE, all_in, size
from searchers.record.schema import FINISHED
from searchers.study.command import run_command

PROGRAM = "python -m searchers.sweeps"


@dataclass(frozen=True)
class ListConfig:
    """Options of `searchers.sweeps`."""

    results: Path = Path("results")
    """folder of all sweeps"""


def list_sweeps(config: ListConfig, console: Console) -> int:
    """Show the sweeps of a folder of results with their states and sizes."""
    found = all_in(config.results)
    if not found:
        console.print(f"There is no sweep in {config.results}/.")
        return 0
    table = Table(box=None, pad_edge=False)
    table.add_column("sweep", overflow="fold")
    for name in ("begun", "of", "state"):
        table.add_column(name, no_wrap=True)
    for name in ("trained", "size", "checkpoints"):
        table.add_column(name, justify="right", no_wrap=True)
    for sweep in found:
        begun = f"{sweep.begun:%Y-%m-%d %H:%M}" if sweep.begun else "–"
        trained = sum(trial.status == FINISHED for trial in sweep.trials)
        sizes = [megabytes(size(path)) for path in (sweep.path, sweep.path / TUNE)]
        counted = f"{trained}/{len(sweep.trials)}" if sweep.trials else "–"
        table.add_row(sweep.path.name, begun, sweep.program.rpartition(".")[2], sweep.state, counted, *sizes)
    console.print(table)
    return 0


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return its exit code."""
    return run_command(PROGRAM, ListConfig, list_sweeps, arguments)


if __name__ == "__main__":
    sys.exit(main())
