"""The live page of a sweep: a process of its own that reads the record, and one file of the moment for it."""

import contextlib
import json
import math
import os
import subprocess
import threading
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from latentune import words_of
from searchers.display.snapshot import Row
from searchers.study.config import RunConfig

MOMENT = "moment.json"  # in the sweep's folder
LOG = "live_page.log"


class LivePage:
    """Starts the page's process and says its link; as a context manager it ends it.

    The process reads MLflow, not the memory of this one, at a low priority and only while a browser asks. It
    holds the other end of a pipe: were this process killed, it would end by itself.
    """

    def __init__(self, config: RunConfig, sweep_id: str, folder: Path, say: Callable[[str], object]):
        self.path, self.say = folder / MOMENT, say
        words = ["--sweep", sweep_id, "--tracking-uri", config.tracking_uri, "--moment", str(self.path)]
        self.command = words_of("python -m analysis.live", *words)
        self.log = folder / LOG
        self.process: subprocess.Popen[str] | None = None

    def __enter__(self) -> "LivePage":
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                self.command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                start_new_session=True,  # Ctrl-C is for the sweep
            )
        threading.Thread(target=self._say_link, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.process and self.process.stdin:
            with contextlib.suppress(OSError):
                self.process.stdin.close()
        self.path.unlink(missing_ok=True)

    def _say_link(self) -> None:
        """Hand on the line that the process prints once it listens; where it can't, say where it told why."""
        assert self.process is not None and self.process.stdout is not None
        line = self.process.stdout.readline().strip()
        self.say(line or f"There is no live page: {self.log} says why.")

    def show(self, moment: dict[str, Any]) -> None:
        """Write what there is to show now. A full disk ends the sweep elsewhere, with its own words."""
        temporary = self.path.with_suffix(".tmp")
        with contextlib.suppress(OSError):
            temporary.write_text(json.dumps(finite(moment)), encoding="utf-8")
            os.replace(temporary, self.path)


def plain_row(row: Row) -> dict[str, Any]:
    """Return a row as JSON has it, without what the record has."""
    return {k: v for k, v in asdict(row).items() if k not in ("std", "further", "derived", "brief")}


def finite(value: Any) -> Any:
    """Return a value with None for each number that is not finite, which JSON does not know."""
    if isinstance(value, dict):
        return {name: finite(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
