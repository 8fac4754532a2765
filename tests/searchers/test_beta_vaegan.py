"""The main job as a person runs it: a real, tiny sweep in a process of its own."""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from mlflow import MlflowClient

from searchers import beta_vaegan
from searchers.beta_vaegan import (
    EVEN_BETAS,
    PAPERS_BETAS,
    PENALTIES,
    PRESETS,
    PROGRAM,
    check_factors,
    main,
    study,
)
from searchers.execution.prepare import Prepared
from searchers.record.ledger import Ledger
from searchers.record.schema import TRIAL_TAG
from searchers.study.config import UsageError
from tests.fixtures.command import refusal
from tests.fixtures.waits import PATIENCE
from trainables import BetaVAEGAN
from trainables.data import sources

ROOT = Path(__file__).resolve().parents[2]
TINY = (
    "--dataset-limit 60 --image-size 16 --width 0.1 --batch-size 16 --evaluate-every 1 "
    "--evaluation-samples 20 --features random"
)
METRIC = "fd_random"


def command(*arguments):
    return [sys.executable, "-m", "searchers.beta_vaegan", *arguments]


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """One cache of converted images for all runs here."""
    return tmp_path_factory.mktemp("cache")


def environment(cache):
    return os.environ | {"XDG_CACHE_HOME": str(cache), "OMP_NUM_THREADS": "1", "COLUMNS": "200"}


def run(folder, cache, *arguments, timeout=PATIENCE):
    return subprocess.run(
        command(*arguments),
        cwd=folder,
        env=environment(cache),
        capture_output=True,
        text=True,
        timeout=timeout,
    )


def start(folder, cache, *arguments, name, results):
    """Start a sweep in the background; return its process and ledger once it has so many results."""
    driver = subprocess.Popen(
        command(*arguments, "--name", name),
        cwd=folder,
        env=environment(cache),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    ledger = folder / "results" / name / "ledger.jsonl"
    deadline = time.monotonic() + PATIENCE
    while not (ledger.exists() and ledger.read_text().count('"event": "result"') >= results):
        if time.monotonic() > deadline:
            driver.kill()
            pytest.fail(f"no {results} results in time: {driver.communicate()}")
        time.sleep(0.1)
    return driver, ledger


def mlflow_runs(folder):
    client = MlflowClient(f"sqlite:///{folder}/mlflow.db")
    (experiment,) = [e for e in client.search_experiments() if e.name == "beta-vae-gan"]
    runs = client.search_runs([experiment.experiment_id])
    parents = [run for run in runs if TRIAL_TAG not in run.data.tags]
    return client, parents, [run for run in runs if TRIAL_TAG in run.data.tags]


@pytest.fixture(scope="module")
def finished(tmp_path_factory, cache):
    """A sweep of five trials that ran to its end."""
    folder = tmp_path_factory.mktemp("finished")
    done = run(folder, cache, *TINY.split(), "--num-samples", "5", "--epochs", "2", "--name", "tiny")
    assert done.returncode == 0, done.stdout + done.stderr
    return folder, done


def test_a_sweep_ends_with_a_table_a_figure_and_the_next_command(finished):
    folder, done = finished
    assert "all trials" in done.stdout
    assert re.search(
        r"Best: trial \d, beta = [\d.]+, penalty = [\d.]+, beta_norm = [\d.]+: fd_random", done.stdout
    )
    assert (folder / "results/tiny/posterior.png").exists()
    # In quotes where the environment's path has a space in it.
    assert re.search(r"mlflow'? ui --backend-store-uri\s+sqlite:///mlflow.db", done.stdout)
    assert "?workflowType=machine_learning" in done.stdout
    assert done.stderr == ""


def test_the_first_trials_are_even_steps_and_the_next_are_proposed(finished):
    folder, _ = finished
    records = Ledger(folder / "results/tiny/ledger.jsonl").trials().values()
    places = [
        (r.config["beta"], r.config["penalty"]) for r in records if r.config["seed"] == 0
    ]  # no replicates
    first = list(zip(EVEN_BETAS, PENALTIES, strict=True))
    assert sorted(places[:4]) == first  # actors side by side start in any order
    beta, penalty = places[4]
    assert 1 <= beta <= 150 and 0.01 <= penalty <= 10
    assert places[4] not in first


@pytest.mark.parametrize(
    ("preset", "changes", "papers", "penalty"),
    [
        ("quick", {}, False, True),
        ("quick", {"surrogate": "report"}, True, False),
        ("quick", {"set": ("recipe=larsen",)}, False, False),  # has no such penalty
        ("quick", {"set": ("recipe=modern",)}, False, True),
        ("quick", {"space": ("recipe=choice(modern,larsen)",)}, False, False),
        ("report", {}, True, False),
    ],
)
def test_the_papers_preset_and_its_kernel_have_its_axis_and_its_first_betas(preset, changes, papers, penalty):
    prepared = SimpleNamespace(settings={}, distance="fd", provenance={})
    made = study(replace(PRESETS[preset], **changes), prepared)
    assert ("penalty" in made.space) is penalty
    assert all(("penalty" in point) is penalty for point in made.points_to_evaluate)
    assert [point["beta"] for point in made.points_to_evaluate] == list(
        PAPERS_BETAS if papers else EVEN_BETAS
    )
    own = BetaVAEGAN.model_of(made.settings)[0].Config.beta
    assert made.derived({"latent_dim": 64}) == made.derived({"beta": own, "latent_dim": 64})  # as points may
    assert (type(made.space["beta"].get_sampler()).__name__ == "_LogUniform") is not papers


def test_without_features_units_alone_are_searched_by(monkeypatch):
    monkeypatch.setattr(beta_vaegan, "check_factors", lambda *_: None)
    none = Prepared({}, None, {})
    made = study(replace(PRESETS["quick"], objectives=("mig",), features="none"), none)
    assert (made.metric, made.mode, made.objectives) == ("disentanglement/mig", "max", {})
    assert made.settings["disentanglement"] == ["mig"]
    with pytest.raises(UsageError, match="--features none leaves no Fréchet distance to search by"):
        study(replace(PRESETS["quick"], objectives=("mig", "fd"), features="none"), none)


def test_mlflow_holds_what_tune_reported(finished):
    folder, _ = finished
    records = Ledger(folder / "results/tiny/ledger.jsonl").trials()
    client, (parent,), trials = mlflow_runs(folder)
    assert parent.info.status == "FINISHED"
    assert {run.data.tags[TRIAL_TAG] for run in trials} == set(records)
    for run_ in trials:
        record = records[run_.data.tags[TRIAL_TAG]]
        history = client.get_metric_history(run_.info.run_id, METRIC)
        assert {point.step: point.value for point in history} == {
            e: m[METRIC] for e, m in record.metrics.items()
        }
        assert float(run_.data.params["beta_norm"]) == pytest.approx(
            record.config["beta"] * 64 / (3 * 16 * 16)
        )
        assert set(run_.data.params) <= {
            "beta",
            "penalty",
            "beta_norm",
            "seed",
        }  # a replicate's seed is its own
        images = [Path(file.path).name for file in client.list_artifacts(run_.info.run_id, "images")]
        assert sum(name.endswith(".png") for name in images) == 2 * (record.epoch + 1)
    of_all = {"features", "data_hash", "likelihood", "evaluation_samples", "image_size"}
    assert of_all <= set(parent.data.params)
    assert set(parent.data.metrics) == {"best/trial", f"best/{METRIC}", f"best/{METRIC}_std"}
    assert parent.data.tags["version.ray"]
    assert [file.path for file in client.list_artifacts(parent.info.run_id)].count("posterior.png") == 1


SLOW = pytest.mark.slow


@SLOW  # the driver of a cluster is killed in tests/cluster
@pytest.mark.parametrize("snapshots", ["whole", "cut", "gone"])
def test_resume_after_the_driver_was_killed(tmp_path, cache, snapshots):
    """SIGKILL in mid-sweep, whatever became of Tune's snapshots; then each trial is there once."""
    arguments = [*TINY.split(), "--num-samples", "6", "--epochs", "3"]
    driver, ledger = start(tmp_path, cache, *arguments, name="killed", results=5)
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    for pipe in (
        driver.stdout,
        driver.stderr,
    ):  # Ray's processes may hold them open: there is no end to read to
        pipe.close()
    before = Ledger(ledger).trials()
    for path in ledger.parent.glob("tune/*.json"):
        if snapshots == "gone":
            path.unlink()
        elif snapshots == "cut":
            path.write_bytes(path.read_bytes()[:500])
    resumed = run(tmp_path, cache, "--resume", "killed")
    assert resumed.returncode == 0, resumed.stdout + resumed.stderr
    records = Ledger(ledger).trials()
    assert len(before) <= len(records) <= 6 + PRESETS["quick"].replicates  # as far as the budget goes
    assert "Resumed from the ledger" in resumed.stdout
    assert all(record.status for record in records.values())
    assert set(EVEN_BETAS) <= {record.config["beta"] for record in records.values()}
    assert set(before) <= set(records)
    for trial, record in before.items():
        assert all(records[trial].metrics[epoch] == metrics for epoch, metrics in record.metrics.items())
    _, (parent,), runs = mlflow_runs(tmp_path)
    assert parent.info.status == "FINISHED"
    assert sorted(run_.data.tags[TRIAL_TAG] for run_ in runs) == sorted(records)
    assert all(run_.info.status == "FINISHED" for run_ in runs)


def test_ctrl_c_ends_cleanly_and_says_how_to_go_on(tmp_path, cache):
    arguments = [*TINY.split(), "--num-samples", "6", "--epochs", "3"]
    driver, _ = start(tmp_path, cache, *arguments, name="stopped", results=1)
    driver.send_signal(signal.SIGINT)
    out, err = driver.communicate(timeout=PATIENCE)
    assert driver.returncode == 130, out + err
    assert re.search(r"beta_vaegan --resume stopped$", out, re.MULTILINE)
    assert "Traceback" not in out + err


@pytest.fixture
def working(tmp_path, cache, monkeypatch):
    """An empty working folder of this process."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--epochs", "0"], "--epochs is 0; it must be from 1 to"),
        (["--image-size", "30"], "--image-size is 30; it must be a multiple of 8"),
        (["--image-size", "48"], "--image-size is 48; by the recipe modern it must be a power of two"),
        (["--objectives", "mig", "--dataset", "digits"], "factors are known, and digits has none"),
        (["--dataset", ""], "--dataset is ''; it must be left out or not empty"),
        (["--preset", "fast"], "'quick', 'thorough'"),
        (["--epocs", "3"], "--epochs"),
        (["--name", "a/b"], "it must be a plain name"),
        (["--features", "vgg"], "efficientnet_lite0"),
        (["--dataset", "nowhere"], "nowhere"),
        (["--batch-size", "100"], "which gives no batch of 100; choose a batch size of"),
        (["--resume", "nowhere"], "There is no sweep 'nowhere'"),
        (["--inception-weights", "nowhere.pth"], "nowhere.pth"),
        (["--warm-start", "nowhere"], "--warm-start: results/nowhere holds no sweep"),
        (["--points", "nowhere.json"], "nowhere.json can't be read: No such file or directory"),
    ],
)
def test_bad_input_gets_a_sentence_and_exit_code_2(working, capsys, arguments, sentence):
    assert sentence in refusal(main, capsys, *TINY.split(), *arguments)
    assert not (working / "results").exists()


@pytest.mark.parametrize("content", ["missing images", "broken images"])
def test_a_data_set_without_a_readable_image(working, capsys, content):
    folder = working / "pictures"
    folder.mkdir()
    if content == "broken images":
        (folder / "a.png").write_text("no picture")
    said = refusal(main, capsys, *TINY.split(), "--dataset", "pictures")
    sentence = said.partition(f"{PROGRAM}: ")[2]
    assert "pictures" in sentence and ". " not in sentence


def test_a_name_that_is_taken_and_settings_that_cannot_change(finished, cache, monkeypatch, capsys):
    monkeypatch.chdir(finished[0])
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    assert "--resume tiny continues it" in refusal(main, capsys, *TINY.split(), "--name", "tiny")
    assert "leave out --epochs" in refusal(main, capsys, "--resume", "tiny", "--epochs", "9")


@pytest.mark.slow
def test_given_points_are_trained_and_a_search_starts_from_what_is_known(finished, cache):
    folder, _ = finished
    larsen = {"beta": 7.0, "seed": 4, "recipe": "larsen"}  # it has no penalty
    (folder / "points.json").write_text(json.dumps([{"beta": 7.0, "seed": 3}, larsen]))
    arguments = [*TINY.split(), "--epochs", "1"]
    given = run(folder, cache, *arguments, "--name", "given", "--points", "points.json")
    assert given.returncode == 0, given.stdout + given.stderr
    records = Ledger(folder / "results/given/ledger.jsonl").trials().values()
    assert sorted((r.config["beta"], r.config["seed"]) for r in records) == [(7.0, 3), (7.0, 4)]
    assert json.loads((folder / "results/given/points.json").read_text())[1] == larsen
    (folder / "points.json").unlink()
    again = run(folder, cache, "--resume", "given")
    assert again.returncode == 0, again.stdout + again.stderr
    arguments += ["--num-samples", "1", "--warm-start", "tiny"]
    other = run(folder, cache, *arguments, "--name", "other")
    assert other.returncode == 2, other.stdout + other.stderr
    assert "'tiny' was scored with --epochs 2, this sweep is with --epochs 1" in other.stderr
    arguments += ["--results", "elsewhere"]  # where the earlier sweep is not: MLflow knows it
    warm = run(folder, cache, *arguments, "--name", "warm", "--epochs", "2")
    assert warm.returncode == 0, warm.stdout + warm.stderr


@pytest.mark.slow
def test_two_sweeps_at_once_learn_from_each_other_also_where_one_is_killed(tmp_path, cache):
    arguments = [*TINY.split(), "--num-samples", "6", "--epochs", "2", "--max-concurrent", "1"]
    arguments += ["--share", "place"]
    one, ledger = start(tmp_path, cache, *arguments, name="one", results=3)
    two, other = start(tmp_path, cache, *arguments, name="two", results=3)
    one.kill()
    one.communicate()
    assert two.wait(PATIENCE) == 0, two.communicate()
    said, _ = two.communicate()
    assert "Learns from one in " in said and re.search(r"Learned from \d trials of one", said)
    resumed = run(tmp_path, cache, "--resume", "one")
    assert resumed.returncode == 0, resumed.stdout + resumed.stderr
    heard = [event for _, event in Ledger(ledger).events() if event["event"] == "heard"]
    rows = [(told["trial"], int(epoch)) for e in heard for told in e["trials"] for epoch in told["metrics"]]
    trials = Ledger(other).trials()
    assert sorted(rows) == sorted((name, epoch) for name, t in trials.items() for epoch in t.metrics)
    assert f"Learned from {len(trials)} trials of two" in resumed.stdout
    _, parents, _ = mlflow_runs(tmp_path)
    (parent,) = [run for run in parents if run.info.run_name == "one"]
    assert json.loads(parent.data.tags["latentune.heard"]) == {"two": len(trials)}
    started = [record.config["beta"] for record in Ledger(ledger).trials().values()]
    assert started != [record.config["beta"] for record in trials.values()]


def test_dry_run_prints_the_plan_and_starts_nothing(tmp_path, cache):
    done = run(tmp_path, cache, *TINY.split(), "--dry-run", "--epochs", "7", "--trainings", "3")
    assert done.returncode == 0, done.stderr
    said = " ".join(done.stdout.split())
    assert "Preset quick, with dataset_limit 60, image_size 16" in said and "epochs 7, " in said
    assert "Space beta: 1 to 150 " in said
    assert "A whole training: 21 steps, 7 epochs of 3 batches" in said
    assert "A training of 21 steps rarely draws more than blurs: --epochs 334 would have 1000" in said
    assert re.search(r"Trials 12 at most, \d+ side by side, of 7 epochs at most ", said)
    assert "Budget 3 whole trainings, in epochs; " in said and "Rungs none: each trial " in said
    assert re.search(
        r"Time about .* of training in all a whole training takes .* on one core here: 7 epochs of ", said
    )
    assert re.search(r" \(\d+ ms a step\), 7 evaluations of ", said)
    assert re.search(r"Start-up [\d.]+ \w+ of CPU time until here, as the sweep will; \d+", said)
    assert re.search(r"Disk [\d.]+ MB at most: 26 checkpoints of [\d.]+ MB, pictures [\d.]+ MB", said)
    again = shlex.split(re.search(r"Start it: (.*)", done.stdout)[1])
    assert again[-len(TINY.split()) - 4 :] == [*TINY.split(), "--epochs", "7", "--trainings", "3"]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--dataset", "nowhere"], "there is no data set or path 'nowhere'"),
        (["--points", "nowhere.json"], "nowhere.json can't be read"),
        (["--warm-start", "nowhere"], "holds no sweep"),
    ],
)
def test_a_dry_run_checks_what_a_start_checks(working, capsys, arguments, sentence):
    assert sentence in refusal(main, capsys, *TINY.split(), "--dry-run", *arguments)
    assert list(working.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--cpus-per-trial", "512"], "No trial fits"),
        (["--tracking-uri", "ftp://x/y"], "can't be written to"),
    ],
)
def test_what_is_known_once_ray_has_started_is_refused(tmp_path, cache, arguments, sentence):
    done = run(tmp_path, cache, *TINY.split(), "--dry-run", *arguments)
    assert done.returncode == 2 and sentence in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.gpu
def test_two_trials_share_a_gpu(tmp_path, cache):
    words = [*TINY.split(), "--dataset", "faces", "--epochs", "1"]
    done = run(tmp_path, cache, *words, "--num-samples", "2", "--name", "shared")
    assert done.returncode == 0, done.stderr
    assert "a trial gets 1 CPU and 0.5 GPU" in done.stdout
    assert len(Ledger(tmp_path / "results/shared/ledger.jsonl").trials()) >= 2


def test_objectives_that_the_known_factors_do_not_allow_are_refused(tmp_path, cache, monkeypatch):
    """One factor has no other to be told from, and an image without it is left out."""
    factor = np.where(np.arange(60) == 5, np.nan, np.arange(60) % 4).astype(np.float32)
    real = sources.load_same
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))

    def with_one_factor(*arguments, **settings):
        store = real(*arguments, **settings)
        store.__dict__["factors"] = {"turn": factor}
        return store

    monkeypatch.setattr("trainables.evaluation.inputs.load_same", with_one_factor)
    config = replace(PRESETS["quick"], dataset_limit=60, image_size=16, objectives=("modularity",))
    settings = {"dataset": "faces", "dataset_limit": 60, "image_size": 16}
    with pytest.raises(UsageError, match=r"can't be computed of what is known of faces \(there is 1 factor"):
        check_factors(config, settings | {"disentanglement": ["modularity"]})
    check_factors(replace(config, objectives=("mig",)), settings | {"disentanglement": ["mig"]})
