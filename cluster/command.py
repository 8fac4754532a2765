"""What runs on a cluster, from the laptop: `latentune cluster status|logs|attach|stop|down`."""

import shlex
import sys
from dataclasses import dataclass
from pathlib import Path

import tyro
from rich.console import Console
from rich.table import Table

from cluster.errors import ClusterError
from cluster.head import Head, quietly
from cluster.laptop import say, watch
from cluster.runs import HOME
from latentune import LEDGER, called

PROGRAM = "python -m cluster.command"


@dataclass(frozen=True)
class OfCluster:
    """Options of all of these commands."""

    on: str = "ray_cluster.yaml"
    """file of the cluster, as `ray up` took it"""


@dataclass(frozen=True)
class Status(OfCluster):
    """Show the cluster's machines, and what --on has begun there."""


@dataclass(frozen=True)
class OfRun(OfCluster):
    """Options of the commands that name what --on has begun."""

    name: tyro.conf.Positional[str] = ""
    """its name: a sweep's own, or what `latentune cluster status` shows"""


@dataclass(frozen=True)
class Logs(OfRun):
    """Print all that a run has printed."""


@dataclass(frozen=True)
class Attach(OfRun):
    """Show a run until it has ended, and fetch its results."""


@dataclass(frozen=True)
class Stop(OfRun):
    """Have a run end as by Ctrl-C: a sweep saves itself, and --resume goes on."""


@dataclass(frozen=True)
class Down(OfCluster):
    """Stop the cluster, unless something runs there, or records would go with its head that are not here."""

    anyway: bool = False
    """stop it whatever runs or lies there"""


def status(head: Head, console: Console) -> int:
    """Print the machines as Ray tells them, and the runs as a table, the last one first."""
    printed = head.run("ray status", f"Ray does not answer on cluster {head.name}")
    say(console, printed[max(0, printed.find("=====")) :].replace("\r", "").strip())
    table = Table("name", "begun", "state", "command", box=None, pad_edge=False)
    for row in head.order(list=True)["runs"]:
        table.add_row(*row)
    console.print(table if table.rows else "Nothing was begun there by --on.")
    return 0


def down(head: Head, anyway: bool, console: Console) -> int:
    """Stop the cluster as `ray down` does. Raises ClusterError as `refuse_loss` where not `anyway`."""
    from ray.autoscaler import sdk

    try:
        head.reach()
        if not anyway:
            refuse_loss(head)
    except ClusterError as error:
        if not (anyway and head.goes):
            raise
        say(console, f"{error}. Its machines are ended all the same.")
    with head.file() as file:
        quietly(lambda: sdk.teardown_cluster(file), f"Cluster {head.name} can't be stopped")
    left = "its head is gone with what lay there" if head.goes else "results stay on its head"
    say(console, f"Cluster {head.name} is down; {left}.")
    return 0


def refuse_loss(head: Head) -> None:
    """Raise ClusterError where something runs there, or a record that is not here would go with the head."""
    told = head.order(list=True, kept=True)
    going_on = [name for name, _, state, _ in told["runs"] if state == "runs"]
    going_on += [name for name, runs, _ in told.get("kept", []) if runs]
    if going_on:
        raise ClusterError(
            f"{', '.join(dict.fromkeys(going_on))} runs there: latentune cluster stop NAME, Ctrl-C where it "
            "was begun, or --anyway"
        )
    here = {path.parent.name: path.stat().st_size for path in Path("results").glob(f"*/{LEDGER}")}
    only_there = [name for name, _, size in told.get("kept", []) if here.get(name) != size]
    if head.goes and only_there:
        fetch = f"ray rsync_down {shlex.quote(head.path)} '{HOME}/results/' results/"
        raise ClusterError(f"{', '.join(only_there)} would go with the head: {fetch}, or --anyway")


def act(config: OfCluster, console: Console) -> int:
    """Do what a command says; return the exit code. Raises ClusterError."""
    head = Head(config.on)
    if isinstance(config, OfRun) and not config.name:
        raise ClusterError("name the run: latentune cluster status shows them")
    if isinstance(config, Down):
        return down(head, config.anyway, console)
    head.reach()
    match config:
        case Stop():
            head.order(stop=config.name)
            say(console, f"{config.name} is told to stop, and saves itself first.")
        case Logs():
            printed = head.order(log=config.name)
            sys.stdout.write(printed["log"])
        case Attach():
            return watch(head, config.name, console)
        case _:
            return status(head, console)
    return 0


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return its exit code."""
    program = called(PROGRAM)
    config = tyro.cli(
        Status | Logs | Attach | Stop | Down,  # type: ignore[arg-type]
        prog=program,
        description=__doc__,
        args=arguments,
        config=(tyro.conf.OmitSubcommandPrefixes,),
    )
    try:
        return act(config, Console())
    except ClusterError as error:
        print(f"{program}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
