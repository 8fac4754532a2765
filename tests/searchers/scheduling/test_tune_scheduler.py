"""The rule of pausing under real Ray Tune: with our searcher and others, resumed, and at the end of its
budget."""

import json
import os
import signal
import time
from types import SimpleNamespace

import pytest
from ray import tune
from ray.tune.experiment import Trial
from ray.tune.search import Searcher

from cluster.connect import Cluster, Node
from cluster.limiter import ClusterLimiter
from searchers.bayesopt.searcher import BayesOptSearch
from searchers.record.trials import TrialRecord
from searchers.scheduling.rule import PauseRule
from searchers.scheduling.tune_scheduler import PauseScheduler
from tests.fixtures.embedded import embedded_ray

EPOCHS = 9
SPACE = {"x": tune.uniform(0, 1)}


class Curve(tune.Trainable):
    """A curve that falls to (x − 0.3)², and whose checkpoint is its epoch; tells which process trained it."""

    def setup(self, config):
        self.x, self.at = config["x"], 0

    def step(self):
        self.at += 1
        assert self.at == self.iteration + 1  # what was restored is where it was halted
        return {"loss": (self.x - 0.3) ** 2 + 1 / self.at, "process": os.getpid()}

    def save_checkpoint(self, folder):
        with open(os.path.join(folder, "at.json"), "w") as file:
            json.dump(self.at, file)

    def load_checkpoint(self, folder):
        with open(os.path.join(folder, "at.json")) as file:
            self.at = json.load(file)

    def reset_config(self, config):
        self.setup(config)
        return True


@pytest.fixture(scope="module")
def running_ray():
    with embedded_ray(num_cpus=2):
        yield


class Told(tune.Callback):
    """Notes all results, by trial, and the processes that trained them; ends the run after so many
    results."""

    def __init__(self, interrupt_after=None):
        self.epochs, self.processes, self.left = {}, set(), interrupt_after

    def on_trial_result(self, iteration, trials, trial, result, **info):
        self.epochs.setdefault(trial.trial_id, []).append(result["training_iteration"])
        self.processes.add(result["process"])
        if self.left is not None:
            self.left -= 1
            if not self.left:
                os.kill(os.getpid(), signal.SIGUSR1)  # on which Tune ends a run in order


def run(folder, rule, search, *, gated=True, told=None, resume=False, num_samples=-1, records=()):
    scheduler = PauseScheduler(rule)
    scheduler.replay(records, "loss", "min")
    return tune.run(
        Curve,
        name="sweep",
        config=SPACE,
        metric="loss",
        mode="min",
        storage_path=str(folder),
        search_alg=scheduler.gate(search) if gated else search,
        scheduler=scheduler,
        stop={"training_iteration": EPOCHS},
        num_samples=num_samples,
        reuse_actors=True,
        max_concurrent_trials=None,
        checkpoint_config=tune.CheckpointConfig(checkpoint_frequency=1, num_to_keep=2),
        callbacks=[told or Told()],
        verbose=0,
        raise_on_failed_trial=False,
        resume_config=tune.ResumeConfig() if resume else None,
    )


def test_paused_trials_go_on_from_their_checkpoints_and_end_with_the_budget(running_ray, tmp_path):
    rule = PauseRule(EPOCHS, 1, first_trials=3, budget=4 * EPOCHS, max_trials=20)
    search, told = BayesOptSearch(seed=1), Told()
    analysis = run(tmp_path, rule, search, told=told)
    assert {t.status for t in analysis.trials} == {Trial.TERMINATED}
    assert rule.spent >= 4 * EPOCHS > rule.spent - EPOCHS and rule.running == rule.paused == []
    assert all(epochs == list(range(1, len(epochs) + 1)) for epochs in told.epochs.values())
    assert {len(e) for e in told.epochs.values()} <= {1, 3, EPOCHS} and len(told.epochs) > 4
    assert EPOCHS in {len(e) for e in told.epochs.values()}
    assert len(told.processes) <= 3  # processes pass from trial to trial, though each was paused
    states = {o.trial_id: (o.state, o.epoch) for o in search.observations()}
    assert {s for s, _ in states.values()} == {"stopped", "finished"}
    assert all(
        states[i] == ("finished" if len(e) == EPOCHS else "stopped", len(e)) for i, e in told.epochs.items()
    )
    assert search.settings.max_epochs == EPOCHS  # from Tune's stopping criterion


class Sequence(Searcher):
    """Any searcher of Tune: it proposes x = 0, 0.1, 0.2, …"""

    def __init__(self):
        super().__init__("loss", "min")
        self.count, self.ended = 0, []

    def set_search_properties(self, metric, mode, config, **spec):
        return True

    def suggest(self, trial_id):
        self.count += 1
        return {"x": (self.count - 1) / 10}

    def on_trial_complete(self, trial_id, result=None, error=False):
        self.ended.append(trial_id)


@pytest.mark.parametrize("gated", [True, False])
def test_with_any_searcher_the_best_of_a_rung_go_on(running_ray, tmp_path, gated):
    rule = PauseRule(EPOCHS, 1, first_trials=3, budget=4 * EPOCHS, max_trials=9)
    search, told = Sequence(), Told()
    analysis = run(tmp_path, rule, search, gated=gated, told=told, num_samples=-1 if gated else 9)
    assert {t.status for t in analysis.trials} == {Trial.TERMINATED} and len(analysis.trials) == 9
    assert sorted(search.ended) == sorted(told.epochs)
    trained = {round(t.config["x"], 1): len(told.epochs[t.trial_id]) for t in analysis.trials}
    assert trained[0.3] == EPOCHS and trained[0.8] == 1  # the best one, and the worst of those that came late
    assert rule.spent >= 4 * EPOCHS > rule.spent - EPOCHS


def test_without_a_budget_all_paused_trials_are_trained_in_the_end(running_ray, tmp_path):
    told = Told()
    run(tmp_path, PauseRule(EPOCHS, 3, first_trials=2), Sequence(), gated=False, told=told, num_samples=4)
    assert [len(e) for e in told.epochs.values()] == [EPOCHS] * 4


def test_a_resumed_sweep_has_its_trials_paused_where_they_were(running_ray, tmp_path, monkeypatch):
    monkeypatch.setenv("TUNE_GLOBAL_CHECKPOINT_S", "0")
    monkeypatch.setenv("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")
    rules = [PauseRule(EPOCHS, 1, first_trials=3, budget=4 * EPOCHS, max_trials=20) for _ in range(2)]
    search, told = BayesOptSearch(seed=1), Told(interrupt_after=12)
    run(tmp_path, rules[0], search, told=told)
    records = [
        TrialRecord(i, n, {}, {e: {"loss": rules[0].trials[i].values[e]} for e in epochs})
        for n, (i, epochs) in enumerate(told.epochs.items())
    ]
    again, later = BayesOptSearch(seed=1), Told()
    analysis = run(tmp_path, rules[1], again, told=later, resume=True, records=records)
    assert {t.status for t in analysis.trials} == {Trial.TERMINATED}
    assert set(told.epochs) <= {t.trial_id for t in analysis.trials}
    for trial, epochs in later.epochs.items():  # at most the epoch that was interrupted comes twice
        before = told.epochs.get(trial, [])
        assert epochs[0] in (len(before), len(before) + 1) and epochs == list(
            range(epochs[0], epochs[-1] + 1)
        )
    assert any(trial not in later.epochs for trial in told.epochs)  # not all were simply gone on with
    assert rules[1].spent >= 4 * EPOCHS


class SlowlySaved(Curve):
    """Saving takes longer than a step of Tune's, so that a trial is resumed before it is paused."""

    def save_checkpoint(self, folder):
        time.sleep(0.3)
        super().save_checkpoint(folder)


def test_of_one_worker_replicates_are_trained_also_where_the_last_trial_goes_on_while_it_is_saved(
    running_ray, tmp_path
):
    rule = PauseRule(2, 1, first_trials=1, budget=4, max_trials=1, replicates=1)
    scheduler = PauseScheduler(rule)
    cluster = Cluster(None, (Node(1, 0),))
    gate = scheduler.gate(BayesOptSearch(seed=1))
    analysis = tune.run(
        SlowlySaved,
        config={**SPACE, "seed": 0},
        metric="loss",
        mode="min",
        storage_path=str(tmp_path),
        search_alg=ClusterLimiter(gate, cluster, 1, 0, 1, paused=lambda: len(rule.paused)),
        scheduler=scheduler,
        stop={"training_iteration": 2},
        num_samples=-1,
        checkpoint_config=tune.CheckpointConfig(checkpoint_frequency=1),
        verbose=0,
    )
    assert [p.epoch for p in rule.trials.values() if p.whole] == [2]
    assert {t.status for t in analysis.trials} == {Trial.TERMINATED} and rule.spent == 4


def test_results_without_the_metric_change_nothing_and_a_maximized_one_turns_its_sign():
    scheduler = PauseScheduler(PauseRule(9, 1), "score", "max")
    trial, controller = SimpleNamespace(trial_id="a", status=Trial.PENDING), SimpleNamespace(search_alg=None)
    scheduler.on_trial_add(controller, trial)
    assert scheduler.on_trial_result(controller, trial, {"training_iteration": 1}) == "CONTINUE"
    assert scheduler.on_trial_result(controller, trial, {"training_iteration": 1, "score": 2.0}) == "CONTINUE"
    other = SimpleNamespace(trial_id="b", status=Trial.PENDING)
    scheduler.on_trial_add(controller, other)
    assert scheduler.on_trial_result(controller, other, {"training_iteration": 1, "score": 1.0}) == "PAUSE"


@pytest.mark.parametrize("score", [{}, {"score": 5.0}])
def test_a_trial_that_diverged_is_compared_with_none_and_not_fully_trained(score):
    """Whatever an own score says of a model that is lost."""
    scheduler = PauseScheduler(PauseRule(9, 3), "score", "max")
    for name, epoch in (("a", 3), ("b", 9)):
        trial, controller = tuned(name, Trial.PENDING), controlled()
        scheduler.on_trial_add(controller, trial)
        scheduler.on_trial_complete(
            controller, trial, {"training_iteration": epoch, "diverged": True} | score
        )
    assert scheduler.rule.reached == {} and scheduler.rule.spent == 12
    assert scheduler.rule._ahead() == {}  # neither came to its end


def controlled(*trials, searcher=None):
    """Tune's controller, as far as a scheduler asks it."""
    generator = SimpleNamespace(searcher=searcher, set_finished=lambda: None)
    return SimpleNamespace(search_alg=generator, get_trials=lambda: list(trials))


def tuned(name, status, saved_at=None):
    saved = None if saved_at is None else SimpleNamespace(metrics={"training_iteration": saved_at})
    return SimpleNamespace(
        trial_id=name, status=status, is_finished=lambda: False, latest_checkpoint_result=saved
    )


@pytest.mark.parametrize(("saved_at", "goes_on"), [(None, 0), (2, 2), (3, 3)])
def test_a_trial_whose_process_died_goes_on_from_its_checkpoint_for_rule_and_searcher(saved_at, goes_on):
    search = BayesOptSearch({"x": tune.uniform(0, 1)}, "loss", "min")
    scheduler = PauseScheduler(PauseRule(9, 3, first_trials=1), "loss", "min")
    trial = tuned("a", Trial.PENDING, saved_at)
    controller = controlled(trial, searcher=scheduler.gate(search))
    search.suggest("a")
    scheduler.on_trial_add(controller, trial)
    for epoch in (1, 2, 3):
        said = scheduler.on_trial_result(controller, trial, {"training_iteration": epoch, "loss": 1.0})
    assert said == "PAUSE" and search.history.trials["a"].state == "paused"
    scheduler.on_trial_error(controller, trial)
    scheduler.on_trial_add(controller, trial)
    assert scheduler.rule.running == ["a"] and scheduler.rule.trials["a"].epoch == goes_on
    assert (3 in scheduler.rule.reached and "a" in scheduler.rule.reached[3]) == (goes_on == 3)
    assert search.history.trials["a"].state == "running"


def test_a_limit_in_front_of_the_gate_stops_no_sweep():
    """`max_concurrent_trials` counts paused trials as running: the gate is not asked, and nothing runs."""
    scheduler = PauseScheduler(PauseRule(9, 3, first_trials=9), "loss", "min")
    scheduler.gate(Sequence())
    trials = [tuned(name, Trial.PENDING) for name in "ab"]
    controller = controlled(*trials)
    for trial, value in zip(trials, (2.0, 1.0), strict=True):
        scheduler.on_trial_add(controller, trial)
        scheduler.on_trial_result(controller, trial, {"training_iteration": 3, "loss": value})
    trials[0].status = Trial.PAUSED
    assert scheduler.choose_trial_to_run(controller) is None  # b is being saved
    trials[1].status = Trial.PAUSED
    scheduler.asked = True
    assert scheduler.choose_trial_to_run(controller) is None  # whom the gate was asked for comes first
    assert scheduler.choose_trial_to_run(controller) is trials[1]
    assert scheduler.rule.running == ["b"]
