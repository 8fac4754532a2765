"""`--space` and `--set` laid over a study: what a person searches and holds, beside or instead of its own."""

from collections.abc import Iterable, Mapping
from dataclasses import fields, replace
from typing import Any

from ray import tune

from searchers.bayesopt.space import Space, SpaceError
from searchers.bayesopt.tune_space import read_space
from searchers.execution.resume import FIRST_STAGE, located
from searchers.record.schema import SHARED
from searchers.study import given
from searchers.study.config import SweepConfig, UsageError
from searchers.study.study import Study

NOT_SEARCHED = SHARED | {"epoch_steps", "scores", "disentanglement"}


def overlay(study: Study, config: SweepConfig) -> Study:
    """Return the study with the dimensions of `--space` and the settings of `--set`.

    The study's own dimensions stay, unless they are given anew or set. Its first points stay where they lie
    in the new space. Raises UsageError and SpaceError with one sentence each.
    """
    if not (config.space or config.set):
        return study
    flags = {field.name for field in fields(config)}
    settings = given.read_settings(config.set)
    for name in settings:
        if name in flags:
            raise UsageError(f"--set {name}: it has a flag of its own, --{name.replace('_', '-')}")
        if name in SHARED:
            raise UsageError(f"--set {name}: what a score is of, the sweep's flags say")
    space = {name: domain for name, domain in study.space.items() if name not in settings}
    for name, call in given.read_space(config.space).items():
        if name in NOT_SEARCHED:
            raise UsageError(f"--space {name}: all trials of a sweep share it, or their scores differ by it")
        if name in settings:
            raise UsageError(f"{name} is both searched (--space) and held (--set)")
        space[name] = domain_of(name, call)
    if study.points and config.space:
        raise UsageError("--space: this sweep trains given settings and searches nothing")
    if study.points and (both := settings.keys() & study.space.keys()):
        raise UsageError(f"--set {min(both)}: this sweep's trials differ in it")
    if not space:
        held = " ".join(settings)
        raise UsageError(f"--set {held}: nothing is left to be searched; --space says over what")
    beside = {name: value for name, value in study.settings.items() if name not in space}
    return _over(replace(study, settings=beside | settings), space)


def over_given(study: Study, configs: Iterable[Mapping[str, Any]], asked: Iterable[str] = ()) -> Study:
    """Return the study over those of its dimensions that some of these trials are given, or over all.

    The others are at the model's own values: a resumed sweep may be of a version that searched less, and
    given points may leave open what a search would not. Those that were `asked` for stay.
    """
    names = {name.split("/")[0] for config in configs for name in config} | set(asked)
    space = {name: domain for name, domain in study.space.items() if name in names}
    return _over(study, space) if space else study


def _over(study: Study, space: dict[str, Any]) -> Study:
    """Return the study over this space, with those of its first points that lie there."""
    known = read_space(space)
    points = [
        {name: value for name, value in point.items() if name in space} for point in study.points_to_evaluate
    ]
    inside = [point for point in points if point and _is_inside(point, known)]
    distinct = tuple(point for n, point in enumerate(inside) if point not in inside[:n])
    return replace(study, space=space, points_to_evaluate=distinct)


def own_setting(study: Study) -> tuple[dict[str, Any], ...]:
    """Return the model's own values of what is searched, a first point, as far as they lie in the space."""
    space = read_space(study.space)
    place = {**study.settings, **first_point(study, None)}
    model_class, settings = study.trainable.model_of(place)
    own = {field.name: field.default for field in fields(model_class.Config)}
    own |= getattr(model_class, "RECIPES", {}).get(settings.get("recipe"), {})
    point = {name: own[name] for name in study.space if name in own and _is_inside({name: own[name]}, space)}
    return (point,) if point else ()


def first_point(study: Study, points: list[dict[str, Any]] | None) -> dict[str, Any]:
    """Return the first trial's place in the space; what it leaves open is in the middle."""
    middle = {d.name: d.value(0.5) for d in read_space(study.space).dimensions}
    return middle | (points or study.points_to_evaluate or [{}])[0]


def as_trained(study: Study, config: Mapping[str, Any]) -> Study:
    """Return the study with a trial's own settings, as `--points` may give them; not those that all share."""
    own = {name: value for name, value in config.items() if name not in SHARED}
    return replace(study, settings={**study.settings, **own})


def from_anywhere(study: Study) -> Study:
    """Return the study with the folders of first stages absolute: trials run in folders of their own."""
    settings, space = dict(study.settings), dict(study.space)
    if settings.get(FIRST_STAGE):
        settings[FIRST_STAGE] = located(settings[FIRST_STAGE])
    if isinstance(domain := space.get(FIRST_STAGE), tune.search.sample.Categorical):
        space[FIRST_STAGE] = tune.choice([located(str(folder)) for folder in domain.categories])
    return replace(study, settings=settings, space=space)


def domain_of(name: str, call: given.Call) -> Any:
    """Return Tune's domain of what was typed. Raises UsageError where Tune does not take its arguments."""
    arguments = [_domain_or_value(name, argument) for argument in call.arguments]
    if call.kind == "sample_from":
        return tune.sample_from(lambda spec: spec)  # the space refuses any
    listed = len(arguments) == 1 and isinstance(arguments[0], list)
    if call.kind in ("choice", "grid_search") and not listed:
        arguments = [arguments]
    typed = f"{call.kind}({', '.join(map(str, call.arguments))})"
    if call.kind == "choice" and len({repr(value) for value in arguments[0]}) < 2:
        raise UsageError(f"--space {name}={typed}: a choice has two values at least; --set holds one")
    if call.kind not in ("choice", "grid_search") and not all(map(_is_number, arguments)):
        raise UsageError(f"--space {name}={typed}: {call.kind} takes numbers, as in {call.kind}(1,8)")
    try:
        domain = getattr(tune, call.kind)(*arguments)
        read_space({name: domain})
    except SpaceError:
        raise
    except (TypeError, ValueError, AssertionError, OverflowError, ZeroDivisionError) as error:
        raise UsageError(f"--space {name}={typed}: {error}") from error
    return domain


def _domain_or_value(name: str, argument: Any) -> Any:
    if isinstance(argument, given.Call):
        return domain_of(name, argument)
    return [_domain_or_value(name, value) for value in argument] if isinstance(argument, list) else argument


def _is_number(argument: Any) -> bool:
    return isinstance(argument, int | float) and not isinstance(argument, bool)


def _is_inside(point: Mapping[str, Any], space: Space) -> bool:
    try:
        space.check(point)
    except SpaceError:
        return False
    return True
