"""What a person sees while a sweep runs: one live table in a terminal, a line a trial elsewhere."""

import math
import time

from ray import tune
from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from analysis.charts.text import duration, number
from searchers.record.schema import DIVERGED, FAILED, FINISHED, STOPPED
from searchers.record.trials import TrialRecord, best_record

STYLES = {
    FINISHED: "green",
    STOPPED: "yellow",
    DIVERGED: "magenta",
    FAILED: "red",
    "running": "bold",
    "waiting": "dim",
}
ROWS = 30  # a longer table would scroll: the latest trials and the best one are shown


class LiveTable(tune.Callback):
    """Shows the recorder's trials. `records` is the recorder's own dictionary, read and never written."""

    def __init__(
        self,
        records: dict[str, TrialRecord],
        *,
        metric: str,
        mode: str,
        dimensions: list[str],
        epochs: int,
        num_samples: int,
        console: Console,
        budget: float = math.inf,
    ):
        self.records, self.metric, self.mode = records, metric, mode
        self.dimensions, self.epochs, self.num_samples = dimensions, epochs, num_samples
        self.console, self.budget = console, budget
        self.began, self.epochs_before = time.monotonic(), self._epochs_done()
        self.announced = {trial for trial, record in records.items() if record.status}
        self.running: set[str] = set()
        self.live = (
            Live(self._table(), console=console, refresh_per_second=2) if console.is_terminal else None
        )

    def __enter__(self):
        if self.live:
            self.live.start()
        return self

    def __exit__(self, *_):
        if self.live:
            self.live.update(self._table())
            self.live.stop()

    def on_step_end(self, iteration, trials, **info) -> None:
        """Redraw, or print the lines of the trials that have ended since."""
        self.running = {trial.trial_id for trial in trials if trial.status == "RUNNING"}
        if self.live:
            self.live.update(self._table())
            return
        for trial, record in list(self.records.items()):
            if record.status and trial not in self.announced:
                self.announced.add(trial)
                self.console.print(self._line(record), highlight=False, soft_wrap=True)

    def _line(self, record: TrialRecord) -> str:
        setting = ", ".join(f"{name} {number(record.config[name])}" for name in self.dimensions)
        return (
            f"trial {record.number}/{self.num_samples}: {setting}, epoch {record.epoch}/{self.epochs}, "
            f"{self.metric} {number(record.last(self.metric))}, {record.status}; {self.time_left()}"
        )

    def _table(self) -> Table:
        records = list(self.records.values())
        best = best_record(records, self.metric, self.mode)
        ended = sum(record.status is not None for record in records)
        title = f"{ended} of {self.num_samples} trials ended; {self.time_left()}"
        table = Table(title=title, title_justify="left", title_style="bold")
        for name in ("trial", *self.dimensions, "epoch", self.metric):
            table.add_column(name, justify="right", no_wrap=True)
        table.add_column("state", no_wrap=True)
        shown = records[-ROWS:]
        if best is not None and best not in shown:
            shown[0] = best
        for record in shown:
            state = record.status or ("running" if record.trial in self.running else "waiting")
            mark = " ← best" if record is best else ""
            table.add_row(
                str(record.number),
                *(number(record.config[name]) for name in self.dimensions),
                f"{record.epoch}/{self.epochs}",
                number(record.last(self.metric)) if record.metrics else "–",
                Text(state + mark, style=STYLES[state]),
            )
        return table

    def _epochs_done(self) -> int:
        return sum(record.epoch for record in self.records.values())

    def time_left(self) -> str:
        """Say how long the rest takes at the pace so far: of the budget of epochs, or else trials being as
        long as the ended ones were."""
        records = list(self.records.values())
        done = self._epochs_done() - self.epochs_before
        seconds = time.monotonic() - self.began
        ended = [record.epoch for record in records if record.status]
        if not done:
            return "time left is known after the first epoch"
        if math.isfinite(self.budget):
            left = max(0.0, self.budget - self._epochs_done())
            return f"about {duration(left * seconds / done)} left" if left else "done"
        typical = sum(ended) / len(ended) if ended else self.epochs
        running = [record.epoch for record in records if not record.status]
        left = sum(max(0.0, max(typical, epoch + 1) - epoch) for epoch in running)
        left += max(0, self.num_samples - len(records)) * typical
        return f"about {duration(left * seconds / done)} left" if left else "done"
