"""README.md and docs/files.md against the tree: they name every command and every file there is."""

import ast
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
HIDDEN = ("tests", ".github", ".pre-commit-config.yaml")


@pytest.fixture(scope="module")
def text():
    return (ROOT / "README.md").read_text()


def tracked(*patterns):
    listed = subprocess.run(
        ["git", "-C", str(ROOT), "ls-files", *patterns], capture_output=True, text=True, check=False
    )
    if listed.returncode:
        pytest.skip("this is no git checkout")
    return [Path(name) for name in listed.stdout.split()]


def test_every_file_has_its_line():
    tree = (ROOT / "docs" / "files.md").read_text()
    listed, folder = set(), ""
    for line in tree.splitlines():
        if re.fullmatch(r"[\w./]+/", line):
            folder = "" if line == "./" else line
        elif match := re.match(r"  (\S+)\s+\S", line):
            listed.add(folder + match.group(1))
    files = {
        str(p) for p in tracked("*.py", "*.yaml") if p.parts[0] not in HIDDEN and p.name != "__init__.py"
    }
    assert files - listed == set()
    assert {name for name in listed if name.endswith((".py", ".yaml"))} - files == set()


def test_every_command_is_a_module_with_a_main(text):
    modules = set(re.findall(r"python -m ([a-z_]+\.[a-z_]+)", text))
    assert "searchers.beta_vaegan" in modules
    for module in modules:
        path = ROOT / module.replace(".", "/")
        path = path / "__main__.py" if path.is_dir() else path.with_suffix(".py")
        names = {node.name for node in ast.parse(path.read_text()).body if isinstance(node, ast.FunctionDef)}
        assert "main" in names, module


def test_pictures_are_there(text):
    pictures = re.findall(r'src="([^"]+)"', text)
    assert pictures
    assert all((ROOT / picture).stat().st_size > 1000 for picture in pictures)


def test_every_cell_of_the_comparison_links_to_what_it_claims(text):
    lines = text.partition("## Instead of this")[2].partition("\n[")[0].splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]
    (_, _, *rows) = rows
    assert len(rows) > 5
    assert [cell for _, *cells in rows for cell in cells if cell != "–" and "](" not in cell] == []
