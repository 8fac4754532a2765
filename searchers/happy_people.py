"""Happy People: discrete latent-space optimization against its two ablations and a continuous baseline.

A trial is one optimization run, a step one round of queries with its fine-tuning. The sweep is the grid of
methods, free positions t and seeds; it ends with Figures 1 and 3 and Table 1 of [HP].
"""

import hashlib
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

from rich.console import Console

from analysis.charts.text import megabytes
from searchers.display.closing import closing_words
from searchers.display.snapshot import Told
from searchers.execution.cli import main_of
from searchers.record.provenance import PACKAGES, lasting_settings, origin
from searchers.record.schema import METRIC_TAG, MODE_TAG
from searchers.record.sweep_record import SweepRecord
from searchers.study.config import Role, RunConfig, require
from searchers.study.ranges import ONE_GPU, SEVERAL, between, each, multiple_of, one_of

PROGRAM = "python -m searchers.happy_people"
METRIC = "top10"
Method = Literal["vqvae-retrained", "vqvae", "vae-retrained"]


@dataclass(frozen=True)
class HappyPeopleConfig(RunConfig):
    """Settings of one run of the sweep. The command line is this class."""

    dataset: str = "minifigures"
    """minifigures or faces (drawn, embedded), celeba, or a path; its classes must be smile degrees, or
    smiling and not"""
    max_degree: Annotated[float, between(0, 100)] = 2.0
    """the generators see images up to this smile degree only"""
    scorer_weights: Annotated[str | None, Role.FILE] = None
    """file of a smile classifier; trained on the data's labels, if not given"""
    methods: Annotated[tuple[Method, ...], SEVERAL] = ("vqvae-retrained", "vqvae", "vae-retrained")
    """what is compared"""
    free: Annotated[tuple[int, ...], each(between(1, 64)), SEVERAL] = (4, 8, 16)
    """numbers t of latent positions that a query may change"""
    seeds: Annotated[int, between(1, 1000)] = 2
    """runs of each setting"""
    queries: Annotated[int, multiple_of(5, 5, 1_000_000)] = 60
    """images a run asks the score of"""
    image_size: Annotated[int, one_of(16, 32, 64, 128, 256)] = 64
    """images are resized to this many pixels"""
    gpus_per_trial: Annotated[float | None, ONE_GPU] = None
    """share of a GPU a trial gets, half of one where the cluster has any, if not given; a run is one process,
    and uses one at most"""

    @property
    def rounds(self) -> int:
        """Rounds of five queries, the steps of a trial."""
        return self.queries // 5


PRESETS = {
    "quick": HappyPeopleConfig(
        dataset_limit=4000, image_size=32, width=0.25, free=(4,), seeds=5, queries=150
    ),
    "report": HappyPeopleConfig(
        preset="report",
        dataset="celeba",
        queries=500,
        seeds=20,
        gpus_per_trial=0.25,
    ),
}
# What else the presets differ in; the report's values are the defaults of `LatentConfig`, those of [HP].
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
        "trees": 200,
        "best_points": 400,
        "random_points": 1600,
        "tuning_epochs": 0.5,  # 16 epochs of retraining in 30 rounds; [HP] has 11 in its 100
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


def work(config: HappyPeopleConfig, sweep_id: str, console: Console) -> int:
    """Run a resolved sweep to its end, or until it is interrupted; return the exit code.

    Raises UsageError, DataError, MetricError and ClusterError before anything has begun.
    """
    require("Optimizing in the latent space", {"xgboost": "xgboost", "highspy": "highspy"})
    from ray import tune

    # Ray takes seconds to import: wrong flags are answered at once.
    from searchers.execution.driver import Driver, join
    from searchers.execution.fixed_points import FixedPoints
    from searchers.execution.plan import check_tracking
    from searchers.reports.happy_people import report
    from trainables.tune.latent_optimization import LatentOptimizationTrainable

    settings, scorers, provenance = prepare(config, console)
    grid = points(config)
    if config.dry_run:
        check_tracking(config, console)
        joined = join(config)
        at_once = joined.slots(*joined.trial_gets(config.cpus_per_trial, config.gpus_per_trial))
        console.print(planned(config, settings, len(grid), at_once), highlight=False)
        return 0
    with Driver(
        config,
        sweep_id,
        PROGRAM,
        console,
        epochs=config.rounds,
        num_samples=len(grid),
        data_hash=provenance["data_hash"],
        needs=settings,
    ) as driver:
        driver.deliver(sweep_record(config, sweep_id, provenance))
        driver.run(
            tune.with_parameters(LatentOptimizationTrainable, **scorers),
            settings=settings,
            search=FixedPoints(grid, METRIC, "max"),
            told=Told(METRIC, "max", ["method", "free", "seed"], config.rounds),
        )
        ending = driver.finish(
            lambda: report(
                config.title, config.queries, settings, driver.records, driver.folder, driver.ledger, console
            )
        )
    console.print("\n".join(closing_words(ending)), highlight=False, soft_wrap=True)
    return ending.exit_code


def planned(config: HappyPeopleConfig, settings: dict[str, Any], runs: int, at_once: int) -> str:
    """Say what the sweep would train and fill."""
    from searchers.execution.driver import KEPT
    from trainables.latent.problem import checkpoint_bytes
    from trainables.latent.settings import parse_config

    c = parse_config(settings)
    sizes = [checkpoint_bytes(replace(c, method=method), 3) for method in config.methods]
    pictures = runs * config.queries * 3 * config.image_size**2  # before they are packed
    filled = KEPT * runs * max(sizes) + pictures
    before = {"VQ-VAE": c.vqvae_epochs, "VAE": c.vae_epochs}
    wanted = {"VAE" if method == "vae-retrained" else "VQ-VAE" for method in config.methods}
    first = ", ".join(f"the {name} {n} epochs" for name, n in before.items() if name in wanted)
    return (
        f"Trials: {runs} of {config.rounds} rounds each, {at_once} side by side: "
        f"{', '.join(config.methods)} × t of {', '.join(map(str, config.free))} × {config.seeds} seeds. "
        "How long a round takes is not measured here.\n"
        f"Before them, once a machine: each of two scorers {c.scorer_epochs} epochs, {first}.\n"
        f"Disk: {megabytes(filled)} at most: {KEPT * runs} checkpoints of {megabytes(max(sizes))}, pictures "
        f"{megabytes(pictures)}."
    )


def sweep_record(config: HappyPeopleConfig, sweep_id: str, provenance: dict[str, Any]) -> SweepRecord:
    """Return what the parent run in MLflow says of the sweep."""
    description = (
        f"**{config.title}**: {', '.join(config.methods)} × t of {', '.join(map(str, config.free))} × "
        f"{config.seeds} seeds, {config.queries} queries each.\n\nEach child run is one optimization "
        f"run; its steps are rounds of five queries. Sort the runs table by `{METRIC}`."
    )
    return SweepRecord(
        sweep_id=sweep_id,
        name=config.title,
        experiment="happy-people",
        description=description,
        params={**lasting_settings(config), **provenance},
        tags=origin(PROGRAM, (*PACKAGES, "xgboost", "highspy")) | {METRIC_TAG: METRIC, MODE_TAG: "max"},
        shared={**provenance, "dataset": config.dataset},
    )


def prepare(
    config: HappyPeopleConfig, console: Console
) -> tuple[dict[str, Any], dict[str, bytes], dict[str, Any]]:
    """Convert the data, load or train the scorers; return what trials share, scorers' files, provenance.

    A dry run trains no scorer. Raises DataError and MetricError with one sentence each.
    """
    from searchers.execution.prepare import extractor_of, say_notes
    from searchers.execution.resume import images_of
    from trainables.latent.problem import held_out_references, load_images, training_rows
    from trainables.latent.scorer import JUDGE, SmileScorer, load_scorer, quality_on, smile_degrees
    from trainables.latent.settings import parse_config

    extractor = extractor_of(config, 3, console)
    settings = {
        **SETTINGS[config.preset],
        "dataset": config.dataset,
        "data_hash": images_of(config),
        "dataset_limit": config.dataset_limit,
        "data_root": config.data_root,
        "crop": config.crop,
        "image_size": config.image_size,
        "width": config.width,
        "max_degree": config.max_degree,
        "rounds": config.rounds,
        "scorer_weights": config.scorer_weights,
        "features": extractor.name,
        "feature_weights": config.inception_weights,
    }
    resolved = parse_config(settings)
    store = load_images(resolved)
    settings["data_hash"] = store.content_hash
    rows = training_rows(store, config.max_degree)
    console.print(
        f"Data: {store.name}, {len(store)} images, {config.image_size}×{config.image_size}; "
        f"the generators see {len(rows)} of smile degree {config.max_degree:g} or less",
        highlight=False,
    )
    say_notes(store, console)
    degrees = smile_degrees(store)[rows]
    if resolved.training_scores == "labels" and len(set(degrees)) == 1:
        settings["training_scores"] = "scorer"
        console.print(
            f"All of these have the label {degrees[0]:g}, of which nothing is learned: they count with the "
            "scorer's scores.",
            highlight=False,
        )
    chosen = Path(settings["scorer_weights"]) if config.scorer_weights else None
    asked: dict[str, dict[str, Any]] = {"scorer": {"weights": chosen}, "judge": {"seed": JUDGE}}
    if config.dry_run:  # a file is looked at, and nothing is trained
        asked = {name: how for name, how in asked.items() if how.get("weights")}
    scorers = {name: load_scorer(store, epochs=resolved.scorer_epochs, **how) for name, how in asked.items()}
    qualities: dict[str, Any] = {}
    for name, content in scorers.items():
        scorer, quality = SmileScorer.from_bytes(content)
        if asked[name].get("weights"):  # the file tells of its own images
            quality = quality_on(scorer.to(extractor.device), store)
        console.print(
            f"{name.capitalize()}: accuracy {quality.accuracy:.3f}, rank correlation "
            f"{quality.rank_correlation:.3f} on {quality.images} held-out images"
            + ("; the search never asks it" if name == "judge" else ""),
            highlight=False,
            soft_wrap=True,
        )
        qualities |= {
            f"{name}_hash": hashlib.sha256(content).hexdigest()[:16],
            f"{name}_accuracy": quality.accuracy,
            f"{name}_rank_correlation": quality.rank_correlation,
        }
    references = held_out_references(store, resolved, extractor)
    provenance = {
        "features": str(extractor.identity),
        "data_hash": store.content_hash,
        "training_images": len(rows),
        "reference_images": references[""].n,
        **qualities,
    }
    return settings, scorers, provenance


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return its exit code."""
    return main_of(PROGRAM, PRESETS, work, arguments)


if __name__ == "__main__":
    sys.exit(main())
