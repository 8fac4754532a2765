"""A sweep's trials as the page of `analysis.report` knows them: a row each, as JSON has it."""

import math
from collections.abc import Mapping
from typing import Any

import pandas as pd

from analysis.record.tables import Tables
from searchers.record.schema import FINISHED


def rows_of(
    tables: Tables,
    ranked: pd.DataFrame,
    images: dict[int, dict[str, dict[int, str]]],
    finals: Mapping[str, list[float]],
) -> list[dict[str, Any]]:
    """Return what the page knows of each trial.

    images: by trial, key and epoch. finals: by a trial's number, the metric that is expected of it after full
    training, and the values two standard deviations below and above.
    """
    metric = tables.sweep.metric
    curves = tables.curves(metric)
    order = [int(n) for n in ranked["number"]]
    places = {int(n): k + 1 for k, n in enumerate(ranked["number"][ranked["ranked"]])}
    by_number = ranked.set_index("number")
    rows = []
    for row in tables.trials.to_dict("records"):
        n = int(row["number"])
        standing: Mapping[str, Any] = by_number.loc[n].to_dict() if n in order else {}
        curve = curves[n].dropna() if n in curves else pd.Series(dtype=float)
        rows.append(
            {
                "number": n,
                "rank": places.get(n),
                "status": row["status"],
                "epoch": int(row["epoch"]),
                "value": plain(row.get(f"metrics.{metric}")),
                "std": plain(row.get(f"metrics.{metric}_std")),
                "p_best": plain(standing.get("p_best")),
                "tied": bool(standing.get("tied")),
                "standing": row["why"] or row["error"] or standing_of(standing),
                "expected": None if row["status"] == FINISHED else finals.get(str(n)),
                "flags": row["flags"],
                "curve": [[int(e), v] for e, value in curve.items() if (v := plain(value)) is not None],
                "params": {k[7:]: plain(v) for k, v in row.items() if k.startswith("params.")},
                "metrics": {k[8:]: plain(v) for k, v in row.items() if k.startswith("metrics.")},
                "images": dict(sorted(images.get(n, {}).items(), key=lambda kept: kept[0] != "samples")),
            }
        )
    return rows


def standing_of(row: Mapping[str, Any]) -> str:
    """Say where a trial that cannot be ranked stood at its own last epoch; "" for one that can."""
    if not row or row["ranked"]:
        return ""
    return f"number {int(row['place'])} of {int(row['peers'])} at epoch {int(row['epoch'])}"


def plain(value: Any) -> Any:
    """Return a value as JSON has it; what is not finite as null."""
    if value is None or isinstance(value, str | bool):
        return value
    if hasattr(value, "item"):
        value = value.item()
    return value if not isinstance(value, float) or math.isfinite(value) else None
