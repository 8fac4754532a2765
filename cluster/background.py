"""One background process per folder, enforced by a lock on a file in it."""

import contextlib
import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

PATIENCE = 30  # a process that is told to end has so many seconds


class BackgroundError(RuntimeError):
    """The process cannot start, or the one before it does not end; the message says why."""


class Owner:
    """The held lock of a folder. Its file names this process and the process group that this one started."""

    def __init__(self, lock: IO[str]):
        self._lock = lock
        self.answers_for(None)

    def answers_for(self, group: int | None) -> None:
        """Note a process group, so that the folder's next owner ends it if this process is killed."""
        self._lock.truncate(0)
        self._lock.write(f"{os.getpid()} {group or ''}")
        self._lock.flush()


@contextlib.contextmanager
def only_one(folder: Path, wait: bool = False) -> Iterator[Owner]:
    """Own the folder while the block runs. Raises BackgroundError where another owns it, unless to `wait`."""
    _make(folder)
    with open(folder / "lock", "a+") as lock:
        while not _try_lock(lock):
            if not wait:
                raise BackgroundError(f"Process {_named(lock)[0]} serves {folder} already")
            time.sleep(1)
        _end_orphans(lock)
        yield Owner(lock)


def locked(folder: Path, name: str = "lock") -> bool:
    """Whether a process owns a folder; or a file in it, as a sweep does its ledger."""
    with open(folder / name, "a+") as lock:
        return not _try_lock(lock)


def run_detached(folder: Path, log: Path, work: Callable[[Owner, Callable[[str], None]], None]) -> str:
    """Run `work(owner, announce)` in a background process that owns the folder; return what it announced.

    A process that already owns the folder is ended first. The new process prints into the file `log`. Raises
    BackgroundError with the exception's message where `work` fails before it announces anything.
    """
    _make(folder)
    _end_owner(folder)
    reader, writer = os.pipe()
    if os.fork():
        os.close(writer)
        with os.fdopen(reader) as pipe:
            words = pipe.read()
        if not words.startswith("+"):
            raise BackgroundError(words or f"The background process ended without a word; see {log}")
        return words[1:]
    os.close(reader)
    os.setsid()
    code = 1
    with os.fdopen(writer, "w") as pipe:
        try:
            _redirect(log)
            with only_one(folder) as owner:

                def announce(words: str) -> None:
                    pipe.write(f"+{words}")
                    pipe.close()

                work(owner, announce)
            code = 0
        except BaseException as error:
            if pipe.closed:
                print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
            else:
                pipe.write(str(error))
    os._exit(code)  # without the exit handlers, which belong to the parent


def _redirect(log: Path) -> None:
    with open(os.devnull, "rb") as null, log.open("ab") as file:
        for number, source in ((0, null), (1, file), (2, file)):
            os.dup2(source.fileno(), number)


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        (folder / "lock").touch(mode=0o600)
    except OSError as error:
        raise BackgroundError(f"Nothing can be written in {folder} ({error.strerror})") from error


def _try_lock(lock: IO[str]) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _named(lock: IO[str]) -> list[int]:
    """Return the process id that the lock file names and, if it names one, the process group."""
    lock.seek(0)
    return [int(number) for number in lock.read().split()]


def _end_owner(folder: Path) -> None:
    with open(folder / "lock", "a+") as lock:
        deadline = time.monotonic() + PATIENCE
        while not _try_lock(lock):
            named = _named(lock)
            if named:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(named[0], signal.SIGTERM)
            if time.monotonic() > deadline:
                raise BackgroundError(f"Process {named[:1]} serves {folder} and does not end")
            time.sleep(0.2)


def _end_orphans(lock: IO[str]) -> None:
    """End the process group that a killed owner left behind: it holds a port and writes a database."""
    for group in _named(lock)[1:]:
        listing = subprocess.run(["ps", "-o", "args=", "-p", str(group)], capture_output=True, text=True)
        if "mlflow" in listing.stdout:  # by now the number may belong to another process
            # In a container without an init, dead processes may stay in the table: hence the deadline.
            deadline = time.monotonic() + PATIENCE
            with contextlib.suppress(ProcessLookupError):
                while time.monotonic() < deadline:  # the port is free when the last of them is gone
                    os.killpg(group, signal.SIGKILL)
                    time.sleep(0.05)
