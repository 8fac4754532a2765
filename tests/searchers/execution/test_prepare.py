"""What must be there before the first trial: that it will take long is said once, early."""

import io

import pytest
from rich.console import Console

from searchers.execution.prepare import expecting, prepare
from searchers.execution.resume import store
from searchers.study.config import SweepConfig
from tests.fixtures.files import encoded, picture, write
from trainables.data.store import DataError
from trainables.metrics.errors import MetricError


@pytest.mark.parametrize(
    ("extractor", "seconds", "said"),
    [
        ("inception", 1.0, ""),
        (
            "inception",
            64.0,
            "by inception takes about 2.8 h on this machine, once, before the first trial; --fea",
        ),
        (
            "efficientnet_lite0",
            64.0,
            "by efficientnet_lite0 takes about 2.8 h on this machine, once, before the",
        ),
    ],
)
def test_hours_of_measuring_are_told_after_the_first_images(extractor, seconds, said):
    console, now = Console(file=io.StringIO(), width=200), 0.0
    measured = expecting(160_000, extractor, console, clock=lambda: now)
    for _ in range(3):
        now += seconds
        measured(1024)
    printed = console.file.getvalue()
    assert said in printed and printed.count("\n") == bool(said)
    assert ("--features efficientnet_lite0, another score" in printed) == (said.endswith("--fea"))


@pytest.fixture
def prepared(tmp_path, monkeypatch):
    """What is prepared of so many images, by settings beside a sweep's usual ones."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    def prepared(images, **settings):
        settings = {"features": "random"} | settings
        files = {f"{number}.png": encoded(picture(number)) for number in range(images)}
        config = SweepConfig(
            dataset=str(write(tmp_path / "set", files)),
            image_size=16,
            results=str(tmp_path),
            **settings,
        )
        return prepare(config, Console(file=io.StringIO()))

    return prepared


def test_too_few_images_are_told_as_what_they_are(prepared):
    """No batch size, which begins at two, helps three images."""
    with pytest.raises(DataError, match="fewer than two are in the split train"):
        prepared(3, batch_size=2)
    with pytest.raises(DataError, match="choose a batch size of 2 or less"):
        prepared(5)
    assert prepared(5, batch_size=2).provenance["training_images"] == 2


def test_a_resumed_sweep_takes_the_images_that_it_began_with(prepared, tmp_path):
    began = prepared(30, batch_size=2).provenance["data_hash"]
    store(tmp_path / "one", "x", "id", SweepConfig(), began)
    assert prepared(31, batch_size=2).provenance["data_hash"] != began
    found = prepared(32, batch_size=2, name="one", resume="one")
    assert found.provenance["data_hash"] == began == found.settings["data_hash"]


def test_features_that_never_vary_are_refused(prepared, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "still.py").write_text("import torch\ndef one(x):\n    return torch.full((len(x), 4), 0.3)\n")
    with pytest.raises(MetricError, match="training images have the same features by still:one: no score by"):
        prepared(40, features="still:one", batch_size=4)
