"""A frozen network with its resize: uint8 images in, float64 features out, and what they depend on."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from trainables.metrics.errors import MetricError
from trainables.metrics.statistics import Identity
from trainables.metrics.threads import thread_limit
from trainables.own import RAISED


@dataclass(frozen=True)
class Resize:
    """How uint8 images become a network's input: [0, 1], bilinear to size × size, then scale·x + shift.

    Sampling points are those of align_corners=False. With `antialias` a smaller output averages over what
    it covers; a larger one is the same either way. size None: images keep their own.
    """

    size: int | None
    antialias: bool
    scale: tuple[float, float, float] = (1.0, 1.0, 1.0)
    shift: tuple[float, float, float] = (0.0, 0.0, 0.0)

    def __str__(self) -> str:
        if self.size is None:
            return "uint8-native"
        return f"uint8-bilinear{'-antialias' if self.antialias else ''}-{self.size}"

    def __call__(self, images: Tensor) -> Tensor:
        """(B, H, W, 1 or 3) uint8 -> (B, 3, size, size) float32."""
        x = images.permute(0, 3, 1, 2).expand(-1, 3, -1, -1).float() / 255
        if self.size is not None:
            size = (self.size, self.size)
            x = F.interpolate(x, size, mode="bilinear", align_corners=False, antialias=self.antialias)
        scale, shift = (torch.tensor(v, device=x.device).view(1, 3, 1, 1) for v in (self.scale, self.shift))
        return (x * scale + shift).contiguous(memory_format=torch.channels_last)


class Extractor:
    """A frozen network with its resize. Called with uint8 images (n, H, W, 1 or 3) it gives (n, d) float64.

    `name`, by which `load_extractor` gives it again; `metric` and `kid_metric`, the keys of its scores;
    `side`, to which images are resized, None where they are not; `identity`; `reason`, a sentence that says
    which extractor was taken and why.
    """

    def __init__(
        self,
        name: str,
        network: nn.Module,
        weights: str,
        resize: Resize,
        *,
        reason: str,
        network_name: str | None = None,
        metric: str | None = None,
        device: torch.device | str = "cpu",
        threads: int | None = None,
        batch_size: int = 32,
    ):
        self.name = name
        network_name = network_name or name
        self.metric = metric or f"fd_{network_name}"
        self.kid_metric = kid_key(self.metric)
        self.identity = Identity(network_name, weights, str(resize))
        self.reason = reason
        try:
            self.device = torch.device(device)
            if self.device.type == "cuda" and not torch.cuda.is_available():
                raise MetricError(
                    f"device is {device}, but torch finds no CUDA GPU on this machine; take cpu"
                )
            with thread_limit(threads):  # which raises ValueError where there are none
                torch.empty(1, device=self.device)
        except (RuntimeError, NotImplementedError, AssertionError) as error:
            said = str(error).partition("\n")[0][:80]
            raise MetricError(
                f"device is {str(device)!r}, which torch can't use ({said}); take cpu"
            ) from error
        self.threads = threads
        # Large batches fall out of a CPU core's caches: at 224, 16 images a batch are 3 times as fast as 128.
        self.batch_size = batch_size if self.device.type == "cpu" else 256
        self._resize, self.side = resize, resize.size
        self._network = network.to(self.device)

    def __call__(self, images: NDArray[np.uint8] | Tensor) -> NDArray[np.float64]:
        """Return the features of images.

        Raises TypeError where images are not uint8, MetricError where their shape is another than (n, H, W,
        1 or 3), there is none, a person's own network does not take them, or a feature is not finite.
        """
        images = as_uint8_images(images)
        parts = []
        exact = torch.backends.cudnn.flags(enabled=True, allow_tf32=False)  # TF32 keeps 10 bits of 23
        with thread_limit(self.threads), torch.inference_mode(), exact:
            for start in range(0, len(images), self.batch_size):
                batch = images[start : start + self.batch_size]
                if not isinstance(batch, Tensor):
                    batch = torch.from_numpy(batch.copy())  # a memory-mapped store is read-only
                batch = batch.to(self.device)
                try:
                    features = self._network(self._resize(batch)).flatten(1)
                    if len(features) != len(batch):
                        raise ValueError(f"{len(batch)} of them have {len(features)} rows of features")
                except RAISED as error:  # whatever a stranger's network raises
                    if self.side:  # ours: not by the images' size
                        raise
                    height, width = images.shape[1:3]
                    said = f"{type(error).__name__}: {str(error).partition(chr(10))[0][:200]}"
                    raise MetricError(
                        f"{self.name} does not take images of {height}×{width} pixels: {said}"
                    ) from error
                parts.append(features.cpu().double().numpy())
        features = np.concatenate(parts)
        if not np.isfinite(features).all():
            raise MetricError(f"{self.identity} gives features that are not finite for these images")
        return features


def kid_key(metric: str) -> str:
    """Return the key of the kernel distance beside a Fréchet distance's."""
    return "kid" if metric == "fid" else f"kid_{metric.removeprefix('fd_')}"


def as_uint8_images(images: NDArray[np.uint8] | Tensor) -> NDArray[np.uint8] | Tensor:
    """Return images unchanged. Raises as `Extractor.__call__` where they are not (n, H, W, 1 or 3) uint8."""
    shape = tuple(images.shape)
    if len(shape) != 4 or shape[3] not in (1, 3):
        raise MetricError(f"images have shape {shape}; (n, height, width, 1 or 3) is expected")
    if 0 in shape:
        raise MetricError(f"no image: the shape is {shape}")
    if images.dtype not in (np.uint8, torch.uint8):
        broken = int((~torch.isfinite(torch.as_tensor(images))).flatten(1).any(1).sum())
        if broken:
            raise MetricError(f"{broken} of {len(images)} images hold pixels that are nan or infinite")
        raise TypeError(f"images are {images.dtype}; round them to uint8, 0 to 255, first")
    return images
