"""What `--space`, `--set` and `--points` say: `learning_rate=loguniform(1e-4,3e-3)`, `recipe=larsen`, a file.

The words are the names of Ray Tune's search spaces; `searchers.execution.overlay` makes domains of them.
"""

import ast
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainables.models.settings import nearest

DOMAINS = (
    "uniform",
    "quniform",
    "loguniform",
    "qloguniform",
    "randint",
    "qrandint",
    "lograndint",
    "qlograndint",
    "choice",
)
# Tune's others: what can't be searched is refused by the space, which says why.
REFUSED = ("randn", "qrandn", "sample_from", "grid_search")
WORDS = {"true": True, "false": False, "none": None}


@dataclass(frozen=True)
class Call:
    """A domain as it was typed: its name, and its arguments, which may be domains again."""

    kind: str
    arguments: tuple[Any, ...]


def read_space(texts: Sequence[str]) -> dict[str, Call]:
    """Return the domain of each NAME=DOMAIN(…). Raises ValueError with one sentence."""
    space = {}
    for name, text in _pairs("--space", texts, "latent_dim=choice(32,64)").items():
        value = _parse("--space", name, text)
        if not isinstance(value, Call):
            raise ValueError(
                f"--space {name}={text}: {text} is no range; it is one of {', '.join(DOMAINS)}, such as "
                f"choice({text},…); --set {name}={text} holds it for all trials"
            )
        space[name] = value
    return space


def read_settings(texts: Sequence[str]) -> dict[str, Any]:
    """Return the value of each NAME=VALUE. Raises ValueError with one sentence."""
    settings = {}
    for name, text in _pairs("--set", texts, "gamma=0.1").items():
        value = _parse("--set", name, text)
        if isinstance(value, Call):
            raise ValueError(f"--set {name}={text}: a range is searched; --space {name}={text} does that")
        settings[name] = value
    return settings


def _pairs(flag: str, texts: Sequence[str], example: str) -> dict[str, str]:
    pairs: dict[str, str] = {}
    for text in map(str, texts):  # of a damaged record they may be anything
        name, equals, value = (part.strip() for part in text.partition("="))
        if not (equals and value and all(part.isidentifier() for part in name.split("/"))):
            raise ValueError(f"{flag} {text}: it takes NAME=VALUE, such as {example}")
        if name in pairs:
            raise ValueError(f"{flag} {text}: {name} is given twice")
        pairs[name] = value
    return pairs


def _parse(flag: str, name: str, text: str) -> Any:
    """Return a value, or a `Call` where the text is one. What is no literal is a string, as in a shell."""
    try:
        node = ast.parse(text, mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        kind, bracket, _ = text.removeprefix("tune.").partition("(")
        if bracket and (flag == "--space" or kind in (*DOMAINS, *REFUSED)):
            raise ValueError(f"{flag} {name}={text}: that is no range, such as choice(32,64)") from None
        return text
    return _value(node, f"{flag} {name}={text}", text)


def _value(node: ast.expr, where: str, text: str) -> Any:
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name | ast.Attribute):
        kind = node.func.id if isinstance(node.func, ast.Name) else node.func.attr  # tune.uniform, too
        if kind not in (*DOMAINS, *REFUSED):
            raise ValueError(
                f"{where}: there is no {kind}{nearest(kind, DOMAINS)}; there are {', '.join(DOMAINS)}"
            )
        if node.keywords:
            raise ValueError(f"{where}: arguments have no names here, as in uniform(0.1,1)")
        if kind == "sample_from":  # whatever it is of
            return Call(kind, ())
        return Call(kind, tuple(_value(argument, where, "") for argument in node.args))
    if isinstance(node, ast.List | ast.Tuple):
        return [_value(element, where, "") for element in node.elts]
    if isinstance(node, ast.Name):
        return WORDS.get(node.id.lower(), node.id)
    try:
        return ast.literal_eval(node)
    except (ValueError, TypeError, RecursionError):
        if text:
            return text  # a path, a date: a string
        raise ValueError(f"{where}: {ast.unparse(node)} is no value; put a string in quotes") from None


def listed_points(path: Path) -> list[dict[str, Any]]:
    """Return a file's list of settings: `[{"beta": 76.3, "seed": 1}, …]`, or the same under "points".

    Raises ValueError, in a sentence, where there is no such list.
    """
    try:
        content = json.loads(path.expanduser().read_text())
    except OSError as error:
        raise ValueError(f"{path} can't be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is no JSON: {error}") from error
    points = content.get("points") if isinstance(content, dict) else content
    if not (isinstance(points, list) and points and all(isinstance(p, dict) and p for p in points)):
        raise ValueError(f'{path} holds no list of settings such as [{{"beta": 76.3, "seed": 1}}]')
    return points
