"""One run of latent-space optimization as a Tune trial: a step is a round of queries and a fine-tuning."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ray import tune
from scipy.stats import spearmanr

from trainables.data.pictures import row
from trainables.data.store import spread
from trainables.latent.continuous import ContinuousSearch, ContinuousSettings
from trainables.latent.discrete import DiscreteSearch, DiscreteSettings
from trainables.latent.optimization import LatentOptimization, LoopSettings, Selection, top_k
from trainables.latent.problem import held_out_references, load_images, pretrained, training_rows
from trainables.latent.scorer import JUDGE, SmileScorer, load_scorer, smile_degrees
from trainables.latent.settings import LatentConfig, parse_config, shared
from trainables.metrics.extractors.features import load_extractor
from trainables.metrics.frechet import frechet_distance
from trainables.tune.device import set_torch_threads

CHECKPOINT = "state.pt"
HELD_OUT = 256  # images by which the latents are judged
OVERRATED = 1.0  # degrees by which the scorer is above the judge where it alone believes a smile


class LatentOptimizationTrainable(tune.Trainable):
    """Trains the model once (machines keep it), then makes `queries_a_round` queries a step.

    Each step reports what `LatentOptimization.run_round` does, and the round's images as one PNG row. Of
    held-out images up to `max_degree`: `reconstruction_mse` and `reconstruction_rank_correlation`, which is
    Spearman's, of the scores of images and of their reconstructions; not where one side's are all the same.
    Of all queries so far, what a second scorer gives, which the search never asks: `judged_top10`,
    `judged_top50`, and `overrated`, the share that it puts a degree or more below the first scorer. The last
    step also reports the Fréchet distance of all queries to the images above `max_degree` (`<metric>`) and to
    each such degree (`<metric>_degree_<k>`).
    """

    def setup(self, config: dict[str, Any], scorer: bytes | None = None, judge: bytes | None = None) -> None:
        """Take the threads the trial was given; `scorer`, `judge`: scorers' files, else as `load_scorer`."""
        set_torch_threads(self)
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.loaded: LatentConfig | None = None  # what images, scorer and features in memory were loaded by
        self.scorer_file, self.judge_file = scorer, judge
        self.reset_config(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Become another trial; images, scorer and features stay where they are the same."""
        self.settings = c = parse_config(new_config)
        if self.loaded is None or shared(self.loaded) != shared(c):
            self._load()
            self.loaded = c
        model = pretrained(self.store, self.rows, c, self.device)
        threads = torch.get_num_threads()
        discrete = c.method != "vae-retrained"
        search = (
            DiscreteSearch(
                c.codes,
                DiscreteSettings(
                    free=c.free,
                    trees=c.trees,
                    learning_rate=c.tree_learning_rate,
                    trust_radius=c.trust_radius,
                    refit_each_query=c.refit_each_query,
                    bootstrap=c.bootstrap,
                    threads=threads,
                ),
            )
            if discrete
            else ContinuousSearch(ContinuousSettings())
        )
        loop = LoopSettings(
            retraining=c.method != "vqvae",
            queries_a_round=c.queries_a_round,
            best_points=c.best_points,
            random_points=c.random_points,
            first_epochs=c.first_epochs,
            tuning_epochs=c.tuning_epochs,
            batch_size=c.vqvae_batch_size if discrete else c.vae_batch_size,
        )
        self.optimization = LatentOptimization(
            model, search, self.scorer.score, self.images, self.scores, loop, c.seed
        )
        return True

    def _load(self) -> None:
        c = self.settings
        self.store = load_images(c)
        degrees = smile_degrees(self.store)
        weights = Path(c.scorer_weights) if c.scorer_weights else None
        cache = Path(c.cache_dir) if c.cache_dir else None
        if self.scorer_file is None:
            self.scorer_file = load_scorer(
                self.store, weights=weights, cache_dir=cache, epochs=c.scorer_epochs
            )
        if self.judge_file is None:
            self.judge_file = load_scorer(self.store, cache_dir=cache, epochs=c.scorer_epochs, seed=JUDGE)
        self.scorer, self.judge = (
            SmileScorer.from_bytes(file)[0].to(self.device) for file in (self.scorer_file, self.judge_file)
        )
        self.rows = training_rows(self.store, c.max_degree)
        self.images = Selection(self.store.images, self.rows)
        labels = degrees[self.rows]
        self.scores = self.scorer.score(self.images) if c.training_scores == "scorer" else labels
        held_out = self.store.split("validation")
        held_out = spread(held_out[degrees[held_out] <= c.max_degree], HELD_OUT)
        self.held_out = self.store.images[held_out]
        self.held_out_scores = self.scorer.score(self.held_out) if len(held_out) else np.empty(0)
        self.extractor = load_extractor(
            c.features,
            weights=Path(c.feature_weights) if c.feature_weights else None,
            device=self.device,
            threads=torch.get_num_threads(),
        )

    def step(self) -> dict[str, Any]:
        """Make a round of queries."""
        result: dict[str, Any] = self.optimization.run_round()
        result["diverged"] = not all(
            math.isfinite(value) for name, value in result.items() if name.startswith("loss/")
        )
        result |= self._reconstruction() | self._judgement()
        result["best_training_score"] = float(self.scores.max())
        made = self.optimization.queries[-self.settings.queries_a_round :]
        result["images"] = {"queries": row(made)}
        if result["diverged"]:
            return result | {"done": True}
        if self.optimization.round >= self.settings.rounds:
            result |= self._frechet_distances()
        return result

    def _reconstruction(self) -> dict[str, float]:
        """Return how well the model keeps held-out images, and how well it keeps the order of their scores.

        No search succeeds in latents that lose what the score depends on.
        """
        if not len(self.held_out):
            return {"reconstruction_mse": math.nan}
        reconstructions = self.optimization.decode(self.optimization.encode(self.held_out))
        error = np.square(self.held_out / 255.0 - reconstructions / 255.0).mean()
        result = {"reconstruction_mse": float(error)}
        scores = (self.held_out_scores, self.scorer.score(reconstructions))
        if all(np.ptp(values) > 0 for values in scores):
            result["reconstruction_rank_correlation"] = float(spearmanr(*scores).statistic)
        return result

    def _judgement(self) -> dict[str, float]:
        """Return what the second scorer gives all queries: a search may learn to fool the first."""
        queries, scores = self.optimization.queries, self.optimization.query_scores
        judged = self.judge.score(queries)
        best = {f"judged_top{k}": top_k(queries, judged, k) for k in (10, 50)}
        known = {name: value for name, value in best.items() if value is not None}
        return known | {"overrated": float((scores - judged >= OVERRATED).mean())}

    def _frechet_distances(self) -> dict[str, float]:
        features = self.extractor(self.optimization.queries)
        result = {}
        for name, reference in held_out_references(self.store, self.settings, self.extractor).items():
            distance = frechet_distance(features, reference, identity=self.extractor.identity)
            result[f"{self.extractor.metric}{name}"] = distance
        return result

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Write all that the next round depends on."""
        torch.save(self.optimization.state(), Path(checkpoint_dir) / CHECKPOINT)

    def load_checkpoint(self, checkpoint_dir: str) -> None:  # type: ignore[override]  # Tune gives a path
        """Restore `save_checkpoint`'s state: on a CPU the rounds that follow are the same."""
        state = torch.load(Path(checkpoint_dir) / CHECKPOINT, map_location="cpu", weights_only=True)
        self.optimization.load_state(state)
