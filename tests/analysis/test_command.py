"""What every command of analysis does with what goes wrong."""

from dataclasses import dataclass

import pytest

from analysis import report
from analysis.command import run_command


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


def test_a_report_goes_into_a_folder_that_is_not_there_yet(client, tmp_path, capsys):
    arguments = ["--sweep", "going-on", "--tracking-uri", client.tracking_uri]
    assert report.main([*arguments, "--output", str(tmp_path / "new" / "page.html")]) == 0
    assert (tmp_path / "new" / "page.html").stat().st_size > 1000
    (tmp_path / "file").touch()
    assert report.main([*arguments, "--output", str(tmp_path / "file" / "page.html")]) == 2
    assert f"{tmp_path}/file" in capsys.readouterr().err
