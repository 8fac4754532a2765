"""Happy People as a person runs it: a real, tiny sweep in a process of its own, killed and resumed."""

import os
import re
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
from PIL import Image
from rich.console import Console

from searchers.happy_people import PRESETS, HappyPeopleConfig, main, planned, points, prepare
from searchers.record.ledger import Ledger
from searchers.record.schema import DIVERGED, FAILED, FINISHED, TRIAL_TAG
from searchers.record.trials import TrialRecord
from searchers.reports import happy_people
from searchers.reports.happy_people import (
    KEPT,
    Gain,
    gain_table,
    gains,
    what_holds,
    what_is_judged,
    what_is_kept,
)
from tests.fixtures.command import refusal
from tests.fixtures.waits import PATIENCE
from trainables.latent.scorer import ScorerQuality, SmileScorer

ROOT = Path(__file__).resolve().parents[2]
TINY = (
    "--dataset-limit 200 --image-size 16 --width 0.1 --features random --seeds 1 --free 4 --max-concurrent 1"
)


def command(*arguments):
    return [sys.executable, "-m", "searchers.happy_people", *arguments]


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    """One cache of converted images, scorer and models for all runs here."""
    cache = tmp_path_factory.mktemp("cache")
    paths = {"XDG_CACHE_HOME": str(cache), "PYTHONPATH": str(ROOT)}
    return os.environ | paths | {"OMP_NUM_THREADS": "1", "COLUMNS": "200"}


def run(folder, environment, *arguments, timeout=PATIENCE):
    return subprocess.run(
        command(*arguments), cwd=folder, env=environment, capture_output=True, text=True, timeout=timeout
    )


@pytest.fixture(scope="module")
def finished(tmp_path_factory, environment):
    """A sweep of the three methods that ran to its end."""
    folder = tmp_path_factory.mktemp("finished")
    done = run(folder, environment, *TINY.split(), "--queries", "15", "--name", "tiny")
    assert done.returncode == 0, done.stdout + done.stderr
    return folder, done


@pytest.mark.gpu
def test_it_runs_where_there_is_a_gpu(finished):
    assert "Scorer: accuracy" in finished[1].stdout


def test_it_ends_with_the_papers_table_and_figures(finished):
    folder, done = finished
    assert re.search(
        r"Scorer: accuracy 0\.\d+, rank correlation -?[\d.nan]+ on 20 held-out images", done.stdout
    )
    for method, paper in (("vqvae-retrained", "42.69"), ("vae-retrained", "50.51")):
        (line,) = [line for line in done.stdout.splitlines() if line.startswith(f" {method}")]
        assert f"({paper})" in line
    assert (folder / "results/tiny/figure3.png").stat().st_size > 10_000
    assert (folder / "results/tiny/figure1.png").stat().st_size > 10_000
    assert "Scores of held-out images and of their reconstructions: rank correlation " in done.stdout
    assert done.stderr == ""


def test_it_says_when_the_latents_hold_nothing_of_what_is_scored():
    def record(method, kept):
        return SimpleNamespace(config={"method": method}, metrics={1: kept, 2: {KEPT: 0.0}})

    runs = [record("vqvae", {KEPT: 0.1}), record("vqvae-retrained", {KEPT: 0.3})]
    runs.append(record("vae-retrained", {}))  # its scores were all the same
    assert "0.20 (vqvae). Little of the smile" in what_is_kept(runs)
    runs.append(record("vae-retrained", {KEPT: 0.6}))
    assert what_is_kept(runs).endswith("rank correlation 0.20 (vqvae), 0.60 (vae).")
    assert "is not known" in what_is_kept([record("vqvae", {})])


def runs_of(method, free, **scores):
    values = zip(*scores.values(), strict=True)
    return [
        TrialRecord(str(k), k, {"method": method, "free": free}, {1: dict(zip(scores, row, strict=True))})
        for k, row in enumerate(values)
    ]


def test_the_papers_order_is_told_with_its_standard_error():
    groups = {
        ("vqvae-retrained", 8): runs_of("vqvae-retrained", 8, top10=[3.0, 4.0], top50=[2.0, 2.0], fd=[7, 9]),
        ("vqvae-retrained", 4): runs_of("vqvae-retrained", 4, top10=[9.0, 9.0], top50=[9.0, 9.0], fd=[0, 0]),
        ("vqvae", 8): runs_of("vqvae", 8, top10=[2.0, 2.5], top50=[2.0, 2.2], fd=[9, 9]),
        ("vae-retrained", 0): runs_of("vae-retrained", 0, top10=[2.0], top50=[2.0], fd=[9]),  # one run only
    }
    console = Console(width=100, record=True)
    differences = gains(groups, "fd")
    console.print(gain_table(differences))
    told = ["│", "+1.25", "±", "0.56", "│", "-0.10", "±", "0.10", "│", "+1.00", "±", "1.00"]
    (line,) = [line for line in console.export_text().splitlines() if "over" in line]
    # √(0.5²/2 + 0.25²/2) of variances ½ and ⅛ over two runs each; a lower FD is a gain.
    assert line.split("over vqvae")[1].split() == told
    # Of 1.47 degrees of freedom Student's t is 6.19 at 95 %: two standard errors would do for Top10 below.
    assert what_holds(differences) == (
        "The paper's order, at 95 % by Welch's t-test: it can't be told for vqvae-retrained over vqvae by "
        "Top10 (+1.25 ± 0.56, beside ± 3.46), vqvae-retrained over vqvae by Top50 (-0.10 ± 0.10, beside "
        "± 1.27), vqvae-retrained over vqvae by FD (+1.00 ± 1.00, beside ± 12.71)."
    )
    assert gains({("vae-retrained", 0): groups["vae-retrained", 0]}, "fd") == {}


def test_what_holds_names_what_was_compared_and_tells_nothing_of_what_was_not():
    nothing = Gain(float("nan"), float("nan"), float("nan"))
    sure, reversed_ = Gain(0.3, 0.1, 0.25), Gain(-0.3, 0.1, 0.25)
    said = what_holds({"a over b": {"Top10": sure, "Top50": nothing, "FD": reversed_}})
    assert said.endswith(
        "it holds for a over b by Top10 (+0.30 ± 0.10, beside ± 0.25); "
        "it is reversed for a over b by FD (-0.30 ± 0.10, beside ± 0.25)."
    )
    assert "can't be told: no two methods" in what_holds({"a over b": {"Top10": nothing}})


def test_the_report_is_of_whole_runs_and_a_single_one_has_no_deviation(tmp_path, monkeypatch):
    """An interrupted, a diverged and a failed run count nowhere, and are spoken of."""
    more = {"fit_seconds": 1.0, "solve_seconds": 1.0, "best_training_score": 2.0, "overrated": 0.0, "fd": 5.0}
    scores = {name: [value] * 4 for name, value in more.items()} | {"top10": [3.0, 9.0, 9.0, 9.0]}
    runs = runs_of("vqvae", 8, **scores)
    for record, status in zip(runs, [FINISHED, None, DIVERGED, FAILED], strict=True):
        record.status = status
    seen = []
    monkeypatch.setattr(happy_people, "query_images", lambda members, _: seen.extend(members))
    monkeypatch.setattr(
        happy_people, "pooled_distances", lambda _, images: ("fd", {group: {"": 5.0} for group in images})
    )
    for name in ("draw_curves", "draw_faces"):
        monkeypatch.setattr(happy_people, name, lambda *_: None)
    console = Console(width=100, record=True)
    ledger = Ledger(tmp_path / "ledger.jsonl")
    numbers = happy_people.report("one", 10, {}, runs, tmp_path, ledger, console)
    ledger.close()
    assert seen == runs[:1]
    assert numbers == {"vqvae/t8/top10": 3.0, "vqvae/t8/overrated": 0.0, "vqvae/t8/fd": 5.0}
    said = console.export_text()
    assert "Left out: 3 of 4 runs" in said
    assert "3.00" in said
    assert "3.00 ±" not in said


def test_distances_are_of_as_many_runs_of_each_method(tmp_path, monkeypatch):
    more = {"fit_seconds": 1.0, "solve_seconds": 1.0, "best_training_score": 2.0, "top10": 3.0}
    runs = [
        record
        for method, count in (("vqvae", 3), ("vqvae-retrained", 2))
        for record in runs_of(method, 8, **{name: [value] * count for name, value in more.items()})
    ]
    for record in runs:
        record.status = FINISHED
    monkeypatch.setattr(happy_people, "query_images", lambda members, _: len(members))
    monkeypatch.setattr(
        happy_people, "pooled_distances", lambda _, images: ("fd", {g: {"": n} for g, n in images.items()})
    )
    for name in ("draw_curves", "draw_faces", "what_is_judged"):
        monkeypatch.setattr(happy_people, name, lambda *_: "")
    console = Console(width=100, record=True)
    ledger = Ledger(tmp_path / "ledger.jsonl")
    numbers = happy_people.report("cut", 10, {}, runs, tmp_path, ledger, console)
    ledger.close()
    assert numbers["vqvae/t8/fd"] == numbers["vqvae-retrained/t8/fd"] == 2
    said = " ".join(console.export_text().split())
    assert "Runs of each: 2 to 3. FD: fd, of 2 runs of each." in said


def test_what_only_the_searched_scorer_believes_is_told():
    runs = runs_of("vqvae", 8, top10=[3.0, 4.0], judged_top10=[2.0, 2.5], overrated=[0.5, 0.0])
    assert "vqvae, t = 8 2.25 (first scorer 3.50), 25%" in what_is_judged({("vqvae", 8): runs})


def test_every_round_is_in_mlflow_with_its_provenance_and_images(finished):
    folder, _ = finished
    client = MlflowClient(f"sqlite:///{folder}/mlflow.db")
    (experiment,) = [e for e in client.search_experiments() if e.name == "happy-people"]
    runs = client.search_runs([experiment.experiment_id])
    (parent,) = [run for run in runs if TRIAL_TAG not in run.data.tags]
    children = [run for run in runs if TRIAL_TAG in run.data.tags]
    assert sorted(run.data.params["method"] for run in children) == [
        "vae-retrained",
        "vqvae",
        "vqvae-retrained",
    ]
    for run_ in children:
        history = client.get_metric_history(run_.info.run_id, "score")
        assert [point.step for point in history] == [1, 2, 3]
        assert {"fd_random", "fd_random_degree_3", "novelty", "overrated"} <= set(run_.data.metrics)
        assert len(client.list_artifacts(run_.info.run_id, "images")) >= 2
        if run_.data.params["method"] != "vae-retrained":
            assert run_.data.metrics["gap_max"] < 1e-6
    assert parent.info.status == "FINISHED"
    assert {"scorer_hash", "judge_hash", "scorer_accuracy", "features", "data_hash"} <= set(
        parent.data.params
    )
    assert "vqvae/t4/fd_random" in parent.data.metrics
    assert {"figure1.png", "figure3.png"} <= {a.path for a in client.list_artifacts(parent.info.run_id)}


def ends(folder):
    """Return what each method's run ended with: its scores, without seconds, and all its pictures."""
    found = {}
    for record in Ledger(folder / "ledger.jsonl").trials().values():
        scores = {
            k: v for k, v in record.metrics[record.epoch].items() if "seconds" not in k and "time" not in k
        }
        pictures = sorted((folder / "images" / record.trial).glob("*.png"))
        assert (record.epoch, len(pictures)) == (3, 3)
        found[record.config["method"]] = scores, [path.read_bytes() for path in pictures]
    return found


@pytest.mark.slow
@pytest.mark.timeout(2 * PATIENCE)
def test_a_killed_sweep_ends_as_one_that_nothing_interrupted(tmp_path, environment, finished):
    arguments = [*TINY.split(), "--queries", "15", "--name", "killed"]
    first = subprocess.Popen(
        command(*arguments), cwd=tmp_path, env=environment, stdout=subprocess.PIPE, text=True
    )
    ledger = tmp_path / "results/killed/ledger.jsonl"
    deadline = time.monotonic() + PATIENCE
    try:
        while not (ledger.exists() and ledger.read_text().count('"result"') >= 4):
            assert time.monotonic() < deadline, "the sweep did not get to its fourth round"
            time.sleep(0.2)
    finally:
        first.send_signal(signal.SIGKILL)
        first.wait()
    done = run(tmp_path, environment, "--resume", "killed")
    assert done.returncode == 0, done.stdout + done.stderr
    expected = ends(finished[0] / "results/tiny")
    assert len(expected) == 3
    assert ends(tmp_path / "results/killed") == expected


def test_wrong_flags_are_answered_in_a_sentence(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert "there is no data set or path 'nowhere'" in refusal(main, capsys, "--dataset", "nowhere")
    with pytest.raises(ValueError, match="--queries is 7; it must be a multiple of 5"):
        HappyPeopleConfig(queries=7)
    with pytest.raises(ValueError, match="--free is 4 4; it must be one or more, each once"):
        HappyPeopleConfig(free=(4, 4))  # the same runs twice are no two runs
    with pytest.raises(ValueError, match="--free is 0; it must be one number or more, each from 1 to 64"):
        HappyPeopleConfig(free=(0,))
    with pytest.raises(ValueError, match=r"--gpus-per-trial is 2; it must be 0, a share from 0.0001 to 1"):
        HappyPeopleConfig(gpus_per_trial=2)  # a run is one process, and the second GPU would be idle


def test_two_classes_of_which_one_is_seen_are_learned_from_by_their_scores(tmp_path, monkeypatch):
    """CelebA's Smiling gives every image that the generators see the label 0. A dry run trains no scorer."""
    rng = np.random.default_rng(0)
    for name, count in (("not smiling", 80), ("smiling", 20)):
        (tmp_path / "set" / name).mkdir(parents=True)
        for k in range(count):
            pixels = rng.integers(256, size=(16, 16, 3)).astype(np.uint8)
            Image.fromarray(pixels).save(tmp_path / "set" / name / f"{k}.png")
    (tmp_path / "set" / "smiling" / "broken.png").write_bytes(b"no picture")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr("trainables.latent.scorer.train_scorer", lambda *_, **__: pytest.fail("it trains"))
    sizes = []
    monkeypatch.setattr(
        "searchers.execution.prepare.refuse_other_sizes",
        lambda _, size, channels: sizes.append((size, channels)),
    )
    config = replace(
        PRESETS["report"], dataset=str(tmp_path / "set"), image_size=16, features="random", dry_run=True
    )
    console = Console(width=200, record=True)
    settings, scorers, _ = prepare(config, console)
    assert (settings["training_scores"], scorers, sizes) == ("scorer", {}, [(16, 3)])
    said = console.export_text()
    assert "All of these have the label 0, of which nothing is learned" in said
    assert "Data: 1 of 101 images left out" in said
    scorer = SmileScorer(3, (0, 5))
    (tmp_path / "mine").write_bytes(scorer.to_bytes(ScorerQuality(0.99, 0.99, 4000)))
    prepare(replace(config, scorer_weights=str(tmp_path / "mine")), console)
    said = console.export_text()  # of its own images the file tells 0.99
    assert re.search(r"Scorer: accuracy [\d.]+, rank correlation -?0\.\d+ on \d\d held-out images", said)
    assert "0.990" not in said
    words = planned(replace(config, width=0.1, free=(4,)), {**settings, "width": 0.1}, 40, 2)
    assert "Trials: 40 of 100 rounds each, 2 side by side" in words
    assert "each of two scorers 8 epochs, the VQ-VAE 70 epochs, the VAE 30 epochs." in words
    assert re.search(r"Disk: [\d.]+ MB at most: 80 checkpoints of [\d.]+ MB, pictures 15.4 MB", words)


def test_the_report_is_the_papers_grid():
    config = PRESETS["report"]
    grid = points(config)
    assert (config.queries, config.seeds, config.free) == (500, 20, (4, 8, 16))
    assert len(grid) == 20 * (3 + 3 + 1)
    assert {"method": "vae-retrained", "free": 0, "seed": 19} in grid
