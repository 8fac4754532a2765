"""Exact maximization of a sum of functions of one and of two discrete variables.

    maximize  Σ_i θ_i(x_i) + Σ_{i<j} θ_ij(x_i, x_j)    over labels x_i

A reparametrization moves value between the θ without changing the sum, and Σ max θ_i + Σ max θ_ij bounds the
sum from above. Sequential block-coordinate descent on that bound (TRW-S, Kolmogorov 2006, in the explicit
form of SRMP, Kolmogorov 2015) makes it tight where the linear relaxation is. On the way, after a variable has
pulled the value out of its edges, the bound given x_i = a is the bound less max θ_i − θ_i(a). A label whose
bound does not exceed the best assignment known is deleted. The search branches on what remains open.
"""

import math
import time
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from trainables.latent.ensemble import Restriction

SWEEPS_AT_ROOT, SWEEPS_AT_NODE = 30, 8
STALLED = 0.1  # the search branches once a sweep closes less than this share of the gap


@dataclass(frozen=True)
class Assignment:
    """The best labels, (t,), their value, and how many nodes of the search tree the proof took.

    No allowed assignment has a value above `upper_bound`. It exceeds `value` by rounding error alone, unless
    a time limit ended the search. Then the difference is what is not proven.
    """

    labels: np.ndarray
    value: float
    upper_bound: float
    nodes: int


def tables(restriction: Restriction) -> tuple[list[np.ndarray], dict[tuple[int, int], np.ndarray]]:
    """Return θ_i, (n_i,), and θ_ij, i < j, (n_i, n_j), where no leaf has more than two variables.

    Raises ValueError where a leaf depends on three or more.
    """
    if restriction.interaction > 2:
        raise ValueError(
            f"a leaf depends on {restriction.interaction} free positions; here 2 at most are possible"
        )
    unary = [np.zeros(len(labels)) for labels in restriction.classes]
    rectangles: dict[tuple[int, int], list[tuple[float, np.ndarray, np.ndarray]]] = {}
    for tree in restriction.trees:
        for value, allowed in tree:
            if len(allowed) == 1:
                ((i, mask),) = allowed.items()
                unary[i][mask] += value
            else:
                (i, first), (j, second) = sorted(allowed.items(), key=lambda item: item[0])
                rectangles.setdefault((i, j), []).append((value, first, second))
    pairs = {}
    for edge, members in rectangles.items():
        values, first, second = (np.array(column, dtype=float) for column in zip(*members, strict=True))
        pairs[edge] = (first * values[:, None]).T @ second
    return unary, pairs


def maximize_pairwise(
    restriction: Restriction, start: Iterable[np.ndarray] = (), *, time_limit: float = math.inf
) -> Assignment | None:
    """Return a best assignment, proven, among those not excluded, or None where all are excluded.

    `start` are assignments, (t,), to begin from. Good ones save time. After `time_limit` seconds, return the
    best so far with the bound that was reached, or None where every assignment met so far is excluded.
    """
    unary, pairs = tables(restriction)
    search = _Search(unary, pairs, restriction.excluded, time.monotonic() + time_limit)
    search.run([*start, np.array([theta.argmax() for theta in unary], dtype=np.int64)])
    if search.best is None:
        return None
    return Assignment(
        labels=search.best,
        value=restriction.constant + search.best_value,
        upper_bound=restriction.constant + max(search.best_value + search.tolerance, search.unsolved),
        nodes=search.nodes,
    )


class _Node:
    """A box of labels and a reparametrization over it. pair[i][j] and pair[j][i].T are one array."""

    def __init__(self, labels: list[np.ndarray], unary: list[np.ndarray], pair: list[dict[int, np.ndarray]]):
        self.labels, self.unary, self.pair = labels, unary, pair

    def bound(self) -> float:
        edges = (theta.max() for i, row in enumerate(self.pair) for j, theta in row.items() if i < j)
        return sum(theta.max() for theta in self.unary) + sum(edges)

    def keep(self, i: int, kept: np.ndarray) -> None:
        """Reduce variable i to the labels at `kept`, an index or a mask."""
        self.labels[i], self.unary[i] = self.labels[i][kept], self.unary[i][kept]
        for j in self.pair[i]:
            self.pair[i][j] = self.pair[i][j][kept]
            self.pair[j][i] = self.pair[i][j].T

    def child(self, i: int, kept: np.ndarray) -> "_Node":
        pair: list[dict[int, np.ndarray]] = [{} for _ in self.pair]
        for a, row in enumerate(self.pair):
            for b, theta in row.items():
                if a < b:
                    pair[a][b] = theta.copy()
                    pair[b][a] = pair[a][b].T
        child = _Node(list(self.labels), [theta.copy() for theta in self.unary], pair)
        child.keep(i, kept)
        return child


class _Search:
    """A depth-first branch and bound. `best` is the best allowed assignment so far."""

    def __init__(
        self,
        unary: list[np.ndarray],
        pairs: dict[tuple[int, int], np.ndarray],
        excluded: np.ndarray,
        deadline: float,
    ):
        self.unary, self.excluded = unary, excluded
        self.pair: list[dict[int, np.ndarray]] = [{} for _ in unary]
        for (i, j), theta in pairs.items():
            self.pair[i][j], self.pair[j][i] = theta, theta.T
        magnitude = sum(np.abs(t).max() for t in unary) + sum(np.abs(t).max() for t in pairs.values())
        self.tolerance = 1e-10 * max(1.0, magnitude)  # far above float64 rounding, far below a float32's
        self.best: np.ndarray | None = None
        self.best_value = -np.inf
        self.deadline, self.unsolved = deadline, -np.inf  # the highest bound of a node left at the deadline
        self.nodes = 0

    def run(self, starts: list[np.ndarray]) -> None:
        for labels in starts:
            self._climb(labels)
        whole = _Node([np.arange(len(theta)) for theta in self.unary], self.unary, self.pair)
        if not self.unary:
            self._offer(np.empty(0, dtype=np.int64))
            return
        # The search reparametrizes its tables, so it works on a copy, and the objective stays as it is.
        self._solve(whole.child(0, np.arange(len(self.unary[0]))), SWEEPS_AT_ROOT)

    def _value(self, labels: np.ndarray) -> float:
        value = sum(theta[a] for theta, a in zip(self.unary, labels, strict=True))
        edges = ((i, j, theta) for i, row in enumerate(self.pair) for j, theta in row.items() if i < j)
        return float(value + sum(theta[labels[i], labels[j]] for i, j, theta in edges))

    def _offer(self, labels: np.ndarray) -> None:
        if len(self.excluded) and (self.excluded == labels).all(1).any():
            return
        value = self._value(labels)
        if value > self.best_value:
            self.best, self.best_value = labels, value

    def _climb(self, labels: np.ndarray) -> None:
        """Offer the local maximum that is reached by changing one variable at a time."""
        labels = np.array(labels, dtype=np.int64)
        improved = True
        while improved:
            improved = False
            for i, theta in enumerate(self.unary):
                gain = theta + sum(edge[:, labels[j]] for j, edge in self.pair[i].items())
                if len(self.excluded):
                    others = np.arange(len(labels)) != i
                    agree = (self.excluded[:, others] == labels[others]).all(1)
                    gain[self.excluded[agree, i]] = -np.inf
                a = int(gain.argmax())
                if gain[a] > gain[labels[i]] + self.tolerance:
                    labels[i] = a
                    improved = True
        self._offer(labels)

    def _solve(self, node: _Node, sweeps: int) -> None:
        """Prove that the node holds nothing better than the best assignment, or find what is better."""
        if time.monotonic() > self.deadline:
            self.unsolved = max(self.unsolved, node.bound())
            return
        self.nodes += 1
        order = range(len(node.unary))
        previous = np.inf
        for _ in range(sweeps):
            for direction in (order, reversed(order)):
                if not self._sweep(node, direction):
                    return
            bound = node.bound()
            self._climb(np.array([node.labels[i][theta.argmax()] for i, theta in enumerate(_stars(node))]))
            if bound <= self.best_value + self.tolerance:
                return
            if all(len(labels) == 1 for labels in node.labels):
                self._offer(np.concatenate(node.labels))
                return
            if previous - bound < STALLED * (bound - self.best_value):
                break
            previous = bound
        self._branch(node)

    def _sweep(self, node: _Node, order: Iterable[int]) -> bool:
        """Lower the bound once along `order`, deleting labels. Return False once nothing is left to find."""
        bound = node.bound()
        done: set[int] = set()
        for i in order:
            edges = node.pair[i]
            before = node.unary[i].max() + sum(theta.max() for theta in edges.values())
            for theta in edges.values():  # pull: afterwards each row of each edge has maximum 0
                best = theta.max(1)
                theta -= best[:, None]
                node.unary[i] += best
            bound += node.unary[i].max() - before
            if bound <= self.best_value + self.tolerance:
                return False
            kept = node.unary[i] + (bound - node.unary[i].max()) > self.best_value + self.tolerance
            if not kept.all():
                node.keep(i, kept)
                edges = node.pair[i]
            later = [theta for j, theta in edges.items() if j not in done]
            if later:  # push: an equal share to each edge that is still to come
                share = node.unary[i] / max(len(later), len(edges) - len(later))
                for theta in later:
                    theta += share[:, None]
                node.unary[i] = node.unary[i] - len(later) * share
            done.add(i)
        return True

    def _branch(self, node: _Node) -> None:
        """Split the labels of the variable with the fewest in two, and solve the better half first."""
        stars = _stars(node)
        i = min(
            (i for i, labels in enumerate(node.labels) if len(labels) > 1), key=lambda i: len(node.labels[i])
        )
        ranked = np.argsort(-stars[i], kind="stable")
        half = 1 if len(ranked) <= 4 else len(ranked) // 2
        for part in (ranked[:half], ranked[half:]):
            self._solve(node.child(i, part), SWEEPS_AT_NODE)


def _stars(node: _Node) -> list[np.ndarray]:
    """Return, per variable, each label's own value plus the most that each of its edges can add."""
    return [
        theta + sum(edge.max(1) for edge in row.values())
        for theta, row in zip(node.unary, node.pair, strict=True)
    ]
