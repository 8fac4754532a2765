"""The sweeps in a folder of results, as their ledgers tell them; nothing heavy is imported here."""

import fcntl
import json
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from searchers.record.ledger import Ledger
from searchers.record.schema import COMPLETE, FINISHED, MODEL, NOTE
from searchers.record.trials import TrialRecord
from searchers.study.config import UsageError

STORED = "sweep.json"  # as `searchers.execution.resume` writes it
LEDGER = "ledger.jsonl"
TUNE = "tune"  # Tune's snapshots and the checkpoints, a folder a trial


@dataclass(frozen=True)
class SweepFolder:
    """A sweep's folder: its settings, its trials, and how it ended so far."""

    path: Path
    program: str
    config: dict[str, Any]
    trials: list[TrialRecord]
    complete: bool
    """whether it ended, so that nothing is left to resume"""
    exported: frozenset[str]
    """ids of the best trials, whose weights are on record"""
    begun: datetime | None

    @classmethod
    def read(cls, path: Path) -> "SweepFolder":
        """Read a sweep's folder. Raises UsageError where it holds none, or its settings are damaged."""
        try:
            stored = json.loads((path / STORED).read_text(encoding="utf-8"))
            program, config = str(stored["program"]), dict(stored["config"])
        except FileNotFoundError:
            raise UsageError(f"There is no sweep in {path}") from None
        except (ValueError, TypeError, KeyError) as error:
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
        return cls(path, program, config, trials, complete, frozenset(exported), begun)

    @property
    def storage(self) -> str:
        """Where the checkpoints lie, a path or a URI: as `cluster.storage.resolve` chose it."""
        storage = (self.config.get("storage") or "").removeprefix("file://")
        if "://" in storage:
            return f"{storage.rstrip('/')}/{self.path.name}"
        return str((Path(storage).expanduser() / self.path.name if storage else self.path).resolve())

    @property
    def running(self) -> bool:
        """Whether a process writes this sweep's ledger."""
        try:
            with open(self.path / LEDGER, "rb") as file:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except OSError:  # there is none, or its file system has no locks
            return False
        return False

    @property
    def state(self) -> str:
        """`running`, `finished`, `interrupted` (it can be resumed) or `in parts`, sweeps themselves."""
        if not (self.path / LEDGER).exists():
            return "in parts"
        return "running" if self.running else "finished" if self.complete else "interrupted"

    @property
    def needed(self) -> list[TrialRecord]:
        """The trials whose latest checkpoint is still of use.

        While the sweep can be resumed those are the ones without an end and those that finished, of which the
        best are exported at the end; afterwards the best ones.
        """
        if self.complete and self.exported:
            return [trial for trial in self.trials if trial.trial in self.exported]
        return [trial for trial in self.trials if trial.status in (None, FINISHED)]


def all_in(results: Path) -> list[SweepFolder]:
    """Return the sweeps in a folder of results, the latest last."""
    found = [SweepFolder.read(path.parent) for path in sorted(results.glob(f"*/{STORED}"))]
    return sorted(found, key=lambda sweep: sweep.begun or datetime.min)


def size(path: Path) -> int:
    """Return how many bytes the files under a folder hold; 0 where there is none."""
    return sum(file.lstat().st_size for file in path.rglob("*") if not file.is_dir())
