"""A sweep's command line that runs on a cluster (`--on`): its name, its files and where its results go."""

from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

from rich.console import Console

from cluster.head import Head
from cluster.kuberay import NAME as KUBERAY
from cluster.kuberay import manifest
from cluster.laptop import Job, run_on, watch, without
from cluster.runs import HOME, Run
from latentune import typed
from searchers.execution.resume import resolve
from searchers.study.config import Role, RunConfig, UsageError, having
from trainables.data.catalogue import NAMES

Config = TypeVar("Config", bound=RunConfig)


def elsewhere(program: str, config: Config, preset: Config, given: Sequence[str], console: Console) -> int:
    """Run a sweep's command line on the cluster of `--on`, or attach to what runs there; return its code.

    Raises UsageError and ClusterError with one sentence.
    """
    path = config.on
    if not path:
        raise UsageError("--attach shows what runs on a cluster: name that with --on ray_cluster.yaml")
    if config.attach:
        head = Head(path)
        head.reach()
        return watch(head, config.attach, console)
    words = without(given, "--on", "--dry-run")
    if config.resume is None:
        config, _ = resolve(config, preset, program, typed(given))
        words += [] if "name" in typed(given) else ["--name", config.title]
    name = config.resume or config.title
    words = ["python", "-m", program.removeprefix("python -m "), *words]
    if path == KUBERAY:
        print(manifest(name, words, config.results), end="")
        return 0
    run = Run(
        name=name,
        words=tuple(words),
        folder=str(HOME),
        fetch=f"{config.results.rstrip('/')}/{name}",
        sweep=True,
    )
    names = ("dataset", *having(type(config), Role.FILE))
    named = {name: value for name in names if (value := getattr(config, name)) and value not in NAMES}
    # All machines see the folder of results, or the sweep is refused there.
    shared = Path(config.results) if config.results != RunConfig.results else HOME
    job = Job(
        run,
        files={
            f"--{name.replace('_', '-')}": file
            for name, file in named.items()
            if Path(file).expanduser().exists()
        },
        shared=str(HOME / shared) if not str(shared).startswith("~") else str(shared),
        code=tuple(own_code(config)),
        dry_run=config.dry_run,
    )
    return run_on(path, job, console)


def own_code(config: RunConfig) -> list[Path]:
    """Return the files and packages in the working folder that settings name as MODULE:NAME."""
    named = [getattr(config, "model", None), config.features]
    named += [word.partition("=")[2] for word in getattr(config, "set", ())]
    modules = {str(name).partition(":")[0].partition(".")[0] for name in named if ":" in str(name)}
    places = [place for module in modules for place in (Path(f"{module}.py"), Path(module))]
    return sorted(place.resolve() for place in places if place.exists())
