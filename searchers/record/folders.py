"""The sweeps in a folder of results, as their ledgers tell them; nothing heavy is imported here."""

import fcntl
import json
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from cluster.runs import sweep_id_of
from latentune import LEDGER, STORED
from searchers.record.ledger import Ledger
from searchers.record.schema import COMPLETE, FINISHED, MODEL, NOTE
from searchers.record.trials import TrialRecord
from searchers.study.config import UsageError
from trainables.data.addresses import below

TUNE = "tune"  # Tune's snapshots and the checkpoints, a folder a trial
MODELS = "models"  # weights of the best trials, a folder each


@dataclass(frozen=True)
class SweepFolder:
    """A sweep's folder: its settings, its trials, and how it ended so far."""

    path: Path
    sweep_id: str
    program: str
    config: dict[str, Any]
    trials: list[TrialRecord]
    complete: bool
    """whether it ended, so that nothing is left to resume"""
    exported: frozenset[str]
    """ids of the best trials, whose weights are on record"""
    begun: datetime | None
    damaged: bool = False
    """whether its settings can't be read"""

    @classmethod
    def read(cls, path: Path) -> "SweepFolder":
        """Read a sweep's folder. Raises UsageError where it holds none, or its settings are damaged."""
        try:
            stored = json.loads((path / STORED).read_text(encoding="utf-8"))
            sweep_id, program = str(stored["sweep_id"]), str(stored["program"])
            config = dict(stored["config"])
        except FileNotFoundError:
            raise UsageError(f"There is no sweep in {path}") from None
        except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
            raise UsageError(f"{path / STORED} can't be read: {error}") from error
        ledger = Ledger(path / LEDGER)
        complete, exported, begun = False, set(), None
        for _, event in ledger.events():
            begun = begun or datetime.fromtimestamp(event.get("time", 0) / 1000)
            if event["event"] == NOTE and "status" in event:
                complete = event["status"] == COMPLETE
            elif event["event"] == MODEL:
                exported.add(event["trial"])
        trials = list(ledger.trials().values())
        return cls(path, sweep_id, program, config, trials, complete, frozenset(exported), begun)

    @property
    def storage(self) -> str:
        """Where the checkpoints lie, a path or a URI: as `cluster.storage.resolve` chose it."""
        storage = (self.config.get("storage") or "").removeprefix("file://")
        if "://" in storage:
            return below(storage, self.path.name)
        return str((Path(storage).expanduser() / self.path.name if storage else self.path).resolve())

    @property
    def parts(self) -> list["SweepFolder"]:
        """The sweeps that are parts of this one, as the models' are of a comparison."""
        begin = f"{self.sweep_id}-"
        found = all_in(self.path.parent, lambda folder: sweep_id_of(folder).startswith(begin))
        return [sweep for sweep in found if not sweep.damaged]

    @property
    def state(self) -> str:
        """`running`, `finished`, `interrupted` (may go on), `in parts` (sweeps of their own), `damaged`."""
        if self.damaged:
            return "damaged"
        if not (self.path / LEDGER).exists():
            return "in parts"
        return "running" if is_running(self.path) else "finished" if self.complete else "interrupted"

    @property
    def needed(self) -> list[TrialRecord]:
        """The trials whose latest checkpoint is still of use.

        While the sweep can be resumed those are the ones without an end and those that finished, of which the
        best are exported at the end; afterwards the best ones.
        """
        if self.complete and self.exported:
            return [trial for trial in self.trials if trial.trial in self.exported]
        return [trial for trial in self.trials if trial.status in (None, FINISHED)]


def is_running(folder: Path) -> bool:
    """Whether a process writes the ledger of the sweep in this folder."""
    try:
        with open(folder / LEDGER, "rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # there is none, or its file system has no locks
        return False
    return False


def all_in(results: Path, wanted: Callable[[Path], bool] = lambda folder: True) -> list[SweepFolder]:
    """Return the sweeps in the `wanted` folders of results, the latest last; damaged ones among them."""
    found = []
    for folder in filter(wanted, (path.parent for path in sorted(results.glob(f"*/{STORED}")))):
        try:
            found.append(SweepFolder.read(folder))
        except UsageError:
            found.append(SweepFolder(folder, "", "–", {}, [], False, frozenset(), None, damaged=True))
    return sorted(found, key=lambda sweep: sweep.begun or datetime.min)


def size(path: Path) -> int:
    """Return how many bytes the files under a folder hold; 0 where there is none."""
    total = 0
    for folder, _, files in os.walk(path):
        for file in files:
            with suppress(FileNotFoundError):  # Tune deletes checkpoints meanwhile
                total += os.lstat(os.path.join(folder, file)).st_size
    return total
