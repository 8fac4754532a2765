"""The site and the README against the code: their commands parse, their pages build."""

import importlib
import inspect
import re
import shlex
from dataclasses import fields
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import get_args

import pytest
import torch
import tyro

from latentune import COMMANDS, COMPLETION, SHELLS

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")])
# What is no command of this project: it stands in the pages as its own documentation has it.
OTHERS = {"cd", "curl", "echo", "git", "kubectl", "mlflow", "pip", "ray", "rsync", "sky", "source", "ssh"}
# Flags of those, which a text names.
OTHERS_FLAGS = {"tmux", "port-forward", "help", "version", "shm-size", "env-manager"}
# Where values are named and not typed.
STANDS_FOR = {"N": "1", "PORT": "5000"}


@cache
def options(name):
    """Return the type of a command's options."""
    command = COMMANDS[name]
    module = importlib.import_module(command.module)
    if not hasattr(module, command.options.split()[0]):
        module = importlib.import_module(f"{command.module}.__main__")
    kinds = [getattr(module, kind) for kind in command.options.split()]
    found = kinds[0]
    for kind in kinds[1:]:
        found = found | kind
    return found


def blocks(text):
    """Yield language and lines of each fenced block, and None and the lines between them."""
    language, found = None, []
    for line in text.splitlines():
        if line.startswith("```"):
            yield language, found
            language, found = (line[3:].strip() if language is None else None), []
        else:
            found.append(line)
    yield language, found


def commands():
    """Yield page and command: each line of a block without a language, and in a text each one with flags."""
    for page in PAGES:
        if page.name == "files.md":  # it lists files
            continue
        name = str(page.relative_to(ROOT))
        for language, found in blocks(page.read_text()):
            if language == "":
                whole = "\n".join(found).replace("\\\n", " ")
                for line in filter(
                    None, (re.split(r"\s#\s", line)[0].strip() for line in whole.splitlines())
                ):
                    for part in single(line):
                        yield name, part
            elif language is None:
                for line in re.findall(r"`((?:latentune|python -m) [^`\n]* --[^`\n]+)`", "\n".join(found)):
                    yield name, line


def single(line):
    """Return the single commands of a line, and of what `ray exec` is to run elsewhere."""
    inner = [part for text in re.findall(r"'(cd latentune && [^']+)'", line) for part in text.split(" && ")]
    outside = re.sub(r"'[^']*'", lambda match: match[0].replace("&&", "and"), line)
    return [*outside.split(" && "), *inner]


def parses(words):
    """Raise SystemExit where the real parser of a command refuses its words."""
    name = next(n for length in (2, 1) if (n := " ".join(words[:length]).replace("-", "_")) in COMMANDS)
    rest = [STANDS_FOR.get(word, word) for word in words[len(name.split()) :]]
    tyro.cli(options(name), args=rest, config=[tyro.conf.SuppressFixed])


MODULES = {command.module: name for name, command in COMMANDS.items()}


def checked(command):
    """Check one command; return what kind it is."""
    words = shlex.split(command)
    if words[0] == "latentune" and words[1:]:
        if "COMMAND" in words or words[1].startswith("-"):
            return "general"
        if words[1] == COMPLETION:
            assert words[2] in (*SHELLS, "SHELL")
        else:
            parses(words[1:])
        return "ours"
    if words[:2] == ["python", "-m"]:
        if words[2] in MODULES:
            parses([*MODULES[words[2]].split(), *words[3:]])
            return "ours"
        assert find_spec(words[2]) or words[2].startswith("http"), command
        return "module"
    if words[0] == "make":
        targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)
        assert all(word in targets for word in words[1:] if "=" not in word), command
        return "make"
    assert words[0].rpartition("/")[2] in OTHERS, command
    return "other"


def test_every_command_parses(capsys):
    kinds, refused = set(), {}
    for page, command in commands():
        try:
            kinds.add(checked(command))
        except (SystemExit, AssertionError, StopIteration, ValueError) as error:
            refused[page, command] = f"{error!r} {capsys.readouterr().err}"
    assert refused == {}
    assert kinds == {"ours", "other", "make", "module", "general"}


def test_every_flag_is_one(capsys):
    known = set()
    for name in COMMANDS:
        kinds = [options(name)] if inspect.isclass(options(name)) else get_args(options(name))
        known |= {field.name.replace("_", "-") for kind in kinds for field in fields(kind)}
    named = {
        (page.name, flag)
        for page in PAGES
        for flag in re.findall(r"`--(?:no-)?([a-z][a-z-]+)[ `=]", page.read_text())
    }
    assert {flag for _, flag in named} > {"space", "set", "searcher", "resume"}
    assert {(page, flag) for page, flag in named if flag not in known | OTHERS_FLAGS} == set()


def test_every_command_has_its_line():
    page = (ROOT / "docs" / "reference" / "index.md").read_text()
    lines = [f"| `latentune {name}` | `{command.module}` |" for name, command in COMMANDS.items()]
    assert [line for line in lines if line not in page] == []


def test_no_page_asks_another_host():
    """A link may lead there; what a page loads may not. `make lint` has built the pages."""
    pages = {path: path.read_text() for path in (ROOT / "site").rglob("*.html")}
    if not pages:
        pytest.skip("the site is not built; make docs does it")
    assert len(pages) > 40
    loaded = r"""<(?:script|img|iframe|link)[^>]*(?:src|href)=["']?(?:https?:)?//[^>]*>"""
    assert {tag for text in pages.values() for tag in re.findall(loaded, text)} == set()


def python_of(page, word):
    """Return the block of Python of a page that holds a word."""
    found = [
        "\n".join(lines) for language, lines in blocks((ROOT / page).read_text()) if language == "python"
    ]
    (code,) = [block for block in found if word in block]
    return code


def test_the_small_model_is_the_one_that_is_tested():
    tested = (ROOT / "docs" / "examples" / "tiny.py").read_text().partition("\n\n")[2].strip()
    assert python_of("README.md", "class Tiny") == python_of("docs/own_model.md", "class Tiny") == tested


def test_the_scores_of_the_guide_are_numbers():
    found = {}
    exec(python_of("docs/howto/own_score.md", "def sharpness"), found)
    flat, edge = torch.zeros((2, 8, 8, 3), dtype=torch.uint8), torch.zeros((2, 8, 8, 3), dtype=torch.uint8)
    edge[:, 4:] = 255
    assert float(found["sharpness"](None, flat)["sharpness"]) == 0
    assert float(found["sharpness"](None, edge)["sharpness"]) == pytest.approx(1 / 7)
    assert found["embed"](torch.ones((2, 3, 8, 8))).shape == (2, 3)


def test_the_drawing_of_the_data_flow_is_its_scripts(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "docs"))
    drawings = importlib.import_module("drawings")
    for theme in drawings.THEMES:
        path = drawings.FIGURES / f"data_flow_{theme}.svg"
        assert path.read_text() == drawings.data_flow(theme)
