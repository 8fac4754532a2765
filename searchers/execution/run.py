"""A sweep: the trials of one study, from its checks to its closing words.

`Study` says what is tuned, `SweepConfig` how this run of it goes, `run` does it.
"""

import json
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pandas as pd
from ray.tune.search import Searcher
from rich.console import Console

from cluster.storage import opened
from latentune import LEDGER
from searchers.bayesopt.searcher import BayesOptSearch
from searchers.bayesopt.space import Choice, Space, SpaceError
from searchers.bayesopt.tune_space import read_space
from searchers.display.closing import Ending, ResultTable, best_words, closing_words, trouble_words
from searchers.display.pareto import ParetoFigure, describe, front
from searchers.display.posterior import PosteriorFigure
from searchers.display.snapshot import Told, rows_of
from searchers.execution.best import best_scores, export_best, recommended
from searchers.execution.check import check_settings
from searchers.execution.driver import Driver, join
from searchers.execution.fixed_points import FixedPoints
from searchers.execution.overlay import first_point, from_anywhere, over_given, overlay, own_setting
from searchers.execution.plan import plan
from searchers.execution.prepare import Prepared, prepare
from searchers.execution.search import given_points, make_scheduler, make_search
from searchers.execution.share import sharing
from searchers.record.files import write_whole
from searchers.record.ledger import Ledger
from searchers.record.ledger_callback import LedgerCallback
from searchers.record.mlflow_exporter import MlflowExporter
from searchers.record.provenance import about, references_of
from searchers.record.schema import REFERENCE_PARAM, STOPPED, WHY_TAG
from searchers.record.sweep_record import SweepRecord, flat
from searchers.record.trials import TrialRecord
from searchers.study.config import SweepConfig, UsageError
from searchers.study.given import read_space as typed_space
from searchers.study.study import Study
from trainables.evaluation.inputs import split_config
from trainables.models.conditional import ConditionalModel
from trainables.models.gan import GAN
from trainables.models.vaegan import VAEGAN
from trainables.own import module_of, source_hash, with_neighbors
from trainables.tune.trainable import GenerativeTrainable

FEW_STEPS = 1000  # of a training that has a schedule or an adversary


@dataclass(frozen=True)
class Outcome:
    """What came of a sweep."""

    study: Study
    folder: Path
    ending: Ending
    best: TrialRecord | None = None
    """the recommended trial; None before any finite value"""

    @property
    def frame(self) -> pd.DataFrame:
        """A row a trial: its number, id, status, last epoch, place in the space, and last scores."""
        rows = [
            {"number": r.number, "trial": r.trial, "status": r.status or "unfinished", "epoch": r.epoch}
            | {name: r.config[name] for name in self.study.space}
            | r.metrics.get(r.epoch, {})
            for r in self.records
        ]
        return pd.DataFrame(rows)

    @property
    def records(self) -> list[TrialRecord]:
        """The trials, in the order they were begun."""
        return self.ending.records

    @property
    def exit_code(self) -> int:
        """The exit code of a program that ran this sweep alone."""
        return self.ending.exit_code


def tune_study(
    program: str,
    study_of: Callable[[Any, Prepared], Study],
    config: SweepConfig,
    sweep_id: str,
    console: Console,
) -> Outcome:
    """Prepare the data and the reference, then run the study that `study_of` makes of the configuration.

    Raises UsageError, DataError, MetricError and ClusterError with one sentence each.
    """
    return run(study_of(config, prepare(config, console)), config, sweep_id, program, console)


def run(
    study: Study,
    config: SweepConfig,
    sweep_id: str,
    program: str,
    console: Console,
    resume_as: str | None = None,
    closing: bool = True,
    described: dict[str, Any] | None = None,
) -> Outcome:
    """Run a resolved sweep to its end, or until it is interrupted.

    `program` is what is typed to go on, with `--resume` and `resume_as`, or the sweep's own name. Without
    `closing` a sweep that went well does not end with what to type next: the caller has more to do.
    `described` is what `sweep.json` keeps of a study from Python.

    Raises UsageError, ClusterError and the data's and metrics' own errors, before anything has begun.
    """
    study, points = checked(study, config)
    asked = config  # what is kept: a resumed sweep may be given the same again
    if points:
        config = replace(config, num_samples=len(points), early_stopping=False, trainings=None, replicates=0)
    elif config.num_samples > (size := read_space(study.space).size):
        console.print(f"The space has {size} settings: so many trials at most, not {config.num_samples}.")
        config = replace(config, num_samples=int(size))
    first = first_point(study, points)
    code = own_code(study, first)
    say_beforehand(study, first, console)
    search = make_search(study, config, points, sweep_id)
    trials = len(search.points) if isinstance(search, FixedPoints) else config.num_samples
    if config.dry_run:
        plan(study, config, make_scheduler(study, config, ()).rule, first, join(config, code), console)
        return Outcome(study, config.folder, Ending.planned(config))
    place = opened(config.share) if config.share else None
    with Driver(
        asked,
        sweep_id,
        program,
        console,
        epochs=config.epochs,
        num_samples=trials,
        data_hash=(study.provenance or {}).get("data_hash"),
        resume_as=resume_as,
        code=code,
        study=described,
        needs=study.settings,
    ) as driver:
        if file := config.points_file:
            write_whole(config.kept_points, file.read_text())
        if points:
            count = "1 given trial runs" if len(points) == 1 else f"{len(points)} given trials run"
            console.print(f"Nothing is searched: {count} to the last epoch.", highlight=False)
        delivery = driver.deliver(sweep_record(study, points, config, sweep_id, program))
        figures = live_figures(study, search, driver.recorder, delivery)
        scheduler, told = make_scheduler(study, config, driver.records), told_of(study, config)
        name = f"{config.title}-{sweep_id}"
        share = sharing(study, place, name, first, search, driver.ledger, driver.say)
        with share or nullcontext():
            driver.run(
                study.trainable,
                settings={**study.settings, **study.space},
                search=search,
                told=told,
                scheduler=scheduler,
                callbacks=[*figures, *([share] if share else [])],
            )

        best, beside = recommended(study, search, driver.records)

        def conclude() -> dict[str, float]:
            for figure in figures:
                figure.draw()
            rows = rows_of(driver.records, told, rule=scheduler.rule)
            said = {row.number: row.why for row in rows if row.state == STOPPED and row.why}
            driver.note_trials(
                {r.trial: {WHY_TAG: said[r.number]} for r in driver.records if r.number in said}
            )
            export_best(study, best, driver.records, driver.checkpoints, driver.folder, driver.ledger)
            if share:
                share.note()
            return best_scores(study, best)

        ending = driver.finish(conclude)
    table = ResultTable(config.title, told, ending.records, scheduler.rule, best)
    console.print(table, highlight=False)
    if study.objectives and isinstance(search, BayesOptSearch):
        console.print(describe(study, front(study, search, ending.records)), highlight=False)
    last = closing_words if closing or ending.exit_code else trouble_words
    heard = share.words() if share else []
    words = [*best_words(study, config, ending.records, best, beside), *heard, *last(ending)]
    console.print("\n".join(words), highlight=False, soft_wrap=True)  # a command in two lines can't be copied
    return Outcome(study, driver.folder, ending, best)


def checked(study: Study, config: SweepConfig) -> tuple[Study, list[dict[str, Any]] | None]:
    """Return the study with `--space` and `--set`, and its given points. Raises as `run` does."""
    study = from_anywhere(overlay(study, config))
    if config.resume is not None:
        begun = Ledger(config.folder / LEDGER).trials().values()
        study = over_given(study, (record.config for record in begun))
    points = given_points(study, config)
    if points and config.points_file:
        study = over_given(study, points, typed_space(config.space))
    if any("processes" in place for place in (study.space, *(points or ()))):
        raise UsageError("processes: all trials of a sweep have as many; --set processes=… says how many")
    known = Space(read_space(study.space).dimensions, study.settings)
    for number, point in enumerate(study.points_to_evaluate):
        try:
            known.check(point)
        except SpaceError as error:
            raise UsageError(f"points_to_evaluate[{number}]: {error}") from error
    require_plain(study, points)
    if not (study.points_to_evaluate or points):
        study = replace(study, points_to_evaluate=own_setting(study))
    check_settings(study, points)
    if "scores" in study.settings:
        place = first_point(study, points)
        training, _ = split_config(*study.trainable.model_of({**study.settings, **place}))
        if training.scores:  # it may be a setting of the model's own
            code = source_hash(module_of(training.scores))
            study = replace(study, settings={**study.settings, "scores_hash": code})
    return study, points


def require_plain(study: Study, points: list[dict[str, Any]] | None) -> None:
    """Raise UsageError where a setting or a choice of one is nothing that the record can hold."""
    choices = [
        (d.name, c) for d in read_space(study.space).dimensions if isinstance(d, Choice) for c in d.choices
    ]
    given = [pair for point in (study.settings, *(points or ())) for pair in point.items()]
    for name, value in [*choices, *given]:
        try:
            json.dumps(value)
        except (TypeError, ValueError) as error:
            raise UsageError(
                f"{name} = {value!r} can't be recorded: give a name or a number, by which the model chooses"
            ) from error


def told_of(study: Study, config: SweepConfig) -> Told:
    """Return what a person is shown of each trial."""
    return Told(
        study.metric,
        study.mode,
        list(study.space),
        config.epochs,
        further=list(study.objectives),
        derived=study.derived,
        references=references_of(study),
    )


def say_beforehand(study: Study, first: dict[str, Any], console: Console) -> None:
    """Print how long a training is, and what a person may not expect of it or of the space.

    `first`: the first trial's place in the space.
    """
    model_class, settings = study.trainable.model_of({**study.settings, **first})
    known = study.provenance or {}
    classes = known.get("classes", 0)
    if classes > 1 and issubclass(model_class, ConditionalModel) and settings.get("classes", 0) != 1:
        console.print(
            f"Images are drawn class by class, of {classes} classes; --set classes=1 leaves classes out",
            highlight=False,
        )
    images, batch, epochs = (known.get("training_images"), *map(settings.get, ("batch_size", "epochs")))
    if images and batch and epochs and issubclass(study.trainable, GenerativeTrainable):
        batches = settings.get("epoch_steps") or images // batch
        steps = epochs * batches
        console.print(
            f"A whole training: {steps} steps, {epochs} epochs of {batches} batches", highlight=False
        )
        slow = model_class.needs_progress or issubclass(model_class, (GAN, VAEGAN))
        if slow and steps < FEW_STEPS:
            console.print(
                f"A training of {steps} steps rarely draws more than blurs: "
                f"--epochs {-(-FEW_STEPS * epochs // steps)} would have {FEW_STEPS}",
                highlight=False,
            )
    if names := [name for name in study.space if name in getattr(model_class, "sampling_settings", ())]:
        console.print(
            f"{' and '.join(names)}: of drawing images alone. Trials are trained for each value here; "
            "`latentune sampling` tries any of them on a trained model.",
            highlight=False,
            soft_wrap=True,
        )


def own_code(study: Study, first: dict[str, Any]) -> list[ModuleType]:
    """Return the modules of own models, extractors and scores, which a joined cluster's machines lack.

    A model of a notebook travels with the trial. `first`: the first trial's place in the space.
    """
    model_class, _ = study.trainable.model_of({**study.settings, **first})
    named = [str(study.settings.get(key)) for key in ("features", "scores")]
    modules = [model_class.__module__, study.trainable.__module__]
    modules += [name.partition(":")[0] for name in named if ":" in name]
    ours = {"trainables", "searchers", "__main__", "classifier"}
    names = {name.partition(".")[0] for name in modules} - ours
    found = with_neighbors(names)
    return [found[name] for name in sorted(found)]


def sweep_record(
    study: Study, points: list[dict[str, Any]] | None, config: SweepConfig, sweep_id: str, program: str
) -> SweepRecord:
    """Return what the parent run in MLflow says of the sweep, and of its trials.

    Of a study of several models each takes its own settings, and what all of them take is the sweep's.
    """

    def taken(config: dict[str, Any]) -> dict[str, Any]:
        if not hasattr(study.trainable, "taken"):
            return config
        names = study.trainable.taken(config) | study.space.keys()
        return {name: value for name, value in config.items() if name in names}

    described = about(study, read_space(study.space), config, program)
    provenance = study.provenance or {}
    of_trials = {key: value for key, value in provenance.items() if not key.startswith(REFERENCE_PARAM)}
    trials = [taken({**study.settings, **point}) for point in points or ()]
    configured = flat({k: v for k, v in study.settings.items() if all(k in trial for trial in trials)})
    return SweepRecord(
        sweep_id=sweep_id,
        name=config.title,
        experiment=study.experiment,
        description=described.description,
        params=described.params,
        tags=described.tags,
        shared={**configured, **of_trials},
        told={key: value for key, value in configured.items() if key in of_trials},
        taken=taken,
        trial_params=study.derived,
    )


def live_figures(
    study: Study, search: Searcher, recorder: LedgerCallback, delivery: MlflowExporter
) -> list[PosteriorFigure | ParetoFigure]:
    """Return the figures that are redrawn as trials end; none where nothing is searched."""
    if not isinstance(search, BayesOptSearch):
        return []
    figures: list[PosteriorFigure | ParetoFigure] = [PosteriorFigure(study, search, recorder, delivery)]
    return [*figures, ParetoFigure(study, search, recorder, delivery)] if study.objectives else figures
