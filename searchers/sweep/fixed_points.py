"""A searcher that searches nothing: it trains the settings of a file, one trial each."""

import json
from pathlib import Path
from typing import Any

from ray.tune.search import Searcher


class FixedPoints(Searcher):
    """Suggests given settings in their order. What a setting leaves out stays as the sweep has it."""

    def __init__(self, points: list[dict[str, Any]], metric: str, mode: str):
        super().__init__(metric=metric, mode=mode)
        self.points, self.suggested = points, 0

    def set_search_properties(self, metric: str | None, mode: str | None, config: dict, **spec) -> bool:
        """Accept any space: each of its dimensions is given, or stays as the sweep has it."""
        return True

    def suggest(self, trial_id: str) -> dict[str, Any] | str:
        """Return the next setting, or that there is none."""
        if self.suggested == len(self.points):
            return Searcher.FINISHED
        self.suggested += 1
        return dict(self.points[self.suggested - 1])

    def on_trial_complete(self, trial_id: str, result: dict | None = None, error: bool = False) -> None:
        """Nothing is learned."""

    def save(self, checkpoint_path: str) -> None:
        """Write how far it came."""
        Path(checkpoint_path).write_text(json.dumps(self.suggested))

    def restore(self, checkpoint_path: str) -> None:
        """Read what `save` wrote."""
        self.suggested = json.loads(Path(checkpoint_path).read_text())


def read_points(path: Path, known: set[str]) -> list[dict[str, Any]]:
    """Return a file's list of settings: `[{"beta": 76.3, "seed": 1}, …]`, or the same under "points".

    Raises ValueError, in one sentence, where there is no such list or where a setting is not in `known`.
    """
    try:
        content = json.loads(path.read_text())
    except OSError as error:
        raise ValueError(f"{path} can't be read: {error.strerror}") from error
    except ValueError as error:
        raise ValueError(f"{path} is no JSON: {error}") from error
    points = content.get("points") if isinstance(content, dict) else content
    if not (isinstance(points, list) and points and all(isinstance(p, dict) and p for p in points)):
        raise ValueError(f'{path} holds no list of settings such as [{{"beta": 76.3, "seed": 1}}]')
    for point in points:
        if unknown := set(point) - known:
            raise ValueError(f"{path} sets {min(unknown)!r}; it can set {', '.join(sorted(known))}")
    return points
