"""Training the best settings again: the command that does so, and what it leaves for a resumption."""

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import pytest

from analysis import winners
from analysis.judgement import retraining
from analysis.judgement.seeds import seeds_of
from analysis.record.sweeps import find
from analysis.record.tables import load
from latentune import words_of
from searchers import beta_vaegan, densities, lego_vae
from searchers.bayesopt.tune_space import read_space
from searchers.execution.cli import parse
from searchers.execution.prepare import Prepared
from searchers.record.provenance import about
from searchers.record.schema import ARGUMENTS_TAG, MODEL_TAG, PROGRAM_TAG, RETRAINS_TAG
from tests.fixtures.recorded import METRIC, Imagined, record

RECORDED = {"features": "efficientnet_lite0-579344248a93-antialias64", "data_hash": "01ab"}
RECORDED |= {"reference_images": 900}
TYPED = ((True, 0.25), (None, 0.25), (True, 0.5))  # a choice, and a setting beside the space


def run(client, *arguments):
    return winners.main(["--tracking-uri", client.tracking_uri, *arguments])


def sweep_of(**arguments):
    """A sweep's record as far as its retraining reads it."""
    params = {"features": RECORDED["features"]}
    return SimpleNamespace(sweep_id="01ab-conv_vae", arguments=arguments, params=params, tags={})


def retrained(folder, client, name, asked, **imagined):
    """Record what the program would make of a file of points."""
    again = Imagined(
        name,
        trials=len(asked["points"]),
        images=False,
        stopping=False,
        points=tuple(asked["points"]),
        tags=((RETRAINS_TAG, asked["of"]),),
        std=0.5,
        **imagined,
    )
    record(again, folder, client.tracking_uri)


def test_retraining_runs_the_best_settings_on_fresh_seeds_and_believes_them(
    folder, client, monkeypatch, tmp_path, capsys
):
    monkeypatch.chdir(tmp_path)
    uri = client.tracking_uri
    arguments = (("address", "auto"),)
    imagined = Imagined("first", trials=4, images=False, stopping=False, arguments=arguments)
    record(imagined, folder / "first", uri)
    numbers = load(client, "first").best_first()["number"].tolist()
    started = []

    def pretend(command):
        started.append(command)
        flags = dict(pairwise(command))
        asked = json.loads(Path(flags["--points"]).read_text())
        retrained(folder, client, flags["--name"], asked)
        return 0

    monkeypatch.setattr(retraining, "wait_for", pretend)
    assert run(client, "--sweep", "first", "--retrain-seeds", "3", "--contenders", "2") == 0
    (command,) = started
    assert command[:3] == words_of("searchers.beta_vaegan")
    flags = dict(pairwise(command))
    assert flags["--epochs"] == "9" and flags["--address"] == "auto" and flags["--name"] == "first-seeds"
    again = load(client, "first-seeds")
    assert sorted(set(again.trials["params.seed"])) == [1000, 1001, 1002]
    betas = load(client, "first").trials.set_index("number")["params.beta"]
    assert set(again.trials["params.beta"]) == {betas[n] for n in numbers[:2]}
    said = " ".join(capsys.readouterr().out.split())
    assert "Over training seeds, to the last epoch" in said
    seeds = seeds_of(client, load(client, "first")).settings
    means = again.trials.groupby("params.beta")[f"metrics.{METRIC}"].mean()
    for n in numbers[:2]:
        assert seeds.loc[n, "value"] == pytest.approx(means[betas[n]])
        assert seeds.loc[n, "seeds"] == 3


def test_a_second_retraining_takes_further_seeds(folder, client, monkeypatch, tmp_path):
    """The same seeds again would be the same trainings again, and their mean no surer for it."""
    monkeypatch.chdir(tmp_path)
    record(Imagined("again", trials=3, images=False, stopping=False), folder / "again", client.tracking_uri)
    seeds = []

    def pretend(command):
        flags = dict(pairwise(command))
        asked = json.loads(Path(flags["--points"]).read_text())
        seeds.append({point["seed"] for point in asked["points"]})
        retrained(folder, client, flags["--name"], asked)
        return 0

    monkeypatch.setattr(retraining, "wait_for", pretend)
    for _ in range(2):
        assert run(client, "--sweep", "again", "--retrain-seeds", "2", "--contenders", "1") == 0
    assert seeds == [{1000, 1001}, {1002, 1003}]
    (count,) = seeds_of(client, load(client, "again")).settings["seeds"]
    assert count == 4


def test_a_setting_that_the_sweep_repeated_is_retrained_once(folder, client, monkeypatch, tmp_path):
    """The best two trials are of one setting: it is one of the contenders, and the next setting the other."""
    monkeypatch.chdir(tmp_path)
    points = tuple({"beta": beta, "seed": seed} for beta in (60.0, 70.0) for seed in (0, 1))
    repeated = Imagined("repeated", trials=4, images=False, stopping=False, points=points)
    record(repeated, folder / "repeated", client.tracking_uri)
    asked = []

    def pretend(command):
        flags = dict(pairwise(command))
        asked.append(json.loads(Path(flags["--points"]).read_text()))
        retrained(folder, client, flags["--name"], asked[-1])
        return 0

    monkeypatch.setattr(retraining, "wait_for", pretend)
    assert run(client, "--sweep", "repeated", "--retrain-seeds", "2", "--contenders", "2") == 0
    assert sorted((point["beta"], point["seed"]) for point in asked[0]["points"]) == [
        (beta, seed) for beta in (60.0, 70.0) for seed in (1000, 1001)
    ]


def test_settings_are_trained_again_as_they_were_given(folder, client, monkeypatch, tmp_path):
    """What MLflow keeps as text is a truth value or None again, and what points changed is no default."""
    monkeypatch.chdir(tmp_path)
    given = [{"beta": 60.0, "flip": flip, "width": width} for flip, width in TYPED]
    imagined = Imagined(
        "typed", trials=3, dimensions=2, images=False, stopping=False, points=tuple(given), std=0.01
    )
    record(imagined, folder / "typed", client.tracking_uri)
    started = []
    monkeypatch.setattr(retraining, "wait_for", lambda command: started.append(command) or 130)
    assert run(client, "--sweep", "typed", "--retrain-seeds", "2") == 130
    points = json.loads(Path(dict(pairwise(started[0]))["--points"]).read_text())["points"]
    wanted = [{**point, "seed": seed} for point in given for seed in (1000, 1001)]
    assert sorted(points, key=str) == sorted(wanted, key=str)


def test_trainings_that_diverged_are_counted_and_speak_against_their_setting(folder, client, capsys):
    record(Imagined("risky", trials=3, images=False, stopping=False), folder / "risky", client.tracking_uri)
    tables = load(client, "risky")
    first, second, third = (row for _, row in tables.best_first().iterrows())
    points = [
        {"beta": float(row["params.beta"]), "seed": seed} for row in (first, second) for seed in range(5)
    ]
    points += [{"beta": float(third["params.beta"]), "seed": seed} for seed in range(2)]
    asked = {"of": tables.sweep.sweep_id, "points": points}
    retrained(folder, client, "risky-seeds", asked, diverging=(1, 2), failing=(5, 10, 11))
    # A seed that failed once and was trained to the end in another run is no lost one.
    again = {"of": tables.sweep.sweep_id, "points": [points[4]]}
    retrained(folder, client, "risky-seeds-2", again)
    seeds = seeds_of(client, tables)
    assert dict(seeds.lost) == {first["number"]: 2, second["number"]: 1, third["number"]: 1}
    assert dict(seeds.settings["seeds"]) == {first["number"]: 3, second["number"]: 4}
    assert run(client, "--sweep", "risky") == 0
    out = capsys.readouterr().out
    said = " ".join(out.split())
    assert out.splitlines()[0].endswith("But 2 of its 5 trainings diverged or failed, and are in no mean.")
    assert (
        f"Trainings that diverged or failed are in no mean: 1 of 5 of trial {second['number']}'s setting, "
        f"1 of 2 of trial {third['number']}'s setting."
    ) in said
    row = next(
        line for line in out.split("Over training seeds")[1].splitlines() if f"│ {first['number']:>5}" in line
    )
    assert [cell.strip() for cell in row.split("│")[3:5]] == ["3", "2"]


def test_a_part_of_a_comparison_is_trained_again_under_its_own_name(client, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    tags = {PROGRAM_TAG: "searchers.densities"}
    sweep = SimpleNamespace(
        name="digits-vae", sweep_id="01ab-vae", tags=tags, arguments={"models": ["vae", "ppca"]}, params={}
    )
    started = []
    monkeypatch.setattr(retraining, "wait_for", lambda command: started.append(command) or 0)
    name = retraining.train_points(client, sweep, {"points": [{"latent_dim": 2}]}, "trial3")
    flags = dict(pairwise(started[0]))
    assert flags["--name"] == "digits-vae-trial3" and flags["--models"] == "vae"
    config = densities.DensityConfig(name=flags["--name"])
    assert name == densities.part_of(config, "vae").name == "digits-vae-trial3-vae"


def test_a_seed_that_was_trained_twice_counts_once(folder, client):
    record(Imagined("twice", trials=1, images=False, stopping=False), folder / "twice", client.tracking_uri)
    tables = load(client, "twice")
    beta = float(tables.trials["params.beta"][0])
    points = [{"beta": beta, "seed": seed} for seed in (5, 6, 5)]
    retrained(folder, client, "twice-seeds", {"of": tables.sweep.sweep_id, "points": points})
    trials = load(client, "twice-seeds").trials[f"metrics.{METRIC}"]
    (found,) = seeds_of(client, tables).settings.to_dict("records")
    assert found["seeds"] == 2 and found["value"] == pytest.approx(trials[:2].mean())


def test_a_retraining_is_ranked_over_its_seeds_and_not_retrained(folder, client, capsys):
    record(Imagined("whole", trials=2, images=False, stopping=False), folder / "whole", client.tracking_uri)
    points = [{"beta": beta, "seed": seed} for beta in (60.0, 140.0) for seed in (0, 1)]
    retrained(folder, client, "whole-seeds", {"of": find(client, "whole").sweep_id, "points": points})
    assert run(client, "--sweep", "whole-seeds") == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "Over training seeds" in said and "Means are over 2 training seeds or more" in said
    assert run(client, "--sweep", "whole-seeds", "--retrain-seeds", "2") == 2
    said = " ".join(capsys.readouterr().err.split())
    assert "'whole-seeds' is a retraining of 'whole'; --sweep whole trains further seeds." in said


def test_the_points_stay_where_a_resumption_finds_them(client, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    started = []
    monkeypatch.setattr(retraining, "wait_for", lambda command: started.append(command) or 130)
    assert run(client, "--sweep", "one", "--retrain-seeds", "2", "--contenders", "1") == 130
    points = Path(dict(pairwise(started[0]))["--points"])
    assert points == tmp_path / "results" / "one-seeds" / "points.json"
    first = points.read_text()
    assert len(json.loads(first)["points"]) == 2
    # What has begun, though MLflow does not know of it yet, keeps its points.
    (points.parent / "sweep.json").touch()
    assert run(client, "--sweep", "one", "--retrain-seeds", "3", "--contenders", "1") == 130
    flags = dict(pairwise(started[1]))
    assert flags["--name"] == "one-seeds-2" and "one-seeds-2" in flags["--points"]
    assert points.read_text() == first


def test_an_interrupted_sweep_is_given_time_to_close_its_record():
    # A process in the background of a shell ignores Ctrl-C, and so would its children.
    heed = "import signal, sys, time; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
    sweep = f"{heed}try:\n  print('ready', flush=True)\n  time.sleep(60)\n"
    sweep += "except KeyboardInterrupt:\n  time.sleep(1)\n  print('closed', flush=True)\n  sys.exit(130)"
    script = f"{heed}from analysis.judgement.retraining import wait_for; "
    script += f"sys.exit(wait_for([sys.executable, '-c', {sweep!r}]))"
    command = [sys.executable, "-c", script]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True) as process:
        assert process.stdout.readline() == "ready\n"
        os.killpg(process.pid, signal.SIGINT)  # as a terminal's Ctrl-C does
        assert process.stdout.read() == "closed\n"
        assert process.wait() == 130


CHANGED = {
    "dataset": "/a b/faces",
    "dataset_limit": None,
    "compile": True,
    "early_stopping": False,
    "width": 0.5,
    "inception_weights": "/w.pth",
}
SWEEPS = [
    (
        beta_vaegan,
        lambda c: beta_vaegan.study(c, Prepared({}, METRIC, RECORDED)),
        {"objectives": ("fd", "mig")},
    ),
    (
        lego_vae,
        lambda c: lego_vae.study(c, Prepared({}, None, RECORDED)),
        {"random_starts": 3, "final_epochs": 0},
    ),
    (
        densities,
        lambda c: densities.study("vae", c, Prepared({}, None, RECORDED), 400),
        {"models": ("vae",), "width": 1.0},
    ),
]


@pytest.mark.parametrize("preset", ["quick", "report"])
@pytest.mark.parametrize(("program", "study", "own"), SWEEPS)
def test_flags_give_the_recorded_settings_on_any_machine(program, study, own, preset):
    """The program reads them back as it ran, whatever was typed, and whatever preset it would take here."""
    config = replace(program.PRESETS[preset], **CHANGED)
    search = {"warm_start": "earlier", "surrogate": "matern", "num_samples": 7}
    kept = {"results": "/nfs", "max_concurrent": 2, "address": "auto", "seed": 5}
    ran = replace(config, **own, **search, name="x-vae", **kept)
    known = study(config)
    described = about(known, read_space(known.space), ran, program.PROGRAM)
    tags = described.tags
    arguments = json.loads(tags[ARGUMENTS_TAG])
    assert {"name", "tracking_uri"}.isdisjoint(arguments)
    params = {name: str(value) for name, value in described.params.items()}
    ran_as = SimpleNamespace(sweep_id="01ab-vae", tags=tags, params=params, arguments=arguments)
    flags = retraining.flags_of(ran_as)
    parsed = parse(program.PROGRAM, program.PRESETS, flags)
    decided = {name: getattr(program.PRESETS[preset], name) for name in (*search, "name")}
    features = "efficientnet_lite0" if ran.features == "auto" else ran.features
    assert parsed == replace(ran, **decided, features=features)


@pytest.mark.parametrize(("preset", "model"), [("quick", "modern:ModernVAEGAN"), ("report", "vaegan:VAEGAN")])
def test_a_sweep_is_recorded_under_the_class_that_it_trains(preset, model):
    config = beta_vaegan.PRESETS[preset]
    known = beta_vaegan.study(config, Prepared({}, METRIC, RECORDED))
    described = about(known, read_space(known.space), config, beta_vaegan.PROGRAM)
    over = ", ".join(known.space)
    said = f"{model.partition(':')[2]} tuned over {over}, {config.num_samples} settings at most, of up to "
    assert f"**{config.title}**: {said}{config.epochs} epochs" in described.description
    tags = described.tags
    assert tags[MODEL_TAG] == f"trainables.models.{model}"


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (True, ["--compile"]),
        (False, ["--no-compile"]),
        (None, ["--compile", "None"]),
        (["fd", "mig"], ["--compile", "fd", "mig"]),
        ("/a b", ["--compile", "/a b"]),
    ],
)
def test_a_setting_is_typed_as_the_program_reads_it(value, words):
    assert retraining.flag("compile", value) == words


@pytest.mark.parametrize("given", ["classifier:/n.pt2", "none", "inception"])
def test_features_that_were_named_are_named_again(given):
    assert retraining.flags_of(sweep_of(features=given)) == ["--features", given]
    assert retraining.flags_of(sweep_of(features="auto")) == ["--features", "efficientnet_lite0"]


def test_a_program_of_several_sweeps_is_kept_to_the_one():
    assert retraining.flags_of(sweep_of(models=["vae", "conv_vae"])) == ["--models", "conv_vae"]
    compared = sweep_of(models=["VAE", "beta-VAE-GAN"])  # one sweep of all of them
    assert retraining.flags_of(compared) == ["--models", "VAE", "beta-VAE-GAN"]
    assert retraining.flags_of(sweep_of(final_epochs=40)) == ["--final-epochs", "0"]


def test_a_record_without_settings_says_so(folder, client, capsys):
    imagined = Imagined("old", trials=2, images=False, stopping=False)
    record(imagined, folder / "old", client.tracking_uri)
    client.delete_tag(find(client, "old").run_id, ARGUMENTS_TAG)
    assert run(client, "--sweep", "old", "--retrain-seeds", "2") == 2
    assert "'old' does not say with which settings it ran" in capsys.readouterr().err


def test_a_renamed_run_moves_no_file(folder, client, monkeypatch, tmp_path):
    """MLflow's UI lets a person call a run "../../x"; its retraining stays among the results."""
    monkeypatch.chdir(tmp_path)
    record(Imagined("tame", trials=2, images=False, stopping=False), folder / "tame", client.tracking_uri)
    sweep = find(client, "tame")
    client.update_run(sweep.run_id, name="../../wild")
    started = []
    monkeypatch.setattr(retraining, "wait_for", lambda command: started.append(command) or 130)
    assert run(client, "--sweep", sweep.sweep_id, "--retrain-seeds", "2", "--contenders", "1") == 130
    flags = dict(pairwise(started[0]))
    assert Path(flags["--points"]).resolve().is_relative_to(tmp_path / "results")
    assert Path(flags["--name"]).name == flags["--name"] and not flags["--name"].startswith((".", "-"))
