"""What a sweep needs beside its settings."""

import shlex
import sys

import pytest

from searchers import happy_people
from searchers.study.config import UsageError, require


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
