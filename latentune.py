"""The command `latentune`: every command of the four packages under one name.

It stands beside the packages, which know nothing of each other, and imports one of them only when its
command is called: `latentune --help` answers at once. `python -m MODULE` calls the same commands where the
project is not installed, as on a cluster's machines.
"""

import importlib
import re
import shlex
import sys
from collections.abc import Sequence
from dataclasses import fields, make_dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated, Any, NamedTuple, Union, get_origin, get_type_hints

NAME = "latentune"
LEDGER, STORED = "ledger.jsonl", "sweep.json"  # in the folder of a sweep: what happened, and its settings
SHELLS = ("bash", "zsh", "fish")


class Command(NamedTuple):
    """A module with a `main`, the classes of its options in that module, and what it does in one line."""

    module: str
    options: str
    does: str


COMMANDS = {
    "sweep beta_vaegan": Command(
        "searchers.beta_vaegan", "BetaVAEGANConfig", "tune a β-VAE-GAN: the main job"
    ),
    "sweep baselines": Command(
        "searchers.baselines", "BaselinesConfig", "train the papers' baselines on several seeds"
    ),
    "sweep lego_vae": Command("searchers.lego_vae", "LegoConfig", "tune the sizes of the LEGO-face VAE"),
    "sweep happy_people": Command(
        "searchers.happy_people", "HappyPeopleConfig", "optimize faces in a latent space"
    ),
    "sweep densities": Command("searchers.densities", "DensityConfig", "tune four densities of digits"),
    "sweep flow": Command("searchers.flow", "FlowConfig", "tune a rectified flow or a diffusion model"),
    "sweep tune": Command("searchers.tune", "TuneConfig", "tune a model of your own"),
    "winners": Command("analysis.winners", "WinnersConfig", "which trial won, and can that be told?"),
    "trial": Command("analysis.trial", "TrialConfig", "show, reproduce, draw from or export one trial"),
    "figures": Command("analysis.figures", "FiguresConfig", "draw a sweep's figures"),
    "tables": Command("analysis.tables", "TablesConfig", "print the papers' tables beside our numbers"),
    "compare": Command("analysis.compare", "CompareConfig", "draw which of several searches paid"),
    "sampling": Command(
        "analysis.sampling", "SamplingConfig", "try sampling settings on a trained model, without training"
    ),
    "report": Command("analysis.report", "ReportConfig", "write a sweep as one HTML file"),
    "live": Command("analysis.live", "LiveConfig", "serve a sweep's page that redraws while it runs"),
    "list": Command("searchers.sweeps", "ListConfig", "list the sweeps here, their states and sizes"),
    "clean": Command("searchers.clean", "CleanConfig", "delete the checkpoints that a sweep needs no more"),
    "move": Command("searchers.move", "MoveConfig", "move or archive a record with all that belongs to it"),
    "data": Command("trainables.data", "Convert Info Verify Publish", "convert and inspect data sets"),
    "metrics": Command("trainables.metrics", "Arguments", "score one set of images against another"),
    "cluster": Command(
        "cluster.command", "Status Logs Attach Stop Down", "see and stop what --on runs on a cluster"
    ),
    "tracking": Command("cluster.tracking", "TrackingConfig", "serve MLflow"),
}
COMPLETION = "completion"


def main(arguments: list[str] | None = None) -> int:
    """Run the command that the first words name, with the others; return its exit code."""
    words = sys.argv[1:] if arguments is None else arguments
    if not words or words[0] in ("-h", "--help"):
        print(overview())
        return 0
    if words[0] == "--version":
        print(f"{NAME} {installed_version()}")
        return 0
    if words[0] == COMPLETION:
        return print_completion(words[1:])
    for length in (1, 2):
        name = " ".join(words[:length]).replace("-", "_")
        if name in COMMANDS:
            # What a command takes to be typed behind its name, and records as such.
            sys.argv = [sys.argv[0], *words[length:]]
            return run(COMMANDS[name].module)
    group = [name for name in COMMANDS if name.startswith(f"{words[0]} ")]
    if group and words[1:] in ([], ["-h"], ["--help"]):
        print(overview(words[0]))
        return 0
    wrong = " ".join(words[:2] if group else words[:1])
    print(
        f"{NAME}: there is no command {wrong!r}; there are: {', '.join(group or COMMANDS)}", file=sys.stderr
    )
    return 2


def run(module: str) -> int:
    """Call a module's `main`, or that of a package's `__main__`."""
    loaded = importlib.import_module(module)
    if not hasattr(loaded, "main"):
        loaded = importlib.import_module(f"{module}.__main__")
    return loaded.main()


def overview(group: str = "") -> str:
    """Return the help: a line a command, of all or of one group."""
    shown = {name: command.does for name, command in COMMANDS.items() if name.startswith(group)}
    if not group:
        shown |= {f"{COMPLETION} SHELL": f"print a completion script for {', '.join(SHELLS)}"}
    width = max(map(len, shown))
    lines = [f"  {NAME} {name:<{width}}  {does}" for name, does in shown.items()]
    return "\n".join(
        [f"usage: {NAME} COMMAND …", "", *lines, "", "COMMAND --help lists its flags; --version."]
    )


def installed_version() -> str:
    """Return the version that is installed; a checkout on a cluster's machine is not."""
    try:
        return version(NAME)
    except PackageNotFoundError:
        return "from a checkout that is not installed"


def called(program: str) -> str:
    """Return how `program`, as `python -m MODULE`, was called: so, or as a command of this one."""
    names = {command.module: name for name, command in COMMANDS.items()}
    name = names.get(program.removeprefix("python -m "))
    return f"{NAME} {name}" if name and Path(sys.argv[0]).name == NAME else program


def at_home(options: Any) -> Any:
    """Return a dataclass of options whose paths have their ~ written out: a shell leaves it in --FLAG=~/x."""
    paths = {field.name: getattr(options, field.name) for field in fields(options)}
    return replace(options, **{n: path.expanduser() for n, path in paths.items() if isinstance(path, Path)})


def on_cluster(path: str, program: str, words: Sequence[str], console: Any) -> int:
    """Run `program`, as `python -m MODULE`, on the cluster of a YAML file; return its exit code."""
    laptop = importlib.import_module("cluster.laptop")
    return laptop.command_on(path, program, laptop.without(words, "--on"), console)


def gathered(words: Sequence[str], options: type) -> list[str]:
    """Return a command's words with a flag of several values once, before all that it was given.

    Of `--set a=1 --set b=2` tyro would take b alone.
    """
    hints = get_type_hints(options).items()
    several = {f"--{name}".replace("_", "-") for name, hint in hints if get_origin(hint) is tuple}
    kept: list[str] = []
    values: dict[str, list[str]] = {}
    into = kept
    for word in words:
        flag, equals, value = word.partition("=")
        if (flag := flag.replace("_", "-")) in several:
            into = values.setdefault(flag, [])
            into += [value] if equals else []
        else:
            into = kept if re.match("--?[a-zA-Z]", word) else into
            into.append(word)
    return kept + [word for flag, found in values.items() for word in (flag, *found)]


def typed(words: Sequence[str]) -> set[str]:
    """Return the settings whose flags stand among a command's words."""
    flags = (word.partition("=")[0].replace("-", "_") for word in words if word.startswith("--"))
    return {flag.removeprefix("__").removeprefix("no_") for flag in flags}


def words_of(program: str, *words: str) -> list[str]:
    """Return the words that call `program`, as `python -m MODULE`, with further words from any folder.

    They are this environment's `latentune`, which does not look for modules in the folder where it is called;
    where that is not installed, they are Python's.
    """
    module = program.removeprefix("python -m ")
    names = {command.module: name for name, command in COMMANDS.items()}
    script = Path(sys.executable).with_name(NAME)
    if module in names and script.exists():
        return [str(script), *names[module].split(), *words]
    return [sys.executable, "-m", module, *words]


def line_of(words: Sequence[str]) -> str:
    """Return a command to be copied: its program relative to this folder, and quotes where it needs them."""
    program = Path(words[0])
    here = Path.cwd()
    shown = program.relative_to(here) if program.is_relative_to(here) else program
    return shlex.join([str(shown), *words[1:]])


def print_completion(words: list[str]) -> int:
    """Print the completion script of a shell; return the exit code."""
    if len(words) != 1 or words[0] not in SHELLS:
        print(f"usage: {NAME} {COMPLETION} {'|'.join(SHELLS)}", file=sys.stderr)
        return 0 if words in (["-h"], ["--help"]) else 2
    import tyro

    tyro.cli(
        _all_options(),
        prog=NAME,
        args=["--tyro-print-completion", words[0]],
        config=[tyro.conf.OmitArgPrefixes],
    )
    return 0


def _all_options() -> Any:
    """Return one type for tyro that holds the options of all commands. Imports every package."""
    tree: dict[str, Any] = {}
    for name, command in COMMANDS.items():
        *group, last = name.split()
        module = importlib.import_module(command.module)
        if not hasattr(module, command.options.split()[0]):
            module = importlib.import_module(f"{command.module}.__main__")
        options = [getattr(module, option) for option in command.options.split()]
        branch = tree.setdefault(group[0], {}) if group else tree
        branch[last] = {o.__name__.lower(): o for o in options} if len(options) > 1 else options[0]
    return _union(tree)


def _union(tree: dict[str, Any]) -> Any:
    import tyro

    parts = []
    for name, part in tree.items():
        kind = part
        if isinstance(part, dict):
            kind = make_dataclass(name.title(), [("chosen", _union(part))])
        parts.append(Annotated[kind, tyro.conf.subcommand(name, prefix_name=False)])
    return Union[tuple(parts)]  # noqa: UP007 - of a number of types that is known here only


if __name__ == "__main__":
    sys.exit(main())
