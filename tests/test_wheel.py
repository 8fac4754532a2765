"""A wheel of this checkout, in an environment and a folder that have nothing of it."""

import os
import re
import shutil
import site
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("trainables", "searchers", "analysis", "cluster")
TINY = "--dataset-limit 60 --image-size 16 --width 0.125 --batch-size 8 --epochs 1 --num-samples 2"
TINY += " --evaluation-samples 20 --grace-epochs 1 --name whole"
PATIENCE = 1200  # seconds
FROM_OUTSIDE = {"PYTHONPATH", "MLFLOW_TRACKING_URI", "RAY_ADDRESS"}
ENVIRONMENT = {name: value for name, value in os.environ.items() if name not in FROM_OUTSIDE}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Build the wheel from a copy, as the build leaves its folders behind."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    source.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE", "latentune.py"):
        shutil.copy(ROOT / name, source)
    for name in PACKAGES:
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*build, "--wheel-dir", str(folder), str(source)], check=True)
    (built,) = folder.glob("latentune-*.whl")
    return built


@pytest.fixture(scope="module")
def environment(wheel, tmp_path_factory):
    """An environment with the wheel, which finds the packages that it depends on where the tests do."""
    folder = tmp_path_factory.mktemp("env")
    venv.create(folder, with_pip=False, symlinks=True)
    packages = next(folder.glob("lib/python*/site-packages"))
    install = [sys.executable, "-m", "pip", "--python", str(folder / "bin" / "python"), "install", "--quiet"]
    subprocess.run([*install, "--no-deps", "--no-index", str(wheel)], env=ENVIRONMENT, check=True)
    # Without their .pth files, by which an editable installation of the checkout would be found.
    (packages / "dependencies.pth").write_text("\n".join(site.getsitepackages()))
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A user's folder whose own packages have the names of ours."""
    folder = tmp_path_factory.mktemp("project")
    for name in PACKAGES:
        (folder / name).mkdir()
        (folder / name / "__init__.py").write_text("raise ImportError('the user\\'s own package')")
    return folder


def run(environment, folder, *words):
    command = [str(environment / "bin" / "latentune"), *words]
    return subprocess.run(
        command, cwd=folder, env=ENVIRONMENT, capture_output=True, text=True, timeout=PATIENCE
    )


def test_it_holds_what_the_commands_need(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        (metadata,) = (archive.read(name).decode() for name in names if name.endswith(".dist-info/METADATA"))
    assert {"latentune.py", "analysis/report.html", "searchers/bayesopt/gp.py"} < names
    assert {f"{package}/py.typed" for package in PACKAGES} < names
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert not any(name.startswith(("tests/", "benchmarks/")) for name in names)
    assert "License-Expression: Apache-2.0" in metadata and "Author: The latentune authors" in metadata
    required = re.findall(r"^Requires-Dist: (.*)$", metadata, re.MULTILINE)
    assert not [line for line in required if "==" in line.partition(";")[0]]  # pins are the lock's


def test_it_says_its_version(environment, folder):
    said = run(environment, folder, "--version").stdout
    assert re.fullmatch(r"latentune \d+\.\d+\.\d+\n", said)


@pytest.mark.slow
@pytest.mark.timeout(PATIENCE)
def test_the_main_job_and_what_it_says_to_type_next_run_beside_packages_of_the_same_names(
    environment, folder
):
    done = run(environment, folder, "sweep", "beta_vaegan", *TINY.split())
    assert done.returncode == 0, done.stdout + done.stderr
    (typed,) = re.findall(r"can that be told\? (.*)$", done.stdout, re.MULTILINE)
    assert typed == f"{environment}/bin/latentune winners --sweep whole"
    told = run(environment, folder, *typed.split()[1:])
    assert told.returncode == 0, told.stdout + told.stderr
    assert "trial" in told.stdout
    resumed = run(environment, folder, "sweep", "beta_vaegan", "--resume", "whole")
    assert resumed.returncode == 0, resumed.stdout + resumed.stderr
