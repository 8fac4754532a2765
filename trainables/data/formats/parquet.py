"""Images encoded in Parquet files, as Hugging Face's hub stores data sets."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from trainables.data.formats.folders import are_splits, split_of
from trainables.data.formats.labels import as_labels
from trainables.data.formats.layout import Source
from trainables.data.formats.readers import ParquetReader
from trainables.data.store import SPLITS, DataError, first_line

LABELS = ("label", "labels", "fine_label", "class")


def open_parquet(name: str, paths: Sequence[Path]) -> Source:
    """Return the images of Parquet files: a column of bytes, or of structs with `bytes`.

    A column `label` becomes the label, with the class names of the hub's metadata; other columns of numbers
    or booleans become factors. Files called train-…, validation-… and test-… are these splits; a file beside
    them that names none is left out, as it may hold test images. Raises DataError where a file can't be read,
    has no such column, or differs from the others, and where there is no row.
    """
    paths, beside = _placed(sorted(paths))
    try:
        schemas, groups, numbers = zip(*map(_read, paths), strict=True)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise DataError(f"{name} can't be read as Parquet ({first_line(error)})") from error
    schema = schemas[0]
    if len(set(schema.names)) < len(schema.names):
        raise DataError(f"{paths[0]} has two columns of one name among {', '.join(schema.names)}")
    for path, other in zip(paths, schemas, strict=True):
        if not other.equals(schema):
            raise DataError(f"{path} has other columns than {paths[0]}; convert them one by one")
    image = next((field.name for field in schema if _holds_images(field.type)), None)
    if image is None:
        raise DataError(
            f"{paths[0]} has the columns {', '.join(schema.names)}; none holds encoded images (bytes, or a "
            "struct with bytes)"
        )
    counts = [sum(lengths) for lengths in groups]
    if not sum(counts):
        raise DataError(f"{name} holds no images: its tables have no rows")
    places = [
        (f, group, row)
        for f, lengths in enumerate(groups)
        for group, length in enumerate(lengths)
        for row in range(length)
    ]
    columns = {column: np.concatenate([part[column] for part in numbers]) for column in numbers[0]}
    label = next((column for column in LABELS if column in columns), None)
    values = columns.pop(label) if label else np.full(len(places), np.nan)
    known = as_labels(values, _class_names(schema, label))
    unused = [name for name in schema.names if name not in (image, label, *columns)]
    return Source(
        name,
        ParquetReader(paths, image, np.array(places, np.int64).reshape(-1, 3)),
        [f"{path.name} row {row}" for path, count in zip(paths, counts, strict=True) for row in range(count)],
        known.values,
        known.class_names,
        {name: values.astype(np.float32) for name, values in columns.items()},
        _splits(paths, counts),
        rejects=[
            (path.name, "it lies beside the files that name the splits, and may belong to any")
            for path in beside
        ],
        notes=[*known.notes, *(f"the column {name} holds no numbers: ignored" for name in unused)],
    )


def parquet_files(folder: Path, names: Sequence[str]) -> list[Path]:
    """Return the Parquet files among those of a folder, sorted."""
    return sorted(folder / name for name in names if name.endswith(".parquet"))


def holds_images(path: Path) -> bool:
    """Tell whether a Parquet file has a column of encoded images: a table about images beside it has none."""
    try:
        schema = pq.read_schema(path)
    except (pa.ArrowException, OSError, ValueError):
        return True  # `open_parquet` says what is wrong with it
    return any(_holds_images(field.type) for field in schema)


def _holds_images(kind: pa.DataType) -> bool:
    if pa.types.is_struct(kind):
        return any(kind.field(i).name == "bytes" for i in range(kind.num_fields))
    return pa.types.is_binary(kind) or pa.types.is_large_binary(kind)


def _holds_numbers(kind: pa.DataType) -> bool:
    return any(holds(kind) for holds in (pa.types.is_integer, pa.types.is_floating, pa.types.is_boolean))


def _read(path: Path) -> tuple[pa.Schema, list[int], dict[str, NDArray[Any]]]:
    """Return a file's schema, how many rows each of its groups has, and its columns of numbers."""
    with pq.ParquetFile(path) as file:  # not kept open: there may be more files than may be open
        schema = file.schema_arrow
        lengths = [file.metadata.row_group(group).num_rows for group in range(file.num_row_groups)]
        table = file.read([field.name for field in schema if _holds_numbers(field.type)])
    values = zip(table.column_names, table.columns, strict=True)
    return schema, lengths, {name: _as_numbers(column) for name, column in values}


def _as_numbers(values: pa.ChunkedArray) -> NDArray[Any]:
    if pa.types.is_integer(values.type) and not values.null_count:
        return values.to_numpy()  # floats would round those above 2**53
    values = values.cast(pa.float64(), safe=False)
    return values.to_numpy().astype(np.float64)  # absent values are NaN


def _class_names(schema: pa.Schema, label: str | None) -> list[str]:
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        return [str(name) for name in features[label]["names"]]
    except (KeyError, TypeError, ValueError, RecursionError):
        return []


def _split_of(path: Path) -> str | None:
    """Return a file's split: it is named after it, as in train-00000-of-00002.parquet, or its folder is."""
    return split_of(path.stem) or split_of(path.parent.name)


def _placed(paths: Sequence[Path]) -> tuple[list[Path], list[Path]]:
    """Return the files to be read and, where the others name a training and another split, those beside."""
    named = [path for path in paths if _split_of(path)]
    if not are_splits(_split_of(path) for path in named):
        return list(paths), []
    return named, [path for path in paths if path not in named]


def _splits(paths: Sequence[Path], counts: Sequence[int]) -> NDArray[np.uint8] | None:
    known = [SPLITS.index(split) for path in paths if (split := _split_of(path))]
    if len(known) < len(paths) or len(set(known)) == 1:
        return None
    return np.repeat(known, counts).astype(np.uint8)
