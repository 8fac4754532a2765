"""[BVG]'s Figure 5, live: what the searcher believes of the score after full training, over one dimension.

The model's mean with its bands and the trials on it, and below it the expected improvement that proposes the
next one. Spaces of more dimensions have no such figure.
"""

import json
import math
import time

import numpy as np
from ray import tune

from analysis.charts.posterior import Belief, Scored, draw_posterior
from searchers.bayesopt.searcher import BayesOptSearch
from searchers.bayesopt.space import Real
from searchers.bayesopt.tune_space import read_space
from searchers.record.ledger_callback import LedgerCallback
from searchers.record.mlflow_exporter import MlflowExporter
from searchers.record.provenance import references_of
from searchers.record.schema import FIGURE as FIGURE_EVENT
from searchers.record.schema import POSTERIOR_FILE, RUNNING
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
        (dimension,) = read_space(self.study.space).dimensions
        if not isinstance(dimension, Real):
            return
        self.drawn, name = time.monotonic(), dimension.name
        values = list(dict.fromkeys(dimension.value(u) for u in np.linspace(0, 1, GRID)))
        grid, configs = np.array(values, dtype=float), [{name: value} for value in values]
        try:
            model = self.search.model()
        except ValueError:  # interrupted before the first value had come to the searcher
            return
        said = self.search.forecast(configs, model)
        finals = self.search.predicted_finals(model)
        gain = self.search.expected_improvement(configs, model)
        belief = Belief(name, grid, said.mean, said.band, said.band_of_run, gain, log=dimension.log)
        unknown = (math.nan, math.nan, math.nan)
        trials = Scored(
            np.array([r.config[name] for r in seen], dtype=float),
            np.array([r.last(metric) for r in seen]),
            np.array([r.last(f"{metric}_std") for r in seen]),
            [r.status or RUNNING for r in seen],
            *np.array([finals.get(r.trial, unknown) for r in seen]).T,
        )
        figure = draw_posterior(
            belief, trials, metric, 1 if self.study.mode == "min" else -1, references_of(self.study)
        )
        temporary = self.recorder.folder / f"tmp_{FIGURE}"
        figure.savefig(temporary, dpi=120)
        temporary.replace(self.recorder.folder / FIGURE)
        curves = {"grid": grid, "mean": said.mean, "band": said.band, "band_of_run": said.band_of_run}
        curves["expected_improvement"] = gain
        table = {"name": name, "metric": metric, **{k: v.tolist() for k, v in curves.items()}}
        table["finals"] = {r.number: finals[r.trial] for r in seen if r.trial in finals}
        (self.recorder.folder / POSTERIOR_FILE).write_text(json.dumps(table))
        for file in (FIGURE, POSTERIOR_FILE):
            self.recorder.ledger.append(FIGURE_EVENT, path=file)
        self.delivery.wake()
