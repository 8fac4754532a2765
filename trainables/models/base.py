"""The contract between a generative model and the trainable that trains it."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, fields
from typing import Any, ClassVar, get_origin

import torch
from torch import Tensor, nn

import trainables.late_compiler
import trainables.torchvision_shim  # noqa: F401  before a person's model imports torchvision
from trainables.models.losses import gaussian_log_likelihood, kl_divergence, reparameterize
from trainables.models.settings import check_values, kinds_of


@dataclass(frozen=True)
class ElboTerms:
    """The evidence lower bound of each image and its parts, in nats, each of shape (B,).

    elbo = log_likelihood − kl_divergence, at β = 1 whatever β the model was trained with. A model with a
    Gaussian posterior also gives the posterior's mean and the KL of each latent unit, both (B, M).
    """

    elbo: Tensor
    log_likelihood: Tensor
    kl_divergence: Tensor
    mean: Tensor | None = None
    unit_kl: Tensor | None = None


class GenerativeModel(nn.Module):
    """Networks, losses and one training step.

    The contract:

    - Images are floats in [−1, 1], shape (B, C, H, W), on the way in and on the way out.
    - `Config` is a frozen dataclass of hyperparameters. A model reads its settings from nowhere else.
    - `build` sets the networks and `build_optimizers` returns the optimizers, by name.
    - `training_step` updates the networks on one batch and returns named scalar losses, detached.
    - `sample` returns n images from the prior. Where there is an encoder, `has_encoder` is true,
      `reconstruct` returns images decoded from their own latents, and `elbo` returns `ElboTerms`.
    - All randomness after construction comes from `self.generator`, and construction depends on the config
      and the seed alone.
    - `training_state` holds all that the next step depends on, so that a model restored on a CPU goes on
      bit-equal. The optimizers' options are the exception: those of the restoring model's config stand.
    - `progress` is the fraction of training done, in [0, 1], and part of `training_state`. The trainable sets
      it before each step. A model that `needs_progress` has its schedule by it.
    - `sampling_settings` names the fields of `Config` that count in `sample` alone: numbers of steps.

    A subclass defines `build`; either `loss` alone, or `build_optimizers` and `training_step`; `decode`, and
    `encode` where it has an encoder, or `sample` in place of them. The inherited `sample`, `reconstruct` and
    `elbo` assume a standard normal prior and a diagonal Gaussian posterior, which others override.

    `scale_losses` is for training under float16's autocast, where small gradients would become 0. A training
    step then multiplies the loss of each optimizer by that optimizer's `loss_scale`, and `update` divides the
    gradients by it (Micikevicius et al. 2018, sec. 3.2).
    """

    Config: ClassVar[type]
    RECIPES: ClassVar[dict[str, dict[str, Any]]] = {}  # named settings: what differs from Config's defaults
    has_encoder: ClassVar[bool] = False
    likelihood: ClassVar[str | None] = None  # the family and the pixel scale in which `elbo` is computed
    needs_progress: ClassVar[bool] = False
    settles_prior: ClassVar[bool] = False
    sampling_settings: ClassVar[tuple[str, ...]] = ()  # fields of Config that count in `sample` alone

    def __init__(
        self, config: Any, *, device: torch.device | str = "cpu", seed: int = 0, scale_losses: bool = False
    ):
        super().__init__()
        self.config = config
        check_values(config)
        self.device = torch.device(device)
        self.progress = 0.0
        self.accumulate = 1
        # Over a trial's processes, where there are several; values in place.
        self.average_gradients: Callable[[torch.optim.Optimizer], None] | None = None
        self.average_values: Callable[[list[Tensor]], None] | None = None
        self.generator = torch.Generator(self.device).manual_seed(seed)
        with torch.random.fork_rng(devices=[]):  # leaves the process's own random state as it was
            torch.manual_seed(seed)
            self.build()
        # The image store keeps rows as (H, W, C), and a batch keeps that order as its strides.
        self.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stubs
        self.optimizers = self.build_optimizers()
        self._check_parts()
        for optimizer in self.optimizers.values():  # autocast would go on with the weights of before the step
            optimizer.register_step_post_hook(lambda *_: torch.clear_autocast_cache())
        self.options = {name: _options(optimizer) for name, optimizer in self.optimizers.items()}
        kind = self.device.type
        self.scalers = {name: torch.amp.GradScaler(kind, enabled=scale_losses) for name in self.optimizers}
        self.compiled = False

    def _check_parts(self) -> None:
        """Raise TypeError where what a subclass built is not what the contract says."""
        name, optimizers = type(self).__name__, self.optimizers
        if not isinstance(self.generator, torch.Generator):
            raise TypeError(
                f"{name}.generator is the model's source of random numbers; a network needs another name"
            )
        kind = type(self)
        if kind.sample is GenerativeModel.sample and kind.decode is GenerativeModel.decode:
            raise TypeError(f"{name} defines neither sample(n, generator) nor decode: how does it draw?")
        inherited = kind.build_optimizers is GenerativeModel.build_optimizers
        if inherited and hasattr(kind, "configure_optimizers"):
            raise TypeError(
                f"{name} defines configure_optimizers, which nothing calls; here it is build_optimizers, "
                "which returns a dictionary of optimizers by name"
            )
        if not (isinstance(optimizers, dict) and optimizers):
            raise TypeError(
                f"{name}.build_optimizers returns {type(optimizers).__name__}; it must return a dictionary "
                'of optimizers by name, such as {"model": Adam(…)}'
            )
        for key, optimizer in optimizers.items():
            if not isinstance(optimizer, torch.optim.Optimizer) or isinstance(optimizer, torch.optim.LBFGS):
                raise TypeError(
                    f"{name}'s optimizer {key!r} is a {type(optimizer).__name__}; it must be one of "
                    "torch.optim that steps without a closure"
                )

    @classmethod
    def configure(cls, values: dict[str, Any]) -> Any:
        """Return the Config of these values. `recipe` among them names a recipe, which the others change.

        Raises ValueError, listing the valid names, where a hyperparameter or a recipe is unknown.
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
        kinds = kinds_of(cls.Config)
        for name, value in values.items():
            if isinstance(value, list) and tuple in (kinds[name], get_origin(kinds[name])):
                values[name] = tuple(value)  # which JSON has no other word for
        return cls.Config(**{**cls.RECIPES.get(recipe, {}), **values})

    def build(self) -> None:
        """Set the networks, initialized, as attributes."""
        raise NotImplementedError

    def build_optimizers(self) -> dict[str, torch.optim.Optimizer]:
        """Return the optimizers by name. The networks are on their device already.

        Here it is one Adam, at the config's `learning_rate` if it has one, for a model that defines `loss`.
        """
        rate = getattr(self.config, "learning_rate", 1e-3)
        return {"model": torch.optim.Adam(self.parameters(), lr=rate)}

    def loss(self, x: Tensor) -> Tensor:
        """Return what the inherited training step descends, (), of a batch."""
        raise NotImplementedError(f"{type(self).__name__} defines neither loss nor training_step")

    def training_step(self, x: Tensor) -> dict[str, Tensor]:
        """Update the networks on a batch and return named scalar losses, detached.

        Here it descends `loss`, of the batch in `accumulate` parts one after another, where memory is short.
        """
        return self.descend_parts(x)

    def descend_parts(self, *batch: Tensor) -> dict[str, Tensor]:
        """Descend `loss` of a batch, whose tensors are its arguments, in `accumulate` parts; return it."""
        self.train()
        kind, (name, *others) = type(self).__name__, self.optimizers
        if others:
            raise TypeError(
                f"{kind} has {1 + len(others)} optimizers, and loss descends one: define training_step"
            )
        self.optimizers[name].zero_grad()
        total = torch.zeros((), device=self.device)
        for part in zip(*(values.tensor_split(self.accumulate) for values in batch), strict=True):
            loss = self.loss(*part)
            if not isinstance(loss, Tensor) or loss.dim():
                found = tuple(loss.shape) if isinstance(loss, Tensor) else type(loss).__name__
                raise TypeError(
                    f"{kind}.loss returned {found}; it must be one number, a tensor such as a mean"
                )
            loss = loss * (len(part[0]) / len(batch[0]))
            (self.loss_scale(name) * loss).backward()
            total += loss.detach()
        self.update(name)
        return {"loss": total}

    def loss_scale(self, name: str) -> Tensor:
        """Return the factor, (), by which an optimizer's loss is multiplied: 1 without `scale_losses`."""
        return self.scalers[name].scale(torch.ones((), device=self.device))

    def update(self, name: str, max_norm: float | None = None) -> Tensor | None:
        """Step an optimizer or, where a scaled gradient overflowed, halve its `loss_scale` instead.

        With `max_norm`, clip the gradients' joint norm to it first, and return the norm as it was before.
        """
        scaler, optimizer, norm = self.scalers[name], self.optimizers[name], None
        if self.average_gradients:
            self.average_gradients(optimizer)
        scaler.unscale_(optimizer)  # a fused step unscales on its own, but leaves the gradients scaled
        if max_norm is not None:
            norm = nn.utils.clip_grad_norm_(
                [p for group in optimizer.param_groups for p in group["params"]], max_norm
            )
        scaler.step(optimizer)
        scaler.update()
        return norm

    def descend(self, name: str, loss: Tensor, max_norm: float | None = None) -> Tensor | None:
        """Take one step of an optimizer down a loss, (). `max_norm` and the result are `update`'s."""
        self.optimizers[name].zero_grad()
        (self.loss_scale(name) * loss).backward()
        return self.update(name, max_norm)

    def compile(self) -> None:
        """Let `torch.compile` compile each stack of layers, or network, in the step that first needs it."""
        import torch._functorch.config  # importing the compiler takes seconds

        torch.compiler.reset()  # kernels of another model in this process would count against the limit
        torch.compiler.config.recompile_limit = 64  # all stacks share one count, and run eagerly beyond it
        torch._functorch.config.donated_buffer = False  # training steps go back through a graph twice
        for stack in _stacks(self):
            stack.forward = torch.compile(stack.forward)
        self.compiled = True

    def scale_rates(self, share: float) -> None:
        """Set each optimizer's learning rates to this share of those that it was built with."""
        for name, optimizer in self.optimizers.items():
            for group, built in zip(optimizer.param_groups, self.options[name], strict=True):
                group["lr"] = share * built["lr"]

    def eager(self) -> AbstractContextManager[Any]:
        """Return a context in which nothing runs compiled, as second derivatives and evaluation need it."""
        return torch.compiler.set_stance("force_eager") if self.compiled else nullcontext()

    def decode(self, z: Tensor) -> Tensor:
        """Return the images of latents (B, M)."""
        raise NotImplementedError

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor] | Tensor:
        """Return the mean and the log-variance of q(z|x), each (B, M).

        A model of discrete latents returns codes (B, P), int64, and overrides what is inherited here.
        """
        raise NotImplementedError

    def log_likelihood(self, x: Tensor, reconstruction: Tensor) -> Tensor:
        """Return log p(x|z) of each image, (B,), in nats. Here it is N(x | x̂, I) on pixels in [−1, 1]."""
        return gaussian_log_likelihood(x, reconstruction)

    def prior_sample(self, n: int, generator: torch.Generator) -> Tensor:
        """Draw n latents from the prior, (n, M)."""
        noise = torch.randn(n, self.config.latent_dim, generator=generator, device=generator.device)
        return self.from_noise(noise.to(self.device))

    @classmethod
    def decodes_noise(cls) -> bool:
        """Whether a sample is `from_noise`, decoded: not with a flow or a diffusion in between."""
        inherited = GenerativeModel
        return cls.sample is inherited.sample and cls.prior_sample is inherited.prior_sample

    def from_noise(self, noise: Tensor) -> Tensor:
        """Return draws of the prior made of those of N(0, I), (n, M) -> (n, M): an affine map, here none."""
        return noise

    def settle_prior(self, posterior: nn.Module) -> None:
        """Take the aggregate posterior's moments (`fitted_prior.FittedPrior`) where `settles_prior`.

        The trainable measures them on training images before it evaluates.
        """
        raise NotImplementedError

    @torch.no_grad()
    def sample(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """Decode n draws from the prior, in evaluation mode: (n, C, H, W) in [−1, 1]."""
        self.eval()
        return self.decode(self.prior_sample(n, generator or self.generator))

    @torch.no_grad()
    def reconstruct(self, x: Tensor) -> Tensor:
        """Decode the posterior mean of x, in evaluation mode."""
        self.eval()
        return self.decode(self.encode(x)[0])

    @torch.no_grad()
    def elbo(self, x: Tensor, generator: torch.Generator | None = None) -> ElboTerms:
        """Bound log p(x) from below with one posterior sample an image, in evaluation mode ([BVG] eq. 2)."""
        self.eval()
        mean, log_variance = self.encode(x)
        z = reparameterize(mean, log_variance, generator or self.generator)
        log_likelihood = self.log_likelihood(x, self.decode(z))
        unit_kl = kl_divergence(mean, log_variance)
        kl = unit_kl.sum(1)
        return ElboTerms(log_likelihood - kl, log_likelihood, kl, mean, unit_kl)

    def hyperparameters(self) -> dict[str, Any]:
        """Return the configuration as a flat dictionary of plain values."""
        return asdict(self.config)

    def training_state(self) -> dict[str, Any]:
        """Return what the next step depends on: parameters, buffers, optimizers, loss scales, RNG."""
        return {
            "networks": self.state_dict(),
            "optimizers": {name: optimizer.state_dict() for name, optimizer in self.optimizers.items()},
            "options": self.options,
            "scalers": {name: scaler.state_dict() for name, scaler in self.scalers.items()},
            "generator": self.generator.get_state(),
            "progress": self.progress,
        }

    def load_training_state(self, state: dict[str, Any]) -> None:
        """Restore `training_state`. On a CPU the steps that follow are bit-equal to uninterrupted ones.

        An option that this model's config set otherwise than the saved model's, such as a learning rate that
        population-based training has changed, stays as this config set it. An option that both set alike is
        restored, since a schedule may have moved it. An optimizer of another kind than the saved one begins
        afresh.

        Raises RuntimeError where the networks differ from those that were saved, or losses are scaled now and
        were not then.
        """
        self.load_state_dict(state["networks"])
        for name, optimizer in self.optimizers.items():
            _load_optimizer(optimizer, self.options[name], state["optimizers"][name], state["options"][name])
            self.scalers[name].load_state_dict(state["scalers"][name])
        self.generator.set_state(state["generator"].cpu())
        self.progress = state["progress"]


def _options(optimizer: torch.optim.Optimizer) -> list[dict[str, Any]]:
    """Return the options of each parameter group, such as its learning rate, as they are now."""
    return [
        {key: value for key, value in group.items() if key != "params"} for group in optimizer.param_groups
    ]


def _load_optimizer(
    optimizer: torch.optim.Optimizer,
    built: list[dict[str, Any]],
    state: dict[str, Any],
    saved: list[dict[str, Any]],
) -> None:
    """Restore an optimizer's `state_dict`, then set the options that were `built` unlike the `saved`."""
    if [options.keys() for options in built] != [options.keys() for options in saved]:
        return  # another kind of optimizer, whose moments mean something else
    optimizer.load_state_dict(state)
    for group, ours, theirs in zip(optimizer.param_groups, built, saved, strict=True):
        group.update({key: value for key, value in ours.items() if value != theirs[key]})


def _stacks(model: nn.Module) -> Iterator[nn.Module]:
    """Yield the outermost stacks of layers of each network, and networks that have none."""
    for network in model.children():
        stacks: list[nn.Module] = list(_sequentials(network))
        yield from stacks or [network]


def _sequentials(module: nn.Module) -> Iterator[nn.Sequential]:
    if isinstance(module, nn.Sequential):
        yield module
    else:
        for child in module.children():
            yield from _sequentials(child)
