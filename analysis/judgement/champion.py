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
import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from analysis.record.trained_model import TrainedModel
from trainables.data.batches import to_uint8
from trainables.data.pictures import picture, png
from trainables.models.storage import DESCRIPTION, trust, trusted
from trainables.own import packages_imported, with_neighbors

REQUIRED = ("mlflow", "numpy", "pandas", "pillow", "pyarrow", "safetensors", "scikit-learn", "scipy", "torch")
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

        try:
            if not len(requests):
                raise ValueError(f"no request; send rows with the columns {', '.join(DEFAULTS)}")
            return [self.answer(Request.of(row)) for row in requests.to_dict("records")]
        except ValueError as error:
            raise MlflowException.invalid_parameter_value(str(error)) from error

    def answer(self, request: "Request") -> dict[str, Any]:
        """Do one operation. Raises ValueError where it lacks its images or the model can't do it."""
        operations: dict[str, Callable[[Request], dict[str, Any]]] = {
            "sample": lambda r: {"images": png_base64(self.model.sample(r.n, r.seed))},
            "reconstruct": lambda r: {"images": png_base64(self.model.reconstruct(self._images(r)))},
            "encode": lambda r: {"latents": self.model.encode(self._images(r)).tolist()},
            "interpolate": lambda r: {"images": png_base64(self._interpolate(r))},
        }
        if request.operation not in operations:
            there = ", ".join(operations)
            raise ValueError(f"There is no operation {request.operation!r}; there are: {there}")
        return operations[request.operation](request)

    def _images(self, request: "Request") -> Tensor:
        count = len(request.images or ())
        if not 1 <= count <= MAX_IMAGES:
            raise ValueError(f"{count} images; between 1 and {MAX_IMAGES} are needed, as base64")
        return self.model.read(request.images or [])

    def _interpolate(self, request: "Request") -> Tensor:
        if request.images is None:
            return self.model.interpolate(request.n, seed=request.seed)
        if len(request.images) != 2:
            count = len(request.images)
            raise ValueError(f"{count} images; an interpolation goes from one to another, so give two")
        return self.model.interpolate(request.n, ends=self._images(request))


@dataclass(frozen=True)
class Request:
    """One row of a request: what is to be done, with how many images or which."""

    operation: str
    n: int
    seed: int
    images: list[str] | None

    @classmethod
    def of(cls, row: dict[str, Any]) -> "Request":
        """Check a row, whose empty cells count as left out. Raises ValueError, naming the column."""
        given = {k: v for k, v in row.items() if v is not None and not (np.isscalar(v) and pd.isna(v))}
        if unknown := [name for name in given if name not in DEFAULTS]:
            raise ValueError(f"There is no column {unknown[0]!r}; there are: {', '.join(DEFAULTS)}")
        if not given:
            raise ValueError(f"The request is empty; it may have the columns {', '.join(DEFAULTS)}")
        values = DEFAULTS | given
        images = values["images"]
        if images is not None:
            images = images.tolist() if isinstance(images, np.ndarray) else images
            if not isinstance(images, list | tuple) or not all(isinstance(file, str) for file in images):
                raise ValueError("images is no list of base64 texts")
        n, seed = _whole("n", values["n"], 1, MAX_IMAGES), _whole("seed", values["seed"], 0, 2**63 - 1)
        return cls(str(values["operation"]), n, seed, None if images is None else list(images))


def _whole(name: str, value: Any, low: int, high: int) -> int:
    """Return a number that JSON or pandas may have made a float. Raises ValueError for any other value."""
    whole = isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)
    if not whole or not low <= value <= high or value != int(value):
        raise ValueError(f"{name} is {value!r}; it must be between {low} and {high}, a whole number")
    return int(value)


def _load_pyfunc(path: str) -> PyfuncModel:
    """Return the model in MLflow's folder: MLflow calls this, with the package's own code on the path."""
    code = Path(path).resolve().parents[1] / "code"
    trust(*(entry.stem for entry in code.iterdir()) if code.is_dir() else ())
    return PyfuncModel(path)


def own_code(folder: Path) -> tuple[list[str], set[str]]:
    """Return the files and folders of code that load a model, ours and a person's own, and what these need.

    `folder`: its weights and description. What a file of a person's own imports beside it goes along, and the
    packages that such files import are named.
    """
    module = json.loads((folder / DESCRIPTION).read_text())["model"].partition(":")[0]
    if module.partition(".")[0] in trusted():
        with suppress(Exception):  # what it raises is told once the package is tried
            import_module(module)
    own = with_neighbors(trusted() - {"trainables"})
    paths = []
    for name in sorted(trusted() | own.keys() | {"analysis"}):
        spec = find_spec(name)
        if spec is not None and spec.origin is not None:
            source = Path(spec.origin)
            paths.append(str(source.parent if spec.submodule_search_locations else source))
    return paths, packages_imported(own.values())


def save_pyfunc(folder: Path, target: Path, metadata: dict[str, Any]) -> None:
    """Write `folder` (weights and description) as an MLflow model that this module loads, without pickle.

    It carries this project's code, and asks for the packages that this needs in the versions that are here.
    """
    from mlflow.models import ModelSignature
    from mlflow.pyfunc import save_model
    from mlflow.types.schema import AnyType, ColSpec, Schema, TensorSpec

    code, needed = own_code(folder)
    # Rows may leave columns out; pandas makes NaN of what is missing, which no narrower type lets pass.
    columns: list[ColSpec | TensorSpec] = [ColSpec(AnyType(), name, required=False) for name in DEFAULTS]
    save_model(
        target,
        loader_module="analysis.judgement.champion",
        data_path=str(folder),
        code_paths=code,
        signature=ModelSignature(Schema(columns)),
        input_example=pd.DataFrame([{"operation": "sample", "n": 4, "seed": 1}]),
        pip_requirements=[f"{name}=={version(name)}" for name in sorted({*REQUIRED, *needed})],
        metadata=metadata,
    )
