"""A record moved as a whole: MLflow's database, its artifacts and the sweeps' folders.

    latentune move SRC DST            into another folder, on any disk
    latentune move SRC DST.tar.gz     into an archive, which stays beside what it holds until that is deleted
    latentune move SRC.tar.gz DST     out of it

MLflow's database holds absolute paths, which follow the files. The new place is filled under another name and
then renamed, and only after that is the old one deleted: whenever a move is interrupted, one of the two is
whole. Where the new one is not there yet, the same command does it again.
"""

import json
import os
import shutil
import sqlite3
import sys
import tarfile
import zlib
from contextlib import closing
from dataclasses import dataclass
from gzip import BadGzipFile
from lzma import LZMAError
from pathlib import Path, PurePosixPath

import tyro
from rich.console import Console

from analysis.charts.text import megabytes
from latentune import LEDGER, STORED
from searchers.record.files import flush, write_whole
from searchers.record.folders import is_running, size
from searchers.study.command import run_command
from searchers.study.config import UsageError

PROGRAM = "python -m searchers.move"
DATABASE, RESULTS = "mlflow.db", "results"
ARCHIVES = {".tar": "w", ".tar.gz": "w:gz", ".tgz": "w:gz", ".tar.xz": "w:xz"}
# Columns of MLflow's tables that say where artifacts lie.
PLACES = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
    ("logged_models", "artifact_location"),
)
FILE = "file://"


@dataclass(frozen=True)
class MoveConfig:
    """Options of `searchers.move`."""

    source: tyro.conf.Positional[Path]
    """the folder that holds mlflow.db, mlruns and results, or an archive of it"""
    target: tyro.conf.Positional[Path]
    """where it goes: a folder that is not there yet, or a file .tar, .tar.gz, .tgz or .tar.xz"""


def move(config: MoveConfig, console: Console) -> int:
    """Move a record with its artifacts, or archive it; paths in MLflow's database follow."""
    source, target = config.source.resolve(), config.target.resolve()
    if target.exists():
        raise UsageError(f"{target} is there already")
    if target.is_relative_to(source):
        raise UsageError(f"{target} lies in {source} itself")
    if not source.exists():
        raise UsageError(f"There is no {source}")
    partial = target.with_name(f".{target.name}.partial")
    discard(partial)  # of a move that was interrupted
    target.parent.mkdir(parents=True, exist_ok=True)
    if archive_of(source):
        unpack(source, partial, target)
        partial.rename(target)
        console.print(f"Unpacked to {target}; {source.name} can be deleted.", highlight=False)
        return 0
    refuse_unmovable(source)
    if mode := archive_of(target):
        try:
            with tarfile.open(partial, mode) as archive:  # type: ignore[call-overload]  # one of ARCHIVES
                archive.add(source, arcname=".", filter=unpackable)
        except UsageError:
            discard(partial)
            raise
        flush(partial)  # before what it replaces is deleted
        partial.rename(target)
        filled = megabytes(target.stat().st_size)
        console.print(f"Archived to {target}, {filled}; {source} can be deleted.", highlight=False)
        return 0
    copy(source, partial)
    moved = rewrite(partial / DATABASE, source, partial, target)
    flush(partial)
    partial.rename(target)
    shutil.rmtree(source)
    console.print(
        f"Moved to {target}, {megabytes(size(target))}; {moved} paths in {DATABASE} follow.", highlight=False
    )
    return 0


def archive_of(path: Path) -> str | None:
    """Return how an archive of this name is written; None where the name is no archive's."""
    return next((mode for suffix, mode in ARCHIVES.items() if path.name.endswith(suffix)), None)


def refuse_unmovable(source: Path) -> None:
    """Raise UsageError where a folder holds no record, or one of its sweeps is running."""
    if not (source / DATABASE).is_file():
        raise UsageError(f"{source} holds no record: there is no {DATABASE} in it")
    for ledger in (source / RESULTS).glob(f"*/{LEDGER}"):
        if is_running(ledger.parent):
            raise UsageError(f"Sweep {ledger.parent.name!r} is running: it can be moved when it has ended")


def copy(source: Path, partial: Path) -> None:
    """Fill a folder with another's files: links where one disk holds both, and a copy of the database."""

    database = {f"{source / DATABASE}{end}" for end in ("", "-wal", "-shm", "-journal")}

    def link(file: str, to: str) -> None:
        if file in database:
            return
        try:
            os.link(file, to, follow_symlinks=False)
        except OSError:
            shutil.copy2(file, to, follow_symlinks=False)

    shutil.copytree(source, partial, symlinks=True, copy_function=link)
    with (
        closing(sqlite3.connect(source / DATABASE)) as old,
        closing(sqlite3.connect(partial / DATABASE)) as new,
    ):
        old.backup(new)


def unpackable(member: tarfile.TarInfo) -> tarfile.TarInfo:
    """Return what goes into an archive. Raises UsageError for what `unpack` refuses: links to elsewhere."""
    try:
        tarfile.data_filter(member, "/a/folder")
    except tarfile.FilterError as error:
        raise UsageError(f"{error}, which no archive of a record may hold: take it out first") from error
    return member


def unpack(archive: Path, partial: Path, target: Path) -> None:
    """Fill a folder from an archive. Raises UsageError where that is none of a record."""
    try:
        with tarfile.open(archive) as opened:
            opened.extractall(partial, filter="data")
            read_to_the_end(opened)
        if not ((partial / DATABASE).is_file() and (partial / DATABASE).stat().st_size):
            raise tarfile.TarError(f"there is no {DATABASE} in it")
        rewrite(partial / DATABASE, None, partial, target)
    except (tarfile.TarError, EOFError, BadGzipFile, LZMAError, zlib.error, sqlite3.DatabaseError) as error:
        discard(partial)
        raise UsageError(f"{archive} is no archive of a record: {error}") from error
    flush(partial)


def read_to_the_end(archive: tarfile.TarFile) -> None:
    """Read what stands behind the last file: the end mark, and the checksum of what is compressed.

    Raises ReadError where the mark is missing, and what its kind of compression does where the sum is wrong.
    """
    stream = archive.fileobj
    assert stream is not None  # it is open
    stream.seek(archive.offset)
    if stream.read(tarfile.BLOCKSIZE) != tarfile.NUL * tarfile.BLOCKSIZE:
        raise tarfile.ReadError("it ends before its end mark")
    while stream.read(tarfile.RECORDSIZE):
        pass


def rewrite(database: Path, source: Path | None, filled: Path, target: Path) -> int:
    """Let a database's paths name `target`, whose files lie in `filled` yet; return how many have changed.

    A path follows where it lies in `source`, or where `filled` holds what it names: its longest end that is
    there. Those of other places, such as buckets, stay. Checkpoints' places in sweeps' settings follow alike.
    """
    follow_storage(source, filled, target)
    changed = 0
    with closing(sqlite3.connect(database)) as connection, connection:
        for table, column in PLACES:
            try:
                rows = connection.execute(f"SELECT DISTINCT {column} FROM {table}").fetchall()
            except sqlite3.OperationalError:  # a table of another version of MLflow
                continue
            for (uri,) in rows:
                if (now := followed(uri, source, filled, target)) not in (None, uri):
                    statement = f"UPDATE {table} SET {column} = ? WHERE {column} = ?"
                    changed += connection.execute(statement, (now, uri)).rowcount
    return changed


def follow_storage(source: Path | None, filled: Path, target: Path) -> None:
    """Let the settings of sweeps whose checkpoints lie in the record name where they lie after the move."""
    for path in (filled / RESULTS).glob(f"*/{STORED}"):
        try:
            stored = json.loads(path.read_text())
            place = f"{stored['config']['storage']}/{path.parent.name}"
        except (ValueError, TypeError, KeyError):  # damaged: it is moved as it is
            continue
        if now := followed(place, source, filled, target):
            stored["config"]["storage"] = str(Path(now).parent)
            write_whole(path, json.dumps(stored, indent=2))


def followed(uri: str | None, source: Path | None, filled: Path, target: Path) -> str | None:
    """Return where a URI's files are after the move; None where it does not follow."""
    path = PurePosixPath((uri or "").removeprefix(FILE))
    if not path.is_absolute():
        return None
    scheme = FILE if (uri or "").startswith(FILE) else ""
    if source is not None and path.is_relative_to(source):
        return f"{scheme}{target / path.relative_to(source)}"
    ends = (PurePosixPath(*path.parts[k:]) for k in range(1, len(path.parts) - 1))
    found = next((end for end in ends if (filled / end).exists()), None)
    return None if found is None else f"{scheme}{target / found}"


def discard(path: Path) -> None:
    """Delete a file or a folder, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return its exit code."""
    return run_command(PROGRAM, MoveConfig, move, arguments)


if __name__ == "__main__":
    sys.exit(main())
