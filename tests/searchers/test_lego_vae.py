"""The LEGO sweep: the slides' space and protocol, the winner's decay, the figures, and a tiny real run."""

import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console

from searchers import lego_vae
from searchers.bayesopt.tune_space import read_space
from searchers.execution.fixed_points import FixedPoints
from searchers.execution.overlay import overlay
from searchers.execution.prepare import Prepared
from searchers.execution.resume import store as remember
from searchers.execution.search import given_points, make_search
from searchers.lego_vae import PRESETS, LegoConfig, final_study, study
from searchers.record.ledger import Ledger
from searchers.record.schema import FINISHED
from searchers.record.trials import TrialRecord
from searchers.reports.faces import COLUMNS, FILM_STEPS, MORPHS, PAUSE, draw_faces, draw_rebuilt
from searchers.study.config import UsageError
from tests.fixtures.waits import PATIENCE
from trainables.data.sources import load
from trainables.evaluation.inputs import split_config
from trainables.models.lego_vae import LegoVAE, morph

ROOT = Path(__file__).resolve().parents[2]
TINY = (
    "--dataset-limit 120 --image-size 16 --width 0.1 --batch-size 16 --epochs 3 --num-samples 4 "
    "--random-starts 2 --final-epochs 3 --evaluation-samples 20 --name tiny"
)


def sweep(**changes):
    config = LegoConfig(**changes)
    return config, study(config, Prepared({"image_size": 16}, None, {"data_hash": "x"}))


def test_the_space_and_the_protocol_are_the_slides():
    report = PRESETS["report"]
    protocol = (report.random_starts, report.num_samples, report.epochs, report.final_epochs)
    assert protocol == (10, 100, 50, 400)
    assert (report.image_size, report.width, report.batch_size) == (128, 1.0, 64)
    _, tuned = sweep()
    hidden, latent = read_space(tuned.space).dimensions
    assert (hidden.name, hidden.low, hidden.high, hidden.integer) == ("hidden", 128, 2048, True)
    assert (latent.name, latent.low, latent.high, latent.integer) == ("latent_dim", 8, 64, True)
    assert (tuned.metric, tuned.mode, tuned.random_starts) == ("validation_loss_last3", "min", 10)
    assert tuned.provenance["likelihood"] == LegoVAE.likelihood


def test_the_winner_is_trained_at_its_sizes():
    config, tuned = sweep(final_epochs=7)
    final = final_study(tuned, config, {"hidden": 300, "latent_dim": 20, "seed": 0, "image_size": 16})
    assert final.points == ({"hidden": 300, "latent_dim": 20},)
    assert final.settings == {"image_size": 16, "epochs": 7}


def test_the_winners_rate_falls_to_the_last_step():
    settings = {"image_size": 16, "hidden": 12, "latent_dim": 3, "decay_steps": 77}
    model = LegoVAE(split_config(LegoVAE, settings)[1])
    assert model.learning_rate(0) == 1e-3
    assert model.learning_rate(77) == pytest.approx(5e-7)


@pytest.mark.parametrize("searched_by", [{}, {"searcher": "grid"}, {"warm_start": "old", "share": "place"}])
def test_the_recommended_trial_is_the_one_that_is_trained_whatever_searched(
    searched_by, tmp_path, monkeypatch
):
    """Its sizes, its own batch size and the sweep's steps an epoch, by which the rate falls."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    config = LegoConfig(
        **searched_by,
        name="x",
        dataset_limit=120,
        image_size=16,
        width=0.1,
        batch_size=16,
        epochs=3,
        final_epochs=5,
        features="none",
        space=("batch_size=choice(16,32)",),
        set=("learning_rate=2e-3",),
    )
    runs = []

    def run(study, config, *_, **__):
        study = overlay(study, config)
        points = given_points(study, config)
        runs.append((study, config, points and make_search(study, config, points)))
        sizes = {"hidden": 300, "latent_dim": 20, "batch_size": 32}
        best = TrialRecord("b", 2, {**study.settings, **sizes}, {3: {lego_vae.METRIC: 2.0}}, FINISHED)
        ahead = TrialRecord("a", 1, {**best.config, "hidden": 200}, {3: {lego_vae.METRIC: 1.0}}, FINISHED)
        return SimpleNamespace(exit_code=len(runs) - 1, study=study, best=best, records=[ahead, best])

    monkeypatch.setattr("searchers.execution.run.run", run)
    assert lego_vae.work(config, "id", Console()) == 1
    _, (final, once, search) = runs
    assert isinstance(search, FixedPoints)
    assert search.points == [{"hidden": 300, "latent_dim": 20, "batch_size": 32}]
    assert (once.epochs, once.warm_start, once.share, once.space) == (5, None, None, ())
    assert final.settings["decay_steps"] == 5 * (96 // 32)
    assert once.set == (
        "learning_rate=2e-3",
        "decay_steps=15",
    )  # MLflow has these words: whoever trains it again


def test_a_dry_run_tells_the_winners_epochs_too(monkeypatch):
    monkeypatch.setattr("searchers.execution.prepare.prepare", lambda *_: Prepared({}, None, {}))
    nothing = SimpleNamespace(exit_code=0, best=None)
    monkeypatch.setattr("searchers.execution.run.run", lambda *_, **__: nothing)
    console = Console(width=100, record=True)
    assert lego_vae.work(LegoConfig(final_epochs=7, dry_run=True), "id", console) == 0
    assert "Then the winner's training: 7 epochs more." in console.export_text()


@pytest.mark.parametrize("asked", [{"set": ("schedule=cosine",)}, {"space": ("decay_steps=randint(1,9)",)}])
def test_the_winners_rate_is_the_slides(asked, monkeypatch):
    monkeypatch.setattr("searchers.execution.prepare.prepare", lambda *_: pytest.fail("it goes on"))
    with pytest.raises(UsageError, match="the winner's learning rate falls as in"):
        lego_vae.work(LegoConfig(**asked), "id", Console())


def test_another_sweeps_winner_is_not_taken_for_this_ones(monkeypatch, tmp_path):
    monkeypatch.setattr("searchers.execution.prepare.prepare", lambda *_: pytest.fail("it goes on"))
    config = LegoConfig(name="x", results=str(tmp_path))
    remember(tmp_path / "x-final", lego_vae.PROGRAM, "other-final", config)
    with pytest.raises(UsageError, match="x-final holds another sweep's trials"):
        lego_vae.work(config, "id", Console())


@pytest.mark.parametrize(("name", "value"), [("random_starts", 0), ("final_epochs", -1)])
def test_flags_that_cannot_be(name, value):
    with pytest.raises(ValueError, match=f"--{name.replace('_', '-')} is {value}; it must be"):
        LegoConfig(**{name: value})


def test_the_figures_are_of_the_models_own_faces(tmp_path, monkeypatch):
    store = load("faces", image_size=16, limit=80, cache_dir=tmp_path)
    values = {"image_size": 16, "width": 0.1, "hidden": 12, "latent_dim": 3}
    model = LegoVAE(LegoVAE.configure(values), seed=1)
    paths = draw_faces(model, store, tmp_path / "figures")
    assert [path.name for path in paths] == ["generated.png", "morph.png", "reconstructed.png", "morph.gif"]
    assert all(path.exists() for path in paths)
    rows = []
    monkeypatch.setattr("matplotlib.axes.Axes.imshow", lambda axes, image, **_: rows.append(image))
    draw_rebuilt(tmp_path / "rows.png", *np.arange(20, dtype=np.uint8).reshape(2, 10, 1, 1, 1))
    assert [row.flatten().tolist() for row in rows] == [
        [*range(8)],
        [*range(10, 18)],
        [8, 9],
        [18, 19],
    ]
    morphs = np.asarray(Image.open(tmp_path / "figures/morph.png"))
    step = 16 * 8 + 16
    assert morphs.shape == (MORPHS * step - 16, COLUMNS * step - 16, 3)
    test = store.split("test")
    x = torch.from_numpy(store.images[test[:2]]).permute(0, 3, 1, 2).float() / 127.5 - 1
    strip = morph(model, x[0], x[1], COLUMNS)
    last = morphs[: 16 * 8, (COLUMNS - 1) * step :][::8, ::8]
    expected = (strip[-1].permute(1, 2, 0).numpy() + 1) * 127.5
    np.testing.assert_allclose(last, expected, atol=0.51)
    with Image.open(tmp_path / "figures/morph.gif") as film:
        assert film.n_frames <= MORPHS * (PAUSE + FILM_STEPS - 2)


def run(folder, *arguments, module="searchers.lego_vae"):
    environment = os.environ | {"XDG_CACHE_HOME": str(folder / "cache"), "COLUMNS": "200"}
    command = [sys.executable, "-m", module, *arguments]
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=PATIENCE
    )


@pytest.mark.slow
def test_a_tiny_sweep_ends_with_a_trained_winner_and_its_figures_and_again_on_resume(tmp_path):
    done = run(tmp_path, *TINY.split(), "--set", "dropout=0.1")
    assert done.returncode == 0, done.stdout + done.stderr
    told = re.search(
        r"Best: trial \d, hidden = (\d+), latent_dim = (\d+): validation_loss_last3", done.stdout
    )
    assert told
    figures = tmp_path / "results/tiny/figures"
    drawn = {path.name: path.read_bytes() for path in figures.iterdir()}
    assert set(drawn) == {"generated.png", "reconstructed.png", "morph.png", "morph.gif"}
    (final,) = Ledger(tmp_path / "results/tiny-final/ledger.jsonl").trials().values()
    assert final.epoch == 3
    assert [final.config[name] for name in ("hidden", "latent_dim")] == [int(size) for size in told.groups()]
    assert final.config["decay_steps"] == 3 * (96 // 16)
    again = run(tmp_path, "tiny-final", "1", "--reproduce", module="analysis.trial")
    assert "That is the recorded training, digit by digit" in again.stdout, again.stdout + again.stderr
    resumed = run(tmp_path, "--resume", "tiny")
    assert resumed.returncode == 0, resumed.stdout + resumed.stderr
    assert drawn == {path.name: path.read_bytes() for path in figures.iterdir()}
