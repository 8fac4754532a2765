"""What is told before torch and Ray, which take seconds to import, are there."""

import json
import subprocess
import sys
from dataclasses import replace

import pytest

from searchers import flow
from searchers.execution import cli
from searchers.study.config import RunConfig, UsageError

REFUSED = """
import importlib, json, sys
names, flags = json.loads(sys.argv[1])
for name in names:
    assert importlib.import_module(f"searchers.{name}").main(flags) == 2
print(json.dumps(sorted({"torch", "ray", "mlflow", "pandas"} & sys.modules.keys())))
"""
SEARCHES = ["beta_vaegan", "baselines", "densities", "flow", "lego_vae", "tune"]


@pytest.mark.parametrize(
    ("names", "flags", "sentence"),
    [
        ([*SEARCHES, "happy_people"], ["--dataset", "nowhere"], "there is no data set or path 'nowhere'"),
        (SEARCHES, ["--points", "nowhere.json"], "nowhere.json can't be read: No such file"),
    ],
)
def test_files_that_are_not_there_are_told_without_torch_and_ray(names, flags, sentence, tmp_path):
    words = [sys.executable, "-c", REFUSED, json.dumps([names, [*flags, "--preset", "quick"]])]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count(sentence) == len(names), done.stderr
    assert json.loads(done.stdout) == []


def test_a_flag_that_is_typed_twice_loses_nothing():
    words = [
        "--space",
        "a=choice(1,2)",
        "--epochs",
        "3",
        "--set",
        "b=1",
        "--space",
        "c=choice(1,2)",
        "d=uniform(1,2)",
    ]
    config = cli.parse("x", flow.PRESETS, [*words, "--set=e=2"])
    assert config.space == ("a=choice(1,2)", "c=choice(1,2)", "d=uniform(1,2)")
    assert config.set == ("b=1", "e=2") and config.epochs == 3


def test_given_trials_are_given_no_search(tmp_path, capsys):
    points = tmp_path / "points.json"
    points.write_text('[{"learning_rate": 1e-3}]')
    for flag in ("--searcher=ours", "--trainings=3", "--replicates=2", "--warm-start=x", "--num_samples=3"):
        assert flow.main(["--points", str(points), flag, "--preset", "quick"]) == 2
        name = flag.partition("=")[0].replace("_", "-")
        assert f"{name} is for a search, and --points leaves nothing to search" in capsys.readouterr().err


def test_a_gpu_that_is_not_there_is_told_before_data_is_prepared(monkeypatch, tmp_path):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    whole = RunConfig(gpus_per_trial=1, dataset=str(tmp_path))
    for config in (replace(whole, gpus_per_trial=0.5), replace(whole, address="local")):
        with pytest.raises(UsageError, match=r"a trial is to have (0.5|1) GPUs, and torch sees none here"):
            cli.refuse_at_once(config)
    for config in (RunConfig(), replace(whole, gpus_per_trial=0), replace(whole, address="head:6379")):
        cli.refuse_at_once(config)
    monkeypatch.setenv("RAY_ADDRESS", "head:6379")
    cli.refuse_at_once(whole)
    monkeypatch.delenv("RAY_ADDRESS")
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    cli.refuse_at_once(whole)
