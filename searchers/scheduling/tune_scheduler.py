"""The rule of pausing as a Ray Tune scheduler, for any Tune searcher and best with ours.

`tune.run(…, scheduler=PauseScheduler(PauseRule(max_epochs=18)))` is all that is needed: a trial that is new
and one that is paused then take turns as ASHA's promotion has it. Sweeps put a `Gate` around the searcher, so
that each free worker is one decision: begin this configuration, or go on with that trial. A paused trial
keeps its last checkpoint and gives its process to the next; it ends as stopped when the rule's budget is used
up.

Leave `max_concurrent_trials` of `tune.run` None, and Tune's `ConcurrencyLimiter` out: both count paused
trials as running, so that few are ever compared. The cluster's workers are the limit.
"""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from ray.tune.experiment import Trial
from ray.tune.schedulers import TrialScheduler
from ray.tune.search import Searcher

from searchers.scheduling.rule import PauseRule, Record, decide, value_of

if TYPE_CHECKING:
    from ray.tune.execution.tune_controller import TuneController

ACTIONS = {
    "continue": TrialScheduler.CONTINUE,
    "pause": TrialScheduler.PAUSE,
    "stop": TrialScheduler.STOP,
}


class PauseScheduler(TrialScheduler):
    """Applies a `PauseRule` to Tune's trials. `metric` and `mode` are Tune's, if not given."""

    def __init__(
        self,
        rule: PauseRule,
        metric: str | None = None,
        mode: str | None = None,
        time_attr: str = "training_iteration",
    ):
        super().__init__()
        self.rule, self._metric, self._mode, self._time_attr = rule, metric, mode, time_attr
        self.gated = False
        self.over = False  # told by the gate: nothing begins or goes on any more
        self.asked = False  # told by the gate: it was asked since a trial was last chosen
        self._resuming: list[str] = []

    def gate(self, searcher: Searcher) -> "Gate":
        """Return the searcher with a gate around it, through which all that begins and goes on must pass."""
        self.gated = True
        return Gate(searcher, self)

    def replay(
        self, records: Iterable[Record], metric: str, mode: str, replicates: Sequence[str] = ()
    ) -> None:
        """Take in what a ledger holds of earlier trials: Tune does not save a scheduler (ray#30838)."""
        self.rule.replay(records, metric, -1.0 if mode == "max" else 1.0, replicates)

    def resume(self, trial_id: str) -> None:
        """Have a paused trial go on as soon as Tune asks."""
        self.rule.resume(trial_id)
        self._resuming.append(trial_id)

    # What Tune calls

    def set_search_properties(self, metric: str | None, mode: str | None, **spec) -> bool:
        """Take Tune's metric and mode. False where they are given twice, as Tune expects it."""
        if (self._metric and metric) or (self._mode and mode):
            return False
        self._metric, self._mode = metric or self._metric, mode or self._mode
        return True

    def on_trial_add(self, tune_controller: "TuneController", trial: Trial) -> None:
        """Note a trial: a new one, one that is tried again after a fault, or one of a resumed sweep.

        Tune resumes a sweep with all trials pending. Those that the rule knows as paused are made so again,
        before Tune puts the trial among its pending ones. Others go on from their last checkpoint: a rung
        beyond it, where a trial was to pause and died before it was saved, is to be earned again.
        """
        known = self.rule.trials.get(trial.trial_id)
        if known is None:
            self.rule.begin(trial.trial_id)
        elif trial.status == Trial.PENDING:
            if known.state == "paused":
                trial.set_status(Trial.PAUSED)
                _tell(tune_controller, "on_pause", trial.trial_id)
            else:
                saved = trial.latest_checkpoint_result
                self.rule.rewind(trial.trial_id, saved.metrics.get(self._time_attr, 0) if saved else 0)
                _tell(tune_controller, "on_unpause", trial.trial_id)

    def on_trial_result(self, tune_controller: "TuneController", trial: Trial, result: dict[str, Any]) -> str:
        """Return what the rule makes of a result; one without the metric or the epoch changes nothing."""
        action = self._report(trial, result)
        if action == TrialScheduler.PAUSE:
            _tell(tune_controller, "on_pause", trial.trial_id)
        return action

    def _report(self, trial: Trial, result: dict[str, Any]) -> str:
        value = value_of(result, self._metric)
        if value is None or self._time_attr not in result:
            return TrialScheduler.CONTINUE
        value = -value if self._mode == "max" else value
        flags = result.get("flags") or ""
        return ACTIONS[self.rule.report(trial.trial_id, result[self._time_attr], value, flags)]

    def on_trial_complete(
        self, tune_controller: "TuneController", trial: Trial, result: dict[str, Any]
    ) -> None:
        """Note the end of a trial that ran. If a stopping criterion held, its last result comes only here."""
        if self.rule.trials[trial.trial_id].epoch < result.get(self._time_attr, 0):
            self._report(trial, result)
        self.rule.end(trial.trial_id)

    def on_trial_error(self, tune_controller: "TuneController", trial: Trial) -> None:
        """Note that a trial failed; one that Tune tries again is added again."""
        self.rule.end(trial.trial_id)

    def on_trial_remove(self, tune_controller: "TuneController", trial: Trial) -> None:
        """Note the end of a trial that did not run."""
        self.rule.end(trial.trial_id)

    def choose_trial_to_run(self, tune_controller: "TuneController") -> Trial | None:
        """Return the trial that is to run next; end the paused ones once nothing can go on."""
        trials = {t.trial_id: t for t in tune_controller.get_trials()}
        live = any(t.status in (Trial.PENDING, Trial.RUNNING) for t in trials.values())
        live = live or bool(self.rule.running)  # one that goes on, and is being saved still, is neither yet
        if not (self.gated and (self.asked or live)):  # a limit in front of the gate may let nothing through
            self._choose(tune_controller, trials)
        self.asked = False
        for trial_id in list(self._resuming):
            trial = trials.get(trial_id)
            if trial is None or trial.is_finished():
                self._resuming.remove(trial_id)
            elif trial.status == Trial.PAUSED:  # else it is being saved still
                self._resuming.remove(trial_id)
                _tell(tune_controller, "on_unpause", trial_id)
                return trial
        if self.over:
            for trial in trials.values():
                if trial.status == Trial.PAUSED:
                    tune_controller.stop_trial(trial)
        return None

    def _choose(self, tune_controller: "TuneController", trials: dict[str, Trial]) -> None:
        """Without a gate, let a paused trial go on if it has earned it or no new one waits, one at a time."""
        if not (self.rule.may_begin or self.rule.may_resume):
            tune_controller.search_alg.set_finished()
            self.over = True
        resumable = self.rule.resumable
        if self._resuming or not resumable:
            return
        earned = self.rule.promotable()
        if earned in resumable and not self._waits(trials, earned):
            self.resume(earned)
        elif not any(t.status == Trial.PENDING for t in trials.values()):
            self.resume(self.rule.best_paused(resumable))

    def _waits(self, trials: dict[str, Trial], earned: str) -> bool:
        """Whether a trial that went on before still waits for a worker."""
        return any(
            t.status == Trial.PENDING and self.rule.trials[i].epoch > 0
            for i, t in trials.items()
            if i != earned
        )

    def debug_string(self) -> str:
        """Return the trials' states in a line, as Tune shows it."""
        states = [p.state for p in self.rule.trials.values()]
        counts = ", ".join(f"{states.count(s)} {s}" for s in ("running", "paused", "ended"))
        return f"Pausing at epochs {self.rule.rungs[:-1]}: {counts}"


class Gate(Searcher):
    """A searcher that is asked only for trials that may begin, and of a paused trial where that is better.

    Give Tune `num_samples=-1`: the rule's `max_trials` says how many there are.
    """

    def __init__(self, searcher: Searcher, scheduler: PauseScheduler):
        super().__init__(metric=searcher.metric, mode=searcher.mode)
        self.searcher, self.scheduler = searcher, scheduler

    def set_search_properties(self, metric: str | None, mode: str | None, config: dict, **spec) -> bool:
        """Hand Tune's metric, mode and space to the searcher."""
        return self.searcher.set_search_properties(metric, mode, config, **spec)

    def suggest(self, trial_id: str) -> Any:
        """Return a configuration, None where a paused trial goes on or nothing is to do, FINISHED last."""
        rule, self.scheduler.asked = self.scheduler.rule, True
        choice = decide(rule, self.searcher, trial_id)
        if choice == Searcher.FINISHED:
            rule.max_trials = len(rule.trials)
            choice = decide(rule, self.searcher, trial_id)
        if isinstance(choice, str):
            self.scheduler.resume(choice)
            return None
        if choice is None and not rule.running:
            self.scheduler.over = True
            return Searcher.FINISHED
        return choice

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Hand a result on."""
        self.searcher.on_trial_result(trial_id, result)

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Hand a trial's end on."""
        self.searcher.on_trial_complete(trial_id, result, error)

    def get_state(self) -> dict[str, Any]:
        """Return nothing: the searcher saves itself, and the rule is rebuilt by `replay`."""
        return {}

    def set_state(self, state: dict[str, Any]) -> None:
        """Take nothing."""

    def save(self, checkpoint_path: str) -> None:
        """Have the searcher save itself."""
        self.searcher.save(checkpoint_path)

    def restore(self, checkpoint_path: str) -> None:
        """Have the searcher restore itself."""
        self.searcher.restore(checkpoint_path)


def _tell(tune_controller: "TuneController", hook: str, trial_id: str) -> None:
    """Call a hook of the innermost searcher, where it has it: BasicVariantGenerator is none."""
    searcher: Any = getattr(tune_controller.search_alg, "searcher", None)
    while hasattr(searcher, "searcher"):
        searcher = searcher.searcher
    if hasattr(searcher, hook):
        getattr(searcher, hook)(trial_id)
