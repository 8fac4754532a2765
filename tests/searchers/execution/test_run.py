"""How a sweep is put together from its settings."""

import io
import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from ray import tune
from rich.console import Console

from cluster.connect import Cluster, Node
from searchers.execution import run
from searchers.execution.overlay import own_setting
from searchers.execution.plan import Cost, costs, plan
from searchers.execution.search import make_scheduler
from searchers.record.schema import DIVERGED, FINISHED
from searchers.record.trials import TrialRecord, ranked
from searchers.study.config import SweepConfig, UsageError
from searchers.study.study import Study
from trainables import VAE, VAEGAN

CONFIG = SweepConfig(epochs=4, grace_epochs=2, num_samples=9)


def study(**changes):
    values = {"metric": "mig", "mode": "max", "objectives": {}, "space": {"beta": 1}, "random_starts": None}
    return SimpleNamespace(**values | {"settings": {"seed": 0}} | changes)


@pytest.mark.parametrize("last", [{}, {"mig": 0.9}])
def test_a_resumed_sweep_has_the_rungs_that_it_had_though_a_trial_diverged(last):
    """Of a model that is lost no score counts, nor need there be any."""
    rows = {
        "a": {2: {"mig": 0.5}, 4: {"mig": 0.6}},
        "b": {2: {"mig": 0.4}, 4: {"fd": math.nan, "diverged": 1.0} | last},
    }
    records = [TrialRecord(name, n, {"seed": 0}, metrics) for n, (name, metrics) in enumerate(rows.items())]
    records[0].status, records[1].status = FINISHED, DIVERGED
    again = TrialRecord("again", 3, {"seed": 1}, {2: {"mig": 0.5}})
    rule = make_scheduler(study(), replace(CONFIG, replicates=1), [*records, again]).rule
    assert rule.reached == {2: {"a": -0.5, "b": -0.4, "again": -0.5}} and rule.rungs == [2, 4]
    assert [i for i, p in rule.trials.items() if p.whole] == ["again"]
    assert rule.spent == 10 and rule._ahead() == {"a": 0}  # b is none of the fully trained


@pytest.mark.parametrize(
    ("changes", "budget"),
    [
        ({}, 12.0),
        ({"trainings": 2.5}, 10.0),
        ({"num_samples": 2}, 4.0),
        ({"grace_epochs": 4}, 36.0),
        ({"evaluate_every": 4}, 36.0),
        ({"evaluate_every": 3}, 12.0),
        ({"evaluate_every": 4, "grace_epochs": None}, 36.0),
    ],
)
def test_the_budget_is_a_third_of_the_trials_if_it_is_not_given(changes, budget):
    """Or all of them, where nothing is evaluated from the first rung on but the end: nothing can pause."""
    rule = make_scheduler(study(), replace(CONFIG, **changes), []).rule
    assert rule.budget == budget and rule.max_trials == changes.get("num_samples", 9)
    assert (
        rule.first_trials == 3 and make_scheduler(study(random_starts=4), CONFIG, []).rule.first_trials == 4
    )


@pytest.mark.parametrize(
    ("changes", "rungs"),
    [
        ({"evaluate_every": 10}, [10, 30]),
        ({"evaluate_every": 4, "grace_epochs": 6}, [8, 24, 30]),
        ({"evaluate_every": 7, "grace_epochs": None}, [7, 21, 30]),
        ({"evaluate_every": 40}, [30]),
    ],
)
def test_trials_are_compared_where_they_are_evaluated_and_the_budget_is_kept(changes, rungs):
    config = replace(CONFIG, epochs=30, num_samples=40, trainings=3, **changes)
    rule = make_scheduler(study(), config, []).rule
    assert rule.rungs == rungs
    for worker in range(32):
        if rule.may_begin:
            rule.begin(str(worker))
    while rule.running:
        for trial in rule.running:
            epoch = min(rule.trials[trial].epoch + config.evaluate_every, 30)
            rule.report(trial, epoch, float(trial))
        if not rule.running and rule.resumable:
            rule.resume(rule.best_paused(rule.resumable))
    assert rule.spent < 3 * 30 + max(np.diff([0, *rungs]))
    assert 30 in {progress.epoch for progress in rule.trials.values()}


def test_of_trials_without_a_full_training_those_trained_further_come_first():
    rows = {
        "a": ("finished", {4: 9.0}),
        "b": (None, {2: 1.0}),
        "c": ("stopped", {3: 5.0}),
        "d": (None, {3: 4.0}),
    }
    records = [
        TrialRecord(name, n, {}, {e: {"fd": v} for e, v in values.items()}, status)
        for n, (name, (status, values)) in enumerate(rows.items())
    ]
    records += [TrialRecord("lost", 5, {}, {3: {"fd": 0.1}}, DIVERGED)]
    assert [record.trial for record in ranked(records, "fd", "min")] == ["a", "d", "c", "b"]


@pytest.mark.parametrize(
    ("objectives", "repeated"), [({}, 2), ({"kl": "min"}, 0)], ids=["no early stopping", "several scores"]
)
def test_where_nothing_is_paused_the_budget_holds(objectives, repeated):
    config = replace(CONFIG, early_stopping=bool(objectives), trainings=5, replicates=2, grace_epochs=None)
    rule = make_scheduler(study(objectives=objectives), config, []).rule
    assert rule.rungs == [4] and not rule.learned and rule.replicates == repeated
    for n in range(9):
        if rule.may_begin or rule.may_replicate:
            rule.begin(str(n), whole=rule.may_replicate)
            said = [rule.report(str(n), epoch, math.nan if epoch < 4 else 1.0) for epoch in (1, 2, 3, 4)]
            assert said == ["continue"] * 3 + ["stop"]
    assert rule.spent == 5 * 4 and sum(p.whole for p in rule.trials.values()) == repeated
    assert make_scheduler(study(objectives=objectives), replace(config, trainings=None), []).rule.budget == 36


@pytest.mark.parametrize(
    ("searcher", "samples", "begun"), [("ours", 12, 2), ("random", 12, 2), ("ours", 1, 1)]
)
def test_a_space_of_few_settings_has_no_more_trials(monkeypatch, searcher, samples, begun):
    """Trials of one setting and one seed are copies, bit for bit."""
    planned = []
    for name in ("check_settings", "first_point", "own_code", "say_beforehand", "join"):
        monkeypatch.setattr(run, name, lambda *arguments: None)
    monkeypatch.setattr(run, "plan", lambda study, config, rule, *others: planned.append((config, rule)))
    of = Study(VAE, {"latent_dim": tune.choice([32, 64])}, {"seed": 0}, "fid")
    console = Console(file=io.StringIO())
    config = replace(CONFIG, searcher=searcher, num_samples=samples, dry_run=True)
    run.run(of, config, "id", "python -m x", console)
    ((config, rule),) = planned
    assert config.num_samples == rule.max_trials == begun
    said = "The space has 2 settings: so many trials at most, not 12.\n" if samples > 2 else ""
    assert console.file.getvalue() == said


def test_a_sweep_keeps_what_was_asked_for_also_where_the_space_has_fewer_settings(monkeypatch):
    """Else the same words with --resume would be refused."""
    for name in ("check_settings", "first_point", "own_code", "say_beforehand"):
        monkeypatch.setattr(run, name, lambda *arguments: None)
    begun = []

    def driver(config, *arguments, num_samples, **others):
        begun.append((config, num_samples))
        raise UsageError("enough")

    monkeypatch.setattr(run, "Driver", driver)
    of = Study(VAE, {"latent_dim": tune.choice([32, 64])}, {"seed": 0}, "fid")
    with pytest.raises(UsageError, match="enough"):
        run.run(of, CONFIG, "id", "python -m x", Console(file=io.StringIO()))
    assert begun == [(CONFIG, 2)]


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (
            {"points_to_evaluate": ({"n": 8}, {"n": 12})},
            r"points_to_evaluate\[1\]: n = 12 is no multiple of 8",
        ),
        ({"points_to_evaluate": ({"m": 8},)}, r"points_to_evaluate\[0\]: 'm' is not searched"),
        ({"space": {"kind": tune.choice([dict, list])}}, r"kind = <class 'dict'> can't be recorded: give a"),
        ({"settings": {"act": math.sin}}, "act = <built-in function sin> can't be recorded"),
        (
            {"points": ({"n": 8}, {"n": 8, "act": math.sin})},
            "act = <built-in function sin> can't be recorded",
        ),
    ],
)
def test_what_would_end_a_sweep_that_has_begun_is_refused(changes, sentence):
    of = Study(**{"trainable": None, "space": {"n": tune.qrandint(8, 64, 8)}, "metric": "fid"} | changes)
    with pytest.raises(UsageError, match=sentence):
        run.checked(of, CONFIG)


def test_a_plans_disk_holds_the_trials_that_are_trained_again_and_the_pictures_twice_where_mlflow_is_here():
    cost = Cost(start=1, step=1, epoch=1, evaluation=1, checkpoint=1_000_000, images=100_000)
    uris = {"sqlite:///mlflow.db": "30.0 MB at most: 20 checkpoints of 1.0 MB, pictures 10.0 MB"}
    uris["http://head:5000"] = "25.0 MB at most: 20 checkpoints of 1.0 MB, pictures 5.0 MB"
    for uri, said in uris.items():
        config = replace(CONFIG, tracking_uri=uri)
        assert dict(costs(config, cost, trials=10, trainings=3, at_once=2, on="one core"))["Disk"] == said


@pytest.mark.parametrize(("trainings", "said"), [(8, 5), (4.5, 4.5)])
def test_a_plan_has_no_budget_that_no_trial_could_spend(monkeypatch, trainings, said):
    monkeypatch.setattr("searchers.execution.plan.check_tracking", lambda *_: None)
    console = Console(file=io.StringIO(), width=100)
    of = Study(object, {"beta": tune.uniform(1, 2)}, {"seed": 0}, "fid")
    config = replace(CONFIG, num_samples=3, trainings=trainings, replicates=2)
    rule = make_scheduler(of, config, []).rule
    plan(of, config, rule, {}, Cluster(None, (Node(2, 0),)), console)
    assert f"Budget  {said} whole trainings, in epochs; the best 2" in console.file.getvalue()


@pytest.mark.parametrize("place", ["space", "points"])
def test_trials_of_a_sweep_have_as_many_processes(monkeypatch, place):
    """Tune reserves what all of them take before the first."""
    of = Study(None, {"processes": tune.choice([1, 2])}, {"seed": 0}, "fid")
    if place == "points":
        of = Study(None, {}, {"seed": 0}, "fid", points=({"beta": 1.0}, {"beta": 1.0, "processes": 2}))
    with pytest.raises(UsageError, match="processes: all trials of a sweep have as many; --set processes="):
        run.checked(of, CONFIG)
    monkeypatch.setattr(run, "check_settings", lambda *arguments: None)
    space = {"beta": tune.uniform(1, 2)}
    held = replace(of, trainable=VAE, settings={"processes": 2}, space=space, points=None)
    assert run.checked(held, CONFIG)[0].settings["processes"] == 2


@pytest.mark.parametrize(
    ("space", "first"),
    [
        ({"beta": tune.loguniform(0.3, 30), "learning_rate": tune.loguniform(1e-4, 1e-1)}, ["beta", "rate"]),
        ({"beta": tune.uniform(30, 40), "learning_rate": tune.loguniform(1e-4, 1e-1)}, ["rate"]),
        ({"beta": tune.uniform(30, 40)}, []),
    ],
)
def test_a_search_begins_with_the_models_own_setting_as_far_as_it_lies_in_the_space(space, first):
    of = Study(VAE, space, {"recipe": "modern", "image_size": 16, "epochs": 3}, "elbo", mode="max")
    own = VAE.model_of(of.settings)[0].Config()
    values = {"beta": own.beta, "learning_rate": own.learning_rate}
    expected = {name: values[name] for name in space if name.removeprefix("learning_") in first}
    assert list(run.checked(of, CONFIG)[0].points_to_evaluate) == ([expected] if expected else [])
    wasserstein = {"recipe": "wgan_gp", "image_size": 16}
    slower = Study(VAEGAN, {"learning_rate": tune.loguniform(1e-5, 1e-3)}, wasserstein, "fid")
    recipe = VAEGAN.model_of(wasserstein)[0].RECIPES["wgan_gp"]
    assert own_setting(slower) == ({"learning_rate": recipe["learning_rate"]},)
    given = replace(of, points_to_evaluate=({name: d.lower for name, d in space.items()},))
    assert run.checked(given, CONFIG)[0].points_to_evaluate == given.points_to_evaluate
