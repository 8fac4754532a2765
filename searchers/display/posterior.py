"""[BVG]'s Figure 5, live: what the searcher believes over a one-dimensional search space.

The Gaussian process's mean ± 2σ with the trials on it, and below it the expected improvement that proposes
the next one. Spaces of more dimensions have no such figure.
"""

import json
import math
import time

import numpy as np
from ray import tune

from analysis.charts.posterior import Belief, Scored, draw_posterior
from searchers.bayesopt.searcher import BayesOptSearch
from searchers.record.ledger_callback import LedgerCallback
from searchers.record.mlflow_exporter import MlflowExporter
from searchers.record.schema import FIGURE as FIGURE_EVENT
from searchers.record.schema import POSTERIOR_FILE, REFERENCES, RUNNING, reference_param
from searchers.study.study import Study

FIGURE = "posterior.png"
SECONDS_BETWEEN = 10.0  # a drawing takes a third of a second, in which Tune waits
GRID = 400


class PosteriorFigure(tune.Callback):
    """Redraws the figure as trials end and hands it to the record."""

    def __init__(
        self, study: Study, search: BayesOptSearch | None, recorder: LedgerCallback, delivery: MlflowExporter
    ):
        self.study, self.search, self.recorder, self.delivery = study, search, recorder, delivery
        self.drawn = -math.inf

    def on_trial_complete(self, iteration, trials, trial, **info) -> None:
        """Redraw, at most every ten seconds."""
        if time.monotonic() - self.drawn > SECONDS_BETWEEN:
            self.draw()

    def draw(self) -> None:
        """Draw what is known now, where there are a model, one dimension and two values at least."""
        metric = self.study.metric
        seen = [r for r in self.recorder.records.values() if math.isfinite(r.last(metric))]
        if self.search is None or len(self.study.space) != 1 or len(seen) < 2:
            return
        ((name, domain),) = self.study.space.items()
        if not hasattr(domain, "lower"):
            return
        self.drawn = time.monotonic()
        grid = np.linspace(domain.lower, domain.upper, GRID)
        configs = [{name: float(x)} for x in grid]
        try:
            mean, std = self.search.posterior(configs)
        except ValueError:  # interrupted before the first value had come to the searcher
            return
        gain = self.search.expected_improvement(configs)
        belief = Belief(name, grid, mean, std, gain)
        trials = Scored(
            np.array([r.config[name] for r in seen], dtype=float),
            np.array([r.last(metric) for r in seen]),
            np.array([r.last(f"{metric}_std") for r in seen]),
            [r.status or RUNNING for r in seen],
        )
        figure = draw_posterior(
            belief, trials, metric, 1 if self.study.mode == "min" else -1, self.references()
        )
        temporary = self.recorder.folder / f"tmp_{FIGURE}"
        figure.savefig(temporary, dpi=120)
        temporary.replace(self.recorder.folder / FIGURE)
        curves = {"grid": grid, "mean": mean, "std": std, "expected_improvement": gain}
        table = {"name": name, "metric": metric, **{k: v.tolist() for k, v in curves.items()}}
        (self.recorder.folder / POSTERIOR_FILE).write_text(json.dumps(table))
        for file in (FIGURE, POSTERIOR_FILE):
            self.recorder.ledger.append(FIGURE_EVENT, path=file)
        self.delivery.wake()

    def references(self) -> dict[str, float]:
        """Return what images that no model made score, as far as the study's provenance has it."""
        known = self.study.provenance or {}
        keys = {name: reference_param(key, self.study.metric) for name, key in REFERENCES.items()}
        return {name: float(known[key]) for name, key in keys.items() if key in known}
