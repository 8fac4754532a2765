"""What flow and diffusion models share: the U-Net, noise, labels that are left out at times, and guidance."""

from typing import ClassVar, get_args, get_type_hints

import torch
from torch import Tensor

from trainables.models.base import GenerativeModel
from trainables.models.losses import single
from trainables.models.unet import UNet


class DenoisingModel(GenerativeModel):
    """A U-Net that sees noisy images, and draws images in several steps from noise.

    Its learning rate and mean weights are the training's: `schedule=cosine ema=0.1` suits it.
    """

    sampling_settings: ClassVar = ("sampler", "steps", "guidance")
    network: UNet

    def build(self) -> None:
        """Build the network. Raises ValueError where a setting is none of those there are."""
        c = self.config
        for name in ("sampler", "times"):
            known = get_args(get_type_hints(type(c)).get(name))
            if known and getattr(c, name) not in known:
                raise ValueError(f"{name} is {getattr(c, name)!r}; choose {', '.join(known)}")
        if c.steps < 1:
            raise ValueError(f"steps is {c.steps}; it must be 1 or more")
        self.network = UNet(c.image_size, c.channels, c.width, c.classes)

    def build_optimizers(self) -> dict[str, torch.optim.Optimizer]:
        """Return one Adam, in one kernel."""
        rate = self.config.learning_rate
        return {"model": torch.optim.Adam(self.parameters(), lr=rate, fused=True)}

    def noise_like(self, x: Tensor) -> Tensor:
        """Draw ε of N(0, I) for images (B, C, H, W), in their order in memory."""
        noise = torch.randn(x.shape, generator=self.generator, device=x.device)
        return torch.empty_like(x).copy_(noise)

    def output(self, x: Tensor, level: Tensor, labels: Tensor | None) -> Tensor:
        """Return the network's output for drawing, (B, C, H, W), guided where there are labels.

        F(x, ∅) + guidance·(F(x, y) − F(x, ∅)) (Ho & Salimans 2022, eq. 6; 1 is without guidance).
        """
        guidance = self.config.guidance
        if labels is None or guidance == 1:
            return single(self.network(x, level, labels))
        both = torch.cat([labels, torch.full_like(labels, -1)])
        told, untold = single(self.network(x.repeat(2, 1, 1, 1), level.repeat(2), both)).chunk(2)
        return torch.lerp(untold, told, guidance)

    def start(self, n: int, generator: torch.Generator | None) -> Tensor:
        """Draw the noise of n images, (n, C, H, W), and go to evaluation mode."""
        self.eval()
        c, source = self.config, generator or self.generator
        shape = (n, c.channels, c.image_size, c.image_size)
        noise = torch.randn(shape, generator=source, device=source.device).to(self.device)
        return noise.contiguous(memory_format=torch.channels_last)
