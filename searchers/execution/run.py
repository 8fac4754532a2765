"""A sweep: the trials of one study, from its checks to its closing words.

`Study` says what is tuned, `SweepConfig` how this run of it goes, `run` does it.
"""

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pandas as pd
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher
from rich.console import Console

from analysis.charts.text import number
from searchers.bayesopt.searcher import BayesOptSearch
from searchers.bayesopt.space import Choice
from searchers.bayesopt.tune_space import read_space
from searchers.display.closing import Ending, best_words, closing_words, result_table
from searchers.display.pareto import ParetoFigure, describe, front
from searchers.display.posterior import PosteriorFigure
from searchers.execution.driver import Driver, join
from searchers.execution.fixed_points import FixedPoints, read_points
from searchers.execution.overlay import overlay
from searchers.execution.plan import plan
from searchers.execution.prepare import Prepared, prepare
from searchers.execution.rebuild import latest_checkpoint
from searchers.execution.warm_start import earlier_results
from searchers.record.ledger import Ledger
from searchers.record.ledger_callback import LedgerCallback
from searchers.record.mlflow_exporter import MlflowExporter, SweepRecord
from searchers.record.provenance import about
from searchers.record.schema import MODEL, REFERENCE_PARAM
from searchers.record.trials import TrialRecord, best_record, ranked
from searchers.scheduling.rule import REDUCTION_FACTOR, PauseRule
from searchers.scheduling.tune_scheduler import PauseScheduler
from searchers.study.config import SweepConfig, UsageError, require
from searchers.study.study import Study
from trainables.evaluation.inputs import split_config
from trainables.tune.trainable import export_model

MOST_BUILT = 32  # choices of a dimension, before the first trial
EXPORTED = 3  # the best trials' weights go into the record


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
) -> Outcome:
    """Run a resolved sweep to its end, or until it is interrupted.

    `program` is what is typed to go on, with `--resume` and `resume_as`, or the sweep's own name.

    Raises UsageError, ClusterError and the data's and metrics' own errors, before anything has begun.
    """
    study = overlay(study, config)
    points = given_points(study, config)
    check_settings(study, points)
    if points:
        config = replace(config, num_samples=len(points), early_stopping=False)
    search = make_search(study, config, points)
    if config.dry_run:
        scheduler = make_scheduler(study, config, ())
        rule = scheduler.rule if isinstance(scheduler, PauseScheduler) else None
        plan(study, config, rule, first_point(study, points), join(config, own_code(study)), console)
        return Outcome(study, config.folder, Ending.planned(config))
    with Driver(
        config,
        sweep_id,
        program,
        console,
        epochs=config.epochs,
        num_samples=config.num_samples,
        data_hash=(study.provenance or {}).get("data_hash"),
        resume_as=resume_as,
        code=own_code(study),
    ) as driver:
        if points:
            console.print(f"Nothing is searched: {len(points)} given trials run to their last epoch.")
        delivery = driver.deliver(sweep_record(study, config, sweep_id, program))
        figures = live_figures(study, search, driver.recorder, delivery)
        driver.run(
            study.trainable,
            settings={**study.settings, **study.space},
            search=search,
            metric=study.metric,
            mode=study.mode,
            dimensions=list(study.space),
            scheduler=make_scheduler(study, config, driver.records),
            callbacks=figures,
        )

        def conclude() -> dict[str, float]:
            for figure in figures:
                figure.draw()
            export_best(study, driver.records, driver.checkpoints, driver.folder, driver.ledger)
            return best_scores(study, recommended(study, search, driver.records))

        ending = driver.finish(conclude)
    console.print(result_table(study, config, ending.records))
    if study.objectives and isinstance(search, BayesOptSearch):
        console.print(describe(study, front(study, search, ending.records)), highlight=False)
    best = recommended(study, search, ending.records)
    words = [*best_words(study, config, ending.records, best), *closing_words(ending)]
    console.print("\n".join(words), highlight=False, soft_wrap=True)  # a command in two lines can't be copied
    return Outcome(study, driver.folder, ending, best)


def own_code(study: Study) -> list[ModuleType]:
    """Return the module or package of a person's own model, which a joined cluster's machines lack.

    A model of a notebook travels with the trial.
    """
    model_class, _ = study.trainable.model_of(study.settings)
    first = model_class.__module__.partition(".")[0]
    return [] if first in ("trainables", "__main__") else [sys.modules[first]]


def sweep_record(study: Study, config: SweepConfig, sweep_id: str, program: str) -> SweepRecord:
    """Return what the parent run in MLflow says of the sweep."""
    described = about(study, read_space(study.space), config, program)
    provenance = study.provenance or {}
    of_trials = {key: value for key, value in provenance.items() if not key.startswith(REFERENCE_PARAM)}
    return SweepRecord(
        sweep_id=sweep_id,
        name=config.title,
        experiment=study.experiment,
        description=described.description,
        params=described.params,
        tags=described.tags,
        trial_params=lambda trial: {**of_trials, **study.derived(trial)},
    )


def live_figures(
    study: Study, search: Searcher, recorder: LedgerCallback, delivery: MlflowExporter
) -> list[PosteriorFigure | ParetoFigure]:
    """Return the figures that are redrawn as trials end; none where nothing is searched."""
    if not isinstance(search, BayesOptSearch):
        return []
    figures: list[PosteriorFigure | ParetoFigure] = [PosteriorFigure(study, search, recorder, delivery)]
    return [*figures, ParetoFigure(study, search, recorder, delivery)] if study.objectives else figures


def make_search(study: Study, config: SweepConfig, points: list[dict[str, Any]] | None) -> Searcher:
    """Return the searcher: Bayesian optimization, or the given points one after another.

    Raises UsageError where the surrogate's package is missing and where the earlier sweep can't be used.
    """
    if config.surrogate == "nuts":
        require("--surrogate nuts", {"pyro": "pyro-ppl"})
    if points:
        return FixedPoints(points, study.metric, study.mode)
    return BayesOptSearch(
        points_to_evaluate=list(study.points_to_evaluate),
        random_starts=study.random_starts,
        surrogate=config.surrogate,
        noise_key=f"{study.metric}_std",
        seed=config.seed,
        warm_start=_earlier(study, config),
        objectives=study.objectives,
    )


def make_scheduler(study: Study, config: SweepConfig, records: Iterable[TrialRecord]) -> TrialScheduler:
    """Return the scheduler that pauses and resumes, its state rebuilt from the ledger's records.

    With several objectives every trial trains to its end: a rung would judge it by the first alone.
    """
    if not config.early_stopping or study.objectives:
        return FIFOScheduler()
    grace = None if config.grace_epochs is None else min(config.grace_epochs, config.epochs)
    trainings = config.trainings
    if trainings is None:  # where no rung lies before the end, every trial is a whole training
        trainings = config.num_samples / (1 if grace == config.epochs else REDUCTION_FACTOR)
    rule = PauseRule(
        config.epochs,
        grace,
        first_trials=len(study.space) + 2 if study.random_starts is None else study.random_starts,
        budget=max(1.0, trainings) * config.epochs,
        max_trials=config.num_samples,
        replicates=config.replicates,
    )
    scheduler = PauseScheduler(rule)
    records = list(records)
    again = [r.trial for r in records if r.config.get("seed") != study.settings.get("seed")]
    scheduler.replay(records, study.metric, study.mode, again)
    return scheduler


def given_points(study: Study, config: SweepConfig) -> list[dict[str, Any]] | None:
    """Return the settings to train instead of searching, from the study or from a file; None to search.

    Raises UsageError where the file can't be used.
    """
    if not config.points:
        return list(study.points) if study.points else None
    try:
        return read_points(Path(config.points), read_space(study.space), study.settings)
    except ValueError as error:
        raise UsageError(f"--points: {error}") from error


def first_point(study: Study, points: list[dict[str, Any]] | None) -> dict[str, Any]:
    """Return the first trial's place in the space; what it leaves open is drawn."""
    first = {name: domain.sample() for name, domain in study.space.items()}
    return first | (points or study.points_to_evaluate or [{}])[0]


def check_settings(study: Study, points: list[dict[str, Any]] | None) -> None:
    """Build the networks of the first trial, of each given one and of each end of the space once.

    Raises UsageError where a trial would refuse its settings.
    """
    first = first_point(study, points)
    ends = [{**first, **other} for other in (points[1:] if points else ends_of(study))]
    for point in [first, *ends]:
        try:
            model_class, settings = study.trainable.model_of({**study.settings, **point})
            model_class(split_config(model_class, settings)[1])
        except (ValueError, TypeError, RuntimeError, LookupError, ArithmeticError, AssertionError) as error:
            shown = point if points else study.space
            where = ", ".join(f"{name} = {number(point[name])}" for name in shown)
            said = str(error).partition("\n")[0]
            if point is not first or not isinstance(error, ValueError):
                said = f"A trial of {where} can't be built: {said}"
            raise UsageError(said) from error


def ends_of(study: Study) -> Iterator[dict[str, Any]]:
    """Yield each dimension's least and greatest value, or those that it is a choice of, one at a time.

    Of many choices only some are yielded: building their networks would take minutes.
    """
    for dimension in read_space(study.space).dimensions:
        values: Sequence[Any]
        if isinstance(dimension, Choice):
            values = dimension.choices[:: -(-len(dimension.choices) // MOST_BUILT)]
        else:
            values = (dimension.low, dimension.high)
        yield from ({dimension.name: value} for value in values)


def export_best(
    study: Study,
    records: list[TrialRecord],
    storage: str,
    folder: Path,
    ledger: Ledger,
) -> None:
    """Export the weights of the best trials, so that they outlive the checkpoints."""
    for record in ranked(records, study.metric, study.mode)[:EXPORTED]:
        if (found := latest_checkpoint(record, storage)) is not None:
            path = Path("models") / record.trial
            with found.checkpoint.as_directory() as directory:
                export_model(study.trainable, record.config, Path(directory), folder / path)
            ledger.append(MODEL, trial=record.trial, path=str(path))


def recommended(study: Study, search: Searcher, records: list[TrialRecord]) -> TrialRecord | None:
    """Return the trial that is called the best: the searcher's answer where it searched for one score alone.

    That is a fully trained trial, unless the model is sure of another. None before any finite value.
    """
    known = {record.trial: record for record in records}
    if isinstance(search, BayesOptSearch) and not study.objectives:
        try:
            return known[search.best_trial()]
        except (KeyError, ValueError):  # it is of an earlier sweep, or there is no finite value
            pass
    return best_record(records, study.metric, study.mode)


def best_scores(study: Study, best: TrialRecord | None) -> dict[str, float]:
    """Return what the parent run says of the winner: its scores and its place in the search space."""
    if best is None:
        return {}
    place = {name: best.config[name] for name in study.space if isinstance(best.config[name], int | float)}
    return {f"best/{k}": float(v) for k, v in {**best.metrics[best.epoch], **place}.items()}


def _earlier(study: Study, config: SweepConfig) -> list | None:
    """Return what the sweep of `--warm-start` found, as the searcher takes it.

    Raises UsageError where there is none, and where its scores are not comparable.
    """
    if config.warm_start is None:
        return None
    if study.objectives:
        raise UsageError("--warm-start knows one score of a trial, and this search weighs several")
    try:
        return earlier_results(config, study.metric, read_space(study.space), study.provenance or {})
    except ValueError as error:
        raise UsageError(f"--warm-start: {error}") from error
