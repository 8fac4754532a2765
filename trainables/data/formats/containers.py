"""What a folder or an archive holds: members are listed once and read at their places, never unpacked."""

import bz2
import gzip
import lzma
import os
import posixpath
import re
import shutil
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from latentune import LEDGER, STORED
from trainables.data.formats.readers import BytesReader, FileReader, TarReader, ZipReader
from trainables.data.store import DataError, first_line, raise_the_machines

OUTSIDE = "its path leads out of the archive"
REPLACED = "a later member has the same name"
# An archive that unpacks to more is taken for a bomb: images are compressed already, arrays may not be.
MAX_RATIO = {"images": 50, "arrays": 150}
SMALL = 256_000_000  # bytes that any archive may unpack to
BLOCK = 1 << 22
# Where a sweep runs among its own images: its folder has one of these files, and MLflow writes beside it.
OF_A_SWEEP = frozenset((LEDGER, STORED))
OF_MLFLOW = re.compile(r"mlruns|mlartifacts|.*\.db(-journal|-wal|-shm|\.lock)?")


@dataclass(frozen=True)
class Listing:
    """All files of a folder or an archive, by name in sorted order; `rejects` are (name, reason).

    `hidden` counts the files and folders that were passed over: their names begin with a dot, or sweeps and
    MLflow wrote them.
    """

    names: list[str]
    reader: BytesReader
    rejects: list[tuple[str, str]]
    hidden: int = 0


@dataclass
class Passed:
    """What a walk through folders passed over: `rejects` (name, reason), and how many hidden entries."""

    rejects: list[tuple[str, str]] = field(default_factory=list)
    hidden: int = 0


def list_folder(root: Path) -> Listing:
    """List the files below a folder; links are followed, each folder is entered once."""
    passed = Passed()
    names = sorted(name for name, _ in walk(root, passed))
    return Listing(names, FileReader(root, names), passed.rejects, passed.hidden)


def walk(root: Path, passed: Passed | None = None) -> Iterator[tuple[str, os.stat_result]]:
    """Yield the name below `root` and the status of each regular file that is not hidden.

    A folder that links lead to twice is entered once, so loops end. What sweeps and MLflow wrote below it is
    passed over like what is hidden. What is left out is added to `passed`. Raises OSError where that is no
    file's fault.
    """
    passed = Passed() if passed is None else passed
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
            raise_the_machines(error)
            passed.rejects.append((folder, error.strerror or str(error)))
            continue
        if folder and not OF_A_SWEEP.isdisjoint(entry.name for entry in entries):
            passed.hidden += 1
            continue
        for entry in entries:
            name = posixpath.join(folder, entry.name)
            if entry.name.startswith(".") or entry.name == "__MACOSX" or OF_MLFLOW.fullmatch(entry.name):
                passed.hidden += 1
                continue
            try:
                if entry.is_dir():
                    stack.append(name)
                elif entry.is_file():
                    yield name, entry.stat()
                else:
                    why = "neither a file nor a folder, or a link that leads nowhere"
                    passed.rejects.append((name, why))
            except OSError as error:
                raise_the_machines(error)
                passed.rejects.append((name, error.strerror or str(error)))


def require_unpackable(path: Path, size: int, kind: str, more: int, folder: Path) -> None:
    """Raise DataError where an archive of `size` unpacked is a bomb, or `folder` has no room for `more`."""
    ratio, packed = MAX_RATIO[kind], path.stat().st_size
    if size > max(SMALL, ratio * packed):
        raise DataError(
            f"{path} unpacks to {size / 1e6:.0f} MB or more, over {ratio} times its own size, and is taken "
            "for a decompression bomb; if you trust it, unpack it yourself and name what comes out"
        )
    if more > (free := shutil.disk_usage(folder).free):
        raise DataError(
            f"{path} unpacks to {size / 1e6:.0f} MB or more, and {folder} has {free / 1e6:.0f} MB free; free "
            "some, or name another folder as cache_dir"
        )


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
                    while block := source.read(BLOCK):
                        size = target.tell() + len(block)
                        require_unpackable(path, size, "images", len(block), scratch)
                        target.write(block)
                return _list_plain_tar(plain)
        return _list_plain_tar(path)
    except (tarfile.TarError, EOFError, lzma.LZMAError, zlib.error) as error:
        raise DataError(f"{path} can't be read as a tar ({first_line(error)}); is the file whole?") from error
    except OSError as error:
        if error.errno is not None:  # the system's; those without a number are bzip2's and gzip's
            raise
        raise DataError(f"{path} can't be decompressed ({first_line(error)}); is the file whole?") from error


def _list_plain_tar(path: Path) -> Listing:
    members: dict[str, tuple[int, int]] = {}
    rejects: list[tuple[str, str]] = []
    hidden = 0
    with open(path, "rb") as file:
        begin: int | None = 0
        while begin is not None:  # tars that were joined (cat a.tar b.tar) lie behind each other
            file.seek(begin)
            try:
                with tarfile.open(fileobj=file, mode="r:") as archive:
                    for member in archive:
                        hidden += _take(member, members, rejects)
                    end = archive.offset
                if end == begin:  # tarfile takes any damaged header but the first for the end
                    raise tarfile.ReadError(f"no header at byte {end}")
            except tarfile.ReadError as error:
                if not members and not rejects:
                    raise
                rejects.append((path.name, f"the archive breaks off: {error}"))
                break
            begin = _next_block(file, end)
    names = sorted(members)
    places = np.array([members[name] for name in names], np.int64).reshape(-1, 2)
    return Listing(names, TarReader(path, names, places[:, 0].copy(), places[:, 1].copy()), rejects, hidden)


def _take(
    member: tarfile.TarInfo, members: dict[str, tuple[int, int]], rejects: list[tuple[str, str]]
) -> bool:
    """Add a member of a tar to the members or the rejects; return whether it was passed over as hidden."""
    name = _normal(member.name)
    if member.isdir() or _hidden(name):
        return not member.isdir()
    if _leads_outside(member.name):
        rejects.append((member.name, OUTSIDE))
    elif not member.isreg():
        rejects.append((name, "a link or a device, not a file"))
    elif member.sparse is not None:  # its bytes do not lie in one piece
        rejects.append((name, "stored with holes, as by tar --sparse"))
    else:
        if name in members:
            rejects.append((name, REPLACED))
        members[name] = (member.offset_data, member.size)
    return False


def _next_block(file: BinaryIO, begin: int) -> int | None:
    """Return where, behind the zeros that end a tar, something else begins; None where nothing does."""
    file.seek(begin)
    while block := file.read(BLOCK):
        if any(block):
            first = len(block) - len(block.lstrip(b"\0"))
            return begin + first // tarfile.BLOCKSIZE * tarfile.BLOCKSIZE
        begin += len(block)
    return None


def list_zip(path: Path) -> Listing:
    """List a zip's files. Raises DataError where it is none."""
    members: dict[str, str] = {}
    rejects: list[tuple[str, str]] = []
    hidden = 0
    try:
        with zipfile.ZipFile(path) as archive:
            infos = archive.infolist()
    except Exception as error:  # a damaged directory raises BadZipFile, struct.error, UnicodeDecodeError, …
        raise DataError(f"{path} can't be read as a zip ({first_line(error)}); is the file whole?") from error
    if infos and (before := min(info.header_offset for info in infos)):
        rejects.append((path.name, f"{before} bytes before its first file; is another zip joined to it?"))
    for info in infos:
        name = _normal(info.filename)
        if info.is_dir() or _hidden(name):
            hidden += not info.is_dir()
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
    return Listing(names, ZipReader(path, [members[name] for name in names]), rejects, hidden)


def _normal(name: str) -> str:
    return posixpath.normpath(name.replace("\\", "/")).lstrip("/")


def _leads_outside(name: str) -> bool:
    name = name.replace("\\", "/")
    return name.startswith("/") or posixpath.normpath(name).startswith("..")


def _hidden(name: str) -> bool:
    parts = name.split("/")
    return "__MACOSX" in parts or any(part.startswith(".") and part != ".." for part in parts)


_COMPRESSIONS: dict[bytes, Callable[[Path], Any]] = {
    b"\x1f\x8b": gzip.open,
    b"BZh": bz2.open,
    b"\xfd7zXZ\x00": lzma.open,
}
