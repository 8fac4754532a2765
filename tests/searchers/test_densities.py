"""The density comparison: each model's own sweep, tables within one likelihood, figures, a tiny real run."""

import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from rich.console import Console

import searchers.execution.run  # noqa: F401  with its own load_store, which `store` replaces elsewhere
from analysis.papers import DENSITIES
from searchers.bayesopt.tune_space import read_space
from searchers.densities import METRIC, PRESETS, PROGRAM, DensityConfig, main, part_of, study, work
from searchers.display.closing import Ending
from searchers.execution.prepare import Prepared
from searchers.execution.resume import store as remember
from searchers.record.trials import TrialRecord
from searchers.reports import densities, density_figures
from searchers.reports.densities import Row, score_table
from searchers.reports.density_figures import decode_plane, draw_figures
from searchers.study.config import UsageError
from tests.fixtures.command import refusal
from tests.fixtures.waits import PATIENCE
from trainables.models.bernoulli_vae import BernoulliVAE
from trainables.models.densities import PPCA, GaussianMixture, GaussianMixtureConfig, PPCAConfig

MODELS = DensityConfig().models
TINY = "--epochs 2 --num-samples 2 --grace-epochs 1 --evaluation-samples 100 --name tiny"
SHARED = {"image_size": 8, "width": 1.0, "batch_size": 32}


IMAGES = 400  # to train on


def digits(n=60):
    rng = np.random.default_rng(0)
    base = rng.normal(size=(n, 4)) @ rng.normal(size=(4, 64)) * 0.3
    x = torch.from_numpy(np.clip(base, -1, 1)).float().reshape(n, 1, 8, 8)
    return x, rng.integers(0, 10, n)


@pytest.fixture
def store(monkeypatch):
    """Images that nobody reads."""
    found, counted = SimpleNamespace(split=lambda _: np.arange(IMAGES)), {"training_images": IMAGES}
    monkeypatch.setattr("trainables.evaluation.inputs.load_store", lambda *_, **__: found)
    monkeypatch.setattr(
        "searchers.execution.prepare.prepare", lambda *_, **__: Prepared(SHARED, None, counted)
    )


@pytest.mark.parametrize("model", MODELS)
def test_each_model_has_a_sweep_of_its_own_that_begins_with_the_seeds_setting(model):
    tuned = study(model, PRESETS["quick"], Prepared(SHARED, None, {}), IMAGES)
    space = read_space(tuned.space)
    (first,) = tuned.points_to_evaluate
    assert set(first) == set(tuned.space)
    space.encode(first)  # raises where it lies outside
    assert (tuned.metric, tuned.mode) == ("nats_per_image", "max")
    family = "bernoulli" if model in ("vae", "conv_vae") else "gaussian"
    assert tuned.provenance["likelihood"].startswith(family)
    names = {**tuned.settings, **first}
    settings = {key: value for key, value in names.items() if key != "batch_size"}
    hyperparameters = tuned.trainable.model_class.configure(settings)
    assert hyperparameters.channels == 1


def test_the_seeds_protocol_is_the_first_trial_of_the_report():
    report = PRESETS["report"]
    assert (report.dataset, report.image_size) == ("mnist", 28)
    assert (report.epochs, report.batch_size) == (25, 128)
    shared = {**SHARED, "image_size": 28}
    firsts = {
        model: study(model, report, Prepared(shared, None, {}), IMAGES).points_to_evaluate[0]
        for model in MODELS
    }
    assert firsts["vae"] == {"hidden": 400, "latent_dim": 2}
    assert firsts["conv_vae"] == {"width": 1.0, "latent_dim": 2}
    assert firsts["ppca"] == {"latent_dim": 2}


def test_no_model_is_asked_for_more_than_the_images_allow():
    """Trials of PPCA with q, and of a mixture with components, beyond their number would fail."""
    spaces = [study(m, PRESETS["quick"], Prepared(SHARED, None, {}), 40).space for m in ("ppca", "mixture")]
    ppca, mixture = (read_space(space).dimensions[0] for space in spaces)
    assert (ppca.high, mixture.high) == (39, 40)
    PPCA(PPCAConfig(8, 1, 39)).fit(digits(40)[0])
    GaussianMixture(GaussianMixtureConfig(8, 1, 40, subspace=4)).fit(digits(40)[0])


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"set": ("schedule=cosine",)}, "schedule: the table's final fits have no such setting"),
        (
            {"space": ("epoch_steps=randint(1,9)",)},
            "epoch_steps: the table's final fits have no such setting",
        ),
        ({"set": ("layers=2",)}, "layers: ConvVAE has no use for it"),
        ({"set": ("learning_rate=0.1",)}, "'learning_rate' is no setting of PPCA"),
        (
            {"models": ("mixture",), "space": ("components=choice(400,401)",)},
            "A trial of components = 401 can't be built: components is 401; 400 images allow 1 … 400",
        ),
        (
            {"models": ("ppca",), "space": ("latent_dim=randint(1,65)",)},
            "latent_dim is 64; 400 images of 64 pixels allow 1 … 63",
        ),
        (
            {"models": ("mixture",), "set": ("max_iterations=0",)},
            "max_iterations is 0; it must be 1 or more",
        ),
        ({"warm_start": "old"}, "--warm-start: results/old-vae holds no sweep"),
    ],
)
def test_what_any_model_refuses_is_said_before_the_first_is_tuned(asked, said, monkeypatch, tmp_path, store):
    """Nor is the name taken by what never began."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("searchers.execution.run.run", lambda *_, **__: pytest.fail("a sweep began"))
    with pytest.raises(UsageError, match=re.escape(said)):
        work(replace(PRESETS["quick"], name="x", tracking_uri="sqlite:///none.db", **asked), "id", Console())
    assert not (tmp_path / "results/x").exists()


@pytest.mark.parametrize("left", ["x", "x-mixture"])
def test_what_is_left_of_another_comparison_is_told_before_the_first_is_tuned(
    left, monkeypatch, tmp_path, store
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("searchers.execution.run.run", lambda *_, **__: pytest.fail("a sweep began"))
    remember(tmp_path / "results" / left, PROGRAM, "other-mixture", PRESETS["quick"])
    with pytest.raises(UsageError, match=f"results/{left} holds another sweep's trials"):
        work(replace(PRESETS["quick"], name="x", image_size=8), "id", Console())


def test_a_dry_run_tells_the_last_fits_too(monkeypatch, tmp_path, store):
    monkeypatch.chdir(tmp_path)
    nothing = SimpleNamespace(exit_code=0, best=None)
    monkeypatch.setattr("searchers.execution.run.run", lambda *_, **__: nothing)
    monkeypatch.setattr("searchers.execution.run.checked", lambda tuned, _: (tuned, None))
    console = Console(width=120, record=True)
    assert work(replace(PRESETS["quick"], name="x", dry_run=True), "id", console) == 0
    told = "Then two last fits of each model, for the table: 80 epochs more and 4 fits in one step."
    assert told in console.export_text()
    assert not (tmp_path / "results").exists()


def test_a_model_is_warmed_by_its_own_part_of_an_earlier_comparison():
    parts = [part_of(replace(PRESETS["quick"], name="x", warm_start="old"), model) for model in MODELS]
    assert [part.warm_start for part in parts] == ["old-vae", "old-conv_vae", "old-ppca", "old-mixture"]


def test_the_seeds_figures_on_the_scale_of_ours():
    assert DENSITIES["vae"].on_unit_scale(784) == (-142.8134, 0.037524)
    nats, error = DENSITIES["ppca"].on_unit_scale(784)
    assert nats == pytest.approx(14.70, abs=0.01)
    assert error == pytest.approx(0.055813, abs=1e-6)


def test_a_table_is_of_one_family_the_best_first():
    scores = {"nats_standard_error": 0.5, "bits_per_dim": 0.3, "reconstruction_mse": 0.04}
    results = [
        {
            "model": "vae",
            "label": "PML",
            "values": {"hidden": 400},
            "nats_per_image": -150.0,
            **scores,
        },
        {"model": "conv_vae", "label": "best", "values": {"width": 1.5}, "nats_per_image": -90.0, **scores},
    ]
    table = score_table("bernoulli, pixels in [0, 1]", results, 784)
    assert list(table.columns[0].cells) == ["conv_vae", "vae", "vae", "conv_vae"]
    assert list(table.columns[2].cells) == ["-90.00 ± 0.50", "-142.81", "-150.00 ± 0.50", "-156.82"]
    assert list(table.columns[1].cells)[1] == "paper's Table 1"
    assert list(score_table("bernoulli", results, None).columns[0].cells) == ["conv_vae", "vae"]
    mixture = [{**result, "model": "mixture"} for result in results]
    assert "paper's Table 1" not in " ".join(score_table("gaussian", mixture, 784).columns[1].cells)
    bounds = [
        {**r, "nats_importance_weighted": r["nats_per_image"] + 2, "importance_samples": 50} for r in results
    ]
    table = score_table("bernoulli", bounds, 784)
    assert table.columns[3].header == "IWAE, K=50"
    assert list(table.columns[3].cells) == ["-88.00", "", "-148.00", ""]


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        (PPCA(PPCAConfig(8, 1, 2)), {"clusters", "plane"}),
        (PPCA(PPCAConfig(8, 1, 5)), {"clusters"}),
        (GaussianMixture(GaussianMixtureConfig(8, 1, 3, subspace=4)), {"components"}),
        (BernoulliVAE(BernoulliVAE.configure({"image_size": 8, "hidden": 9})), {"clusters", "plane"}),
    ],
    ids=["PPCA in a plane", "PPCA", "mixture", "VAE"],
)
def test_each_model_has_the_figures_that_it_can_have(tmp_path, model, expected):
    x, labels = digits()
    if not isinstance(model, BernoulliVAE):
        model.fit(x)
    paths = draw_figures(model, x, labels, tmp_path)
    assert {path.stem for path in paths} == expected | {"samples", "reconstructions"}


def test_the_figures_are_of_images_of_all_classes(tmp_path, monkeypatch):
    """Of 60 images by class, every sixth is of another."""
    x, _ = digits()
    model, seen = PPCA(PPCAConfig(8, 1, 2)), []
    model.fit(x)
    monkeypatch.setattr(density_figures, "PAIRS", 10)
    monkeypatch.setattr(density_figures, "CLUSTERED", 10)
    monkeypatch.setattr(density_figures, "draw_clusters", lambda *about: seen.append(about[2].tolist()))
    reconstruct = model.reconstruct
    monkeypatch.setattr(model, "reconstruct", lambda of: seen.append(of) or reconstruct(of))
    draw_figures(model, x, np.repeat(np.arange(10), 6), tmp_path)
    torch.testing.assert_close(seen[0], x[::6])
    assert seen[1] == list(range(10))


@pytest.mark.parametrize("size", [8, 28])
def test_the_last_fits_have_their_own_batches_and_flips_and_the_papers_rows_its_pixels(
    size, tmp_path, monkeypatch
):
    """28 pixels a side are MNIST's: of fewer, the report's nats would be converted by a wrong number."""
    pictures = np.zeros((40, size, size, 1), np.uint8)

    class Store:
        images, labels = pictures, np.zeros(40)

        def __len__(self):
            return 40

        def split(self, _):
            return np.arange(30, 40)

    fitted = []
    monkeypatch.setattr("trainables.evaluation.inputs.load_store", lambda *_, **__: Store())
    monkeypatch.setattr("trainables.tune.densities.train", lambda *_, **how: fitted.append(how))
    scores = {"nats_per_image": -1.0, "nats_standard_error": 0.5, "bits_per_dim": 0.3}
    monkeypatch.setattr(
        "trainables.evaluation.likelihoods.score", lambda *_: {**scores, "reconstruction_mse": 0.1}
    )
    monkeypatch.setattr(densities, "draw_figures", lambda *_: None)
    config = replace(PRESETS["report"], image_size=size, epochs=3, batch_size=32)
    tuned = study("vae", config, Prepared({**SHARED, "image_size": size}, None, {}), IMAGES)
    own = replace(tuned, settings={**tuned.settings, "batch_size": 16, "flip": True})
    console = Console(width=120, record=True)
    densities.write_report(
        [Row("vae", "best", own, {"hidden": 9, "latent_dim": 2})], config, tmp_path, console
    )
    assert fitted == [{"epochs": 3, "batch_size": 16, "flip": True, "seed": 0}]
    assert ("paper's Table 1" in console.export_text()) == (size == 28)
    densities.write_report(
        [Row("vae", "best", own, {"hidden": 9, "latent_dim": 2})],
        replace(config, dataset_limit=4000),  # of other images than the paper's
        tmp_path,
        console,
    )
    assert "paper's Table 1" not in console.export_text()


def test_the_plane_is_drawn_with_the_first_latent_to_the_right_and_the_second_up():
    seen = []

    class Plane:
        def decode(self, z):
            seen.append(z)

    decode_plane(Plane(), side=3)
    edge = 0.9674  # the quantile of 5/6
    expected = [[x, y] for y in (edge, 0.0, -edge) for x in (-edge, 0.0, edge)]
    torch.testing.assert_close(seen[0], torch.tensor(expected), atol=1e-4, rtol=0)


@pytest.mark.slow
def test_a_tiny_comparison_ends_with_its_scores_and_figures(tmp_path):
    environment = os.environ | {"XDG_CACHE_HOME": str(tmp_path / "cache"), "COLUMNS": "200"}
    command = [sys.executable, "-m", "searchers.densities", *TINY.split()]
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=PATIENCE
    )
    assert done.returncode == 0, done.stdout + done.stderr
    scores = json.loads((tmp_path / "results/tiny/scores.json").read_text())
    assert [score["model"] for score in scores] == [model for model in MODELS for _ in range(2)]
    bernoulli, gaussian = done.stdout.index("Bernoulli"), done.stdout.index("Gaussian density")
    assert bernoulli < gaussian
    pictures = {path.parent.name for path in (tmp_path / "results/tiny/figures").glob("*/samples.png")}
    assert len(pictures) == 8


def test_a_width_that_no_model_takes_is_no_flag(capsys):
    assert "--width" in refusal(main, capsys, "--width", "0.5")


def test_a_config_survives_json_and_keeps_its_models():
    config = replace(PRESETS["quick"], models=("ppca",))
    assert DensityConfig(**json.loads(json.dumps(config.__dict__))).models == ("ppca",)


@pytest.mark.parametrize("interrupted", [False, True])
def test_the_end_says_once_what_to_type_next_and_ctrl_c_in_the_last_fits_how_to_go_on(
    interrupted, monkeypatch, tmp_path, store
):
    monkeypatch.chdir(tmp_path)
    trial = TrialRecord(
        "a", 1, {"hidden": 9, "latent_dim": 2, "width": 1.0, "components": 3, "batch_size": 16}
    )
    ahead = TrialRecord("b", 2, {name: 7 for name in trial.config}, {1: {METRIC: 1.0}})
    trial.metrics[1] = {METRIC: -1.0}

    def run(tuned, config, *_, closing, **__):
        assert not closing
        ending = Ending(config, [trial], False, "GO ON", "checkpoints", 0, None, "1")
        return SimpleNamespace(exit_code=0, records=[ahead, trial], best=trial, study=tuned, ending=ending)

    def write_report(rows, *_):
        assert len(rows) == 2 * len(MODELS)
        assert [row.label for row in rows[::2]] == ["PML", "PML", "PML", "first"]  # of a mixture it has none
        for row in rows[1::2]:  # the recommended trial, with the settings that were its own
            assert row.values.items() <= trial.config.items()
            assert row.study.settings["batch_size"] == 16
        if interrupted:
            raise KeyboardInterrupt

    monkeypatch.setattr("searchers.execution.run.run", run)
    monkeypatch.setattr("searchers.reports.densities.write_report", write_report)
    console = Console(width=200, record=True)
    config = replace(PRESETS["quick"], name="ends", image_size=8)
    assert work(config, "id", console) == (130 if interrupted else 0)
    said = console.export_text()
    assert said.count("mlflow ui") == (0 if interrupted else 1)
    assert ("Interrupted. Go on with: GO ON" in said) == interrupted
