"""What flow and diffusion models share: the U-Net, noise, labels that are left out at times, and guidance."""

from typing import ClassVar

import torch
from torch import Tensor

from trainables.models.conditional import UNKNOWN, ConditionalModel
from trainables.models.losses import single
from trainables.models.unet import UNet

LEFT_OUT = 0.1  # of the labels (Ho & Salimans 2022, sec. 4: 0.1 and 0.2 do equally well)


class DenoisingModel(ConditionalModel):
    """A U-Net that sees noisy images, and draws images in several steps from noise.

    Its learning rate's schedule and mean weights are the training's: `schedule=cosine ema=0.1` suits it. A
    tenth of the labels is left out in training, so that it also knows images of no class in particular.
    """

    sampling_settings: ClassVar[tuple[str, ...]] = ("sampler", "steps", "guidance")
    network: UNet

    def build(self) -> None:
        """Build the network. Raises ValueError for guidance to no class."""
        c = self.config
        if c.guidance != 1 and c.classes < 2:
            raise ValueError(f"guidance is {c.guidance:g}, and there are no classes: it would change nothing")
        self.network = UNet(c.image_size, c.channels, c.width, c.classes if c.classes > 1 else 0)

    def build_optimizers(self) -> dict[str, torch.optim.Optimizer]:
        """Return one Adam, in one kernel."""
        rate = self.config.learning_rate
        return {"model": torch.optim.Adam(self.parameters(), lr=rate, fused=True)}

    def noise_like(self, x: Tensor) -> Tensor:
        """Draw ε of N(0, I) for images (B, C, H, W), in their order in memory."""
        noise = torch.randn(x.shape, generator=self.generator, device=x.device)
        return torch.empty_like(x).copy_(noise)

    def some_left_out(self, labels: Tensor | None) -> Tensor | None:
        """Return the labels (B,) with a tenth of them unknown, where there are classes."""
        if labels is None or self.config.classes < 2:
            return None
        left_out = torch.rand(len(labels), generator=self.generator, device=labels.device) < LEFT_OUT
        return labels.masked_fill(left_out, UNKNOWN)

    def output(self, x: Tensor, level: Tensor, labels: Tensor | None) -> Tensor:
        """Return the network's output, (B, C, H, W), guided in evaluation mode where there are labels.

        F(x, ∅) + guidance·(F(x, y) − F(x, ∅)) (Ho & Salimans 2022, eq. 6; 1 is without guidance).
        """
        guidance = self.config.guidance
        if labels is None or guidance == 1 or self.training:
            return single(self.network(x, level, labels))
        both = torch.cat([labels, torch.full_like(labels, UNKNOWN)])
        told, untold = single(self.network(x.repeat(2, 1, 1, 1), level.repeat(2), both)).chunk(2)
        return torch.lerp(untold, told, guidance)

    def start(
        self, n: int, generator: torch.Generator | None, labels: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        """Go to evaluation mode; draw the noise of n images, (n, C, H, W), and their labels if not given."""
        self.eval()
        c, source = self.config, generator or self.generator
        if c.classes < 2:
            labels = None
        elif labels is None:
            labels = self.draw_labels(n, source)
        shape = (n, c.channels, c.image_size, c.image_size)
        noise = torch.randn(shape, generator=source, device=source.device).to(self.device)
        return noise.contiguous(memory_format=torch.channels_last), labels
