"""Why a trial does not go on: its rung, its score, the cut-off, its place."""

import math

import pytest

from searchers.display.snapshot import Told, rows_of
from searchers.display.standing import ordinal, standing_of
from searchers.record.schema import FAILED, STOPPED
from searchers.record.trials import TrialRecord
from searchers.scheduling.rule import PauseRule

VALUES = {"a": 5.0, "b": 1.0, "c": 4.0, "d": 2.0, "e": 3.0}


def swept(sign=1.0):
    """Five trials in this order on one rung, at epoch 3; of three the first pauses whatever it is."""
    rule = PauseRule(9, 3, first_trials=1)
    records = []
    for number, (trial, value) in enumerate(VALUES.items(), 1):
        rule.begin(trial)
        rule.report(trial, 3, value)
        records.append(TrialRecord(trial, number, {"beta": 1.0}, {3: {"score": sign * value}}))
    return rule, records


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_a_trial_stands_where_its_value_puts_it_among_all_at_its_rung(sign):
    rule, _ = swept()
    found = {trial: standing_of(rule, trial, sign) for trial in VALUES}
    assert {t: s.place for t, s in found.items()} == {"a": 5, "b": 1, "c": 4, "d": 2, "e": 3}
    assert all(s.of == 5 and s.rung == 3 and s.value == sign * VALUES[t] for t, s in found.items())
    # The lower third of 1, 2, 4, 5, by linear interpolation: where `a`, `b`, `c` and `d` leave room for `e`.
    assert math.isclose(found["e"].cut, sign * 2.0) and found["a"].first and not found["b"].first


@pytest.mark.parametrize(("mode", "sign"), [("min", 1.0), ("max", -1.0)])
def test_the_reason_holds_rung_score_place_and_cut_off(mode, sign):
    rule, records = swept(sign)
    records[0].status = STOPPED
    rows = {row.number: row for row in rows_of(records, Told("score", mode, ["beta"], 9), rule=rule)}
    assert rows[5].why == f"epoch 3: {3 * sign:g}, 3rd of 5, cut {2 * sign:g}"
    assert rows[5].brief == "3/5 at 3" and rows[5].state == "waiting"
    assert rows[1].why == f"epoch 3: {5 * sign:g}, 5th of 5, cut {2 * sign:g}"
    assert rows[2].best and rows[2].why == f"epoch 3: {sign:g}, 1st of 5"


def test_a_trial_that_the_budget_ended_and_one_that_failed_say_so():
    rule, records = swept()
    records[1].status, records[4].status, records[4].error = STOPPED, FAILED, "RuntimeError: out of memory"
    rows = {row.number: row for row in rows_of(records, Told("score", "min", ["beta"], 9), rule=rule)}
    assert rows[2].why == "epoch 3: 1, 1st of 5, budget used up"
    assert (rows[5].why, rows[5].wrong) == ("", "RuntimeError: out of memory")


def test_health_flags_are_words_and_what_runs_comes_behind_the_best():
    _, records = swept()
    records[4].flags[3] = "collapsed,discriminator_wins"
    rows = rows_of(records, Told("score", "min", ["beta"], 9), running=frozenset("ac"))
    assert [row.number for row in rows] == [2, 3, 1, 4, 5]
    assert rows[4].wrong == "all samples alike, discriminator always right"


@pytest.mark.parametrize(
    ("n", "said"),
    [(1, "1st"), (2, "2nd"), (3, "3rd"), (4, "4th"), (11, "11th"), (112, "112th"), (21, "21st")],
)
def test_ordinals(n, said):
    assert ordinal(n) == said
