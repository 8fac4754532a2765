"""What a sweep keeps of its configuration in its folder, and how a resumed one takes it up again."""

import json
import os
import secrets
import shlex
from collections.abc import Collection
from dataclasses import asdict, dataclass, fields, replace
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

from latentune import LEDGER, STORED
from searchers.display.commands import resume_command
from searchers.record.files import write_whole
from searchers.record.ledger import Ledger
from searchers.study.config import Role, RunConfig, SweepConfig, UsageError, having
from searchers.study.given import read_settings, read_space
from trainables.data.addresses import secret_in
from trainables.data.catalogue import NAMES

Config = TypeVar("Config", bound=RunConfig)

FIRST_STAGE = "first_stage"  # a saved model, of the latent flow


def resolve(
    config: Config, defaults: Config, program: str, given: Collection[str] = ()
) -> tuple[Config, str]:
    """Return the configuration of a new or of a resumed sweep, and the sweep's id.

    `given`: the settings that a person gave, also where they are the defaults'.

    Raises UsageError where the name is taken, where there is nothing to resume or it can't be read, where a
    resumed sweep is given other settings than it began with, is another program's or a part of another or has
    another name than it began with, where given trials are given a search, and where a password would get
    into the record.
    """
    _refuse_secrets(config)
    config = from_anywhere(config)
    if config.resume is None:
        if getattr(config, "points", None):
            refuse_search(given)
        sweep_id = secrets.token_hex(8)  # a part of it: several may begin in one second
        name = config.name or f"{datetime.now():%Y%m%d-%H%M%S}-{sweep_id[:4]}"
        if (Path(config.results) / name / STORED).exists():
            raise UsageError(
                f"There is a sweep {name!r} in {config.results}/ already: --resume {shlex.quote(name)} "
                "continues it"
            )
        return replace(config, name=name), sweep_id
    before = stored(Path(config.results) / config.resume)
    if before is None:
        known = sorted(p.parent.name for p in Path(config.results).glob(f"*/{STORED}"))
        raise UsageError(
            f"There is no sweep {config.resume!r} in {config.results}/; there are: {known or 'none'}"
        )
    _, dash, part = before.sweep_id.partition("-")
    if dash:
        whole = config.resume.removesuffix(f"-{part}")
        again = resume_command(before.program, config, whole)
        raise UsageError(f"Sweep {config.resume!r} is a part of {whole!r}, which goes on as a whole: {again}")
    if before.program != program:
        again = resume_command(before.program, config, config.resume)
        raise UsageError(f"Sweep {config.resume!r} is one of {before.program}: {again}")
    try:
        kept = from_anywhere(type(config)(**before.config))
    except (TypeError, ValueError) as error:
        raise UsageError(
            f"The settings of sweep {config.resume!r} are another version's, or damaged: {error}"
        ) from error
    if kept.name != config.resume:
        raise UsageError(
            f"Sweep {config.resume!r} began as {kept.name!r}, the name that its record, its checkpoints and "
            f"its parts have: give its folder that name back, then --resume {shlex.quote(str(kept.name))}"
        )
    now = {
        field.name: value
        for field in fields(config)
        if (value := getattr(config, field.name)) != getattr(defaults, field.name) or field.name in given
    }
    of_command = having(type(config), Role.COMMAND)
    may_change = {*of_command, *having(type(config), Role.MAY_CHANGE)}
    for name, value in now.items():
        if name not in may_change and value != getattr(kept, name):
            flag = "--" + name.replace("_", "-")
            raise UsageError(f"A resumed sweep keeps the settings it began with: leave out {flag}")
    now |= {name: getattr(config, name) for name in ("results", *of_command)}
    return from_anywhere(replace(kept, **now)), before.sweep_id


def refuse_search(given: Collection[str]) -> None:
    """Raise UsageError where a setting of a search is given beside trials that are given themselves."""
    if asked := [name for name in having(SweepConfig, Role.SEARCH) if name in given]:
        flag = "--" + asked[0].replace("_", "-")
        raise UsageError(f"{flag} is for a search, and --points leaves nothing to search: leave one out")


def from_anywhere(config: Config) -> Config:
    """Return the configuration with what it names as trials, and a sweep resumed in another folder, find it.

    With `--on` it names what is on this machine, in the words that were typed.
    """
    if config.on:
        return config
    found: dict[str, Any] = {"dataset": located(config.dataset)}
    if config.data_root:
        found["data_root"] = absolute(config.data_root)
    for role, call in ((Role.FILE, absolute), (Role.FOLDER, called_everywhere)):
        names = having(type(config), role)
        found |= {name: call(value) for name in names if (value := getattr(config, name))}
    if isinstance(config, SweepConfig):
        found["set"] = tuple(map(_first_stage_located, config.set))
        found["space"] = tuple(map(_first_stages_located, config.space))
    return replace(config, **found)


def _first_stage_located(text: str) -> str:
    """Return a word of `--set`, with the folder of a first stage as it is called from everywhere."""
    folder = str(read_settings([text]).get(FIRST_STAGE))
    return text if (place := located(folder)) == folder else f"{FIRST_STAGE}={place}"


def _first_stages_located(text: str) -> str:
    """Return a word of `--space`, with folders of first stages as they are called from everywhere."""
    call = read_space([text]).get(FIRST_STAGE)
    if call is None or not all(isinstance(folder, str) for folder in call.arguments):
        return text
    return f"{FIRST_STAGE}={call.kind}({','.join(repr(located(folder)) for folder in call.arguments)})"


def called_everywhere(place: str) -> str:
    """Return a folder as it is called from everywhere; a bucket's address stays as it is."""
    place = place.removeprefix("file://")
    return place if "://" in place else str(Path(place).expanduser().resolve())


def absolute(path: str) -> str:
    """Return a path as it is called from everywhere. Links stay: what they lead to may lack the ending."""
    return str(Path(os.path.expanduser(path)).absolute())


def located(dataset: str) -> str:
    """Return a data set as it is called from everywhere: a path is absolute, a name stays as it is.

    An empty name stays empty, although as a path it would be the working folder, and a known name is no path,
    although there may be a folder of that name.
    """
    is_path = dataset.strip() and dataset not in NAMES and os.path.exists(os.path.expanduser(dataset))
    return absolute(dataset) if is_path else dataset


@dataclass(frozen=True)
class Stored:
    """What `store` has written of a sweep: the program that ran it, its id, its data and its settings.

    `study` is what a study given from Python was.
    """

    program: str
    sweep_id: str
    data_hash: str | None
    config: dict[str, Any]
    study: dict[str, Any] | None = None


def images_of(config: RunConfig) -> str | None:
    """Return the hash of the images that a resumed sweep began with; None of a new one."""
    before = stored(config.folder) if config.resume else None
    return before.data_hash if before else None


def _refuse_secrets(config: RunConfig) -> None:
    for name, value in asdict(config).items():
        if isinstance(value, str) and (what := secret_in(value)):
            flag = "--" + name.replace("_", "-")
            raise UsageError(
                f"{flag} holds a secret, {what}, which process lists and the record would show: leave it out "
                "and set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (S3), GOOGLE_APPLICATION_CREDENTIALS "
                "(Google), MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD (MLflow), or PGPASSWORD "
                "(PostgreSQL)"
            )


def stored(folder: Path) -> Stored | None:
    """Return what `store` has written in a sweep's folder; None where it has not.

    Raises UsageError where the file is damaged.
    """
    path = folder / STORED
    if not path.exists():
        return None
    try:
        found = Stored(**json.loads(path.read_text()))
        told = isinstance(found.sweep_id, str) and isinstance(found.config, dict)
        if told and isinstance(found.study, dict | None):
            return found
        reason = "it lacks the sweep's id or settings"
    except (ValueError, TypeError, OSError, RecursionError) as error:
        reason = str(error)
    raise UsageError(f"{path} can't be read ({reason}): bring it back, or begin a new sweep")


def refuse_another(folder: Path, sweep_id: str) -> None:
    """Raise UsageError where a folder holds another sweep's trials, which would be taken for this one's."""
    before = stored(folder)
    another = before.sweep_id != sweep_id if before else any(Ledger(folder / LEDGER).events())
    if another:
        raise UsageError(
            f"{folder} holds another sweep's trials: move that folder away, or give this sweep another --name"
        )


def store(
    folder: Path,
    program: str,
    sweep_id: str,
    config: RunConfig,
    data_hash: str | None = None,
    study: dict[str, Any] | None = None,
) -> None:
    """Write what `resolve` reads when the sweep is resumed: whole, or not at all. Raises OSError."""
    content = json.dumps(asdict(Stored(program, sweep_id, data_hash, asdict(config), study)), indent=2)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / STORED
    if not (path.exists() and path.read_text() == content):
        write_whole(path, content)
