"""Whether trials can be built: asked of the space's ends before the first of them begins."""

import io
import json
import math
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import fields
from itertools import combinations, product
from traceback import walk_tb
from typing import Any

import torch

from analysis.charts.text import number
from searchers.bayesopt.space import Choice, Dimension
from searchers.bayesopt.tune_space import read_space
from searchers.execution.overlay import first_point
from searchers.record.schema import REFERENCE_PARAM
from searchers.study.config import UsageError
from searchers.study.study import Study
from trainables.data.batches import Batches, to_uint8
from trainables.data.store import ImageStore
from trainables.evaluation.classes import with_classes
from trainables.evaluation.generation import require_images
from trainables.evaluation.held_out import held_out_scores
from trainables.evaluation.inputs import load_store, require_fit, split_config
from trainables.metrics.scores import better, keys_of
from trainables.models.base import GenerativeModel
from trainables.models.conditional import ConditionalModel
from trainables.models.settings import nearest, some_of
from trainables.own import (
    RAISED,
    OwnCodeError,
    imported,
    module_of,
    numbers_of,
    require_names,
    source_hash,
)
from trainables.tune.evaluated import GRID_IMAGES
from trainables.tune.parallel import random_state, restore_random_state
from trainables.tune.trainable import GenerativeTrainable

OF_ENCODER = {"elbo", "kl", "reconstruction_mse", "active_units"}
MOST_BUILT = 32  # choices of a dimension, before the first trial
KEPT = "its fields must be numbers, words, True, False or None, or tuples of these"


def check_settings(study: Study, points: list[dict[str, Any]] | None) -> None:
    """Build the networks of the first trial, of each given one and of each end of the space once.

    Where two dimensions are at an end, only the settings are looked at.

    Raises UsageError where a trial would refuse its settings.
    """
    first = first_point(study, points)
    ends = [{**first, **other} for other in (points[1:] if points else ends_of(study))]
    corners = [] if points else [{**first, **other} for other in corners_of(study)]
    store: ImageStore | None = None  # opened once: of a folder, each time looks at all of its files
    for n, point in enumerate([first, *ends, *corners]):
        try:
            model_class, settings = study.trainable.model_of({**study.settings, **point})
            training, hyperparameters = split_config(model_class, settings)
            if store is None and ("batch_size" in point or hasattr(hyperparameters, "classes")):
                store = load_store(training, training.image_size, training.channels)
            if store is not None:
                hyperparameters = with_classes(hyperparameters, store)
            options: dict[str, Any] = {"device": "cpu", "seed": training.seed}  # as a trial gives them
            if issubclass(model_class, GenerativeModel):
                require_fit(model_class, training, hyperparameters)
                options["scale_losses"] = training.precision == "float16"
            if n > len(ends):
                continue
            model = model_class(hyperparameters, **options)
            if not isinstance(model, GenerativeModel):  # fitted at once
                model.check((study.provenance or {})["training_images"])
            if isinstance(model, GenerativeModel) and point is first:
                model.eval()
                shape = (training.image_size, training.image_size, training.channels)
                with torch.no_grad():
                    require_images(model, model.sample(2), 2, shape)
                step = try_step(model, shape, training.channels_last)
                if not model_class.__module__.startswith("trainables."):
                    require_resumed(model, rebuilt(model, options), step)
                known, own = reported(study, model), dict[str, float]()
                if training.scores:
                    count = min(GRID_IMAGES, training.evaluation_samples)
                    of_it = (*fields(training), *fields(hyperparameters))
                    taken = known | study.space.keys() | {field.name for field in of_it}
                    own = try_scores(training.scores, model.eval(), count, taken)
                require_reported(study, known, own)
            if store is not None and "batch_size" in point:
                Batches(store, "train", training.batch_size)
        except RAISED as error:  # a person's own model raises anything
            shown = point if points else study.space
            where = ", ".join(f"{name} = {number(point[name])}" for name in shown)
            said = str(error).partition("\n")[0]
            if not isinstance(error, ValueError):
                said = f"{type(error).__name__}: {said}"
            said = f"{own_method(study, error)}{said}"
            if point is not first or not isinstance(error, ValueError):
                said = f"A trial of {where} can't be built: {said}"
            raise UsageError(said) from error


def own_method(study: Study, error: BaseException) -> str:
    """Return "CLASS.METHOD: " of a person's own model where the error is from there, else nothing."""
    kind = getattr(study.trainable, "model_class", GenerativeModel)
    module = kind.__module__
    frames = (frame for frame, _ in walk_tb(error.__traceback__) if frame.f_globals.get("__name__") == module)
    entered = None if module.startswith("trainables.") else next(frames, None)
    return f"{kind.__name__}.{entered.f_code.co_name}: " if entered else ""


def try_step(
    model: GenerativeModel, shape: tuple[int, int, int], channels_last: bool
) -> Callable[[GenerativeModel], dict[str, torch.Tensor]]:
    """Train a model on four images of noise, and score it by grey ones where it has an encoder.

    The images lie in memory as those of a trial's batches, (B, H, W, C) where `channels_last`. Returns the
    step, of any model of this kind.

    Raises TypeError where a step returns no losses, and what the encoder raises.
    """
    images = 2 * torch.rand(4, *shape, generator=torch.Generator().manual_seed(0)) - 1
    images = images.permute(0, 3, 1, 2)
    images = images if channels_last else images.contiguous()
    labels = (torch.zeros(4, dtype=torch.int64),) if isinstance(model, ConditionalModel) else ()

    def step(of: GenerativeModel) -> dict[str, torch.Tensor]:
        return of.train().training_step(images, *labels)

    found = step(model)
    if not isinstance(found, dict) or not all(
        isinstance(v, torch.Tensor) and not v.dim() for v in found.values()
    ):
        raise TypeError(f"{type(model).__name__}.training_step must return scalar losses by name")
    require_names(f"{type(model).__name__}.training_step", found)
    model.eval()
    if model.has_encoder:
        grey = torch.full((4, *shape), 128, dtype=torch.uint8)
        try:
            held_out_scores(model, grey, torch.Generator(model.device).manual_seed(0))
        except ValueError as error:  # what was unpacked is no mean and log-variance
            raise TypeError(f"{type(model).__name__}.encode, decode or elbo: {error}") from error
    return step


def rebuilt(model: GenerativeModel, options: dict[str, Any]) -> GenerativeModel:
    """Build a person's own model again of what a record keeps of its Config.

    Raises UsageError where that is another Config, or none.
    """
    kind = type(model)
    try:
        again = kind(kind.configure(json.loads(json.dumps(model.hyperparameters()))), **options)
    except RAISED as error:  # a person's own model raises anything
        raise UsageError(f"a record can't keep {kind.__name__}.Config ({error}): {KEPT}") from error
    told = kind.hyperparameters is GenerativeModel.hyperparameters  # else a record has what the model says
    for name in (field.name for field in fields(model.config) if told):
        if (kept := getattr(again.config, name)) != getattr(model.config, name):
            raise UsageError(
                f"a record can't keep {kind.__name__}.Config, whose {name} comes back as {kept!r}: {KEPT}"
            )
    return again


def require_resumed(
    model: GenerativeModel,
    again: GenerativeModel,
    step: Callable[[GenerativeModel], dict[str, torch.Tensor]],
) -> None:
    """Raise UsageError where a person's own model goes on otherwise once it was saved and loaded.

    `again`: the same, new. Trials are saved and loaded wherever they pause.
    """
    step(model)
    file = io.BytesIO()
    torch.save({"model": model.training_state(), "random": random_state(model)}, file)
    file.seek(0)
    state = torch.load(file, weights_only=True)
    step(model)
    again.load_training_state(state["model"])
    restore_random_state(again, state["random"])
    step(again)
    weights, rates = again.state_dict(), _rates(again)
    apart = [name for name, value in model.state_dict().items() if not _same(value, weights[name])]
    apart += [name for name, value in _rates(model).items() if value != rates[name]]
    if apart:
        beside = [
            name
            for name, value in vars(model).items()
            if hasattr(value, "state_dict")
            or (isinstance(value, int | float) and value != vars(again).get(name))
        ]
        known = f" (not on {' or '.join(beside)})" if beside else ""
        raise UsageError(
            f"{type(model).__name__}, saved and loaded after two steps, as trials are where they pause, has "
            f"another {apart[0]} after the third: steps may depend on what training_state holds{known}, and "
            "on torch's random numbers"
        )


def _same(a: torch.Tensor, b: torch.Tensor) -> bool:
    return a.shape == b.shape and bool(((a == b) | ((a != a) & (b != b))).all())


def _rates(model: GenerativeModel) -> dict[str, list[float]]:
    return {
        f"learning rate of {name}": [float(group["lr"]) for group in optimizer.param_groups]
        for name, optimizer in model.optimizers.items()
    }


def try_scores(path: str, model: Any, count: int, taken: set[str]) -> dict[str, float]:
    """Ask a person's own function for the scores of `count` samples. Raises OwnCodeError.

    `taken`: the names that the trial reports itself, and those of its settings.
    """
    function = imported(path)
    try:
        with torch.no_grad():
            found = function(model, to_uint8(model.sample(count)))
    except RAISED as error:  # whatever a stranger's code raises
        raise OwnCodeError(f"{path} raised {type(error).__name__} on {count} samples: {error}") from error
    source_hash(module_of(path))  # it goes into the record
    return numbers_of(path, found, taken | {"kl_per_unit"})


def reported(study: Study, model: GenerativeModel) -> set[str]:
    """Return the numbers that a trial reports of a model, but for those of single losses and classes."""
    known = {"images_per_second", "evaluation_seconds", "sample_diversity"}
    known |= OF_ENCODER if model.has_encoder else set()
    references = [key for key in study.provenance or {} if key.startswith(REFERENCE_PARAM)]
    for metric in {key.rpartition("/")[2] for key in references}:  # none without an extractor
        known |= keys_of(metric)
        known |= {f"ex_post/{metric}", f"ex_post_mixture/{metric}"} if model.has_encoder else set()
        known |= {f"intra_{metric}"} if isinstance(model, ConditionalModel) else set()
    return known


def require_reported(study: Study, known: set[str], own: dict[str, float]) -> None:
    """Raise UsageError where the study searches by a key that no trial reports, or for the worst of one.

    `known`: what a trial reports; `own`: what an own function does, of which what is searched must be finite.
    A trainable that evaluates by itself may report anything.
    """
    base = GenerativeTrainable
    if study.trainable.evaluate is not base.evaluate or study.trainable.step is not base.step:
        return
    families = {"loss", "gradient_norm", "loss_scale"} | ({"class"} if "evaluated_images" in known else set())
    units = study.settings.get("disentanglement") if known >= OF_ENCODER else False
    families |= {"disentanglement"} if units else set()
    for name, mode in {study.metric: study.mode, **study.objectives}.items():
        family, slash, key = name.partition("/")
        left_out = family == "disentanglement" and isinstance(units, list | tuple) and not _is_of(key, units)
        if name not in known | own.keys() and (left_out or not (slash and family in families)):
            there = some_of(name, known | own.keys())
            raise UsageError(
                f"no trial reports {name}{nearest(name, known | own.keys())}; it reports {there}"
            )
        if not math.isfinite(own.get(name, 0.0)):
            raise UsageError(
                f"{name} is {own[name]} of a model at its first step: a search needs finite numbers, also of "
                "poor models"
            )
        if name not in own and (best := better(name)) not in (None, mode):
            word = "lower" if best == "min" else "higher"
            raise UsageError(f"{name} is the better the {word} it is: its mode is {best}, not {mode}")


def _is_of(key: str, scores: Collection[str]) -> bool:
    """Whether a reported number, such as dci_completeness, belongs to one of these scores."""
    from trainables.metrics.disentanglement import SCORES  # imports scikit-learn

    return next((score for score in SCORES if key.startswith(score)), "unsupervised") in scores


def ends_of(study: Study) -> Iterator[dict[str, Any]]:
    """Yield each dimension's least and greatest value, or those that it is a choice of, one at a time.

    Of many choices only some are yielded: building their networks would take minutes.
    """
    for dimension in read_space(study.space).dimensions:
        yield from ({dimension.name: value} for value in _ends(dimension, every=True))


def corners_of(study: Study) -> Iterator[dict[str, Any]]:
    """Yield the ends of each two dimensions; of rising choices the least and the greatest alone."""
    for one, other in combinations(read_space(study.space).dimensions, 2):
        yield from ({one.name: a, other.name: b} for a, b in product(_ends(one), _ends(other)))


def _ends(dimension: Dimension, every: bool = False) -> Sequence[Any]:
    if isinstance(dimension, Choice) and (every or dimension.categorical):
        return dimension.choices[:: -(-len(dimension.choices) // MOST_BUILT)]
    return dimension.value(0.0), dimension.value(1.0)
