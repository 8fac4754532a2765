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
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from trainables.data.batches import to_float, to_uint8
from trainables.data.decoding import Settings, decode, fit
from trainables.data.pictures import picture, png
from trainables.models.base import GenerativeModel
from trainables.models.storage import DESCRIPTION, load_model

MAX_IMAGES = 1024  # a request for more would hold up a server
DEFAULTS = {"operation": "sample", "n": 16, "seed": 0, "images": None}


@dataclass(frozen=True)
class TrainedModel:
    """A model with its description: `model` (module:class), `config`, and `crop` of its training images."""

    network: GenerativeModel
    description: dict[str, Any]

    @classmethod
    def load(cls, folder: Path, device: str = "cpu") -> "TrainedModel":
        """Read what `trainables.models.storage.save_model` wrote; raises as its `load_model`."""
        description = json.loads((Path(folder) / DESCRIPTION).read_text())
        return cls(load_model(Path(folder), device), description)

    @property
    def settings(self) -> Settings:
        """How images become the model's."""
        config = self.network.config
        return Settings(config.image_size, config.channels, self.description.get("crop"))

    def generator(self, seed: int) -> torch.Generator:
        """Return a source of noise on the model's device."""
        return torch.Generator(self.network.device).manual_seed(seed)

    def sample(self, n: int = 16, seed: int = 0) -> Tensor:
        """Return n images, (n, C, H, W) in [−1, 1]."""
        return self.network.sample(n, self.generator(seed))

    @torch.no_grad()
    def encode(self, x: Tensor) -> Tensor:
        """Return posterior means (B, M), or codes (B, grid²). Raises ValueError without encoder."""
        self.require_encoder("encode")
        encoded = self.network.eval().encode(x)
        return encoded[0] if isinstance(encoded, tuple) else encoded

    def reconstruct(self, x: Tensor) -> Tensor:
        """Return the reconstructions of images (B, C, H, W). Raises ValueError without encoder."""
        self.require_encoder("reconstruct")
        return self.network.reconstruct(x)

    @torch.no_grad()
    def interpolate(self, n: int = 16, *, ends: Tensor | None = None, seed: int = 0) -> Tensor:
        """Decode n points from one latent to another: straight between the means of two images `ends` (2, C,
        H, W), along the great circle between two draws of the prior, where lines would leave its shell.

        Raises ValueError where the latents are codes, or the model has no encoder for `ends`.
        """
        if not hasattr(self.network.config, "latent_dim"):
            raise ValueError(f"{type(self.network).__name__} has discrete codes; nothing lies between them")
        share = torch.linspace(0, 1, n, device=self.network.device)[:, None]
        if ends is not None:
            first, last = self.encode(ends)
            return self.network.decode(torch.lerp(first[None], last[None], share))
        shape = (2, self.network.config.latent_dim)
        first, last = torch.randn(shape, generator=self.generator(seed), device=self.network.device)
        angle = torch.arccos(torch.nn.functional.cosine_similarity(first, last, dim=0))
        z = (torch.sin((1 - share) * angle) * first + torch.sin(share * angle) * last) / torch.sin(angle)
        return self.network.decode(z)

    def require_encoder(self, purpose: str) -> None:
        """Raise ValueError where the model has no encoder."""
        if not self.network.has_encoder:
            raise ValueError(f"{type(self.network).__name__} has no encoder: it cannot {purpose}")

    def read(self, files: list[str]) -> Tensor:
        """Return encoded images (base64 text) as the model takes them, (B, C, H, W) in [−1, 1]."""
        pixels = [fit(decode(base64.b64decode(file)), self.settings) for file in files]
        return to_float(np.stack(pixels), self.network.device)


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
    from mlflow.types.schema import AnyType, ColSpec, Schema

    try:
        requirement = f"latentune=={version('latentune')}"
    except PackageNotFoundError:  # on a cluster's machine, where the code is found by PYTHONPATH
        requirement = "latentune"
    # Rows may leave columns out; pandas makes NaN of what is missing, which no narrower type lets pass.
    columns = [ColSpec(AnyType(), name, required=False) for name in DEFAULTS]
    save_model(
        target,
        loader_module="analysis.judgement.champion",
        data_path=str(folder),
        signature=ModelSignature(Schema(columns)),
        input_example=pd.DataFrame([{"operation": "sample", "n": 4, "seed": 1}]),
        pip_requirements=[requirement],
        metadata=metadata,
    )
