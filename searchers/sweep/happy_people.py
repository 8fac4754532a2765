"""The sweep of `searchers.happy_people`: Tune over the grid, recorded as any; then figures and tables."""

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from searchers.display.summary import PACKAGES, closing_words, exit_code, lasting_settings, origin

if TYPE_CHECKING:
    from searchers.happy_people import HappyPeopleConfig

METRIC = "top10"


def sweep(config: "HappyPeopleConfig", sweep_id: str, console: Console) -> int:
    """Run a resolved sweep to its end, or until it is interrupted; return the exit code.

    Raises UsageError, DataError, MetricError and ClusterError before anything has begun.
    """
    from ray import tune

    from searchers.happy_people import PROGRAM, points
    from searchers.record.mlflow_exporter import SweepRecord
    from searchers.reports.happy_people import report
    from searchers.sweep.driver import Driver  # seconds to import: wrong flags are answered at once
    from searchers.sweep.fixed_points import GivenPoints
    from trainables.tune.latent_optimization import LatentOptimizationTrainable

    settings, scorer, provenance = prepare(config, console)
    grid = points(config)
    driver = Driver(
        config,
        sweep_id,
        PROGRAM,
        console,
        epochs=config.rounds,
        num_samples=len(grid),
        data_hash=provenance["data_hash"],
    )
    description = (
        f"**{config.name}**: {', '.join(config.methods)} × t of {', '.join(map(str, config.free))} × "
        f"{config.seeds} seeds, {config.queries} queries each.\n\nEach child run is one optimisation "
        f"run; its steps are rounds of five queries. Sort the runs table by `{METRIC}`."
    )
    driver.deliver(
        SweepRecord(
            sweep_id=sweep_id,
            name=config.name,
            experiment="happy-people",
            description=description,
            params={**lasting_settings(config), **provenance},
            tags=origin(PROGRAM, (*PACKAGES, "xgboost", "highspy")) | {"metric": METRIC, "mode": "max"},
            trial_params=lambda trial: provenance,
        )
    )
    driver.run(
        tune.with_parameters(LatentOptimizationTrainable, scorer=scorer),
        settings=settings,
        search=GivenPoints(grid, METRIC, "max"),
        metric=METRIC,
        mode="max",
        dimensions=["method", "free", "seed"],
    )
    unsent = driver.close(
        lambda: report(config, settings, driver.records, driver.folder, driver.ledger, console)
    )
    console.print("\n".join(closing_words(driver, unsent)), highlight=False, soft_wrap=True)
    return exit_code(driver.records, driver.interrupted)


def prepare(config: "HappyPeopleConfig", console: Console) -> tuple[dict[str, Any], bytes, dict[str, Any]]:
    """Convert the data, load or train the scorer; return what trials share, the scorer's file, provenance.

    Raises DataError and MetricError with one sentence each.
    """
    import torch

    from searchers.happy_people import SETTINGS
    from trainables.latent.problem import held_out_references, load_images, training_rows
    from trainables.latent.scorer import SmileScorer, load_scorer
    from trainables.latent.settings import parse_config
    from trainables.metrics.extractors.features import load_extractor

    def absolute(path: str | None) -> str | None:
        return path and str(Path(path).expanduser().resolve())

    weights = absolute(config.inception_weights)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    extractor = load_extractor(config.features, weights=weights and Path(weights), device=device)
    console.print(extractor.reason, highlight=False)
    is_path = Path(config.dataset).expanduser().exists()
    settings = {
        **SETTINGS[config.preset],
        "dataset": absolute(config.dataset) if is_path else config.dataset,
        "dataset_limit": config.dataset_limit,
        "data_root": absolute(config.data_root),
        "crop": config.crop,
        "image_size": config.image_size,
        "width": config.width,
        "max_degree": config.max_degree,
        "rounds": config.rounds,
        "scorer_weights": absolute(config.scorer_weights),
        "features": extractor.name,
        "feature_weights": weights,
    }
    resolved = parse_config(settings)
    store = load_images(resolved)
    rows = training_rows(store, config.max_degree)
    console.print(
        f"Data: {store.name}, {len(store)} images, {config.image_size}×{config.image_size}; "
        f"the generators see {len(rows)} of smile degree {config.max_degree:g} or less",
        highlight=False,
    )
    chosen = config.scorer_weights and Path(settings["scorer_weights"])
    content = load_scorer(store, weights=chosen, epochs=resolved.scorer_epochs)
    _, quality = SmileScorer.from_bytes(content)
    console.print(
        f"Scorer: accuracy {quality.accuracy:.3f}, rank correlation {quality.rank_correlation:.3f} "
        f"on {quality.images} held-out images",
        highlight=False,
    )
    references = held_out_references(store, resolved, extractor)
    provenance = {
        "features": str(extractor.identity),
        "data_hash": store.content_hash,
        "training_images": len(rows),
        "reference_images": references[""].n,
        "scorer_hash": hashlib.sha256(content).hexdigest()[:16],
        "scorer_accuracy": quality.accuracy,
        "scorer_rank_correlation": quality.rank_correlation,
    }
    return settings, content, provenance
