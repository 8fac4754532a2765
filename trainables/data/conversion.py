"""From a source to its image store: in parallel, in constant memory, going on where a killed run stopped.

The work lies in a folder beside the store until it is finished: `pixels` and `rows`, two files that only
grow, and `journal`, which has one line for each chunk that is whole in both. A run that starts again cuts the
two files back to what the journal says.
"""

import json
import logging
import os
import shutil
import signal
import threading
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import BrokenExecutor, Future
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from joblib.externals.loky import ProcessPoolExecutor

from trainables.data.decoding import Chunk, Preprocessing, convert_chunk
from trainables.data.formats.layout import Source, complete_splits
from trainables.data.formats.readers import Reader
from trainables.data.progress import image_bar
from trainables.data.store import DIGEST_BYTES, DataError, ImageStore, digest, write_store

CHUNK = 256  # images that a process decodes at a time, fewer where they are large
CHUNK_BYTES = 64 * 1024**2
PARALLEL_AFTER = 2.0  # with more seconds of work left, the start of other processes pays
NAMED_REJECTS = 1000  # a manifest names at most so many
ROW = np.dtype([("digest", "u1", DIGEST_BYTES), ("identity", "<u8"), ("input", "<i8")])
log = logging.getLogger(__name__)


def convert(
    source: Source,
    preprocessing: Preprocessing,
    path: Path,
    work: Path,
    *,
    name: str,
    key: str,
    workers: int | None = None,
    progress: bool | None = None,
) -> ImageStore:
    """Convert a source to the store `path`, in the folder `work`, which is removed at the end.

    `name` is the data set's in the manifest. `key` names source and preprocessing; only work that was done
    for the same key is gone on with. `workers` processes decode (default: all cores this process may use).
    `progress` shows a bar on stderr (default: where that is a terminal). Raises DataError where no image can
    be read, the disk has no room, or a decoding process dies.
    """
    try:
        with _Work(work, source, preprocessing, key) as done:
            rows = 2 * len(source) - done.inputs  # what is left to be decoded, and all again in the store
            check_room(work.parent, (done.width + ROW.itemsize) * rows, source.name)
            if done.inputs < len(source):
                size = preprocessing.image_size
                title = f"Converting {name} to {size}×{size}"
                with image_bar(title, len(source), done.inputs, progress) as advance:
                    for chunk in _chunks(source.reader, preprocessing, done.inputs, workers or _cores()):
                        done.append(chunk)
                        advance(chunk.inputs)
            store = done.finish(path, name)
    except (BrokenExecutor, MemoryError) as error:
        raise DataError(
            f"a process that decoded images of {source.name} died, perhaps for want of memory; start again, "
            "what is done is kept, or free some memory first"
        ) from error
    shutil.rmtree(work, ignore_errors=True)
    return store


class _Work:
    """The work done so far on a conversion: `inputs` images looked at, `rows` of them converted."""

    def __init__(self, folder: Path, source: Source, preprocessing: Preprocessing, key: str):
        self.folder, self.source, self.preprocessing = folder, source, preprocessing
        self.header = {"key": key, "inputs": len(source), "row": ROW.itemsize}
        self.width = preprocessing.image_size**2 * preprocessing.channels
        self.inputs = self.rows = self.squashed = 0
        self.rejects = [list(reject) for reject in source.rejects]

    def __enter__(self) -> "_Work":
        lines = self._journal()
        if not lines or lines[0] != self.header:
            shutil.rmtree(self.folder, ignore_errors=True)
            self.folder.mkdir(parents=True)
            lines = [self.header]
        sound = self._sound(lines[1:])
        self._files = {name: (self.folder / name).open("ab") for name in ("pixels", "rows")}
        self._files["pixels"].truncate(self.rows * self.width)
        self._files["rows"].truncate(self.rows * ROW.itemsize)
        self._files["journal"] = (self.folder / "journal").open("wb")
        for line in (self.header, *sound):
            self._write("journal", json.dumps(line).encode() + b"\n")
        return self

    def __exit__(self, *_) -> None:
        for file in self._files.values():
            file.close()

    def _journal(self) -> list[Any]:
        try:
            lines = (self.folder / "journal").read_bytes().split(b"\n")[:-1]
            return [json.loads(line) for line in lines]
        except (OSError, ValueError):
            return []

    def _sound(self, lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Return the journal's lines whose pixels and digests agree: after a power cut the last may not."""
        sound = []
        for line in lines:
            try:
                rows = np.fromfile(self.folder / "rows", ROW, line["rows"], offset=self.rows * ROW.itemsize)
                pixels = np.fromfile(
                    self.folder / "pixels", np.uint8, line["rows"] * self.width, offset=self.rows * self.width
                ).reshape(-1, self.width)
            except (OSError, ValueError):
                break
            if len(rows) != len(pixels) or len(rows) != line["rows"]:
                break
            if any(digest(p) != r["digest"].tobytes() for p, r in zip(pixels, rows, strict=True)):
                break
            self._count(line)
            sound.append(line)
        return sound

    def _count(self, line: dict[str, Any]) -> None:
        self.rejects += [[self.source.names[self.inputs + i], why] for i, why in line["rejects"]]
        self.squashed += line.get("squashed", 0)
        self.inputs += line["inputs"]
        self.rows += line["rows"]

    def _write(self, name: str, data: Any) -> None:
        self._files[name].write(data)
        self._files[name].flush()

    def append(self, chunk: Chunk) -> None:
        """Add the next inputs."""
        rejected = {i for i, _ in chunk.rejects}
        rows = np.empty(len(chunk.pixels), ROW)
        rows["digest"], rows["identity"] = chunk.digests, chunk.identities
        rows["input"] = [self.inputs + i for i in range(chunk.inputs) if i not in rejected]
        self._write("pixels", np.ascontiguousarray(chunk.pixels).data)
        self._write("rows", rows.tobytes())
        counts = {"inputs": chunk.inputs, "rows": len(rows), "squashed": int(chunk.squashed)}
        line = {**counts, "rejects": chunk.rejects}
        self._write("journal", json.dumps(line).encode() + b"\n")
        self._count(line)

    def _squashing(self) -> list[str]:
        if not self.squashed:
            return []
        crop = self.preprocessing.crop
        left = f" after the crop {crop}" if crop else ""
        return [
            f"{self.squashed} of {self.rows} images are not square{left}, and are squashed: the crop square "
            "takes their middle"
        ]

    def finish(self, path: Path, name: str) -> ImageStore:
        """Write the store."""
        source, size = self.source, self.preprocessing.image_size
        if not self.rows:
            first, why = self.rejects[0]
            raise DataError(
                f"none of the {len(self.rejects)} images of {source.name} can be read ({first}: {why})"
            )
        rows = np.fromfile(self.folder / "rows", ROW)
        splits = complete_splits(
            None if source.splits is None else source.splits[rows["input"]], rows["identity"]
        )
        shape = (self.rows, size, size, self.preprocessing.channels)
        write_store(
            path,
            np.memmap(self.folder / "pixels", np.uint8, "r", shape=shape),
            np.ascontiguousarray(rows["digest"]),
            source.labels[rows["input"]],
            splits,
            {name: values[rows["input"]] for name, values in source.factors.items()},
            {
                "name": name,
                "class_names": list(source.class_names),
                "rejected": len(self.rejects),
                "rejects": self.rejects[:NAMED_REJECTS],
                "notes": [*source.notes, *self._squashing()],
                "settings": asdict(self.preprocessing),
            },
        )
        store = ImageStore(path)
        for note in store.notes:
            log.warning("%s: %s", name, note)
        return store


def _chunks(reader: Reader, preprocessing: Preprocessing, first: int, workers: int) -> Iterator[Chunk]:
    """Yield the chunks from input `first` on, in order; other processes help where the rest takes long."""
    size = max(1, min(CHUNK, CHUNK_BYTES // (preprocessing.image_size**2 * preprocessing.channels)))
    starts = deque(range(first, len(reader), size))

    def take() -> Reader:
        start = starts.popleft()
        return reader.part(range(start, min(start + size, len(reader))))

    began = time.monotonic()
    yield convert_chunk(take(), preprocessing)
    if workers == 1 or (time.monotonic() - began) * len(starts) < PARALLEL_AFTER:
        while starts:
            yield convert_chunk(take(), preprocessing)
        return
    pool = ProcessPoolExecutor(min(workers, len(starts)), initializer=_follow, initargs=(os.getpid(),))
    with pool:
        waiting: deque[Future[Chunk]] = deque()
        try:
            while starts or waiting:
                while starts and len(waiting) < 2 * workers:  # bounds what is in memory
                    waiting.append(pool.submit(convert_chunk, take(), preprocessing))
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def _follow(parent: int) -> None:
    """Leave Ctrl-C to the parent, which then ends its workers; end when the parent is gone."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=watch, daemon=True).start()


def check_room(folder: Path, needed: int, name: str) -> None:
    """Raise DataError where a folder's disk has not so many bytes free."""
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise DataError(
            f"converting {name} takes {needed / 1e6:.0f} MB in {folder}, where {free / 1e6:.0f} MB are free; "
            "free some, or name another folder with XDG_CACHE_HOME"
        )


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
