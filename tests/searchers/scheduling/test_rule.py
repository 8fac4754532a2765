"""The rule of pausing by itself: whom it halts, whom it lets go on, and what it spends."""

import math

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from searchers.record.trials import TrialRecord
from searchers.scheduling.rule import PauseRule, decide, rungs


def trained(rule, trial, values, whole=False):
    """Begin a trial and report values at epochs 1, 2, … until the rule halts it; return what it said."""
    rule.begin(trial, whole)
    said = []
    for epoch, value in enumerate(values, start=1):
        said.append(rule.report(trial, epoch, value))
        if said[-1] != "continue":
            break
    return said


def test_rungs_are_powers_below_the_last_epoch():
    assert rungs(18, 2) == [2, 6, 18] and rungs(9, 1) == [1, 3, 9] and rungs(5, 5) == [5]
    assert PauseRule(50).rungs == [3, 9, 27, 50]


@pytest.mark.parametrize("first", [0, 10])
def test_a_first_rung_outside_the_training_is_refused(first):
    with pytest.raises(ValueError, match=f"first_rung is {first}.*1 … 9"):
        PauseRule(9, first)


def test_the_best_third_of_those_before_goes_on():
    """The cut is the third's percentile of the values that came before, as in Tune's ASHA."""
    rule = PauseRule(9, 1)
    assert trained(rule, "a", [5.0, 5.0])[0] == "continue"  # nothing to compare with
    assert trained(rule, "b", [6.0]) == ["pause"]
    assert trained(rule, "c", [4.0, 4.0])[0] == "continue"
    # before: 5, 6, 4; their 33.3rd percentile is 4.667
    assert np.percentile([5.0, 6.0, 4.0], 100 / 3) == pytest.approx(4.667, abs=1e-3)
    assert trained(rule, "d", [4.7]) == ["pause"]
    assert trained(rule, "e", [4.6, 1.0])[0] == "continue"
    assert rule.paused == ["b", "d"]


def test_first_trials_pause_whatever_they_reach():
    rule = PauseRule(9, 3, first_trials=2)
    assert [trained(rule, t, [v] * 9)[-1] for t, v in (("a", 5.0), ("b", 1.0), ("c", 0.5))] == [
        "pause",
        "pause",
        "stop",
    ]
    assert rule.trials["c"].epoch == 9 and rule.trials["c"].state == "ended"


def test_a_resumed_trial_is_compared_at_the_next_rung():
    rule = PauseRule(9, 1, first_trials=2)
    trained(rule, "a", [5.0])
    trained(rule, "b", [6.0])
    rule.resume("a")
    assert rule.report("a", 2, 4.0) == rule.report("a", 3, 4.0) == "continue"
    rule.resume("b")
    assert rule.report("b", 2, 4.0) == "continue" and rule.report("b", 3, 4.5) == "pause"
    assert rule.reached == {1: {"a": 5.0, "b": 6.0}, 3: {"a": 4.0, "b": 4.5}}


def test_epochs_may_be_reported_rarely_and_twice():
    rule = PauseRule(27, 1)
    rule.begin("a")
    assert rule.report("a", 4, 1.0) == "continue" and rule.reached == {3: {"a": 1.0}}
    assert rule.report("a", 4, 9.0) == "continue" and rule.reached == {3: {"a": 1.0}}
    assert rule.report("a", 5, 9.0) == "continue"


def test_what_has_no_value_at_a_rung_ends():
    rule = PauseRule(9, 3)
    assert trained(rule, "a", [1.0, math.nan, math.nan]) == ["continue", "continue", "stop"]


def test_models_that_have_not_begun_to_draw_are_not_compared():
    rule = PauseRule(9, 1)
    for trial in "ab":
        rule.begin(trial)
        assert rule.report(trial, 1, 300.0, "collapsed,dead_latent_space") == "continue"
    assert rule.reached[1] == {}
    rule.begin("c")
    assert rule.report("c", 1, 200.0) == "continue"
    rule.begin("d")
    assert rule.report("d", 1, 100.0, "collapsed") == "pause"  # others draw by now
    rule.begin("e")
    assert rule.report("e", 1, 190.0, "discriminator_wins") == "continue"


def curves(signal, noise, count=6, epochs=9, seed=0):
    rng = np.random.default_rng(seed)
    height = signal * rng.standard_normal(count)
    return [10 / np.arange(1, epochs + 1) + h + noise * rng.standard_normal(epochs) for h in height]


@pytest.mark.parametrize(("signal", "noise", "first"), [(1.0, 0.1, 2), (0.1, 1.0, 6)])
def test_the_first_rung_moves_up_where_curves_differ_by_no_more_than_their_noise(signal, noise, first):
    rule = PauseRule(36, None, first_trials=6)
    for n, curve in enumerate(curves(signal, noise)):
        trained(rule, str(n), curve)
    assert rule.rungs[0] == first
    given = PauseRule(36, 2, first_trials=6)
    for n, curve in enumerate(curves(signal, noise)):
        trained(given, str(n), curve)
    assert given.rungs[0] == 2


def test_the_budget_is_used_up_and_exceeded_by_less_than_one_way_between_rungs():
    rule, count = PauseRule(9, 1, budget=40), 0
    while rule.may_begin:
        trained(rule, str(count), [1.0 / (count + 1)] * 9)  # each one is better than all before
        count += 1
    assert 40 <= rule.spent < 40 + 6 and not rule.may_resume
    assert rule.settled


def test_running_trials_are_counted_up_to_their_next_rung():
    rule = PauseRule(9, 3, budget=15)
    for n in range(3):
        assert rule.may_begin
        rule.begin(str(n))
    assert rule.committed == 9 and not rule.may_begin and not rule.settled


def test_budget_is_set_aside_for_replicates_which_nothing_halts():
    rule = PauseRule(9, 1, budget=36, replicates=2, first_trials=9)
    count = 0
    while rule.may_begin:
        trained(rule, str(count), [1.0 + count])
        count += 1
    assert rule.spent == 10 and rule.may_resume and not rule.may_replicate  # one is trained to its end yet
    for epoch, value in enumerate([1.0] * 8, start=2):
        assert rule.report("0", epoch, value) == ("stop" if epoch == 9 else "continue")
    assert rule.spent == 18 and rule.paused and not rule.may_resume
    assert rule.may_replicate
    assert trained(rule, "again", [99.0] * 9, whole=True) == ["continue"] * 8 + ["stop"]
    assert rule.may_replicate
    trained(rule, "more", [99.0] * 9, whole=True)
    assert not rule.may_replicate and rule.spent == 36
    assert PauseRule(9, 1, budget=20, replicates=2).replicates == 1  # half of it is the search's


@given(
    evaluations=st.integers(2, 40),
    every=st.integers(1, 5),
    share=st.floats(0.05, 1.0),
    trainings=st.floats(1.0, 12.0),
    replicates=st.integers(0, 3),
    first_trials=st.integers(0, 6),
    max_trials=st.integers(1, 30),
    workers=st.integers(1, 4),
    seed=st.integers(0, 2**32 - 1),
)
@example(2, 1, 1.0, 1.0000000000000002, 0, 0, 2, 1, 0)
def test_whatever_the_order_some_trial_is_trained_to_its_end_and_the_budget_is_kept(
    evaluations, every, share, trainings, replicates, first_trials, max_trials, workers, seed
):
    """A worker that is free takes any trial that may begin or go on; values are any."""
    epochs = evaluations * every
    budget, first = trainings * epochs, max(1, round(share * evaluations)) * every
    rule = PauseRule(
        epochs,
        first,
        first_trials=first_trials,
        budget=budget,
        max_trials=max_trials,
        replicates=replicates,
    )
    rng, begun = np.random.default_rng(seed), 0
    while True:
        while len(rule.running) < workers and (choices := [*rule.resumable, *[None] * rule.may_begin]):
            trial = choices[rng.integers(len(choices))]
            if trial is None:
                rule.begin(f"new-{begun}")
                begun += 1
            else:
                rule.resume(trial)
        if not rule.running:
            break
        trial = rule.running[rng.integers(len(rule.running))]
        rule.report(trial, rule.trials[trial].epoch + every, float(rng.normal()))
    whole = [trial for trial, progress in rule.trials.items() if progress.epoch == epochs]
    assert len(whole) >= min(rule.to_the_end, max_trials)
    assert rule.spent < budget - rule.replicates * epochs + max(np.diff([0, *rule.rungs]))


def test_whom_it_promotes():
    rule = PauseRule(9, 1, first_trials=6)
    for n, value in enumerate((5.0, 3.0, 4.0, 9.0, 8.0)):
        trained(rule, str(n), [value])
    assert rule.promotable() == "1" and rule.best_paused() == "1"  # one of five
    rule.resume("1")
    assert rule.promotable() is None
    trained(rule, "5", [7.0])
    assert rule.promotable() == "2"  # two of six
    rule.report("1", 2, 3.0)
    rule.report("1", 3, 2.0)
    trained(rule, "6", [10.0])
    assert rule.best_paused() == "2"


class Scripted:
    """A searcher of Tune's kind."""

    def suggest(self, trial):
        return {"x": trial}


class Ours(Scripted):
    """A searcher that weighs new and paused trials."""

    def __init__(self):
        self.asked, self.again = [], True

    def next_trial(self, trial, paused, begin):
        self.asked.append((trial, list(paused), begin))
        return paused[-1] if len(paused) > 1 else {"x": trial}

    def replicate(self, trial):
        found, self.again = self.again, False
        return {"x": 0, "seed": 1} if found else None


def test_our_searcher_is_asked_with_the_paused_trials():
    rule, search = PauseRule(9, 1, first_trials=9, max_trials=3), Ours()
    for n in range(3):
        assert decide(rule, search, str(n)) == {"x": str(n)} if n < 2 else "1"
        rule.report(str(n), 1, 1.0)
        if n == 1:
            break
    assert decide(rule, search, "2") == "1"
    assert search.asked == [("0", [], True), ("1", ["0"], True), ("2", ["0", "1"], True)]
    rule.resume("1")
    assert decide(rule, search, "2") == {"x": "2"} and "2" in rule.trials
    assert not rule.may_begin  # three of three


def test_replicates_come_last_and_where_there_is_nothing_to_replicate_there_are_none():
    rule, search = PauseRule(3, 1, max_trials=1, replicates=2), Ours()
    assert decide(rule, search, "0") == {"x": "0"}
    assert decide(rule, search, "1") is None  # it runs still
    for epoch in (1, 2, 3):
        rule.report("0", epoch, 1.0)
    assert decide(rule, search, "1") == {"x": 0, "seed": 1} and rule.trials["1"].whole
    assert decide(rule, search, "2") is None and rule.may_replicate


def test_any_other_searcher_takes_turns_with_promotions():
    rule = PauseRule(9, 1, first_trials=9, max_trials=4)
    for n in range(3):
        assert decide(rule, Scripted(), str(n)) == {"x": str(n)}
        rule.report(str(n), 1, float(n))
    assert decide(rule, Scripted(), "3") == "0"
    rule.resume("0")
    assert decide(rule, Scripted(), "3") == {"x": "3"}
    rule.report("3", 1, 9.0)
    assert decide(rule, Scripted(), "4") == "1"  # no trial may begin: the best one that is paused


def test_where_a_searcher_proposes_nothing_the_best_of_the_paused_goes_on():
    """As Tune's limiters do, which count paused trials as running."""
    rule = PauseRule(9, 1, first_trials=9, max_trials=9)
    for n in (1, 0, 2):
        rule.begin(str(n))
        rule.report(str(n), 1, float(n))
    rule.resume("0")  # of three, one is among the best third
    full = Scripted()
    full.suggest = lambda trial: None
    assert rule.may_begin and decide(rule, full, "3") == "1"
    assert decide(PauseRule(9, 1), full, "0") is None


def test_a_trial_that_died_before_it_was_saved_earns_its_rung_again():
    rule = PauseRule(9, 3, first_trials=1)
    trained(rule, "a", [1.0] * 3)
    rule.begin("b")
    assert [rule.report("b", epoch, 2.0) for epoch in (1, 2, 3)] == ["continue", "continue", "pause"]
    rule.end("b")
    rule.rewind("b", 2)
    assert rule.running == ["b"] and rule.reached == {3: {"a": 1.0}} and rule.spent == 5
    assert rule.committed == 1 and rule.report("b", 3, 2.0) == "pause"
    rule.rewind("b", 3)  # it was saved there
    assert rule.reached == {3: {"a": 1.0, "b": 2.0}} and rule.report("b", 4, 2.0) == "continue"


def test_replayed_from_records_it_is_what_it_was():
    rng = np.random.default_rng(0)
    rule = PauseRule(27, None, first_trials=3, budget=500)
    for n in range(12):
        trained(rule, str(n), 10 / np.arange(1, 28) + rng.standard_normal() + 0.01 * rng.standard_normal(27))
    rule.end("4")
    records = [
        TrialRecord(
            i, n, {}, {e: {"fid": v} for e, v in p.values.items()}, "stopped" if p.state == "ended" else None
        )
        for n, (i, p) in enumerate(rule.trials.items())
    ]
    again = PauseRule(27, None, first_trials=3, budget=500)
    again.replay(records, "fid")
    assert (again.trials, again.reached, again.rungs, again.spent) == (
        rule.trials,
        rule.reached,
        rule.rungs,
        rule.spent,
    )
    turned = PauseRule(27, None, first_trials=3, budget=500)
    for record in records:
        record.metrics = {e: {"score": -m["fid"]} for e, m in record.metrics.items()}
    turned.replay(records, "score", sign=-1.0)
    assert turned.reached == rule.reached


def test_a_replayed_trial_whose_last_checkpoint_was_not_saved_comes_to_its_end_again():
    rule = PauseRule(9, 3, budget=20)
    rule.replay([TrialRecord("a", 1, {}, {e: {"fid": 1.0} for e in range(1, 10)})], "fid")
    assert (rule.running, rule.spent, rule.left) == (["a"], 8, 11)
    assert rule.report("a", 9, 1.0) == "stop" and rule.spent == 9


def test_replayed_trials_without_an_end_run_between_rungs_and_are_paused_at_one():
    rule = PauseRule(9, 3)
    records = [
        TrialRecord("a", 1, {}, {1: {"fid": 1.0}, 2: {"fid": 1.0}}),
        TrialRecord("b", 2, {}),
        TrialRecord("c", 3, {}, {1: {"other": 1.0}}, "diverged"),
        TrialRecord("d", 4, {}, {1: {"fid": 3.0}, 2: {"fid": 3.0}, 3: {"fid": 3.0}}, flags={3: "collapsed"}),
    ]
    rule.replay(records, "fid", replicates=["b"])
    assert {i: p.state for i, p in rule.trials.items()} == {
        "a": "running",
        "b": "running",
        "c": "ended",
        "d": "paused",
    }
    assert rule.spent == 6 and rule.trials["b"].whole and rule.reached == {3: {}}
