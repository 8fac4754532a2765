"""What a sweep with several objectives ends with: the trials that no other one beats in all of them."""

import math

import numpy as np
from matplotlib.figure import Figure
from ray import tune

from analysis.charts.pareto import Objective, draw_front
from analysis.charts.text import number
from searchers.bayesopt.searcher import BayesOptSearch
from searchers.record.ledger_callback import LedgerCallback
from searchers.record.mlflow_exporter import MlflowExporter
from searchers.record.schema import FIGURE as FIGURE_EVENT
from searchers.record.schema import FRONT_TAG, NOTE, RUNNING
from searchers.record.trials import TrialRecord
from searchers.study.study import Study

FIGURE = "pareto.png"


class ParetoFigure(tune.Callback):
    """Redraws the front as trials end, and hands it and the numbers of its trials to the record."""

    def __init__(
        self, study: Study, search: BayesOptSearch, recorder: LedgerCallback, delivery: MlflowExporter
    ):
        self.study, self.search, self.recorder, self.delivery = study, search, recorder, delivery

    def on_trial_complete(self, iteration, trials, trial, **info) -> None:
        """Redraw."""
        self.draw()

    def draw(self) -> None:
        """Draw what is known now, where two trials at least have ended."""
        records = [
            r for r in self.recorder.records.values() if all(map(math.isfinite, scores(self.study, r)))
        ]
        on_front = front(self.study, self.search, records)
        if len(records) < 2 or not on_front:
            return
        if len(on_front) > 1:
            draw(self.study, records, on_front).savefig(self.recorder.folder / FIGURE, dpi=120)
            self.recorder.ledger.append(FIGURE_EVENT, path=FIGURE)
        tags = {FRONT_TAG: ", ".join(str(record.number) for record in on_front)}
        self.recorder.ledger.append(NOTE, tags=tags)
        self.delivery.wake()


def scores(study: Study, record: TrialRecord) -> list[float]:
    """Return a trial's last values of the metric and of the further objectives."""
    return [record.last(name) for name in (study.metric, *study.objectives)]


def front(study: Study, search: BayesOptSearch, records: list[TrialRecord]) -> list[TrialRecord]:
    """Return the trials on the searcher's Pareto front, by their value of the metric."""
    known = {observation.trial_id for observation in search.pareto_front()}
    chosen = [record for record in records if record.trial in known]
    return sorted(chosen, key=lambda record: record.last(study.metric))


def describe(study: Study, on_front: list[TrialRecord]) -> str:
    """Return a line for each trial on the front: its setting, and what it reached."""
    lines = [f"Pareto front of {' and '.join((study.metric, *study.objectives))}:"]
    for record in on_front:
        setting = ", ".join(f"{name} = {number(record.config[name])}" for name in study.space)
        reached = ", ".join(number(value) for value in scores(study, record))
        lines.append(f"  trial {record.number}, {setting}: {reached}")
    return "\n".join(lines)


def draw(study: Study, records: list[TrialRecord], on_front: list[TrialRecord]) -> Figure:
    """Draw trials by two scores, the front's named by their setting, or by number where that has parts."""
    second, second_mode = next(iter(study.objectives.items()))
    signs, (name, *others) = {"min": 1, "max": -1}, study.space
    return draw_front(
        Objective(study.metric, np.array([r.last(study.metric) for r in records]), signs[study.mode]),
        Objective(second, np.array([r.last(second) for r in records]), signs[second_mode]),
        [record.status or RUNNING for record in records],
        (name, [record.config[name] for record in records]),
        [records.index(record) for record in on_front],
        [record.number for record in records] if others else None,
    )
