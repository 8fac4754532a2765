"""Happy People: discrete latent-space optimisation against its two ablations and a continuous baseline.

A trial is one optimisation run, a step one round of queries with its fine-tuning. The sweep is the grid of
methods, free positions t and seeds; it ends with the seed's Figures 1 and 3 and Table 1.
"""

import sys
from dataclasses import dataclass
from typing import Any, Literal

from searchers.study.config import RunConfig
from searchers.sweep.cli import main_of

PROGRAM = "python -m searchers.happy_people"
Method = Literal["vqvae-retrained", "vqvae", "vae-retrained"]


@dataclass(frozen=True)
class HappyPeopleConfig(RunConfig):
    """Settings of one run of the sweep. The command line is this class."""

    dataset: str = "faces"
    """faces (drawn, embedded), celeba, or a path; its classes must be smile degrees, or smiling and not"""
    max_degree: float = 2.0
    """the generators see images up to this smile degree only"""
    scorer_weights: str | None = None
    """file of a smile classifier; trained on the data's labels, if not given"""
    methods: tuple[Method, ...] = ("vqvae-retrained", "vqvae", "vae-retrained")
    """what is compared"""
    free: tuple[int, ...] = (4, 8, 16)
    """numbers t of latent positions that a query may change"""
    seeds: int = 2
    """runs of each setting"""
    queries: int = 60
    """images a run asks the score of; a multiple of 5"""
    crop: Literal["larsen", "square"] | None = None
    """part of each image to take: larsen, the face of CelebA's aligned images; square, the middle"""
    image_size: int = 64
    """images are resized to this many pixels, 16, 32, 64, …"""

    def __post_init__(self):
        # JSON knows lists only
        object.__setattr__(self, "methods", tuple(self.methods))
        object.__setattr__(self, "free", tuple(self.free))
        if self.queries < 5 or self.queries % 5:
            raise ValueError(f"--queries is {self.queries}; it must be a multiple of 5")
        if self.seeds < 1:
            raise ValueError(f"--seeds is {self.seeds}; it must be 1 or more")
        if not self.methods or not self.free or not all(1 <= t <= 64 for t in self.free):
            raise ValueError(
                f"--methods is {self.methods}, --free {self.free}; one of each at least, t from 1 to 64"
            )
        if self.image_size not in (16, 32, 64, 128, 256):
            raise ValueError(f"--image-size is {self.image_size}; it must be 16, 32, 64, 128 or 256")
        if not (self.width > 0 and self.cpus_per_trial > 0 and self.gpus_per_trial >= 0):
            raise ValueError(
                f"--width is {self.width}, --cpus-per-trial {self.cpus_per_trial}, --gpus-per-trial "
                f"{self.gpus_per_trial}; they must be above 0, the last 0 or more"
            )

    @property
    def rounds(self) -> int:
        """Rounds of five queries, the steps of a trial."""
        return self.queries // 5


PRESETS = {
    "quick": HappyPeopleConfig(dataset_limit=4000, image_size=32, width=0.25),
    "report": HappyPeopleConfig(
        preset="report",
        dataset="celeba",
        queries=500,
        seeds=20,
        gpus_per_trial=0.25,
    ),
}
# What else the presets differ in; the report's values are the defaults of `LatentConfig`, the seed's.
SETTINGS: dict[str, dict[str, Any]] = {
    "quick": {
        "training_scores": "scorer",
        "scorer_epochs": 12,
        "codes": 64,
        "embedding_dim": 32,
        "codebook": "ema",  # held-out error after 100 steps 0.014, by gradient 0.018
        "vqvae_epochs": 25,
        "vqvae_batch_size": 32,
        "vae_epochs": 25,
        "vae_batch_size": 32,
        "vae_learning_rate": 1e-3,
        "latent_dim": 32,
        "beta_warm_up": 300,
        "beta_every": 5,
        "trees": 400,
        "best_points": 400,
        "random_points": 1600,
        "reference_images": 500,
    },
    "report": {},
}


def points(config: HappyPeopleConfig) -> list[dict[str, Any]]:
    """Return the grid, seed by seed; the continuous method has no t, which is 0 there."""
    return [
        {"method": method, "free": free, "seed": seed}
        for seed in range(config.seeds)
        for method in config.methods
        for free in ((0,) if method == "vae-retrained" else config.free)
    ]


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return its exit code."""
    from searchers.sweep.happy_people import sweep

    return main_of(PROGRAM, PRESETS, sweep, arguments)


if __name__ == "__main__":
    sys.exit(main())
