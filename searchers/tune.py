"""Anybody's model: `python -m searchers.tune mymodule:Flow --space learning_rate=loguniform(1e-4,3e-3)`.

The model is a `trainables.models.base.GenerativeModel` or a `GenerativeTrainable` that trains one. Its module
is found as Python finds it from the working folder. What is searched is said by `--space`. From Python, as
in a notebook:

    from ray import tune
    from searchers import Study, sweep

    study = Study(trainable=Flow, space={"learning_rate": tune.loguniform(1e-4, 3e-3)})
    outcome = sweep(study, dataset="photos/", epochs=20)
    outcome.best.config, outcome.frame, outcome.folder
"""

import inspect
import json
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro
from rich.console import Console

from cluster.interrupts import signals_kept
from searchers.execution.cli import main_of, refuse_at_once
from searchers.record.schema import FROM_PYTHON
from searchers.study.config import SweepConfig, UsageError
from searchers.study.study import Study
from trainables.data.catalogue import default_cache
from trainables.data.memory import kept as in_file
from trainables.models.settings import nearest
from trainables.own import OwnCodeError, module_of

if TYPE_CHECKING:
    from searchers.execution.prepare import Prepared
    from searchers.execution.run import Outcome
    from trainables.tune.trainable import GenerativeTrainable

PROGRAM = "python -m searchers.tune"
OF_STUDY = {"model", "metric", "mode", "objectives"}
MODEL_IS = "A model is a subclass of trainables.models.base.GenerativeModel"


@dataclass(frozen=True)
class TuneConfig(SweepConfig):
    """Settings of one run; the command line is this class."""

    model: tyro.conf.Positional[Annotated[str | None, tyro.conf.arg(metavar="MODULE:CLASS")]] = None
    """the model's class and the module that it is in"""
    metric: str | None = None
    """reported key that is searched by; the Fréchet distance, if not given"""
    mode: Literal["min", "max"] | None = None
    """whether that key's least or greatest value is the best; what the key has, or min, if not given"""
    objectives: tuple[str, ...] = ()
    """further reported keys, as sharpness=max: the search is for the Pareto front of all"""
    channels: Literal[1, 3] = 3
    """of the images: 1 for grey, 3 for color"""

    def __post_init__(self) -> None:
        """Hold each setting to its rule. Raises ValueError with one sentence."""
        super().__post_init__()
        for word in self.objectives:
            if not word.endswith(("=min", "=max")) or word[:-4] in ("", self.metric):
                raise UsageError(
                    f"--objectives {word}: it must be NAME=min or NAME=max, of another key than the metric"
                )

    @property
    def modes(self) -> dict[str, Literal["min", "max"]]:
        """The further objectives and their modes."""
        return {word[:-4]: "max" if word.endswith("=max") else "min" for word in self.objectives}


SIZE = SweepConfig(
    dataset_limit=2500,
    image_size=32,
    batch_size=32,
    epochs=20,
    evaluate_every=2,
    grace_epochs=6,
    num_samples=12,
    evaluation_samples=500,
)
GPU = {"preset": "report", "dataset_limit": None, "gpus_per_trial": 0.5}
PRESETS = {"quick": TuneConfig(**asdict(SIZE)), "report": TuneConfig(**(asdict(SIZE) | GPU))}


def trainable_of(path: str | None) -> "type[GenerativeTrainable]":
    """Return the trainable of `module:Class`. Raises UsageError where there is none."""
    from trainables.models.base import GenerativeModel
    from trainables.tune.trainable import GenerativeTrainable

    module_name, colon, name = (path or "").partition(":")
    if not (path and colon and module_name and name):
        raise UsageError("Name the model as MODULE:CLASS, such as mymodule:Flow")
    try:
        module = module_of(path)
    except OwnCodeError as error:
        raise UsageError(str(error)) from error
    kinds = (GenerativeModel, GenerativeTrainable)
    known = [
        k for k, v in vars(module).items() if inspect.isclass(v) and issubclass(v, kinds) and v not in kinds
    ]
    found: Any = getattr(module, name, None)
    if not (inspect.isclass(found) and issubclass(found, kinds)):
        there = f"; there are: {', '.join(known)}" if known else ""
        raise UsageError(
            f"{path}: {module_name} has no model {name}{nearest(name, known)}{there}. {MODEL_IS}"
        )
    return trainable_for(found)


def trainable_for(found: Any) -> "type[GenerativeTrainable]":
    """Return the trainable of a model's class; a trainable's class itself. Raises UsageError for others."""
    from trainables.evaluation.inputs import split_config
    from trainables.models.base import GenerativeModel
    from trainables.tune.trainable import GenerativeTrainable

    if not (inspect.isclass(found) and issubclass(found, GenerativeModel | GenerativeTrainable)):
        raise UsageError(f"{found!r} is no model's class. {MODEL_IS}")
    if issubclass(found, GenerativeTrainable):
        made = found
    else:  # a class of this module, which workers know, whatever the module of the model is called
        made = type(found.__name__, (GenerativeTrainable,), {"model_class": found, "__module__": __name__})
    try:
        split_config(made.model_of({})[0], {})
    except (ValueError, TypeError, AttributeError) as error:
        raise UsageError(f"{found.__module__}:{found.__name__}: {error}") from error
    return made


def complete(study: Study, prepared: "Prepared") -> Study:
    """Return the study with what it leaves open: training settings, score, experiment, provenance."""
    from searchers.bayesopt.tune_space import read_space
    from searchers.execution.fixed_points import check_points
    from searchers.execution.overlay import NOT_SEARCHED
    from searchers.record.schema import SHARED
    from trainables.evaluation.inputs import OFFERED
    from trainables.models.settings import kinds_of

    if wrong := sorted(SHARED & (study.settings.keys() | study.space.keys())):
        flags = {field.name for field in fields(TuneConfig)} - OF_STUDY
        how = f"sweep({wrong[0]}=…) sets it" if wrong[0] in flags else "leave it out"
        raise UsageError(f"The study names {wrong[0]}, which all trials share: {how}")
    if wrong := sorted(NOT_SEARCHED & study.space.keys()):
        raise UsageError(
            f"The study searches {wrong[0]}: all trials of a sweep share it, or their scores differ by it"
        )
    if twice := [name for name in study.objectives if name == (study.metric or prepared.distance)]:
        raise UsageError(f"{twice[0]} is both the metric and a further objective")
    model_class, _ = study.trainable.model_of({**prepared.settings, **study.settings})
    kinds = kinds_of(model_class.Config)
    left_out = (OFFERED & kinds.keys()) | ({"width"} - kinds.keys())  # the model's own, and what it has not
    settings = {name: value for name, value in prepared.settings.items() if name not in left_out}
    if kinds.get("width") is int:  # no factor, as the flag is, without which the model's own stands
        width = settings.pop("width")
        if width != SIZE.width:
            settings["width"] = int(width) if float(width).is_integer() else width
    if "width" not in kinds and (width := prepared.settings.get("width", SIZE.width)) != SIZE.width:
        raise UsageError(f"width is {width:g}, and {model_class.__name__} has no such setting: leave it out")
    settings |= study.settings
    if study.points:
        try:
            check_points(study.points, "the study's points", read_space(study.space), settings)
        except ValueError as error:
            raise UsageError(str(error)) from error
    provenance: dict[str, Any] = {**prepared.provenance, **(study.provenance or {})}
    if model_class.likelihood:
        provenance["likelihood"] = model_class.likelihood
    return replace(
        study,
        experiment=study.experiment or f"tune-{model_class.__name__}",
        settings=settings,
        metric=study.metric or prepared.distance,
        provenance=provenance,
    )


def sweep(study: Study, console: Console | None = None, **settings: Any) -> "Outcome":
    """Run a study as the command line does, and return its outcome.

    `settings` are the fields of `TuneConfig`, which are the command's flags: `dataset`, `epochs`,
    `num_samples`, `name`, `resume`, … As `dataset` it also takes images in memory: an array, a tensor, a
    `torch.utils.data.Dataset`, a `datasets.Dataset` (`trainables.data.memory`). The process's signal handlers
    are afterwards what they were, and Ray stays up for the next call. Ctrl-C ends the sweep in order.

    Raises UsageError, SpaceError, DataError, MetricError and ClusterError with one sentence each, before a
    trial has begun.
    """
    from searchers.execution.prepare import prepare
    from searchers.execution.resume import refuse_search, resolve
    from searchers.execution.run import run

    study = replace(study, trainable=trainable_for(study.trainable))
    preset = settings.get("preset", "quick")
    if preset not in PRESETS:
        raise UsageError(f"preset is {preset!r}; choose {', '.join(PRESETS)}")
    defaults = PRESETS[preset]
    known = asdict(defaults).keys() - OF_STUDY - {"on", "attach"}
    if unknown := settings.keys() - known:
        name = min(unknown)
        there = "; the study has it" if name in OF_STUDY else nearest(name, known)
        raise UsageError(f"sweep has no setting {name}{there}")
    if not (study.space or settings.get("space")):
        where = ", of which the points are places" if study.points or settings.get("points") else ""
        raise UsageError(f"The study's space is empty: say what is searched{where}")
    if study.space:
        study = ranges_of(study)
    if "dataset" in settings and not isinstance(settings["dataset"], str | Path):
        settings["dataset"] = in_file(settings["dataset"], default_cache() / "memory")
    if study.points:
        refuse_search(settings)
    try:
        asked = replace(defaults, **settings)
    except ValueError as error:
        raise UsageError(str(error)) from error
    with signals_kept():
        config, sweep_id = resolve(asked, defaults, FROM_PYTHON, settings.keys())
        refuse_at_once(config)
        name = name_of(study)
        config = replace(config, model=name)  # what is recorded, and trusted by its module
        console = console or Console()
        if name.startswith("__main__"):
            console.print(
                "The model is defined where this runs: other processes can't load its weights, to judge or "
                "to promote them. A module of its own can be imported anywhere.",
                highlight=False,
            )
        kept = described(study)
        refuse_other_study(kept, config.folder)
        prepared = prepare(config, console, channels=config.channels)
        whole = complete(study, prepared)
        return run(whole, config, sweep_id, FROM_PYTHON, console, described=kept)


def ranges_of(study: Study) -> Study:
    """Return the study with what its space holds beside ranges, constants, among its settings.

    Raises SpaceError, and UsageError where a range lies deeper than a model's settings do.
    """
    from searchers.bayesopt.tune_space import read_space

    searched = {dimension.name for dimension in read_space(study.space).dimensions}
    for name, value in study.space.items():
        if isinstance(value, Mapping):
            raise UsageError(
                f"The study's space has a dictionary, {name}: a model's settings are one level deep, so give "
                "each range its own name"
            )
    constants = {name: value for name, value in study.space.items() if name not in searched}
    space = {name: value for name, value in study.space.items() if name in searched}
    return replace(study, space=space, settings={**study.settings, **constants})


def described(study: Study) -> dict[str, Any]:
    """Return what `sweep.json` keeps of a study."""
    from searchers.bayesopt.space_json import to_json
    from searchers.bayesopt.tune_space import read_space

    found = {
        "model": name_of(study),
        "space": to_json(read_space(study.space)) if study.space else [],
        **{name: getattr(study, name) for name in ("settings", "metric", "mode", "objectives")},
    }
    return json.loads(json.dumps(found, default=str))


def refuse_other_study(study: dict[str, Any], folder: Path) -> None:
    """Raise UsageError where the sweep in a folder is of another study than what is described."""
    from searchers.execution.resume import stored

    before = stored(folder)
    kept = before and before.study
    if kept and (other := [name for name in study if kept.get(name) != study[name]]):
        was = kept.get(other[0])
        raise UsageError(f"The sweep in {folder} is of another study: its {other[0]} was {was}")


def name_of(study: Study) -> str:
    """Return the module and the name of the class that a study trains."""
    found = getattr(study.trainable, "model_class", study.trainable)
    return f"{found.__module__}:{found.__qualname__}"


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return its exit code."""

    def work(config: TuneConfig, sweep_id: str, console: Console) -> int:
        # Ray takes seconds to import: wrong flags are answered at once.
        from searchers.execution.prepare import prepare
        from searchers.execution.run import run
        from trainables.metrics.scores import better

        trainable = trainable_of(config.model)  # before the data is converted
        if not config.space:
            where = ", of which --points lists places" if config.points else ""
            example = "learning_rate=loguniform(1e-4,3e-3)"
            raise UsageError(f"Say what is searched, such as --space '{example}'{where}")
        prepared = prepare(config, console, channels=config.channels)
        metric = config.metric or ""
        mode = config.mode or better(metric) or "min"
        study = Study(trainable=trainable, metric=metric, mode=mode, objectives=config.modes)
        return run(complete(study, prepared), config, sweep_id, PROGRAM, console).exit_code

    return main_of(PROGRAM, PRESETS, work, arguments)


if __name__ == "__main__":
    sys.exit(main())
