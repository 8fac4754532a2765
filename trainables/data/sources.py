"""Data sets by name or path, converted once into an image store that later runs only map.

`load` is all that the rest of the project needs, and `load_same` where a sweep's images are known.
"""

import hashlib
import json
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray

from trainables.data.catalogue import NAMES, default_cache, find
from trainables.data.conversion import check_room, convert
from trainables.data.decoding import Preprocessing, decode
from trainables.data.formats.layout import Source
from trainables.data.formats.readers import close_files
from trainables.data.store import (
    DISK_FULL,
    FORMAT,
    DataError,
    ImageStore,
    first_line,
    manifest_of,
    raise_the_machines,
    spread,
    write_part,
)
from trainables.data.transfer import fetch, is_uri

LONGEST_NAME = 100  # bytes of a set's name in a store's file name
PROBED = 32  # images that tell whether a set is grey


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

    `dataset`: a name or a path, as `catalogue.find` takes them, the path of an image store, or the URI of a
    store or an archive, of which each machine keeps a copy (`transfer.fetch`). `channels`: 3,
    1, or None: as the source. `crop`: "larsen", "square" or None: the whole image, squashed; a store that is
    named has the crop that it was made with. `limit` takes
    that many images, chosen by their places in the sorted set. Stores lie in `cache_dir` (default: the user's
    cache folder), named by the source's content and these settings; processes that want the same one wait
    for the first. `workers` and `progress`: see `conversion.convert`.

    Raises DataError, with one sentence, where there is no such set, or none of its images can be read.
    """
    if limit is not None and limit < 1:
        raise DataError(f"the limit of images is {limit}; choose 1 or more, or none")
    if workers is not None and workers < 1:
        raise DataError(f"the number of workers is {workers}; choose 1 or more, or none")
    asked = Preprocessing(image_size, 3 if channels is None else channels, crop)
    if not os.fspath(dataset).strip():
        raise DataError(f"the data set is named {os.fspath(dataset)!r}; choose {', '.join(NAMES)}, or a path")
    cache = Path(cache_dir).expanduser() if cache_dir else default_cache()
    if is_uri(dataset):
        dataset = fetch(os.fspath(dataset), cache, progress=progress)
    try:
        path = Path(dataset).expanduser()
        if path.suffix == ".arrow" and path.is_file():
            return _existing(path, asked, channels, limit, cache)
        origin = find(dataset, data_root=data_root, image_size=image_size, limit=limit)
    except (OSError, RuntimeError) as error:  # a name too long, a folder that is locked, no home for a ~
        raise DataError(f"{str(dataset)[:80]!r} can't be looked at ({first_line(error)})") from error
    settings = {"image_size": image_size, "channels": channels, "crop": crop, "limit": limit}
    key = _key(FORMAT, origin.name, origin.fingerprint, settings)
    target = cache / _file_name(origin.name, image_size, key)
    if target.exists():
        return ImageStore(target)
    with _lock(target):
        if target.exists():  # another process converted it while this one waited for the lock
            return ImageStore(target)
        scratch = target.with_suffix(".source")
        scratch.mkdir(exist_ok=True)
        try:
            source = _limited(origin.open(scratch), limit)
            channels = channels or source.channels or _channels(source)
            return convert(
                source,
                Preprocessing(image_size, channels, crop),
                target,
                target.with_suffix(".work"),
                name=origin.name,
                key=key,
                workers=workers,
                progress=progress,
            )
        except OSError as error:
            raise _failure(origin.name, cache, error) from error
        finally:
            close_files()  # else a network's disk keeps them, and another one their bytes
            shutil.rmtree(scratch, ignore_errors=True)


def load_same(
    dataset: str | os.PathLike, data_hash: str | None, *, cache_dir: Path | None = None, **settings: Any
) -> ImageStore:
    """Return the images of a data set as `load`: those whose content has this hash, where one is given.

    Where the cache has them the source is not looked at: it may have changed meanwhile, or gone. Raises
    DataError as `load`, and where the images are others.
    """
    cache = Path(cache_dir).expanduser() if cache_dir else default_cache()
    if data_hash and (path := _known(cache, data_hash)):
        return ImageStore(path)
    store = load(dataset, cache_dir=cache_dir, **settings)
    if data_hash not in (None, store.content_hash):
        raise DataError(
            f"the images of {dataset} on this machine are not those that the sweep has, or have changed "
            "since: bring those back"
        )
    return store


def _known(cache: Path, data_hash: str) -> Path | None:
    """Return a store of this content in the cache; None without any, and where several name classes each
    in its own way, of which the hash says nothing."""
    manifests = {path: manifest_of(path) for path in cache.glob("*.arrow") if ".partial" not in path.suffixes}
    same = [path for path, manifest in manifests.items() if manifest.get("content_hash") == data_hash]
    names = {tuple(manifests[path]["class_names"]) for path in same}
    return min(same) if len(names) == 1 else None


def cache_of(store: ImageStore, cache_dir: str | os.PathLike | None = None) -> Path:
    """Return the folder for what is computed of a store's images: the one asked for, or where the store lies.

    A folder that others own, whose stores are read alone, is left for the user's cache.
    """
    if cache_dir:
        return Path(cache_dir)
    return store.path.parent if os.access(store.path.parent, os.W_OK) else default_cache()


def _existing(
    path: Path, preprocessing: Preprocessing, channels: int | None, limit: int | None, cache: Path
) -> ImageStore:
    """Open a store that a person names, or a store of `limit` of its images that is made in the cache."""
    store = ImageStore(path)
    have, size = (store.manifest["image_size"], store.manifest["channels"]), preprocessing.image_size
    if have != (size, channels or have[1]):
        raise DataError(
            f"{path} holds {have[0]}×{have[0]} images of {have[1]} channels, not {size}×{size} "
            f"of {channels or have[1]}; convert its source again with other settings"
        )
    was = store.manifest.get("settings", {}).get("crop")
    if preprocessing.crop not in (None, was):
        raise DataError(
            f"{path} was converted with the crop {was}, not {preprocessing.crop}; convert its source again "
            "with other settings"
        )
    if limit is None or limit >= len(store):
        return store
    key = _key(FORMAT, store.content_hash, store.manifest["class_names"], limit)
    target = cache / _file_name(store.name, size, key)
    with _lock(target):
        if not target.exists():
            check_room(cache, 2 * limit * store.images[0].nbytes, store.name)
            try:
                write_part(target, store, _chosen(len(store), limit), _taken(limit, len(store)))
            except OSError as error:
                raise _failure(store.name, cache, error) from error
    return ImageStore(target)


def _key(*parts: Any) -> str:
    """Return what names a store by what it is made from."""
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]


def _file_name(name: str, image_size: int, key: str) -> str:
    """Return a store's, with as much of the set's name as leaves room: a file's has 255 bytes at most."""
    return f"{os.fsencode(name)[:LONGEST_NAME].decode(errors='ignore')}-{image_size}px-{key}.arrow"


def _failure(name: str, cache: Path, error: OSError) -> DataError:
    """Return what to tell of an error of the system in a conversion."""
    if error.errno not in DISK_FULL:
        where = f"{error.filename}: " if error.filename else ""
        return DataError(f"{name} can't be read or converted ({where}{first_line(error)})")
    return DataError(
        f"the disk of {cache} became full while {name} was converted; free some space and start again, what "
        "is done is kept, or name another folder with XDG_CACHE_HOME"
    )


def _limited(source: Source, limit: int | None) -> Source:
    if limit is None or limit >= len(source):
        return source
    part = source.part(_chosen(len(source), limit))
    return replace(part, notes=[*source.notes, _taken(limit, len(source))])


def _chosen(count: int, limit: int) -> NDArray[np.int64]:
    """Return the rows that a limit takes of so many, ascending."""
    return np.sort(np.random.default_rng(0).permutation(count)[:limit])


def _taken(limit: int, count: int) -> str:
    return f"{limit} of {count} images are taken, chosen at random: dataset_limit sets how many"


def _channels(source: Source) -> int:
    """Return 1 where images from all over the source that can be read are all grey, else 3."""
    seen = 0
    for i in spread(np.arange(len(source)), PROBED):
        try:
            image = decode(source.reader.read(int(i)))
        except Exception as error:  # it becomes a reject, with its reason, in the conversion
            raise_the_machines(error)
            continue
        if image.mode != "L":
            return 3
        seen += 1
    return 1 if seen else 3


def _lock(target: Path) -> FileLock:
    """Return the lock of a store that is to be written; the system frees it when its process dies."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(target.with_suffix(".lock"))
        with lock:
            return lock
    except OSError as error:
        raise DataError(
            f"image stores can't be written to {target.parent} ({error.strerror}); name another folder "
            "with XDG_CACHE_HOME"
        ) from error
