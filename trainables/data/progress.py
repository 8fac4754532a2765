"""Progress bars on stderr, shown on a terminal or when asked for."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.text import Text

Advance = Callable[[int], None]


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(f"{task.speed:.0f} images/s" if task.speed else "")


def image_bar(description: str, total: int, completed: int, shown: bool | None):
    """Return a context that yields a function of images done; `shown` None: where stderr is a terminal."""
    return _bar(description, total, completed, shown, MofNCompleteColumn(), _Rate())


def byte_bar(description: str, total: int, shown: bool | None):
    """Return a context that yields a function of bytes done; `shown` None: where stderr is a terminal."""
    return _bar(description, total, 0, shown, DownloadColumn(), TransferSpeedColumn())


@contextmanager
def _bar(
    description: str, total: int, completed: int, shown: bool | None, *columns: ProgressColumn
) -> Iterator[Advance]:
    shown = sys.stderr.isatty() if shown is None else shown
    columns = (TextColumn("{task.description}"), BarColumn(), *columns, TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), disable=not shown) as progress:
        task = progress.add_task(description, total=total, completed=completed)
        yield lambda n: progress.advance(task, n)
