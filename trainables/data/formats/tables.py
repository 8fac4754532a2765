"""Tables of numbers with a line an image: any separator, quotes, byte-order mark; names matched to files."""

import codecs
import csv
import posixpath
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from trainables.data.store import DataError, first_line

NAME_COLUMNS = 3  # the name may stand behind an index, as pandas writes one
INDEX = ("", "Unnamed: 0")  # how pandas calls its index
MARKS = ",;\t|"  # that separate cells; else spaces do


@dataclass(frozen=True)
class Table:
    """A table's `values` float32 (N, columns), NaN where one of the N images has no line.

    `matched` bool (N,): the images that have one. `example`: a name as the table writes it. `passed`: columns
    before the names, whose values are not read.
    """

    file: str
    columns: Sequence[str]
    values: NDArray[np.float32]
    matched: NDArray[np.bool_]
    example: str
    passed: Sequence[str] = ()


def text_of(data: bytes) -> str:
    """Decode a table: UTF-8 or, where a byte-order mark says so, UTF-16; what fits neither becomes U+FFFD."""
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return data.decode("utf-16", errors="replace")
    return data.decode("utf-8-sig", errors="replace")


def read_table(file: str, text: str, names: Sequence[str], columns: Sequence[str] = ()) -> Table:
    """Return what a table says of the images `names`.

    Its columns are `columns`, or those that its header names. Names match by their path, else by the file
    name, else without the ending, by whichever of these matches most. Raises DataError where a line of an
    image holds anything but numbers, one for each column, where two lines of one image differ, and where the
    header names no columns.
    """
    rows = _rows(file, text)
    passed: Sequence[str] = ()
    if not columns:
        # CelebA's own table begins with the number of lines, and its header has no name for the first column.
        counted = bool(rows) and len(rows[0]) == 1 and rows[0][0].isdigit()
        header, rows = (rows[counted], rows[counted + 1 :]) if len(rows) > counted else ([], [])
        column, place = _matching(rows, names, header)
        width = max(map(len, rows[:3]), default=0)
        whole = len(header) == width and not counted
        columns = header[column + 1 :] if whole else header[column:]
        passed = [name for name in header[:column] if name not in INDEX] if whole else ()
        if whole and columns and place(header[column]) and all(map(_is_number, columns)):
            raise DataError(f"{file} has no header: its first line is of the image {header[column]!r}")
        if rows and (not columns or len(set(columns)) < len(columns)):
            raise DataError(
                f"the header of {file} names the columns {', '.join(header)[:80]!r}; beside the file name it "
                "takes one or more, each of another name"
            )
    else:
        column, place = _matching(rows, names, rows[0] if rows else [])
    values = np.full((len(names), len(columns)), np.nan, np.float32)
    matched = np.zeros(len(names), bool)
    for cells in rows:
        images = place(cells[column]) if len(cells) > column else []
        if not images:
            continue  # a header, or an image that this part of the set lacks
        try:
            said = np.array([cell or "nan" for cell in cells[column + 1 :]], np.float32).reshape(len(columns))
        except ValueError as error:
            raise DataError(
                f"{file} can't be read at {' '.join(cells)[:40]!r}: after the file name it takes "
                f"{len(columns)} number{'s' * (len(columns) > 1)}"
            ) from error
        if matched[images].any() and not np.array_equal(values[images[0]], said, equal_nan=True):
            raise DataError(f"{file} has two lines of {cells[column][:40]!r}, which differ")
        values[images], matched[images] = said, True
    example = rows[-1][column] if rows and len(rows[-1]) > column else ""
    return Table(file, columns, values, matched, example[:40], passed)


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _rows(file: str, text: str) -> list[list[str]]:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    # Decimals may have commas, and file names any mark: the separator is in most lines.
    lines_with = {mark: sum(mark in line for line in lines) for mark in MARKS}
    most = max(MARKS, key=lambda mark: lines_with[mark])
    separator = most if 2 * lines_with[most] > len(lines) else " "
    if separator == " ":
        lines = [" ".join(line.split()) for line in lines]
    try:
        parsed = csv.reader(lines, delimiter=separator, skipinitialspace=True)
        rows = [[cell.strip() for cell in cells] for cells in parsed]
        while rows and all(len(cells) > 1 and not cells[-1] for cells in rows):
            rows = [cells[:-1] for cells in rows]  # each line ends in a separator
        while len(rows) > 1 and rows[0][0].startswith("#"):  # a remark, or a header with a mark
            if len(rows[0]) == len(rows[1]):
                return [[rows[0][0].lstrip("# "), *rows[0][1:]], *rows[1:]]
            rows = rows[1:]
        return rows
    except csv.Error as error:
        raise DataError(f"{file} can't be read as a table ({first_line(error)})") from error


def _matching(
    rows: Sequence[Sequence[str]], names: Sequence[str], header: Sequence[str]
) -> tuple[int, Callable[[str], list[int]]]:
    """Return the column that names images, and a function from such a name to the images' rows.

    Of columns that match as many, one is taken that is no index: numbers may be names without an ending.
    """
    columns = sorted(range(NAME_COLUMNS), key=lambda k: k < len(header) and header[k] in INDEX)
    best: tuple[int, Callable[[str], list[int]]] = (0, partial(_rows_of, {}, _path))
    most = 0
    for key in (_path, posixpath.basename, _stem):
        images: dict[str, list[int]] = {}
        for row, name in enumerate(names):
            images.setdefault(key(_path(name)), []).append(row)
        for column in columns:
            named = {key(_path(cells[column])) for cells in rows if len(cells) > column}
            if (count := sum(len(images[name]) for name in named & images.keys())) > most:
                most, best = count, (column, partial(_rows_of, images, key))
    return best


def _rows_of(images: Mapping[str, list[int]], key: Callable[[str], str], name: str) -> list[int]:
    return images.get(key(_path(name)), [])


def _path(name: str) -> str:
    return posixpath.normpath(name.replace("\\", "/")).lstrip("/")


def _stem(name: str) -> str:
    return posixpath.splitext(posixpath.basename(name))[0]
