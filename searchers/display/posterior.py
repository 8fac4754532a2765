"""The seed's Figure 5, live: what the searcher believes over a one-dimensional search space.

The Gaussian process's mean ± 2σ with the trials on it, and below it the expected improvement that proposes
the next one. Spaces of more dimensions have no such figure.
"""

import json
import math
import time
from pathlib import Path

import numpy as np
from ray import tune

from searchers.bayesopt.searcher import BayesOptSearch
from searchers.record.ledger_callback import LedgerCallback
from searchers.record.mlflow_exporter import MlflowExporter
from searchers.record.trials import TrialRecord
from searchers.study.study import Study

FIGURE, TABLE = "posterior.png", "posterior.json"
SYMBOLS = {"beta": "β"}
MARKERS = (  # Okabe and Ito's colours: told apart by colour-blind readers
    ("finished", "o", "#009E73"),
    ("stopped", "v", "#F0E442"),
    ("running", "o", "white"),
)


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
        seen = [r for r in self.recorder.records.values() if math.isfinite(r.last(self.study.metric))]
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
        improvement = self.search.expected_improvement(configs)
        path = self.recorder.folder / FIGURE
        direction = "lower" if self.study.mode == "min" else "higher"
        draw_posterior(path, name, self.study.metric, grid, mean, std, improvement, seen, direction)
        curves = {"grid": grid, "mean": mean, "std": std, "expected_improvement": improvement}
        table = {"name": name, "metric": self.study.metric, **{k: v.tolist() for k, v in curves.items()}}
        (self.recorder.folder / TABLE).write_text(json.dumps(table))
        for file in (FIGURE, TABLE):
            self.recorder.ledger.append("figure", path=file)
        self.delivery.wake()


def draw_posterior(
    path: Path,
    name: str,
    metric: str,
    grid: np.ndarray,
    mean: np.ndarray,
    std: np.ndarray,
    improvement: np.ndarray,
    records: list[TrialRecord],
    better: str = "lower",
) -> None:
    """Draw mean ± 2σ (metric's units) and the acquisition over `grid`, all of shape (GRID,), into a PNG."""
    from matplotlib.figure import Figure  # no pyplot: no global state, no display

    figure = Figure(figsize=(7.5, 5.5), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    above.fill_between(grid, mean - 2 * std, mean + 2 * std, color="#0072B2", alpha=0.2, linewidth=0)
    above.plot(grid, mean, color="black", label="GP mean ± 2σ")
    for status, marker, colour in MARKERS:
        chosen = [r for r in records if (r.status or "running") == status]
        x, y = [r.config[name] for r in chosen], [r.last(metric) for r in chosen]
        if chosen:
            above.plot(x, y, marker, color=colour, markersize=7, markeredgecolor="black", label=status)
    above.set_ylabel(f"{metric} ({better} is better)")
    above.legend(frameon=False, ncols=5, loc="upper center", bbox_to_anchor=(0.5, 1.12))
    below.fill_between(grid, 0, improvement, color="#D55E00", alpha=0.4, linewidth=0)
    if np.max(improvement) > 0:
        best = grid[int(np.argmax(improvement))]
        below.axvline(best, color="#D55E00", linestyle="--")
        below.annotate(f" next: {best:.1f}", (best, 0.8 * np.max(improvement)), color="#A04000")
    below.set_ylabel("expected\nimprovement")
    below.set_xlabel(SYMBOLS.get(name, name))
    below.set_ylim(bottom=0)
    for axes in (above, below):
        axes.spines[["top", "right"]].set_visible(False)
    temporary = path.with_name("posterior.tmp.png")
    figure.savefig(temporary, dpi=120)
    temporary.replace(path)
