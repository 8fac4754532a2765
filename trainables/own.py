"""A person's own code, named MODULE:NAME: models, extractors, scores."""

import ast
import hashlib
import inspect
import re
import sys
from collections.abc import Collection, Iterable
from contextlib import suppress
from difflib import get_close_matches
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

RAISED = (Exception, SystemExit)  # by a person's own code: anything, also what ends Python


class OwnCodeError(ValueError):
    """What was named cannot be imported; the message says what can."""


def look_here() -> str:
    """Have modules found in the working folder, where the command `latentune` does not look; return it."""
    if (here := str(Path.cwd())) not in sys.path:
        sys.path.insert(0, here)
    return here


def module_of(path: str) -> ModuleType:
    """Import the module of `MODULE:NAME`, as Python finds it from the working folder. Raises OwnCodeError."""
    name, colon, wanted = path.partition(":")
    if not (name and colon and wanted):
        raise OwnCodeError(f"{path!r} must be MODULE:NAME, such as mymodule:Flow")
    here = look_here()
    try:
        return import_module(name)
    except ImportError as error:
        raise OwnCodeError(f"{path}: {name} can't be imported from {here}: {error}") from error
    except RAISED as error:  # whatever a stranger's module raises
        raise OwnCodeError(f"{path}: importing {name} raised {type(error).__name__}: {error}") from error


def imported(path: str) -> Any:
    """Return what `MODULE:NAME` names. Raises OwnCodeError where it is not there."""
    module, name = module_of(path), path.partition(":")[2]
    if not hasattr(module, name):
        meant = get_close_matches(name, list(vars(module)), 1)
        there = f" (did you mean {meant[0]}?)" if meant else ""
        raise OwnCodeError(f"{path}: {module.__name__} has no {name}{there}")
    return getattr(module, name)


# What a result says of a trial itself, and what Tune adds to it.
RESERVED = {
    *("config", "date", "diverged", "done", "epoch", "evaluation_seconds", "first_images", "flags"),
    *("hostname", "images", "images_per_second", "node_ip", "pid", "should_checkpoint", "timestamp"),
    *("training_iteration", "trial_id"),
}

# Names of scores that are computed here: whoever reads a record knows by them what a score depends on.
OURS = re.compile(
    r"(fid|fd|kid|elbo|log_likelihood|bits_per_dim|nats_per_image|validation_loss|reconstruction_mse)(_.+)?|top\d+|"
    r"(class|disentanglement|ex_post|ex_post_mixture|gradient_norm|loss|loss_scale)/.+"
)

# What MLflow takes as a metric's name, also where `loss/` stands before it.
METRIC_NAME = re.compile(r"(?!.{201})[\w: -][\w.: -]*(/[\w: -][\w.: -]*)*")


def with_neighbors(names: Collection[str]) -> dict[str, ModuleType]:
    """Return what is imported of these modules, by name, and a file's neighbors that it has imported.

    A package has its own within it.
    """
    found = {name: sys.modules[name] for name in names if name in sys.modules}
    files = [Path(m.__file__) for m in found.values() if m.__file__ and not hasattr(m, "__path__")]
    folders = {path.parent for path in files if path.parent.name not in ("site-packages", "dist-packages")}
    for name, module in list(sys.modules.items()):
        origin = getattr(module, "__file__", None)
        if "." not in name and name != "__main__" and origin and Path(origin).parent in folders:
            found[name] = module
    return found


def packages_imported(modules: Collection[ModuleType]) -> set[str]:
    """Return the installed packages, as pip names them, of what the files of these modules import."""
    from importlib.metadata import packages_distributions  # it reads all of them

    names: set[str] = set()
    for path in [Path(module.__file__) for module in modules if module.__file__]:
        for file in path.parent.rglob("*.py") if path.name == "__init__.py" else [path]:
            with suppress(SyntaxError, ValueError):  # of a package not all files need be Python's
                for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
                    if isinstance(node, ast.Import):
                        names |= {alias.name.partition(".")[0] for alias in node.names}
                    elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                        names.add(node.module.partition(".")[0])
    known = packages_distributions()
    return {package.lower() for name in names for package in known.get(name, ())} - {"latentune"}


def numbers_of(path: str, found: Any, taken: Collection[str] = ()) -> dict[str, float]:
    """Return an own function's scores as floats.

    Raises OwnCodeError where they are no numbers by name, where a name is reserved, `taken`, or like those of
    the scores that are computed here, and where MLflow would not take it.
    """
    if not isinstance(found, dict) or not all(isinstance(name, str) for name in found):
        raise OwnCodeError(f"{path} returns {type(found).__name__}; it must return numbers by name")
    if wrong := sorted(name for name in found if name in {*RESERVED, *taken} or OURS.fullmatch(name)):
        raise OwnCodeError(
            f"{path} returns {wrong[0]}, named like what a trial reports itself, or a setting: give it "
            "another name"
        )
    require_names(path, found)
    try:
        return {name: float(value) for name, value in found.items()}
    except (TypeError, ValueError) as error:
        raise OwnCodeError(f"{path} returns what is no number: {error}") from error


def require_names(path: str, names: Iterable[str]) -> None:
    """Raise OwnCodeError for a name that MLflow refuses, and with it all that comes at the same time."""
    for name in names:
        if not METRIC_NAME.fullmatch(str(name)):
            raise OwnCodeError(
                f"{path} returns {name!r}, a name that MLflow refuses: give it one of up to 200 letters, "
                "digits, spaces and _-.: with single / between them"
            )


def source_hash(module: ModuleType) -> str:
    """Return the SHA-256 of a module's source: scores by other code are other scores."""
    try:
        return hashlib.sha256(inspect.getsource(module).encode()).hexdigest()
    except (OSError, TypeError) as error:
        raise OwnCodeError(f"the source of {module.__name__} can't be read: {error}") from error
