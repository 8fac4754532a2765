"""What a benchmark measured: JSON lines in a file of its name beside the scripts, and tables made of them."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent


def read(name: str, part: str | None = None) -> list[dict[str, Any]]:
    """Return the rows of a record, or of one part of it; none where it has not been made."""
    path = FOLDER / f"{name}.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    return [row for row in rows if part in (None, row.get("part"))]


def add(name: str, row: dict[str, Any]) -> None:
    """Append a row to a record, and print it."""
    with (FOLDER / f"{name}.jsonl").open("a") as file:
        file.write(json.dumps(row) + "\n")
    print(row, flush=True)


def renew(name: str, part: str, rows: Iterable[dict[str, Any]]) -> None:
    """Put rows in the place of those that the record has of a part."""
    kept = [row for row in read(name) if row["part"] != part]
    lines = (json.dumps(row) + "\n" for row in [*kept, *({"part": part} | row for row in rows)])
    (FOLDER / f"{name}.jsonl").write_text("".join(lines))


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a table in Markdown, its first column to the left and the others to the right."""
    first, *others = ("| " + " | ".join(cells) + " |" for cells in (header, *rows))
    print("\n".join([first, "|---|" + "--:|" * (len(header) - 1), *others]) + "\n")
