"""A trained model out of the record: what it draws, rebuilds, encodes, and what lies between two images."""

import base64
import binascii
import json
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from analysis.record.store import AnalysisError
from trainables.data.batches import to_float
from trainables.data.decoding import Preprocessing, decode, fit, reason
from trainables.evaluation.generation import at_once
from trainables.models.base import GenerativeModel
from trainables.models.storage import DESCRIPTION, load_model
from trainables.own import RAISED

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from analysis.record.tables import Tables


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
    def preprocessing(self) -> Preprocessing:
        """How images become the model's."""
        config, known = self.network.config, self.description
        size = known.get("image_size") or config.image_size
        channels = known.get("channels") or config.channels
        return Preprocessing(size, channels, known.get("crop"))

    def generator(self, seed: int) -> torch.Generator:
        """Return a source of noise on the model's device."""
        return torch.Generator(self.network.device).manual_seed(seed)

    @torch.no_grad()
    def sample(self, n: int = 16, seed: int = 0) -> Tensor:
        """Return n images, (n, C, H, W) in [−1, 1]."""
        noise = self.generator(seed)
        return self._in_parts(lambda part: self.network.sample(len(part), noise), torch.ones(n))

    @torch.no_grad()
    def encode(self, x: Tensor) -> Tensor:
        """Return posterior means (B, M), or codes (B, grid²). Raises ValueError without encoder."""
        self.require_encoder("encode")

        def codes(part: Tensor) -> Tensor:
            encoded = self.network.eval().encode(part)
            return encoded[0] if isinstance(encoded, tuple) else encoded

        return self._in_parts(codes, x)

    @torch.no_grad()
    def reconstruct(self, x: Tensor) -> Tensor:
        """Return the reconstructions of images (B, C, H, W). Raises ValueError without encoder."""
        self.require_encoder("reconstruct")
        return self._in_parts(self.network.reconstruct, x)

    @torch.no_grad()
    def interpolate(self, n: int = 16, *, ends: Tensor | None = None, seed: int = 0) -> Tensor:
        """Decode n points from one latent to another: straight between the means of two images `ends` (2, C,
        H, W), along the great circle between two draws of the prior, where lines would leave its shell.

        Raises ValueError where the latents are codes, the model has no encoder for `ends`, or it draws in
        more steps than decoding one draw of the prior.
        """
        if not hasattr(self.network.config, "latent_dim"):
            raise ValueError(f"{type(self.network).__name__} has discrete codes; nothing lies between them")
        share = torch.linspace(0, 1, n, device=self.network.device)[:, None]
        if ends is not None:
            first, last = self.encode(ends)
            return self._in_parts(self.network.decode, torch.lerp(first[None], last[None], share.to(first)))
        if not self.network.decodes_noise():
            raise ValueError(
                f"{type(self.network).__name__} draws in more steps than decoding Gaussian noise: give two "
                "images to go from one to the other"
            )
        shape = (2, self.network.config.latent_dim)
        first, last = torch.randn(shape, generator=self.generator(seed), device=self.network.device)
        angle = torch.arccos(torch.nn.functional.cosine_similarity(first, last, dim=0))
        z = (torch.sin((1 - share) * angle) * first + torch.sin(share * angle) * last) / torch.sin(angle)
        return self._in_parts(self.network.decode, self.network.from_noise(z))

    def _in_parts(self, function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        """Apply a function to as many rows of x at a time as the networks take."""
        size = self.preprocessing.image_size
        return torch.cat([function(part) for part in x.split(at_once((size, size)))])

    def require_encoder(self, purpose: str) -> None:
        """Raise ValueError where the model has no encoder."""
        if not self.network.has_encoder:
            raise ValueError(f"{type(self.network).__name__} has no encoder: it cannot {purpose}")

    def read(self, files: list[str]) -> Tensor:
        """Return encoded images (base64 text) as the model takes them, (B, C, H, W) in [−1, 1].

        Raises ValueError, with the number of the image, where one can't be read.
        """
        pixels = []
        for number, file in enumerate(files, 1):
            try:
                pixels.append(fit(decode(base64.b64decode(file, validate=True)), self.preprocessing))
            except binascii.Error as error:
                raise ValueError(f"image {number} is no base64 text") from error
            except Exception as error:  # decoders raise anything
                raise ValueError(f"image {number} can't be read: {reason(error)}") from error
        return to_float(np.stack(pixels), self.network.device)


def load_trained(
    client: "MlflowClient", tables: "Tables", number: int, folder: Path | None = None
) -> TrainedModel:
    """Return a trial's `TrainedModel` out of the record; files go to `folder`, if given.

    Raises AnalysisError as `download_weights` and `read_trained`.
    """
    from analysis.record.weights import download_weights  # a package in MLflow is without the sweeps' code

    with tempfile.TemporaryDirectory() as temporary:
        return read_trained(download_weights(client, tables, number, Path(folder or temporary)), number)


def read_trained(folder: Path, number: int) -> TrainedModel:
    """Return the `TrainedModel` of a trial's files. Raises AnalysisError where they cannot be read."""
    try:
        return TrainedModel.load(folder)
    except RAISED as error:  # a person's own model raises anything
        said = str(error).rstrip(".") or type(error).__name__
        raise AnalysisError(f"The weights of trial {number} cannot be read: {said}.") from error
