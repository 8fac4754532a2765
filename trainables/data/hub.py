"""Data sets of the Hugging Face hub, by the package `datasets`: fetched once, as a Parquet file."""

import hashlib
import os
import re
from pathlib import Path
from typing import Any

from filelock import FileLock

from trainables.data.store import DataError, first_line

PREFIX = "hf:"
USE = "hf:NAME, or hf:NAME:SPLIT"


def fetched(dataset: str, folder: Path) -> Path:
    """Return the Parquet file of `hf:NAME` (its split `train`) or `hf:NAME:SPLIT`, in `folder`.

    It is fetched once a machine; HF_HOME and HF_HUB_OFFLINE count as for the package itself. Raises DataError
    where the package is missing, and where it can't load the set.
    """
    name, _, split = dataset.removeprefix(PREFIX).partition(":")
    if not name:
        raise DataError(f"{dataset!r} names no data set of the hub; it is {USE}")
    split = split or "train"
    told = hashlib.sha256(f"{name}:{split}".encode()).hexdigest()[:8]  # a/b-c is not a-b/c
    path = folder / f"{re.sub(r'[^A-Za-z0-9._-]+', '-', name).strip('-')}-{split}-{told}.parquet"
    if path.exists():
        return path
    try:
        import datasets
    except ImportError as error:
        raise DataError(f"{dataset} needs the package datasets: pip install datasets") from error
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{path}.lock"):
        if not path.exists():
            try:
                found = datasets.load_dataset(name, split=split)
            except Exception as error:  # the package raises its own, the network's and the readers' errors
                raise DataError(f"{dataset} can't be loaded: {first_line(error)}") from error
            written(found, path)
    return path


def written(dataset: Any, path: Path) -> None:
    """Write a `datasets.Dataset` as a Parquet file, whole or not at all."""
    from datasets.table import embed_table_storage

    # A folder's images are names of files until they are embedded, as the package does before an upload.
    dataset = dataset.with_format("arrow").map(embed_table_storage, batched=True)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        dataset.to_parquet(str(unfinished))
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)
