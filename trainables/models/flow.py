"""Rectified flow (Liu et al. 2023): conditional flow matching (Lipman et al. 2023) along straight lines.

Between noise ε of N(0, I) at time 0 and an image x at time 1 lies x_t = (1 − t)ε + t·x. The network descends

    E ‖v(x_t, t) − (x − ε)‖²,    whose minimum is v(x_t, t) = E[x − ε | x_t],

and dx/dt = v(x, t) leads from noise to an image. Training draws t uniformly or, as Esser et al. (2024,
"Scaling Rectified Flow Transformers", sec. 3.1), as the sigmoid of a normal variable: more often in the
middle, where v is the hardest to tell.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from trainables.models.denoising import DenoisingModel
from trainables.models.losses import single
from trainables.models.ode import Solver, solve
from trainables.models.settings import Count, Positive, Whole

Times = Literal["logit_normal", "uniform"]


@dataclass(frozen=True)
class FlowConfig:
    """Hyperparameters of `Flow`. The last three count when images are drawn, and change no training."""

    image_size: Count = 64
    channels: Count = 3
    classes: Whole = 0
    width: Positive = 1.0
    learning_rate: Positive = 2e-3
    times: Times = "logit_normal"
    sampler: Solver = "euler"
    steps: Count = 5
    guidance: float = 1.0


class Flow(DenoisingModel):
    """Its network is the velocity v."""

    Config = FlowConfig

    def loss(self, x: Tensor, labels: Tensor | None = None) -> Tensor:
        """Return the mean over images and pixels of (v(x_t, t) − (x − ε))², ()."""
        noise, known = self.noise_like(x), self.some_left_out(labels)
        t = draw_times(self.config.times, len(x), self.generator).to(x)
        return flow_loss(lambda between, t: self.network(between, t, known), x, noise, t)

    @torch.no_grad()
    def sample(
        self, n: int, generator: torch.Generator | None = None, labels: Tensor | None = None
    ) -> Tensor:
        """Follow the flow from noise to n images, (n, C, H, W) in [−1, 1]."""
        c, (noise, labels) = self.config, self.start(n, generator, labels)
        times = [step / c.steps for step in range(c.steps + 1)]
        images = solve(
            lambda x, t: self.output(x, torch.full_like(x[:, 0, 0, 0], t), labels), noise, times, c.sampler
        )
        return images.clamp(-1, 1)


def draw_times(times: Times, n: int, generator: torch.Generator) -> Tensor:
    """Draw n times in [0, 1], (n,)."""
    if times == "uniform":
        return torch.rand(n, generator=generator, device=generator.device)
    return torch.randn(n, generator=generator, device=generator.device).sigmoid()


def flow_loss(velocity: Callable[[Tensor, Tensor], Tensor], x: Tensor, noise: Tensor, t: Tensor) -> Tensor:
    """Return the mean of (v(x_t, t) − (x − ε))², (), for x and noise of one shape (B, …) and times (B,)."""
    between = torch.lerp(noise, x, t.view(-1, *(1 for _ in x.shape[1:])))
    return (single(velocity(between, t)) - (x - noise)).square().mean()
