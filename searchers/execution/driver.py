"""The driver of a sweep: the process that joins the cluster, keeps the record, and has Tune run the trials.

A sweep lives in `<results>/<name>`: `sweep.json` (its settings), `ledger.jsonl` (all that happened),
`images/`, figures, and `tune/` (Ray Tune's snapshots, the checkpoints), which --storage puts elsewhere.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from types import MappingProxyType, ModuleType
from typing import Any, Self

from ray import tune
from rich.console import Console

import cluster
import latentune
import searchers
import trainables
from cluster.connect import Cluster, ask_nodes, connect
from cluster.errors import ClusterError
from cluster.interrupts import end_in_order
from cluster.limiter import ClusterLimiter
from cluster.ray_patches import silent_progress
from cluster.runs import TABLE_VARIABLE
from cluster.storage import full_disk_told, refuse_unseen, resolve
from cluster.watchdog import RETRIES, watchdogs
from latentune import LEDGER
from searchers.display.closing import Ending
from searchers.display.commands import resume_command
from searchers.display.live_page import LivePage
from searchers.display.live_table import LiveTable
from searchers.display.snapshot import Told
from searchers.execution.rebuild import RebuiltTrials, Replays, what_goes_on
from searchers.execution.resume import FIRST_STAGE, refuse_another, store, stored
from searchers.record.folders import TUNE
from searchers.record.ledger import Ledger, LedgerBusyError
from searchers.record.ledger_callback import LedgerCallback
from searchers.record.mlflow_exporter import MlflowExporter
from searchers.record.mlflow_store import StoreError, import_early
from searchers.record.schema import COMPLETE, KILLED, NOTE, RESUMED
from searchers.record.sweep_record import SweepRecord
from searchers.record.trials import TrialRecord
from searchers.scheduling.rule import PauseRule
from searchers.scheduling.tune_scheduler import PauseScheduler
from searchers.study.config import RunConfig, UsageError
from trainables.evaluation.inputs import lacking

KEPT = 2  # checkpoints of each trial
FIRST_ANSWER = 60.0  # seconds that the first trial waits for MLflow's first answer
# Settings of trials that may be paths, or names of what each machine has for itself.
PLACES = ("dataset", "data_root", "features", "feature_weights", "scorer_weights", FIRST_STAGE)
UNSENT_PATIENCE = 60.0  # seconds that the end of a sweep waits for MLflow


class Driver:
    """A sweep's cluster, folder and record. `config` is a resolved one.

    `program` is what is typed, `resume_as` the sweep to name where this one is a part of it, `code` what
    trials need beside this project, `study` what `sweep.json` keeps of one from Python, and `needs` the
    settings that name what trials read. Raises, before anything has begun, ClusterError where the cluster
    can't be joined or its nodes don't have what trials need, and UsageError where not one trial fits, where
    another process runs this sweep, where its folder holds another's trials, and where its data has changed.

    As a context manager it releases the ledger at its end, also after an error.
    """

    def __init__(
        self,
        config: RunConfig,
        sweep_id: str,
        program: str,
        console: Console,
        *,
        epochs: int,
        num_samples: int,
        data_hash: str | None = None,
        resume_as: str | None = None,
        code: Sequence[ModuleType] = (),
        study: dict[str, Any] | None = None,
        needs: Mapping[str, Any] = MappingProxyType({}),
    ):
        self.config, self.console, self.epochs, self.num_samples = config, console, epochs, num_samples
        self.resume = resume_command(program, config, resume_as)
        self.folder = config.folder.resolve()
        self._refuse_others(sweep_id, data_hash)
        import_early()
        self.cluster = join(config, code)
        self.trial_gets = self.cluster.trial_gets(config.cpus_per_trial, config.gpus_per_trial)
        refuse_lacking(needs, self.cluster)
        self.checkpoints = resolve(config.storage, self.folder, self.cluster)
        self.ledger = Ledger(self.folder / LEDGER)
        with full_disk_told(self.resume):
            try:
                self.ledger.claim()
                self._refuse_others(sweep_id, data_hash)  # one may have begun and ended meanwhile
                self.recorder = LedgerCallback(self.ledger, self.folder, epochs)
                self._refuse_other_scores(needs)
            except LedgerBusyError:
                raise UsageError(f"Sweep {config.title!r} is running already, in another process") from None
            except UsageError:
                self.ledger.close()
                raise
            if damaged := self.ledger.damaged():
                lines = ", ".join(map(str, damaged))
                console.print(f"{self.ledger.path}: what stood in line {lines} is lost; all else is kept.")
            self.recorder.end_what_is_complete()
            if self.records:
                console.print(what_goes_on(self.records, self.checkpoints), highlight=False)
            store(self.folder, program, sweep_id, config, data_hash, study)
        self.exporter: MlflowExporter | None = None
        self.page: LivePage | None = None
        self._closing = ExitStack()
        self._settled: Callable[[], bool] = lambda: False
        console.print(self.cluster.describe(*self.trial_gets, config.max_concurrent), highlight=False)
        nodes = self.cluster.present + self.cluster.promised
        if config.gpus_per_trial == 0 and any(node.gpus for node in nodes):
            console.print("Its GPUs stay unused, as --gpus-per-trial 0 asks.")

    def _refuse_others(self, sweep_id: str, data_hash: str | None) -> None:
        """Raise UsageError where the folder holds another sweep's trials, or trials of other images."""
        refuse_another(self.folder, sweep_id)
        before = stored(self.folder)
        if before and before.data_hash not in (None, data_hash):
            raise UsageError(
                f"The images of {self.config.dataset} are not those that sweep {self.config.title!r} began "
                "with: bring those back to go on, or begin a new sweep"
            )

    def _refuse_other_scores(self, needs: Mapping[str, Any]) -> None:
        """Raise UsageError where trials on record are scored by another extractor, or by other code."""
        if features := self._began_with("feature_identity", needs):
            raise UsageError(
                f"The features' extractor is {needs['feature_identity']}, and the sweep began with "
                f"{features}: bring its weights back to go on, or begin a new sweep"
            )
        if self._began_with("scores_hash", needs):
            raise UsageError(
                f"The code of {needs['scores']} is not that which sweep {self.config.title!r} began with: "
                "bring it back to go on, or begin a new sweep"
            )

    def _began_with(self, name: str, needs: Mapping[str, Any]) -> Any:
        """Return what trials on record have of a setting, where it is not what they would have now."""
        known = {record.config.get(name) for record in self.records} - {None, needs.get(name)}
        return known.pop() if known and needs.get(name) else None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.close()
        self.ledger.close()

    @property
    def records(self) -> list[TrialRecord]:
        """The trials so far, in the order they were begun."""
        return list(self.recorder.records.values())

    @property
    def interrupted(self) -> bool:
        """Whether trials are without an end or missing, other than for want of budget."""
        missing = len(self.records) < self.num_samples and not self._settled()
        return missing or any(record.status is None for record in self.records)

    def deliver(self, record: SweepRecord) -> MlflowExporter:
        """Begin to send the ledger to MLflow, in the background; return the thread.

        Raises UsageError where MLflow can't be written to and waiting does not help.
        """
        if self.records:
            self.ledger.append(NOTE, status=RESUMED)
        self.exporter = MlflowExporter(self.ledger, self.folder, self.config.tracking_uri, record)
        self.exporter.start()
        try:
            self.exporter.check(FIRST_ANSWER)
        except StoreError as error:
            uri = self.config.tracking_uri
            raise UsageError(f"MLflow at {uri} can't be written to: {error}") from error
        if self.exporter.error:
            self.console.print(
                f"MLflow at {self.config.tracking_uri} does not answer yet ({self.exporter.error}); "
                f"the record is kept in {self.folder} and is sent when it does.",
                highlight=False,
                markup=False,
                soft_wrap=True,
            )
        if self.config.dashboard:
            page = LivePage(self.config, record.sweep_id, self.folder, self.say)
            self.page = self._closing.enter_context(page)
        return self.exporter

    def say(self, words: str) -> None:
        """Print a line as it is, however long."""
        self.console.print(words, highlight=False, markup=False, soft_wrap=True)

    def books(self) -> str:
        """Say how far MLflow follows the ledger."""
        size = self.ledger.size()
        said = f"Books: the ledger holds {size / 1e3:.0f} kB"
        if self.exporter is None or (lacks := size - self.exporter.offset) <= 0:
            return f"{said}, all of which MLflow has."
        why = f" ({self.exporter.error})" if self.exporter.error else ""
        return f"{said}, of which MLflow lacks {lacks / 1e3:.1f} kB{why}."

    def run(
        self,
        trainable: type,
        *,
        settings: dict[str, Any],
        search: tune.search.Searcher,
        told: Told,
        scheduler: tune.schedulers.TrialScheduler | None = None,
        callbacks: Sequence[tune.Callback] = (),
    ) -> None:
        """Run the trials to their ends, or until Ctrl-C.

        `settings` are the trials' own, Tune's domains among them; `told` is what a person is shown of each.
        Raises ClusterError on a full disk.
        """
        config, (cpus, gpus) = self.config, self.trial_gets
        stop = {"training_iteration": self.epochs}
        if self.records and isinstance(search, Replays):
            search.set_search_properties(told.metric, told.mode, settings, stop=stop)
            search.replay(self.records)
        num_samples, shown, rule = self.num_samples, self.num_samples, rule_of(scheduler)
        if isinstance(scheduler, PauseScheduler):
            search, num_samples = scheduler.gate(search), -1  # the rule counts the trials
            shown += scheduler.rule.replicates
            self._settled = lambda: scheduler.over or scheduler.rule.settled

        def paused() -> list[str]:
            return [] if rule is None else rule.paused

        table = LiveTable(
            self.recorder.records,
            told,
            num_samples=shown,
            console=self.console,
            rule=rule,
            resource="GPU" if gpus else "CPU",
            share=gpus or cpus,
            page=self.page,
            books=self.books,
            kept=os.environ.get(TABLE_VARIABLE),
        )
        limiter = ClusterLimiter(
            search, self.cluster, cpus, gpus, config.max_concurrent, lambda: len(paused())
        )
        watching = watchdogs(cpus, gpus, [str(self.folder), self.checkpoints], self.console.print)
        with full_disk_told(self.resume), table, end_in_order(self.console.print):
            tune.run(
                trainable,
                **tune_settings(cpus, gpus, settings.get("processes", 1)),
                trial_dirname_creator=lambda trial: trial.trial_id,
                metric=told.metric,
                mode=told.mode,
                storage_path=self.checkpoints,
                config=settings,
                search_alg=RebuiltTrials(limiter, self.records, self.checkpoints, paused()),
                scheduler=scheduler,
                stop=stop,
                num_samples=num_samples,
                callbacks=[self.recorder, *callbacks, table, *watching, silent_progress()],
            )

    def note_trials(self, tags: Mapping[str, Mapping[str, str]]) -> None:
        """Note tags of trials in the ledger, as far as they are news."""
        noted: dict[tuple[str, str], str] = {}
        for _, event in self.ledger.events():
            if event["event"] == NOTE and "trial" in event:
                noted |= {(event["trial"], tag): value for tag, value in event["tags"].items()}
        for trial, said in tags.items():
            if news := {tag: value for tag, value in said.items() if noted.get((trial, tag)) != value}:
                self.ledger.append(NOTE, trial=trial, tags=news)

    def finish(self, conclude: Callable[[], dict[str, float]]) -> Ending:
        """Note what `conclude` returns in the ledger, close it, and return how the sweep ended.

        `conclude` draws figures and returns the sweep's own metrics. Raises ClusterError on a full disk.
        """
        with full_disk_told(self.resume):
            noted: dict[str, float] = {}
            for _, event in self.ledger.events():
                if event["event"] == NOTE:
                    noted |= event.get("metrics") or {}
            # A sweep that is resumed when nothing is left to do has no news for MLflow.
            metrics = {name: value for name, value in conclude().items() if noted.get(name) != value}
            status = KILLED if self.interrupted else COMPLETE
            self.ledger.append(NOTE, status=status, metrics=metrics)
        unsent = self.exporter.close(UNSENT_PATIENCE) if self.exporter else 0
        self.ledger.close()
        refused = self.exporter.refused if self.exporter else []
        error = self.exporter.error if self.exporter else None
        return Ending(
            config=self.config,
            records=self.records,
            interrupted=self.interrupted,
            resume=self.resume,
            checkpoints=self.checkpoints,
            unsent=unsent,
            delivery_error=error or next(iter(refused), None),
            page=self.exporter.page if self.exporter else None,
        )


def rule_of(scheduler: tune.schedulers.TrialScheduler | None) -> PauseRule | None:
    """Return the rule by which trials are paused; None where none is."""
    return scheduler.rule if isinstance(scheduler, PauseScheduler) else None


def join(config: RunConfig, code: Sequence[ModuleType] = ()) -> Cluster:
    """Return the cluster that the configuration asks for; its machines are given this code, and `code`.

    Raises ClusterError where it can't be joined, UsageError where not one trial fits.
    """
    joined = connect(config.address, packages=[trainables, searchers, cluster, latentune, *code])
    cpus, gpus = joined.trial_gets(config.cpus_per_trial, config.gpus_per_trial)
    if joined.slots(cpus, gpus) < 1:
        raise UsageError(
            f"No trial fits: it asks for {cpus:g} CPUs and {gpus:g} GPUs, "
            f"and the cluster has {joined.cpus:g} CPUs and {joined.gpus:g} GPUs in all"
        )
    return joined


def refuse_lacking(needs: Mapping[str, Any], cluster: Cluster) -> None:
    """Raise ClusterError where a node can't have the images, features and weights that trials' settings name.

    All must see a path, those that join later, too; what has a name, each finds or downloads.
    """
    for value in map(needs.get, PLACES):
        if value:
            refuse_unseen(str(value).removeprefix("classifier:"), cluster)
    if cluster.nodes > 1:
        for node, why in ask_nodes(lacking, {name: needs.get(name) for name in PLACES}).items():
            if why:
                raise ClusterError(f"Trials run on {cluster.nodes} nodes, and {node} would fail: {why}")


def tune_settings(cpus: float, gpus: float, processes: int = 1) -> dict[str, Any]:
    """Return what every sweep asks of `tune.run`, of trials in so many processes on one machine."""
    asked = {"CPU": cpus, "GPU": gpus}
    each = {name: amount / processes for name, amount in asked.items() if amount}
    return {
        "name": TUNE,
        "resources_per_trial": tune.PlacementGroupFactory([each] * processes, strategy="STRICT_PACK"),
        "reuse_actors": True,
        "max_failures": RETRIES,
        "raise_on_failed_trial": False,
        "checkpoint_config": tune.CheckpointConfig(checkpoint_frequency=1, num_to_keep=KEPT),
        "verbose": 0,
    }
