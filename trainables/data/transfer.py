"""Stores and archives at storage URIs: each machine copies one once, and checks the copy by its hash.

A URI is what pyarrow.fs takes: file:///…, s3://bucket/…, gs://bucket/…. It may end with a # and a store's
content hash: then no other store is accepted, and a machine that has it does not ask the storage.
"""

import hashlib
import os
from pathlib import Path

import pyarrow as pa
from filelock import FileLock
from pyarrow import fs

from trainables.data.addresses import secret_in
from trainables.data.progress import byte_bar
from trainables.data.store import DataError, ImageStore, first_line, sync

BLOCK = 1 << 22


def is_uri(dataset: str | os.PathLike) -> bool:
    """Tell a storage URI from a name or a path."""
    return "://" in os.fspath(dataset)


def fetch(uri: str, cache_dir: Path, *, progress: bool | None = None) -> Path:
    """Return this machine's copy of the file at a URI, made now where there is none yet.

    Processes that want the same file wait for the first. A store (.arrow) is read through and compared with
    its digests. Raises DataError where the file can't be had, is damaged, or has another hash than the URI's.
    """
    address, _, wanted = uri.partition("#")
    place = Path(address.partition("?")[0])  # options are no part of the name
    name, known = place.name, cache_dir / f"{place.stem}-{wanted[:16]}.arrow"
    if wanted and known.exists():
        return known
    source, path = _filesystem(address)
    try:
        info = source.get_file_info(path)
        if info.type != fs.FileType.File:
            raise DataError(f"there is no file at {address}; name a store (.arrow), a tar or a zip")
        version = hashlib.sha256(f"{address} {info.size} {info.mtime_ns}".encode()).hexdigest()[:16]
        stem, suffixes = name.split(".")[0], "".join(Path(name).suffixes)
        target = known if wanted else cache_dir / f"{stem}-{version}{suffixes}"
        cache_dir.mkdir(parents=True, exist_ok=True)
        with FileLock(target.with_name(f"{target.name}.lock")):
            if not target.exists():
                partial = target.with_name(f"{target.name}.partial{target.suffix}")
                try:
                    with (
                        source.open_input_stream(path, compression=None) as stream,
                        open(partial, "wb") as copy,
                    ):
                        _copy(stream, copy, info.size, f"Copying {name}", progress)
                    sync(partial)
                    _check(partial, address, info.size, wanted)
                    os.replace(partial, target)
                finally:
                    partial.unlink(missing_ok=True)
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"{address} can't be copied to {cache_dir} ({first_line(error)})") from error
    return target


def publish(store: ImageStore, uri: str, *, progress: bool | None = None) -> str:
    """Copy a store to a URI; return the URI with the store's hash, as machines should be given it.

    An absolute path is one, too, without its file://. Raises DataError where the URI can't be written.
    """
    target, path = _filesystem(uri)
    try:
        if target.type_name == "local":
            os.makedirs(os.path.dirname(path), exist_ok=True)
        # What others may be reading is replaced when all is there; an object store does so by itself.
        partial = f"{path}.{os.getpid()}.partial" if target.type_name == "local" else path
        with open(store.path, "rb") as source, target.open_output_stream(partial, compression=None) as stream:
            _copy(source, stream, store.path.stat().st_size, f"Copying {store.path.name}", progress)
        if partial != path:
            os.replace(partial, path)
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"{uri} can't be written ({first_line(error)})") from error
    return f"{uri if is_uri(uri) else Path(path).as_uri()}#{store.content_hash}"


def _filesystem(uri: str) -> tuple[fs.FileSystem, str]:
    if what := secret_in(uri):
        raise DataError(
            f"The address holds a secret, {what}: leave it out, and set AWS_ACCESS_KEY_ID and "
            "AWS_SECRET_ACCESS_KEY (S3) or GOOGLE_APPLICATION_CREDENTIALS (Google)"
        )
    try:
        return fs.FileSystem.from_uri(uri)
    except (OSError, pa.ArrowException) as error:
        raise DataError(
            f"{uri!r} is no storage address ({first_line(error)}); it should look like file:///path, "
            "s3://bucket/path or gs://bucket/path"
        ) from error


def _copy(source, target, size: int, description: str, progress: bool | None) -> None:
    with byte_bar(description, size, progress) as advance:
        while block := source.read(BLOCK):
            target.write(block)
            advance(len(block))


def _check(copy: Path, address: str, size: int, wanted: str) -> None:
    if copy.stat().st_size != size:
        raise DataError(f"of {address} {copy.stat().st_size} bytes arrived, not {size}; try again")
    if copy.suffix != ".arrow":
        return
    try:
        store = ImageStore(copy)
        store.verify()
    except DataError as error:
        raise DataError(f"{address} is damaged; convert and publish it again") from error
    if wanted and store.content_hash != wanted:
        raise DataError(
            f"{address} has the hash {store.content_hash}, not {wanted}: it was replaced; use its new address"
        )
