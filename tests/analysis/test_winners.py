"""The command that names the winner: what it says, and what it starts to be surer."""

import json
import re
from dataclasses import replace
from types import SimpleNamespace

import pandas as pd
import pytest

from analysis import winners
from analysis.judgement.ranking import rank
from analysis.judgement.seeds import seeds_of
from analysis.judgement.verdict import front, objections, ranking_of, verdict_of, verdict_of_repeats
from analysis.record.tables import Tables, load
from searchers.record.schema import (
    FROM_PYTHON,
    HEARD_TAG,
    METRIC_TAG,
    MODE_TAG,
    PROGRAM_TAG,
    REFERENCES,
    WEIGHTS_FOLDER,
    reference_param,
)
from tests.fixtures.recorded import METRIC, Imagined, record


def run(client, *arguments):
    return winners.main(["--tracking-uri", client.tracking_uri, *arguments])


def test_the_winner_and_its_ties_are_named(client, capsys):
    assert run(client, "--sweep", "one") == 0
    out = capsys.readouterr().out
    said = " ".join(out.split())
    trials = load(client, "one").best_first()
    best = trials.iloc[0]
    assert out.startswith(f"Best: trial {best['number']} (beta = {best['params.beta']:.4g}), {METRIC}")
    assert out.count("Best: trial") == 1
    tied = trials["number"].iloc[1]
    assert f"These weights cannot be told apart from those of 3 of 7 others: trial {tied}" in said
    assert "± is the chance of drawing other images from these weights, not of training again." in said
    assert "extractor: efficientnet_lite0-579344248a93-antialias64; generated images: 500" in said
    assert "data: faces (0123abcd)" in said


def test_trials_of_other_sweeps_that_the_search_learned_from_are_told(client):
    tables = load(client, "one")
    tags = tables.sweep.tags | {HEARD_TAG: json.dumps({"two": 7, "three": 12})}
    heard = replace(tables, sweep=replace(tables.sweep, tags=tags))
    said = (
        "The search also learned from 7 trials of two and 12 trials of three, which this sweep does not rank."
    )
    for of, told in ((tables, False), (heard, True)):
        assert (said in str(verdict_of(of, ranking_of(of, of.scored())))) == told


def test_a_stopped_trial_is_compared_at_the_epoch_where_it_stopped(client, capsys):
    """A score at another epoch is another number: it has no place among those of the last one."""
    tables = load(client, "one")
    stopped = tables.trials[tables.trials["status"] == "stopped"]
    curves = tables.curves(METRIC)
    assert run(client, "--sweep", "one", "--top", "12") == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "3 with fewer epochs are not ranked, as a score at another epoch is another number:" in said
    for number in stopped["number"]:
        peers = curves.loc[3].dropna()
        place = 1 + int((peers < peers[number]).sum())
        assert f"trial {number} was number {place} of {len(peers)} at epoch 3" in said
        assert f"stopped; number {place} of {len(peers)} at epoch 3" in said


def test_a_winner_that_loses_to_the_mean_image_is_called_that_first(folder, client, capsys):
    uri = client.tracking_uri
    good = Imagined("better", trials=3, images=False, stopping=False, references=(400.0, 300.0, 10.0))
    poor = Imagined("poorer", trials=3, images=False, stopping=False, references=(206.0, 100.3, 10.0))
    for imagined in (good, poor):
        record(imagined, folder / imagined.name, uri)
    assert run(client, "--sweep", "poorer") == 0
    lines = capsys.readouterr().out.splitlines()
    words = "But it does not beat the mean training image, which scores 100.3."
    assert lines[0].startswith("Best: trial") and lines[0].endswith(words)
    assert "The references score grey 206, mean image 100.3, real images 10." in lines
    again = rank(pd.Series({1: 160.0, 2: 150.0, 3: 170.0}), pd.Series(1.0, [1, 2, 3]), sign=1)
    assert (
        verdict_of_repeats(load(client, "poorer"), again).headline
        == f"Best: trial 2, mean {METRIC} 150 ± 1. {words}"
    )
    assert run(client, "--sweep", "better") == 0
    out = capsys.readouterr().out
    assert "But it" not in out
    order = [row.split("│")[-2].strip() for row in out.splitlines() if row.startswith("│")]
    assert order[0] == "real images" and order[1] == "best" and order[-2:] == ["mean image", "grey"]


def test_a_score_of_which_a_references_is_known_counts_whatever_was_searched(client):
    """A trial of the sharpest images that are no better than the mean image is no winner."""
    tables = load(client, "one")
    trial = tables.best_first().iloc[0]
    for mean_image, against in ((1.0, [1.0]), (1e6, [])):
        params = tables.sweep.params | {reference_param(REFERENCES["mean image"], METRIC): str(mean_image)}
        tags = tables.sweep.tags | {METRIC_TAG: "elbo", MODE_TAG: "max"}
        of_elbo = replace(tables, sweep=replace(tables.sweep, params=params, tags=tags))
        assert objections(of_elbo, trial, -10.0) == [
            f"it does not beat the mean training image, which scores {value:g} by {METRIC}"
            for value in against
        ]
        assert not objections(of_elbo, trial.drop(f"metrics.{METRIC}"))


def test_a_running_sweep_is_ranked_at_an_epoch_that_half_of_its_trials_have_reached():
    trials = pd.DataFrame(
        {
            "number": [1, 2, 3],
            "status": ["running"] * 3,
            "flags": [""] * 3,
            "epoch": [5, 3, 1],
            f"metrics.{METRIC}": [30.0, 40.0, 5.0],
            f"metrics.{METRIC}_std": [1.0] * 3,
        }
    )
    points = {1: {1: 90.0, 3: 50.0, 5: 30.0}, 2: {1: 80.0, 3: 40.0}, 3: {1: 5.0}}
    rows = [
        {"number": n, "metric": key, "epoch": epoch, "value": value if key == METRIC else 1.0}
        for n, curve in points.items()
        for epoch, value in curve.items()
        for key in (METRIC, f"{METRIC}_std")
    ]
    # A second objective, which would turn the front at the last epochs: trial 1 is better in both there.
    second = {1: {3: 9.0, 5: 1.0}, 2: {3: 8.0}}
    rows += [
        {"number": n, "metric": "mig", "epoch": epoch, "value": value}
        for n, curve in second.items()
        for epoch, value in curve.items()
    ]
    sweep = SimpleNamespace(metric=METRIC, sign=1, epochs=9, signs={METRIC: 1}, references=dict)
    ranked = ranking_of(Tables(sweep, trials, pd.DataFrame(rows)), trials)
    assert list(ranked["number"]) == [2, 1, 3] and list(ranked["ranked"]) == [True, True, False]
    assert list(ranked["value"]) == [40.0, 50.0, 5.0] and list(ranked["epoch"]) == [3, 3, 1]
    assert ranked.iloc[2][["place", "peers"]].tolist() == [1, 3]
    for known, on_front in ((["mig"], [2]), (["mig", "not reported yet"], [])):
        sweep.signs = {METRIC: 1} | dict.fromkeys(known, 1)
        tables = Tables(sweep, trials.assign(**{"metrics.mig": [1.0, 8.0, None]}), pd.DataFrame(rows))
        ranked = ranking_of(tables, tables.trials)
        assert front(tables, ranked[ranked["ranked"]]) == on_front
        assert list(ranked["metrics.mig"][:2]) == [8.0, 9.0]
    sweep.name, sweep.mode, sweep.shared = "x", "min", {}
    tables.__dict__["space"] = {}
    assert winners.ranking_table(tables, ranked, 3).row_count == 3


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


def test_a_winner_that_was_trained_again_stands_beside_its_replicates(folder, client, capsys):
    betas = (60.0, 140.0, 60.0, 140.0, 60.0, 20.0)
    points = tuple({"beta": beta, "seed": n // 2} for n, beta in enumerate(betas))
    record(
        Imagined("replicated", trials=6, images=False, stopping=False, points=points),
        folder,
        client.tracking_uri,
    )
    assert run(client, "--sweep", "replicated") == 0
    said = " ".join(capsys.readouterr().out.split())
    trials = load(client, "replicated").best_first()
    best, second, third = trials[trials["params.beta"] == 60.0].to_dict("records")
    assert said.startswith(f"Best: trial {best['number']} (beta = 60)")
    scores = [trial[f"metrics.{METRIC}"] for trial in (best, second, third)]
    assert (
        f"Trained on other seeds, its settings score trial {second['number']} {scores[1]:.4g}, trial "
        f"{third['number']} {scores[2]:.4g}; the mean of all 3 is {sum(scores) / 3:.4g}. The best of several "
        "is flattered."
    ) in said


def test_settings_that_the_sweep_tried_with_several_seeds_are_ranked_over_them(folder, client, capsys):
    points = tuple({"beta": beta, "seed": seed} for seed in (0, 1, 2) for beta in (60.0, 140.0))
    imagined = Imagined("seeded", trials=6, images=False, stopping=False, points=points, seeds=3)
    record(imagined, folder / "seeded", client.tracking_uri)
    assert run(client, "--sweep", "seeded") == 0
    tables = load(client, "seeded")
    seeds = seeds_of(client, tables).settings
    means = tables.trials.groupby("params.beta")[f"metrics.{METRIC}"].mean()
    assert list(seeds["value"]) == pytest.approx([means[60.0], means[140.0]])
    best = int(tables.best_first()["number"].iloc[0])
    assert seeds.index[0] == best
    said = " ".join(capsys.readouterr().out.split())
    assert f"Best: trial {best} (beta = 60), mean {METRIC} {means[60.0]:.4g}" in said
    assert "This setting is told apart from all others at the 5 % level." in said
    assert "Means are over 3 training seeds or more, and ± is their standard error." in said
    assert run(client, "--sweep", "seeded", "--retrain-seeds", "2") == 2
    assert "'seeded' has trained each setting on several seeds" in capsys.readouterr().err


def test_what_the_next_call_refuses_is_not_suggested(folder, client, tmp_path, capsys):
    """Beside retraining stands what is promoted, for which there are weights."""
    (tmp_path / "model.json").write_text("{}")
    for name, tag in (("typed-in", "searchers.beta_vaegan"), ("in-python", FROM_PYTHON)):
        imagined = Imagined(name, trials=2, images=False, stopping=False, tags=((PROGRAM_TAG, tag),))
        record(imagined, folder / name, client.tracking_uri)
        tables = load(client, name)
        client.log_artifacts(tables.best_first()["run_id"].iloc[0], str(tmp_path), WEIGHTS_FOLDER)
        assert run(client, "--sweep", name) == 0
        said = capsys.readouterr().out
        suggested = "Next: --retrain-seeds 3 trains the best 2 on other seeds; --promote registers" in said
        assert suggested == (tag != FROM_PYTHON)
        assert suggested or "Next: --promote registers trial" in said
    assert run(client, "--sweep", "in-python", "--retrain-seeds", "2") == 2


def test_contenders_without_weights_are_named(folder, client, tmp_path, monkeypatch, capsys):
    """The best among them: another one is then the winner of what was evaluated again."""
    name = "half-kept"
    record(Imagined(name, trials=3, images=False, stopping=False), folder / name, client.tracking_uri)
    tables = load(client, name)
    (tmp_path / "model.json").write_text("{}")
    best, second, third = tables.best_first()["number"]
    runs = tables.trials.set_index("number")["run_id"]
    client.log_artifacts(runs[third], str(tmp_path), WEIGHTS_FOLDER)
    evaluation = SimpleNamespace(samples=10, scores=lambda model, seed: {METRIC: 100.0 + seed})
    monkeypatch.setattr("analysis.judgement.evaluation.Evaluation.of_trial", lambda *_: evaluation)
    monkeypatch.setattr("analysis.record.trained_model.load_trained", lambda *_: None)
    assert run(client, "--sweep", name, "--repeats", "2") == 0
    said = " ".join(capsys.readouterr().out.split())
    assert f"Not evaluated again, for want of weights on record: trial {best}, {second}." in said
    assert f"Best: trial {third}, mean {METRIC}" in said


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
