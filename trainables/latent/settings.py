"""All settings of one run of latent-space optimization."""

from dataclasses import dataclass, fields, replace
from typing import Any, Literal, get_args

Method = Literal["vqvae-retrained", "vqvae", "vae-retrained"]


@dataclass(frozen=True)
class LatentConfig:
    """All settings of a trial, the keys of Tune's flat configuration. The defaults are those of [HP].

    `data_hash` is of the sweep's images: others are refused. `free` is t of the discrete methods.
    `training_scores` says whether an image of the data counts with the scorer's value or with its label.
    `beta_warm_up` and `beta_every` are those of `ConvVAEConfig`.
    """

    method: Method = "vqvae-retrained"
    free: int = 8
    seed: int = 0
    rounds: int = 100
    queries_a_round: int = 5
    dataset: str = "celeba"
    data_hash: str | None = None
    dataset_limit: int | None = None
    data_root: str | None = None
    cache_dir: str | None = None
    crop: Literal["larsen", "square"] | None = None
    image_size: int = 64
    max_degree: float = 2.0
    training_scores: Literal["scorer", "labels"] = "labels"
    scorer_weights: str | None = None
    scorer_epochs: int = 8
    width: float = 1.0
    codes: int = 256
    embedding_dim: int = 64
    codebook: Literal["gradient", "ema"] = "gradient"
    vqvae_epochs: int = 70
    vqvae_batch_size: int = 128
    vqvae_learning_rate: float = 1e-3
    latent_dim: int = 64
    vae_epochs: int = 30
    vae_batch_size: int = 64
    vae_learning_rate: float = 1e-4
    beta_warm_up: int = 5000
    beta_every: int = 50
    trees: int = 800
    tree_learning_rate: float = 0.1
    best_points: int = 2000
    random_points: int = 8000
    first_epochs: float = 1.0
    tuning_epochs: float = 0.1
    trust_radius: int | None = None
    refit_each_query: bool = True
    bootstrap: bool = False
    features: str = "auto"
    feature_weights: str | None = None
    reference_images: int | None = None


def parse_config(config: dict[str, Any]) -> LatentConfig:
    """Return Tune's flat configuration. Raises ValueError, with the valid names, for an unknown key."""
    names = [field.name for field in fields(LatentConfig)]
    unknown = sorted(set(config) - set(names))
    if unknown:
        raise ValueError(
            f"{unknown[0]!r} is no setting of latent optimization; its settings: {', '.join(names)}"
        )
    c = LatentConfig(**config)
    if c.method not in get_args(Method):
        raise ValueError(f"the method is {c.method!r}; it must be one of {', '.join(get_args(Method))}")
    return c


def shared(c: LatentConfig) -> LatentConfig:
    """Keep what images, scorer and features depend on, and reset all else to the defaults."""
    kept = [
        *("dataset", "data_hash", "dataset_limit", "data_root", "cache_dir", "crop", "image_size"),
        *("max_degree", "training_scores", "scorer_weights", "scorer_epochs", "features", "feature_weights"),
    ]
    return replace(LatentConfig(), **{name: getattr(c, name) for name in kept})
