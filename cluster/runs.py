"""Commands that run on a cluster's head while nobody looks: `cluster.laptop` begins, follows and stops them.

A run is a folder in ~/latentune/runs: `run.json` says what it is, `log` holds its output, `table` what its
live table shows, `exit` its exit code. A lock tells whether it is going on.
"""

import contextlib
import json
import os
import pickle
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.live import Live

from cluster.background import BackgroundError, Owner, locked, run_detached
from latentune import LEDGER, STORED

HOME = Path("~/latentune")
RUNS = "runs"  # in it
TABLE_VARIABLE = "LATENTUNE_TABLE"  # names the file that a sweep's live table is kept in
MARK = "<<latentune>> "  # begins a line of JSON for the laptop, between Ray's and the shell's own words
LOOKS = 0.5  # seconds between two looks at a run


@dataclass(frozen=True)
class Run:
    """What was begun. Its first `offset` bytes of log are an earlier run's of the same name."""

    name: str
    words: tuple[str, ...]
    folder: str
    """where it runs"""
    fetch: str
    """the folder of its results, relative to that"""
    sweep: bool
    """whether it is a sweep, of which a report is written at its end"""
    offset: int = 0
    began: float = 0.0
    """Unix time"""

    @classmethod
    def of(cls, told: dict[str, Any]) -> "Run":
        """Return the run that JSON tells."""
        return cls(**{**told, "words": tuple(told["words"])})

    @property
    def folders(self) -> list[Path]:
        """Its folders of results: a sweep's own and those of its parts, as their ids tell."""
        whole = Path(self.folder).expanduser() / Path(self.fetch).expanduser()
        if not self.sweep:
            return [whole] if any(whole.iterdir()) else []
        mine = sweep_id_of(whole)
        others = (path.parent for path in sorted(whole.parent.glob(f"*/{STORED}")))
        parts = [
            path for path in others if mine and sweep_id_of(path) == mine + path.name.removeprefix(whole.name)
        ]
        return [path for path in dict.fromkeys([whole, *parts]) if path.is_dir()]


def sweep_id_of(folder: Path) -> str:
    """Return the id of the sweep in a folder, of a part "id-part"; "" where there is none."""
    try:
        return str(json.loads((folder / STORED).read_text())["sweep_id"])
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return ""


REPORT = ("python", "-m", "analysis.report")


def home_of(name: str) -> Path:
    """Return the folder of a run."""
    return HOME.expanduser() / RUNS / name


def start(run: Run, width: int) -> None:
    """Begin a run in the background, its lines `width` letters wide.

    Raises BackgroundError where one of its name is going on, and where a sweep would have the head alone.
    """
    told_where = os.environ.get("RAY_ADDRESS") or any(word.startswith("--address") for word in run.words)
    if run.sweep and not told_where:
        raise BackgroundError("Ray does not run on the head, as after its restart: ray up starts it again")
    folder = home_of(run.name)
    if (folder / "lock").exists() and locked(folder):
        raise BackgroundError(f"{run.name} is going on already: --attach {shlex.quote(run.name)} shows it")
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / "log"
    offset = log.stat().st_size if log.exists() else 0
    run = replace(run, offset=offset, began=time.time())
    (folder / "run.json").write_text(json.dumps(asdict(run)))
    for name in ("exit", "table"):
        (folder / name).unlink(missing_ok=True)
    place = Path(run.folder).expanduser()
    place.mkdir(parents=True, exist_ok=True)
    environment = {**os.environ, "COLUMNS": str(width), "PYTHONUNBUFFERED": "1"}
    environment[TABLE_VARIABLE] = str(folder / "table")

    def work(owner: Owner, announce: Callable[[str], None]) -> None:
        words = [str(Path(word).expanduser()) if word.startswith("~/") else word for word in run.words]
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # who was begun in a shell's background ignores it
        process = subprocess.Popen(words, cwd=place, env=environment, start_new_session=True)
        owner.answers_for(process.pid)
        announce("begun")
        code = process.wait()
        for path in run.folders if run.sweep else ():
            if (path / LEDGER).exists():
                words = [*REPORT, "--sweep", path.name, "--output", str(path / "report.html")]
                subprocess.run(words, cwd=place, env=environment)
        (folder / "exit").write_text(str(code))

    run_detached(folder, log, work)


def read(name: str) -> Run:
    """Return a run. Raises BackgroundError where there is none of its name."""
    path = home_of(name) / "run.json"
    if not path.exists():
        known = ", ".join(sorted(p.parent.name for p in home_of("").glob("*/run.json")))
        raise BackgroundError(f"No run {name!r} was begun on this cluster; there are: {known or 'none'}")
    return Run.of(json.loads(path.read_text()))


def state(name: str) -> tuple[str, int | None]:
    """Return what became of a run, in words, and its exit code where it has ended."""
    folder = home_of(name)
    if locked(folder):
        return "runs", None
    try:
        code = int((folder / "exit").read_text())
    except (OSError, ValueError):  # it was killed, or its machine was
        return "was lost: --resume goes on from what is kept", 1
    return {0: "has ended", 130: "was stopped"}.get(code, f"failed with exit code {code}"), code


def follow(name: str, width: int, height: int, plain: bool) -> None:
    """Print a run's output, and below it its live table unless `plain`, until it has ended."""
    run, folder = read(name), home_of(name)
    tell(began=asdict(run), tracking=os.environ.get("MLFLOW_TRACKING_URI"))
    console = Console(width=width, height=height, force_terminal=not plain, legacy_windows=False)
    at = run.offset
    with contextlib.ExitStack() as stack:
        live = None
        if not plain:
            live = stack.enter_context(Live(console=console, auto_refresh=False, transient=True))
        while True:
            going_on = locked(folder)  # asked first: what it writes after that, the next look finds
            with (folder / "log").open("rb") as log:
                log.seek(at)
                new = log.read()
            whole = new if not going_on else new[: new.rfind(b"\n") + 1]
            if whole:
                at += len(whole)
                text = whole.decode(errors="replace").removesuffix("\n")
                console.print(text, markup=False, highlight=False, emoji=False, soft_wrap=True)
            if live is not None:
                with contextlib.suppress(OSError):
                    # Of this user's own sweep, which keeps what its table shows.
                    live.update(pickle.loads((folder / "table").read_bytes()), refresh=True)
            if not going_on:
                break
            time.sleep(LOOKS)
    words, code = state(name)
    folders = [str(path) for path in run.folders]
    tell(state=words, code=code, folders=folders, tracking=os.environ.get("MLFLOW_TRACKING_URI"))


def stop(name: str) -> None:
    """Have a run end as by Ctrl-C: a sweep saves itself. Raises BackgroundError where none goes on."""
    folder = home_of(read(name).name)
    if not locked(folder):
        raise BackgroundError(f"{name} has ended already")
    named = (folder / "lock").read_text().split()
    if len(named) > 1:
        os.kill(int(named[1]), signal.SIGINT)
    tell(stopping=name)


def listed() -> None:
    """Tell all runs, the last one first."""
    paths = sorted(home_of("").glob("*/run.json"), key=lambda path: path.stat().st_mtime, reverse=True)
    runs = [read(path.parent.name) for path in paths]
    when = [f"{datetime.fromtimestamp(run.began):%Y-%m-%d %H:%M}" for run in runs]
    rows = [[run.name, at, state(run.name)[0], run.words[2]] for run, at in zip(runs, when, strict=True)]
    tell(runs=rows)


def kept() -> None:
    """Tell each sweep whose record is on this machine: its name, whether it runs, the size of its ledger."""
    ledgers = sorted(HOME.expanduser().glob(f"results/*/{LEDGER}"))
    tell(kept=[[at.parent.name, locked(at.parent, LEDGER), at.stat().st_size] for at in ledgers])


def tell(**words: object) -> None:
    """Print a line for the laptop."""
    print(f"\n{MARK}{json.dumps(words)}", flush=True)


def obey() -> int:
    """Do what the one argument, JSON, says: the first word names a function, the others are its arguments."""
    order = json.loads(sys.argv[1])
    try:
        if "start" in order:
            start(Run.of(order["start"]), order["width"])
        if "stop" in order:
            stop(order["stop"])
        if "log" in order:
            tell(log=(home_of(read(order["log"]).name) / "log").read_text(errors="replace"))
        if "list" in order:
            listed()
        if "kept" in order:
            kept()
        if "follow" in order:
            follow(order["follow"], order["width"], order["height"], order["plain"])
    except (BackgroundError, OSError) as error:
        tell(error=str(error))
    return 0  # what another code stands for on a laptop is that SSH failed


if __name__ == "__main__":
    sys.exit(obey())
