"""A command that is typed here and runs on a cluster: `--on ray_cluster.yaml`.

The code goes there by the file mounts of the YAML, local files that the command names by their content, once.
It runs on the head (`cluster.runs`) and outlives this process, which shows its output and its live table, and
fetches its results.
"""

import contextlib
import hashlib
import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from pathlib import Path, PurePosixPath
from typing import IO, Any

from rich.console import Console
from rich.progress import Progress

from cluster.errors import ClusterError
from cluster.head import Head, order, reason, told_in
from cluster.runs import HOME, MARK, RUNS, Run
from latentune import called
from trainables.data.formats.containers import walk

STOPPED = 130  # exit code after Ctrl-C
PORT = 5000  # of the head's MLflow
# A child that calls Ray's SDK as `ray exec` does, but may forward a port to one of another number.
EXEC = "import json, sys; from ray.autoscaler import sdk; sdk.run_on_cluster(**json.loads(sys.argv[1]))"


@dataclass(frozen=True)
class Job:
    """A command to run on a cluster: its module, its words, and the files among them that are here."""

    run: Run
    files: Mapping[str, str] = field(default_factory=dict)
    """files and folders of this machine, by the flags that name them"""
    shared: str = str(HOME)
    """folder there, which all machines see, for the files"""
    code: tuple[Path, ...] = ()
    """modules and packages of a person's own, which the command imports"""
    dry_run: bool = False


def run_on(path: str, job: Job, console: Console) -> int:
    """Run a job on the cluster of a YAML file, and show it until its end or Ctrl-C; return its exit code.

    Raises ClusterError with one sentence.
    """
    head = Head(path)
    places = {here: place_of(here, job.shared) for here in job.files.values()}
    flags = {flag: places[here] for flag, here in job.files.items()}
    run = replace(job.run, words=tuple(replaced(job.run.words, flags)))
    if job.dry_run:
        for line in plan(head, run, places):
            say(console, line)
        return 0
    head.reach()
    say(console, f"Cluster {head.name}: sending the code")
    head.send_code()
    for own in job.code:
        slash = "/" if own.is_dir() else ""
        head.send(f"{own}{slash}", f"{HOME}/{own.name}{slash}")
    for here, there in places.items():
        send_once(head, here, there, console)
    head.order(start=asdict(run), width=console.width)
    say(console, f"{run.name} runs there, also without this terminal. To come back: {again(head, run.name)}")
    return watch(head, run.name, console)


def command_on(path: str, program: str, words: Sequence[str], console: Console) -> int:
    """Run a command that is no sweep on the cluster of a YAML file; what it writes comes into this folder.

    Returns its exit code, or 2 after one sentence on stderr where the cluster can't be used.
    """
    module = program.removeprefix("python -m ")
    name = f"{module.rpartition('.')[2]}-{datetime.now():%Y%m%d-%H%M%S}"
    words = ("python", "-m", module, *words)
    run = Run(name, words, folder=f"{HOME}/{RUNS}/{name}/work", fetch=".", sweep=False)
    try:
        return run_on(path, Job(run), console)
    except ClusterError as error:
        print(f"{called(program)}: {error}", file=sys.stderr)
        return 2


def without(words: Sequence[str], *flags: str) -> list[str]:
    """Return a command's words without some flags and, but for --dry-run, their values."""
    kept, skip = [], False
    for word in words:
        flag, equals, _ = word.partition("=")
        flag = flag.replace("_", "-")  # either is taken
        if not skip and flag not in flags:
            kept.append(word)
        skip = not skip and flag in flags and not equals and flag != "--dry-run"
    return kept


def say(console: Console, words: str) -> None:
    """Print a line that can be copied."""
    console.print(words, highlight=False, markup=False, soft_wrap=True)


def replaced(words: Sequence[str], places: Mapping[str, str]) -> Iterator[str]:
    """Yield a command's words, and for what stands behind some flags its place there."""
    before = ""
    for word in words:
        name, equals, _ = word.partition("=")
        flag = name.replace("_", "-")
        yield f"{name}={places[flag]}" if equals and flag in places else places.get(before, word)
        before = "" if equals else flag


def plan(head: Head, run: Run, places: Mapping[str, str]) -> Iterator[str]:
    """Yield what would be done, a line each."""
    yield f"On the head of cluster {head.name}, in {run.folder}: {shlex.join(run.words)}"
    yield f"Sent before: {', '.join(map(str, head.config['file_mounts'].values()))}"
    yield from (f"Sent, where it is not there yet: {here} to {there}" for here, there in places.items())
    yield f"Fetched at its end: {run.fetch}, without checkpoints, to {target_of(run)}/"


def again(head: Head, name: str) -> str:
    """Return the command that shows a run again."""
    return f"latentune cluster attach {shlex.quote(name)} --on {shlex.quote(head.path)}"


def target_of(run: Run, folder: str = "") -> Path:
    """Return where a folder of results goes here: a sweep's among the results, other files where one is."""
    return Path("results") / PurePosixPath(folder or run.fetch).name if run.sweep else Path()


def watch(head: Head, name: str, console: Console) -> int:
    """Show a run until it has ended, then fetch its results; return its exit code.

    Ctrl-C asks whether to leave it or to have it stopped; where nobody can answer, it is left. Raises
    ClusterError where there is no such run.
    """
    with following(head, name, console) as follower:
        while True:
            try:
                ended = follower.show()
                break
            except KeyboardInterrupt:
                console.show_cursor(True)  # which the table hides
                answer = ask(console)
            if answer == "stop":
                say(console, f"{name} is told to stop, and saves itself first.")
                head.order(stop=name)
            elif answer == "detach":
                say(console, f"{name} goes on. To come back: {again(head, name)}")
                return 0
    if ended is None or follower.run is None:
        say(console, f"The connection broke; {name} goes on. To come back: {again(head, name)}")
        return 1
    for folder in ended["folders"]:
        target = target_of(follower.run, folder)
        target.mkdir(parents=True, exist_ok=True)
        # Checkpoints stay: the best models are exported beside them.
        head.fetch(f"{folder}/", f"{target}/", without=["/tune"])
        say(console, f"Fetched: {target}/")
    console.show_cursor(True)
    goes_on = "; --resume goes on with it" if follower.run.sweep and ended["code"] == STOPPED else ""
    say(console, f"{name} {ended['state']}{goes_on}.")
    if ended["tracking"] and sys.stdin.isatty() and console.is_terminal:
        keep_record_open(head, console)
    return int(ended["code"])


def ask(console: Console) -> str:
    """Ask what becomes of a run: "detach", "stop" or "watch". Where nobody can answer: "detach"."""
    if not sys.stdin.isatty():
        return "detach"
    try:
        answer = console.input("\nLeave it running there (Enter), stop it (s), or go on watching (w)? ")
    except (KeyboardInterrupt, EOFError):
        return "detach"
    return {"s": "stop", "w": "watch"}.get(answer.strip().lower()[:1], "detach")


def keep_record_open(head: Head, console: Console) -> None:
    """Forward MLflow's port of the head until a key is pressed."""
    with forwarded(head, "echo; while sleep 3600; do :; done") as (_, port), contextlib.suppress(EOFError):
        words = f"The record: {link(port)} (Enter closes the connection) "
        with contextlib.suppress(KeyboardInterrupt):
            console.input(words, markup=False)


def link(port: int) -> str:
    """Return where the head's MLflow is here; without the last words its page hides the table of runs."""
    return f"http://127.0.0.1:{port}/?workflowType=machine_learning"


class Follower:
    """Shows what a connection to a run brings. `port` is where MLflow of the head answers here."""

    def __init__(self, stream: IO[bytes], port: int, console: Console):
        self.stream, self.port, self.console = stream, port, console
        self.run: Run | None = None
        self._held = b""  # has come, and is not shown yet

    def show(self) -> dict[str, Any] | None:
        """Print the run's output until it has ended; return what became of it, None where the line broke.

        Raises ClusterError where there is no such run.
        """
        if self.run is None:
            self._begin()
        mark = MARK.encode()
        while chunk := self.stream.read(65536):
            self._held += chunk
            shown, found, rest = self._held.partition(mark)
            if found and b"\n" in rest:
                self._print(shown.rstrip())
                return dict(json.loads(rest.splitlines()[0]))
            part = next((n for n in range(len(mark), 0, -1) if shown.endswith(mark[:n])), 0)
            if not found:
                self._print(shown[: len(shown) - part])
                self._held = shown[len(shown) - part :]
        return None

    def _begin(self) -> None:
        """Pass over what Ray and the shell say until the run is told."""
        said = []
        for line in iter(self.stream.readline, b""):
            said.append(line.decode(errors="replace").strip())
            for told in told_in(said[-1:]):
                self.run = Run.of(told["began"])
                if told["tracking"]:
                    say(self.console, f"The record, while this runs: {link(self.port)}")
                return
        raise ClusterError(f"The head does not show it ({reason(said) or [*said, 'no answer'][-1]})")

    def _print(self, text: bytes) -> None:
        if text:
            sys.stdout.buffer.write(text if self.console.is_terminal else text.replace(b"\r", b""))
            sys.stdout.buffer.flush()


@contextlib.contextmanager
def following(head: Head, name: str, console: Console) -> Iterator[Follower]:
    """Connect to a run; afterwards the connection is closed, which the run does not notice."""
    size = {"width": console.width, "height": console.height, "plain": not console.is_terminal}
    with forwarded(head, order({"follow": name, **size})) as (stream, port):
        yield Follower(stream, port, console)
        if not console.is_terminal:
            say(console, "")


@contextlib.contextmanager
def forwarded(head: Head, command: str) -> Iterator[tuple[IO[bytes], int]]:
    """Run a command on the head, with MLflow's port forwarded; yield what it prints and the port here."""
    port = free_port()
    with head.file() as file:
        words = {"cluster_config": file, "cmd": command, "port_forward": [[port, PORT]]}
        process = subprocess.Popen(
            [sys.executable, "-c", EXEC, json.dumps(words)],
            bufsize=0,  # what has come is read at once
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C is for this process, which asks
        )
        try:
            assert process.stdout is not None
            yield process.stdout, port
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
            process.wait()


def free_port() -> int:
    """Return MLflow's usual port, if it is free here, or another."""
    with socket.socket() as listener:
        try:
            listener.bind(("127.0.0.1", PORT))
        except OSError:
            listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def files_in(path: Path) -> list[Path]:
    """Return the files of a folder that count as a data set's, sorted, or the file.

    Raises ClusterError where a folder holds links, which would lead nowhere on the head.
    """
    if not path.is_dir():
        return [path]
    whole, names = path.resolve(), sorted(name for name, _ in walk(path))
    if links := [name for name in names if (whole / name).resolve() != whole / name]:
        raise ClusterError(
            f"{path} holds links, which lead nowhere on the head, such as {links[0]}: copy it with cp -rL, "
            "and name the copy"
        )
    return [path / name for name in names]


def content_hash(path: Path) -> str:
    """Return a hash of a file's bytes, or of a folder's files and their names."""
    digest = hashlib.sha256()
    for file in files_in(path):
        digest.update(os.fsencode(f"{file.relative_to(path)}\0{file.stat().st_size}\0"))
        with file.open("rb") as stream:
            while chunk := stream.read(2**20):
                digest.update(chunk)
    return digest.hexdigest()[:16]


def place_of(here: str, shared: str) -> str:
    """Return where a file or folder goes: the name says its content, so that it goes once."""
    path = Path(here).expanduser().absolute()
    return f"{shared.rstrip('/')}/sent/{content_hash(path)}/{re.sub('[^A-Za-z0-9._-]', '_', path.name)}"


def send_once(head: Head, here: str, there: str, console: Console) -> None:
    """Send a file or a folder, unless it is there; what an interrupted call has sent stays sent.

    Raises ClusterError.
    """
    # A link's own name tells of which kind it is; what it leads to is sent.
    path, folder = Path(here).expanduser().resolve(), str(PurePosixPath(there).parent)
    answer = head.run(
        f"test -e {folder}/whole && echo it-is-there || mkdir -p {folder}", f"{here} can't be sent"
    )
    if "it-is-there" in answer:
        say(console, f"{here} is there already: {there}")
        return
    files = files_in(path)
    size = sum(file.stat().st_size for file in files) / 1e6
    # Ray's words are kept from the screen meanwhile, where the bar goes.
    with open(os.dup(1), "w") as screen, Progress(console=Console(file=screen), transient=True) as progress:
        task = progress.add_task(f"Sending {here}, {size:.1f} MB", total=len(files))
        slash = "/" if path.is_dir() else ""
        head.send(f"{path}{slash}", f"{there}{slash}", lambda lines: progress.update(task, completed=lines))
    head.run(f"touch {folder}/whole", f"{here} can't be sent")
    say(console, f"Sent {here}, {size:.1f} MB, to {there}")
