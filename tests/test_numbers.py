"""Numbers in the pages against the records that the benchmarks left."""

import importlib
import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def cells_of(row):
    """Return a training on record as the main job's table shows it."""
    scores, metric = row["scores"], row["metric"]
    distances = (f"{scores[key]:.1f}" for key in (metric, f"ex_post/{metric}"))
    error, kl = f"{1000 * scores['reconstruction_mse']:.1f}", f"{scores['kl']:.1f}"
    return row["dataset"], f"{row['beta']:g}", f"{row['cpu_seconds']:.0f}", *distances, error, kl


def rows_of(page):
    """Return the rows of a page's tables, as cells."""
    lines = (ROOT / "docs" / page).read_text().splitlines()
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]


def test_the_main_jobs_numbers_are_on_record():
    record = [json.loads(line) for line in (ROOT / "benchmarks" / "betas.jsonl").read_text().splitlines()]
    measured = {cells_of(row) for row in record}
    told = {
        (re.match(r"\w+", cells[0])[0], *cells[1:])
        for cells in rows_of("benchmarks/main_job.md")
        if len(cells) == 7 and cells[1].isdigit()
    }
    assert len(told) > 6 and told - measured == set()
    faces = [row for row in record if row["dataset"] == "faces"]
    told = {f"{value:.1f}" for value in faces[0]["references"].values()}
    for page in (
        "README.md",
        "docs/concepts/scores.md",
        "docs/beta_vaegan.md",
        "docs/benchmarks/main_job.md",
    ):
        assert [value for value in told if value not in (ROOT / page).read_text()] == [], page
    (distances,) = [cells[1:] for cells in rows_of("beta_vaegan.md") if cells[0].startswith("FD")]
    assert distances == [f"{row['scores'][row['metric']]:.1f}" for row in faces if row["seed"] == 0]


def test_disentanglement_over_beta_is_on_record():
    faces = [
        row for row in map(json.loads, (ROOT / "benchmarks/betas.jsonl").open()) if row["dataset"] == "faces"
    ]
    told = {cells[0]: cells[1:] for cells in rows_of("benchmarks/main_job.md") if len(cells) == 5}
    for beta in sorted({row["beta"] for row in faces}):
        for cell, name in zip(
            told[f"{beta:g}"], ("mig", "dci_disentanglement", "sap", "factor_vae"), strict=True
        ):
            values = [row["scores"][f"disentanglement/{name}"] for row in faces if row["beta"] == beta]
            mean = sum(values) / len(values)
            assert cell == f"{mean:.3f} ({', '.join(f'{value:.3f}' for value in values)})", (beta, name)


@pytest.mark.parametrize(
    ("module", "page"),
    [
        ("searchers.__main__", "searchers"),
        ("function_fitting", "function_fitting"),
        ("cost", "cost"),
        ("mixture", "densities"),
        ("data", "data"),
        ("metrics", "metrics"),
        ("metrics_judgement", "metrics"),
        ("training", "training"),
        ("latent", "latent"),
        ("sweeps", "main_job flow"),
        ("analysis", "analysis"),
    ],
)
def test_a_table_is_what_its_script_prints(module, page, capsys):
    arguments = ["usual"] if page == "searchers" else []
    importlib.import_module(f"benchmarks.{module}").table(*arguments)
    rows = [line.rstrip() for line in capsys.readouterr().out.splitlines() if line.startswith("| ")]
    text = "".join((ROOT / "docs" / "benchmarks" / f"{name}.md").read_text() for name in page.split())
    assert len(rows) > 5 and [row for row in rows if row not in text] == []


def test_models_at_equal_cost_are_on_record():
    from benchmarks.quality_report import table

    lines = table(ROOT / "benchmarks" / "models.jsonl").splitlines()
    rows = [line for line in lines if line.startswith("| ")]
    text = (ROOT / "docs" / "benchmarks" / "models.md").read_text()
    assert len(rows) > 9 and [row for row in rows if row not in text] == []


def test_the_table_of_sharing_is_what_its_script_prints(capsys):
    importlib.import_module("benchmarks.searchers.sharing").main(["table"])
    text = (ROOT / "docs" / "benchmarks" / "searchers.md").read_text()
    assert capsys.readouterr().out in text


@pytest.mark.slow
def test_the_table_of_partial_training_is_what_its_script_prints(capsys):
    importlib.import_module("benchmarks.searchers.partial").main(["table", "judge"])
    rows = [line.rstrip() for line in capsys.readouterr().out.splitlines() if line.startswith("| ")]
    text = (ROOT / "docs" / "benchmarks" / "partial.md").read_text()
    assert len(rows) > 40 and [row for row in rows if row not in text] == []


def test_the_densities_of_digits_are_on_record(capsys):
    importlib.import_module("benchmarks.densities").table()
    printed = [
        line.split("|")[2].strip() for line in capsys.readouterr().out.splitlines() if line.startswith("| ")
    ]
    text = (ROOT / "docs" / "benchmarks" / "densities.md").read_text().replace("−", "-")
    assert len(printed) > 10 and [nats for nats in printed[1:] if nats not in text] == []
