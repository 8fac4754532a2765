"""The objective over epochs: of each trial, and of settings that were trained on several seeds.

Each function draws one figure of a sweep's tables, or raises AnalysisError with the reason why it can't.
"""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from analysis.charts.bands import Band, draw_bands
from analysis.charts.style import GREY, STATUS, axis_label, canvas, draw_references, label, legend_above
from analysis.charts.text import number
from analysis.record.store import AnalysisError
from analysis.record.tables import Tables


def learning_curves(tables: Tables) -> Figure:
    """The objective over epochs, a line a trial, colored by what became of it; ASHA's rungs as verticals."""
    sweep, best = tables.sweep, tables.best_first()["number"].iloc[0]
    curves = tables.curves(sweep.metric).replace([np.inf, -np.inf], np.nan).dropna(axis=1, how="all")
    figure, axes = canvas(7.5, 4.5)
    for row in tables.trials[tables.trials["number"].isin(curves.columns)].itertuples():
        color, marker, line = STATUS[row.status]
        curve = curves[row.number].dropna()
        width, alpha = (2.5, 1.0) if row.number == best else (1.0, 0.6)
        axes.plot(curve.index, curve, line, color=color, linewidth=width, alpha=alpha, label=row.status)
        axes.plot(curve.index[-1], curve.iloc[-1], marker, color=color, markersize=5)
    last = curves[best].dropna()
    end = (last.index[-1], last.iloc[-1])
    axes.annotate(f"trial {best}", end, xytext=(6, 0), textcoords="offset points", fontsize=8, va="center")
    for rung in rungs(tables):
        axes.axvline(rung, color=GREY, linewidth=0.8, linestyle=":", label="rung")
    draw_references(axes, sweep.references())
    axes.set(xlabel="epoch", ylabel=axis_label(sweep.metric, sweep.sign))
    axes.xaxis.get_major_locator().set_params(integer=True)
    legend_above(axes)
    return figure


def rungs(tables: Tables) -> list[int]:
    """Return the epochs at which ASHA decides; none without early stopping, as with several objectives."""
    params = tables.sweep.params
    if len(tables.sweep.signs) > 1 or params.get("early_stopping") != "True":
        return []
    if params.get("grace_epochs", "None") == "None":
        return []
    epochs, every = tables.sweep.epochs or 0, int(params.get("evaluate_every", 1))
    rung = -(-int(params["grace_epochs"]) // every) * every  # trials are halted where they are evaluated
    factor, found = int(params.get("reduction_factor", 3)), []
    while rung < epochs:
        found.append(rung)
        rung *= factor
    return found


def seed_bands(sets: list[tuple[str, Tables]]) -> Figure:
    """The objective over epochs, mean ± one standard deviation over the trials that share a setting.

    sets: tables with the name of each, whose scores are comparable; a setting is named by the set and by its
    place in the space.
    """
    first = sets[0][1].sweep
    bands = []
    for name, tables in sets:
        curves = tables.curves(first.metric)
        scored = tables.scored()
        settings = tables.settings
        keys = pd.Series([tables.key_of(row) for _, row in scored.iterrows()], scored.index)
        for _, same in scored.groupby(keys, sort=False):
            if len(same) < 2:
                continue
            chosen = curves[same["number"]].dropna(how="all")
            place = [f"{label(s)} = {number(same.iloc[0][f'params.{s}'])}" for s in settings]
            bands.append(Band(", ".join([name, *place]), list(chosen.index), chosen.to_numpy().T))
    if not bands:
        raise AnalysisError(
            "No setting was trained with several seeds; latentune winners --retrain-seeds does so."
        )
    return draw_bands(bands, first.metric, first.sign, first.references())
