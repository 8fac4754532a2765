"""What sweeps that share tell each other: a file each, in a folder or a bucket that all of them see.

`Post` writes a sweep's file and reads those of the others, in a thread that nothing waits for; `Heard` keeps
what is known of one other sweep, and says what of its events is new.
"""

import json
import queue
import threading
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import pyarrow
import pyarrow.fs

from searchers.bayesopt.space import Space, SpaceError
from searchers.record.ledger import Ledger, read_event
from searchers.record.mlflow_store import sentence
from searchers.record.schema import END, RESULT, TRIAL
from searchers.record.trials import TrialRecord

LOOK_SECONDS = 5.0
LAST_PATIENCE = 15.0  # seconds that the end of a sweep waits for the place
AWAY = (OSError, pyarrow.ArrowException)

Event = dict[str, Any]
Place = tuple[pyarrow.fs.FileSystem, str]  # as `cluster.storage.opened` returns it


class Post(threading.Thread):
    """Writes a sweep's file into the place and reads those of others, every few seconds.

    `read`: (name of the other sweep, its new events) in their order. `trouble`: why the place can't be read
    or written now. A file is a prefix of a text that only grows, so that its new part is all that is read.
    """

    def __init__(self, place: Place, name: str, header: Event, ledger: Ledger, keys: Iterable[str]):
        super().__init__(name="share", daemon=True)
        self.files, self.root = place
        self.name, self.ledger, self.keys = name, ledger, {*keys, "diverged"}
        self.read: queue.SimpleQueue[tuple[str, list[Event]]] = queue.SimpleQueue()
        self.trouble: str | None = None
        self._text = [json.dumps(header) + "\n"]
        self._offset, self._written = 0, 0  # bytes of the ledger that are in the text; its lines in the file
        self._far: dict[str, int] = {}  # by other sweep: bytes of its file that were read
        self._closing = threading.Event()

    def run(self) -> None:
        """Look until closed."""
        while not self._closing.wait(LOOK_SECONDS):
            self.look()

    def close(self) -> None:
        """Tell the others the rest; a place that is away is not waited for long."""
        self._closing.set()
        last = threading.Thread(target=self._last, daemon=True)
        last.start()
        last.join(LAST_PATIENCE)

    def _last(self) -> None:
        if self.is_alive():
            self.join()
        self.look()

    def look(self) -> None:
        """Write what is new of this sweep, and read what is new of the others."""
        try:
            entries = self.files.get_file_info(pyarrow.fs.FileSelector(self.root))
        except AWAY as error:
            self.trouble = sentence(error)
            return
        sizes = {entry.base_name: entry.size for entry in entries if entry.base_name.endswith(".jsonl")}
        own = f"{self.name}.jsonl"
        self.trouble = self._write(own, own in sizes)
        for file in sorted(sizes.keys() - {own}):
            self.trouble = self._read(file, sizes[file]) or self.trouble

    def _write(self, file: str, there: bool) -> str | None:
        """Write the text where it has grown and where its file is gone; return what went wrong."""
        for offset, event in self.ledger.events(self._offset):
            self._offset = offset
            if event["event"] in (TRIAL, RESULT, END):
                self._text.append(json.dumps(self._told(event)) + "\n")
        if there and self._written == len(self._text):
            return None
        path, local = f"{self.root}/{file}", self.files.type_name == "local"
        try:
            with self.files.open_output_stream(f"{path}.tmp" if local else path) as stream:
                stream.write("".join(self._text).encode())
            if local:  # a bucket's object is there whole or not at all
                self.files.move(f"{path}.tmp", path)
        except AWAY as error:
            return sentence(error)
        self._written = len(self._text)
        return None

    def _told(self, event: Event) -> Event:
        """Return what others need of an event."""
        kept = ("event", "trial", "number", "config", "epoch", "status")
        told = {name: event[name] for name in kept if name in event}
        if "metrics" in event:
            told["metrics"] = {key: value for key, value in event["metrics"].items() if key in self.keys}
        return told

    def _read(self, file: str, size: int) -> str | None:
        """Read what is new in another sweep's file; return what went wrong."""
        name = file.removesuffix(".jsonl")
        far = self._far.get(name, 0)
        if size <= far:
            return None
        try:
            with self.files.open_input_file(f"{self.root}/{file}") as stream:
                stream.seek(far)
                lines = stream.read().split(b"\n")[:-1]  # a last line without its end is still being written
        except AWAY as error:
            return sentence(error)
        self._far[name] = far + sum(len(line) + 1 for line in lines)
        if events := [event for line in lines if (event := read_event(line)) is not None]:
            self.read.put((name, events))
        return None


class Heard:
    """What is known of another sweep's trials: each of their rows and ends is news once.

    `ours`: the own sweep's description. `header`: the other's, None until its file was read.
    """

    def __init__(self, ours: Event) -> None:
        self.ours = ours
        self.header: Event | None = None
        self.trials: dict[str, TrialRecord] = {}
        self.outside: dict[str, str] = {}  # trials that teach nothing here, and why

    def recall(self, record: TrialRecord) -> None:
        """Note what the own ledger says of a trial."""
        known = self.trials.setdefault(record.trial, TrialRecord(record.trial, record.number, record.config))
        known.metrics |= record.metrics
        known.status = known.status or record.status

    def news(self, events: Iterable[Event], space: Space) -> list[TrialRecord]:
        """Return what is new in events, by trial: its rows, its end, or only that it has begun."""
        found: dict[str, TrialRecord] = {}
        for event in events:
            if event["event"] not in (TRIAL, RESULT, END):
                continue
            trial = event["trial"]
            known = self.trials.get(trial)
            if known is None:
                if event["event"] == TRIAL and trial not in self.outside:
                    self._begin(event, space)
                    if trial in self.trials:
                        found[trial] = replace(self.trials[trial], metrics={})
                continue
            record = found.get(trial) or TrialRecord(trial, known.number, known.config)
            if event["event"] == RESULT and event["epoch"] not in known.metrics:
                known.metrics[event["epoch"]] = record.metrics[event["epoch"]] = event["metrics"]
                found[trial] = record
            elif event["event"] == END and known.status is None:
                known.status = record.status = event["status"]
                found[trial] = record
        return list(found.values())

    def _begin(self, event: Event, space: Space) -> None:
        """Note a trial, or why it is none of this study."""
        config = {**(self.header or {}).get("settings", {}), **event["config"]}
        other = [name for name, held in self.ours["settings"].items() if config.get(name, held) != held]
        try:
            codes = space.encode(config)
        except SpaceError as error:
            self.outside[event["trial"]] = str(error)
            return
        if other:
            self.outside[event["trial"]] = f"{other[0]} is {config[other[0]]}"
            return
        self.trials[event["trial"]] = TrialRecord(event["trial"], event["number"], space.configuration(codes))
