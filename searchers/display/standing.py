"""Why a trial does not go on: what the rung where it was halted compared it with, in words."""

import math
from dataclasses import dataclass

from analysis.charts.text import number
from searchers.record.schema import STOPPED
from searchers.scheduling.rule import PauseRule

WAITING = "waiting"  # paused: it goes on if the searcher expects more of it than of a new trial


@dataclass(frozen=True)
class Standing:
    """A trial at the last rung that it reached, among all that have reached it by now."""

    rung: int
    value: float
    cut: float
    """the value that lets a trial go on there; not finite where nothing is there to compare with"""
    place: int
    of: int
    first: bool
    """one of the first trials, which all pause at the first rung"""


def standing_of(rule: PauseRule, trial: str, sign: float = 1.0) -> Standing | None:
    """Return where a trial stands; None for one that no rung has compared.

    `sign`: 1 for a metric that is minimized, −1 for one that is maximized; values are the metric's own.
    """
    passed = [rung for rung in rule.rungs[:-1] if trial in rule.reached.get(rung, {})]
    if not passed:
        return None
    rung = passed[-1]
    values = rule.reached[rung]
    place = 1 + sum(value < values[trial] for value in values.values())
    first = rung == rule.rungs[0] and rule.is_first(trial)
    cut = sign * rule.cut(rung, trial)
    return Standing(rung, sign * values[trial], cut, place, len(values), first)


def why(standing: Standing | None, state: str, sign: float = 1.0) -> str:
    """Say what a halted trial's last rung says of it; "" where no rung has compared it. `sign` as above."""
    if standing is None:
        return ""
    said = f"epoch {standing.rung}: {number(standing.value)}, {ordinal(standing.place)} of {standing.of}"
    if math.isfinite(standing.cut) and sign * standing.value > sign * standing.cut:
        return f"{said}, cut {number(standing.cut)}"
    if state == STOPPED:
        return f"{said}, budget used up"
    return f"{said}, the first ones wait" if standing.first and state == WAITING else said


def brief(standing: Standing | None) -> str:
    """Return `why` in a few letters, for narrow terminals: "7/9 at 15"."""
    return "" if standing is None else f"{standing.place}/{standing.of} at {standing.rung}"


def ordinal(n: int) -> str:
    """Return 1st, 2nd, 3rd, 4th, …, 11th, 12th, 13th, …, 21st."""
    ending = "th" if n % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(n % 10, "th")
    return f"{n}{ending}"
