"""Whether trials can be built: asked of the space's ends before the first of them begins."""

from collections.abc import Iterator, Sequence
from typing import Any

from analysis.charts.text import number
from searchers.bayesopt.space import Choice
from searchers.bayesopt.tune_space import read_space
from searchers.study.config import UsageError
from searchers.study.study import Study
from trainables.data.batches import Batches, to_uint8
from trainables.evaluation.inputs import load_store, split_config
from trainables.own import OwnCodeError, imported, numbers_of

MOST_BUILT = 32  # choices of a dimension, before the first trial


def check_settings(study: Study, points: list[dict[str, Any]] | None) -> None:
    """Build the networks of the first trial, of each given one and of each end of the space once.

    Raises UsageError where a trial would refuse its settings.
    """
    first = first_point(study, points)
    ends = [{**first, **other} for other in (points[1:] if points else ends_of(study))]
    for point in [first, *ends]:
        try:
            model_class, settings = study.trainable.model_of({**study.settings, **point})
            training, hyperparameters = split_config(model_class, settings)
            model = model_class(hyperparameters)
            if training.scores and point is first:
                try_scores(training.scores, model)
            if "batch_size" in point:
                store = load_store(training, training.image_size, training.channels)
                Batches(store, "train", training.batch_size)
        except (ValueError, TypeError, RuntimeError, LookupError, ArithmeticError, AssertionError) as error:
            shown = point if points else study.space
            where = ", ".join(f"{name} = {number(point[name])}" for name in shown)
            said = str(error).partition("\n")[0]
            if point is not first or not isinstance(error, ValueError):
                said = f"A trial of {where} can't be built: {said}"
            raise UsageError(said) from error


def try_scores(path: str, model: Any) -> None:
    """Ask a person's own function for the scores of two samples. Raises OwnCodeError where it has none."""
    function, samples = imported(path), to_uint8(model.sample(2))
    try:
        found = function(model, samples)
    except Exception as error:  # whatever a stranger's code raises
        raise OwnCodeError(f"{path} raised {type(error).__name__} on two samples: {error}") from error
    numbers_of(path, found)


def ends_of(study: Study) -> Iterator[dict[str, Any]]:
    """Yield each dimension's least and greatest value, or those that it is a choice of, one at a time.

    Of many choices only some are yielded: building their networks would take minutes.
    """
    for dimension in read_space(study.space).dimensions:
        values: Sequence[Any]
        if isinstance(dimension, Choice):
            values = dimension.choices[:: -(-len(dimension.choices) // MOST_BUILT)]
        else:
            values = (dimension.low, dimension.high)
        yield from ({dimension.name: value} for value in values)


def first_point(study: Study, points: list[dict[str, Any]] | None) -> dict[str, Any]:
    """Return the first trial's place in the space; what it leaves open is drawn."""
    first = {name: domain.sample() for name, domain in study.space.items()}
    return first | (points or study.points_to_evaluate or [{}])[0]
