"""A trained model as others use it: safetensors, configuration and preprocessing as JSON, no pickle.

In MLflow's format (`save_pyfunc`) it is a table in, a table out, in Python and over HTTP alike. A row asks
for one thing:

    operation     also                                         answers
    sample        n, seed                                      images
    reconstruct   images                                       images
    encode        images                                       latents (posterior means, or codes)
    interpolate   two images, or a seed; n                     images

Images are PNG or JPEG files in base64, of any size; they are fitted as the training images were.
"""

import base64
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from analysis.record.trained_model import TrainedModel
from trainables.data.batches import to_uint8
from trainables.data.pictures import picture, png

MAX_IMAGES = 1024  # a request for more would hold up a server
DEFAULTS = {"operation": "sample", "n": 16, "seed": 0, "images": None}


def png_base64(images: Tensor) -> list[str]:
    """Return images (B, C, H, W) in [−1, 1] as PNG files in base64."""
    return [base64.b64encode(png(picture(image))).decode() for image in to_uint8(images).cpu().numpy()]


class PyfuncModel:
    """What MLflow loads: `predict` takes the table of requests of this module's head."""

    def __init__(self, folder: str):
        self.folder = folder

    @cached_property
    def model(self) -> TrainedModel:
        """The model, read when it is first asked for."""
        return TrainedModel.load(Path(self.folder), "cuda" if torch.cuda.is_available() else "cpu")

    def predict(self, requests: pd.DataFrame, params: dict[str, Any] | None = None) -> list[dict[str, Any]]:
        """Answer each row. Raises MlflowException (over HTTP: 400) with the reason where one can't be."""
        from mlflow.exceptions import MlflowException

        answers = []
        for row in requests.to_dict("records"):
            given = {k: v for k, v in row.items() if v is not None and not (np.isscalar(v) and pd.isna(v))}
            try:
                answers.append(self.answer(**DEFAULTS | given))
            except (ValueError, OSError, TypeError) as error:
                raise MlflowException.invalid_parameter_value(str(error)) from error
        return answers

    def answer(self, operation: str, n: int, seed: int, images: list[str] | None) -> dict[str, Any]:
        """Do one operation. Raises ValueError where it is unknown or lacks its images."""
        operations: dict[str, Callable[[], dict[str, Any]]] = {
            "sample": lambda: {"images": png_base64(self.model.sample(int(n), int(seed)))},
            "reconstruct": lambda: {"images": png_base64(self.model.reconstruct(self._images(images)))},
            "encode": lambda: {"latents": self.model.encode(self._images(images)).tolist()},
            "interpolate": lambda: {"images": png_base64(self._interpolate(int(n), int(seed), images))},
        }
        if operation not in operations:
            raise ValueError(f"There is no operation {operation!r}; there are: {', '.join(operations)}")
        if not 1 <= n <= MAX_IMAGES:
            raise ValueError(f"n is {n}; it must be between 1 and {MAX_IMAGES}")
        return operations[operation]()

    def _images(self, images: list[str] | None) -> Tensor:
        if images is None or not 1 <= len(images) <= MAX_IMAGES:
            count = 0 if images is None else len(images)
            raise ValueError(f"{count} images; between 1 and {MAX_IMAGES} are needed, as base64")
        return self.model.read(list(images))

    def _interpolate(self, n: int, seed: int, images: list[str] | None) -> Tensor:
        if images is None:
            return self.model.interpolate(n, seed=seed)
        if len(images) != 2:
            raise ValueError(f"{len(images)} images; an interpolation goes from one to another, so give two")
        return self.model.interpolate(n, ends=self._images(images))


def _load_pyfunc(path: str) -> PyfuncModel:
    """Return the model in MLflow's folder: its loaders call this name."""
    return PyfuncModel(path)


def save_pyfunc(folder: Path, target: Path, metadata: dict[str, Any]) -> None:
    """Write `folder` (weights and description) as an MLflow model that this module loads, without pickle."""
    from importlib.metadata import PackageNotFoundError, version

    from mlflow.models import ModelSignature
    from mlflow.pyfunc import save_model
    from mlflow.types.schema import AnyType, ColSpec, Schema, TensorSpec

    try:
        requirement = f"latentune=={version('latentune')}"
    except PackageNotFoundError:  # on a cluster's machine, where the code is found by PYTHONPATH
        requirement = "latentune"
    # Rows may leave columns out; pandas makes NaN of what is missing, which no narrower type lets pass.
    columns: list[ColSpec | TensorSpec] = [ColSpec(AnyType(), name, required=False) for name in DEFAULTS]
    save_model(
        target,
        loader_module="analysis.judgement.champion",
        data_path=str(folder),
        signature=ModelSignature(Schema(columns)),
        input_example=pd.DataFrame([{"operation": "sample", "n": 4, "seed": 1}]),
        pip_requirements=[requirement],
        metadata=metadata,
    )
