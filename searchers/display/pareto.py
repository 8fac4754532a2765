"""What a sweep with several objectives ends with: the trials that no other one beats in all of them."""

import math

from ray import tune

from searchers.bayesopt.searcher import BayesOptSearch
from searchers.display.live_table import number
from searchers.display.posterior import SYMBOLS
from searchers.record.ledger_callback import LedgerCallback
from searchers.record.mlflow_exporter import MlflowExporter
from searchers.record.schema import FRONT_TAG
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
        draw_front(self.recorder.folder / FIGURE, self.study, records, on_front)
        self.recorder.ledger.append("figure", path=FIGURE)
        tags = {FRONT_TAG: ", ".join(str(record.number) for record in on_front)}
        self.recorder.ledger.append("note", tags=tags)
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


def draw_front(path, study: Study, records: list[TrialRecord], on_front: list[TrialRecord]) -> None:
    """Draw trials by the metric and the first further objective, the front joined and labelled, into a PNG.

    Colour is the first dimension of the search space.
    """
    from matplotlib.figure import Figure  # no pyplot: no global state, no display

    figure = Figure(figsize=(6.5, 4.5), layout="constrained")
    axes = figure.subplots()
    (second, second_mode), name = next(iter(study.objectives.items())), next(iter(study.space))
    x, y = ([record.last(key) for record in records] for key in (study.metric, second))
    dots = axes.scatter(
        x, y, c=[r.config[name] for r in records], cmap="viridis", edgecolors="black", zorder=2
    )
    figure.colorbar(dots, label=SYMBOLS.get(name, name))
    joined = [[record.last(key) for record in on_front] for key in (study.metric, second)]
    # Steps: whoever asks for a certain metric gets the other score of the next better trial.
    axes.step(*joined, where="post" if study.mode == "min" else "pre", color="black", linewidth=1, zorder=1)
    for record in on_front:
        label = f"{SYMBOLS.get(name, name)} = {number(record.config[name])}"
        place = (record.last(study.metric), record.last(second))
        axes.annotate(label, place, xytext=(6, 5), textcoords="offset points", fontsize=8)
    direction = {"min": "lower is better", "max": "higher is better"}
    axes.set_xlabel(f"{study.metric} ({direction[study.mode]})")
    axes.set_ylabel(f"{second} ({direction[second_mode]})")
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=120)
