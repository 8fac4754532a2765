"""What every generative model offers to the trainable that trains it."""

from dataclasses import asdict, dataclass, fields
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from trainables.models.losses import gaussian_log_likelihood, kl_divergence, reparameterise


@dataclass(frozen=True)
class ElboTerms:
    """The evidence lower bound of each image and its parts, in nats, each of shape (B,).

    elbo = log_likelihood − kl_divergence, at β = 1 whatever β the model was trained with. A model whose
    posterior is Gaussian also gives that one's mean and each latent unit's part of the KL, both (B, M).
    """

    elbo: Tensor
    log_likelihood: Tensor
    kl_divergence: Tensor
    mean: Tensor | None = None
    unit_kl: Tensor | None = None


class GenerativeModel(nn.Module):
    """Networks, losses and one training step. Images are floats in [−1, 1], shape (B, C, H, W).

    A subclass defines `build`, `build_optimizers`, `training_step` and `decode`, and `encode` where it has
    an encoder. `sample`, `reconstruct` and `elbo` then follow for a standard normal prior and a diagonal
    Gaussian posterior; a model with other ones overrides them. Construction is a function of the seed, and
    all randomness after it comes from `self.generator`, so that `training_state` restores exactly.
    """

    Config: ClassVar[type]
    RECIPES: ClassVar[dict[str, dict[str, Any]]] = {}  # named settings, as changes to Config's defaults
    has_encoder: ClassVar[bool] = False
    likelihood: ClassVar[str | None] = None  # the family and pixel scale that `elbo` is in

    def __init__(self, config: Any, *, device: torch.device | str = "cpu", seed: int = 0):
        super().__init__()
        self.config = config
        self.device = torch.device(device)
        self.generator = torch.Generator(self.device).manual_seed(seed)
        with torch.random.fork_rng(devices=[]):  # leaves the process's own random state as it was
            torch.manual_seed(seed)
            self.build()
        # Rows of the image store are (H, W, C), which a batch keeps as its strides.
        self.to(self.device, memory_format=torch.channels_last)
        self.optimizers = self.build_optimizers()

    @classmethod
    def configure(cls, values: dict[str, Any]) -> Any:
        """Return the Config of these values; `recipe` names a setting that the other values change.

        Raises ValueError that lists the valid names where a hyperparameter or a recipe is unknown.
        """
        values = dict(values)
        recipe = values.pop("recipe", None)
        if recipe is not None and recipe not in cls.RECIPES:
            known = ", ".join(cls.RECIPES) or "none"
            raise ValueError(f"{cls.__name__} has no recipe {recipe!r}; its recipes: {known}")
        names = [field.name for field in fields(cls.Config)]
        unknown = [name for name in values if name not in names]
        if unknown:
            raise ValueError(
                f"{cls.__name__} has no hyperparameter {unknown[0]!r}; it has: {', '.join(names)}"
            )
        return cls.Config(**{**cls.RECIPES.get(recipe, {}), **values})

    def build(self) -> None:
        """Set the networks as attributes, initialised."""
        raise NotImplementedError

    def build_optimizers(self) -> dict[str, torch.optim.Optimizer]:
        """Return the optimisers by name; the networks are on their device already."""
        raise NotImplementedError

    def training_step(self, x: Tensor) -> dict[str, Tensor]:
        """Update the networks on a batch; return named scalar losses, detached."""
        raise NotImplementedError

    def decode(self, z: Tensor) -> Tensor:
        """Return the images of latents (B, M)."""
        raise NotImplementedError

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and log-variance of q(z|x), each (B, M)."""
        raise NotImplementedError

    def log_likelihood(self, x: Tensor, reconstruction: Tensor) -> Tensor:
        """Return log p(x|z) of each image, (B,), in nats: here N(x | x̂, I) on pixels in [−1, 1]."""
        return gaussian_log_likelihood(x, reconstruction)

    @torch.no_grad()
    def sample(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """Decode n draws from the prior, in evaluation mode: (n, C, H, W) in [−1, 1]."""
        self.eval()
        generator = generator or self.generator
        z = torch.randn(n, self.config.latent_dim, generator=generator, device=generator.device)
        return self.decode(z.to(self.device))

    @torch.no_grad()
    def reconstruct(self, x: Tensor) -> Tensor:
        """Decode the posterior mean of x, in evaluation mode."""
        self.eval()
        return self.decode(self.encode(x)[0])

    @torch.no_grad()
    def elbo(self, x: Tensor, generator: torch.Generator | None = None) -> ElboTerms:
        """Bound log p(x) from below with one posterior sample an image, in evaluation mode (seed eq. 2)."""
        self.eval()
        mean, log_variance = self.encode(x)
        z = reparameterise(mean, log_variance, generator or self.generator)
        log_likelihood = self.log_likelihood(x, self.decode(z))
        unit_kl = kl_divergence(mean, log_variance)
        kl = unit_kl.sum(1)
        return ElboTerms(log_likelihood - kl, log_likelihood, kl, mean, unit_kl)

    def hyperparameters(self) -> dict[str, Any]:
        """Return the configuration as a flat dictionary of plain values."""
        return asdict(self.config)

    def training_state(self) -> dict[str, Any]:
        """Return all that the next training step depends on: parameters, buffers, optimisers, RNG."""
        return {
            "networks": self.state_dict(),
            "optimizers": {name: optimizer.state_dict() for name, optimizer in self.optimizers.items()},
            "generator": self.generator.get_state(),
        }

    def load_training_state(self, state: dict[str, Any]) -> None:
        """Restore `training_state`; on a CPU the steps that follow are bit-equal to uninterrupted ones.

        Raises RuntimeError where the networks differ from those that were saved.
        """
        self.load_state_dict(state["networks"])
        for name, optimizer in self.optimizers.items():
            optimizer.load_state_dict(state["optimizers"][name])
        self.generator.set_state(state["generator"].cpu())
