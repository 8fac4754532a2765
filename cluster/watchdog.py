"""Callbacks for what Ray Tune does not notice: trials that wait or hang, full disks, nodes that go or differ.

`watchdogs` makes the seven callbacks of a sweep.
"""

import contextlib
import math
import os
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path

import ray
from ray import tune

from cluster.connect import asked_on, counted, differences, present_nodes, versions
from cluster.ray_patches import draining_nodes, node_of

RETRIES = 3
LOOK_SECONDS = 5.0  # between two looks for nodes that have joined
MARGIN = 1.1  # of the sweep's longest epoch, in which another one is expected to end
Say = Callable[[str], object]


def watchdogs(
    cpus_per_trial: float, gpus_per_trial: float, places: list[str], say: Say
) -> list[tune.Callback]:
    """Return the callbacks for a sweep that writes to `places`, each a folder or the address of a bucket."""
    folders = [Path(place) for place in places if "://" not in place]
    waiting = WaitingWatch(cpus_per_trial, gpus_per_trial, say)
    of_nodes = [waiting, DrainWatch(say), VersionWatch(say), DiskWatch(folders, say)]
    return [*of_nodes, HangWatch(say), PrecisionWatch(say), FailureCount()]


class WaitingWatch(tune.Callback):
    """Says, after `patience` seconds, that no node can run the waiting trials; says when trials run again.

    The sweep goes on waiting, since a spot machine may come back.
    """

    def __init__(
        self,
        cpus_per_trial: float,
        gpus_per_trial: float,
        say: Say,
        patience: float = 45.0,
        clock: Callable[[], float] = time.monotonic,
    ):
        self.cpus, self.gpus, self.say = cpus_per_trial, gpus_per_trial, say
        self.patience, self.clock = patience, clock
        self._stuck_since: float | None = None
        self._told = False

    def on_step_begin(self, iteration, trials, **info) -> None:
        """Look at the trials, and where all of them wait, at the nodes."""
        waiting = any(trial.status == "PENDING" for trial in trials)
        if not waiting or any(trial.status == "RUNNING" for trial in trials):
            if self._told:
                self.say("Trials run again.")
            self._stuck_since, self._told = None, False
            return
        now = self.clock()
        if self._stuck_since is None:
            self._stuck_since = now
        if self._told or now - self._stuck_since < self.patience:
            return
        nodes = present_nodes()
        if any(node.cpus >= self.cpus and node.gpus >= self.gpus for node in nodes):
            return  # a trial is starting, or another job uses the node
        self._told = True
        there = "; ".join(_resources(*node) for node in nodes) or "no CPU"
        self.say(
            f"Trials wait: each asks for {_resources(self.cpus, self.gpus)}, the nodes have {there}. "
            "They start when such a node joins; Ctrl-C keeps what is done, --resume goes on later."
        )


class HangWatch(tune.Callback):
    """Ends the process of a trial that hangs, so that Tune restarts the trial from its last checkpoint.

    A trial hangs when it has reported no epoch for `times` as long as the sweep's longest epoch took, and for
    `at_least` seconds. Until the sweep's first epoch nobody knows how long one takes, and nothing is ended.
    """

    def __init__(
        self,
        say: Say,
        at_least: float = 600.0,
        times: float = 10.0,
        clock: Callable[[], float] = time.monotonic,
        end: Callable[[ray.actor.ActorHandle], None] = ray.kill,
    ):
        self.say, self.at_least, self.times, self.clock, self.end = say, at_least, times, clock, end
        self._longest: float | None = None
        self._since: dict[str, float] = {}  # by running trial: its last epoch, or its start

    def on_step_begin(self, iteration, trials, **info) -> None:
        """End the processes of trials that hang."""
        running = {trial.trial_id: trial for trial in trials if trial.status == "RUNNING"}
        now = self.clock()
        self._since = {key: self._since.get(key, now) for key in running}
        if self._longest is None:
            return
        limit = max(self.at_least, self.times * self._longest)
        for key, since in self._since.items():
            actor = running[key].temporary_state.ray_actor
            if now - since > limit and actor is not None:
                self.say(
                    f"Trial {key} had no epoch for {now - since:.0f} s, where the longest took "
                    f"{self._longest:.0f} s: it is ended, and goes on from its last checkpoint."
                )
                self.end(actor)
                self._since[key] = now

    def on_trial_result(self, iteration, trials, trial, result, **info) -> None:
        """Learn how long an epoch takes."""
        now = self.clock()
        took = now - self._since.get(trial.trial_id, now)
        self._longest = max(self._longest or 0.0, took)
        self._since[trial.trial_id] = now


class DrainWatch(tune.Callback):
    """Has trials leave a node that is to be taken away, as a spot machine is, once an epoch is saved.

    They stay as long as another epoch ends in time, a tenth longer than the sweep's longest: who leaves
    earlier may wait for a place, and who stays on loses an epoch. Ray puts no new process on such a node; one
    that is there already is used by the same rule.
    """

    def __init__(
        self,
        say: Say,
        clock: Callable[[], float] = time.monotonic,
        end: Callable[[ray.actor.ActorHandle], None] = ray.kill,
    ):
        self.say, self.clock, self.end = say, clock, end
        self._ends: dict[str, float] = {}  # by node that is to go: when
        self._looked = -math.inf
        self._longest = math.inf
        self._since: dict[str, float] = {}  # by trial: its last epoch

    def on_step_begin(self, iteration, trials, **info) -> None:
        """Look, every second, which nodes are to go."""
        now = self.clock()
        if now - self._looked < 1.0:
            return
        self._looked = now
        draining = draining_nodes()
        if news := draining.keys() - self._ends.keys():
            nodes = "a machine is" if len(news) == 1 else f"{len(news)} machines are"
            self.say(f"Notice: {nodes} to be taken away. Trials there go on elsewhere, each after an epoch.")
        self._ends = {node: self._ends.get(node, now + left) for node, left in draining.items()}

    def on_trial_result(self, iteration, trials, trial, result, **info) -> None:
        """Learn how long an epoch takes."""
        now, longest = self.clock(), self._longest
        if (since := self._since.get(trial.trial_id)) is not None:
            self._longest = now - since if longest == math.inf else max(longest, now - since)
        self._since[trial.trial_id] = now

    def on_trial_save(self, iteration, trials, trial, **info) -> None:
        """Move a trial whose epoch is saved, where no other one fits."""
        self._move(trial)

    def on_trial_start(self, iteration, trials, trial, **info) -> None:
        """Move a trial that was given a process of an earlier one, where no epoch fits."""
        self._since.pop(trial.trial_id, None)  # what it waited is no epoch
        self._move(trial)

    def _move(self, trial) -> None:
        """End the process of a trial that is to train on: Tune starts it elsewhere, from its checkpoint."""
        actor, last = trial.temporary_state.ray_actor, trial.last_result or {}
        if not self._ends or trial.status != "RUNNING" or actor is None or last.get("done"):
            return
        end = self._ends.get(node_of(actor))
        if end is not None and end - self.clock() < MARGIN * self._longest:
            trial.max_failures += 1  # it is no failure of the trial's
            self.end(actor)


class VersionWatch(tune.Callback):
    """Says of each node that joins later whether its versions are others than this machine's.

    `connect` refuses those that are there at the beginning.
    """

    def __init__(self, say: Say, clock: Callable[[], float] = time.monotonic):
        self.say, self.clock = say, clock
        self._looked = -math.inf
        self._known: set[str] | None = None  # ids of the nodes that were asked, or compared before
        self._asked: dict[ray.ObjectRef, str] = {}

    def on_step_begin(self, iteration, trials, **info) -> None:
        """Look, every few seconds, for new nodes, and for the answers of those that were asked."""
        now = self.clock()
        if now - self._looked < LOOK_SECONDS:
            return
        self._looked = now
        nodes = {node["NodeID"]: node["NodeManagerHostname"] for node in ray.nodes() if node["Alive"]}
        if self._known is not None:
            for new in nodes.keys() - self._known:
                self._asked[asked_on(new, versions)] = nodes[new]
        self._known = nodes.keys() | (self._known or set())
        asked = list(self._asked)
        for answer in ray.wait(asked, num_returns=len(asked), timeout=0)[0] if asked else []:
            node = self._asked.pop(answer)
            with contextlib.suppress(ray.exceptions.RayError):  # it has left again
                if other := differences(ray.get(answer)):
                    self.say(f"{node} has joined with {other}: its trials may give other numbers.")


class PrecisionWatch(tune.Callback):
    """Says once that trials compute in different formats, as machines choose them."""

    def __init__(self, say: Say):
        self.say = say
        self._seen: set[str] = set()

    def on_trial_result(self, iteration, trials, trial, result, **info) -> None:
        """Look at the format of a trial."""
        if (precision := result.get("precision")) is None or precision in self._seen:
            return
        self._seen.add(precision)
        if len(self._seen) == 2:
            self.say(
                f"Trials train in {' and in '.join(sorted(self._seen))}, as their machines choose: their "
                "scores may differ by it; --precision float32 has all train alike."
            )


class FailureCount(tune.Callback):
    """Gives up a trial that fails more than RETRIES times without a new epoch in between.

    Tune counts all failures of a trial: on machines that come and go, a long trial would use up its retries.
    """

    def __init__(self):
        self._reached: dict[str, int] = {}

    def on_trial_result(self, iteration, trials, trial, result, **info) -> None:
        """Forget a trial's failures when it reaches a new epoch; a repeated epoch is no progress."""
        epoch = result["training_iteration"]
        if epoch > self._reached.get(trial.trial_id, 0):
            self._reached[trial.trial_id] = epoch
            trial.max_failures = trial.num_failures + RETRIES


class DiskWatch(tune.Callback):
    """Ends the sweep, as Ctrl-C does, when a disk has fewer than `at_least` bytes left to save it on.

    On a full disk, trials would fail one by one, and be recorded as failed.
    """

    def __init__(self, folders: list[Path], say: Say, at_least: int = 200 * 2**20):
        self.folders, self.say, self.at_least = folders, say, at_least
        self._told = False

    def on_step_begin(self, iteration, trials, **info) -> None:
        """Look at the disks; end the sweep once."""
        for folder in self.folders:
            free = shutil.disk_usage(folder).free
            if free < self.at_least and not self._told:
                self._told = True
                self.say(
                    f"{folder} has {free / 2**20:.0f} MB left; the sweep stops while it can still be saved: "
                    "free some space (a sweep needs 200 MB and its checkpoints'), then go on with --resume."
                )
                os.kill(os.getpid(), signal.SIGUSR1)  # has Tune end in order, as Ctrl-C does


def _resources(cpus: float, gpus: float) -> str:
    return f"{counted(cpus, 'CPU')} and {counted(gpus, 'GPU')}"
