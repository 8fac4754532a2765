"""Score one set of images against another: `python -m trainables.metrics GENERATED REAL`."""

import math
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro
from numpy.typing import NDArray

from latentune import called
from trainables.data.natural import BATCH, folder_images, left_out
from trainables.data.store import DataError, ImageStore
from trainables.metrics.errors import MetricError
from trainables.metrics.extractors.extractor import Extractor
from trainables.metrics.extractors.features import load_extractor
from trainables.metrics.frechet import (
    FEWEST,
    ReferenceStatistics,
    estimate_frechet_distance,
    frechet_distance,
    has_real_floor,
    real_floor,
    reference_statistics,
)
from trainables.metrics.infinity import MINIMUM, frechet_distance_infinity
from trainables.metrics.kid import kernel_inception_distance
from trainables.metrics.manifold import manifold_scores
from trainables.metrics.neighbors import near_copy_share
from trainables.metrics.reference import KEPT_FEATURES
from trainables.metrics.threads import thread_limit

PROGRAM = "python -m trainables.metrics"
OF_STATISTICS = "Statistics of generated images have a Fréchet distance alone: all else needs the images."


@dataclass(frozen=True)
class Arguments:
    """Fréchet and kernel distance of generated to real images.

    Each path is a folder of images, a store of ours (.arrow), or statistics (.npz, pytorch-fid's too).
    """

    generated: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="GENERATED")]
    """The images to score."""
    real: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="REAL")]
    """The images to score them against."""
    features: str = "auto"
    """The extractor: auto, inception, efficientnet_lite0, dinov2 or classifier:PATH."""
    weights: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """A file with the extractor's weights."""
    device: str = "cpu"
    """Where the extractor runs: cpu, cuda, cuda:1, …"""
    threads: Annotated[int | None, tyro.conf.arg(metavar="N")] = None
    """CPU threads; all by default."""
    manifold: bool = False
    """Also precision, recall, density and coverage."""
    save_real: Annotated[Path | None, tyro.conf.arg(metavar="FILE.npz")] = None
    """Keep the real images' statistics, to be named instead of the images."""


def main(arguments: list[str] | None = None) -> int:
    """Print the scores; return the exit code, 2 where the input cannot be scored."""
    args = tyro.cli(Arguments, args=arguments, prog=called(PROGRAM))
    try:
        with thread_limit(args.threads):
            for line in scores(args):
                print(line)
    except (MetricError, DataError, OSError) as error:
        print(f"{called(PROGRAM)}: {error}", file=sys.stderr)
        return 2
    return 0


def scores(args: Arguments) -> Iterator[str]:
    """Yield the report's lines. Raises as the functions that it calls."""
    for path in (args.generated, args.real):
        if not path.exists():
            raise FileNotFoundError(f"no such file or folder: {path}")
    if args.generated.suffix == ".npz" and args.manifold:
        raise MetricError(f"{args.generated} holds statistics; precision and recall need the images")
    if args.generated.suffix == ".npz" and args.real.suffix == ".npz":
        generated, real = ReferenceStatistics.load(args.generated), ReferenceStatistics.load(args.real)
        if args.save_real is not None:
            real.save(args.save_real)
        yield _line("fréchet distance", frechet_distance(generated, real), note=_identity(generated, real))
        yield OF_STATISTICS
        return
    extractor = load_extractor(args.features, weights=args.weights, device=args.device, threads=args.threads)
    yield extractor.reason
    for folder in (path for path in (args.generated, args.real) if path.is_dir()):
        yield from (f"{folder}: {note}" for note in left_out(folder))
    real = _statistics(args.real, extractor)
    if args.manifold and real.features is None:
        raise MetricError(f"{args.real} holds no features; precision and recall need the images")
    if args.save_real is not None:
        real.save(args.save_real)
    if args.generated.suffix == ".npz":
        yield _line(extractor.metric, frechet_distance(_statistics(args.generated, extractor), real))
        yield OF_STATISTICS
        return
    features = np.concatenate([extractor(batch) for batch in _images(args.generated)])
    # The deviations leave out blocks of rows, which must be alike also where the folder is sorted by class.
    features = np.random.default_rng(0).permutation(features)
    n, identity = len(features), extractor.identity
    of = f"{n} images against {real.n or 'an unknown number'}"
    if n < FEWEST:
        yield _line(extractor.metric, frechet_distance(features, real, identity=identity), note=of)
        yield f"No deviation and no kernel distance: they need {FEWEST} images."
    else:
        yield _line(extractor.metric, *estimate_frechet_distance(features, real, identity=identity), note=of)
    if n >= MINIMUM:
        infinite = frechet_distance_infinity(features, real, identity=identity)
        yield _line("… of infinitely many", infinite, note="extrapolated")
    if real.features is None:
        yield f"No kernel distance, near copies and distance of real images: {args.real} holds no features."
        return
    if has_real_floor(real, n):
        yield _line("… of real images", real_floor(real, n), note=f"{n} real images against the others")
    else:
        yield (
            f"No distance of {n} real images to others: it takes {2 * n} images, and features are kept of "
            f"{KEPT_FEATURES} at most."
        )
    if n >= FEWEST:
        yield _line(extractor.kid_metric, *kernel_inception_distance(features, real, identity=identity))
    copies = near_copy_share(features, real.features)
    yield _line("near copies", copies, note=f"share of images, of {len(real.features)} real ones")
    if args.manifold:
        size = min(n, len(real.features))
        for name, value in vars(manifold_scores(features[:size], real.features[:size])).items():
            yield _line(name, value, note=f"{size} images each")


def _line(name: str, value: float, std: float = math.nan, note: str = "") -> str:
    deviation = "" if math.isnan(std) else f"± {std:.4g}"
    return f"{name:<24} {value:>12.6g} {deviation:<12} {note}".rstrip()


def _identity(a: ReferenceStatistics, b: ReferenceStatistics) -> str:
    known = a.identity or b.identity
    return f"of {known}" if known else "of an extractor that neither file names"


def _images(path: Path) -> Iterator[NDArray[np.uint8]]:
    """Yield the images of a folder or a store (all its splits) in batches, uint8 (B, H, W, C)."""
    if path.is_dir():
        yield from folder_images(path)
        return
    if path.suffix != ".arrow":
        raise MetricError(f"{path} is neither a folder of images, an image store (.arrow) nor an .npz file")
    images = ImageStore(path).images
    for first in range(0, len(images), BATCH):
        yield images[first : first + BATCH]


def _statistics(path: Path, extractor: Extractor) -> ReferenceStatistics:
    if path.suffix == ".npz":
        reference = ReferenceStatistics.load(path)
        extractor.identity.require(reference.identity)
        return reference
    return reference_statistics(_images(path), extractor, cache_dir=None, key=str(path))


if __name__ == "__main__":
    sys.exit(main())
