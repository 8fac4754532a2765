"""The papers' numbers as reproduction notes have them, and ours in the right cells and in no wrong column."""

import io
import re

import pandas as pd
import pytest
from rich.console import Console

from analysis import tables
from analysis.papers import TABLES
from searchers.record.schema import REFERENCES, reference_param
from tests.fixtures.recorded import METRIC

BY_KEY = {table.key: table for table in TABLES}


def trials(**columns):
    """Finished β-VAE-GAN trials, all under the same conditions unless `columns` say otherwise."""
    n = max(len(values) for values in columns.values())
    fixed = {
        "model": "trainables.models.vaegan:VAEGAN",
        "status": "finished",
        "epoch": 9,
        "params.features": "efficientnet_lite0-579344248a93-antialias64",
        "params.reference_images": 3600,
        "params.data_hash": "0123",
        "params.image_size": 32,
        "params.width": 0.25,
        "metrics.evaluated_images": 500.0,
    }
    renamed = {name.replace("__", "."): values for name, values in columns.items()}
    frame = pd.DataFrame({name: [value] * n for name, value in fixed.items()})
    return frame.assign(**renamed)


def ours(filled, label):
    names = [name for name in filled.cells if "ours" in name]
    return [filled.cells.loc[label, name] for name in names]


def test_published_numbers_on_our_scale():
    gaussian = {row.label: row.published for row in BY_KEY["densities-gaussian"].rows}
    assert gaussian["PPCA"]["log-likelihood, nats an image"] == pytest.approx(14.70, abs=0.01)
    assert gaussian["PPCA"]["MSE"] == pytest.approx(3629.250732 / 65025)
    fid = {row.label: row.published.get("FID") for row in BY_KEY["vaegan-beta"].rows}
    assert fid["β-VAE-GAN, β = 75"] == 126.75 and fid["β-VAE-GAN, β = 150"] == 151.08


def test_a_setting_finds_its_row_and_seeds_are_averaged():
    found = trials(params__beta=[75.0, 75.0, 50.0], **{f"metrics.{METRIC}": [10.0, 14.0, 20.0]})
    filled = tables.fill(BY_KEY["vaegan-beta"], found)
    assert ours(filled, "β-VAE-GAN, β = 75") == ["12 ± 2.8 (n = 2)"]
    assert ours(filled, "β-VAE-GAN, β = 50") == ["20"]
    assert ours(filled, "β-VAE-GAN, β = 100") == ["–"]
    assert ours(filled, "β found by the search") == ["10 (beta = 75)"]


def test_a_sweep_that_is_named_twice_counts_once(client):
    once, twice = (tables.all_trials(client, ("one",) * n) for n in (1, 2))
    assert len(once) == len(twice) > 0


@pytest.mark.parametrize(
    ("column", "values"),
    [
        ("params.features", ["inception-6726-plain299", "efficientnet_lite0-5793-antialias64"]),
        ("metrics.evaluated_images", [500.0, 1000.0]),
        ("params.data_hash", ["0123", "4567"]),
        ("params.image_size", [32, 64]),
        ("epoch", [9, 10]),
        ("params.width", [0.25, 1.0]),
        ("recipe", ["larsen", "modern"]),
    ],
)
def test_other_conditions_are_another_column(column, values):
    found = trials(params__beta=[75.0, 75.0], **{f"metrics.{METRIC}": [10.0, 14.0]}).assign(
        **{column: values}
    )
    filled = tables.fill(BY_KEY["vaegan-beta"], found)
    assert sorted(ours(filled, "β-VAE-GAN, β = 75")) == ["10", "14"]
    assert len(filled.notes) == 2


def test_trials_that_differ_in_more_than_the_seed_are_not_averaged():
    """A learning rate that one sweep sets and another leaves alone makes two settings of one β."""
    found = trials(
        **{
            "params.beta": [75.0] * 4,
            "params.seed": [0, 1, 0, 1],
            "params.learning_rate": [None, None, 1e-3, 1e-3],
            "params.cache_dir": ["a", "b", "c", "d"],
            f"metrics.{METRIC}": [20.0, 24.0, 10.0, 14.0],
        }
    )
    filled = tables.fill(BY_KEY["vaegan-beta"], found)
    assert ours(filled, "β-VAE-GAN, β = 75") == ["12 ± 2.8 (n = 2, best of 2 settings)"]
    alone = tables.fill(BY_KEY["vaegan-beta"], found.iloc[[0, 2]])
    assert ours(alone, "β-VAE-GAN, β = 75") == ["10 (best of 2 settings)"]


def test_a_trials_recipe_is_told_by_its_settings_or_by_its_model(client):
    """Sweeps of the recipe `modern` have been recorded under the class of the paper's model, too."""
    recorded = tables.all_trials(client, ("one",))
    assert set(recorded["recipe"]) == {"report"}
    modern = trials(model=["trainables.models.modern:ModernVAEGAN"], **{"params.beta": [75.0]})
    filled = tables.fill(BY_KEY["vaegan-beta"], modern.assign(**{f"metrics.{METRIC}": 10.0}))
    assert ours(filled, "β-VAE-GAN, β = 75") == ["10"]


def test_a_training_that_two_sweeps_recorded_counts_once():
    """The first β of a search and a baseline of the same seed are the same training."""
    found = trials(
        params__beta=[75.0] * 3, params__seed=[0, 0, 1], **{f"metrics.{METRIC}": [10.5, 10.5, 14.5]}
    )
    assert ours(tables.fill(BY_KEY["vaegan-beta"], found), "β-VAE-GAN, β = 75") == ["12.5 ± 2.8 (n = 2)"]


def test_a_distance_to_the_images_of_one_degree_is_no_fid():
    found = trials(
        **{"params.method": ["vqvae"], "params.free": [8], f"metrics.{METRIC}": [90.0]},
        **{f"metrics.{METRIC}_degree_4": [80.0]},
    )
    assert ours(tables.fill(BY_KEY["happy-people-methods"], found), "VQ-VAE") == ["90"]
    of_other_freedom = found.assign(**{"params.free": 4})
    assert ours(tables.fill(BY_KEY["happy-people-methods"], of_other_freedom), "VQ-VAE") == []


def test_the_best_sizes_are_both_named():
    found = trials(
        params__hidden=[500, 900], params__latent_dim=[10, 20], metrics__validation_loss_last3=[3.0, 2.0]
    ).assign(model="trainables.models.lego_vae:LegoVAE")
    filled = tables.fill(BY_KEY["lego"], found)
    assert ours(filled, "best sizes found") == ["2 (hidden = 900, latent_dim = 20)"]


def test_two_extractors_are_two_columns():
    found = trials(params__beta=[75.0, 75.0], metrics__fid=[10.0, None], metrics__fd_dinov2=[None, 3.0])
    filled = tables.fill(BY_KEY["vaegan-beta"], found)
    assert ours(filled, "β-VAE-GAN, β = 75") == ["3", "10"] or ours(filled, "β-VAE-GAN, β = 75") == [
        "10",
        "3",
    ]


def test_no_likelihood_stands_beside_another_family():
    for table in TABLES:
        families = {str(row.match.get("model", "")).rpartition(":")[2] for row in table.rows}
        assert not (families & {"BernoulliVAE"} and families & {"PPCA", "GaussianMixture"})


def test_a_comparison_of_models_names_them_itself():
    """There the sweep's model is not the trial's."""
    found = trials(
        **{"params.model": ["GAN", "VAE-GAN"], "params.beta": [75.0, 75.0], f"metrics.{METRIC}": [5.0, 6.0]}
    )
    filled = tables.fill(BY_KEY["vaegan-baselines"], found)
    assert ours(filled, "GAN") == ["5"] and ours(filled, "VAE-GAN") == ["6"] and ours(filled, "VAE") == ["–"]
    assert ours(tables.fill(BY_KEY["vaegan-beta"], found), "β-VAE-GAN, β = 75") == []
    first = trials(params__beta=[1.0], params__penalty=[2.0], **{f"metrics.{METRIC}": [4.0]})
    both = tables.fill(BY_KEY["vaegan-baselines"], pd.concat([found, first], ignore_index=True))
    assert ours(both, "VAE-GAN") == ["6"]  # not the search's own first trial
    alone = tables.fill(BY_KEY["vaegan-baselines"], first)
    assert ours(alone, "VAE-GAN") == ["4"]
    assert ours(tables.fill(BY_KEY["vaegan-beta"], first), "β found by the search") == [
        "4 (beta = 1, penalty = 2)"
    ]


def test_the_best_of_a_column_is_marked_and_no_other():
    found = trials(params__beta=[50.0, 75.0], **{f"metrics.{METRIC}": [20.0, 10.0]})
    filled = tables.fill(BY_KEY["vaegan-beta"], found)
    assert filled.best["FID, paper"].sum() == 1 and filled.best.loc["β-VAE-GAN, β = 75", "FID, paper"]
    assert "**126.75**" in tables.write(filled, "markdown")
    assert "\\textbf{126.75}" in tables.write(filled, "latex")
    latex = tables.write(filled, "latex")
    assert "\\par [1] fd\\_efficientnet\\_lite0; extractor" in latex and "64$\\times$64" in latex
    assert '"β-VAE-GAN, β = 50",147.92' in tables.write(filled, "csv")


def test_the_command_writes_what_was_recorded(client, tmp_path, capsys):
    path = tmp_path / "tables.md"
    arguments = ["--tracking-uri", client.tracking_uri, "--sweep", "one", "--form", "markdown"]
    assert tables.main([*arguments, "--output", str(path)]) == 0
    assert "β found by the search" in path.read_text() and f"[1] {METRIC}; extractor: " in path.read_text()
    assert tables.main([*arguments, "--only", "nonesuch"]) == 2
    assert "There is no table 'nonesuch'; there are: vaegan-baselines" in capsys.readouterr().err


def test_references_stand_below_our_columns():
    mean_image = reference_param(REFERENCES["mean image"], METRIC)
    found = trials(params__beta=[50.0, 75.0], **{f"metrics.{METRIC}": [20.0, 10.0]})
    filled = tables.fill(BY_KEY["vaegan-beta"], found.assign(**{mean_image: 100.3}))
    assert filled.cells.loc["mean image", "FID, paper"] == "–"
    assert ours(filled, "mean image") == ["100.3"]
    assert not filled.best.loc["mean image"].any()
    assert "grey" not in filled.cells.index
    # Two numbers under one condition are none.
    filled = tables.fill(BY_KEY["vaegan-beta"], found.assign(**{mean_image: [100.3, 90.0]}))
    assert "mean image" not in filled.cells.index


def test_users_text_breaks_no_table():
    """A choice with Markdown's, LaTeX's or the terminal's own letters is written as it is."""
    name = "a|b & [/red] 50% $x_1^2$ {c} #1 ~\\d"
    found = trials(**{f"metrics.{METRIC}": [10.0], "params.beta": [name]})
    filled = tables.fill(BY_KEY["vaegan-beta"], found)
    row = next(line for line in tables.write(filled, "markdown").splitlines() if "found by" in line)
    assert len(re.split(r"(?<!\\)\|", row)) == 2 + 1 + filled.cells.shape[1]
    latex = next(line for line in tables.write(filled, "latex").splitlines() if "found by" in line)
    ours_in_latex = latex.split(" & ")[-1]
    assert not re.search(r"(?<!\\)[#%&~^{}$_]", ours_in_latex.replace("\\\\", ""))
    console = Console(width=200, markup=False, emoji=False, record=True, file=io.StringIO())
    tables.show(filled, console)
    assert name in console.export_text()
