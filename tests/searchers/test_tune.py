"""A model that this project has not got, tuned from the command line."""

import hashlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import ray
from mlflow import MlflowClient
from ray import tune

from searchers.bayesopt.space import SpaceError
from searchers.execution.prepare import Prepared
from searchers.record.ledger import Ledger
from searchers.study.config import UsageError
from searchers.study.study import Study
from searchers.tune import complete, main, ranges_of, sweep, trainable_of
from tests.fixtures.waits import PATIENCE

ROOT = Path(__file__).resolve().parents[2]
# The easy case: a loss, and how to draw. Its settings are its own; it has no width and no image_size.
FLOW = '''
from dataclasses import dataclass

import torch
from torch import nn

from trainables.models.base import GenerativeModel


@dataclass(frozen=True)
class FlowConfig:
    learning_rate: float = 1e-3
    hidden: int = 64
    steps: int = 4


class Flow(GenerativeModel):
    """Rectified flow (Liu et al. 2023): the network is the velocity from noise to images."""

    Config = FlowConfig

    def build(self):
        size = 3 * 16 * 16
        self.velocity = nn.Sequential(nn.Linear(size + 1, self.config.hidden), nn.SiLU(),
                                      nn.Linear(self.config.hidden, size))

    def speed(self, x, t):
        return self.velocity(torch.cat([x.flatten(1), t[:, None]], 1)).view_as(x)

    def loss(self, x):
        noise = torch.randn(x.shape, generator=self.generator)
        t = torch.rand(len(x), generator=self.generator)
        at = t[:, None, None, None]
        return (self.speed((1 - at) * noise + at * x, t) - (x - noise)).square().mean()

    @torch.no_grad()
    def sample(self, n, generator=None):
        x = torch.randn(n, 3, 16, 16, generator=generator or self.generator)
        for step in range(self.config.steps):
            x = x + self.speed(x, torch.full((n,), step / self.config.steps)) / self.config.steps
        return x.clamp(-1, 1)


def embed(x):
    return torch.nn.functional.adaptive_avg_pool2d(x, 4).flatten(1)


def sharpness(model, samples):
    x = samples.float() / 255
    return {"sharpness": (x[:, 1:] - x[:, :-1]).abs().mean(), "pixels": samples[0].numel()}


def wrong_scores(model, samples):
    return [1.0]


def too_large(x):
    return x[:, :, :24, :24].flatten(1).view(-1, 3 * 24 * 24)


@dataclass(frozen=True)
class OwnScheduleConfig(FlowConfig):
    schedule: str = "squared"
    ema: float = 0.999


class OwnSchedule(Flow):
    Config = OwnScheduleConfig

    def build(self):
        super().build()
        assert self.config.schedule == "squared" and self.config.ema == 0.999


@dataclass(frozen=True)
class TakenConfig(FlowConfig):
    batch_size: int = 4


class Taken(Flow):
    Config = TakenConfig


class Misspelt(Flow):
    def sample(self, n, generator=None):
        return self.velocty(n)


class ManyLosses(Flow):
    def loss(self, x):
        return (x - 0.5).square().flatten(1).mean(1)


class NoSample(GenerativeModel):
    Config = FlowConfig
    build = Flow.build
    loss = Flow.loss


@dataclass(frozen=True)
class CodesConfig:
    learning_rate: float = 1e-3
    latent_dim: int = 2


class OneCode(GenerativeModel):
    """An autoencoder that gives no variance."""

    Config = CodesConfig
    has_encoder = True

    def build(self):
        pixels, units = 3 * 16 * 16, self.config.latent_dim
        self.encoder, self.decoder = nn.Linear(pixels, 2 * units), nn.Linear(units, pixels)

    def encode(self, x):
        return self.encoder(x.flatten(1))

    def decode(self, z):
        return self.decoder(z).view(-1, 3, 16, 16).tanh()

    def loss(self, x):
        return self.encode(x).square().mean()


class OtherShape(Flow):
    def sample(self, n, generator=None):
        return super().sample(n, generator)[:, :, :8]


def done(model, samples):
    return {"done": 1.0}


class Nothing(GenerativeModel):
    Config = FlowConfig
    build = Flow.build


class OneOptimizer(Flow):
    def build_optimizers(self):
        return torch.optim.Adam(self.parameters())


class Closure(Flow):
    def build_optimizers(self):
        return {"all": torch.optim.LBFGS(self.parameters())}


class Generator(Flow):
    def build(self):
        super().build()
        self.generator = nn.Linear(1, 1)


class NoConfig(Flow):
    Config = None


class Viewed(Flow):
    def loss(self, x):
        return super().loss(x) + x.view(len(x), -1).mean()


class NoOptions(Flow):
    def __init__(self, config):
        super().__init__(config)


class Tired(Flow):
    def loss(self, x):
        if self.progress:
            raise ZeroDivisionError("tired")
        return super().loss(x)


class Unpacks(Flow):
    def loss(self, x):
        mean, log_variance = x.mean((2, 3)).T
        return mean.sum()


class Leaves(Flow):
    def build(self):
        raise SystemExit(3)


@dataclass(frozen=True)
class WholeConfig(FlowConfig):
    width: int = 64


class Whole(Flow):
    Config = WholeConfig
'''
TINY = (
    "--dataset-limit 60 --image-size 16 --batch-size 16 --evaluation-samples 20 --features random --epochs 2"
)
SPACE = ["--space", "learning_rate=loguniform(1e-4,1e-2)", "hidden=choice(16,32)"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A person's working folder, with a model in it."""
    path = tmp_path_factory.mktemp("own")
    (path / "mine.py").write_text(FLOW)
    return path


def run(folder, *arguments, module="searchers.tune"):
    own = {
        "XDG_CACHE_HOME": str(folder / "cache"),
        "OMP_NUM_THREADS": "1",
        "COLUMNS": "200",
    }
    return subprocess.run(
        [sys.executable, "-m", module, *arguments],
        cwd=folder,
        env=os.environ | own,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )


@pytest.fixture(scope="module")
def tuned(folder):
    """The folder, with a sweep of the model."""
    flags = [*TINY.split(), *SPACE, "--set", "steps=2", "--num-samples", "3", "--evaluate-every", "1"]
    done = run(folder, "mine:Flow", *flags, "--name", "flow")
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_it_is_tuned_over_its_own_settings_and_recorded(tuned):
    folder = tuned
    records = Ledger(folder / "results/flow/ledger.jsonl").trials()
    assert len(records) >= 3
    for record in records.values():
        assert record.config["hidden"] in (16, 32) and 1e-4 <= record.config["learning_rate"] <= 1e-2
        assert record.config["steps"] == 2
        assert record.metrics[1]["loss/loss"] > 0 and record.metrics[1]["fd_random"] > 0
    client = MlflowClient(f"sqlite:///{folder}/mlflow.db")
    assert "tune-Flow" in {e.name for e in client.search_experiments()}
    assert json.loads((folder / "results/flow/sweep.json").read_text())["config"]["model"] == "mine:Flow"
    resumed = run(folder, "--resume", "flow")
    assert resumed.returncode == 0, resumed.stdout + resumed.stderr
    assert "hidden = " in resumed.stdout and "Best: trial" in resumed.stdout
    assert set(Ledger(folder / "results/flow/ledger.jsonl").trials()) == set(records)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "Name the model as MODULE:CLASS, such as mymodule:Flow"),
        (["mine"], "Name the model as MODULE:CLASS"),
        (["nowhere:Flow"], "nowhere can't be imported from"),
        (["mine:Flo"], "mine has no model Flo (did you mean Flow?); there are: Flow, OwnSchedule"),
        (["mine:nn"], "mine has no model nn; there are: "),
        (["broken:Flow"], "importing broken raised ZeroDivisionError: division by zero"),
        (["exits:Flow"], "importing exits raised SystemExit: 2"),
        (["mine:Leaves", *SPACE], "can't be built: Leaves.build: SystemExit: 3"),
        (["mine:Unpacks", *SPACE], "searchers.tune: Unpacks.loss: too many values to unpack"),
        (["mine:Flow"], "Say what is searched, such as --space"),
        (
            ["mine:Flow", "--space", "hiden=choice(1,2)"],
            "'hiden' is no setting of Flow (did you mean hidden",
        ),
        (["mine:Flow", "--set", "hidden=4"], "Say what is searched"),
        (["mine:Flow", "--points", "points.json"], "of which --points lists places"),
        (["mine:NoConfig", *SPACE], "NoConfig.Config must be a frozen dataclass of its hyperparameters"),
        (
            ["mine:OneOptimizer", *SPACE],
            "build_optimizers returns Adam; it must return a dictionary",
        ),
        (
            ["mine:Closure", *SPACE],
            "Closure's optimizer 'all' is a LBFGS; it must be one of torch",
        ),
        (["mine:Taken", *SPACE], "Taken.Config has a field batch_size, which is a setting of every training"),
        (["mine:ManyLosses", *SPACE], "ManyLosses.loss returned (4,); it must be one number"),
        (["mine:NoSample", *SPACE], "NoSample defines neither sample(n, generator) nor decode"),
        (["mine:Misspelt", *SPACE], "AttributeError: 'Misspelt' object has no attribute 'velocty'"),
        (
            ["mine:OneCode", "--space", "latent_dim=choice(2,3)"],
            "OneCode.encode, decode or elbo: too many values",
        ),
        (["mine:OtherShape", *SPACE], "OtherShape.sample(2) returned (2, 3, 8, 16)"),
        (["mine:Flow", *SPACE, "--set", "schedule=cosin"], "schedule is 'cosin'; choose constant, cosine"),
        (["mine:Flow", *SPACE, "--set", "accumulate=12"], "accumulate is 12: a part of a batch has two"),
        (
            ["mine:Flow", *SPACE, "--set", "scores=mine:done"],
            "mine:done returns done, named like what a trial reports",
        ),
        (
            ["mine:Flow", *SPACE, "--metric", "kid_rando"],
            "no trial reports kid_rando (did you mean kid_random",
        ),
        (["mine:Flow", *SPACE, "--metric", "elbo"], "no trial reports elbo; it reports "),
        (["mine:Flow", *SPACE, "--mode", "max"], "fd_random is the better the lower it is: its mode is min"),
        (["mine:Flow", *SPACE, "--width", "2"], "width is 2, and Flow has no such setting: leave it out"),
        (["mine:Flow", *SPACE, "--objectives", "fd_random=min"], "both the metric and a further objective"),
        (["mine:Viewed", *SPACE], "view size is not compatible"),
        (["mine:NoOptions", *SPACE], "__init__() got an unexpected keyword argument 'device'"),
        (["mine:Tired", *SPACE], "The first trial fails: ZeroDivisionError: tired"),
        (["mine:Whole", *SPACE, "--width", "1.5"], "width is 1.5; it must be a whole number"),
        (["mine:Generator", *SPACE], "Generator.generator is the model's source of random numbers"),
    ],
)
def test_a_wrong_model_gets_a_sentence(folder, arguments, sentence, monkeypatch, capsys):
    (folder / "broken.py").write_text("1 / 0")
    (folder / "exits.py").write_text("import argparse; argparse.ArgumentParser().parse_args(['--no'])")
    (folder / "points.json").write_text('[{"learning_rate": 0.001}]')
    monkeypatch.chdir(folder)
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
    monkeypatch.setattr(sys, "path", [str(folder), *sys.path])
    assert main([*arguments, *TINY.split(), "--dry-run"]) == 2
    ray.shutdown()  # a plan asks what machines there are before it measures
    error = capsys.readouterr().err
    assert sentence in error and "Traceback" not in error


@pytest.mark.slow  # promotion itself is tested in analysis/judgement
def test_what_it_draws_is_judged_and_promoted_once_its_module_is_trusted(tuned):
    """A record names the code that loads its weights; none is run unasked. The package brings it along."""
    folder = tuned
    winners = ("--sweep", "flow", "--repeats", "2")
    done = run(folder, *winners, module="analysis.winners")
    assert done.returncode == 2 and "mine:Flow" in done.stderr and "--trust mine" in done.stderr
    done = run(folder, *winners, "--trust", "yours", module="analysis.winners")
    assert done.returncode == 2 and "no module of this name" in done.stderr
    promote = ("--promote", "--anyway", "--model-name", "flows", "--trust", "mine")
    done = run(folder, *winners, *promote, module="analysis.winners")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Evaluated 2 times" in done.stdout and "alias champion" in done.stdout
    elsewhere = folder / "elsewhere"
    elsewhere.mkdir()
    load = (
        "import mlflow, pandas; mlflow.set_tracking_uri('sqlite:///../mlflow.db'); "
        "model = mlflow.pyfunc.load_model('models:/flows@champion'); "
        "print(len(model.predict(pandas.DataFrame([{'operation': 'sample', 'n': 3}]))[0]['images']))"
    )
    path = os.environ | {"PYTHONPATH": str(ROOT)}
    called = [sys.executable, "-c", load]
    loaded = subprocess.run(called, cwd=elsewhere, env=path, capture_output=True, text=True, timeout=PATIENCE)
    assert loaded.stdout.strip() == "3", loaded.stderr


@pytest.mark.slow
def test_its_best_settings_are_trained_again_on_other_seeds(tuned):
    folder = tuned
    arguments = ("--sweep", "flow", "--retrain-seeds", "2", "--contenders", "1", "--trust", "mine")
    done = run(folder, *arguments, module="analysis.winners")
    assert done.returncode == 0, done.stdout + done.stderr
    again = Ledger(folder / "results/flow-seeds/ledger.jsonl").trials()
    assert {record.config["seed"] for record in again.values()} == {1000, 1001}


def test_its_own_extractor_and_scores_are_searched_by_and_judged(folder):
    own = ["--set", "scores=mine:sharpness", "--metric", "sharpness", "--mode", "max", "--epochs", "1"]
    own += ["--objectives", "fd_embed=min"]
    flags = [*TINY.replace("--features random --epochs 2", "--features mine:embed").split(), *own]
    done = run(folder, "mine:Flow", *flags, *SPACE, "--num-samples", "2", "--name", "own")
    assert done.returncode == 0, done.stdout + done.stderr
    records = Ledger(folder / "results/own/ledger.jsonl").trials().values()
    for record in records:
        metrics = record.metrics[1]
        assert 0 < metrics["sharpness"] < 1 and metrics["pixels"] == 3 * 16 * 16 and metrics["fd_embed"] > 0
        assert record.config["scores_hash"] == hashlib.sha256((folder / "mine.py").read_bytes()).hexdigest()
    best = max(records, key=lambda record: record.metrics[1]["sharpness"])
    assert f"Best: trial {best.number}," in done.stdout
    assert "Pareto front of sharpness and fd_embed:" in done.stdout
    client = MlflowClient(f"sqlite:///{folder}/mlflow.db")
    runs = client.search_runs([e.experiment_id for e in client.search_experiments()])
    assert any("scores_hash" in found.data.params for found in runs)
    judged = ("--sweep", "own", "--repeats", "2", "--trust", "mine")
    done = run(folder, *judged, module="analysis.winners")
    assert "sharpness is no score of generated images" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--features", "mine:embde"], r"mine has no embde \(did you mean embed\?\)"),
        (["--features", "mine:Flow"], "no network and no function of images"),
        (["--features", "theirs:embed"], "theirs can't be imported"),
        (["--inception-weights", "mine.py"], "random takes no file of weights; inception and dinov2 do"),
        (
            ["--features", "mine:embed", "--inception-weights", "mine.py"],
            "mine:embed takes no file of weights",
        ),
        (["--features", "none", "--inception-weights", "mine.py"], "none takes no file of weights"),
        (["--features", "mine:too_large"], r"does not take images of 16×16 pixels: RuntimeError"),
        (["--set", "scores=mine:sharp"], r"mine has no sharp \(did you mean sharpness"),
        (["--set", "scores=mine:wrong_scores"], "mine:wrong_scores returns list; it must return numbers"),
        (["--set", "scores=mine:embed"], "mine:embed raised TypeError on 20 samples"),
    ],
)
def test_a_wrong_extractor_or_score_gets_a_sentence(folder, arguments, sentence, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
    monkeypatch.setattr(sys, "path", [str(folder), *sys.path])
    flags = [*TINY.split(), *SPACE]
    assert main(["mine:Flow", *flags, *arguments, "--name", "wrong"]) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert re.search(sentence, said), said
    assert not (folder / "results/wrong").exists()


@pytest.mark.parametrize("word", ["sharpness", "=max", "fd=least", "score=max"])
def test_a_wrong_objective_gets_a_sentence(word, capsys):
    with pytest.raises(SystemExit) as raised:
        main(["mine:Flow", "--metric", "score", "--objectives", word])
    assert raised.value.code == 2
    assert f"--objectives {word}: it must be NAME=min" in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize(("width", "passed"), [(1.0, {}), (32.0, {"width": 32})])
def test_a_whole_width_is_the_models_own_unless_it_is_given(folder, width, passed, monkeypatch):
    monkeypatch.setattr(sys, "path", [str(folder), *sys.path])
    prepared = Prepared({"width": width}, "fd_random", {})
    study = complete(Study(trainable=trainable_of("mine:Whole"), space={}), prepared)
    assert study.settings == passed and all(type(value) is int for value in study.settings.values())


def test_what_trials_would_differ_by_is_not_searched(folder, monkeypatch):
    monkeypatch.setattr(sys, "path", [str(folder), *sys.path])
    study = Study(trainable=trainable_of("mine:Flow"), space={"epoch_steps": tune.choice([100, 400])})
    with pytest.raises(UsageError, match="The study searches epoch_steps: all trials of a sweep share it"):
        complete(study, Prepared({}, "fd_random", {}))


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("epochs", r"The study names epochs, which all trials share: sweep\(epochs=…\) sets it"),
        ("data_hash", "The study names data_hash, which all trials share: leave it out"),
        ("disentanglement", None),
    ],
)
def test_what_all_trials_share_is_set_where_it_can_be(folder, name, sentence, monkeypatch):
    monkeypatch.setattr(sys, "path", [str(folder), *sys.path])
    study = Study(trainable=trainable_of("mine:Flow"), space={}, settings={name: True})
    if sentence is None:
        assert complete(study, Prepared({}, "fd_random", {})).settings[name] is True
    else:
        with pytest.raises(UsageError, match=sentence):
            complete(study, Prepared({}, "fd_random", {}))


def test_a_model_s_own_settings_are_its_own(folder):
    """`schedule` and `ema` are settings of every training, unless the model has its own of the name."""
    own = ["mine:OwnSchedule", *SPACE, *TINY.split(), "--dry-run"]
    done = run(folder, *own)
    assert done.returncode == 0, done.stdout + done.stderr
    done = run(folder, *own, "--set", "schedule=linear")
    assert done.returncode == 2 and "AssertionError" in done.stderr  # the model's own, which it has reached


FROM_PYTHON = """
import signal
from pathlib import Path

import numpy as np
from ray import tune

from mine import Flow
from searchers import Study, sweep
from searchers.study.config import UsageError

handlers = {sign: signal.getsignal(sign) for sign in signal.valid_signals()}
study = Study(trainable=Flow, space={"learning_rate": tune.loguniform(1e-4, 1e-2), "hidden": 16})
tiny = dict(dataset_limit=60, image_size=16, batch_size=16, evaluation_samples=20, features="random")
tiny |= dict(epochs=2, evaluate_every=1, grace_epochs=2, num_samples=2)
first = sweep(study, name="first", **tiny)
pixels = np.random.default_rng(0).integers(0, 256, (60, 16, 16, 3), np.uint8)
second = sweep(study, dataset=pixels, name="second", seed=1, **tiny)
assert {sign: signal.getsignal(sign) for sign in signal.valid_signals()} == handlers
for outcome, name in ((first, "first"), (second, "second")):
    assert outcome.folder.name == name and outcome.exit_code == 0
    frame = outcome.frame
    assert list(frame.columns[:5]) == ["number", "trial", "status", "epoch", "learning_rate"]
    assert len(frame) == 2 and (frame.status == "finished").all() and (frame.epoch == 2).all()
    assert outcome.best.last("fd_random") == frame.fd_random.min()
    assert outcome.best.config["hidden"] == 16
again = sweep(study, resume="first")
assert again.frame.equals(first.frame)
other = Study(trainable=Flow, space=study.space | {"hidden": 32})
try:
    sweep(other, resume="first")
except UsageError as error:
    print("REFUSED", error)
try:
    sweep(Study(trainable=Flow, space=study.space, settings={"image_size": 32}), name="shared", **tiny)
except UsageError as error:
    print("REFUSED", error)
assert not Path("results/shared").exists()  # the name is free
for wrong in (dict(epoch=3), dict(metric="x"), dict(name="first"), dict(dataset="nowhere")):
    try:
        sweep(study, **wrong)
    except ValueError as error:
        print("REFUSED", error)
"""


RATE = {"learning_rate": tune.loguniform(1e-4, 1e-2)}


@pytest.mark.parametrize(
    ("study", "settings", "sentence"),
    [
        ({}, {"searcher": "tpe"}, "--searcher is 'tpe'; it must be one of ours, "),
        ({}, {"dataset_limit": 60.5}, "--dataset-limit is 60.5; it must be a whole number"),
        ({}, {"points": [{"learning_rate": 1e-3}]}, "it must be a word"),
        ({}, {"early_stopping": "no"}, "--early-stopping is 'no'; it must be True or False"),
        ({"space": {}}, {"space": "hidden=choice(1,2)"}, "it must be a list"),
        ({"space": {}, "points": (RATE,)}, {}, "say what is searched, of which the points are places"),
        ({"space": {"a": RATE}}, {}, "The study's space has a dictionary, a: a model's"),
        ({"space": {"hidden": 3}}, {}, "no dimension to search"),
    ],
)
def test_what_python_can_not_ask_for_gets_a_sentence(folder, study, settings, sentence, monkeypatch):
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "path", [str(folder), *sys.path])
    asked = Study(**{"trainable": trainable_of("mine:Flow"), "space": RATE} | study)
    with pytest.raises((UsageError, SpaceError), match=re.escape(sentence)):
        sweep(asked, name="wrong", **settings)
    assert not (folder / "results/wrong").exists()


@pytest.mark.parametrize("wrong", [{"mode": "maximize"}, {"objectives": {"kid": "least"}}])
def test_a_mode_is_least_or_greatest(wrong):
    with pytest.raises(UsageError, match="it must be min or max"):
        Study(trainable=None, **wrong)


def test_constants_of_a_space_are_settings():
    study = ranges_of(Study(trainable=None, space=RATE | {"hidden": 3, "a": [1]}, settings={"b": 2}))
    assert study.space == RATE and study.settings == {"b": 2, "hidden": 3, "a": [1]}


def test_a_studys_points_are_places_in_its_space(folder, monkeypatch):
    monkeypatch.setattr(sys, "path", [str(folder), *sys.path])
    study = Study(trainable=trainable_of("mine:Flow"), space=RATE, points=({"learning_rate": 1.0},))
    with pytest.raises(UsageError, match="entry 1 of the study's points: learning_rate = 1"):
        complete(study, Prepared({"seed": 0}, "fd_random", {}))


def test_from_python_it_works_twice_and_leaves_the_process_as_it_was(folder):
    own = {"XDG_CACHE_HOME": str(folder / "cache"), "OMP_NUM_THREADS": "1", "COLUMNS": "200"}
    done = subprocess.run(
        [sys.executable, "-c", FROM_PYTHON],
        cwd=folder,
        env=os.environ | own,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    refused = [line for line in done.stdout.splitlines() if line.startswith("REFUSED")]
    assert "of another study: its settings was {'hidden': 16}" in refused.pop(0)
    assert "The study names image_size, which all trials share" in refused.pop(0)
    assert "epoch (did you mean epochs?)" in refused[0]
    assert "sweep has no setting metric; the study has it" in refused[1]
    assert "--resume first" in refused[2]
    assert "nowhere" in refused[3]
    runs = MlflowClient(f"sqlite:///{folder}/mlflow.db")
    (experiment,) = [e for e in runs.search_experiments() if e.name == "tune-Flow"]
    tags = [run.data.tags for run in runs.search_runs([experiment.experiment_id])]
    assert "sweep(study)" in {found.get("latentune.program") for found in tags}
