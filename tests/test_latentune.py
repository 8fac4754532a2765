"""The command `latentune`: it finds its commands, starts fast, and works in any folder."""

import ast
import os
import shlex
import subprocess
import sys
from dataclasses import make_dataclass
from pathlib import Path
from typing import Annotated

import pytest

import latentune
from latentune import COMMANDS, called, gathered, line_of, main, typed, words_of

ROOT = Path(__file__).resolve().parents[1]
HEAVY = ("torch", "ray", "mlflow", "numpy", "pandas", "tyro", "rich", "matplotlib")


def entry_points():
    """Yield the modules of the packages that have a `main` and call it when they are run."""
    for package in ("trainables", "searchers", "analysis", "cluster"):
        for path in (ROOT / package).rglob("*.py"):
            text = path.read_text()
            if '__name__ == "__main__"' in text and "\ndef main(" in text:
                yield ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__main__")


def test_every_module_that_can_be_run_is_a_command():
    own_environment = {"trainables.data.crop_faces"}  # facenet-pytorch pins an old torch
    assert {command.module for command in COMMANDS.values()} == set(entry_points()) - own_environment


def test_help_is_a_line_a_command(capsys):
    assert main(["--help"]) == main([]) == 0
    printed = capsys.readouterr().out
    assert all(f"latentune {name} " in printed for name in COMMANDS)
    assert main(["sweep"]) == 0
    printed = capsys.readouterr().out
    assert "latentune sweep lego_vae" in printed and "winners" not in printed


def test_help_and_version_import_nothing_heavy():
    """They answer at once, where PyTorch, Ray and MLflow take seconds."""
    code = (
        "import latentune, sys; latentune.main(['--help']); latentune.main(['--version']); "
        f"print([name for name in {HEAVY!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize(
    ("words", "known"),
    [(["winer"], "winners"), (["sweep", "vaegan"], "sweep beta_vaegan"), (["-x"], "report")],
)
def test_a_wrong_command_is_answered_by_the_right_ones(words, known, capsys):
    assert main(words) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"latentune: there is no command {' '.join(words)!r}") and known in said


@pytest.mark.parametrize("name", ["beta_vaegan", "beta-vaegan"])
def test_a_command_gets_what_stands_behind_its_name(name, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["/env/bin/latentune", "sweep", name, "--epochs", "3"])
    seen = []
    monkeypatch.setattr(
        "searchers.beta_vaegan.main",
        lambda: seen.append((sys.argv[1:], called("python -m searchers.beta_vaegan"))) or 7,
    )
    assert main() == 7
    assert seen == [(["--epochs", "3"], "latentune sweep beta_vaegan")]


def test_a_package_is_called_by_its_main_module(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["latentune", "data", "info", "/no/such/store"])
    assert main() == 2
    assert capsys.readouterr().err.startswith(
        "latentune data: there is no store '/no/such/store'; `latentune data "
    )


def test_python_m_keeps_its_name(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["/checkout/analysis/winners.py", "--sweep", "x"])
    assert called("python -m analysis.winners") == "python -m analysis.winners"


def test_the_next_command_is_this_environment_s_or_python_s_where_it_is_not_installed(tmp_path, monkeypatch):
    folder = tmp_path / "my env"
    folder.mkdir()
    monkeypatch.setattr(sys, "executable", str(folder / "python"))
    assert words_of("analysis.winners", "-s", "a b") == [
        str(folder / "python"),
        "-m",
        "analysis.winners",
        "-s",
        "a b",
    ]
    (folder / "latentune").touch()
    words = words_of("python -m analysis.winners", "-s", "a b")
    assert words == [str(folder / "latentune"), "winners", "-s", "a b"]
    assert words_of("my.program")[1:] == ["-m", "my.program"]  # no command of ours
    monkeypatch.chdir(tmp_path)
    assert line_of(words) == "'my env/latentune' winners -s 'a b'"
    assert shlex.split(line_of(words))[1:] == words[1:]


def test_folders_of_the_packages_names_hide_nothing(tmp_path):
    """Beside a clone, or where a cache lies, a folder is called latentune; a module of that name is meant."""
    for name in ("latentune", "analysis"):
        (tmp_path / name).mkdir()
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    code = "from latentune import called; from analysis.winners import WinnersConfig"
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, check=True)


def test_completion_knows_every_command_and_its_flags(capsys):
    with pytest.raises(SystemExit):
        main(["completion", "zsh"])
    script = capsys.readouterr().out
    spec = next(line for line in script.splitlines() if line.startswith("COMPLETION_SPEC = "))
    tree = ast.literal_eval(spec.removeprefix("COMPLETION_SPEC = "))
    for name in COMMANDS:
        node = tree
        for word in name.split():
            node = node["subcommands"][word]
        flags = {flag for option in node["options"] for flag in option["flags"]}
        if name.startswith("sweep "):
            assert {"--dataset", "--resume"} < flags
    assert set(tree["subcommands"]["data"]["subcommands"]) == {"convert", "info", "verify", "publish"}
    assert main(["completion", "powershell"]) == 2


def test_the_script_is_declared():
    assert '[project.scripts]\nlatentune = "latentune:main"\n' in (ROOT / "pyproject.toml").read_text()
    assert callable(latentune.main)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("--set a=1 --epochs 3 --set b=2 c=3", "--epochs 3 --set a=1 b=2 c=3"),
        (
            "--set=a=1 own:Model --two_words x --set b=2 --two-words -1 y",
            "--set a=1 own:Model b=2 --two-words x -1 y",
        ),
        ("--set a -s name --set b", "-s name --set a b"),
        ("--epochs 1 --epochs 2 --on", "--epochs 1 --epochs 2 --on"),
    ],
)
def test_a_flag_that_is_given_twice_has_all_that_it_was_given(words, expected):
    options = make_dataclass(
        "Options", [("set", tuple[str, ...]), ("two_words", Annotated[tuple[int, ...], ""]), ("epochs", int)]
    )
    assert gathered(words.split(), options) == expected.split()


def test_the_settings_that_are_typed_are_known_by_their_flags():
    words = [
        "own:Model",
        "--epochs=3",
        "--no-early-stopping",
        "--num_samples",
        "3",
        "--set",
        "no=1",
        "--dry-run",
    ]
    assert typed(words) == {"epochs", "early_stopping", "num_samples", "set", "dry_run"}
