"""A table of trials for a console of any size: what matters less gives way, what matters most never does.

Columns are as wide as what is in them. Where a console is too narrow for that, first the reasons get shorter
and then stand under the table, then the columns' names go over several lines and numbers lose a digit, then
a state is a mark, and last the settings stand in a line of their own under their trial. Where it is too low,
the rows at the end give way, and are counted.
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rich.cells import cell_len, set_cell_size
from rich.text import Text

from analysis.charts.text import SYMBOLS
from searchers.display.snapshot import Row, Told
from searchers.display.standing import WAITING
from searchers.record.schema import DIVERGED, FAILED, FINISHED, RUNNING, STOPPED

STYLES = {
    FINISHED: "green",
    STOPPED: "yellow",
    DIVERGED: "magenta",
    FAILED: "red",
    RUNNING: "bold",
    WAITING: "dim",
}
MARKS = {FINISHED: "●", STOPPED: "▼", DIVERGED: "✖", FAILED: "■", RUNNING: "▶", WAITING: "‖"}
LONGEST = 24  # letters of a setting that is a word
SHORT = 8  # where there is little room
HEAD = 6  # letters of a name's part where names go over several lines
COUNTED = 2  # states of the rows that are not shown
REASON = 12  # least letters of a reason: an error is cut to what room there is


@dataclass(frozen=True)
class Fit:
    """How much of a table is shown."""

    reasons: str = "why"
    """of a trial's state: "why", "brief", or "" for none"""
    derived: bool = True
    deviations: bool = True
    tall: bool = False
    """columns' names go over several lines, and numbers have three digits"""
    marks: bool = False
    """states are marks"""
    apart: bool = False
    """a trial's settings stand in lines of their own"""

    @property
    def gap(self) -> int:
        """Letters between columns."""
        return 1 if self.marks else 2


FITS = (
    Fit(),
    Fit(derived=False),
    Fit(derived=False, deviations=False),
    Fit("brief", derived=False, deviations=False),
    Fit("brief", derived=False, deviations=False, tall=True),
    Fit("", derived=False, deviations=False, tall=True),
    Fit("", derived=False, deviations=False, tall=True, marks=True),
    Fit("", derived=False, deviations=False, tall=True, marks=True, apart=True),
)


@dataclass(frozen=True)
class Column:
    """A column's name, in one line or several, and its cells."""

    head: tuple[str, ...]
    cells: tuple[str, ...]
    left: bool = False

    @property
    def width(self) -> int:
        """Letters of the widest of them."""
        return max(map(cell_len, (*self.head, *self.cells)), default=0)

    def line(self, text: str) -> str:
        """Return a text as wide as the column."""
        padding = " " * (self.width - cell_len(text))
        return text + padding if self.left else padding + text


def short_name(name: str) -> str:
    """Return a metric's or a setting's name as a column's head has it."""
    if name.startswith(("fd_", "kid_")) or name in ("fid", "kid"):
        return name.partition("_")[0].upper()
    return SYMBOLS[name] if name in ("beta", "beta_norm") else name.rpartition("/")[2]


def cell(value: Any, digits: int = 4) -> str:
    """Format a setting or a score; what is not known is a dash."""
    if not isinstance(value, float):
        return clipped(str(value), LONGEST if digits == 4 else SHORT)
    if not math.isfinite(value):
        return "–"
    if digits < 4 and 0 < abs(value) < 0.001:
        digits = 2
    mantissa, e, exponent = f"{value:.{digits}g}".partition("e")
    return f"{mantissa}e{int(exponent)}" if e else mantissa


def clipped(text: str, width: int) -> str:
    """Return a text of at most so many letters."""
    return text if cell_len(text) <= width else f"{set_cell_size(text, width - 1)}…"


def columns_of(rows: Sequence[Row], told: Told, fit: Fit) -> list[Column]:
    """Return the columns that a fit has room for; the last one is of states."""
    digits = 3 if fit.tall else 4

    def column(name: str, cells: Sequence[str]) -> Column:
        """Make a column; where names go over several lines, no part of one is wider than the cells."""
        if not fit.tall:
            return Column((name,), tuple(cells))
        wide = max([1 if fit.marks else HEAD, *map(cell_len, cells)])
        return Column(
            tuple(set_cell_size(word, min(wide, cell_len(word))) for word in name.split("_")), tuple(cells)
        )

    def score(row: Row) -> str:
        known = fit.deviations and math.isfinite(row.std)
        return cell(row.score, digits) + (f" ± {row.std:.2g}" if known else "")

    numbers = tuple(f"{'★' * row.best}{row.number}" for row in rows)
    columns = [Column(("#" if fit.tall else "trial",), numbers)]
    if not fit.apart:
        for k, name in enumerate(told.dimensions):
            columns.append(column(short_name(name), [cell(row.settings[k], digits) for row in rows]))
    for name in rows[0].derived if fit.derived and rows and not told.further else ():
        columns.append(column(short_name(name), [cell(row.derived[name], digits) for row in rows]))
    if fit.marks:
        columns.append(Column(("ep.", f"/{told.epochs}"), tuple(str(row.epoch) for row in rows)))
    else:
        columns.append(column("epoch", [f"{row.epoch}/{told.epochs}" for row in rows]))
    columns.append(column(short_name(told.metric), [score(row) for row in rows]))
    for k, name in enumerate(told.further):
        columns.append(column(short_name(name), [cell(row.further[k], digits) for row in rows]))
    alert = ["!" if row.wrong and fit.reasons != "why" else "" for row in rows]
    states = [MARKS.get(row.state, row.state) if fit.marks else row.state for row in rows]
    states = [state + sign for state, sign in zip(states, alert, strict=True)]
    columns.append(Column(("",) if fit.marks else ("state",), tuple(states), left=True))
    return columns


def rung_words(row: Row, fit: Fit) -> str:
    """Return what a trial's last rung says of it, as long as a fit has room for it."""
    return {"why": row.why, "brief": row.brief, "": ""}[fit.reasons]


def reason(row: Row, fit: Fit) -> str:
    """Return what stands behind a row: what its rung says, and what looks wrong."""
    return "; ".join(filter(None, (rung_words(row, fit), row.wrong))) if fit.reasons else ""


def fitting(rows: Sequence[Row], told: Told, width: int) -> Fit:
    """Return the first fit that is no wider than the console; else the narrowest.

    What rungs say must have room; an error or a health flag is cut where there is none.
    """
    for fit in FITS:
        columns = columns_of(rows, told, fit)
        behind = max(
            [REASON * any(row.wrong for row in rows), *(cell_len(rung_words(row, fit)) for row in rows)]
        )
        needed = behind + fit.gap if fit.reasons and behind else 0
        if sum(column.width + fit.gap for column in columns) - fit.gap + needed <= width:
            return fit
    return FITS[-1]


def table_lines(rows: Sequence[Row], told: Told, width: int, height: float = math.inf) -> list[Text]:
    """Return the table's lines: its head, then the rows that there is room for, then how many are left.

    height: lines at most.
    """
    fit = fitting(rows, told, width)
    columns = columns_of(rows, told, fit)
    tall = max(len(column.head) for column in columns)
    heads = [[*[""] * tall, *column.head][-tall:] for column in columns]
    behind = {"why": "why", "brief": "place", "": ""}[
        fit.reasons if any(reason(r, fit) for r in rows) else ""
    ]
    said = ["", *[""] * tall, behind][-tall:]
    lines = [_line(columns, [head[k] for head in heads], fit, "bold", said[k]) for k in range(tall)]
    shown = 0
    for k, row in enumerate(rows):
        style = "bold green" if row.best else STYLES.get(row.state, "")
        texts = [column.cells[k] for column in columns]
        block = [
            _line(columns, texts, fit, style, reason(row, fit)),
            *(_settings(row, told, width) if fit.apart else []),
        ]
        if k and len(lines) + len(block) + (k + 1 < len(rows)) > height:
            break
        lines += block
        shown += 1
    if shown < len(rows):
        lines.append(Text(_rest(rows[shown:], fit), "dim"))
    for line in lines:
        line.truncate(width, overflow="ellipsis")
    return lines


def legend(rows: Sequence[Row], told: Told, width: int) -> str:
    """Say what the marks of states mean, where states are marks; else nothing."""
    if not fitting(rows, told, width).marks:
        return ""
    states = dict.fromkeys(row.state for row in rows)
    return ", ".join(f"{MARKS[state]} {state}" for state in states if state in MARKS)


def _rest(rows: Sequence[Row], fit: Fit) -> str:
    """Count the rows that there is no room for."""
    counts = Counter(MARKS.get(row.state, row.state) if fit.marks else row.state for row in rows)
    said = ", ".join(f"{count} {state}" for state, count in counts.most_common(COUNTED))
    other = counts.total() - sum(count for _, count in counts.most_common(COUNTED))
    return f"{len(rows)} more: {said}{f', {other} other' if other else ''}"


def _settings(row: Row, told: Told, width: int) -> list[Text]:
    """Return the lines of a trial's settings, which never break within one."""
    said = zip(told.dimensions, row.settings, strict=True)
    lines = [""]
    for text in (f"  {short_name(name)} {cell(value, 3)}" for name, value in said):
        if lines[-1] and cell_len(lines[-1] + text) > width:
            lines.append("")
        lines[-1] += text
    return [Text(line, "dim") for line in lines]


def _line(columns: Sequence[Column], texts: Sequence[str], fit: Fit, style: str, behind: str = "") -> Text:
    padded = [column.line(text) for column, text in zip(columns, texts, strict=True)]
    return Text((" " * fit.gap).join([*padded, behind]).rstrip(), style, no_wrap=True)
