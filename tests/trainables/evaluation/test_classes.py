"""Models of images given their class: what they are given, how they are scored, saved and restored."""

from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from tests.fixtures.settings import SMALL_FACES
from trainables.data.store import DataError
from trainables.evaluation.classes import class_samples, class_scores, class_shares, with_classes
from trainables.models.conditional import UNKNOWN, ConditionalModel
from trainables.models.storage import load_model, trust
from trainables.tune.export import export_model
from trainables.tune.trainable import GenerativeTrainable

DIGITS = {key: value for key, value in SMALL_FACES.items() if key not in ("width", "latent_dim")}
DIGITS |= {"dataset": "digits", "image_size": 8, "channels": 1, "dataset_limit": None, "images": True}
DIGITS |= {"evaluation_samples": 300, "batch_size": 50, "learning_rate": 0.05, "epochs": 8}


class Means(ConditionalModel):
    """An image for each class, and one where none is known; samples have a little noise."""

    @dataclass(frozen=True)
    class Config:
        """Hyperparameters."""

        classes: int = 0
        image_size: int = 8
        channels: int = 1
        learning_rate: float = 0.05

    def build(self):
        side, classes = self.config.image_size, self.config.classes
        self.means = nn.Parameter(torch.zeros(classes + 1, self.config.channels, side, side))

    def loss(self, x, labels=None):
        return (x - self.means[labels]).square().mean()

    @torch.no_grad()
    def sample(self, n, generator=None, labels=None):
        source = generator or self.generator
        labels = self.draw_labels(n, source) if labels is None else labels
        images = self.means[labels]
        return (images + 0.1 * torch.randn(images.shape, generator=source)).clamp(-1, 1)


class MeansTrainable(GenerativeTrainable):
    """Trains `Means`."""

    model_class = Means


class Watched(Means):
    """Draws without gradients, and no more at once than asked for."""

    drawn = ()

    def sample(self, n, generator=None, labels=None):
        assert not torch.is_grad_enabled()
        self.drawn += (n,)
        return super().sample(n, generator, labels)


class WatchedTrainable(GenerativeTrainable):
    """Trains `Watched`."""

    model_class = Watched


@pytest.fixture(scope="module")
def cache_dir(tmp_path_factory):
    return str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def trained(cache_dir):
    trainable = MeansTrainable({**DIGITS, "cache_dir": cache_dir, "accumulate": 2})
    results = [trainable.train() for _ in range(DIGITS["epochs"])]
    return trainable, results


def test_each_class_learns_from_its_own_images(trained):
    model, store = trained[0].model, trained[0].store
    rows = store.split("train")
    for label in range(10):
        mean = store.images[rows[store.labels[rows] == label]].mean(0)[..., 0] / 127.5 - 1
        assert np.abs(model.means[label, 0].detach().numpy() - mean).mean() < 0.06
    assert not model.means[UNKNOWN].any()


def test_each_class_is_scored_and_shown(trained):
    first, *_, last = trained[1]
    named = {key: value for key, value in last.items() if key.startswith("class/")}
    assert set(named) == {f"class/{label}" for label in range(10)}
    assert last["intra_fd_random"] == pytest.approx(np.mean(list(named.values())))
    assert "intra_fd_random" not in first
    assert {"samples", "classes"} <= set(last["images"])


def test_no_graph_is_kept_of_what_is_drawn(cache_dir):
    result = WatchedTrainable({**DIGITS, "cache_dir": cache_dir, "epochs": 1}).train()
    assert "intra_fd_random" in result and "classes" in result["images"]


def test_large_images_of_a_class_are_drawn_some_at_a_time():
    model = Watched(Means.Config(classes=10))
    assert class_samples(model, 8, (256, 256, 1)).shape == (80, 8, 8, 1)
    assert model.drawn == (15, 15, 15, 15, 15, 5)


def test_classes_whose_names_differ_by_signs_alone_each_have_a_score(trained, cache_dir, monkeypatch):
    trainable, results = trained
    names = ["C++", "C#", *map(str, range(2, 10))]
    monkeypatch.setitem(trainable.store.manifest, "class_names", names)
    found = class_scores(trainable.model, 300, trainable.store, trainable.extractor, cache_dir)
    last = results[-1]
    assert found.keys() - {"class/C--0", "class/C--1"} == last.keys() & {
        "intra_fd_random",
        *(f"class/{label}" for label in range(2, 10)),
    }
    assert found["class/C--1"] == pytest.approx(last["class/1"])
    assert found["intra_fd_random"] == pytest.approx(last["intra_fd_random"])


def test_scores_of_a_class_are_against_its_own_images(trained, cache_dir):
    wrong = MeansTrainable({**DIGITS, "cache_dir": cache_dir, "epochs": 1})
    wrong.model.load_state_dict(trained[0].model.state_dict())
    wrong.model.means.data = wrong.model.means.data.roll(1, 0)
    wrong.epoch = 1
    assert wrong.evaluate()["intra_fd_random"] > 1.5 * trained[1][-1]["intra_fd_random"]


def test_labels_are_drawn_as_often_as_in_training(trained):
    model, store = trained[0].model, trained[0].store
    labels = store.labels[store.split("train")]
    shares = np.bincount(labels, minlength=10) / len(labels)
    np.testing.assert_allclose(model.class_shares.numpy(), shares, atol=1e-6)
    drawn = np.bincount(model.draw_labels(50_000, torch.Generator().manual_seed(0)), minlength=10) / 50_000
    assert np.abs(drawn - shares).max() < 4 * np.sqrt(0.1 * 0.9 / 50_000)


def test_it_goes_on_bit_equal_and_is_loaded_with_its_classes(trained, cache_dir, tmp_path):
    settings = {**DIGITS, "cache_dir": cache_dir, "epochs": 3, "epoch_steps": 7}
    whole, again = MeansTrainable(settings), MeansTrainable(settings)
    whole.train()
    whole.save_checkpoint(str(tmp_path))
    again.load_checkpoint(str(tmp_path))
    for a, b in zip(*([t.train() for _ in range(2)] for t in (whole, again)), strict=True):
        assert all(a[k] == b[k] for k in a if k.startswith(("fd", "intra", "class/", "loss")))
    export_model(MeansTrainable, settings, tmp_path, tmp_path / "model")
    trust("tests")
    loaded = load_model(tmp_path / "model")
    assert loaded.config.classes == 10
    assert loaded.sample(3, labels=torch.tensor([1, 2, 3])).shape == (3, 1, 8, 8)


def test_one_class_takes_all_images(cache_dir):
    trainable = MeansTrainable({**DIGITS, "cache_dir": cache_dir, "classes": 1, "epochs": 1})
    (_, labels), *_ = trainable.epoch_batches(0)
    assert not labels.any()
    result = trainable.train()
    assert not any(key.startswith(("class/", "intra")) for key in result)
    assert "classes" not in result["images"]


def test_the_number_of_classes_must_be_the_datas():
    store = SimpleNamespace(name="pets", manifest={"class_names": ["cat", "dog"]})
    assert with_classes(Means.Config(), store).classes == 2
    with pytest.raises(DataError, match=r"classes is 7; pets has 2 \(1: all images are one class\)"):
        with_classes(Means.Config(classes=7), store)


def test_images_without_a_label_have_no_share():
    store = SimpleNamespace(labels=np.array([0, UNKNOWN, 1, 1, 1]), split=lambda _: np.arange(5))
    assert class_shares(store, 3).tolist() == [0.25, 0.75, 0]
    store.labels[:] = -1
    assert class_shares(store, 4).tolist() == [0.25] * 4
