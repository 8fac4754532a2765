"""Image stores from the command line: `python -m trainables.data convert|info|verify|publish`."""

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import tyro

from latentune import called
from trainables.data.catalogue import NAMES, default_cache
from trainables.data.pictures import tile
from trainables.data.sources import load
from trainables.data.store import DataError, ImageStore, first_line
from trainables.data.transfer import fetch, is_uri, publish

PROGRAM = "python -m trainables.data"
FLAGS = (tyro.conf.FlagConversionOff, tyro.conf.OmitSubcommandPrefixes)
Source = Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="DATASET")]
Store = Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="STORE")]
FOLDER, FILE = tyro.conf.arg(metavar="FOLDER"), tyro.conf.arg(metavar="FILE.png")
NUMBER = tyro.conf.arg(metavar="N")
SHEET = 8  # images a side of a contact sheet


@dataclass(frozen=True)
class Convert:
    """Convert a data set into an image store, once; a conversion that was stopped goes on."""

    dataset: Source
    """A name (faces, minifigures, drawn-digits, celeba, lego, mnist, fashion-mnist, digits), a path,
    or a storage URI."""
    image_size: Annotated[int, NUMBER] = 64
    """Height and width, in pixels."""
    channels: Annotated[int, NUMBER] = 3
    """3, as sweeps of images take them, or 1: grey, as the densities of digits do."""
    crop: Literal["larsen", "square"] | None = None
    """Take this part; the whole image, squashed, by default."""
    limit: Annotated[int | None, NUMBER] = None
    """Take that many images; all by default. A sweep of the same --dataset-limit takes this store."""
    data_root: Annotated[Path | None, FOLDER] = None
    """Where named data sets lie."""
    cache_dir: Annotated[Path | None, FOLDER] = None
    """Where stores lie; a folder in the user's cache by default."""
    workers: Annotated[int | None, NUMBER] = None
    """Processes that decode; one a core by default."""
    output: Annotated[str | None, tyro.conf.arg(metavar="URI")] = None
    """Also copy the store there: file:///…, s3://…, gs://…"""

    def run(self) -> Iterator[str]:
        """Yield the report's lines."""
        store = load(
            self.dataset,
            image_size=self.image_size,
            channels=self.channels,
            crop=self.crop,
            limit=self.limit,
            data_root=self.data_root,
            cache_dir=self.cache_dir,
            workers=self.workers,
        )
        yield from describe(store)
        if self.output:
            yield f"use it as --dataset {publish(store, self.output)}"


@dataclass(frozen=True)
class Info:
    """Say what a store holds, and draw some of it."""

    store: Store
    """A store's path or URI."""
    sheet: Annotated[Path | None, FILE] = None
    """Draw 64 of its images, evenly spread, into this file."""

    def run(self) -> Iterator[str]:
        """Yield the report's lines."""
        store = _open(self.store)
        yield from describe(store)
        if self.sheet:
            rows = np.linspace(0, len(store) - 1, SHEET * SHEET).astype(int)  # evenly spread
            try:
                tile(store.images[rows], SHEET, gap=0).save(self.sheet)
            except (OSError, ValueError) as error:  # no such folder; an ending that Pillow does not know
                raise DataError(f"--sheet {self.sheet} can't be written ({first_line(error)})") from error


@dataclass(frozen=True)
class Verify:
    """Compare all pixels of a store with their digests."""

    store: Store
    """A store's path or URI."""

    def run(self) -> Iterator[str]:
        """Yield the report's line."""
        store = _open(self.store)
        store.verify()
        yield f"{store.path}: {len(store)} images, none damaged"


@dataclass(frozen=True)
class Publish:
    """Copy a store to where all machines of a cluster reach it."""

    store: Store
    """A store's path."""
    uri: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="URI")]
    """file:///…, s3://… or gs://…"""

    def run(self) -> Iterator[str]:
        """Yield the report's line."""
        yield f"use it as --dataset {publish(_open(self.store), self.uri)}"


def describe(store: ImageStore) -> Iterator[str]:
    """Yield a store's description, a line a property."""
    m = store.manifest
    yield f"{'store':<10} {store.path} ({store.path.stat().st_size / 1e6:.1f} MB)"
    yield f"{'images':<10} {m['name']}: {len(store)} of {m['image_size']}×{m['image_size']}×{m['channels']}"
    yield f"{'splits':<10} {', '.join(f'{name} {n}' for name, n in m['splits'].items())}"
    if m["class_names"]:
        counts = np.bincount(store.labels[store.labels >= 0], minlength=len(m["class_names"]))
        classes = ", ".join(f"{name} {n}" for name, n in zip(m["class_names"], counts, strict=True))
        yield f"{'classes':<10} {classes}"
    if store.factors:
        yield f"{'factors':<10} {', '.join(store.factors)}"
    yield f"{'hash':<10} {store.content_hash}"
    yield f"{'left out':<10} {m['rejected']}"
    for name, why in m["rejects"][:20]:
        yield f"{'':<10} {name}: {why}"
    if m["rejected"] > 20:
        yield f"{'':<10} … (the manifest names {len(m['rejects'])})"
    for note in m["notes"]:
        yield f"{'note':<10} {note}"


def _open(store: str) -> ImageStore:
    if is_uri(store):
        return ImageStore(fetch(store, default_cache()))
    if not Path(store).is_file():
        raise DataError(
            f"there is no store {store!r}; `{called(PROGRAM)} convert` makes one, of {', '.join(NAMES)}, …"
        )
    return ImageStore(store)


def main(arguments: list[str] | None = None) -> int:
    """Run a command; return the exit code: 2 for bad input, 130 after Ctrl-C."""
    command = tyro.cli(Convert | Info | Verify | Publish, args=arguments, prog=called(PROGRAM), config=FLAGS)
    try:
        for line in command.run():
            print(line)
    except DataError as error:
        print(f"{called(PROGRAM)}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"{called(PROGRAM)}: stopped; the same command goes on from here", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
