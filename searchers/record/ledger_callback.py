"""The recorder: what Tune reports to the driver, written into the ledger as it comes."""

from pathlib import Path
from typing import Any

from ray import tune
from ray.tune.experiment import Trial

from searchers.record.files import flush, write_whole
from searchers.record.ledger import Ledger
from searchers.record.schema import CHECKPOINT, DIVERGED, END, FAILED, FINISHED, RESULT, STOPPED, TRIAL
from searchers.record.trials import TrialRecord

# Tune adds these to every result; they are no scores.
NOT_SCORES = {"timestamp", "pid", "training_iteration", "epoch", "done", "iterations_since_restore"}


def number_of(value: Any) -> float | None:
    """Return a number, NumPy's or a tensor's too, as a float; None for anything else."""
    if getattr(value, "ndim", None) == 0:
        value = value.item()
    return float(value) if isinstance(value, int | float) else None


class LedgerCallback(tune.Callback):
    """Writes what Tune reports into the ledger: each trial once, each of its epochs once."""

    def __init__(self, ledger: Ledger, folder: Path, epochs: int):
        self.ledger, self.folder, self.epochs = ledger, folder, epochs
        self.records = ledger.trials()

    def on_trial_start(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """Record a trial that is new; one that goes on after a fault is known already."""
        self._begin(trial)

    def _begin(self, trial: Trial) -> None:
        if trial.trial_id not in self.records:
            taken = {record.number for record in self.records.values()}
            number = next(n for n in range(1, len(taken) + 2) if n not in taken)
            record = TrialRecord(trial.trial_id, number, trial.config)
            self.ledger.append(TRIAL, trial=record.trial, number=record.number, config=record.config)
            self.records[record.trial] = record

    def on_trial_result(
        self, iteration: int, trials: list[Trial], trial: Trial, result: dict[str, Any], **info: Any
    ) -> None:
        """Record an epoch; after a fault an epoch may come twice, and the first report stands."""
        # Bytes are not for Tune's own snapshots.
        images, first_images = result.pop("images", {}), result.pop("first_images", {})
        record, epoch = self.records[trial.trial_id], result["training_iteration"]
        if epoch in record.metrics:
            return
        numbers = {key: number_of(value) for key, value in result.items() if key not in NOT_SCORES}
        metrics = {key: number for key, number in numbers.items() if number is not None}
        self.ledger.append(
            RESULT,
            trial=trial.trial_id,
            epoch=epoch,
            metrics=metrics,
            images=self._written(trial, images, epoch),
            first_images=self._written(trial, first_images, 0),
            node=result.get("node_ip"),
            flags=result.get("flags"),
            precision=result.get("precision"),
        )
        record.metrics[epoch], record.flags[epoch] = metrics, result.get("flags") or ""

    def _written(self, trial: Trial, images: dict[str, bytes], epoch: int) -> dict[str, str]:
        """Write a trial's images after an epoch; return their paths below the folder by their keys."""
        folder = self.folder / "images" / trial.trial_id
        paths = {key: folder / f"{key}_{epoch:04d}.png" for key in images}
        for key, path in paths.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(path, images[key])
        return {key: str(path.relative_to(self.folder)) for key, path in paths.items()}

    def on_trial_save(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """Record a checkpoint that is whole, also after a power cut, with the epoch that it is of."""
        record, saved = self.records[trial.trial_id], trial.latest_checkpoint_result
        if saved is not None and saved.checkpoint is not None:
            files = saved.checkpoint.filesystem
            if files is not None and files.type_name == "local":
                flush(Path(saved.checkpoint.path))
            name, epoch = Path(saved.checkpoint.path).name, saved.metrics["training_iteration"]
            self.ledger.append(CHECKPOINT, trial=record.trial, name=name, epoch=epoch)
            record.checkpoints[name] = epoch

    def end_what_is_complete(self) -> None:
        """End the trials that have reported and saved all: the driver died before it recorded their end.

        One whose last checkpoint is not on record comes to its end again: its weights would be lost.
        """
        for record in self.records.values():
            diverged = record.metrics.get(record.epoch, {}).get("diverged")
            saved = record.epoch in record.checkpoints.values()
            if record.status is None and (diverged or (record.epoch >= self.epochs and saved)):
                self._end(record, DIVERGED if diverged else FINISHED)

    def on_trial_complete(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """Record how a trial ended: at its last epoch, stopped early, or diverged."""
        record = self.records[trial.trial_id]
        last = record.metrics.get(record.epoch, {})
        ended = FINISHED if record.epoch >= self.epochs else STOPPED
        self._end(record, DIVERGED if last.get("diverged") else ended)

    def on_trial_error(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """Record that a trial failed for good, with all its retries, and why.

        A trial that never started appears here first; register it. Tune reads the error from the storage,
        where its file comes some time after it was written here.
        """
        self._begin(trial)
        written = Path(trial.error_file) if trial.error_file else None
        error = written.read_text() if written and written.exists() else trial.get_error()
        lines = str(error).strip().splitlines() if error else []
        self._end(self.records[trial.trial_id], FAILED, error=lines[-1] if lines else "unknown")

    def _end(self, record: TrialRecord, status: str, error: str | None = None) -> None:
        if record.status is None:
            self.ledger.append(END, trial=record.trial, status=status, error=error)
            record.status, record.error = status, error
