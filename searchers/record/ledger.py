"""The ledger: a sweep's own record on the driver's disk, which everything else is rebuilt from.

Tune snapshots its state now and then, MLflow may be away for an hour, and a driver can die at any moment. The
ledger is one JSON line an event, on disk before the event is acted on. From it and the trials' checkpoints a
resumed sweep rebuilds all that it needs, and MLflow receives what it has missed.

Events: `trial` (trial, number, config), `result` (trial, epoch, metrics, images, node, flags), `checkpoint`
(trial, name, epoch), `end` (trial, status, error), `model` (trial, path), `figure` (path), `note` (tags,
metrics, status of the sweep; or trial, tags), `heard` (sweep, trials: what is new of another sweep's trials,
by `--share`). Each has `time`, milliseconds since 1970.
"""

import errno
import fcntl
import json
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from searchers.record.schema import CHECKPOINT, END, HEARD, RESULT, TRIAL
from searchers.record.trials import TrialRecord


class LedgerBusyError(RuntimeError):
    """Another process writes this ledger: its sweep is running."""


class Ledger:
    """Append-only events in a file; one process writes, any process reads."""

    def __init__(self, path: Path):
        self.path = path
        self._lock = threading.Lock()
        self._file: BinaryIO | None = None

    def claim(self) -> BinaryIO:
        """Take the write lock, until `close` or this process's end.

        Raises LedgerBusyError where another one does, OSError where the file cannot be written.
        """
        if self._file is not None:
            return self._file
        self.path.parent.mkdir(parents=True, exist_ok=True)
        file = open(self.path, "ab", buffering=0)  # noqa: SIM115  open as long as the sweep runs
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.close()
            raise LedgerBusyError(f"{self.path} is being written by another process") from error
        except OSError:
            pass  # a network file system without locks
        self._file = file
        # What a killed driver wrote last without its newline was never acted on.
        content = self.path.read_bytes()
        file.truncate(content.rfind(b"\n") + 1)
        return file

    def append(self, event: str, **values: Any) -> None:
        """Write an event; it is on disk when this returns. Raises as `claim`, and OSError on a full disk."""
        line = (json.dumps({"event": event, "time": int(time.time() * 1000), **values}) + "\n").encode()
        with self._lock:
            file = self.claim()
            end = file.seek(0, os.SEEK_END)
            try:
                if file.write(line) < len(line):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.path))
                os.fsync(file.fileno())
            except OSError:
                file.truncate(end)  # no partial line before the next event
                raise

    def events(self, offset: int = 0) -> Iterator[tuple[int, dict[str, Any]]]:
        """Yield (offset of the next event, event) from a byte offset on: whole lines that hold an event."""
        if not self.path.exists():
            return
        with open(self.path, "rb") as file:
            file.seek(offset)
            for line in file:
                if not line.endswith(b"\n"):
                    return
                offset += len(line)
                if (event := read_event(line)) is not None:
                    yield offset, event

    def size(self) -> int:
        """Return the number of bytes that have been written."""
        return self.path.stat().st_size if self.path.exists() else 0

    def damaged(self) -> list[int]:
        """Return the numbers, from 1, of lines that hold no event; a last line without its end is none."""
        if not self.path.exists():
            return []
        lines = self.path.read_bytes().split(b"\n")[:-1]
        return [number for number, line in enumerate(lines, 1) if line.strip() and read_event(line) is None]

    def trials(self) -> dict[str, TrialRecord]:
        """Return the record of every trial, in the order they were begun.

        Results of a trial whose beginning is not known are left out: its settings are lost.
        """
        records: dict[str, TrialRecord] = {}
        for _, event in self.events():
            trial = event.get("trial", "")
            if event["event"] == TRIAL:
                records.setdefault(trial, TrialRecord(trial, event["number"], event["config"]))
            elif trial not in records:
                continue
            elif event["event"] == RESULT:
                records[trial].metrics.setdefault(event["epoch"], event["metrics"])
                records[trial].flags.setdefault(event["epoch"], event.get("flags") or "")
            elif event["event"] == CHECKPOINT:
                records[trial].checkpoints[event["name"]] = event["epoch"]
            elif event["event"] == END:
                records[trial].status, records[trial].error = event["status"], event.get("error")
        return records

    def __del__(self) -> None:
        self.close()

    def close(self) -> None:
        """Release the write lock; so does a ledger that nobody holds any more."""
        if self._file is not None:
            self._file.close()
            self._file = None


# What `Ledger.trials` and the exporter need of each event.
NEEDED: dict[str, dict[str, type]] = {
    TRIAL: {"trial": str, "number": int, "config": dict},
    RESULT: {"trial": str, "epoch": int, "metrics": dict},
    END: {"trial": str, "status": str},
    CHECKPOINT: {"trial": str, "name": str, "epoch": int},
    HEARD: {"sweep": str, "trials": list},
}


def read_event(line: bytes) -> dict[str, Any] | None:
    """Return the event of a line; None where a disk fault or an edit damaged it."""
    try:
        event = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(event, dict) or not isinstance(event.get("event"), str):
        return None
    needed = NEEDED.get(event["event"], {})
    return event if all(isinstance(event.get(key), kind) for key, kind in needed.items()) else None
