"""What `--help` of a sweep says: its settings in groups, one or two lines each, with this preset's values."""

import ast
import inspect
import textwrap
from collections.abc import Iterator
from dataclasses import fields
from typing import Any, Literal, get_args, get_origin, get_type_hints

import tyro
from rich.console import Console
from rich.table import Table
from rich.text import Text

from searchers.study.config import RunConfig

# What is in no group is the study's own, and comes first.
GROUPS = {
    "images": ("dataset", "dataset_limit", "data_root", "crop", "image_size", "channels", "flip"),
    "training of a trial": ("epochs", "batch_size", "width", "precision", "compile", "set", "seed"),
    "score": ("features", "inception_weights", "evaluation_samples", "evaluate_every"),
    "search": ("space", "searcher", "surrogate", "warm_start", "share", "points"),
    "budget": ("num_samples", "trainings", "early_stopping", "grace_epochs", "replicates"),
    "machine": ("cpus_per_trial", "gpus_per_trial", "max_concurrent", "on", "attach", "address"),
    "sweep and its record": ("name", "resume", "dry_run", "dashboard", "results", "storage", "tracking_uri"),
}
FLAG = 28  # letters of a flag with what it takes
NAMES = {int: "N", float: "X", str: "TEXT"}


def show_help(program: str, config: RunConfig, console: Console) -> None:
    """Print the settings that a command offers, with the values that `config` has."""
    kind = type(config)
    said, hints = docstrings(kind), get_type_hints(kind, include_extras=True)
    offered = [field.name for field in fields(config) if field.name not in kind.unused]
    grouped = {name for names in GROUPS.values() for name in names}
    groups = {"this study": [name for name in offered if name not in grouped]}
    groups |= {title: [n for n in names if n in offered] for title, names in GROUPS.items()}
    console.print(f"usage: {program} SETTINGS", soft_wrap=True, markup=False)
    console.print(f"In brackets: the values of --preset {config.preset}", markup=False)
    for title, names in groups.items():
        if not names:
            continue
        table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
        table.add_column(width=FLAG, style="cyan")
        table.add_column()
        for name in names:
            table.add_row(*(Text(word) for word in row(name, hints[name], getattr(config, name), said[name])))
        console.print(Text(f"\n{title}", "bold"))
        console.print(table)


def row(name: str, hint: Any, value: Any, text: str) -> tuple[str, str]:
    """Return how a setting is typed, and what it means; one that is on is typed to be off."""
    word = f"--{name.replace('_', '-')}"
    positional, words = typed(hint)
    if isinstance(value, bool):
        return (f"--no-{word.removeprefix('--')}" if value else word), text
    if "," in words and len(word) + len(words) >= FLAG:
        words, text = "WORD", f"{text}; one of {words.strip('{}').replace(',', ', ')}"
    if value not in (None, ()):
        text = f"{text} [{' '.join(map(str, value)) if isinstance(value, tuple) else value}]"
    return (words if positional else f"{word} {words}"), text


def typed(hint: Any) -> tuple[bool, str]:
    """Return whether a value stands without its flag, and what stands for it."""
    if hasattr(hint, "__metadata__"):
        given = [m for m in hint.__metadata__ if getattr(m, "metavar", None)]
        positional, words = typed(hint.__origin__)
        return positional or tyro.conf.Positional in hint.__metadata__, given[0].metavar if given else words
    if get_origin(hint) is Literal:
        return False, "{" + ",".join(map(str, get_args(hint))) + "}"
    if get_origin(hint) is tuple:
        words = typed(get_args(hint)[0])[1]
        return False, words if "," in words else f"{words} …"
    kinds = [k for k in get_args(hint) if k is not type(None)]
    return typed(kinds[0]) if kinds else (False, NAMES.get(hint, "TEXT"))


def docstrings(kind: type) -> dict[str, str]:
    """Return the string that stands under each field of a dataclass or of a class that it inherits."""
    found: dict[str, str] = {}
    for base in reversed(kind.__mro__[:-1]):
        found |= dict(_docstrings_of(base))
    return found


def _docstrings_of(kind: type) -> Iterator[tuple[str, str]]:
    (body,) = ast.parse(textwrap.dedent(inspect.getsource(kind))).body
    assert isinstance(body, ast.ClassDef)
    for field, text in zip(body.body, body.body[1:], strict=False):
        if (
            isinstance(field, ast.AnnAssign)
            and isinstance(field.target, ast.Name)
            and isinstance(text, ast.Expr)
        ):
            yield field.target.id, " ".join(str(ast.literal_eval(text.value)).split())
