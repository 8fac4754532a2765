"""What trained models score when they are evaluated again with other noise."""

from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import torch

from analysis.judgement import comparable
from analysis.record.store import AnalysisError
from analysis.record.tables import Tables
from analysis.record.trained_model import TrainedModel
from trainables.data.store import ImageStore
from trainables.evaluation.generation import generate
from trainables.evaluation.inputs import TrainingConfig, load_reference, load_store
from trainables.metrics.extractors.extractor import Extractor
from trainables.metrics.reference import ReferenceStatistics
from trainables.metrics.scores import score
from trainables.models.storage import trusted

FIRST_SEED = 30_000  # of the noise; the trials' own evaluations take another one


@dataclass(frozen=True)
class Evaluation:
    """What turns a model into scores: the images, the features, the reference's side, how many to draw."""

    store: ImageStore
    extractor: Extractor
    reference: ReferenceStatistics
    samples: int

    @classmethod
    def of_trial(cls, tables: Tables, number: int) -> "Evaluation":
        """Load what a trial of a sweep was evaluated with. Raises as `of`."""
        asked = str((tables.sweep.arguments or {}).get("features", ""))
        return cls.of(tables.trials.set_index("number").loc[number], asked)

    @classmethod
    def of(cls, trial: pd.Series, asked: str = "") -> "Evaluation":
        """Load what a trial was evaluated with; `asked`: the extractor's name as the sweep was given it.

        Raises AnalysisError where an own extractor's module is not trusted, and where features here are not
        those of the record; DataError and MetricError where data or features can't be loaded, or data differ.
        """
        import trainables.torchvision_shim  # noqa: F401  before torchvision
        from trainables.metrics.extractors.features import load_extractor

        store = load_images(trial)
        weights = _given(trial, "feature_weights")
        own = asked.partition(":")[0] if ":" in asked else ""
        if own and own != "classifier" and own.partition(".")[0] not in trusted():
            raise AnalysisError(f"The extractor is {asked}: if you know that code, --trust {own} allows it.")
        name = asked if own else comparable.extractor_name(trial["params.features"])
        extractor = load_extractor(name, weights=Path(weights) if weights else None)
        if str(extractor.identity) != trial["params.features"]:
            raise AnalysisError(
                f"The extractor here is {extractor.identity}, the record's {trial['params.features']}: "
                "their scores cannot be compared."
            )
        reference = load_reference(store, extractor)
        return cls(store, extractor, reference, int(trial["metrics.evaluated_images"]))

    def scores(self, model: TrainedModel, seed: int) -> dict[str, float]:
        """Score `samples` images generated with this seed, by the keys that trials report."""
        held_out = self.store.images[self.store.some("validation", self.samples)]
        images = generate(model.network, self.samples, model.generator(seed), torch.from_numpy(held_out))
        return score(images, self.extractor, self.reference)


def load_images(trial: pd.Series) -> ImageStore:
    """Open the images that a trial learnt from; raises DataError where those here are others."""
    limit = _given(trial, "dataset_limit")
    training = TrainingConfig(
        dataset=trial["params.dataset"],
        dataset_limit=int(float(limit)) if limit else None,
        crop=_given(trial, "crop"),
        data_root=_given(trial, "data_root"),
        cache_dir=_given(trial, "cache_dir"),
        data_hash=_given(trial, "data_hash"),
    )
    return load_store(training, int(trial["params.image_size"]), int(_given(trial, "channels") or 3))


def _given(trial: pd.Series, name: str) -> str | None:
    """Return a parameter; None where it was not recorded or is Python's None."""
    value = trial.get(f"params.{name}")
    return None if value is None or pd.isna(value) or value == "None" else value
