"""Limits how many trials are proposed at once to those that the cluster has room for."""

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from ray.tune.search import ConcurrencyLimiter, Searcher

from cluster.connect import Cluster, present_nodes

LOOK_SECONDS = 5.0


class ClusterLimiter(ConcurrencyLimiter):
    """Asks the searcher for a trial once a node, present or promised by the autoscaler, has room for it.

    Without a limit Tune lets a single trial wait: 64 nodes would start their trials one after the other, and
    an autoscaler would start one node at a time. With a fixed limit, nodes that join later would stay idle.
    A trial that is proposed too early cannot use the results that arrive before it runs.

    `at_most` is the user's own limit; `paused` tells how many trials are begun and hold no worker.
    """

    def __init__(
        self,
        searcher: Searcher,
        cluster: Cluster,
        cpus: float,
        gpus: float,
        at_most: int | None = None,
        paused: Callable[[], int] = lambda: 0,
    ):
        self._paused = paused
        self._cluster, self._per_trial, self._at_most = cluster, (cpus, gpus), at_most
        self._looked = time.monotonic()
        super().__init__(searcher, max_concurrent=self._room())

    def full(self) -> bool:
        """Whether as many trials run as there is room for."""
        if time.monotonic() - self._looked > LOOK_SECONDS:
            self._looked = time.monotonic()
            self._cluster = replace(self._cluster, present=present_nodes())
        self.max_concurrent = self._room() + self._paused()  # those that Tune counts as live
        return len(self.live_trials) >= self.max_concurrent

    def suggest(self, trial_id: str) -> dict[str, Any] | None:
        """Return the searcher's proposal, or None where no node has room."""
        return None if self.full() else super().suggest(trial_id)

    def _room(self) -> int:
        room = max(1, self._cluster.slots(*self._per_trial))
        return min(room, self._at_most) if self._at_most else room

    def get_state(self) -> dict[str, Any]:
        """Return which trials have not ended. A resumed sweep may have other nodes, hence its own limit."""
        return {"live_trials": set(self.live_trials), "unfinished": self.num_unfinished_live_trials}

    def set_state(self, state: dict[str, Any]) -> None:
        """Take over the trials that `get_state` returned."""
        self.live_trials, self.num_unfinished_live_trials = state["live_trials"], state["unfinished"]
