"""How long a sweep goes on: what runs, what its budget and trials still allow, at the pace of its epochs."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import median

from searchers.record.trials import TrialRecord
from searchers.scheduling.rule import PauseRule

SECONDS = "time_this_iter_s"  # Tune's key: how long the epochs of a result took, their evaluation included


@dataclass(frozen=True)
class Work:
    """Epochs that are still to be trained."""

    certain: Mapping[str, int]
    """of each running trial, until it ends or can be halted"""
    least: float
    """beside those, at least"""
    most: float
    """beside those, at most"""
    longest: int
    """of one piece of these, which one trial trains by itself"""


def seconds_per_epoch(record: TrialRecord) -> float:
    """Return the mean over a trial's epochs; nan before its first result."""
    seconds = sum(metrics.get(SECONDS, math.nan) for metrics in record.metrics.values())
    return seconds / record.epoch if record.epoch else math.nan


def work_of_rule(rule: PauseRule, more: Mapping[str, int]) -> Work:
    """Return what is left under a rule with a budget; `more`: epochs of each running trial to its end."""
    running = [t for t in rule.running if t in more]
    certain = {t: min(more[t], rule.halt(rule.trials[t]) - rule.trials[t].epoch) for t in running}
    begun = sum(not p.whole for p in rule.trials.values())
    possible: float = sum(more[t] - certain[t] for t in running)
    halted = [*rule.paused, *(t for t in rule.running if t not in more)]
    possible += sum(rule.max_epochs - rule.trials[t].epoch for t in halted)
    possible += (rule.max_trials - begun) * rule.max_epochs if begun < rule.max_trials else 0
    left = rule.budget - rule.spent - sum(certain.values())
    searched = max(0.0, min(possible, left - rule.aside))
    # The last trial that the budget lets go on runs to its next rung, beyond the budget.
    steps = [high - low for low, high in zip([0, *rule.rungs], rule.rungs, strict=False)]
    beyond = min(max(steps) - 1, possible - searched) if searched > 0 else 0
    longest = rule.max_epochs if rule.aside else max(steps)
    # Some searchers repeat no trial; what is set aside for that is then not used.
    return Work(certain, searched, searched + beyond + rule.aside, longest)


def work_without_rule(more: Mapping[str, int], to_begin: int, epochs: int) -> Work:
    """Return what is left where each trial trains to its end, `to_begin` of which have not begun."""
    further = to_begin * epochs
    return Work(more, further, further, epochs)


def seconds_left(
    work: Work, pace: Mapping[str, float], since: Mapping[str, float], workers: int
) -> tuple[float, float] | None:
    """Return the least and the most seconds that the rest takes; None before any pace is known.

    pace: seconds an epoch of each trial, nan where unknown; since: seconds since each running trial's last
    result, which are trained already; workers: trials side by side.
    """
    known = [seconds for seconds in pace.values() if math.isfinite(seconds)]
    if not known:
        return None
    usual = median(known)
    busy = []
    for trial, epochs in work.certain.items():
        own = pace.get(trial, math.nan)
        seconds = epochs * (own if math.isfinite(own) else usual)
        busy.append(max(0.0, seconds - since.get(trial, 0.0)))
    side_by_side = max(1, workers, len(busy))

    def until(further: float, last: float = 0.0) -> float:
        # What one worker trains alone at the end, as far as the others have nothing left (Graham 1969).
        alone = (1 - 1 / side_by_side) * last * usual
        level = (sum(busy) + further * usual) / side_by_side + alone
        return max([level, *busy])

    return until(work.least), until(work.most, min(work.longest, work.most))
