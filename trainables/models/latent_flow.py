"""A flow in the latent space of an autoencoder: two stages, as in latent diffusion (Rombach et al. 2022).

The first stage is a trained model whose codes are Gaussians, in a folder that `storage.save_model` wrote (as
a sweep's `results/NAME/models/TRIAL`), and stays as it is; or, without `first_stage`, a β-VAE of the recipe
"modern" that is trained for the first `first_share` of training. Then rectified flow (`flow.py`) learns where
the codes of images are, in units of their own mean and deviation: a prior of any shape, where those of
`evaluation.ex_post` are one Gaussian or some.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from trainables.models.base import ElboTerms, GenerativeModel
from trainables.models.fitted_prior import WINDOW, FittedPrior
from trainables.models.flow import Times, draw_times, flow_loss
from trainables.models.losses import reparameterize, single
from trainables.models.modern import ModernVAE
from trainables.models.ode import Solver, solve
from trainables.models.schedule import power_mean, rate_share
from trainables.models.settings import BelowOne, Count, NotNegative, Positive
from trainables.models.storage import DESCRIPTION, described_model, load_model, trusted
from trainables.models.unet import Level

MEAN_WIDTH = 0.1  # of the running mean of the flow's weights, as a share of its steps
BLOCKS = 3
OF_FIRST_STAGE = ("width", "latent_dim", "beta", "first_share")


@dataclass(frozen=True)
class LatentFlowConfig:
    """Hyperparameters of `LatentFlow`. Those in `OF_FIRST_STAGE` are of a VAE that is trained here."""

    image_size: Count = 64
    channels: Count = 3
    width: Positive = 1.0
    latent_dim: Count = 64
    beta: NotNegative = 5.0
    first_stage: str = ""
    first_share: BelowOne = 0.7
    hidden: Count = 256
    learning_rate: Positive = 2e-3
    times: Times = "logit_normal"
    sampler: Solver = "midpoint"
    steps: Count = 10


class LatentNetwork(nn.Module):
    """The velocity of codes (B, M) at times (B,): residual blocks that are told the time."""

    def __init__(self, latent_dim: int, hidden: int):
        super().__init__()
        self.level = Level(hidden)
        self.input = nn.Linear(latent_dim, hidden)
        self.blocks = nn.ModuleList(
            nn.Sequential(
                nn.LayerNorm(hidden), nn.Linear(hidden, hidden), nn.SiLU(), nn.Linear(hidden, hidden)
            )
            for _ in range(BLOCKS)
        )
        self.output = nn.Sequential(nn.LayerNorm(hidden), nn.Linear(hidden, latent_dim))
        self.passed = nn.Linear(hidden, 1)
        for parameter in (*self.output[1].parameters(), *self.passed.parameters()):
            nn.init.zeros_(parameter)

    def forward(self, z: Tensor, t: Tensor) -> Tensor:
        """Return (B, M)."""
        embedding = self.level(t)
        h = self.input(z)
        for block in self.blocks:
            h = h + block(h + embedding)
        result: Tensor = self.output(h) + self.passed(embedding) * z
        return result


class LatentFlow(GenerativeModel):
    """An autoencoder whose samples are decoded from a flow; its other scores are the autoencoder's own."""

    Config = LatentFlowConfig
    config: LatentFlowConfig
    has_encoder = True
    needs_progress = True
    settles_prior = True
    sampling_settings = ("sampler", "steps")
    autoencoder: GenerativeModel

    def __init__(self, config: LatentFlowConfig, **options: Any):
        super().__init__(config, **options)
        self.autoencoder.scalers = self.scalers
        self.autoencoder.generator = self.generator
        self.steps = 0

    def build(self) -> None:
        """Build both stages.

        Raises ValueError where the first is no autoencoder of such images, or is another than is asked for.
        """
        c = self.config
        self.autoencoder = first = self.first_stage()
        name = type(first).__name__
        if not (first.has_encoder and hasattr(first.config, "latent_dim")):
            raise ValueError(f"first_stage is a {name}: it needs an encoder and codes that are Gaussians")
        sizes = (first.config.image_size, first.config.channels)
        if sizes != (c.image_size, c.channels):
            raise ValueError(
                f"first_stage is of images of size and channels {sizes}, and these are of "
                f"{c.image_size, c.channels}"
            )
        for name in OF_FIRST_STAGE if c.first_stage else ():
            value, own = getattr(c, name), getattr(first.config, name, None)
            if value not in (getattr(LatentFlowConfig, name), own):
                raise ValueError(
                    f"{name} is {value}: with a first_stage, which is trained, it changes nothing"
                )
        self.config = replace(c, latent_dim=first.config.latent_dim)
        self.network = LatentNetwork(self.config.latent_dim, c.hidden)
        mean = AveragedModel(self.network, multi_avg_fn=power_mean(MEAN_WIDTH))
        self.averaged_network = mean.requires_grad_(False)
        self.moments = FittedPrior(self.config.latent_dim)

    def first_stage(self) -> GenerativeModel:
        """Return the trained first stage, or the VAE that is to be it."""
        c = self.config
        if not c.first_stage:
            names = ("image_size", "channels", "width", "latent_dim", "beta", "learning_rate")
            settings = {name: getattr(c, name) for name in names}
            return ModernVAE(ModernVAE.configure(settings), device=self.device, seed=torch.initial_seed())
        folder = None if c.first_stage.startswith("{") else Path(c.first_stage).expanduser()
        try:
            description = json.loads((folder / DESCRIPTION).read_text() if folder else c.first_stage)
            module = description["model"].partition(":")[0]
            if module.partition(".")[0] not in trusted():  # no trial of a sweep trusts another one
                raise ValueError(
                    f"first_stage is {description['model']}: only a model of this project can be one"
                )
            # With a description alone, the weights come with this model's own.
            return load_model(folder, self.device) if folder else described_model(description, self.device)
        except OSError as error:
            raise ValueError(f"first_stage is {c.first_stage}, which holds no saved model") from error

    @property
    def share(self) -> float:
        """The share of training in which the autoencoder is trained."""
        return 0.0 if self.config.first_stage else self.config.first_share

    def build_optimizers(self) -> dict[str, torch.optim.Optimizer]:
        """Return Adam for the flow, and the autoencoder's where it is trained."""
        flow = torch.optim.Adam(self.network.parameters(), lr=self.config.learning_rate, fused=True)
        return {**(self.autoencoder.optimizers if self.share else {}), "flow": flow}

    def training_step(self, x: Tensor) -> dict[str, Tensor]:
        """Train the autoencoder or, once its share is over, the flow on a draw of each image's posterior."""
        if self.progress < self.share:
            self.autoencoder.progress = self.progress / self.share
            return self.autoencoder.training_step(x)
        self.train()
        self.autoencoder.eval()
        if not self.steps:  # the first stage's last gradients are nobody's any more
            self.autoencoder.zero_grad()
        with torch.no_grad():
            mean, log_variance = (single(part) for part in self.autoencoder.encode(x))
            if self.moments.batches < WINDOW:
                self.moments.follow(mean, log_variance)
            codes = (reparameterize(mean, log_variance, self.generator) - self.moments.mean) / self.scale()
        t = draw_times(self.config.times, len(x), self.generator).to(codes)
        noise = torch.randn(codes.shape, generator=self.generator, device=self.device).to(codes)
        rate = rate_share(self.steps, (self.progress - self.share) / (1 - self.share))
        for group in self.optimizers["flow"].param_groups:
            group["lr"] = self.config.learning_rate * rate
        loss = flow_loss(self.network, codes, noise, t)
        self.descend("flow", loss)
        self.averaged_network.update_parameters(self.network)
        self.steps += 1
        return {"flow": loss.detach()}

    def scale(self) -> Tensor:
        """Return the deviation of each unit over the codes of all images, (M,)."""
        return self.moments.covariance().diagonal().clamp(min=1e-12).sqrt()

    @torch.no_grad()
    def prior_sample(self, n: int, generator: torch.Generator) -> Tensor:
        """Draw n codes that the flow leads to, (n, M); of the autoencoder's own prior until it has begun."""
        if not self.moments.batches:
            return self.autoencoder.prior_sample(n, generator)
        c = self.config
        noise = torch.randn(n, c.latent_dim, generator=generator, device=generator.device).to(self.device)
        times = [step / c.steps for step in range(c.steps + 1)]
        codes = solve(
            lambda z, t: single(self.averaged_network(z, torch.full_like(z[:, 0], t))),
            noise,
            times,
            c.sampler,
        )
        return self.from_noise(codes)

    def from_noise(self, noise: Tensor) -> Tensor:
        """Return what is in units of the codes' own mean and deviation as codes, (n, M) -> (n, M)."""
        if not self.moments.batches:
            return self.autoencoder.from_noise(noise)
        return self.moments.mean + self.scale() * noise

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor] | Tensor:
        """Return the autoencoder's mean and log-variance, each (B, M)."""
        return self.autoencoder.encode(x)

    def decode(self, z: Tensor) -> Tensor:
        """Return the autoencoder's images of codes (B, M)."""
        return self.autoencoder.decode(z)

    def elbo(self, x: Tensor, generator: torch.Generator | None = None) -> ElboTerms:
        """Return the autoencoder's bound, with its own prior."""
        self.eval()
        return self.autoencoder.elbo(x, generator or self.generator)

    def settle_prior(self, posterior: nn.Module) -> None:
        """Let the autoencoder take the moments, where its prior has them."""
        if self.autoencoder.settles_prior:
            self.autoencoder.settle_prior(posterior)

    def hyperparameters(self) -> dict[str, Any]:
        """Return the configuration; of the first stage it holds what rebuilds it without its folder."""
        first = self.config.first_stage
        if first and not first.startswith("{"):
            kept: Mapping[str, Any] = json.loads((Path(first).expanduser() / DESCRIPTION).read_text())
            first = json.dumps({name: kept[name] for name in ("model", "config")})
        return super().hyperparameters() | {"first_stage": first}

    def training_state(self) -> dict[str, Any]:
        """Return what the next step depends on, the numbers of steps among it."""
        return super().training_state() | {"steps": (self.steps, getattr(self.autoencoder, "steps", 0))}

    def load_training_state(self, state: dict[str, Any]) -> None:
        """Restore `training_state`; it raises as the base class does."""
        super().load_training_state(state)
        self.steps, self.autoencoder.steps = state["steps"]
