"""A sweep as a page that redraws while it runs: the page of `analysis.report`, served to this machine alone.

    python -m analysis.live --sweep NAME

A sweep's driver starts it with `--dashboard` and hands it what it knows of the moment, which no record holds:
what waits and why, how much is left, how far MLflow is. Nothing is read before a browser asks, and after each
reading the page rests twenty times as long as that took: it never takes more than a twentieth of one core.
"""

import json
import os
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro
from rich.console import Console

from analysis.command import Record, run_command
from analysis.record.store import AnalysisError, connect, is_of_mlflow, reason_of
from analysis.served import HTML, JSON, PageServer
from searchers.record.schema import DELIVERED_TAG, RUNNING

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from analysis.record.tables import Tables

PROGRAM = "python -m analysis.live"
FIGURES = ("posterior",)  # the others take seconds of drawing
RESTS = 20  # times as long as the last reading took
NICE = 5  # behind trials, which take every core, and yet not starved by them
SHORTEST_REST = 2.0  # seconds
BEST = 3  # trials whose images are shown beside those of running ones


@dataclass(frozen=True)
class LiveConfig(Record):
    """Options of `analysis.live`."""

    on: Annotated[str | None, tyro.conf.Fixed] = None  # its page is of this machine

    port: int = 0
    """of this machine; any that is free, if not given"""
    moment: Path | None = None
    """file that the sweep's driver writes; the page then ends with the driver, which holds its stdin"""


def live(config: LiveConfig, console: Console) -> int:
    """Serve a sweep's page, to this machine alone, until Ctrl-C."""
    os.nice(NICE)
    if config.moment is None:  # a driver's sweep may not be on record yet
        from analysis.record.sweeps import find  # imports pandas

        find(connect(config.tracking_uri), config.sweep)
    server = PageServer(LivePage(config.tracking_uri, config.sweep, config.moment).answer, config.port)
    console.print(f"Live page: {server.address}", soft_wrap=True)
    if config.moment is not None:
        sys.stdout.flush()
        threading.Thread(target=_end_with_stdin, args=(server,), daemon=True).start()
    with server:
        server.serve_forever()
    return 0


def _end_with_stdin(server: PageServer) -> None:
    """End the server when the process at the other end of stdin is gone."""
    sys.stdin.buffer.read()
    server.shutdown()


class LivePage:
    """What the page shows, read again where the record has changed and the rest is over."""

    def __init__(self, tracking_uri: str | None, sweep: str, moment: Path | None):
        self.tracking_uri, self.sweep, self.moment = tracking_uri, sweep, moment
        self.lock = threading.Lock()
        self.content: dict[str, Any] | None = None
        self.seen = ""  # how far MLflow's record was when `content` was read
        self.says = "Nothing is on record yet."
        self.rests_until = 0.0
        self._client: MlflowClient | None = None
        self._run_id = ""
        self._images: dict[tuple[str, str], str] = {}  # those that are shown, by run and path

    def answer(self, path: str, query: dict[str, str]) -> tuple[str, bytes] | None:
        """Return the page, or what is new on it; None for anything else."""
        if path == "":
            return HTML, html().encode()
        if path == "data":
            news = json.dumps(self.news(query.get("seen", "")), ensure_ascii=False)
            return JSON, news.encode("utf-8", "backslashreplace")
        return None

    def news(self, seen: str) -> dict[str, Any]:
        """Return the moment, and the sweep where it is not what the browser has `seen`."""
        with self.lock:
            if time.monotonic() >= self.rests_until:
                first, begin = self._client is None, time.process_time()
                self._read()
                took = 0.0 if first else time.process_time() - begin  # the first one imports packages, once
                self.rests_until = time.monotonic() + max(SHORTEST_REST, RESTS * took)
            changed = self.content is not None and seen != self.seen
            return {
                "moment": self._moment(),
                "says": self.says,
                "seen": self.seen,
                "sweep": self.content if changed else None,
            }

    def _moment(self) -> Any:
        try:
            return json.loads(self.moment.read_text(encoding="utf-8")) if self.moment else None
        except (OSError, ValueError):
            return None  # not written yet

    def _read(self) -> None:
        """Read the record where it has changed; whatever keeps it from being read is said on the page."""
        # They import PyTorch, pandas and Matplotlib: not before somebody looks.
        from analysis.record.sweeps import find
        from analysis.record.tables import load
        from analysis.report import content

        try:
            client = self._client = self._client or connect(self.tracking_uri)
            if not self._run_id:
                self._run_id = find(client, self.sweep).run_id
            run = client.get_run(self._run_id)
            far = f"{run.data.tags.get(DELIVERED_TAG)}-{run.info.status}"
            if far == self.seen:
                return
            tables = load(client, self.sweep)
            self.content = content(client, tables, self.tracking_uri, FIGURES, self.images)
            self.seen, self.says = far, ""
        except AnalysisError as error:
            self.says = str(error)
        except Exception as error:  # asked again in a moment: the page outlives it
            who = "MLflow does not answer" if is_of_mlflow(error) else "The record cannot be read"
            self.says = f"{who} now: {reason_of(error)}."

    def images(
        self, client: "MlflowClient", tables: "Tables", best_first: list[int]
    ) -> dict[int, dict[str, dict[int, str]]]:
        """Return the last images of the running trials and of the best ones, by trial, key and epoch."""
        from analysis.record.images import data_uri, last_images

        trials = tables.trials.set_index("number")
        running = [int(n) for n in trials.index[trials["status"] == RUNNING]]
        found: dict[int, dict[str, dict[int, str]]] = {}
        known, self._images = self._images, {}
        with tempfile.TemporaryDirectory() as folder:
            for n in dict.fromkeys([*best_first[:BEST], *running]):
                run_id = str(trials.loc[n, "run_id"])
                for key, (epoch, path) in last_images(client, run_id).items():
                    if (uri := known.get((run_id, path))) is None:
                        local = Path(client.download_artifacts(run_id, path, folder))
                        uri = data_uri(local.read_bytes(), "png")
                    self._images[run_id, path] = uri
                    found.setdefault(n, {})[key] = {epoch: uri}
        return found


def html() -> str:
    """Return the page: the report's, with a script that asks for news."""
    page, script = (
        (files("analysis") / name).read_text(encoding="utf-8") for name in ("report.html", "live.js")
    )
    page = page.replace("</head>", '<link rel="icon" href="data:,">\n</head>')  # browsers ask for one
    return page.replace("/*DATA*/", "[]").replace("</body>", f"<script>\n{script}</script>\n</body>")


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return its exit code."""
    return run_command(PROGRAM, LiveConfig, live, arguments)


if __name__ == "__main__":
    sys.exit(main())
