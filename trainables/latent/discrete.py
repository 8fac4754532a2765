"""Search over discrete codes: boosted trees are the surrogate, maximized exactly around an image's own code.

Thebelt et al. (2021) fit and maximize tree ensembles. [HP] (sec. 2.2) frees only the positions that matter
most and fixes the others to the code of a random image.
"""

import time
from dataclasses import dataclass

import numpy as np
import xgboost as xgb
from numpy.typing import NDArray

from trainables.latent.ensemble import Restriction, parse, restrict
from trainables.latent.leaf_mip import maximize_leaf_mip
from trainables.latent.pairwise import Assignment, maximize_pairwise

PREDICTION_TOLERANCE = 1e-4  # relative, between our sum in doubles and the booster's in singles


@dataclass(frozen=True)
class Proposal:
    """A latent to decode next, with the surrogate's prediction and the cost of finding it.

    `gap` is the proven upper bound less the value, or NaN where nothing is proven. `nodes` counts the nodes
    of the proof's search tree.
    """

    latent: NDArray
    predicted: float
    gap: float
    nodes: int
    fit_seconds: float
    solve_seconds: float


@dataclass(frozen=True)
class DiscreteSettings:
    """Settings of `DiscreteSearch`. The defaults are those of [HP].

    `time_limit` holds for one maximization, in seconds, and is the authors' two minutes. Beyond it the best
    known code is taken, and `gap` tells what is not proven.

    These are off by default, since they change the method of [HP]. With `trust_radius` at most so many
    positions differ from the base. Without `refit_each_query` one fit serves all queries of a round, which
    then come from different base images. With `bootstrap` each fit is on a resample of its data (Thompson's
    optimism).
    """

    free: int = 8
    trees: int = 800
    depth: int = 2
    samples_a_leaf: int = 20
    time_limit: float = 120.0
    learning_rate: float = 0.1
    trust_radius: int | None = None
    refit_each_query: bool = True
    bootstrap: bool = False
    threads: int = 1


class DiscreteSearch:
    """Propose codes of P positions, each below `categories`, given codes and their scores.

    `begin` starts a round with data, `propose` fits, maximizes and proves, and `add` takes a query's score.
    """

    def __init__(self, categories: int, settings: DiscreteSettings):
        self.categories, self.settings = categories, settings
        self.booster: xgb.Booster | None = None

    def begin(self, codes: NDArray, scores: NDArray, tried: NDArray, rng: np.random.Generator) -> None:
        """Take the round's codes (n, P) and scores (n,), and the tried codes (m, P), never to be repeated."""
        self.codes, self.scores = np.asarray(codes, dtype=np.int64), np.asarray(scores, dtype=np.float64)
        self.tried = np.asarray(tried, dtype=np.int64).reshape(-1, self.codes.shape[1])
        self.rng = rng
        self.booster = None

    def add(self, code: NDArray, score: float) -> None:
        """Add a query to the data, and never propose it again."""
        self.codes = np.vstack([self.codes, code])
        self.scores = np.append(self.scores, score)
        self.tried = np.vstack([self.tried, code])
        if self.settings.refit_each_query:
            self.booster = None

    def propose(self, base: NDArray) -> Proposal | None:
        """Return the best new code around `base`, (P,), or None where all around it were tried.

        Raises RuntimeError where the booster predicts another value than was proven. That is a bug, whatever
        the data.
        """
        start = time.perf_counter()
        if self.booster is None:
            self.booster = self._fit()
            self.ensemble = parse(self.booster, self.categories)
        fitted = time.perf_counter()
        base = np.asarray(base, dtype=np.int64)
        free = self.free_positions()
        restriction = restrict(self.ensemble, base, free, self.tried)
        best = self._maximize(restriction, base)
        if best is None:
            return None
        code = self._members(restriction, base, best.labels)
        solved = time.perf_counter()
        predicted = float(self.predict(code[None])[0])
        if abs(predicted - best.value) > PREDICTION_TOLERANCE * max(1.0, abs(best.value)):
            raise RuntimeError(
                f"the booster predicts {predicted} where {best.value} was proven to be optimal"
            )
        return Proposal(
            latent=code,
            predicted=predicted,
            gap=best.upper_bound - best.value,
            nodes=best.nodes,
            fit_seconds=fitted - start,
            solve_seconds=solved - fitted,
        )

    def predict(self, codes: NDArray) -> NDArray[np.float32]:
        """Return the surrogate's value of codes (n, P): (n,)."""
        return self._fitted().predict(self._matrix(codes))

    def free_positions(self) -> list[int]:
        """Return the `free` positions of highest total gain, best first. Those without any come last."""
        gain = np.zeros(self.codes.shape[1])
        for name, value in self._fitted().get_score(importance_type="total_gain").items():
            gain[int(name[1:])] = value
        return [int(p) for p in np.argsort(-gain, kind="stable")[: self.settings.free]]

    def _fitted(self) -> xgb.Booster:
        if self.booster is None:
            raise RuntimeError("there is no surrogate yet; propose fits it")
        return self.booster

    def _fit(self) -> xgb.Booster:
        s = self.settings
        codes, scores = self.codes, self.scores
        if s.bootstrap:
            drawn = self.rng.integers(len(codes), size=len(codes))
            codes, scores = codes[drawn], scores[drawn]
        parameters = {
            "tree_method": "hist",
            "max_depth": s.depth,
            "min_child_weight": s.samples_a_leaf,  # with squared error the hessian of a sample is 1
            "eta": s.learning_rate,
            "nthread": s.threads,
            "seed": int(self.rng.integers(2**31)),
        }
        return xgb.train(parameters, self._matrix(codes, scores), s.trees)

    def _matrix(self, codes: NDArray, scores: NDArray | None = None) -> xgb.DMatrix:
        kinds = ["c"] * codes.shape[1]
        return xgb.DMatrix(codes.astype(np.float32), scores, feature_types=kinds, enable_categorical=True)

    def _maximize(self, restriction: Restriction, base: NDArray) -> Assignment | None:
        center = np.array(
            [
                next(label for label, members in enumerate(classes) if base[position] in members)
                for position, classes in zip(restriction.free, restriction.classes, strict=True)
            ],
            dtype=np.int64,
        )
        limit = self.settings.time_limit
        if self.settings.trust_radius is not None or restriction.interaction > 2:
            radius = self.settings.trust_radius
            return maximize_leaf_mip(restriction, center=center, radius=radius, time_limit=limit)
        return maximize_pairwise(restriction, [center], time_limit=limit)

    def _members(self, restriction: Restriction, base: NDArray, labels: NDArray) -> NDArray[np.int64]:
        """Return the code of the labels. From a class take base's category, else the data's most frequent."""
        code = base.copy()
        for position, classes, label in zip(restriction.free, restriction.classes, labels, strict=True):
            members = classes[label]
            if base[position] not in members:
                counts = np.bincount(self.codes[:, position], minlength=self.categories)
                code[position] = members[counts[members].argmax()]
        return code
