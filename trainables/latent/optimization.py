"""Latent-space optimization with weighted retraining (Tripp et al. 2020): the loop of [HP].

A round encodes the best images of the data and some random ones. Then the search proposes a latent r times,
and each time its image is decoded, scored and added to the data. At the end the model is fine-tuned on data
drawn by rank weights.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from trainables.data.batches import to_float, to_uint8
from trainables.latent.continuous import ContinuousSearch
from trainables.latent.discrete import DiscreteSearch, Proposal
from trainables.latent.weighting import rank_weights
from trainables.metrics.neighbors import nearest_neighbors
from trainables.models.base import GenerativeModel

SLAB = 4096  # images compared at a time
BASES = 20  # images around which the search looks before it gives up
Objective = Callable[[NDArray[np.uint8]], NDArray[np.float64]]


@dataclass(frozen=True)
class LoopSettings:
    """Settings of the loop. The defaults are those of [HP].

    Without `retraining` the model stays as it is. With it, `first_epochs` weighted epochs come before the
    first round and `tuning_epochs` after each.
    """

    retraining: bool = True
    queries_a_round: int = 5
    best_points: int = 2000
    random_points: int = 8000
    rank_k: float = 1e-3
    first_epochs: float = 1.0
    tuning_epochs: float = 0.1
    batch_size: int = 128


class Selection:
    """Rows of memory-mapped images, (n, H, W, C), that are read only when they are indexed."""

    def __init__(self, images: NDArray[np.uint8], rows: NDArray[np.int64]):
        self.images, self.rows = images, rows
        self.shape = (len(rows), *images.shape[1:])

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: slice | NDArray[np.int64]) -> NDArray[np.uint8]:
        return self.images[self.rows[index]]


class ExhaustedError(RuntimeError):
    """All codes around every base image that was looked at have been tried."""


class LatentOptimization:
    """One run: a trained model, a search, an objective, and the images with which it began.

    `images` are uint8 (N, H, W, C), or a `Selection`, and `scores` (N,) are theirs. All randomness follows
    from `seed` and the number of the round, so that a run restored from `state` goes on exactly.
    """

    def __init__(
        self,
        model: GenerativeModel,
        search: DiscreteSearch | ContinuousSearch,
        objective: Objective,
        images: NDArray[np.uint8] | Selection,
        scores: NDArray[np.float64],
        settings: LoopSettings,
        seed: int,
    ):
        self.model, self.search, self.objective = model, search, objective
        self.images, self.image_scores = images, np.asarray(scores, dtype=np.float64)
        self.settings, self.seed = settings, seed
        self.round = 0
        self.queries = np.empty((0, *images.shape[1:]), np.uint8)
        self.query_scores = np.empty(0)
        self.latents: list[NDArray] = []

    @property
    def scores(self) -> NDArray[np.float64]:
        """The scores of images and queries, (N + m,)."""
        return np.concatenate([self.image_scores, self.query_scores])

    def run_round(self) -> dict[str, float]:
        """Make r queries, fine-tune, and return the results under the names of `_report`.

        Raises ExhaustedError where no new code can be proposed.
        """
        s = self.settings
        rng = np.random.default_rng([self.seed, self.round])
        losses = {}
        if s.retraining and self.round == 0:
            losses = self.retrain(s.first_epochs, rng)
        started = time.perf_counter()
        chosen = self.surrogate_points(rng)
        encoded = self.encode(self.gather(chosen))
        tried = np.array(self.latents).reshape(-1, encoded.shape[1])
        self.search.begin(encoded, self.scores[chosen], tried, rng)
        begin_seconds = time.perf_counter() - started
        made: list[tuple[Proposal, float]] = []
        for _ in range(s.queries_a_round):
            proposal = self._propose(rng)
            image = self.decode(proposal.latent[None])
            score = float(self.objective(image)[0])
            self.search.add(proposal.latent, score)
            self.queries = np.concatenate([self.queries, image])
            self.query_scores = np.append(self.query_scores, score)
            self.latents.append(proposal.latent)
            made.append((proposal, score))
        self.round += 1
        result = self._report(made) | {"encode_seconds": begin_seconds}
        if s.retraining:
            started = time.perf_counter()
            losses = self.retrain(s.tuning_epochs, rng)
            result["retrain_seconds"] = time.perf_counter() - started
        return result | losses

    def _propose(self, rng: np.random.Generator) -> Proposal:
        for _ in range(BASES):
            base = self.encode(self.gather(rng.integers(len(self.images) + len(self.queries), size=1)))[0]
            proposal = self.search.propose(base)
            if proposal is not None:
                return proposal
        assert isinstance(self.search, DiscreteSearch)  # a continuous search always has a proposal
        raise ExhaustedError(
            f"all codes around {BASES} images have been tried; free more than "
            f"{self.search.settings.free} positions"
        )

    def surrogate_points(self, rng: np.random.Generator) -> NDArray[np.int64]:
        """Return the rows, of images then queries, from which the surrogate learns: best and random ones."""
        scores, s = self.scores, self.settings
        order = np.argsort(-scores, kind="stable")
        best, rest = order[: s.best_points], order[s.best_points :]
        drawn = rng.permutation(rest)[: s.random_points]
        return np.sort(np.concatenate([best, drawn]))

    def retrain(self, epochs: float, rng: np.random.Generator) -> dict[str, float]:
        """Train on images drawn with replacement by their rank weights, and return the mean losses."""
        weights, batch = rank_weights(self.scores, self.settings.rank_k), self.settings.batch_size
        batch = min(batch, len(weights))
        steps = max(1, math.ceil(epochs * len(weights) / batch))
        drawn = rng.choice(len(weights), size=(steps, batch), p=weights)
        sums: dict[str, float] = {}
        for rows in drawn:
            losses = self.model.training_step(to_float(self.gather(rows), self.model.device))
            for name, value in losses.items():
                sums[name] = sums.get(name, 0.0) + float(value)
        return {f"loss/{name}": value / steps for name, value in sums.items()}

    def gather(self, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Return the images of rows. Rows from N on are queries."""
        rows = np.asarray(rows)
        known = rows < len(self.images)
        result = np.empty((len(rows), *self.images.shape[1:]), np.uint8)
        result[known] = self.images[rows[known]]
        result[~known] = self.queries[rows[~known] - len(self.images)]
        return result

    @torch.no_grad()
    def encode(self, images: NDArray[np.uint8]) -> NDArray:
        """Return the codes (n, P) of images, or the posterior means (n, M) of a VAE."""
        self.model.eval()
        parts = []
        for first in range(0, len(images), 256):
            z = self.model.encode(to_float(images[first : first + 256], self.model.device))
            parts.append((z[0] if isinstance(z, tuple) else z).cpu())
        return torch.cat(parts).numpy()

    @torch.no_grad()
    def decode(self, latents: NDArray) -> NDArray[np.uint8]:
        """Return the images of latents, uint8 (n, H, W, C)."""
        self.model.eval()
        z = torch.from_numpy(np.asarray(latents)).to(self.model.device)
        return to_uint8(self.model.decode(z if z.dtype == torch.int64 else z.float())).cpu().numpy()

    def _report(self, made: list[tuple[Proposal, float]]) -> dict[str, float]:
        predicted = np.array([proposal.predicted for proposal, _ in made])
        score = np.array([score for _, score in made])
        result = {
            "queries": len(self.queries),
            "score": score.mean(),
            "best_score": self.query_scores.max(),
            "predicted": predicted.mean(),
            "prediction_error": np.abs(predicted - score).mean(),
            "novelty": novelty(self.queries[-len(made) :], self.images).mean(),
            "fit_seconds": np.mean([proposal.fit_seconds for proposal, _ in made]),
            "solve_seconds": np.mean([proposal.solve_seconds for proposal, _ in made]),
            "solve_seconds_max": np.max([proposal.solve_seconds for proposal, _ in made]),
        }
        gaps = np.array([proposal.gap for proposal, _ in made])
        if np.isfinite(gaps).all():
            result["gap_max"] = gaps.max()
            result["nodes_max"] = max(proposal.nodes for proposal, _ in made)
        for k in (10, 50):
            value = top_k(self.queries, self.query_scores, k)
            if value is not None:
                result[f"top{k}"] = value
        return {name: float(value) for name, value in result.items()}

    def state(self) -> dict[str, Any]:
        """Return all that the next round depends on, except images, scores, objective and settings."""
        latents = np.array(self.latents)
        return {
            "model": self.model.training_state(),
            "round": self.round,
            "queries": torch.from_numpy(self.queries),
            "query_scores": torch.from_numpy(self.query_scores),
            "latents": torch.from_numpy(latents),
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Restore `state`."""
        self.model.load_training_state(state["model"])
        self.round = state["round"]
        self.queries = state["queries"].numpy()
        self.query_scores = state["query_scores"].numpy()
        self.latents = list(state["latents"].numpy())


def top_k(images: NDArray[np.uint8], scores: NDArray[np.float64], k: int) -> float | None:
    """Return the worst of the k best scores of different images, or None where there are fewer."""
    unique = np.unique(images.reshape(len(images), -1), axis=0, return_index=True)[1]
    return float(np.sort(scores[unique])[-k]) if len(unique) >= k else None


def novelty(queries: NDArray[np.uint8], images: NDArray[np.uint8] | Selection) -> NDArray[np.float64]:
    """Return each query's root mean squared distance, on pixels in [0, 1], to the nearest image."""
    nearest = np.full(len(queries), np.inf)
    for first in range(0, len(images), SLAB):
        slab = images[first : first + SLAB]
        nearest = np.minimum(nearest, nearest_neighbors(queries, slab).distances[:, 0])
    return nearest / (255 * math.sqrt(queries[0].size))
