"""What a sweep needs beside its settings."""

import shlex
import sys
from pathlib import Path

import pytest

from searchers import happy_people, sweeps
from searchers.baselines import BaselinesConfig
from searchers.happy_people import HappyPeopleConfig
from searchers.study.config import Role, RunConfig, SweepConfig, UsageError, having, require
from searchers.study.given import listed_points


def test_missing_packages_are_named_as_they_are_installed():
    require("This", {"json": "json"})
    with pytest.raises(UsageError) as raised:
        require("This", {"json": "json", "no_such_module": "no-such-package"})
    command = shlex.join([sys.executable, "-m", "pip", "install", "no-such-package"])
    assert str(raised.value) == f"This needs what is not installed: {command}"


def test_happy_people_without_its_extra_says_what_to_install(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("searchers.study.config.find_spec", lambda name: None if name == "xgboost" else True)
    assert happy_people.main(["--preset", "quick"]) == 2
    assert capsys.readouterr().err.rstrip().endswith("pip install xgboost")
    assert not list(tmp_path.iterdir())


def test_the_home_folder_is_found_where_a_shell_leaves_its_sign(tmp_path, monkeypatch, capsys):
    """As in --results=~/runs, and from Python."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert RunConfig(results="~/runs").results == str(tmp_path / "runs")
    assert RunConfig(results="~/runs", on="ray_cluster.yaml").results == "~/runs"  # that machine's
    (tmp_path / "points.json").write_text('[{"beta": 1}]')
    assert listed_points(Path("~/points.json")) == [{"beta": 1}]
    assert sweeps.main(["--results=~/runs"]) == 0
    assert str(tmp_path / "runs") in capsys.readouterr().out.replace("\n", "")


def test_each_setting_of_a_role_is_named_once_with_it():
    changing = {"dataset", "data_root", "inception_weights", "max_concurrent", "results", "tracking_uri"}
    assert set(having(RunConfig, Role.MAY_CHANGE)) == changing | {"address"}
    assert set(having(SweepConfig, Role.MAY_CHANGE)) == changing | {"address", "share"}
    assert set(having(RunConfig, Role.COMMAND)) == {"resume", "on", "attach", "dashboard", "dry_run"}
    assert having(HappyPeopleConfig, Role.FILE) == ["inception_weights", "scorer_weights"]
    # What a command does not offer keeps its role.
    assert having(BaselinesConfig, Role.SEARCH) == having(SweepConfig, Role.SEARCH)
