"""What a sweep says at its end: the table of its trials, the best one, and what to type next."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rich.console import Console, ConsoleOptions
from rich.text import Text

from analysis.charts.text import number
from latentune import line_of, words_of
from searchers.display.commands import analysis_command, ui_command
from searchers.display.layout import table_lines
from searchers.display.snapshot import Told, rows_of
from searchers.record.folders import MODELS, TUNE
from searchers.record.provenance import references_of
from searchers.record.schema import COLLAPSED, FAILED, FINISHED, STOPPED
from searchers.record.trials import TrialRecord
from searchers.scheduling.rule import PauseRule
from searchers.study.config import RunConfig, SweepConfig
from searchers.study.study import Study


@dataclass(frozen=True)
class Ending:
    """How a sweep ended: its trials in the order they were begun, and what MLflow lacks of them."""

    config: RunConfig
    records: list[TrialRecord]
    interrupted: bool
    resume: str
    """the command that goes on with it"""
    checkpoints: str
    """where Tune keeps what it knows"""
    unsent: int
    """events that MLflow lacks"""
    delivery_error: str | None
    """why it lacks them; None where they are still being sent"""
    page: str | None
    """of MLflow's UI, behind its address; None where MLflow never answered"""

    @classmethod
    def planned(cls, config: RunConfig) -> "Ending":
        """Return the ending of a dry run, which has no trials."""
        return cls(config, [], False, "", "", 0, None, None)

    @property
    def exit_code(self) -> int:
        """0; 130 after Ctrl-C; 1 where no trial reached an epoch."""
        if self.interrupted:
            return 130
        if self.config.dry_run:
            return 0
        return 0 if any(record.metrics for record in self.records) else 1


@dataclass(frozen=True)
class ResultTable:
    """All trials of a sweep that is over, the best one first."""

    title: str
    told: Told
    records: list[TrialRecord]
    rule: PauseRule | None = None
    """the scheduler's, where it paused trials"""
    best: TrialRecord | None = None
    """the one that is recommended; the best by score, if it isn't given"""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Text]:
        """Draw every trial, as wide as the console is."""
        yield Text(f"{self.title}: all trials", "bold")
        rows = rows_of(self.records, self.told, rule=self.rule, unfinished="unfinished", best=self.best)
        yield from table_lines(rows, self.told, options.max_width)


def best_words(
    study: Study,
    config: SweepConfig,
    records: list[TrialRecord],
    best: TrialRecord | None,
    beside: Sequence[str] = (),
) -> list[str]:
    """Say what is best, what stopped early, and where the figures are; a line each.

    `beside`: what the searcher's model says of others.
    """
    lines = []
    if best:
        setting = ", ".join(f"{name} = {number(best.config[name])}" for name in study.space)
        setting += "".join(
            f", {name} = {number(value)}" for name, value in study.derived(best.config).items()
        )
        first = next(row[study.metric] for _, row in sorted(best.metrics.items()) if study.metric in row)
        whole = "" if best.epoch >= config.epochs else f" of {config.epochs}"
        lines.append(
            f"Best: trial {best.number}, {setting}: {study.metric} {number(best.last(study.metric))} "
            f"after epoch {best.epoch}{whole} ({number(first)} at first)."
        )
        lines += _beside_references(study, best)
        if best.status == FINISHED and not (config.folder / MODELS / best.trial).exists():
            again = line_of(words_of("analysis.trial", config.title, str(best.number), "--reproduce"))
            lines.append(f"Its last checkpoint is gone, and its weights with it. Train it again: {again}")
        if COLLAPSED in best.flags.get(best.epoch, "").split(","):
            lines.append("But it has collapsed: its images are all but one picture.")
        lines += beside
    else:
        lines.append("No trial has reported a score.")
    early = [record for record in records if record.status == STOPPED]
    if early:
        lines.append(f"Stopped early: {len(early)} of {len(records)} trials.")
    folder = config.folder
    figures = [folder / name for name in ("posterior.png", "pareto.png") if (folder / name).exists()]
    if figures:
        lines.append(f"Figure: {', '.join(map(str, figures))}")
    return lines


def _beside_references(study: Study, best: TrialRecord) -> list[str]:
    """Say what the references score, and whether the winner is better."""
    known, sign = references_of(study), 1 if study.mode == "min" else -1
    if not known:
        return []
    said = ", ".join(f"{name} {number(value)}" for name, value in known.items())
    mean_image = known.get("mean image", math.inf * sign)
    if sign * best.last(study.metric) < sign * mean_image:
        return [f"Costs nothing: {said}."]
    return [f"No better than what costs nothing ({said}): train longer before you trust any of these trials."]


def closing_words(ending: Ending) -> list[str]:
    """Say what failed, what to type next, and how to go on where it was interrupted; a line each."""
    lines = [*trouble_words(ending), *next_words(ending)]
    if ending.interrupted:
        lines.append(f"Interrupted. Go on with: {ending.resume}")
    return lines


def trouble_words(ending: Ending) -> list[str]:
    """Say which trials failed, and what MLflow lacks; a line each."""
    config, lines = ending.config, []
    failed = [record for record in ending.records if record.status == FAILED]
    if failed:
        numbers = ", ".join(str(record.number) for record in failed)
        lines.append(
            f"Failed: trial {numbers} ({failed[0].error}); the whole errors are in "
            f"{ending.checkpoints}/{TUNE}/*/error.txt."
        )
    if ending.unsent:
        lines.append(
            f"{ending.unsent} events have not reached MLflow at {config.tracking_uri} "
            f"({ending.delivery_error or 'still sending'}); nothing is lost: {ending.resume} sends them."
        )
    return lines


def next_words(ending: Ending) -> list[str]:
    """Say what to type next: commands for this sweep, and its experiment in MLflow; a line each."""
    config, lines = ending.config, []
    if any(record.metrics for record in ending.records):
        lines.append(f"Who won, and can that be told? {analysis_command('winners', config)}")
        lines.append(f"One page for a colleague: {analysis_command('report', config)}")
    lines.append(f"Compare the trials in MLflow: {ui_command(config.tracking_uri)}")
    if ending.page is not None:
        served = config.tracking_uri.startswith("http")
        base = config.tracking_uri.rstrip("/") if served else "http://127.0.0.1:5000"
        lines.append(f"then open {base}/{ending.page}")
    return lines
