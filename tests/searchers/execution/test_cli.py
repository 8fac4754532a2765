"""What is told before torch and Ray, which take seconds to import, are there."""

import json
import subprocess
import sys

import pytest

from searchers.execution import cli

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
        (SEARCHES, ["--points", "nowhere.json"], "--points: nowhere.json can't be read: No such file"),
    ],
)
def test_files_that_are_not_there_are_told_without_torch_and_ray(names, flags, sentence, tmp_path):
    words = [sys.executable, "-c", REFUSED, json.dumps([names, [*flags, "--preset", "quick"]])]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count(sentence) == len(names), done.stderr
    assert json.loads(done.stdout) == []


def test_a_gpu_s_device_has_torch_asked_whether_it_can_be_used(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(cli, "Path", lambda _: tmp_path)
    monkeypatch.setattr("torch.cuda.is_available", lambda: asked.append(True) or True)
    assert cli.default_preset() == "quick" and not asked
    (tmp_path / "nvidia0").touch()
    assert cli.default_preset() == "report" and asked
