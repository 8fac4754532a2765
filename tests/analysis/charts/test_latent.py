"""Figures of a trained model's latents."""

from dataclasses import asdict
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from analysis.charts import latent
from analysis.record.store import AnalysisError
from analysis.record.trained_model import TrainedModel
from trainables.data.batches import to_float
from trainables.data.pictures import GAP
from trainables.data.sources import load
from trainables.models.densities import PPCA, GaussianMixture, GaussianMixtureConfig, PPCAConfig
from trainables.models.storage import save_model


def subject(labels, class_names):
    codes = np.random.default_rng(0).normal(size=(len(labels), 2))
    store = SimpleNamespace(labels=np.array(labels), manifest={"class_names": class_names}, factors={})
    return SimpleNamespace(codes=(codes, np.arange(len(labels))), held_out=lambda: store, title="made up")


@pytest.mark.parametrize(
    ("labels", "class_names", "expected"),
    [
        ([-1, 0, 1, 1], ["not smiling", "smiling"], ["unknown", "not smiling", "smiling"]),
        ([2, 0, 2, 0], ["a", "b", "c"], ["a", "c"]),  # no held-out image of b
        ([3, 7, 3, 7], [], ["3", "7"]),
    ],
)
def test_clusters_are_named_by_their_class(labels, class_names, expected):
    (axes,) = latent.clustering(subject(labels, class_names)).axes
    assert [text.get_text() for text in axes.get_legend().get_texts()] == expected


def test_the_nearest_training_images_are_found_whatever_the_chunks(monkeypatch):
    random = np.random.default_rng(3)
    others = random.integers(0, 256, (50, 4, 4, 3), dtype=np.uint8)
    images = others[[7, 30]].copy()
    images[:, 0, 0] ^= 1  # all but copies
    rows = np.arange(1, 50)
    distances = ((images[:, None].astype(float) - others[rows]) ** 2).sum((2, 3, 4))
    expected = rows[distances.argsort(1)[:, :3]]
    for size in (7, 4096):
        monkeypatch.setattr(latent, "AT_ONCE", size)
        found, turned = latent.nearest_rows(images, others, rows, 3)
        assert found[:, 0].tolist() == [7, 30] and (found == expected).all() and not turned.any()


def test_a_copy_of_a_mirrored_training_image_is_found_where_it_was_trained_on(monkeypatch):
    monkeypatch.setattr(latent, "labelled", lambda sheet, *_: np.asarray(sheet))
    side = latent.MIN_SIDE
    images = np.random.default_rng(0).integers(0, 256, (50, side, side, 3), dtype=np.uint8)
    drawn = images[10:18].copy()
    drawn[::2] = drawn[::2, :, ::-1]
    store = SimpleNamespace(images=images, split=lambda _: np.arange(50))
    model = SimpleNamespace(sample=lambda n, _: to_float(drawn, torch.device("cpu")))
    for mirrored, copies in ((True, 8), (False, 4)):
        sheet = latent.nearest(latent.Subject(model, store, "made up", mirrored=mirrored))
        above, below = (sheet[k * (side + GAP) :][:side].astype(int) for k in (0, 1))
        same = [
            (above[:, x : x + side] == below[:, x : x + side]).all()
            for x in range(0, 8 * (side + GAP), side + GAP)
        ]
        assert sum(same) == copies


def test_of_few_training_images_all_stand_under_a_draw(monkeypatch):
    monkeypatch.setattr(latent, "labelled", lambda sheet, _, names: (np.asarray(sheet), names))
    images = np.full((2, latent.MIN_SIDE, latent.MIN_SIDE, 1), 255, np.uint8)
    store = SimpleNamespace(images=images, split=lambda _: np.arange(2))
    model = SimpleNamespace(sample=lambda n, _: torch.ones(n, 1, latent.MIN_SIDE, latent.MIN_SIDE))
    sheet, names = latent.nearest(latent.Subject(model, store, "made up"))
    assert names == ("drawn", "nearest", "number 2") and (sheet[:: latent.MIN_SIDE + GAP] == 255).all()


def test_a_path_needs_two_images():
    network = SimpleNamespace(has_encoder=True, config=SimpleNamespace(latent_dim=2))
    alone = SimpleNamespace(model=SimpleNamespace(network=network), images=lambda n: torch.zeros(1, 1, 8, 8))
    with pytest.raises(AnalysisError, match="needs two, and there is one"):
        latent.interpolations(alone)


def test_a_title_and_names_change_no_pixel_of_the_images():
    sheet = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8))
    page = np.asarray(latent.labelled(sheet, "β = 3", ("image", "rebuilt")))
    found = [x for x in range(page.shape[1] - 59) if (page[-40:, x : x + 60] == np.asarray(sheet)).all()]
    assert len(found) == 1 and (page[:-40] < 128).any() and (page[-40:, : found[0]] < 128).any()


@pytest.mark.parametrize(("there", "columns", "rows"), [(5, 5, 2), (10, 8, 2), (24, 8, 6)])
def test_each_image_stands_above_its_reconstruction(there, columns, rows, monkeypatch):
    x = torch.linspace(0.1, 1, there)[:, None, None, None].expand(-1, 1, latent.MIN_SIDE, latent.MIN_SIDE)
    model = SimpleNamespace(network=SimpleNamespace(has_encoder=True), reconstruct=lambda x: -x)
    monkeypatch.setattr(latent, "labelled", lambda sheet, _, names: (np.asarray(sheet), names))
    sheet, names = latent.reconstructions(
        SimpleNamespace(model=model, images=lambda n: x[:n], title="made up")
    )
    assert tuple(names) == ("image", "rebuilt") * (rows // 2)
    pixels = sheet[:: latent.MIN_SIDE + GAP, :: latent.MIN_SIDE + GAP].astype(int)
    assert pixels.shape == (rows, columns) and (pixels[::2] > 127).all()
    assert (abs(pixels[::2] + pixels[1::2] - 255) <= 1).all()  # of one image


def test_a_grid_of_latents_is_of_the_models_own_prior():
    seen = []

    def decode(z):
        seen.append(z)
        return torch.zeros(len(z), 3, 8, 8)

    network = SimpleNamespace(
        config=SimpleNamespace(latent_dim=2),
        device="cpu",
        from_noise=lambda noise: 3 + 2 * noise,
        decode=decode,
        eval=lambda: network,
    )
    latent.decoded_grid(SimpleNamespace(model=SimpleNamespace(network=network), title="made up"))
    (z,) = seen
    assert z.shape == (225, 2) and torch.allclose(z.mean(0), torch.tensor(3.0))
    assert z.max().item() == pytest.approx(3 + 2 * 2.0537, abs=1e-3)  # the 98 % quantile


@pytest.mark.parametrize(
    ("kind", "config", "left_out"),
    [
        (PPCA, PPCAConfig(image_size=8), set()),
        (
            GaussianMixture,
            GaussianMixtureConfig(image_size=8, components=2, subspace=5),
            latent.MODEL_FIGURES.keys() - {"samples", "nearest"},
        ),
    ],
)
def test_a_fitted_density_is_drawn_out_of_the_record(kind, config, left_out, tmp_path):
    store = load("digits", image_size=8, channels=1, limit=300, cache_dir=tmp_path / "images")
    fitted = kind(config)
    fitted.fit(to_float(store.images[store.split("train")]))
    save_model(tmp_path / "model", kind, asdict(config), fitted.state_dict())
    model = TrainedModel.load(tmp_path / "model")
    subject, missing = latent.Subject(model, store, "digits, trial 1"), set()
    for name, draw in latent.MODEL_FIGURES.items():
        try:
            draw(subject)
        except AnalysisError:
            missing.add(name)
    assert missing == left_out
    torch.testing.assert_close(model.sample(3, seed=4), fitted.sample(3, torch.Generator().manual_seed(4)))
    if kind is PPCA:
        frames, ends = model.interpolate(7, seed=4)[[0, -1]], torch.Generator().manual_seed(4)
        torch.testing.assert_close(frames, fitted.decode(torch.randn(2, 2, generator=ends)))
