"""Batches for training: a gather from the store, then one conversion to float on the device."""

import math
import weakref
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import DTypeLike, NDArray
from torch import Tensor

from trainables.data.store import DataError, ImageStore


class Batches:
    """A split's images in random order, in batches, for as many epochs as wanted.

    Order and flips are a function of (seed, epoch) alone: to resume exactly, ask for the epoch by its number.
    On a GPU the split is held in device memory where it takes at most half of what is free, and a batch is
    gathered there; else it is gathered from the store's pages, which all processes of a machine share.

    `limit` takes that many images of the split, chosen by the seed. An epoch is one pass over the images, or
    `steps` batches: the next begins where it ended, in the same pass or a later one. `part`
    (k, n): of each batch only every n-th image from the k-th on, so that n processes share its work.
    `before`: those of an earlier trial, whose images in device memory are taken over where they are the same.

    Raises DataError where the split is smaller than one batch and `drop_last` leaves nothing.
    """

    def __init__(
        self,
        store: ImageStore,
        split: str,
        batch_size: int,
        *,
        device: str | torch.device = "cpu",
        seed: int = 0,
        flip: bool = False,
        drop_last: bool = True,
        limit: int | None = None,
        steps: int | None = None,
        part: tuple[int, int] = (0, 1),
        before: "Batches | None" = None,
    ):
        self.store, self.batch_size, self.seed = store, batch_size, seed
        self.flip, self.drop_last, self.device = flip, drop_last, torch.device(device)
        self.selected = store.split(split)
        if limit is not None and limit < len(self.selected):
            chosen = np.random.default_rng([seed, 0]).permutation(len(self.selected))[:limit]
            self.selected = self.selected[np.sort(chosen)]
        self.steps, self.part = steps, slice(part[0], None, part[1])
        if batch_size < 1 or self._batches_of_a_pass() == 0:
            raise DataError(
                f"the split {split!r} of {store.name} has {len(self.selected)} images, which gives no batch "
                f"of {batch_size}; choose a batch size of {max(1, len(self.selected))} or less"
            )
        self._buffers = _Buffers()
        self._resident = self._taken_over(before)
        if self._resident is None:
            self._resident = self._to_device_memory()

    def __len__(self) -> int:
        return self.steps or self._batches_of_a_pass()

    def _batches_of_a_pass(self) -> int:
        if self.drop_last:
            return len(self.selected) // self.batch_size
        return -(-len(self.selected) // self.batch_size)

    def rows(self, epoch: int) -> Iterator[NDArray[np.int64]]:
        """Yield the store's rows of each batch of an epoch, by which labels and factors are found."""
        for places in self._places(epoch):
            yield self.selected[places[self.part]]

    def epoch(self, epoch: int) -> Iterator[Tensor]:
        """Yield the batches of an epoch: float32 (B, C, H, W) in [-1, 1], channels last in memory."""
        flips = np.random.default_rng([self.seed, 2, epoch])
        for places in self._places(epoch):
            images = self._gather(places[self.part])
            if self.flip:
                chosen = np.flatnonzero(flips.random(len(places))[self.part] < 0.5)
                mirrored = torch.from_numpy(chosen).to(images.device)
                images[mirrored] = images[mirrored].flip(2)
            yield self._to_float(images)

    def labeled(self, epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the batches of an epoch with their labels, int64 (B,), on the device."""
        for images, rows in zip(self.epoch(epoch), self.rows(epoch), strict=True):
            yield images, torch.from_numpy(self.store.labels[rows]).to(self.device)

    def _places(self, epoch: int) -> Iterator[NDArray[np.int64]]:
        of_a_pass, previous = self._batches_of_a_pass(), -1
        for step in range(epoch * len(self), (epoch + 1) * len(self)):
            number, place = divmod(step, of_a_pass)
            if number != previous:
                order = np.random.default_rng([self.seed, 1, number]).permutation(len(self.selected))
                previous = number
            yield order[place * self.batch_size : (place + 1) * self.batch_size]

    def _gather(self, places: NDArray[np.int64]) -> Tensor:
        if self._resident is not None:
            return self._resident.index_select(0, torch.from_numpy(places).to(self.device))
        rows = self.selected[places]
        if self.device.type != "cpu":
            return torch.from_numpy(self.store.images[rows])
        images = self._buffers.take((len(rows), *self.store.images.shape[1:]), np.uint8)
        np.take(self.store.images, rows, axis=0, out=images, mode="clip")  # "raise" goes through a copy
        return torch.from_numpy(images)

    def _to_float(self, images: Tensor) -> Tensor:
        if self.device.type != "cpu":
            return to_float(images, self.device)
        return to_float(images, out=torch.from_numpy(self._buffers.take(tuple(images.shape), np.float32)))

    def _taken_over(self, before: "Batches | None") -> Tensor | None:
        if before is None or before.store is not self.store or before.device != self.device:
            return None
        return before._resident if np.array_equal(before.selected, self.selected) else None

    def _to_device_memory(self) -> Tensor | None:
        if self.device.type != "cuda":
            return None
        shape = (len(self.selected), *self.store.images.shape[1:])
        free, _ = torch.cuda.mem_get_info(self.device)
        # What torch keeps for tensors to come, as after another trial in this process, is free, too.
        free += torch.cuda.memory_reserved(self.device) - torch.cuda.memory_allocated(self.device)
        if np.prod(shape) > free // 2:
            return None
        resident = torch.empty(shape, dtype=torch.uint8, device=self.device)
        for first in range(0, len(resident), 4096):  # in slabs, so that the host holds no second copy
            part = slice(first, first + 4096)
            resident[part] = torch.from_numpy(self.store.images[self.selected[part]])
        return resident


class _Buffers:
    """Memory for batches that is used again once nobody has the batch: fresh pages cost more than the copy.

    A buffer is lent as an array over it. A tensor made of that array, and each view of the tensor, keep the
    array alive; when the last of them is gone, the buffer comes back.
    """

    def __init__(self, kept: int = 6):
        self._kept = kept  # buffers of one size
        self._free: dict[int, list[NDArray[np.uint8]]] = {}

    def take(self, shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
        """Return an array of this shape and type over memory that nobody else has."""
        size = math.prod(shape) * np.dtype(dtype).itemsize
        free = self._free.setdefault(size, [])
        buffer = free.pop() if free else np.empty(size, np.uint8)
        lent = buffer.view(dtype).reshape(shape)
        weakref.finalize(lent, self._take_back, buffer).atexit = False
        return lent

    def _take_back(self, buffer: NDArray[np.uint8]) -> None:
        free = self._free[buffer.size]
        if len(free) < self._kept:
            free.append(buffer)


def to_float(
    images: NDArray[np.uint8] | Tensor, device: str | torch.device | None = None, *, out: Tensor | None = None
) -> Tensor:
    """Map uint8 images (B, H, W, C) to float32 (B, C, H, W) in [-1, 1], (x - 127.5)/127.5, on the device.

    The result keeps the images' order in memory, which is torch's channels_last format. It is written to
    `out`, float32 (B, H, W, C), where that is given.
    """
    if not isinstance(images, Tensor):
        images = torch.from_numpy(images if images.flags.writeable else images.copy())
    images = images.to(device, non_blocking=True)
    x = images.to(torch.float32) if out is None else out.copy_(images)
    return x.sub_(127.5).mul_(1 / 127.5).permute(0, 3, 1, 2)


def to_uint8(images: Tensor) -> Tensor:
    """Map float images (B, C, H, W) in [-1, 1] to uint8 (B, H, W, C): clipped, rounded, never stretched."""
    levels = images.detach().float().clamp(-1, 1).add(1).mul(127.5).round()
    return levels.to(torch.uint8).permute(0, 2, 3, 1).contiguous()
