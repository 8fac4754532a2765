"""The study of flow and diffusion, and the baselines that they join, as a person starts them."""

import os
import subprocess
import sys
from dataclasses import replace
from types import SimpleNamespace

import pytest
from rich.console import Console

from searchers import baselines
from searchers.bayesopt.tune_space import read_space
from searchers.execution.prepare import Prepared
from searchers.execution.run import sweep_record
from searchers.flow import PRESETS, main, study
from searchers.record.schema import FAILED, FINISHED
from searchers.record.trials import TrialRecord
from searchers.study.config import UsageError
from tests.fixtures.command import refusal
from trainables.tune.baselines import DENOISING, Baseline

TINY = (
    "--dataset-limit 60 --image-size 16 --width 0.5 --batch-size 16 --evaluation-samples 20 "
    "--features random --dry-run"
)


def run(module, folder, cache, *arguments):
    return subprocess.run(
        [sys.executable, "-m", module, *TINY.split(), *arguments],
        cwd=folder,
        env=os.environ | {"XDG_CACHE_HOME": str(cache), "OMP_NUM_THREADS": "1", "COLUMNS": "200"},
        capture_output=True,
        text=True,
    )


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.mark.parametrize(
    ("module", "arguments", "words"),
    [
        (
            "searchers.flow",
            ["--kind", "EDM", "--space", "steps=choice(3,9)"],
            "steps: of drawing images alone",
        ),
        ("searchers.baselines", ["--models", "VAE", "flow", "--seeds", "1"], "2 at most"),
    ],
)
def test_a_plan_names_what_is_searched(tmp_path, cache, module, arguments, words):
    done = run(module, tmp_path, cache, *arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    assert words in done.stdout


@pytest.mark.parametrize(("kind", "noise"), [("flow", "times"), ("EDM", "noise_mean")])
def test_the_noise_of_training_is_searched_with_rate_and_width(kind, noise):
    config = replace(PRESETS["quick"], kind=kind, width=0.6)
    found = study(config, Prepared({"schedule": "constant", "ema": 0.0, "width": 0.6}, "fd", {}))
    space = {d.name: d for d in read_space(found.space).dimensions}
    assert list(space) == ["learning_rate", "width", noise]
    (point,) = found.points_to_evaluate
    assert all(space[name].encode(value) is not None for name, value in point.items())
    assert found.settings["schedule"] == "cosine" and found.settings["ema"] > 0


@pytest.mark.parametrize("name", ["flow", "EDM"])
@pytest.mark.parametrize("recipe", ["report", "modern"])
def test_a_baseline_learns_no_classes_that_the_others_do_not(name, recipe):
    model_class, settings = Baseline.model_of({"model": name, "recipe": recipe})
    assert model_class.configure({k: v for k, v in settings.items() if k not in DENOISING}).classes == 1


def test_a_size_that_no_network_takes_is_refused_at_once(capsys):
    assert "--image-size is 28; it must be one of 16, 32, 64" in refusal(main, capsys, "--image-size", "28")


def test_models_that_learn_classes_are_named(tmp_path, cache):
    done = run("searchers.flow", tmp_path, cache)
    assert "Images are drawn class by class, of 6 classes; --set classes=1 leaves classes out" in done.stdout
    done = run("searchers.flow", tmp_path, cache, "--set", "classes=1")
    assert done.returncode == 0 and "class by class" not in done.stdout


def asked_of_baselines(*settings, **changes):
    """Return what is said of settings that were asked for."""
    console = Console(width=200, record=True)
    config = replace(baselines.PRESETS["quick"], set=settings, **changes)
    baselines.weigh_settings(config, console)
    return console.export_text().splitlines()


def test_a_setting_that_no_baseline_takes_is_refused_and_one_that_some_take_is_told():
    for setting, sentence in (
        ("learnin_rate=1e-3", r"learnin_rate: none of the models takes it \(did you mean learning_rate\?\)"),
        ("gan_loss=wasserstein", "gan_loss: none of the models takes it"),  # of no modern model
        ("recipe=larsen", "the baselines have no recipe 'larsen'; theirs are report and modern"),
    ):
        with pytest.raises(UsageError, match=sentence):
            asked_of_baselines(setting)
    assert asked_of_baselines("learning_rate=1e-3", "ema_width=0.1", "flip=true") == []
    assert asked_of_baselines("gamma=2") == ["gamma: not of GAN, VAE"]
    assert asked_of_baselines("gan_loss=wasserstein", preset="report") == ["gan_loss: not of GAN, VAE"]
    models = ("VAE", "WGAN-GP", "flow")
    assert asked_of_baselines(models=models) == []
    assert asked_of_baselines(models=models, width=2.0) == ["width: not of WGAN-GP, flow"]
    with pytest.raises(UsageError, match="width: none of the models takes it"):
        asked_of_baselines(models=models[1:], width=2.0)
    with pytest.raises(UsageError, match="beta: none of the models takes it"):
        asked_of_baselines(models=models, beta=3.0)
    assert asked_of_baselines(models=("GAN", "beta-VAE-GAN"), beta=3.0) == ["beta: not of GAN"]


def test_a_baselines_record_has_what_its_model_takes():
    config = replace(baselines.PRESETS["quick"], models=("VAE", "beta-VAE-GAN", "flow"), seeds=1, name="b")
    prepared = Prepared({"width": 1.0, "batch_size": 16, "epochs": 30}, "fd", {})
    made = baselines.study(config, prepared)
    made = replace(made, settings={**made.settings, "gamma": 2.0})
    points = list(made.points)
    record = sweep_record(made, points, config, "id", "python -m searchers.baselines")
    assert {"batch_size", "epochs", "recipe"} <= record.shared.keys()
    assert record.shared.keys().isdisjoint({"beta", "gamma", "width"})
    params = {point["model"]: record.params_of({**made.settings, **point}) for point in points}
    own = {"model", "seed"}
    assert params["VAE"].keys() == {*own, "latent_dim", "width"}
    assert params["beta-VAE-GAN"].keys() == {*own, "latent_dim", "width", "gamma", "beta"}
    assert params["flow"].keys() == own


def test_the_curves_of_baselines_are_of_trainings_that_ended(monkeypatch, tmp_path):
    """One that failed would cut the others' mean to its last epoch."""
    records = [
        TrialRecord("a", 1, {"model": "VAE"}, {1: {"fd": 9.0}, 2: {"fd": 7.0}}, FINISHED),
        TrialRecord("b", 2, {"model": "VAE"}, {1: {"fd": 8.0}, 2: {"fd": 6.0}}, FINISHED),
        TrialRecord("c", 3, {"model": "VAE"}, {1: {"fd": 90.0}}, FAILED),
    ]
    drawn = []
    monkeypatch.setattr(
        baselines, "draw", lambda found, _: drawn.append(found) or SimpleNamespace(savefig=lambda *_, **__: 0)
    )
    for kept in (records, records[2:]):
        outcome = SimpleNamespace(
            study=SimpleNamespace(metric="fd"), records=kept, folder=tmp_path, exit_code=0
        )
        monkeypatch.setattr("searchers.execution.run.tune_study", lambda *_, found=outcome: found)
        assert baselines.main(["--name", "b", "--results", str(tmp_path), "--preset", "quick"]) == 0
    assert drawn == [{"VAE": [{1: 9.0, 2: 7.0}, {1: 8.0, 2: 6.0}]}, {"VAE": [{1: 90.0}]}]
