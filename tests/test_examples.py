"""The documentation's own models: short, trained, scored, restored bit-equal, and drawn from again."""

import ast
import importlib
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from searchers.tune import trainable_for
from tests.fixtures.settings import SMALL_FACES
from tests.test_site import python_of
from trainables.models.base import GenerativeModel
from trainables.models.storage import load_model, trust
from trainables.tune.export import export_model

DOCS = Path(__file__).resolve().parents[1] / "docs"
EXAMPLES = {"tiny": (), "flow": (), "adversarial": (), "ddpm": ("diffusers",), "pythae_wae": ("pythae",)}
SHORT = 40  # lines beside the network


@pytest.fixture(params=EXAMPLES)
def model(request, monkeypatch):
    """The model's class of each example."""
    for package in EXAMPLES[request.param]:
        pytest.importorskip(package, exc_type=ImportError)
    monkeypatch.syspath_prepend(str(DOCS / "examples"))
    module = importlib.import_module(request.param)
    (found,) = [
        v
        for v in vars(module).values()
        if isinstance(v, type) and issubclass(v, GenerativeModel) and v.__module__ == request.param
    ]
    yield found
    sys.modules.pop(request.param)


def test_it_trains_scores_and_goes_on_bit_equal(model, tmp_path):
    trainable = trainable_for(model)
    settings = {k: v for k, v in SMALL_FACES.items() if k not in ("width", "latent_dim")}
    settings |= {"epochs": 2, "image_size": 32, "cache_dir": str(tmp_path)}
    whole = trainable(settings)
    first = whole.train()
    assert first["fd_random"] > 0 and not first["diverged"]
    checkpoint = tmp_path / "checkpoint"
    checkpoint.mkdir()
    whole.save_checkpoint(str(checkpoint))
    second = whole.train()
    again = trainable(settings)
    torch.manual_seed(99)
    again.load_checkpoint(str(checkpoint))
    repeated = again.train()
    assert repeated["fd_random"] == second["fd_random"]
    assert repeated["loss/loss"] == second["loss/loss"]
    export_model(trainable, settings, checkpoint, tmp_path / "model")
    with pytest.raises(ValueError, match=rf"--trust {model.__module__} allows it"):
        load_model(tmp_path / "model")
    trust(model.__module__)
    assert load_model(tmp_path / "model").sample(3).shape == (3, 3, 32, 32)


@pytest.mark.parametrize("name", EXAMPLES)
def test_it_is_as_short_as_the_page_says(name):
    """Beside the network: without blank lines, docstring and the classes of networks."""
    source = (DOCS / "examples" / f"{name}.py").read_text()
    tree = ast.parse(source)
    lines = source.splitlines()
    counted = set(range(len(lines)))
    for node in tree.body:
        is_network = isinstance(node, ast.ClassDef) and any(ast.unparse(b) == "nn.Module" for b in node.bases)
        is_text = isinstance(node, ast.Expr)
        if is_network or is_text:
            counted -= set(range(node.lineno - 1, node.end_lineno))
    beside = sum(1 for n in counted if lines[n].strip())
    page = (DOCS / "own_model.md").read_text()
    (said,) = re.findall(rf"\[{name}\.py\].*\| (\d+) lines", page)
    assert beside == int(said) <= SHORT


SMALLER = {
    r"dataset_limit\b(\D+)\d+": r"dataset_limit\g<1>80",
    r"epochs=\d+": "epochs=2",
    r"num_samples=\d+": "num_samples=2",
    r"dataset_limit=80": "dataset_limit=80, evaluation_samples=20",
}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("page", "word", "said"),
    [
        ("howto/own_sweep.md", "trainable=BetaVAEGAN", r"'beta': [\d.]+.*\} .*/results/python"),
        ("howto/own_sweep.md", "tune.Tuner", r"[\d.]+"),
        ("own_model.md", "trainable=Flow", r"'steps': [12]0.*\} .*/results/flow"),
    ],
)
def test_the_scripts_of_the_pages_run(page, word, said, tmp_path):
    """As they stand there, but for fewer images, epochs and trials."""
    script = python_of(f"docs/{page}", word)
    for long, short in SMALLER.items():
        script = re.sub(long, short, script)
    path = os.pathsep.join(map(str, (DOCS.parent, DOCS / "examples")))
    environment = {k: v for k, v in os.environ.items() if k != "RAY_ADDRESS"} | {"PYTHONPATH": path}
    command = [sys.executable, "-c", script]
    run = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=600)
    assert run.returncode == 0, run.stderr
    assert re.search(rf"{said}$", run.stdout, flags=re.MULTILINE), run.stdout
