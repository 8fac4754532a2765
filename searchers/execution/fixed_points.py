"""A searcher that runs a fixed list of configurations, one trial each."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ray.tune.search import Searcher

from searchers.bayesopt.history import not_begun
from searchers.bayesopt.space import Space
from searchers.execution.overlay import NOT_SEARCHED
from searchers.record.trials import TrialRecord
from trainables.models.settings import nearest, some_of


class FixedPoints(Searcher):
    """Suggests given settings in their order."""

    def __init__(self, points: list[dict[str, Any]], metric: str, mode: str):
        super().__init__(metric=metric, mode=mode)
        self.points = list(points)  # those to come

    def set_search_properties(self, metric: str | None, mode: str | None, config: dict, **spec) -> bool:
        """Accept any space: each of its dimensions is given."""
        return True

    def suggest(self, trial_id: str) -> dict[str, Any] | str:  # type: ignore[override]  # FINISHED is a str
        """Return the next setting, or that there is none."""
        return dict(self.points.pop(0)) if self.points else Searcher.FINISHED

    def replay(self, records: Sequence[TrialRecord]) -> None:
        """Go on with the settings that have not been begun: workers begin them in any order."""
        self.points = not_begun(self.points, (record.config for record in records))

    def on_trial_complete(self, trial_id: str, result: dict | None = None, error: bool = False) -> None:
        """Nothing is learned."""

    def save(self, checkpoint_path: str) -> None:
        """Write what is to come."""
        Path(checkpoint_path).write_text(json.dumps(self.points))

    def restore(self, checkpoint_path: str) -> None:
        """Read what `save` wrote."""
        self.points = json.loads(Path(checkpoint_path).read_text())


def check_points(
    points: Sequence[Mapping[str, Any]], place: str, space: Space, settings: Mapping[str, Any]
) -> None:
    """Raise ValueError, in a sentence that names the entry of `place`, where an entry is no trial's settings.

    An entry has each dimension of `space`, inside its bounds, and any of the sweep's `settings`, but for
    those that all trials share. `check_settings`, which builds each entry, knows their types.
    """
    dimensions = {dimension.name: dimension for dimension in space.dimensions}
    known = sorted({*dimensions, *(settings.keys() - NOT_SEARCHED | {"seed"})})
    for number, point in enumerate(points, 1):
        for name, value in point.items():
            if name not in known:
                meant = nearest(name, known)
                raise ValueError(f"{place} sets {name!r}{meant}; it can set {some_of(name, known)}")
            try:
                if name in dimensions:
                    dimensions[name].encode(value)
            except ValueError as error:
                raise ValueError(f"entry {number} of {place}: {error}") from error
        if missing := dimensions.keys() - point.keys():
            name = min(missing)
            given = any(name in other for other in points)
            why = "other entries give: all do or none" if given else "this sweep searches"
            raise ValueError(f"entry {number} of {place} has no {name}, which {why}")
