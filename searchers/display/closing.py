"""What a sweep says at its end: the table of its trials, the best one, and what to type next."""

import math
from dataclasses import dataclass

from rich.table import Table

from analysis.charts.text import number
from searchers.display.commands import analysis_command, ui_command
from searchers.record.provenance import references_of
from searchers.record.schema import FAILED, STOPPED
from searchers.record.trials import TrialRecord, ranked
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


def result_table(study: Study, config: SweepConfig, records: list[TrialRecord]) -> Table:
    """Return all trials, the best first: a table for terminals of 80 columns.

    Beside further objectives there is no room for what is derived from a setting.
    """
    ordered = ranked(records, study.metric, study.mode)
    best = ordered[0] if ordered else None
    ordered += [record for record in records if not math.isfinite(record.last(study.metric))]
    further = {name: name.rpartition("/")[2] for name in study.objectives}
    derived = list(study.derived(records[0].config)) if records and not further else []
    table = Table(
        title=f"{config.title}: all trials",
        title_justify="left",
        title_style="bold",
        padding=(0, 0 if further else 1),
    )
    for name in ("trial", *study.space, *derived, "epoch", study.metric, *further.values()):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("state", no_wrap=True)
    for record in ordered:
        values = study.derived(record.config)
        table.add_row(
            str(record.number),
            *(number(record.config[name]) for name in study.space),
            *(number(values[name]) for name in derived),
            f"{record.epoch}/{config.epochs}",
            _score(record, study.metric),
            *(f"{record.last(name):.3g}" for name in further),
            record.status or "unfinished",
            style="bold green" if record is best else None,
        )
    return table


def _score(record: TrialRecord, metric: str) -> str:
    """Format a trial's last score with its deviation, if it has one."""
    if not record.metrics:
        return "–"
    deviation = record.last(f"{metric}_std")
    return number(record.last(metric)) + (f" ± {deviation:.2g}" if math.isfinite(deviation) else "")


def best_words(
    study: Study, config: SweepConfig, records: list[TrialRecord], best: TrialRecord | None
) -> list[str]:
    """Say what is best, what stopped early, and where the figures are; a line each."""
    lines = []
    if best:
        setting = ", ".join(f"{name} = {number(best.config[name])}" for name in study.space)
        setting += "".join(
            f", {name} = {number(value)}" for name, value in study.derived(best.config).items()
        )
        first = best.metrics[min(best.metrics)][study.metric]
        lines.append(
            f"Best: trial {best.number}, {setting}: {study.metric} {number(best.last(study.metric))} "
            f"after epoch {best.epoch} ({number(first)} at first)."
        )
        lines += _beside_references(study, best)
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
            f"{ending.checkpoints}/tune/*/error.txt."
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
