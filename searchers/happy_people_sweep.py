"""The sweep of `searchers.happy_people`: Tune over the grid, recorded as any; then figures and tables."""

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from searchers.ledger import FAILED, Ledger
from searchers.summary import PACKAGES, lasting_settings, origin, ui_command

if TYPE_CHECKING:
    from searchers.happy_people import HappyPeopleConfig

METRIC = "top10"


def sweep(config: "HappyPeopleConfig", sweep_id: str, console: Console) -> int:
    """Run a resolved sweep to its end, or until it is interrupted; return the exit code.

    Raises UsageError, DataError, MetricError and ClusterError before anything has begun.
    """
    from ray import tune  # seconds to import: wrong flags are answered at once

    from cluster.limiter import ClusterLimiter
    from cluster.storage import full_disk_told, has_snapshot
    from cluster.storage import resolve as resolve_storage
    from cluster.watchdog import watchdogs
    from searchers.happy_people import PROGRAM, points
    from searchers.happy_people_report import report
    from searchers.points import GivenPoints
    from searchers.progress import Progress
    from searchers.recording import Delivery, Recorder, SweepRecord
    from searchers.sweep import join, store_settings, tune_arguments
    from trainables.latent.trainable import LatentOptimizationTrainable

    settings, scorer, provenance = prepare(config, console)
    folder = (Path(config.results) / config.name).resolve()
    cluster = join(config)
    checkpoints = resolve_storage(config.storage, folder, cluster)
    store_settings(folder, sweep_id, config)
    joined = cluster.describe(config.cpus_per_trial, config.gpus_per_trial, config.max_concurrent)
    console.print(joined, highlight=False)

    grid = points(config)
    ledger = Ledger(folder / "ledger.jsonl")
    recorder = Recorder(ledger, folder, config.rounds)
    description = (
        f"**{config.name}**: {', '.join(config.methods)} × t of {', '.join(map(str, config.free))} × "
        f"{config.seeds} seeds, {config.queries} queries each.\n\nEach child run is one optimisation "
        f"run; its steps are rounds of five queries. Sort the runs table by `{METRIC}`."
    )
    tags = origin(PROGRAM, (*PACKAGES, "xgboost", "highspy")) | {"metric": METRIC, "mode": "max"}
    record = SweepRecord(
        sweep_id=sweep_id,
        name=config.name,
        experiment="happy-people",
        description=description,
        params={**lasting_settings(config), **provenance},
        tags=tags,
        trial_params=lambda trial: provenance,
    )
    delivery = Delivery(ledger, folder, config.tracking_uri, record)
    progress = Progress(
        recorder.records,
        metric=METRIC,
        mode="max",
        dimensions=["method", "free", "seed"],
        epochs=config.rounds,
        num_samples=len(grid),
        console=console,
    )
    places = [str(folder), checkpoints]
    watching = watchdogs(config.cpus_per_trial, config.gpus_per_trial, places, console.print)
    arguments, resumed = tune_arguments(config), has_snapshot(checkpoints)
    resume = f"{PROGRAM} --resume {config.name}"
    delivery.start()
    with full_disk_told(resume), progress:
        tune.run(
            tune.with_parameters(LatentOptimizationTrainable, scorer=scorer),
            **arguments,
            storage_path=checkpoints,
            config=settings,
            search_alg=ClusterLimiter(
                GivenPoints(grid, "score", "max"),  # METRIC is there from the tenth query on
                cluster,
                config.cpus_per_trial,
                config.gpus_per_trial,
                config.max_concurrent,
            ),
            stop={"training_iteration": config.rounds},
            num_samples=len(grid),
            callbacks=[recorder, progress, *watching],
            resume_config=tune.ResumeConfig() if resumed else None,
        )
    records = list(recorder.records.values())
    interrupted = len(records) < len(grid) or any(r.status is None for r in records)
    with full_disk_told(resume):
        metrics = report(config, settings, records, folder, ledger, console)
        ledger.append("note", status="KILLED" if interrupted else "FINISHED", metrics=metrics)
    unsent = delivery.close(timeout=60)
    failed = [str(r.number) for r in records if r.status == FAILED]
    if failed:
        console.print(f"Failed: trial {', '.join(failed)}; the errors are in {folder}/tune/*/error.txt.")
    if unsent:
        console.print(
            f"{unsent} events have not reached MLflow at {config.tracking_uri} "
            f"({delivery.error or 'still sending'}); nothing is lost: --resume {config.name} sends them.",
            highlight=False,
        )
    console.print(f"Compare the runs in MLflow: {ui_command(config.tracking_uri)}", highlight=False)
    if interrupted:
        console.print(f"Interrupted. Go on with: {resume}", highlight=False)
    ledger.close()
    if interrupted:
        return 130
    return 0 if any(r.metrics for r in records) else 1


def prepare(config: "HappyPeopleConfig", console: Console) -> tuple[dict[str, Any], bytes, dict[str, Any]]:
    """Convert the data, load or train the scorer; return what trials share, the scorer's file, provenance.

    Raises DataError and MetricError with one sentence each.
    """
    import torch

    from searchers.happy_people import SETTINGS
    from trainables.latent.problem import held_out_references, load_images, training_rows
    from trainables.latent.scorer import SmileScorer, load_scorer
    from trainables.latent.settings import parse_config
    from trainables.metrics.features import load_extractor

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
