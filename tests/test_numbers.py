"""Numbers in the pages against the records that the benchmarks left."""

import importlib
import json
from pathlib import Path
from types import SimpleNamespace

import pytest

ROOT = Path(__file__).resolve().parents[1]


def rows_of(page):
    """Return the rows of a page's tables, as cells."""
    lines = (ROOT / "docs" / page).read_text().splitlines()
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]


def test_the_main_jobs_numbers_are_on_record():
    from benchmarks.quality_report import mean_distance, over_beta, table

    text = (ROOT / "docs/benchmarks/main_job.md").read_text()
    for name, least in (("celeba_thorough", 2), ("betas_thorough", 14), ("betas", 30)):
        record = ROOT / "benchmarks" / f"{name}.jsonl"
        rows = [line for line in table(record).splitlines() if line.startswith("| ")]
        assert len(rows) > least and [row for row in rows if row not in text] == []
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


def written(record, *rows):
    record.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return record


def training(model, beta, seed, **scores):
    """Return a row of a record."""
    return {
        "dataset": "photos", "model": model, "beta": beta, "seed": seed, "epochs": 3, "cpu_seconds": 1.0,
        "metric": "fid", "scores": scores, "references": {"real": 1.0},
    }  # fmt: skip


def test_seeds_are_compared_with_themselves_and_what_diverged_is_counted(tmp_path):
    """Whichever training ended first."""
    from benchmarks.quality import BETA
    from benchmarks.quality_report import by_seed, over_beta, table

    order = [(1.0, 0), (5.0, 2), (1.0, 1), (5.0, 0), (1.0, 2)]
    keys = ("fid", "ex_post_mixture/fid")
    rows = [training(BETA, beta, seed, **dict.fromkeys(keys, 10 * beta + seed)) for beta, seed in order]
    lost = training(BETA, 5.0, 1) | {"diverged": "loss_not_finite"}
    record = written(tmp_path / "betas.jsonl", *rows, lost)
    assert by_seed(over_beta(record)["photos"], "fid").tolist() == [[10, 50], [12, 52]]
    assert "Diverged, and in no mean: photos beta-VAE-GAN 5.0 1" in table(record)


def test_the_kernel_distance_of_inceptions_features_is_its_own_column(tmp_path):
    from benchmarks.quality_report import table

    searched = {"search": True, "dataset": "photos", "model": "GAN", "values": {"penalty": 1.0}, "found": 7.5}
    record = written(tmp_path / "models.jsonl", searched, training("GAN", None, 0, fid=7.5, kid=3.25))
    heading, _, row = (line.split(" | ") for line in table(record).splitlines()[:3])
    assert (row[heading.index("FD")], row[heading.index("KID")]) == ("7.5", "3.25")


def test_a_trainings_seconds_are_its_own_and_one_that_diverged_is_on_record(tmp_path, monkeypatch):
    from benchmarks import quality

    clock = [0.0]

    def spend(seconds):
        clock[0] += seconds

    def train():
        for _ in range(3):
            trainable.train_epoch({}, {})
        spend(100)  # the evaluation, on several threads
        return {"diverged": True, "flags": "loss_not_finite", "evaluation_seconds": 7.0}

    trainable = SimpleNamespace(train_epoch=lambda *_: spend(2), train=train, stop=lambda: None)
    monkeypatch.setattr(quality, "time", SimpleNamespace(process_time=lambda: clock[0]))
    monkeypatch.setattr(quality, "trainable_of", lambda *_: trainable)
    row = quality.train("faces", "VAE", {"beta": 1.0}, 4, 9, tmp_path)
    expected = {"dataset": "faces", "model": "VAE", "beta": 1.0, "seed": 4, "epochs": 9, "cpu_seconds": 6.0}
    assert row == expected | {"values": {"beta": 1.0}, "diverged": "loss_not_finite"}
    record = written(tmp_path / "record.jsonl", row)
    assert quality.trained(record) == [] and quality.trained(record, diverged=True) == [row]


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
