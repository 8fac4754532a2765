"""Data sets by name or path, converted once into an image store that later runs only map.

`load` is all that the rest of the project needs.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock

from trainables.data import faces
from trainables.data.containers import list_folder, list_tar, list_zip, walk
from trainables.data.conversion import convert
from trainables.data.decoding import Settings, decode
from trainables.data.layout import Source, arrange
from trainables.data.readers import FacesReader
from trainables.data.store import FORMAT, SPLITS, DataError, ImageStore

FACES = 20_000  # synthetic faces where no limit is given
TARS = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")


@dataclass(frozen=True)
class Origin:
    """A data set that was found: `fingerprint`, JSON that changes when its content does, and how to open it.

    `open` takes a folder for what has to be unpacked.
    """

    name: str
    fingerprint: Any
    open: Callable[[Path], Source]


def load(
    dataset: str | os.PathLike,
    *,
    image_size: int = 64,
    channels: int | None = None,
    crop: str | None = None,
    limit: int | None = None,
    data_root: Path | None = None,
    cache_dir: Path | None = None,
    workers: int | None = None,
    progress: bool | None = None,
) -> ImageStore:
    """Return the images of a data set, by name or path, converting it where that was not yet done.

    `dataset`: one of `NAMES`, or the path of a folder of images, of a folder of class folders, of CelebA's
    layout, of a tar or zip of one of these, or of an image store. `channels`: 3, 1, or None: as the source.
    `crop`: "larsen", "square" or None: the whole image, squashed. `limit` takes that many images, chosen by
    their places in the sorted set. Stores lie in `cache_dir` (default: the user's cache folder), named by
    the source's content and these settings; processes that want the same one wait for the first.

    Raises DataError, with one sentence, where there is no such set, or none of its images can be read.
    """
    if limit is not None and limit < 1:
        raise DataError(f"the limit of images is {limit}; choose 1 or more, or none")
    Settings(image_size, channels or 3, crop)
    path = Path(dataset).expanduser()
    if path.suffix == ".arrow" and path.is_file():
        return _existing(path, image_size, channels)
    origin = find(dataset, data_root=data_root, image_size=image_size, limit=limit)
    cache = Path(cache_dir) if cache_dir else default_cache()
    settings = {"image_size": image_size, "channels": channels, "crop": crop, "limit": limit}
    identity = [FORMAT, origin.name, origin.fingerprint, settings]
    key = hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:16]
    target = cache / f"{origin.name}-{image_size}px-{key}.arrow"
    if target.exists():
        return ImageStore(target)
    with _lock(target):
        if target.exists():  # who held the lock has converted it
            return ImageStore(target)
        scratch = target.with_suffix(".source")
        scratch.mkdir(exist_ok=True)
        try:
            source = _limited(origin.open(scratch), limit)
            channels = channels or source.channels or _channels(source)
            return convert(
                source,
                Settings(image_size, channels, crop),
                target,
                target.with_suffix(".work"),
                key=key,
                workers=workers,
                progress=progress,
            )
        finally:
            shutil.rmtree(scratch)


def find(
    dataset: str | os.PathLike,
    *,
    data_root: Path | None = None,
    image_size: int = 64,
    limit: int | None = None,
) -> Origin:
    """Look for a data set; raises DataError, naming what there is, where it can't be found."""
    if dataset == "faces":
        return _faces(image_size, limit or FACES)
    path = Path(dataset).expanduser()
    if path.is_dir():
        return _folder(path)
    if path.is_file():
        return _archive(path)
    raise DataError(
        f"there is no data set or path {str(dataset)!r}; choose {', '.join(NAMES)}, or the path of a folder, "
        "a tar or a zip of images"
    )


def default_cache() -> Path:
    """Return the folder for image stores where none is named: `latentune` in the user's cache folder."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "latentune"


def _faces(image_size: int, n: int) -> Origin:
    def open_source(_: Path) -> Source:
        factors = faces.sample_factors(n)
        return Source(
            "faces",
            FacesReader(image_size, 0, range(n)),
            [f"face {i}" for i in range(n)],
            factors["smile_class"].astype(np.int64),
            faces.SMILE_CLASSES,
            factors,
            # By number, so that a face has the same split at each size.
            np.array([SPLITS.index("train")] * 8 + [1, 2], np.uint8)[np.arange(n) % 10],
            channels=3,
        )

    return Origin("faces", n, open_source)


def _folder(path: Path) -> Origin:
    files = sorted((name, status.st_size, status.st_mtime_ns) for name, status in walk(path))
    name = path.resolve().name or "root"
    return Origin(name, files, lambda _: arrange(str(path), list_folder(path)))


def _archive(path: Path) -> Origin:
    status = path.stat()
    is_zip = path.suffix.lower() == ".zip"
    if not is_zip and not path.name.lower().endswith(TARS):
        raise DataError(
            f"{path} is of no kind that can be read; give a folder, a tar ({', '.join(TARS)}) or a .zip"
        )

    def open_source(scratch: Path) -> Source:
        return arrange(str(path), list_zip(path) if is_zip else list_tar(path, scratch))

    return Origin(path.name.split(".")[0], [path.name, status.st_size, status.st_mtime_ns], open_source)


def _existing(path: Path, image_size: int, channels: int | None) -> ImageStore:
    store = ImageStore(path)
    have = store.manifest["image_size"], store.manifest["channels"]
    if have != (image_size, channels or have[1]):
        raise DataError(
            f"{path} holds {have[0]}×{have[0]} images of {have[1]} channels, not {image_size}×{image_size} "
            f"of {channels or have[1]}; convert its source again with other settings"
        )
    return store


def _limited(source: Source, limit: int | None) -> Source:
    if limit is None or limit >= len(source):
        return source
    rows = np.random.default_rng(0).permutation(len(source))[:limit]
    return source.part(np.sort(rows))


def _channels(source: Source) -> int:
    """Return 1 where the first images that can be read are all grey, else 3."""
    seen = 0
    for i in range(len(source)):
        try:
            image = decode(source.reader.read(i))
        except Exception:  # it becomes a reject, with its reason, in the conversion
            continue
        if image.mode != "L":
            return 3
        seen += 1
        if seen == 16:
            break
    return 1 if seen else 3


def _lock(target: Path) -> FileLock:
    """Return the lock of a store to be written; a process that dies gives it back."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(target.with_suffix(".lock"))
        with lock:
            return lock
    except OSError as error:
        raise DataError(
            f"image stores can't be written to {target.parent} ({error.strerror}); name another folder as "
            "cache_dir"
        ) from error


NAMES = ("faces",)
