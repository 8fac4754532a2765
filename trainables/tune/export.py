"""The model of a trial's checkpoint as files that need neither the trial nor Ray."""

from pathlib import Path
from typing import Any

import torch

from trainables.evaluation.inputs import split_config
from trainables.models.storage import save_model
from trainables.tune.trainable import CHECKPOINT, GenerativeTrainable


def export_model(
    trainable: type[GenerativeTrainable], config: dict[str, Any], checkpoint_dir: Path, folder: Path
) -> None:
    """Write the model of a trial's checkpoint as `trainables.models.storage.load_model` reads it."""
    model_class, settings = trainable.model_of(config)
    training, _ = split_config(model_class, settings)
    state = torch.load(checkpoint_dir / CHECKPOINT, map_location="cpu", weights_only=True)
    kept = ("image_size", "channels", "crop")
    about = {"epoch": state["epoch"], **{name: getattr(training, name) for name in kept}}
    networks = state["mean"]["means"] if "mean" in state else state["model"]["networks"]
    save_model(folder, model_class, state["hyperparameters"], networks, **about)
