"""What MLflow is to say of a sweep: of its parent run, of each trial's run, and how its pages open."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from analysis.charts.style import label
from analysis.charts.text import number as shown
from searchers.record import schema

NAME_LENGTH = 120
# MLflow's own tags of an experiment: what kind of pages it has, and a view of its runs that a link opens.
KIND_TAG, KIND = "mlflow.experimentKind", "custom_model_development"
VIEW_TAG = "mlflow.sharedViewState."  # followed by the key that the link names


@dataclass(frozen=True)
class SweepRecord:
    """What the parent run says of the sweep."""

    sweep_id: str
    name: str
    experiment: str
    description: str
    params: dict[str, Any] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    shared: dict[str, Any] = field(default_factory=dict)
    """what all trials have: it stands with the parent, and only there"""
    told: dict[str, Any] = field(default_factory=dict)
    """settings of trials of which the parent says more, such as the weights that a name stands for"""
    taken: Callable[[dict[str, Any]], dict[str, Any]] = lambda config: config
    """what of a trial's configuration its model takes"""
    trial_params: Callable[[dict[str, Any]], dict[str, Any]] = lambda config: {}
    """what a trial's run says beside its configuration: columns that follow from it"""

    @property
    def dimensions(self) -> list[str]:
        """The names of the search space's dimensions."""
        prefix = schema.SPACE_PARAM
        return [key.removeprefix(prefix) for key in self.params if key.startswith(prefix)]

    @property
    def parent_params(self) -> dict[str, Any]:
        """The parameters of the parent run."""
        return self.shared | self.params

    @property
    def parent_tags(self) -> dict[str, str]:
        """The tags of the parent run; SHARED_TAG says which of its parameters are the trials', too."""
        own = {schema.SWEEP_TAG: self.sweep_id, "mlflow.note.content": self.description}
        return own | {schema.SHARED_TAG: json.dumps(sorted(self.shared))} | self.tags

    def params_of(self, config: dict[str, Any]) -> dict[str, Any]:
        """Return the parameters of a trial's run: what varies, and what differs from the parent's."""
        params, parent = {**flat(self.taken(config)), **self.trial_params(config)}, self.parent_params
        said = {key: {str(parent[key]), str(self.told.get(key))} for key in self.shared}
        return {
            key: value
            for key, value in params.items()
            if key in self.dimensions or str(value) not in said.get(key, ())
        }

    def run_name(self, number: int, config: dict[str, Any]) -> str:
        """Return the name of a trial's run: its number, and what varies."""
        values = flat(config)
        place = [f"{label(name)}={shown(values[name])}" for name in self.dimensions if name in values]
        return f"{number:03d} {', '.join(place) or self.name}"[:NAME_LENGTH]

    @property
    def experiment_tags(self) -> dict[str, str]:
        """The experiment's tags: its kind, and the sweep's view of the runs.

        The view's trials are sorted by the objective, with what varies, the score and the state as columns.
        """
        metric = f"metrics.`{self.tags.get(schema.METRIC_TAG, '')}`"
        columns = [f"params.`{name}`" for name in self.dimensions]
        tags = (schema.STATUS_TAG, schema.WHY_TAG, schema.FLAGS_TAG)
        columns += [metric, *(f"tags.`{tag}`" for tag in tags)]
        view = {
            "searchFilter": f"tags.`{schema.SWEEP_TAG}` = '{self.sweep_id}'",
            "orderByKey": metric,
            "orderByAsc": self.tags.get(schema.MODE_TAG, "min") == "min",
            "selectedColumns": columns,
        }
        return {KIND_TAG: KIND, f"{VIEW_TAG}{self.sweep_id}": json.dumps(view)}


def flat(config: dict[str, Any], above: str = "") -> dict[str, Any]:
    """Return a nested configuration with one key a value, joined by "/"."""
    values: dict[str, Any] = {}
    for key, value in config.items():
        nested = isinstance(value, dict) and value
        values |= flat(value, f"{above}{key}/") if nested else {f"{above}{key}": value}
    return values
