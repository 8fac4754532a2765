"""Training dynamics by closed form, flags on models that are dead, and disentanglement of known factors."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from trainables import GAN, VAE, BetaVAEGAN, FactorVAE
from trainables.data.store import DataError, spread
from trainables.evaluation.diagnostics import diversity, flags, gradient_norms, latent_scores, pixel_variance
from trainables.evaluation.latent_units import encoder_scores, known_factors, scored_rows, unit_scores
from trainables.metrics.errors import MetricError
from trainables.models import vae

SMALL = {
    "dataset": "faces",
    "dataset_limit": 200,
    "image_size": 16,
    "width": 0.1,
    "latent_dim": 6,
    "batch_size": 32,
    "evaluation_samples": 20,
    "features": "none",
}
FACTOR_SCORES = {"mig", "dci_disentanglement", "sap", "factor_vae", "modularity", "explicitness"}


@pytest.fixture(scope="module")
def cache_dir(tmp_path_factory):
    return str(tmp_path_factory.mktemp("cache"))


def build(trainable, cache_dir, **changes):
    return trainable(config={**SMALL, "cache_dir": cache_dir, **changes})


def test_gradient_norms_are_those_of_all_parameters_of_an_optimizer():
    a, b = (torch.nn.Parameter(torch.zeros(n)) for n in (2, 1))
    unused = torch.nn.Parameter(torch.zeros(3))
    optimizers = {
        "one": torch.optim.SGD([{"params": [a]}, {"params": [b, unused]}]),
        "two": torch.optim.SGD([b]),
    }
    a.grad, b.grad = torch.tensor([3.0, 4.0]), torch.tensor([12.0])
    assert {name: float(norm) for name, norm in gradient_norms(optimizers).items()} == {
        "one": 13.0,
        "two": 12.0,
    }


def test_a_unit_is_active_where_its_mean_varies_over_images():
    """Units of standard deviation 1, 0.11 and 0.09: variances 1, 0.0121 and 0.0081 around the bound 0.01."""
    signs = torch.tensor([1.0, -1.0]).repeat(50)[:, None]
    means = signs * torch.tensor([1.0, 0.11, 0.09]) + 5.0  # a mean off 0 makes no unit active
    found = latent_scores(means, torch.tensor([[1.0, 2.0, 3.0]]).expand(100, 3))
    assert found == {"active_units": 2, "kl_per_unit": [1.0, 2.0, 3.0]}


def test_diversity_is_1_for_the_data_and_0_for_one_picture():
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (300, 4, 4, 3), dtype=torch.uint8, generator=generator)
    variance = pixel_variance(images)
    assert variance == pytest.approx((256**2 - 1) / 12, rel=0.05)
    pairs = (images[:150].double() - images[150:].double()).square().mean() / 2
    assert variance == pytest.approx(float(pairs), rel=0.05)
    assert diversity(images, variance) == pytest.approx(1.0)
    assert diversity(images[:1].expand(20, 4, 4, 3), variance) == 0.0
    assert diversity(images // 2, variance) == pytest.approx(0.5, rel=0.02)


def test_flags_name_what_is_wrong():
    assert (
        flags({})
        == flags({"sample_diversity": 0.5, "active_units": 1, "loss/discriminator_accuracy": 0.9})
        == ""
    )
    wrong = {"sample_diversity": 0.05, "active_units": 0, "loss/discriminator_accuracy": 0.999}
    assert flags(wrong) == "collapsed,dead_latent_space,discriminator_wins"
    assert flags({**wrong, "active_units": 3}) == "collapsed,discriminator_wins"


@pytest.mark.parametrize("trainable", [VAE, GAN, BetaVAEGAN, FactorVAE])
def test_a_trial_reports_how_its_training_goes(trainable, cache_dir):
    trial = build(trainable, cache_dir)
    result = trial.step()
    norms = {key.removeprefix("gradient_norm/") for key in result if key.startswith("gradient_norm/")}
    assert norms == set(trial.model.optimizers)
    assert all(0 < result[f"gradient_norm/{name}"] < math.inf for name in norms)
    assert result["sample_diversity"] > 0
    assert isinstance(result["flags"], str)
    if trial.model.has_encoder:
        assert sum(result["kl_per_unit"]) == pytest.approx(result["kl"], rel=1e-4)
        assert 0 <= result["active_units"] <= 6


def test_a_dead_latent_space_and_a_collapsed_generator_are_flagged(cache_dir):
    trial = build(BetaVAEGAN, cache_dir)
    with torch.no_grad():
        trial.model.encoder.mean.weight.zero_()
        trial.model.decoder.layers[0].weight.zero_()  # whatever the latent, one image
    result = trial.evaluate()
    assert result["active_units"] == 0
    assert flags(result) == "collapsed,dead_latent_space"


def held_out_store(n=600):
    """Images whose three factors are known: two continuous, one of four classes, and one that follows."""
    rng = np.random.default_rng(0)
    columns = {
        "azimuth": rng.uniform(size=n),
        "smile_degree": rng.uniform(0, 5, n),
        "hat": rng.integers(4, size=n),
    }
    columns |= {"smile_class": np.rint(columns["smile_degree"]), "constant": np.ones(n)}
    columns |= {"unknown": np.where(np.arange(n) == 7, np.nan, 1.0)}
    images = np.zeros((n, 16, 16, 3), np.uint8)
    images[:, 0, 0, :2] = np.stack(np.divmod(np.arange(n), 256), 1)  # an image tells its row
    splits = {"validation": np.arange(n // 3), "train": np.arange(n // 3, n)}
    return SimpleNamespace(
        split=splits.get,
        some=lambda name, count: spread(splits[name], count),
        images=images,
        factors={name: column.astype(np.float32) for name, column in columns.items()},
    )


def row_of(x):
    high, low = ((x[:, :2, 0, 0] + 1) * 127.5).round().long().unbind(1)
    return 256 * high + low


def test_disentanglement_is_that_of_the_factors_that_units_stand_for(monkeypatch):
    """An encoder that reads the factors off the image, told from one that mixes them."""
    store = held_out_store()
    factors = torch.from_numpy(known_factors(store, np.arange(600)))
    assert factors.shape == (600, 3)  # neither what follows from another, nor what is constant or unknown
    standardized = (factors - factors.mean(0)) / factors.std(0)
    mixing = torch.tensor([[1.0, 1.0, 1.0], [1.0, -1.0, 0.5], [1.0, 0.3, -1.2]])
    model = vae.VAE(vae.VAE.configure({"image_size": 16, "width": 0.1, "latent_dim": 3}))
    scores = {}
    for name, codes in (("apart", standardized), ("mixed", standardized @ mixing)):
        monkeypatch.setattr(model, "encode", lambda x, codes=codes: (codes[row_of(x)], None))
        found = encoder_scores(model, store)
        assert all(key.startswith("disentanglement/") for key in found)
        scores[name] = {key.removeprefix("disentanglement/"): value for key, value in found.items()}
    assert scores["apart"].keys() >= FACTOR_SCORES
    assert scores["apart"]["factor_vae"] == 1.0
    for key in ("mig", "dci_disentanglement", "factor_vae"):
        assert scores["apart"][key] > scores["mixed"][key] + 0.2, key


def test_images_whose_factors_are_unknown_are_left_out_and_no_factor():
    store = held_out_store()
    store.factors["unknown"] = np.where(np.arange(600) == 7, np.nan, np.arange(600) % 5)
    store.factors["seldom"] = np.where(
        np.arange(600) < 500, np.nan, 1.0
    )  # of few images: no image is left out
    rows = scored_rows(store)
    assert sorted(rows) == [row for row in range(600) if row != 7]
    assert known_factors(store, rows).shape == (599, 4)


def test_scores_that_the_factors_or_units_do_not_have_are_left_out():
    factor = np.random.default_rng(0).integers(3, size=(300, 1)).astype(np.float32)
    units = np.hstack([factor, np.random.default_rng(1).normal(size=(300, 1)).astype(np.float32)])
    found = {key.removeprefix("disentanglement/") for key in unit_scores(units, factor)}
    assert FACTOR_SCORES - found == {"modularity"}
    found = {key.removeprefix("disentanglement/") for key in unit_scores(factor, factor)}
    assert FACTOR_SCORES - found == {"modularity", "mig", "sap"}
    with pytest.raises(MetricError, match="there is 1 factor"):
        unit_scores(units, factor, ("modularity",))  # which was asked for by its name


def test_a_factor_of_which_either_part_has_one_class_is_none():
    """A classifier would have nothing to learn, or nothing to be judged by. The last third is held out."""
    store, rows = held_out_store(), np.arange(600)
    store.factors["never_learned"] = np.where(rows < 450, 0, 1).astype(np.float32)
    store.factors["never_held_out"] = np.where(rows < 150, 1, 0).astype(np.float32)
    store.factors["rare"] = np.where(rows == 500, 1e6, rows % 50).astype(np.float32)  # binned it is one class
    assert known_factors(store, rows).shape == (600, 3)
    units = np.random.default_rng(1).normal(size=(600, 3)).astype(np.float32)
    assert all(np.isfinite(value) for value in unit_scores(units, known_factors(store, rows)).values())


def test_one_score_alone_is_what_all_scores_say_of_it(cache_dir):
    every = build(VAE, cache_dir, disentanglement=True).evaluate()
    alone = build(VAE, cache_dir, disentanglement=("mig",)).evaluate()
    found = {key: value for key, value in alone.items() if key.startswith("disentanglement/")}
    assert found == {"disentanglement/mig": every["disentanglement/mig"]}
    with pytest.raises(
        DataError, match=r"disentanglement is \('mgi',\); choose true, or a list of some of mig"
    ):
        build(VAE, cache_dir, disentanglement=("mgi",))


def test_disentanglement_is_reported_where_it_is_asked_for(cache_dir, monkeypatch):
    monkeypatch.setattr(
        "trainables.evaluation.latent_units.known_factors", lambda store, rows: np.empty((len(rows), 0))
    )
    asked = build(VAE, cache_dir, disentanglement=True).evaluate()
    assert math.isfinite(asked["disentanglement/total_correlation"])
    assert "disentanglement/mig" not in asked
    for trial in (build(VAE, cache_dir), build(GAN, cache_dir, disentanglement=True)):
        assert not any(key.startswith("disentanglement/") for key in trial.evaluate())
