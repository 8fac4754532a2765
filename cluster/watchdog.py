"""Says so when trials wait for machines that do not come: Ray Tune itself waits for ever, without a word."""

import time
from collections.abc import Callable

from ray import tune

from cluster.connect import counted, present_nodes


class Watchdog(tune.Callback):
    """Tells `say`, after `patience` seconds, that no node can run the waiting trials, and when one can again.

    The sweep goes on waiting: a spot machine may come back. Ctrl-C keeps what is done.
    """

    def __init__(
        self,
        cpus_per_trial: float,
        gpus_per_trial: float,
        say: Callable[[str], object],
        patience: float = 45.0,
        clock: Callable[[], float] = time.monotonic,
    ):
        self.cpus, self.gpus, self.say = cpus_per_trial, gpus_per_trial, say
        self.patience, self.clock = patience, clock
        self._stuck_since: float | None = None
        self._told = False

    def on_step_begin(self, iteration, trials, **info) -> None:
        """Look at the trials; ask for the nodes only when none of them runs."""
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
            return  # it is starting, or another job has the node
        self._told = True
        there = "; ".join(_resources(*node) for node in nodes) or "no CPU"
        self.say(
            f"Trials wait: each asks for {_resources(self.cpus, self.gpus)}, the nodes have {there}. "
            "They start when such a node joins; Ctrl-C keeps what is done, --resume goes on later."
        )


def _resources(cpus: float, gpus: float) -> str:
    return f"{counted(cpus, 'CPU')} and {counted(gpus, 'GPU')}"
