"""Numbers, names and symbols on any terminal and in any file's name."""

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.charts.text import duration, file_name, number, percent, with_deviation


def test_numbers_as_people_read_them():
    assert [number(v) for v in (137.4567, float("nan"), 3, "adam")] == ["137.5", "–", "3", "adam"]
    assert with_deviation(137.4567, 2.345) == "137.5 ± 2.3" and with_deviation(5, float("nan")) == "5"
    assert [percent(p) for p in (0.0, 0.5, 1.0, float("nan"))] == ["< 1 %", "50 %", "> 99 %", "–"]
    assert [duration(s) for s in (0.2, 89, 5000, 7200)] == ["1 s", "89 s", "83 min", "2.0 h"]


@given(st.text())
def test_any_name_is_one_file_in_its_folder(name):
    found = file_name(name)
    assert Path(found).name == found and not found.startswith((".", "-"))
    assert len(f"{found}-seeds.html".encode()) < 255


@pytest.mark.parametrize(
    ("name", "expected"),
    [("run-1", "run-1"), ("../../x", "_.._x"), ("/etc/passwd", "_etc_passwd"), ("..", "_"), ("-rf", "rf")],
)
def test_a_name_leaves_no_folder(name, expected):
    assert file_name(name) == expected


WORDS = "run[v2] [/red] :smile: β ± 2 \udce9"
SCRIPT = (
    "import sys; from analysis.charts.text import accept_any_text, console; from rich.table import Table\n"
    "accept_any_text(); words = sys.argv[1]; c = console(); c.print(words, soft_wrap=True)\n"
    "table = Table(title=words); table.add_column(words); table.add_row(words); c.print(table)\n"
    "console(stderr=True).print(words, soft_wrap=True)\n"
)


@pytest.mark.parametrize(
    ("encoding", "expected"),
    [
        ("utf-8", "run[v2] [/red] :smile: β ± 2 ?"),
        ("ascii", "run[v2] [/red] :smile: beta +/- 2 ?"),
        ("latin-1", "run[v2] [/red] :smile: beta ± 2 ?"),
    ],
)
def test_text_is_printed_as_it_is_on_any_terminal(encoding, expected):
    """Nothing in it is markup, and what the terminal's encoding lacks is spelled out."""
    environment = os.environ | {"PYTHONIOENCODING": encoding, "PYTHONPATH": os.getcwd()}
    command = [sys.executable, "-c", SCRIPT, WORDS.encode("utf-8", "surrogateescape")]
    done = subprocess.run(command, env=environment, capture_output=True)
    assert done.returncode == 0, done.stderr
    out = io.TextIOWrapper(io.BytesIO(done.stdout), encoding).read()
    assert out.splitlines()[0] == expected and out.count(expected) == 4
    assert done.stderr.decode(encoding).splitlines() == [expected]
