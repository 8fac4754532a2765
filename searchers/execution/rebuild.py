"""Resumes a sweep from its ledger and its checkpoints alone: nothing that Tune saved is needed.

Tune's own snapshots can be torn, an old one can win after a change of the clock or the time zone, and where
one can't be restored Tune begins anew without a word. So trials without an end are made again as Tune's, with
their ids, their settings and their latest checkpoints, and searchers are told again what the ledger knows.
"""

import json
import zipfile
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import pyarrow.fs
from ray import tune
from ray.train._internal.session import _TrainingResult  # what a trial's checkpoints are registered as
from ray.tune.experiment import Trial
from ray.tune.search import SearchGenerator
from ray.tune.search.sample import Domain

from cluster.limiter import ClusterLimiter
from searchers.bayesopt.tune_space import read_space
from searchers.record.folders import TUNE
from searchers.record.schema import WHERE
from searchers.record.trials import TrialRecord


@runtime_checkable
class Replays(Protocol):
    """A searcher that can be told what a ledger knows."""

    def replay(self, records: Sequence[TrialRecord]) -> None:
        """Take in the trials of a ledger, in the order in which they were begun."""


class RebuiltTrials(SearchGenerator):
    """Tune's source of trials: first those of the ledger without an end, then the searcher's.

    `records`: all trials of the ledger. `storage`: where the sweep's checkpoints lie, a path or a URI.
    `paused`: the trials that hold no worker; the others come as there is room for them.
    """

    def __init__(
        self,
        limiter: ClusterLimiter,
        records: Sequence[TrialRecord],
        storage: str,
        paused: Collection[str] = (),
    ):
        super().__init__(limiter)
        self._limiter = limiter
        open_ = [record for record in records if record.status is None]
        self._open = sorted(open_, key=lambda record: record.trial not in paused)
        self._counter, self._storage = len(records), storage

    def next_trial(self) -> Trial | None:
        """Return the next trial; None where there is none now."""
        if not self._open:
            return super().next_trial()
        if self._limiter.full():
            return None
        record = self._open.pop(0)
        self._limiter.live_trials.add(record.trial)
        return self._rebuilt(record)

    def is_finished(self) -> bool:
        """Whether no trial is to come any more."""
        return not self._open and super().is_finished()

    def _rebuilt(self, record: TrialRecord) -> Trial:
        spec: dict[str, Any] = self._experiment.spec  # type: ignore[attr-defined]
        given = spec["config"]
        changed = {name: given[name] for name in WHERE.intersection(given)}
        trial = Trial(
            spec["run"],
            trial_id=record.trial,
            config=revived(record.config, given) | changed,
            experiment_tag=str(record.number),
            placement_group_factory=spec.get("resources_per_trial"),
            stopping_criterion=spec.get("stop"),
            checkpoint_config=spec.get("checkpoint_config"),
            trial_dirname_creator=spec.get("trial_dirname_creator"),
            max_failures=spec.get("max_failures", 0),
            storage=spec.get("storage"),
        )
        if (found := latest_checkpoint(record, self._storage)) is not None:
            metrics = {"training_iteration": found.epoch}
            result = _TrainingResult(found.checkpoint, metrics)
            trial.run_metadata.checkpoint_manager.register_checkpoint(result)  # type: ignore[union-attr]
            trial.storage.current_checkpoint_index = found.number  # type: ignore[union-attr]
        return trial


def revived(recorded: Any, given: Any) -> Any:
    """Return a trial's own configuration: `given` where JSON turns it into `recorded`, else `recorded`.

    JSON knows no tuples: those of a choice are the choice's. What a replicate changed is in `recorded` alone.
    """
    if isinstance(recorded, dict) and isinstance(given, dict):
        return {key: revived(value, given.get(key)) for key, value in recorded.items()}
    try:
        if isinstance(given, Domain):
            dimension: Any = read_space({"": given}).dimensions[0]
            return dimension.decode(dimension.encode(recorded))
        return given if json.loads(json.dumps(given)) == recorded else recorded
    except (TypeError, ValueError):  # no JSON, or outside the space
        return recorded


@dataclass(frozen=True)
class Saved:
    """A trial's checkpoint: the number in its folder's name, the epoch it is of, and its content."""

    number: int
    epoch: int
    checkpoint: tune.Checkpoint


def latest_checkpoint(record: TrialRecord, storage: str) -> Saved | None:
    """Return a trial's latest checkpoint that is still there, and whole; None without any.

    `storage`: where the sweep's checkpoints lie, a path or a URI.
    """
    file_system, root = pyarrow.fs.FileSystem.from_uri(storage)
    for name, epoch in reversed(record.checkpoints.items()):
        path = f"{root}/{TUNE}/{record.trial}/{name}"
        if _whole(file_system, path):
            return Saved(int(name.rpartition("_")[2]), epoch, tune.Checkpoint(path, file_system))
    return None


def _whole(file_system: pyarrow.fs.FileSystem, folder: str) -> bool:
    """Whether a checkpoint is there, and no power cut has left its states empty or cut."""
    if file_system.get_file_info(folder).type != pyarrow.fs.FileType.Directory:
        return False
    for info in file_system.get_file_info(pyarrow.fs.FileSelector(folder)):
        if info.extension == "pt":
            with file_system.open_input_file(info.path) as file:
                if not (info.size and zipfile.is_zipfile(file)):
                    return False
    return True


def what_goes_on(records: Sequence[TrialRecord], storage: str) -> str:
    """Say what of an earlier run is kept and what is trained again."""
    ended = sum(record.status is not None for record in records)
    open_ = [record for record in records if record.status is None]
    found = [(record, latest_checkpoint(record, storage)) for record in open_]
    goes_on = [f"{record.number} after epoch {at.epoch}" for record, at in found if at is not None]
    anew = [str(record.number) for record, at in found if at is None]
    said = [f"Resumed from the ledger. Trials that have ended: {ended}"]
    if goes_on:
        said.append(f"On from a checkpoint: trial {', '.join(goes_on)}")
    if anew:
        said.append(f"Anew, without one: trial {', '.join(anew)}")
    return f"{'. '.join(said)}."
