"""What a person sees while a sweep runs: one live table in a terminal, a line a trial elsewhere."""

import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ray import tune
from rich.console import Console
from rich.live import Live

from analysis.charts.text import duration, number
from searchers.display.forecast import (
    SECONDS,
    seconds_left,
    seconds_per_epoch,
    work_of_rule,
    work_without_rule,
)
from searchers.display.live_page import LivePage
from searchers.display.moment import Snapshot, keep
from searchers.display.snapshot import Row, Told, rows_of, spent_and_saved, time_left
from searchers.record.trials import TrialRecord
from searchers.scheduling.rule import PauseRule

SECONDS_BETWEEN, SECONDS_BETWEEN_PAGES = 0.5, 2.0  # two drawings, and two moments for the page
RESTS = 20  # times as long as the last drawing took, in which Tune waits: half a second at 1000 trials


class LiveTable(tune.Callback):
    """Shows the recorder's trials. `records` is the recorder's own dictionary, read and never written.

    `rule` is the scheduler's, where it pauses trials; `resource` is "CPU" or "GPU" and `share` how many of
    them a trial has; `page` shows the same, and what `books` says of the record. In the file `kept` the table
    stands for processes that show it on other terminals (`cluster.runs`).
    """

    def __init__(
        self,
        records: dict[str, TrialRecord],
        told: Told,
        *,
        num_samples: int,
        console: Console,
        rule: PauseRule | None = None,
        resource: str = "CPU",
        share: float = 1.0,
        page: LivePage | None = None,
        books: Callable[[], str] = lambda: "",
        kept: str | None = None,
    ):
        self.records, self.told, self.num_samples, self.rule = records, told, num_samples, rule
        self.console, self.resource, self.share = console, resource, share
        self.page, self.books, self.paged = page, books, -math.inf
        self.kept = Path(kept) if kept else None
        self.began, self.rests_until = time.monotonic(), -math.inf
        self.announced = {trial for trial, record in records.items() if record.status}
        self.running: frozenset[str] = frozenset()
        self.workers = 1  # trials that have been seen to run side by side
        self.heard: dict[str, float] = {}  # when a trial began, went on or reported last, monotonic seconds
        self.first = self.latest = math.inf  # when the first trial began, and when the latest result came
        self.trained = 0.0  # seconds of training in this run's results
        self.halted: list[str] = []  # trials in the order they were halted, the last one last
        self.live: Live | None = None
        if console.is_terminal:
            self.live = Live(self.snapshot(), console=console, refresh_per_second=2, transient=True)

    def __enter__(self) -> "LiveTable":
        if self.live:
            self.live.start()
        return self

    def __exit__(self, error: type[BaseException] | None, *_: object) -> None:
        if self.live:
            self.live.transient = error is None  # in order, the table of all trials comes next
            self.live.update(self.snapshot())
            self.live.stop()

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Note when a trial begins or goes on."""
        self.heard[trial.trial_id] = time.monotonic()
        self.first = min(self.first, time.monotonic())

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        """Note when a trial reports, and for how long it has trained."""
        self.heard[trial.trial_id] = self.latest = time.monotonic()
        self.trained += result.get(SECONDS, 0.0)

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        """Redraw, or print the lines of the trials that have ended since."""
        before = self.running
        self.running = frozenset(trial.trial_id for trial in trials if trial.status == "RUNNING")
        self.workers = max(self.workers, len(self.running))
        self.halted += [t for t in before - self.running if t in self.records]
        if not self.live:
            self._announce()
        now = time.monotonic()
        if now > self.rests_until and (self.live or self.page or self.kept):
            self._draw(now)
            took = time.monotonic() - now
            self.rests_until = now + took + max(SECONDS_BETWEEN, RESTS * took)

    def _draw(self, now: float) -> None:
        snapshot = self.snapshot()
        if self.live:
            self.live.update(snapshot)
        if self.kept:
            keep(snapshot, self.kept)
        if self.page and now - self.paged > SECONDS_BETWEEN_PAGES:
            self.paged = now
            self.page.show({**snapshot.plain(), "books": self.books()})

    def _announce(self) -> None:
        for trial, record in list(self.records.items()):
            if record.status and trial not in self.announced:
                self.announced.add(trial)
                (row,) = rows_of([record], self.told, rule=self.rule)
                self.console.print(self._line(row), highlight=False, markup=False, soft_wrap=True)

    def _line(self, row: Row) -> str:
        named = zip(self.told.dimensions, row.settings, strict=True)
        setting = ", ".join(f"{name} {number(value)}" for name, value in named)
        because = "; ".join(filter(None, (row.why, row.wrong)))
        return (
            f"trial {row.number}/{self.num_samples}: {setting}, epoch {row.epoch}/{self.told.epochs}, "
            f"{self.told.metric} {number(row.score)}, {row.state}{f' ({because})' if because else ''}; "
            f"{self.time_left()}"
        )

    def snapshot(self) -> Snapshot:
        """Return what there is to show now."""
        records = list(self.records.values())
        rows = rows_of(records, self.told, self.running, self.rule)
        by_number = {row.number: row for row in rows}
        halted = (by_number[self.records[trial].number] for trial in reversed(self.halted))
        last = next((row for row in halted if row.why), None)
        return Snapshot(
            rows=tuple(rows),
            told=self.told,
            num_samples=self.num_samples,
            began=self.began,
            left=self.time_left(),
            spent=self._spent(records),
            last=f"trial {last.number} {last.state}: {last.why}" if last else "",
        )

    def _spent(self, records: list[TrialRecord]) -> str:
        """Say how long cores or GPUs were kept busy, and for how long stopping and pausing spared them."""
        pace = {record.trial: seconds_per_epoch(record) for record in records}
        spent, saved = spent_and_saved(records, pace, self.told.epochs, self.running)
        if not spent:
            return ""
        said = f"{self.resource} {duration(self.share * spent)} spent"
        return f"{said}, {duration(self.share * saved)} saved by stopping" if saved else said

    def _overhead(self) -> float:
        """Return how long the workers have been there in units of what they have trained; 1 at least.

        The rest is starts, pauses and waiting, which short trials consist of.
        """
        if not self.trained:
            return 1.0
        begun = [self.latest - at for t in self.running if (at := self.heard.get(t, math.inf)) < self.latest]
        return max(1.0, self.workers * (self.latest - self.first) / (self.trained + sum(begun)))

    def time_left(self) -> str:
        """Say how long the rest takes at the pace so far."""
        now, running = time.monotonic(), [t for t in self.running if t in self.records]
        more = {t: max(0, self.told.epochs - self.records[t].epoch) for t in running}
        if self.rule is not None:
            work = work_of_rule(self.rule, more)
        else:
            work = work_without_rule(more, max(0, self.num_samples - len(self.records)), self.told.epochs)
        slower = self._overhead()
        pace = {trial: slower * seconds_per_epoch(record) for trial, record in list(self.records.items())}
        since = {t: now - self.heard.get(t, now) for t in running}
        return time_left(seconds_left(work, pace, since, self.workers))
