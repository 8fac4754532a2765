"""What a model of images given their class has beside the contract of `base.py`."""

from typing import Any

import torch
from torch import Tensor

from trainables.models.base import GenerativeModel

UNKNOWN = -1


class ConditionalModel(GenerativeModel):
    """A model whose training and samples take labels: int64 (B,), from 0, `UNKNOWN` where there is none.

    Its `Config` has a field `classes`, K, with 0 as the default: the trainable sets it to the number of the
    data set's classes, or 1 where the images have none, and passes all labels as 0 where it was set to 1.
    A subclass defines `loss(x, labels)` or `training_step(x, labels)`, and `sample(n, generator, labels)`,
    which draws labels by `draw_labels` where it is given none. `class_shares` (K,) are those of the training
    images, a buffer that the trainable sets.
    """

    class_shares: Tensor

    def __init__(self, config: Any, **keywords: Any):
        super().__init__(config, **keywords)
        classes = max(1, config.classes)
        self.register_buffer("class_shares", torch.full((classes,), 1 / classes, device=self.device))

    def loss(self, x: Tensor, labels: Tensor | None = None) -> Tensor:
        """Return what the inherited training step descends, (), of a batch and its labels (B,)."""
        raise NotImplementedError(f"{type(self).__name__} defines neither loss nor training_step")

    def training_step(self, x: Tensor, labels: Tensor | None = None) -> dict[str, Tensor]:
        """Do as the base's, with labels (B,); None: all are unknown."""
        return self.descend_parts(x, self.known(len(x), labels))

    def sample(
        self, n: int, generator: torch.Generator | None = None, labels: Tensor | None = None
    ) -> Tensor:
        """Return an image of each of n labels, (n, C, H, W) in [−1, 1]; None: as frequent as in training."""
        raise NotImplementedError(f"{type(self).__name__} doesn't define sample(n, generator, labels)")

    def known(self, n: int, labels: Tensor | None) -> Tensor:
        """Return n labels on the model's device: `UNKNOWN` where none were given."""
        return torch.full((n,), UNKNOWN, device=self.device) if labels is None else labels.to(self.device)

    def draw_labels(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """Draw n labels, (n,), with `class_shares` as their probabilities."""
        source = generator or self.generator
        shares = self.class_shares.to(source.device)
        return torch.multinomial(shares, n, replacement=True, generator=source).to(self.device)
