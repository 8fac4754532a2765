"""docs/papers.md: it has a line for each paper that the repository cites, and each key."""

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
NAME = r"(?:van den )?[A-Z][\w’-]+"
CITED = re.compile(rf"({NAME} et al\.|{NAME}(?:, {NAME})* & {NAME}),? \(?((?:19|20)\d\d)\b")


@pytest.fixture(scope="module")
def texts():
    """Return the repository's own Python and Markdown files by name."""
    listed = subprocess.run(
        ["git", "-C", str(ROOT), "ls-files", "*.py", "*.md"], capture_output=True, text=True, check=False
    )
    if listed.returncode:
        pytest.skip("this is no git checkout")
    names = [name for name in listed.stdout.split() if (ROOT / name).exists()]
    return {name: (ROOT / name).read_text() for name in names if name != "docs/papers.md"}


def test_every_cited_paper_has_a_line(texts):
    lines = (ROOT / "docs" / "papers.md").read_text()
    listed = set(re.findall(r"^- (.+?) ((?:19|20)\d\d): ", lines, flags=re.MULTILINE))
    cited = {
        (" ".join(name.split()), year): file
        for file, text in texts.items()
        for name, year in CITED.findall(re.sub(r"\n\s*(?:# )?", " ", text))
    }
    assert len(cited) > 30
    assert {paper: file for paper, file in cited.items() if paper not in listed} == {}


def test_every_key_is_defined(texts):
    page = (ROOT / "docs" / "papers.md").read_text()
    keys = {key for text in texts.values() for key in re.findall(r"\[(BVG|LEGO|HP|PML)\]", text)}
    assert keys == {"BVG", "LEGO", "HP", "PML"}
    assert all(f"| [{key}] |" in page for key in keys)
