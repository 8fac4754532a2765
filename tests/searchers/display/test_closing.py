"""What a sweep says at its end: a table that is whole in 80 columns, commands that can be copied."""

import io
import math
import sys
from dataclasses import replace
from importlib.metadata import version
from types import SimpleNamespace

import pytest
from rich.console import Console

from searchers.display.closing import (
    Ending,
    ResultTable,
    best_words,
    closing_words,
    next_words,
    trouble_words,
)
from searchers.display.commands import analysis_command, resume_command
from searchers.display.snapshot import Told
from searchers.record.provenance import origin
from searchers.record.trials import TrialRecord
from searchers.study.config import SweepConfig

METRIC = "fd_efficientnet_lite0"
SCORES = {METRIC: 182.34567, f"{METRIC}_std": 0.68791, "epochs": 18}
FURTHER = {"disentanglement/mig": "max", "disentanglement/dci": "max", "disentanglement/sap": "max"}


def study(**objectives):
    return SimpleNamespace(
        metric=METRIC,
        mode="min",
        objectives=objectives,
        space={"beta": None},
        derived=lambda config: {"beta_norm": config["beta"] / 24},
    )


def trials(**scores):
    known = {18: SCORES | scores}
    return [TrialRecord(str(n), n, {"beta": 138.4321}, known, "unfinished") for n in (1, 12)]


def shown(records, further=(), width=80):
    told = Told(
        METRIC, "min", ["beta"], 18, further, derived=lambda config: {"beta_norm": config["beta"] / 24}
    )
    console = Console(width=width, file=io.StringIO())
    console.print(ResultTable("front", told, records))
    return console.file.getvalue()


def test_the_star_is_at_the_trial_that_is_called_the_best():
    first, second = trials()
    second.metrics = {18: {METRIC: 180.0}}
    for best, starred in ((None, "★12"), (first, "★1 ")):
        console = Console(width=80, file=io.StringIO())
        console.print(ResultTable("front", Told(METRIC, "min", ["beta"], 18), [first, second], best=best))
        assert starred in console.file.getvalue()


@pytest.mark.parametrize("count", range(4))
def test_the_table_is_whole_in_80_columns(count):
    objectives = list(FURTHER)[:count]
    said = shown(trials(**dict.fromkeys(objectives, 0.000893214)), objectives)
    assert "…" not in said
    assert "182.3 ± 0.69" in said and "unfinished" in said
    assert said.count("0.0008932") == 2 * count
    assert ("β_norm" in said) == (count == 0)


@pytest.mark.parametrize(
    ("mode", "value", "sentence"),
    [
        ("min", 30.0, "Costs nothing: grey 206.0, mean image 100.3."),
        ("min", 137.5, "No better than what costs nothing (grey 206.0, mean image 100.3)"),
        ("max", 30.0, "No better than what costs nothing"),
        ("max", 137.5, "Costs nothing"),
    ],
)
def test_the_winner_stands_beside_what_costs_nothing(mode, value, sentence):
    provenance = {f"reference/grey/{METRIC}": 206.0, f"reference/mean_image/{METRIC}": 100.3}
    tuned = SimpleNamespace(**{**vars(study()), "mode": mode, "provenance": provenance})
    best = TrialRecord("1", 1, {"beta": 1.0}, {18: {METRIC: value}})
    config = SweepConfig(results="results", name="front", epochs=18)
    said = best_words(tuned, config, [best], best)
    assert said[0].startswith("Best: trial 1, beta = 1")
    assert said[1].startswith(sentence.replace("206.0", "206"))
    tuned.provenance = None
    assert len(best_words(tuned, config, [best], best)) == 1
    best.flags[18] = "collapsed"
    assert best_words(tuned, config, [best], best)[1].startswith("But it has collapsed")


def test_a_score_of_the_last_epoch_alone_can_be_searched_by():
    best = TrialRecord("1", 1, {"beta": 1.0}, {9: {"kl": 1.0}, 18: {METRIC: 30.0}})
    config = SweepConfig(results="results", name="front", epochs=18)
    tuned = SimpleNamespace(**vars(study()), provenance=None)
    assert f"{METRIC} 30 after epoch 18 (30 at first)" in best_words(tuned, config, [best], best)[0]


def test_the_best_without_weights_is_called_that(tmp_path):
    best = TrialRecord("t1", 3, {"beta": 1.0}, {18: {METRIC: 30.0}}, "finished")
    config, tuned = SweepConfig(results=str(tmp_path), name="front", epochs=18), study()
    tuned.provenance = None
    _, said = best_words(tuned, config, [best], best)
    assert said.startswith("Its last checkpoint is gone") and said.endswith("front 3 --reproduce")
    (tmp_path / "front/models/t1").mkdir(parents=True)
    assert len(best_words(tuned, config, [best], best)) == 1


def test_what_was_not_fully_trained_is_called_that_and_the_models_word_follows():
    best = TrialRecord("1", 1, {"beta": 1.0}, {9: {METRIC: 30.0}})
    config = SweepConfig(results="results", name="front", epochs=18)
    said = best_words(SimpleNamespace(**vars(study()), provenance=None), config, [best], best, ["Promising"])
    assert f"{METRIC} 30 after epoch 9 of 18 (30 at first)" in said[0] and said[1] == "Promising"


def test_the_best_come_first_and_who_has_no_score_last():
    values = [200.0, math.nan, 120.0, 150.0, math.nan, 180.0]
    records = [
        TrialRecord(str(n), n, {"beta": 1.0}, {1: {METRIC: value}}) for n, value in enumerate(values, 1)
    ]
    said = shown([TrialRecord("0", 0, {"beta": 1.0}), *records])
    assert [line.split()[0] for line in said.splitlines()[2:]] == ["★3", "4", "6", "1", "0", "2", "5"]


def test_a_package_that_is_not_installed_is_no_reason_to_stop():
    """A cluster's machines have this project's code, not the package."""
    tags = origin("python -m searchers.beta_vaegan", ("torch", "no-such-package"))
    assert tags["version.no-such-package"] == "unknown"
    assert tags["version.torch"] == version("torch")


def test_a_trial_without_a_score_or_a_deviation_says_no_more():
    without, nothing = (
        TrialRecord("a", 1, {"beta": 1.0}, {1: {METRIC: 3.0}}),
        TrialRecord("b", 2, {"beta": 2.0}),
    )
    rows = [line.split() for line in shown([nothing, without]).splitlines()[2:]]
    assert [row[4] for row in rows] == ["3", "–"] and "±" not in shown([nothing, without])


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """An environment that has the command `latentune`, seen from another folder."""
    (tmp_path / "latentune").touch()
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    return str(tmp_path / "latentune")


def test_the_commands_name_the_record_where_the_sweep_wrote_elsewhere(installed, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    elsewhere = SweepConfig(name="my sweep", tracking_uri="sqlite:////tmp/a b/mlflow.db")
    said = analysis_command("winners", elsewhere)
    assert said == f"{installed} winners --sweep 'my sweep' --tracking-uri 'sqlite:////tmp/a b/mlflow.db'"
    usual = SweepConfig(name="quick", tracking_uri="sqlite:///mlflow.db")
    assert analysis_command("report", usual) == f"{installed} report --sweep quick"


def test_the_command_to_go_on_can_be_copied(installed):
    said = resume_command(
        "python -m searchers.lego_vae", SweepConfig(name="my sweep", results="/nfs/all sweeps")
    )
    assert said == f"{installed} sweep lego_vae --resume 'my sweep' --results '/nfs/all sweeps'"
    said = resume_command("python -m searchers.lego_vae", SweepConfig(name="a-final"), "a")
    assert said == f"{installed} sweep lego_vae --resume a"


def test_what_to_type_next_can_wait_but_what_failed_cannot():
    failed = TrialRecord("2", 2, {}, {}, "failed", error="no memory")
    ended = [*trials(), failed]
    ending = Ending(SweepConfig(name="front", epochs=18), ended, False, "resume", "checkpoints", 0, None, "1")
    trouble, after = trouble_words(ending), next_words(ending)
    assert closing_words(ending) == [*trouble, *after]
    assert len(trouble) == 1 and "Failed: trial 2 (no memory)" in trouble[0]
    assert sum("mlflow ui" in line for line in after) == 1
    assert closing_words(replace(ending, interrupted=True))[-1] == "Interrupted. Go on with: resume"
