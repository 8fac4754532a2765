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
_trusted = {"trainables"}


def trust(*modules: str) -> None:
    """Let `load_model` import these modules, and what is in them: packages or files of a person's own."""
    _trusted.update(module.partition(".")[0] for module in modules)


def trusted() -> set[str]:
    """Return the modules, by the first part of their names, that `load_model` may import."""
    return set(_trusted)


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
    tensors = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in networks.items()}
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

    A description is data, and importing what it names runs code: modules other than this package's must have
    been `trust`ed. Raises ValueError where the model's has not been, and where the weights do not fit it;
    ImportError where it is not found, and FileNotFoundError where a file is missing.
    """
    description = json.loads((folder / DESCRIPTION).read_text())
    model = described_model(description, device)
    try:
        model.load_state_dict(load_file(folder / WEIGHTS))
    except RuntimeError as error:
        raise ValueError(f"{folder / WEIGHTS} doesn't fit {description['model']}: {error}") from error
    return model.eval()


def described_model(description: dict[str, Any], device: torch.device | str = "cpu") -> GenerativeModel:
    """Build the model of a description with fresh weights. Raises as `load_model`."""
    module, _, name = description["model"].partition(":")
    if module == "__main__":
        raise ValueError(
            f"the model is {description['model']}, of a notebook or a script: no other can load it"
        )
    if (first := module.partition(".")[0]) not in _trusted:
        raise ValueError(
            f"the model is {description['model']}, and loading it runs the code of {first}: if you know that "
            f"code, --trust {first} allows it (in Python: trainables.models.storage.trust({first!r}))"
        )
    model_class = getattr(importlib.import_module(module), name)
    model: GenerativeModel = model_class(model_class.configure(description["config"]), device=device)
    return model
