"""The command that names the winner: what it says, and what it starts to be surer."""

import json
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import pytest

from analysis import retraining, winners
from analysis.runs import find, load
from tests.analysis.recorded import METRIC, Imagined, record


def run(client, *arguments):
    return winners.main(["--tracking-uri", client.tracking_uri, *arguments])


def test_the_winner_and_its_ties_are_named(client, capsys):
    assert run(client, "--sweep", "one") == 0
    said = " ".join(capsys.readouterr().out.split())
    trials = load(client, "one").best_first()
    best = trials.iloc[0]
    assert f"Best: trial {best['number']} (beta = {best['params.beta']:.4g}), {METRIC}" in said
    assert f"It cannot be told apart from 3 of 10: trial {trials['number'].iloc[1]}" in said
    assert "extractor: efficientnet_lite0-579344248a93-antialias64; generated images: 500" in said


def test_trials_of_two_extractors_are_two_rankings(folder, client, capsys):
    """As when a sweep is resumed on a machine that has other weights."""
    uri, name = client.tracking_uri, "mixed"
    record(Imagined(name, trials=4, images=False, stopping=False), folder / "mixed", uri)
    run_id = load(client, name).trials["run_id"][3]
    client.log_metric(run_id, "evaluated_images", 1000, step=9, timestamp=9_000_000_000_000)
    assert run(client, "--sweep", name) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert f"2 rankings, not one: {METRIC} depends on generated images" in said
    assert "There is no other to compare it with." in said


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--sweep", "empty"), "Sweep 'empty' has no trial."),
        (("--sweep", "nonesuch"), "MLflow has no sweep 'nonesuch'; the latest are:"),
        (("--sweep", "twin"), "2 sweeps are called 'twin'; give the id of one:"),
        (("--sweep", "three", "--repeats", "2"), "The record of 'three' has no weights to evaluate again."),
    ],
)
def test_bad_input_is_one_sentence_and_exit_code_2(client, capsys, arguments, words):
    assert run(client, *arguments) == 2
    error = capsys.readouterr().err
    assert words in error and "Traceback" not in error


def test_a_running_sweep_is_ranked_as_it_stands(client, capsys):
    assert run(client, "--sweep", "going-on") == 0
    assert "The sweep is still running: this is its state now." in capsys.readouterr().out


def test_retraining_runs_the_best_settings_on_fresh_seeds_and_believes_them(
    folder, client, monkeypatch, capsys
):
    uri = client.tracking_uri
    typed = "python -m searchers.beta_vaegan --name first --num-samples 4 --epochs 9 --seed 3 --flip"
    tags = (("latentune.command", typed),)
    record(Imagined("first", trials=4, images=False, stopping=False, tags=tags), folder / "first", uri)
    numbers = load(client, "first").best_first()["number"].tolist()
    started = []

    def pretend(command):
        started.append(command)
        flags = dict(pairwise(command))
        asked = json.loads(Path(flags["--points"]).read_text())
        again = Imagined(
            flags["--name"],
            trials=len(asked["points"]),
            images=False,
            stopping=False,
            points=tuple(asked["points"]),
            tags=(("latentune.retrains", asked["of"]),),
            std=0.5,
        )
        record(again, folder / "again", uri)
        return SimpleNamespace(returncode=0)

    monkeypatch.setattr(retraining.subprocess, "run", pretend)
    assert run(client, "--sweep", "first", "--retrain-seeds", "3", "--contenders", "2") == 0
    (command,) = started
    assert command[1:6] == ["-m", "searchers.beta_vaegan", "--epochs", "9", "--flip"]
    assert command[command.index("--name") + 1] == "first-seeds"
    again = load(client, "first-seeds")
    assert sorted(set(again.trials["params.seed"])) == [1000, 1001, 1002]
    betas = load(client, "first").trials.set_index("number")["params.beta"]
    assert set(again.trials["params.beta"]) == {betas[n] for n in numbers[:2]}
    said = " ".join(capsys.readouterr().out.split())
    assert "Trained again with other seeds" in said
    seeds = retraining.seeds_of(client, load(client, "first"))
    means = again.trials.groupby("params.beta")[f"metrics.{METRIC}"].mean()
    for n in numbers[:2]:
        assert seeds.loc[n, "value"] == pytest.approx(means[betas[n]])
        assert seeds.loc[n, "seeds"] == 3


def test_flags_are_those_that_were_typed_without_the_retrainings_own(client):
    sweep = find(client, "one")
    typed = "python -m searchers.x --points=a.json --dataset '/a b' --no-flip --name y --resume z --lr 1"
    sweep.tags["latentune.command"] = typed
    assert retraining.flags_of(sweep) == ["--dataset", "/a b", "--no-flip", "--lr", "1"]
