"""Settings that count in `sample` alone, tried on a trained model: nothing is trained again."""

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, get_args, get_type_hints

from torch import Tensor, nn

from trainables.models.base import GenerativeModel
from trainables.models.settings import check_kind, nearest

STEPS = (2, 5, 10, 20)


@dataclass
class Cost:
    """What it took to draw `images` images: passes of an image through the largest network, CPU seconds."""

    images: int = 0
    evaluations: int = 0
    seconds: float = 0.0


def default_values(model: GenerativeModel) -> dict[str, Sequence[Any]]:
    """Return what is worth trying of a model's sampling settings: numbers of steps, and every sampler."""
    hints, names = get_type_hints(type(model.config)), model.sampling_settings
    known: dict[str, Sequence[Any]] = {name: get_args(hints[name]) for name in names if get_args(hints[name])}
    return known | ({"steps": STEPS} if "steps" in names else {})


def with_settings(model: GenerativeModel, settings: dict[str, Any]) -> GenerativeModel:
    """Return a model with the same weights that draws by other settings.

    Raises ValueError where one of them is no setting of sampling, or has a value that it can't have.
    """
    kind, names = type(model), model.sampling_settings
    hints = get_type_hints(type(model.config))
    for name, value in settings.items():
        if name not in names:
            there = f"it has {', '.join(names)}" if names else "it has none"
            raise ValueError(
                f"{name} is no setting of sampling of {kind.__name__}{nearest(name, names)}; {there}"
            )
        check_kind(name, value, hints[name])
    changed = kind(replace(model.config, **settings), device=model.device)
    changed.load_state_dict(model.state_dict())
    return changed.eval()


@contextmanager
def counted(model: GenerativeModel) -> Iterator[Cost]:
    """Count what the images that are drawn inside the block cost, by the largest network that they pass."""

    def size(network: nn.Module) -> int:
        return sum(parameter.numel() for parameter in network.parameters())

    def count(network: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any], _: Any) -> None:
        batches = (len(v) for v in (*inputs, *named.values()) if isinstance(v, Tensor) and v.dim())
        passed[network] += next(batches, 0)

    def sample(n: int, *others: Any, **named: Any) -> Tensor:
        began = time.process_time()
        images = drawn(n, *others, **named)
        cost.seconds += time.process_time() - began
        cost.images += n
        cost.evaluations = passed[max(passed, key=size)] if passed else 0
        return images

    cost, drawn, passed = Cost(), model.sample, Counter[nn.Module]()
    averaged = getattr(model, "averaged_network", None)
    networks = [averaged] if averaged else [part for part in model.modules() if part is not model]
    hooks = [network.register_forward_hook(count, with_kwargs=True) for network in networks]
    model.sample = sample  # type: ignore[method-assign]
    try:
        yield cost
    finally:
        del model.sample
        for hook in hooks:
            hook.remove()
