"""[BVG]'s Figure 5, live: what the searcher believes of the score after full training.

Over each numeric dimension, the others as in the best trial: the model's mean with its bands and the trials
on it, and below it the expected improvement that proposes the next one. In any space: the final score that is
expected of each trial.
"""

import json
import math
import time
from collections.abc import Mapping
from typing import Any

import numpy as np
from ray import tune

from analysis.charts.posterior import Belief, Scored, draw_posterior
from searchers.bayesopt.fidelity import CurveModel
from searchers.bayesopt.searcher import BayesOptSearch
from searchers.bayesopt.space import Real
from searchers.bayesopt.surrogate import Model
from searchers.bayesopt.tune_space import read_space
from searchers.record.ledger_callback import LedgerCallback
from searchers.record.mlflow_exporter import MlflowExporter
from searchers.record.provenance import references_of
from searchers.record.schema import FIGURE as FIGURE_EVENT
from searchers.record.schema import POSTERIOR_FILE, RUNNING
from searchers.record.sweep_record import flat
from searchers.record.trials import TrialRecord
from searchers.study.study import Study

FIGURE = "posterior.png"
SECONDS_BETWEEN = 10.0
RESTS = 20  # times as long as the last model and drawing took, in which Tune waits
GRID = 400


class PosteriorFigure(tune.Callback):
    """Redraws the figure as trials end and hands it to the record."""

    def __init__(
        self, study: Study, search: BayesOptSearch, recorder: LedgerCallback, delivery: MlflowExporter
    ):
        self.study, self.search, self.recorder, self.delivery = study, search, recorder, delivery
        self.rests_until = -math.inf

    def on_trial_complete(self, iteration, trials, trial, **info) -> None:
        """Redraw, at most every ten seconds, and in a twentieth of the time."""
        begin = time.monotonic()
        if begin > self.rests_until:
            self.draw()
            took = time.monotonic() - begin
            self.rests_until = begin + took + max(SECONDS_BETWEEN, RESTS * took)

    def draw(self) -> None:
        """Draw and record what is known now, where there are a model and two values at least."""
        metric = self.study.metric
        seen = [r for r in self.recorder.records.values() if math.isfinite(r.last(metric))]
        if len(seen) < 2:
            return
        try:
            model = self.search.model()
        except ValueError:  # interrupted before the first value had come to the searcher
            return
        foretold = self.search.foretells(model)
        finals = self.search.predicted_finals(model) if foretold else {}
        table: dict[str, Any] = {"metric": metric}
        table["finals"] = {r.number: finals[r.trial] for r in seen if r.trial in finals}
        files = [POSTERIOR_FILE]
        if beliefs := self._beliefs(model, foretold):
            files.append(FIGURE)
            self._draw(beliefs, seen, finals)
            table["beliefs"] = [
                {k: v.tolist() if isinstance(v, np.ndarray) else v for k, v in vars(belief).items()}
                for belief in beliefs
            ]
        (self.recorder.folder / POSTERIOR_FILE).write_text(json.dumps(table))
        for file in files:
            self.recorder.ledger.append(FIGURE_EVENT, path=file)
        self.delivery.wake()

    def _beliefs(self, model: Model | CurveModel, foretold: bool) -> list[Belief]:
        """Return the model's curves over each numeric dimension, through the place of the best trial."""
        space = read_space(self.study.space)
        codes = self.search.history.trials[self.search.best_trial(model)].codes
        best = {d.name: d.decode(codes[d.name]) for d in space.dimensions}
        beliefs = []
        for dimension in space.dimensions:
            if not isinstance(dimension, Real):
                continue
            others = {name: value for name, value in best.items() if name != dimension.name}
            values = list(dict.fromkeys(dimension.value(u) for u in np.linspace(0, 1, GRID)))
            configs = [others | {dimension.name: value} for value in values]
            said = self.search.forecast(configs, model)
            gain = None if self.study.objectives else self.search.expected_improvement(configs, model)
            curves = np.array(values, dtype=float), said.mean, said.band, said.band_of_run, gain
            beliefs.append(Belief(dimension.name, *curves, dimension.log, foretold, others))
        return beliefs

    def _draw(
        self, beliefs: list[Belief], seen: list[TrialRecord], finals: Mapping[str, tuple[float, ...]]
    ) -> None:
        metric = self.study.metric
        unknown = (math.nan, math.nan, math.nan)
        configs = [flat(r.config) for r in seen]
        trials = Scored(
            {b.name: np.array([config[b.name] for config in configs], dtype=float) for b in beliefs},
            np.array([r.last(metric) for r in seen]),
            np.array([r.last(f"{metric}_std") for r in seen]),
            [r.status or RUNNING for r in seen],
            *np.array([finals.get(r.trial, unknown) for r in seen]).T,
        )
        sign = 1 if self.study.mode == "min" else -1
        figure = draw_posterior(beliefs, trials, metric, sign, references_of(self.study))
        temporary = self.recorder.folder / f"tmp_{FIGURE}"
        figure.savefig(temporary, dpi=120)
        temporary.replace(self.recorder.folder / FIGURE)
