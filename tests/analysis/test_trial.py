"""One trial: its card, trained again, drawn from, and its program run without this project."""

import json
import subprocess
import sys
from dataclasses import replace
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from PIL import Image

from analysis import trial
from analysis.judgement import portable, retraining
from analysis.judgement.card import data
from analysis.record.store import AnalysisError
from analysis.record.tables import load
from tests.fixtures.recorded import METRIC, Imagined, record
from trainables.data.synthetic.digits import DRAWN_DIGITS
from trainables.data.synthetic.faces import FACES
from trainables.data.synthetic.minifigures import MINIFIGURES
from trainables.models.fitted_prior import fit
from trainables.models.modern import ModernVAE
from trainables.models.storage import save_model
from trainables.models.vqvae import VQVAE

ORIGINAL = Imagined(
    "original", trials=2, images=False, stopping=False, references=(206.0, 100.3, 10.0), seed=7
)
LOAD = """
import sys, torch
assert not any(m.startswith(("trainables", "analysis")) for m in sys.modules)
noise = torch.load(sys.argv[2], weights_only=True)
torch.save(torch.export.load(sys.argv[1]).module()(noise), sys.argv[3])
"""


def run(client, *arguments):
    return trial.main([*map(str, arguments), "--tracking-uri", client.tracking_uri])


@pytest.fixture(scope="module")
def network():
    """A model whose prior is another than N(0, I)."""
    settings = {"image_size": 16, "width": 0.1, "latent_dim": 3, "fitted_prior": True}
    model = ModernVAE(ModernVAE.configure(settings), seed=3)
    means = torch.randn(50, 3, generator=torch.Generator().manual_seed(2)) * torch.tensor([1.0, 2.0, 3.0]) + 4
    model.settle_prior(fit(means, torch.zeros(50, 3)))
    return model.eval()


@pytest.fixture(scope="module")
def recorded(folder, client, network, tmp_path_factory):
    """A sweep whose first trial has weights on record."""
    record(ORIGINAL, folder / "original", client.tracking_uri)
    weights = tmp_path_factory.mktemp("weights")
    settings = {"image_size": 16, "width": 0.1, "latent_dim": 3, "fitted_prior": True}
    save_model(weights, ModernVAE, settings, network.state_dict())
    tables = load(client, "original")
    client.log_artifacts(tables.trials["run_id"][0], str(weights), "model")
    return tables


def test_the_card_says_what_a_trial_scores_and_learnt_from(client, recorded, capsys):
    assert run(client, "original", 1) == 0
    said = capsys.readouterr().out
    score = recorded.trials[f"metrics.{METRIC}"][0]
    assert f"| {METRIC} | {score:.4g} ± 2 | 206 | 100.3 | 10 |" in said
    assert "- hash of the images: 0123abcd" in said and "Apache-2.0" in said
    point = json.dumps([{"beta": recorded.trials["params.beta"][0], "seed": 0}])
    assert f"echo '{point}' > points.json" in said and "--epochs 9" in said


@pytest.mark.parametrize("seed", [-5, 2**63, 99999999999999999999])
def test_a_seed_that_no_noise_has_is_refused(seed, client, capsys):
    with pytest.raises(SystemExit, match="2"):
        run(client, "original", 1, "--samples", 3, "--seed", seed)
    assert f"--seed is {seed}; it must be between 0 and" in " ".join(capsys.readouterr().err.split())


def test_a_trial_is_trained_again_and_its_scores_compared(
    client, folder, recorded, monkeypatch, tmp_path, capsys
):
    monkeypatch.chdir(tmp_path)
    imagined = [replace(ORIGINAL, trials=1), replace(ORIGINAL, trials=1, epochs=12, seed=8)]

    def pretend(command):
        flags = dict(pairwise(command))
        (point,) = json.loads(Path(flags["--points"]).read_text())["points"]
        again = imagined.pop(0)
        assert int(flags["--epochs"]) == again.epochs
        record(replace(again, name=flags["--name"], points=(point,)), folder, client.tracking_uri)
        return 0

    monkeypatch.setattr(retraining, "wait_for", pretend)
    assert run(client, "original", 1, "--reproduce") == 0
    assert "That is the recorded training, digit by digit, at all 9 common epochs." in capsys.readouterr().out
    assert run(client, "original", 1, "--epochs", 12) == 0
    said = capsys.readouterr().out
    assert "Trained again as original-trial1-12" in said and "They differ from epoch 1 on" in said


def test_images_are_drawn_with_the_seed_that_was_asked_for(client, recorded, network, tmp_path):
    assert run(client, "original", 1, "--samples", 10, "--seed", 3, "--export", tmp_path) == 0
    drawn = np.asarray(Image.open(tmp_path / "original-trial1-seed3.png"))
    images = network.sample(10, torch.Generator().manual_seed(3))
    first = ((images[0].clamp(-1, 1) + 1) * 127.5).round().permute(1, 2, 0).numpy()
    enlarged = first.repeat(4, 0).repeat(4, 1)  # 16 pixels as 64
    np.testing.assert_allclose(drawn[:64, :64], enlarged, atol=1)


def test_the_program_runs_without_this_project(client, recorded, network, tmp_path):
    assert run(client, "original", 1, "--export", tmp_path / "taken") == 0
    noise = torch.randn(5, 3)
    torch.save(noise, tmp_path / "noise.pt")
    words = [str(tmp_path / name) for name in ("taken/model.pt2", "noise.pt", "images.pt")]
    subprocess.run([sys.executable, "-I", "-c", LOAD, *words], cwd=tmp_path, check=True)
    images = torch.load(tmp_path / "images.pt", weights_only=True)
    with torch.no_grad():
        expected = network.decode(network.from_noise(noise))
    torch.testing.assert_close(images, expected, atol=1e-4, rtol=0)
    configuration = yaml.safe_load((tmp_path / "taken" / "trial.yaml").read_text())
    assert configuration["beta"] == recorded.trials["params.beta"][0]
    assert configuration["image_size"] == 32 and configuration["likelihood"].startswith("gaussian")


@pytest.mark.skipif(find_spec("onnxscript") is None, reason="onnx and onnxscript are not installed")
def test_the_program_as_onnx(network, tmp_path):
    onnx = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    portable.export(network, tmp_path / "model.onnx")
    noise = np.random.default_rng(0).standard_normal((5, 3)).astype(np.float32)
    (images,) = onnx.InferenceSession(tmp_path / "model.onnx").run(None, {"noise": noise})
    with torch.no_grad():
        expected = network.decode(network.from_noise(torch.from_numpy(noise)))
    np.testing.assert_allclose(images, expected, atol=1e-4)


@pytest.mark.parametrize(
    ("first", "second", "said"),
    [
        ({"failing": (1,)}, {"failing": (1,)}, f"failed before its first {METRIC}."),
        ({}, {"failing": (1,)}, f"failed before its first {METRIC}."),
        ({"failing": (1,)}, {}, "at epoch 9; the recorded training has reported none."),
    ],
    ids=("neither", "the first", "the second"),
)
def test_a_training_without_a_score_is_compared(
    client, folder, monkeypatch, tmp_path, capsys, request, first, second, said
):
    monkeypatch.chdir(tmp_path)
    name = request.node.callspec.id.replace(" ", "-")
    imagined = Imagined(name, trials=1, images=False, stopping=False, **first)
    record(imagined, folder / name, client.tracking_uri)

    def pretend(command):
        again = Imagined(dict(pairwise(command))["--name"], trials=1, images=False, stopping=False, **second)
        record(again, folder / name, client.tracking_uri)
        return 0

    monkeypatch.setattr(retraining, "wait_for", pretend)
    assert run(client, name, 1, "--reproduce", "--export", tmp_path / "out") == 0
    words = capsys.readouterr().out
    assert f"Trained again as {name}-trial1: " in words and said in words
    assert (tmp_path / "out" / "README.md").exists()


def test_a_trial_that_failed_has_a_card_with_its_error(client, folder, tmp_path, capsys):
    imagined = Imagined("broken", trials=2, images=False, references=(206.0, 100.3, 10.0), failing=(1, 2))
    record(imagined, folder / "broken", client.tracking_uri)
    assert run(client, "broken", 2) == 0
    said = capsys.readouterr().out
    assert f"**What speaks against it:** it is failed at epoch 0 of 9, and it has no {METRIC}." in said
    assert "**Its error:** `MemoryError: no memory left`" in said
    assert run(client, "broken", 2, "--export", tmp_path / "out") == 0
    assert "MemoryError" in (tmp_path / "out" / "README.md").read_text()


def test_points_beside_the_space_are_trained_again(client, folder, monkeypatch, tmp_path):
    points = ({"beta": 60.0, "width": 0.5}, {"beta": 60.0})
    imagined = Imagined("beside", trials=2, images=False, stopping=False, points=points)
    record(imagined, folder / "beside", client.tracking_uri)
    assert run(client, "beside", 1, "--export", tmp_path) == 0
    assert json.loads((tmp_path / "points.json").read_text()) == [{"beta": 60.0, "width": 0.5, "seed": 0}]
    assert '"width": 0.5' in (tmp_path / "README.md").read_text()


def test_an_own_model_that_is_not_trusted_is_exported_without_its_program(client, folder, tmp_path, capsys):
    record(Imagined("own", trials=1, images=False, stopping=False), folder / "own", client.tracking_uri)
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "model.json").write_text('{"model": "mine_alone:Model", "config": {}}')
    client.log_artifacts(load(client, "own").trials["run_id"][0], str(tmp_path / "weights"), "model")
    assert run(client, "own", 1, "--export", tmp_path / "out") == 0
    said = capsys.readouterr().out
    assert "Without its program: The weights of trial 1 cannot be read: the model is mine_alone" in said
    assert "--trust mine_alone allows it" in said
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        *("README.md", "trial.yaml", "points.json", "model.json")
    }


def test_a_decoder_that_torch_cannot_follow_is_a_sentence(network, monkeypatch, tmp_path):
    def decode(self, z):
        return z if float(z.sum()) > 0 else -z

    monkeypatch.setattr(ModernVAE, "decode", decode)
    with pytest.raises(AnalysisError, match=r"^torch.export cannot follow ModernVAE.decode: .+\.$"):
        portable.export(network, tmp_path / "model.pt2")


def test_what_cannot_be_done_is_said(client, recorded, tmp_path, capsys):
    assert run(client, "original", 7) == 2
    assert "has no trial 7; it has 2." in capsys.readouterr().err
    assert run(client, "original", 2, "--samples", 4) == 2
    assert "no weights of trial 2 of 'original'; it keeps those of 1." in capsys.readouterr().err
    with pytest.raises(SystemExit, match="2"):
        run(client, "original", 1, "--samples", 0)
    assert "--samples is 0; it must be 1 or more" in capsys.readouterr().err
    codes = VQVAE(VQVAE.configure({"image_size": 16, "width": 0.1}))
    with pytest.raises(AnalysisError, match="in more steps than decoding Gaussian noise"):
        portable.export(codes, tmp_path / "model.pt2")


def test_the_terms_of_images_that_are_drawn_here_are_known():
    for drawn in (FACES, MINIFIGURES, DRAWN_DIGITS):
        assert "license: drawn by latentune" in data(pd.Series({"params.dataset": drawn.name}))
    assert "license: not known" in data(pd.Series({"params.dataset": "/home/me/faces"}))
