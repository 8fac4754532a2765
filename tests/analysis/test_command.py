"""What every command of analysis does with what goes wrong."""

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from analysis import report
from analysis.command import run_command

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Nothing:
    """No options."""


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (PermissionError(13, "Permission denied", "a.html"), 2, "python -m x: a.html: Permission denied\n"),
        (OSError("cannot identify image"), 2, "python -m x: cannot identify image\n"),
        (KeyboardInterrupt(), 130, "python -m x: interrupted\n"),
    ],
)
def test_files_and_interruptions_are_one_sentence(capsys, error, code, words):
    def fail(config, console):
        """Fail."""
        raise error

    assert run_command("python -m x", Nothing, fail, []) == code
    assert capsys.readouterr().err == words


def test_an_interrupted_command_leaves_at_once():
    """Nothing that its packages do at an exit is waited for: they take seconds."""
    code = """
import atexit, sys
from dataclasses import make_dataclass
from analysis.command import run_command
def interrupted(config, console):
    print("begun")
    raise KeyboardInterrupt
atexit.register(print, "late")
sys.exit(run_command("python -m x", make_dataclass("Nothing", []), interrupted, None))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert (done.returncode, done.stdout) == (130, "begun\n")
    assert done.stderr == "python -m x: interrupted\n"


def test_a_report_goes_into_a_folder_that_is_not_there_yet(client, tmp_path, capsys):
    arguments = ["--sweep", "going-on", "--tracking-uri", client.tracking_uri]
    assert report.main([*arguments, "--output", str(tmp_path / "new" / "page.html")]) == 0
    assert (tmp_path / "new" / "page.html").stat().st_size > 1000
    (tmp_path / "file").touch()
    assert report.main([*arguments, "--output", str(tmp_path / "file" / "page.html")]) == 2
    assert f"{tmp_path}/file" in capsys.readouterr().err
