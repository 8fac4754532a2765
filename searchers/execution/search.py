"""Which searcher proposes a sweep's trials, and which scheduler pauses them."""

from collections.abc import Iterable
from random import Random
from typing import Any
from zlib import crc32

from ray.tune.search import Searcher

from searchers.bayesopt.searcher import BayesOptSearch
from searchers.bayesopt.space import Choice, Space
from searchers.bayesopt.surrogate import report_hyperparameters
from searchers.bayesopt.tune_space import read_space
from searchers.execution.fixed_points import FixedPoints, check_points
from searchers.execution.overlay import over_given
from searchers.execution.peers import PEERS, PeerSearch, grid_of
from searchers.execution.resume import refuse_search
from searchers.execution.warm_start import earlier_results
from searchers.record.trials import TrialRecord
from searchers.scheduling.rule import REDUCTION_FACTOR, PauseRule, least_rung
from searchers.scheduling.tune_scheduler import PauseScheduler
from searchers.study.config import SweepConfig, UsageError, require
from searchers.study.given import listed_points
from searchers.study.given import read_space as typed_space
from searchers.study.study import Study


def make_search(
    study: Study, config: SweepConfig, points: list[dict[str, Any]] | None, sweep_id: str = ""
) -> Searcher:
    """Return the searcher: Bayesian optimization, another package's, or the given points one after another.

    Raises UsageError where a package is missing and where the earlier sweep can't be used, SpaceError where
    the surrogate can't be used in the space.
    """
    if config.surrogate == "nuts":
        require("--surrogate nuts", {"pyro": "pyro-ppl"})
    if points:
        return FixedPoints(points, study.metric, study.mode)
    if config.searcher != "ours":
        return peer_search(study, config)
    if config.surrogate == "report":
        report_hyperparameters(read_space(study.space))
    seed, first = config.seed, list(study.points_to_evaluate)
    if config.share:  # such sweeps begin with different points, also where seeds and names are equal
        seed = crc32(f"{seed} {sweep_id}".encode()) % 2**31
        Random(seed).shuffle(first)
    return BayesOptSearch(
        points_to_evaluate=first,
        random_starts=study.random_starts,
        surrogate=config.surrogate,
        noise_key=f"{study.metric}_std",
        seed=seed,
        warm_start=_earlier(study, config),
        objectives=study.objectives,
    )


def peer_search(study: Study, config: SweepConfig) -> Searcher:
    """Return another package's searcher, or a grid's points.

    Raises UsageError where the package is missing, or can't do what is asked.
    """
    flag = f"--searcher {config.searcher}"
    require(flag, PEERS[config.searcher])
    if study.objectives:
        raise UsageError(f"{flag} weighs one score, and this search several")
    surrogate = None if config.surrogate == "fitted" else config.surrogate
    own = {"--warm-start": config.warm_start, "--share": config.share, "--surrogate": surrogate}
    if asked := [name for name, value in own.items() if value is not None]:
        raise UsageError(f"{asked[0]} is for this project's own searcher; leave it or {flag} out")
    space = Space(read_space(study.space).dimensions)
    if config.searcher == "grid":
        grid = [space.configuration(codes) for codes in grid_of(space, config.num_samples)]
        return FixedPoints(grid, study.metric, study.mode)
    unordered = [d.name for d in space.dimensions if isinstance(d, Choice) and d.categorical]
    if config.searcher == "bayesian-optimization" and unordered:
        raise UsageError(f"{flag} searches numbers, and {unordered[0]} is a choice without an order")
    return PeerSearch(
        config.searcher,
        study.metric,
        study.mode,
        seed=config.seed,
        starts=first_trials(study),
        first=study.points_to_evaluate,
    )


def first_trials(study: Study) -> int:
    """Return how many trials are spread over the space before a model of it counts."""
    return len(study.space) + 2 if study.random_starts is None else study.random_starts


def make_scheduler(study: Study, config: SweepConfig, records: Iterable[TrialRecord]) -> PauseScheduler:
    """Return the scheduler that pauses and resumes, its state rebuilt from the ledger's records.

    With several objectives nothing is paused, as a rung would judge a trial by the first alone, and nothing
    repeated, as none is the best; the budget holds.
    """
    every, grace = config.evaluate_every, config.grace_epochs
    # Trials are halted where they are evaluated: the first rung moves up to there, and so the further ones.
    first = min(-(-(grace or least_rung(config.epochs)) // every) * every, config.epochs)
    if not config.early_stopping or study.objectives:
        first = config.epochs
    trainings = config.trainings
    if trainings is None:  # where the first rung is the end, nothing pauses
        trainings = max(1.0, config.num_samples / (REDUCTION_FACTOR if first < config.epochs else 1))
    rule = PauseRule(
        config.epochs,
        None if grace is None and every == 1 and first < config.epochs else first,
        first_trials=first_trials(study),
        budget=trainings * config.epochs,
        max_trials=config.num_samples,
        replicates=config.replicates if config.searcher == "ours" and not study.objectives else 0,
    )
    scheduler = PauseScheduler(rule)
    records = list(records)
    again = [r.trial for r in records if r.config.get("seed") != study.settings.get("seed")]
    scheduler.replay(records, study.metric, study.mode, again if rule.replicates else ())
    return scheduler


def given_points(study: Study, config: SweepConfig) -> list[dict[str, Any]] | None:
    """Return the settings to train instead of searching, from the study or from a file; None to search.

    Raises UsageError where the file can't be used.
    """
    if not (path := config.points_file):
        return list(study.points) if study.points else None
    if config.share:
        refuse_search(["share"])
    try:
        points = listed_points(path)
        over = over_given(study, points, typed_space(config.space))
        check_points(points, str(path), read_space(over.space), {**study.space, **study.settings})
        return points
    except ValueError as error:
        raise UsageError(f"--points: {error}") from error


def _earlier(study: Study, config: SweepConfig) -> list | None:
    """Return what the sweep of `--warm-start` found, as the searcher takes it.

    Raises UsageError where there is none, and where its scores are not comparable.
    """
    if config.warm_start is None:
        return None
    if study.objectives:
        raise UsageError("--warm-start knows one score of a trial, and this search weighs several")
    try:
        return earlier_results(study, config)
    except ValueError as error:
        raise UsageError(f"--warm-start: {error}") from error
