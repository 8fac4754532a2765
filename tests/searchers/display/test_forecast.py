"""How long a sweep still takes: closed forms, and a simulated sweep that is told its own end."""

import heapq
import math

import numpy as np
import pytest

from searchers.display.forecast import (
    Work,
    seconds_left,
    seconds_per_epoch,
    work_of_rule,
    work_without_rule,
)
from searchers.display.snapshot import time_left
from searchers.record.trials import TrialRecord
from searchers.scheduling.rule import PauseRule, decide


def test_what_runs_alone_takes_its_epochs_less_what_is_trained_of_them_already():
    work = work_without_rule({"a": 6}, to_begin=0, epochs=9)
    assert seconds_left(work, {"a": 2.0}, {"a": 5.0}, workers=2) == (7.0, 7.0)


def test_what_has_not_begun_is_shared_by_the_workers():
    work = work_without_rule({"a": 2, "b": 4}, to_begin=2, epochs=5)
    least, most = seconds_left(work, {"a": 1.0, "b": 1.0}, {}, workers=2)
    assert least == (2 + 4 + 10) / 2 and most == least + 5 / 2


def test_nothing_is_known_before_the_first_result_and_nothing_is_left_at_the_end():
    assert seconds_left(Work({"a": 5}, 0, 0, 0), {"a": math.nan}, {}, 1) is None
    assert seconds_left(Work({}, 0, 0, 0), {"a": 1.0}, {}, 2) == (0.0, 0.0)
    assert math.isnan(seconds_per_epoch(TrialRecord("a", 1, {})))


def test_an_epoch_takes_the_mean_of_a_trials_results():
    record = TrialRecord("a", 1, {}, {5: {"time_this_iter_s": 10.0}, 10: {"time_this_iter_s": 20.0}})
    assert seconds_per_epoch(record) == 3.0


@pytest.mark.parametrize(
    ("bounds", "said"),
    [
        (None, "time left is known after the first result"),
        ((0.0, 0.0), "ending"),
        ((70.0, 70.0), "about 70 s left"),
        ((60.0, 300.0), "60 s to 5 min left"),
        ((0.0, math.inf), "time left is unknown"),
    ],
)
def test_time_left_in_words(bounds, said):
    assert time_left(bounds) == said


class Draws:
    """A searcher without a model, which repeats trials or does not."""

    def __init__(self, repeats):
        self.repeats = repeats

    def suggest(self, trial):
        return {}

    def replicate(self, trial):
        return {"seed": 1} if self.repeats else None


@pytest.mark.parametrize("repeats", [True, False])
@pytest.mark.parametrize("seed", range(4))
def test_a_sweep_ends_when_it_was_said_to(seed, repeats):
    """Two workers, epochs of 1 s, results every third; the time left is asked for at each result."""
    random, epochs, every, workers = np.random.default_rng(seed), 27, 3, 2
    rule = PauseRule(epochs, 3, first_trials=4, budget=9 * epochs, max_trials=20, replicates=2)
    searcher, now, said, busy = Draws(repeats), 0.0, [], []
    heard: dict[str, float] = {}

    def begin():
        choice = decide(rule, searcher, f"t{len(rule.trials)}")
        if choice is not None:
            trial = choice if isinstance(choice, str) else list(rule.trials)[-1]
            if isinstance(choice, str):
                rule.resume(trial)
            heard[trial] = now
            heapq.heappush(busy, (now + every, trial))

    while True:
        while len(busy) < workers and (before := len(busy)) >= 0:
            begin()
            if len(busy) == before:
                break
        if not busy:
            break
        now, trial = heapq.heappop(busy)
        heard[trial] = now
        epoch = rule.trials[trial].epoch + every
        if rule.report(trial, epoch, random.uniform() + 3 / epoch) == "continue":
            heapq.heappush(busy, (now + every, trial))
        more = {t: epochs - rule.trials[t].epoch for t in rule.running}
        since = {t: now - heard[t] for t in rule.running}
        said.append((now, seconds_left(work_of_rule(rule, more), {"any": 1.0}, since, workers)))
    assert now > 60 and len(said) > 30
    for at, (least, most) in said:
        assert at + least - every <= now <= at + most + every, (at, least, most, now)
    *_, (at, (_, most)) = [s for s in said if s[0] < now - every]
    assert most <= 2 * epochs  # near the end it is not said to be far away
