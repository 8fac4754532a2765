"""Numbers in the pages against the records that the benchmarks left."""

import importlib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def rows_of(page):
    """Return the rows of a page's tables, as cells."""
    lines = (ROOT / "docs" / page).read_text().splitlines()
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]


def test_the_main_jobs_numbers_are_on_record():
    from benchmarks.quality_report import mean_distance, over_beta, table

    record = ROOT / "benchmarks" / "betas.jsonl"
    rows = [line for line in table(record).splitlines() if line.startswith("| ")]
    text = (ROOT / "docs/benchmarks/main_job.md").read_text()
    assert len(rows) > 30 and [row for row in rows if row not in text] == []
    faces = over_beta(record)["faces"]
    told = {f"{value:.1f}" for value in faces[0][1][0]["references"].values()}
    for page in (
        "README.md",
        "docs/concepts/scores.md",
        "docs/beta_vaegan.md",
        "docs/benchmarks/main_job.md",
    ):
        assert [value for value in told if value not in (ROOT / page).read_text()] == [], page
    (distances,) = [cells[1:] for cells in rows_of("beta_vaegan.md") if cells[0].startswith("FD")]
    assert distances == [f"{mean_distance(group):.1f}" for _, group in faces]


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
