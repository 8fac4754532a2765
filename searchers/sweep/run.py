"""A sweep: trials of one trainable over a search space, by Bayesian optimisation with ASHA.

`Study` says what is tuned, `SweepConfig` how this run of it goes, `run` does it.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from rich.console import Console

from searchers.display.live_table import best_record, ranked
from searchers.display.summary import (
    REDUCTION_FACTOR,
    about,
    best_words,
    closing_words,
    exit_code,
    result_table,
)
from searchers.record.ledger import Ledger, TrialRecord
from searchers.study.config import SweepConfig, UsageError
from searchers.study.study import Study

EXPORTED = 3  # the best trials' weights go into the record


@dataclass(frozen=True)
class Outcome:
    """What came of a sweep."""

    study: Study
    folder: Path
    records: list[TrialRecord]
    interrupted: bool

    @property
    def exit_code(self) -> int:
        """As a program ends, see `searchers.display.summary.exit_code`."""
        return exit_code(self.records, self.interrupted)


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
    from searchers.bayesopt.searcher import BayesOptSearch
    from searchers.display.pareto import ParetoFigure, describe, front
    from searchers.display.posterior import PosteriorFigure
    from searchers.record.mlflow_exporter import SweepRecord
    from searchers.sweep.driver import Driver  # seconds to import: wrong flags are answered at once
    from searchers.sweep.fixed_points import GivenPoints

    points = _points(study, config)
    _check_settings(study, points)
    _check_surrogate(config.surrogate)
    known = _known(study, config)
    if points:
        config = replace(config, num_samples=len(points), no_early_stopping=True)
    driver = Driver(
        config,
        sweep_id,
        program,
        console,
        epochs=config.epochs,
        num_samples=config.num_samples,
        data_hash=(study.provenance or {}).get("data_hash"),
        resume_as=resume_as,
    )
    if points:
        console.print(f"Nothing is searched: {len(points)} given trials run to their last epoch.")
        search = GivenPoints(points, study.metric, study.mode)
    else:
        search = BayesOptSearch(
            points_to_evaluate=list(study.points_to_evaluate),
            random_starts=study.random_starts,
            surrogate=config.surrogate,
            noise_key=f"{study.metric}_std",
            seed=config.seed,
            warm_start=known,
            objectives=study.objectives,
        )
    described = about(study, config, program)
    delivery = driver.deliver(
        SweepRecord(
            sweep_id=sweep_id,
            name=config.name,
            experiment=study.experiment,
            description=described.description,
            params=described.params,
            tags=described.tags,
            trial_params=lambda trial: {**(study.provenance or {}), **study.derived(trial)},
        )
    )
    figures = [PosteriorFigure(study, None if points else search, driver.recorder, delivery)]
    if study.objectives and not points:
        figures.append(ParetoFigure(study, search, driver.recorder, delivery))
    trials = driver.run(
        study.trainable,
        settings={**study.settings, **study.space},
        search=search,
        metric=study.metric,
        mode=study.mode,
        dimensions=list(study.space),
        scheduler=_scheduler(study, config, driver.records),
        callbacks=figures,
    )
    records = driver.records

    def conclude() -> dict[str, float]:
        for figure in figures:
            figure.draw()
        _export(study, records, trials, driver.folder, driver.ledger)
        return _best_scores(study, records)

    unsent = driver.close(conclude)
    console.print(result_table(study, config, records))
    if study.objectives and not points:
        console.print(describe(study, front(study, search, records)), highlight=False)
    words = [*best_words(study, driver), *closing_words(driver, unsent)]
    console.print("\n".join(words), highlight=False, soft_wrap=True)  # a command in two lines can't be copied
    return Outcome(study, driver.folder, records, driver.interrupted)


def _best_scores(study: Study, records: list[TrialRecord]) -> dict[str, float]:
    """Return what the parent run says of the winner: its scores and its place in the search space."""
    best = best_record(records, study.metric, study.mode)
    if best is None:
        return {}
    place = {name: best.config[name] for name in study.space if isinstance(best.config[name], int | float)}
    return {f"best/{k}": float(v) for k, v in {**best.metrics[best.epoch], **place}.items()}


def _known(study: Study, config: SweepConfig) -> list | None:
    """Return what an earlier sweep found, as the searcher takes it.

    Raises UsageError where there is none, and where its scores are not comparable.
    """
    from searchers.bayesopt.tune_space import read_space
    from searchers.sweep.warm_start import earlier_results

    if config.warm_start is None:
        return None
    if study.objectives:
        raise UsageError("--warm-start knows one score of a trial, and this search weighs several")
    try:
        return earlier_results(config, study.metric, read_space(study.space), study.provenance or {})
    except ValueError as error:
        raise UsageError(f"--warm-start: {error}") from error


def _check_surrogate(surrogate: str) -> None:
    """Raise UsageError where the surrogate needs a package that is not there."""
    if surrogate == "nuts" and find_spec("pyro") is None:
        raise UsageError("--surrogate nuts draws with Pyro, which is not installed: pip install '.[pyro]'")


def _points(study: Study, config: SweepConfig) -> list[dict[str, Any]] | None:
    """Return the settings to train instead of searching, from the study or from a file; None to search."""
    from searchers.sweep.fixed_points import read_points

    if not config.points:
        return study.points and list(study.points)
    try:
        return read_points(Path(config.points), {*study.space, *study.settings})
    except ValueError as error:
        raise UsageError(f"--points: {error}") from error


def _check_settings(study: Study, points: list[dict[str, Any]] | None) -> None:
    """Build the first trial's networks once. Raises UsageError where a trial would refuse its settings."""
    from trainables.tune.trainable import split_config

    first = {name: domain.sample() for name, domain in study.space.items()}
    first |= (points or study.points_to_evaluate or [{}])[0]
    try:
        model_class, settings = study.trainable.model_of({**study.settings, **first})
        model_class(split_config(model_class, settings)[1])
    except ValueError as error:
        raise UsageError(str(error)) from error


def _export(study: Study, records: list[TrialRecord], trials: list, folder: Path, ledger: Ledger) -> None:
    """Write the best trials' models beside the ledger, for the record and for who has no checkpoints."""
    from trainables.tune.trainable import export_model

    checkpoints = {trial.trial_id: trial.checkpoint for trial in trials if trial.checkpoint}
    for record in ranked(records, study.metric, study.mode)[:EXPORTED]:
        if record.trial in checkpoints:
            path = Path("models") / record.trial
            with checkpoints[record.trial].as_directory() as directory:
                export_model(study.trainable, record.config, Path(directory), folder / path)
            ledger.append("model", trial=record.trial, path=str(path))


def _scheduler(study: Study, config: SweepConfig, records: Iterable[TrialRecord]):
    """Return ASHA (Li et al. 2020) with its rungs as they were: Tune does not save them (ray#30838).

    Where there are several objectives every trial trains to its end: ASHA would judge it by the first alone.
    """
    from ray.tune.schedulers import AsyncHyperBandScheduler, FIFOScheduler

    if config.no_early_stopping or study.objectives:
        return FIFOScheduler()
    scheduler = AsyncHyperBandScheduler(
        max_t=config.epochs,
        grace_period=min(config.grace_epochs, config.epochs),
        reduction_factor=REDUCTION_FACTOR,
    )
    (bracket,) = scheduler._brackets
    sign = 1 if study.mode == "max" else -1
    for record in records:
        for epoch, metrics in sorted(record.metrics.items()):
            if study.metric in metrics:  # not where the trial diverged
                bracket.on_result(SimpleNamespace(trial_id=record.trial), epoch, sign * metrics[study.metric])
    return scheduler
