"""The winner in MLflow's registry: what comes back is the model that was trained."""

import base64
import io
import json
import os
import subprocess
import sys
from importlib import metadata

import numpy as np
import pandas as pd
import pytest
import requests
import torch
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from PIL import Image

from analysis import winners
from analysis.judgement.champion import PyfuncModel, png_base64, save_pyfunc
from analysis.judgement.promotion import how_to_use
from analysis.record.tables import load
from analysis.record.trained_model import TrainedModel
from tests.fixtures.processes import started
from tests.fixtures.recorded import METRIC
from trainables.models.fitted_prior import fit
from trainables.models.gan import GAN
from trainables.models.modern import ModernVAEGAN
from trainables.models.storage import save_model
from trainables.models.vaegan import VAEGAN

SETTINGS = {"image_size": 16, "width": 0.1, "latent_dim": 5}


def save(model, folder):
    """Write weights as the sweep does."""
    save_model(folder, type(model), model.hyperparameters(), model.state_dict(), epoch=9)
    return folder


def small(model_class, **settings):
    return model_class(model_class.configure({**SETTINGS, **settings}), seed=3)


@pytest.fixture(scope="module")
def network():
    return small(VAEGAN, beta=7.0).eval()


@pytest.fixture(scope="module")
def weights(network, tmp_path_factory):
    return save(network, tmp_path_factory.mktemp("weights"))


@pytest.fixture(scope="module")
def faces():
    return torch.rand(3, 3, 16, 16, generator=torch.Generator().manual_seed(1)) * 2 - 1


def pixels(file):
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(file)))).astype(float)


def expected(images):
    return ((images.clamp(-1, 1) + 1) * 127.5).round().permute(0, 2, 3, 1).numpy()


def ask(model, **request):
    (answer,) = model.predict(pd.DataFrame([request]))
    return answer


def test_weights_and_configuration_come_back(network, weights):
    model = TrainedModel.load(weights)
    assert model.network.config == network.config
    for name, tensor in network.state_dict().items():
        torch.testing.assert_close(model.network.state_dict()[name], tensor, rtol=0, atol=0)


def test_samples_keep_no_graph(weights, monkeypatch):
    model = TrainedModel.load(weights)
    monkeypatch.setattr(model.network, "sample", lambda n, _: torch.ones(n, 3, 16, 16, requires_grad=True))
    assert not model.sample(2).requires_grad


def test_samples_are_the_networks(network, weights):
    answer = ask(PyfuncModel(weights), operation="sample", n=2, seed=5)
    images = network.sample(2, torch.Generator().manual_seed(5))
    np.testing.assert_allclose([pixels(file) for file in answer["images"]], expected(images), atol=1)


def test_reconstructions_and_latents_are_the_networks(network, weights, faces):
    model, files = PyfuncModel(weights), png_base64(faces)
    rounded = torch.tensor(np.stack([pixels(file) for file in files])).permute(0, 3, 1, 2).float() / 127.5 - 1
    answer = ask(model, operation="reconstruct", images=files)
    images = network.reconstruct(rounded)
    np.testing.assert_allclose([pixels(file) for file in answer["images"]], expected(images), atol=1)
    with torch.no_grad():
        means = network.encode(rounded)[0]
    np.testing.assert_allclose(ask(model, operation="encode", images=files)["latents"], means, atol=1e-4)


def test_no_request_is_one_pass(weights, faces, monkeypatch):
    """Memory is that of a part of the images, however many were sent."""
    whole, model = TrainedModel.load(weights), TrainedModel.load(weights)
    ways = {
        "encode": lambda m: m.encode(faces),
        "reconstruct": lambda m: m.reconstruct(faces),
        "between": lambda m: m.interpolate(5, ends=faces[:2]),
        "walk": lambda m: m.interpolate(5),
    }
    expected = {name: way(whole) for name, way in ways.items()}
    monkeypatch.setattr("analysis.record.trained_model.at_once", lambda shape: 2)
    sizes = []
    for name in ("encode", "decode"):
        inner = getattr(model.network, name)
        monkeypatch.setattr(model.network, name, lambda x, f=inner: (sizes.append(len(x)), f(x))[1])
    for name, way in ways.items():
        torch.testing.assert_close(way(model), expected[name], atol=1e-4, rtol=1e-4)
    assert max(sizes) == 2


def test_on_a_gpu_each_request_is_answered(weights, faces, gpu):
    model, files = PyfuncModel(weights), png_base64(faces)
    assert model.model.network.device.type == "cuda"
    for request in ({"operation": "sample", "n": 2}, {"operation": "interpolate", "n": 3}):
        assert len(ask(model, **request)["images"]) == request["n"]
    assert len(ask(model, operation="interpolate", n=3, images=files[:2])["images"]) == 3
    assert len(ask(model, operation="reconstruct", images=files)["images"]) == len(files)
    assert len(ask(model, operation="encode", images=files)["latents"]) == len(files)


def test_an_interpolation_starts_and_ends_at_the_reconstructions(weights, faces):
    model = TrainedModel.load(weights)
    frames = model.interpolate(5, ends=faces[:2])
    torch.testing.assert_close(frames[[0, -1]], model.reconstruct(faces[:2]), atol=1e-4, rtol=0)
    with torch.no_grad():
        middle = model.network.decode(model.encode(faces[:2]).mean(0, keepdim=True))
    torch.testing.assert_close(frames[2:3], middle, atol=1e-4, rtol=0)


def test_an_interpolation_of_prior_draws_stays_on_their_shell(weights, monkeypatch):
    model, seen = TrainedModel.load(weights), []
    decode = model.network.decode
    monkeypatch.setattr(model.network, "decode", lambda z: (seen.append(z), decode(z))[1])
    assert model.interpolate(9, seed=4).shape == (9, 3, 16, 16)
    z = torch.randn(2, 5, generator=torch.Generator().manual_seed(4))
    torch.testing.assert_close(seen[0][[0, -1]], z)
    low, high = sorted(z.norm(dim=1).tolist())
    assert seen[0].norm(dim=1).min() > 0.9 * low and seen[0].norm(dim=1).max() < 1.1 * high


def test_an_interpolation_goes_between_draws_of_the_models_own_prior():
    settings = {"image_size": 16, "width": 0.25, "latent_dim": 5}
    network = ModernVAEGAN(ModernVAEGAN.configure(settings), seed=0).eval()
    codes = torch.randn(400, 5) @ torch.diag(torch.tensor([9.0, 2.0, 1.0, 0.5, 0.1])) + 3
    network.settle_prior(fit(codes, torch.full((400, 5), -9.0)))
    model = TrainedModel(network, {})
    ends = model.interpolate(7, seed=4)[[0, -1]]
    torch.testing.assert_close(ends, model.sample(2, seed=4), atol=1e-4, rtol=0)


def test_images_of_any_size_are_fitted(weights):
    file = io.BytesIO()
    Image.new("L", (40, 70), 255).save(file, "JPEG")
    x = TrainedModel.load(weights).read([base64.b64encode(file.getvalue()).decode()])
    assert x.shape == (1, 3, 16, 16)
    assert float(x.min()) > 0.98


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        ({"operation": "paint"}, "no operation 'paint'; there are: sample, reconstruct"),
        ({"operation": "sample", "n": 0}, "n is 0; it must be between 1 and 1024"),
        ({"operation": "encode"}, "0 images; between 1 and"),
        (
            {"operation": "interpolate", "images": ["a"]},
            "1 images; an interpolation goes",
        ),
        ({"operation": "encode", "images": ["bm8gaW1hZ2U="]}, "image 1 can't be read: not an image"),
        ({"operation": "encode", "images": ["bm8"]}, "image 1 is no base64 text"),
        ({"operation": "encode", "images": "bm8gaW1hZ2U="}, "images is no list of base64 texts"),
        ({"operation": "encode", "images": [7]}, "images is no list of base64 texts"),
        ({"operation": "encode", "images": []}, "0 images; between 1 and"),
        ({"operaton": "encode"}, "no column 'operaton'; there are: operation, n, seed, images"),
        ({"operation": None}, "The request is empty"),
        ({"operation": 3}, "no operation '3'"),
        ({"n": "many"}, "n is 'many'; it must be between 1 and 1024, a whole number"),
        ({"n": 2.5}, "n is 2.5"),
        ({"n": True}, "n is True"),
        ({"n": 10**15}, "n is 1000000000000000"),
        ({"seed": -1}, "seed is -1; it must be between 0"),
        ({"seed": 2.0**70}, "seed is"),
    ],
)
def test_a_request_that_cannot_be_answered_says_why(weights, request_, words):
    with pytest.raises(MlflowException, match=words) as error:
        ask(PyfuncModel(weights), **request_)
    assert error.value.get_http_status_code() == 400


def test_a_request_without_rows_is_refused(weights):
    with pytest.raises(MlflowException, match="no request; send rows with the columns operation, n"):
        PyfuncModel(weights).predict(pd.DataFrame())


def test_an_eps_is_no_image_whatever_it_is_called(weights):
    """Pillow would start Ghostscript on it."""
    eps = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 16 16\nshowpage\n"
    with pytest.raises(MlflowException, match="image 1 can't be read: not an image"):
        ask(PyfuncModel(weights), operation="encode", images=[base64.b64encode(eps).decode()])


def test_a_model_without_encoder_says_so(tmp_path):
    model = TrainedModel.load(save(small(GAN), tmp_path))
    assert model.sample(2).shape == (2, 3, 16, 16)
    with pytest.raises(ValueError, match="GAN has no encoder: it cannot reconstruct"):
        model.reconstruct(torch.zeros(1, 3, 16, 16))


def test_a_description_of_other_code_is_refused(weights, tmp_path):
    (tmp_path / "model.json").write_text(json.dumps({"model": "os:system", "config": {}}))
    with pytest.raises(ValueError, match="loading it runs the code of os"):
        TrainedModel.load(tmp_path)


def test_a_package_carries_its_code_and_names_what_else_it_needs(weights, tmp_path):
    """It is loaded where this project is not to be found."""
    save_pyfunc(weights, tmp_path / "pyfunc", {})
    script = (
        "import os, sys, importlib.abc\n"
        "class Hidden(importlib.abc.MetaPathFinder):\n"
        "    def find_spec(self, name, path, target=None):\n"
        "        if name in ('latentune', 'searchers', 'cluster'): raise ImportError(name)\n"
        "sys.meta_path.insert(0, Hidden())\n"
        "import mlflow, pandas as pd\n"
        "model = mlflow.pyfunc.load_model(sys.argv[1])\n"
        "(answer,) = model.predict(pd.DataFrame([{'operation': 'sample', 'n': 1}]))\n"
        "assert len(answer['images']) == 1\n"
        "import analysis, trainables\n"
        "print(analysis.__file__, trainables.__file__)\n"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "pyfunc")]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    used = done.stdout.split()[-2:]
    assert all(path.startswith(str(tmp_path / "pyfunc" / "code")) for path in used)
    needed = (tmp_path / "pyfunc" / "requirements.txt").read_text().split()
    assert f"torch=={metadata.version('torch')}" in needed


@pytest.fixture(scope="module")
def promoted(client, weights):
    """The winner of sweep "one", registered by the command."""
    tables = load(client, "one")
    run_id = tables.best_first().iloc[0]["run_id"]
    client.log_artifacts(run_id, str(weights), "model")
    before = client.get_run(run_id).info
    arguments = [
        "--sweep",
        "one",
        "--tracking-uri",
        client.tracking_uri,
        "--promote",
        "--model-name",
        "faces",
    ]
    assert winners.main(arguments) == 0
    assert winners.main(arguments) == 0
    after = client.get_run(run_id).info
    assert (before.status, before.end_time) == (after.status, after.end_time)
    return client.get_model_version_by_alias("faces", "champion")


def test_the_champion_is_the_latest_promoted_and_says_where_it_is_from(client, promoted):
    best = load(client, "one").best_first().iloc[0]
    assert str(promoted.version) == "2" and promoted.run_id == best["run_id"]
    assert promoted.tags["trial"] == str(best["number"])
    assert float(promoted.tags["value"]) == best[f"metrics.{METRIC}"]
    assert promoted.tags["extractor"].startswith("efficientnet_lite0-")


def test_the_champion_loads_in_a_clean_process(tracking_uri, network, promoted, tmp_path):
    snippet = "\n".join(line.strip() for line in how_to_use(tracking_uri, "faces").splitlines()[1:5])
    script = (
        "import json, sys, pandas as pd\n"
        f"{snippet}\n"
        "rows = [{'operation': 'sample', 'n': 2, 'seed': 5}]\n"
        "images = model.predict(pd.DataFrame(rows))[0]['images']\n"
        "rows += [{'operation': name, 'images': images} for name in ('encode', 'interpolate')]\n"
        "print(json.dumps(model.predict(pd.DataFrame(rows))))\n"
        "assert 'ray' not in sys.modules and 'searchers' not in sys.modules\n"
    )
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    answer, encoded, between = json.loads(done.stdout.splitlines()[-1])
    assert np.shape(encoded["latents"]) == (2, 5) and len(between["images"]) == 16
    images = network.sample(2, torch.Generator().manual_seed(5))
    np.testing.assert_allclose([pixels(file) for file in answer["images"]], expected(images), atol=1)


@pytest.mark.slow
def test_the_champion_is_served_over_http(tracking_uri, network, promoted, free_port):
    command = ["mlflow", "models", "serve", "-m", "models:/faces@champion"]
    command += ["--env-manager", "local", "--port", str(free_port)]
    path = f"{os.path.dirname(sys.executable)}:{os.environ['PATH']}"
    environment = os.environ | {"PATH": path, "MLFLOW_TRACKING_URI": tracking_uri}
    environment.pop("PYTHONPATH", None)
    with started(command, f"http://127.0.0.1:{free_port}/ping", environment) as url:
        url = url.replace("ping", "invocations")
        rows = {"dataframe_records": [{"operation": "sample", "n": 2, "seed": 5}]}
        (answer,) = requests.post(url, json=rows, timeout=60).json()["predictions"]
        images = network.sample(2, torch.Generator().manual_seed(5))
        np.testing.assert_allclose([pixels(file) for file in answer["images"]], expected(images), atol=1)
        between = {"dataframe_records": [{"operation": "interpolate", "images": answer["images"], "n": 3}]}
        assert len(requests.post(url, json=between, timeout=60).json()["predictions"][0]["images"]) == 3
        refused = requests.post(url, json={"dataframe_records": [{"operation": "paint"}]}, timeout=60)
        assert refused.status_code == 400 and "no operation 'paint'" in refused.text


def test_promotion_is_offered_where_there_are_weights(client, promoted, capsys):
    sweep = promoted.tags["sweep"]
    assert winners.main(["--sweep", sweep, "--tracking-uri", client.tracking_uri]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert f"--promote registers trial {promoted.tags['trial']} as a model" in said


def test_a_winner_without_weights_is_not_promoted(client, capsys):
    assert winners.main(["--sweep", "three", "--tracking-uri", client.tracking_uri]) == 0
    assert "--promote" not in capsys.readouterr().out
    assert winners.main(["--sweep", "three", "--tracking-uri", client.tracking_uri, "--promote"]) == 2
    words = capsys.readouterr().err
    assert "The record has no weights of trial" in words and "it keeps none of this sweep" in words
    registered = {m.name for m in MlflowClient(client.tracking_uri).search_registered_models()}
    assert load(client, "three").sweep.experiment not in registered


OWN_FLOW = """
from dataclasses import dataclass

import torch
import neighbor_of_mine
import yaml
from scipy.special import expit

from trainables.models.base import GenerativeModel


@dataclass(frozen=True)
class Config:
    image_size: int = 16


class Mine(GenerativeModel):
    Config = Config
    build = neighbor_of_mine.build

    def sample(self, n, generator=None):
        return self.net(torch.randn(n, 4, generator=generator)).view(n, 3, 16, 16).tanh()
"""


def test_a_package_of_an_own_model_has_its_neighbors_and_what_they_import(tmp_path, monkeypatch):
    (tmp_path / "mine_alone.py").write_text(OWN_FLOW)
    build = "def build(self):\n    import networkx\n    self.net = nn.Linear(4, 768)\n"
    (tmp_path / "neighbor_of_mine.py").write_text(f"from torch import nn\n\n\n{build}")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    monkeypatch.setattr("trainables.models.storage._trusted", {"trainables", "mine_alone"})
    weights = tmp_path / "weights"
    weights.mkdir()
    (weights / "model.json").write_text(json.dumps({"model": "mine_alone:Mine", "config": {}}))
    save_pyfunc(weights, tmp_path / "pyfunc", {})
    carried = {path.name for path in (tmp_path / "pyfunc" / "code").iterdir()}
    assert {"mine_alone.py", "neighbor_of_mine.py", "trainables", "analysis"} <= carried
    needed = (tmp_path / "pyfunc" / "requirements.txt").read_text().split()
    for package in ("pyyaml", "networkx", "scikit-learn", "torch"):
        assert f"{package}=={metadata.version(package)}" in needed
    assert not any(line.startswith("latentune") for line in needed)
