"""A trained model as two files: its weights (safetensors), and a description that rebuilds it (JSON)."""

import importlib
import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from trainables.models.base import GenerativeModel

WEIGHTS, DESCRIPTION = "model.safetensors", "model.json"


def save_model(
    folder: Path,
    model_class: type[GenerativeModel],
    hyperparameters: dict[str, Any],
    networks: dict[str, Tensor],
    **about: Any,
) -> None:
    """Write `networks`, a state_dict, with its model's class and hyperparameters, into `folder`.

    The description also holds `about`. Raises OSError where the folder cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in networks.items()}
    save_file(tensors, folder / WEIGHTS)
    description = {
        "model": f"{model_class.__module__}:{model_class.__qualname__}",
        "config": hyperparameters,
        "likelihood": model_class.likelihood,
        **about,
    }
    (folder / DESCRIPTION).write_text(json.dumps(description, indent=2))


def load_model(folder: Path, device: torch.device | str = "cpu") -> GenerativeModel:
    """Rebuild what `save_model` wrote, in evaluation mode.

    Raises ValueError where the description names no model of this package or the weights do not fit it, and
    FileNotFoundError where a file is missing.
    """
    description = json.loads((folder / DESCRIPTION).read_text())
    module, _, name = description["model"].partition(":")
    if not module.startswith("trainables."):  # a description is data, so it may not import just any module
        raise ValueError(f"{folder / DESCRIPTION} names {description['model']!r}, which is no model of ours")
    model_class = getattr(importlib.import_module(module), name)
    model: GenerativeModel = model_class(model_class.configure(description["config"]), device=device)
    try:
        model.load_state_dict(load_file(folder / WEIGHTS))
    except RuntimeError as error:
        raise ValueError(f"{folder / WEIGHTS} doesn't fit {description['model']}: {error}") from error
    return model.eval()
