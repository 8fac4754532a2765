"""The live table at one moment: drawn on a terminal, told to the live page, kept for other processes."""

import os
import pickle
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console, ConsoleOptions
from rich.text import Text

from analysis.charts.text import duration, number
from searchers.display.layout import fitting, legend, table_lines
from searchers.display.live_page import plain_row
from searchers.display.snapshot import Row, Told
from searchers.display.standing import WAITING
from searchers.record.schema import RUNNING

FLAGGED = 2  # trials whose flags stand under a table without a column for them


@dataclass(frozen=True)
class Snapshot:
    """A sweep at one moment."""

    rows: tuple[Row, ...]
    told: Told
    num_samples: int
    began: float
    """monotonic seconds"""
    left: str
    spent: str
    last: str
    """why the trial that was halted last was halted"""

    def head(self) -> str:
        """Say how far the sweep is."""
        ended = sum(row.state not in (RUNNING, WAITING) for row in self.rows)
        elapsed = duration(time.monotonic() - self.began)
        return f"{ended} of {self.num_samples} trials ended, {elapsed} so far, {self.left}"

    def plain(self) -> dict[str, Any]:
        """Return it as the live page takes it."""
        names = {
            "dimensions": list(self.told.dimensions),
            "metric": self.told.metric,
            "epochs": self.told.epochs,
        }
        said = {"head": self.head(), "spent": self.spent, "last": self.last}
        return {**names, **said, "rows": [plain_row(row) for row in self.rows]}

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Text]:
        """Draw what there is room for: the head and the foot whole, and of the table the first rows."""
        width, height = options.max_width, console.size.height
        lines = [*Text(self.head(), "bold").wrap(console, width), *Text(self.spent).wrap(console, width)]
        foot = [line for said, style in self._foot(width) for line in Text(said, style).wrap(console, width)]
        room = height - len(lines) - len(foot) - 1  # the cursor's line
        if self.rows:
            lines += table_lines(self.rows, self.told, width, room)
        yield from [*lines, *foot]

    def _foot(self, width: int) -> Iterator[tuple[str, str]]:
        """Yield what the table has no room for, and what scores are compared with; each with its style."""
        if meaning := legend(self.rows, self.told, width):
            yield meaning, "dim"
        if fitting(self.rows, self.told, width).reasons != "why":
            wrong = [row for row in self.rows if row.wrong and (row.best or row.state == RUNNING)]
            yield from ((f"! trial {row.number}: {row.wrong}", "red") for row in wrong[:FLAGGED])
            if self.last:
                yield self.last, "yellow"
        if self.told.references:
            known = ", ".join(f"{name} {number(value)}" for name, value in self.told.references.items())
            yield f"What no model made scores: {known}", "dim"


def keep(snapshot: Snapshot, path: Path) -> None:
    """Write a snapshot, pickled, for processes of the same user on this machine. Raises OSError."""
    plain = replace(snapshot, told=replace(snapshot.told, derived=dict))  # a function of the study's is none
    temporary = path.with_name(f"{path.name}.tmp")
    temporary.write_bytes(pickle.dumps(plain))
    os.replace(temporary, path)
