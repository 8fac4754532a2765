"""The study of flow and diffusion, and the baselines that they join, as a person starts them."""

import os
import subprocess
import sys
from dataclasses import replace

import pytest

from searchers.bayesopt.tune_space import read_space
from searchers.execution.prepare import Prepared
from searchers.flow import PRESETS, main, study
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
        ("searchers.baselines", ["--models", "flow", "--seeds", "1"], "1 at most"),
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
