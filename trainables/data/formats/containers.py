"""What a folder or an archive holds: members are listed once and read at their places, never unpacked."""

import bz2
import gzip
import lzma
import os
import posixpath
import shutil
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from trainables.data.formats.readers import FileReader, Reader, TarReader, ZipReader
from trainables.data.store import DataError

OUTSIDE = "its path leads out of the archive"
REPLACED = "a later member has the same name"


@dataclass(frozen=True)
class Listing:
    """All files of a folder or an archive, by name in sorted order; `rejects` are (name, reason)."""

    names: list[str]
    reader: Reader
    rejects: list[tuple[str, str]]


def list_folder(root: Path) -> Listing:
    """List the files below a folder; links are followed, each folder is entered once."""
    rejects: list[tuple[str, str]] = []
    names = sorted(name for name, _ in walk(root, rejects))
    return Listing(names, FileReader(root, names), rejects)


def walk(root: Path, rejects: list[tuple[str, str]] | None = None) -> Iterator[tuple[str, os.stat_result]]:
    """Yield the name below `root` and the status of each regular file that is not hidden.

    A folder that links lead to twice is entered once, so loops end. What can't be looked at joins `rejects`.
    """
    entered, stack = set(), [""]
    while stack:
        folder = stack.pop()
        try:
            status = os.stat(root / folder)
            if (status.st_dev, status.st_ino) in entered:
                continue
            entered.add((status.st_dev, status.st_ino))
            entries = sorted(os.scandir(root / folder), key=lambda entry: entry.name)
        except OSError as error:
            if rejects is not None:
                rejects.append((folder, error.strerror or str(error)))
            continue
        for entry in entries:
            name = posixpath.join(folder, entry.name)
            if entry.name.startswith(".") or entry.name == "__MACOSX":
                continue
            try:
                if entry.is_dir():
                    stack.append(name)
                elif entry.is_file():
                    yield name, entry.stat()
                elif rejects is not None:
                    rejects.append((name, "neither a file nor a folder, or a link that leads nowhere"))
            except OSError as error:
                if rejects is not None:
                    rejects.append((name, error.strerror or str(error)))


def list_tar(path: Path, scratch: Path) -> Listing:
    """List a tar's files; a compressed one is decompressed into the folder `scratch` first.

    Raises DataError where it is no tar at all; of one that breaks off, the files before the break are listed.
    """
    with open(path, "rb") as file:
        magic = file.read(6)
    try:
        for start, decompress in _COMPRESSIONS.items():
            if magic.startswith(start):
                plain = scratch / f"{path.name}.tar"
                with decompress(path) as source, open(plain, "wb") as target:
                    shutil.copyfileobj(source, target, 1 << 20)
                return _list_plain_tar(plain)
        return _list_plain_tar(path)
    except (tarfile.TarError, EOFError, lzma.LZMAError, zlib.error) as error:
        raise DataError(f"{path} can't be read as a tar ({error}); is the file whole?") from error
    except OSError as error:
        if error.errno is not None:  # the system's; those without a number are bzip2's and gzip's
            raise
        raise DataError(f"{path} can't be decompressed ({error}); is the file whole?") from error


def _list_plain_tar(path: Path) -> Listing:
    members: dict[str, tuple[int, int]] = {}
    rejects = []
    with tarfile.open(path, "r:") as archive:
        try:
            for member in archive:
                name = _normal(member.name)
                if member.isdir() or _hidden(name):
                    continue
                if _leads_outside(member.name):
                    rejects.append((member.name, OUTSIDE))
                elif not member.isreg():
                    rejects.append((name, "a link or a device, not a file"))
                else:
                    if name in members:
                        rejects.append((name, REPLACED))
                    members[name] = (member.offset_data, member.size)
        except tarfile.ReadError as error:
            rejects.append((path.name, f"the archive breaks off: {error}"))
    names = sorted(members)
    places = np.array([members[name] for name in names], np.int64).reshape(-1, 2)
    return Listing(names, TarReader(path, names, places[:, 0].copy(), places[:, 1].copy()), rejects)


def list_zip(path: Path) -> Listing:
    """List a zip's files. Raises DataError where it is none."""
    members: dict[str, str] = {}
    rejects = []
    try:
        with zipfile.ZipFile(path) as archive:
            infos = archive.infolist()
    except (zipfile.BadZipFile, OSError) as error:
        raise DataError(f"{path} can't be read as a zip ({error}); is the file whole?") from error
    for info in infos:
        name = _normal(info.filename)
        if info.is_dir() or _hidden(name):
            continue
        if _leads_outside(info.filename):
            rejects.append((info.filename, OUTSIDE))
        elif info.flag_bits & 1:
            rejects.append((name, "encrypted"))
        else:
            if name in members:
                rejects.append((name, REPLACED))
            members[name] = info.filename
    names = sorted(members)
    return Listing(names, ZipReader(path, [members[name] for name in names]), rejects)


def _normal(name: str) -> str:
    return posixpath.normpath(name.replace("\\", "/")).lstrip("/")


def _leads_outside(name: str) -> bool:
    name = name.replace("\\", "/")
    return name.startswith("/") or posixpath.normpath(name).startswith("..")


def _hidden(name: str) -> bool:
    parts = name.split("/")
    return "__MACOSX" in parts or any(part.startswith(".") and part != ".." for part in parts)


_COMPRESSIONS = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ\x00": lzma.open}
