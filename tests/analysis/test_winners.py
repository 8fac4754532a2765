"""The command that names the winner: what it says, and what it starts to be surer."""

import re

import pytest

from analysis import winners
from analysis.judgement import retraining
from analysis.record.runs import load
from tests.fixtures.recorded import METRIC, Imagined, record


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
    assert "data: faces (0123abcd)" in said
    assert "3 of the others had fewer epochs: what more would have made of them is not known." in said


def test_of_several_objectives_the_front_is_named(client, capsys):
    assert run(client, "--sweep", "two-objectives") == 0
    said = " ".join(capsys.readouterr().out.split())
    tables = load(client, "two-objectives")
    values = tables.trials[[f"metrics.{METRIC}", "metrics.elbo"]].to_numpy() * [1, -1]
    beaten = [(values <= row).all(1) & (values < row).any(1) for row in values]
    expected = set(tables.trials["number"][[not row.any() for row in beaten]].astype(str))
    assert len(expected) < len(values)
    (numbers,) = re.findall(rf"Pareto front of {METRIC} and elbo: trial ([\d, ]+)\.", said)
    assert set(numbers.split(", ")) == expected
    assert said.count("Pareto front │") == len(expected)


def test_settings_that_the_sweep_tried_with_several_seeds_are_ranked_over_them(folder, client, capsys):
    points = tuple({"beta": beta, "seed": seed} for seed in (0, 1, 2) for beta in (60.0, 140.0))
    imagined = Imagined("seeded", trials=6, images=False, stopping=False, points=points, seeds=3)
    record(imagined, folder / "seeded", client.tracking_uri)
    assert run(client, "--sweep", "seeded") == 0
    tables = load(client, "seeded")
    seeds = retraining.seeds_of(client, tables)
    means = tables.trials.groupby("params.beta")[f"metrics.{METRIC}"].mean()
    assert list(seeds["value"]) == pytest.approx([means[60.0], means[140.0]])
    best = int(tables.best_first()["number"].iloc[0])
    assert seeds.index[0] == best
    said = " ".join(capsys.readouterr().out.split())
    assert f"Best: trial {best} (beta = 60), mean {METRIC} {means[60.0]:.4g}" in said
    assert "Means are over 3 training seeds or more." in said
    assert run(client, "--sweep", "seeded", "--retrain-seeds", "2") == 2
    assert "'seeded' has trained each setting on several seeds" in capsys.readouterr().err


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
