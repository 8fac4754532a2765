"""Which trial is called the best: an observed value, unless the model is sure that it was luck."""

import math

import numpy as np

from searchers.bayesopt.fidelity import CurveModel
from searchers.bayesopt.history import WHOLE
from searchers.bayesopt.surrogate import Model


def recommended(model: Model | CurveModel, sign: float, final: int, trained: bool = False) -> int:
    """Return the index among `model.finals()` of the trial that is to be recommended.

    It is the fully trained trial of best value, unless the model expects so much of another one that the
    difference is `model.sure` times its standard deviation. Without noise the best value is no luck, and a
    model that smooths it away is wrong; with noise the best of many values is mostly luck. `sign`: 1 for a
    metric that is minimized, −1 for one that is maximized; `final`: the epoch of full training. `trained`:
    both are to be of this sweep, and fully trained, where any trial is.
    """
    trials, forecast = model.finals()
    whole = [(t.epoch >= final or t.epoch == WHOLE) and not (trained and t.elsewhere) for t in trials]
    values = np.array([sign * t.last[0] if w else math.inf for t, w in zip(trials, whole, strict=True)])
    seen, mean = int(np.argmin(values)), forecast.mean
    if trained and math.isfinite(values[seen]):
        mean = np.where(np.isfinite(values), mean, math.inf)
    lead = int(np.argmin(mean))
    if math.isinf(values[seen]) or seen == lead:
        return lead
    gap, std = model.difference(seen, lead)
    return lead if gap > model.sure * std else seen
