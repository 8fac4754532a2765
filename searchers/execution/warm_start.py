"""What an earlier sweep found, as `BayesOptSearch(warm_start=…)` takes it: from its folder, or from MLflow.

Values are comparable only where metric, data and training budget are the same.
"""

import logging
import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from analysis.charts.text import value_of
from latentune import LEDGER
from searchers.bayesopt.space import Choice, Dimension
from searchers.bayesopt.tune_space import read_space
from searchers.execution.overlay import own_setting
from searchers.execution.resume import stored
from searchers.execution.share import OF_THIS_RUN, described, difference
from searchers.record.ledger import Ledger
from searchers.record.recorded_sweep import recorded_sweep
from searchers.record.schema import DIVERGED, FINISHED, STOPPED
from searchers.record.trials import TrialRecord
from searchers.study.config import SweepConfig
from searchers.study.study import Study

# Of a sweep's settings, those that decide what its scores are of. Its trials' own are compared one by one.
OF_IMAGES = ("dataset", "dataset_limit", "crop")  # the hash of what came of them tells more
COMPARED = (*OF_IMAGES, "image_size", "epochs", "evaluation_samples", "features")

logger = logging.getLogger(__name__)

Known = tuple[dict[str, Any], list[float], list[float]] | tuple[dict[str, Any], float]


def earlier_results(study: Study, config: SweepConfig) -> list[Known]:
    """Return each ended trial of the sweep that `config.warm_start` names, as the searcher takes it.

    That is its configuration, its values epoch by epoch, nan where it was not evaluated, and their standard
    deviations; of one that diverged its configuration and nan. They are read from the sweep's folder among
    the results or, where there is none, from MLflow. Trials that this sweep would train with other settings
    are left out. Raises ValueError where there is no such sweep, where no trial reported the metric, or where
    the scores are not those of a sweep with this configuration, of the images that the study's provenance
    tells and, where MLflow's record is read, by its extractor, or of no trial with its settings.
    """
    name, metric, provenance = config.warm_start or "", study.metric, study.provenance or {}
    folder, new = Path(config.results) / name, vars(config)
    ledger = folder / LEDGER
    if ledger.exists():
        settings, trials = _settings(folder), list(Ledger(ledger).trials().values())
        new = {**new, "data_hash": provenance.get("data_hash")}
        features = [
            trial.config["feature_identity"] for trial in trials if "feature_identity" in trial.config
        ]
        if features and "features" in provenance:  # auto, and the name of what it stands for, are one
            settings, new = {**settings, "features": features[0]}, {**new, "features": provenance["features"]}
    else:
        try:
            settings, trials = recorded_sweep(config.tracking_uri, name, metric)
        except ValueError as error:
            raise ValueError(f"{folder} holds no sweep, and {error}") from error
        new = {**new, **provenance}
        dimensions = {dimension.name: dimension for dimension in read_space(study.space).dimensions}
        for trial in trials:
            told = {**settings, **trial.config}
            trial.config = {
                key: text if isinstance(study.settings.get(key), str) else _parse(text, dimensions.get(key))
                for key, text in told.items()
            }
    _check(name, settings, new)
    for own in own_setting(study):  # a version that searched less left the rest at the model's own values
        for trial in trials:
            trial.config = own | trial.config
    if not any(metric in row for trial in trials for row in trial.metrics.values()):
        raise ValueError(f"no trial of {name!r} reported {metric!r}")
    differ = {trial.trial: said for trial in trials if (said := unlike(study, trial.config))}
    if differ:
        said = f"{len(differ)} of {len(trials)} trials of {name!r} were trained otherwise"
        said += f": {next(iter(differ.values()))}"
        if len(differ) == len(trials):
            raise ValueError(f"{said}: no comparable scores")
        logger.warning("%s; they are left out", said)
    like = [trial for trial in trials if trial.trial not in differ]
    return [known for trial in like if (known := _known(trial, metric)) is not None]


def unlike(study: Study, told: Mapping[str, Any]) -> str | None:
    """Say in what a trial differs from this study's with its place in the space; None where in nothing.

    `told`: the settings that it was given. Names that this study does not know are passed over.
    """
    place = {name: told[name] for name in study.space if name in told}
    try:
        ours = described(study, place)
    except ValueError:  # it has no place in the space, and the searcher leaves it out
        return None
    apart = {*OF_THIS_RUN, *COMPARED}
    given = {key: value for key, value in study.settings.items() if key in apart}
    given |= {key: told[key] for key in {"recipe", *ours["settings"]} & told.keys() - apart}
    try:
        return difference(described(replace(study, settings=given), place), ours)
    except ValueError as error:
        return str(error)


def _settings(folder: Path) -> dict[str, Any]:
    """Return the settings that the sweep in this folder ran with. Raises ValueError where they are lost."""
    before = stored(folder)
    if before is None:
        raise ValueError(f"{folder} has no settings beside its ledger")
    return {**before.config, "data_hash": before.data_hash}


def _check(name: str, settings: Mapping[str, Any], new: Mapping[str, Any]) -> None:
    """Raise ValueError where these settings, or their texts, give scores that are not the new sweep's."""
    for key, of in (("model", "another model"), ("kind", "another model"), ("data_hash", "other images")):
        if settings.get(key) and new.get(key) and str(settings[key]) != str(new[key]):
            raise ValueError(f"{name!r} is of {of}: no comparable scores")
    hashed = settings.get("data_hash") and new.get("data_hash")
    compared = [key for key in COMPARED if not (hashed and key in OF_IMAGES)]
    its, ours = ({key: str(found.get(key)) for key in compared} for found in (settings, new))
    if differ := [key for key in compared if its[key] != ours[key]]:
        old, now = (" ".join(f"--{key.replace('_', '-')} {of[key]}" for key in differ) for of in (its, ours))
        raise ValueError(f"{name!r} was scored with {old}, this sweep is with {now}: no comparable scores")


def _known(record: TrialRecord, metric: str) -> Known | None:
    if record.status == DIVERGED:
        return record.config, math.nan
    epochs, names = range(1, record.epoch + 1), (metric, f"{metric}_std")
    values, errors = ([record.metrics.get(k, {}).get(name, math.nan) for k in epochs] for name in names)
    if not values or not math.isfinite(values[-1]) or record.status not in (FINISHED, STOPPED):
        return None
    return record.config, values, errors


def _parse(text: str, dimension: Dimension | None) -> Any:
    """Return the setting that this text was; the text itself, which the space refuses, where it was none."""
    if isinstance(dimension, Choice):
        return {str(choice): choice for choice in dimension.choices}.get(text, text)
    return value_of(text)
