"""Which names and which paths are data sets, and how either becomes a source.

A named set is looked for in a data root, in the folders where torchvision puts it, and is downloaded there
where the network allows.
"""

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from trainables.data.download import download_celeba, download_mnist
from trainables.data.formats.arrays import CLOTHES, idx_files, open_digits, open_idx, open_npy, open_npz
from trainables.data.formats.celeba import is_table
from trainables.data.formats.containers import list_folder, list_tar, list_zip, walk
from trainables.data.formats.layout import Source, arrange, ignored, is_image
from trainables.data.formats.parquet import holds_images, open_parquet, parquet_files
from trainables.data.formats.readers import DrawingReader
from trainables.data.formats.shards import list_shards
from trainables.data.formats.tables import text_of
from trainables.data.hub import PREFIX, fetched
from trainables.data.store import SPLITS, DataError, digest
from trainables.data.synthetic.digits import DRAWN_DIGITS
from trainables.data.synthetic.drawing import BATCH, Drawing
from trainables.data.synthetic.faces import FACES
from trainables.data.synthetic.minifigures import MINIFIGURES

DRAWN = 20_000  # pictures of a drawn set where no limit is given
TARS = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")
ARCHIVES = (*TARS, ".zip")
DIGITS = tuple("0123456789")


@dataclass(frozen=True)
class Origin:
    """A data set that was found: `fingerprint`, JSON that changes when its content does, and how to open it.

    `open` takes a folder for what has to be unpacked.
    """

    name: str
    fingerprint: Any
    open: Callable[[Path], Source]


def find(
    dataset: str | os.PathLike,
    *,
    data_root: Path | None = None,
    image_size: int = 64,
    limit: int | None = None,
) -> Origin:
    """Look for a data set, one of `NAMES`, `hf:NAME` of the hub, or a path.

    A path is a folder of images, of class folders, of split folders with class folders, or in CelebA's
    layout; a tar or zip of such a folder; a folder of tars, as of webdataset's shards; a folder of MNIST's
    idx files; Parquet files with encoded images; a
    .npy or .npz file. Raises DataError, naming what there is, where it can't be found.
    """
    if dataset in NAMES:
        root = Path(data_root).expanduser() if data_root else default_cache() / "datasets"
        return NAMES[dataset](root, image_size, limit)
    if str(dataset).startswith(PREFIX):
        return replace(_file(fetched(str(dataset), default_cache() / "hub")), name=str(dataset))
    path = Path(dataset).expanduser()
    if path.is_dir():
        return _folder(path)
    if path.is_file():
        return _file(path)
    raise _unknown(dataset)


def refuse_unknown(dataset: str | os.PathLike) -> None:
    """Raise DataError, naming what there is, where a data set is no known name, no URI and no path.

    Raises OSError and RuntimeError where a path can't be looked at.
    """
    words = str(dataset)
    if not (
        words in NAMES or words.startswith(PREFIX) or "://" in words or Path(words).expanduser().exists()
    ):
        raise _unknown(dataset)


def _unknown(dataset: str | os.PathLike) -> DataError:
    return DataError(
        f"there is no data set or path {str(dataset)!r}; choose {', '.join(NAMES)}, hf:NAME of the hub, or "
        "the path of a folder, a tar or a zip of images"
    )


def default_cache() -> Path:
    """Return the folder for image stores where none is named: `latentune` in the user's cache folder."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "latentune"


def _drawn(drawing: Drawing, _: Path, image_size: int, limit: int | None) -> Origin:
    n = limit or DRAWN

    def open_source(_: Path) -> Source:
        factors = drawing.sample_factors(n)
        return Source(
            drawing.name,
            DrawingReader(drawing, image_size, range(n)),
            [f"{drawing.name} {i}" for i in range(n)],
            factors[drawing.label].astype(np.int64),
            drawing.class_names,
            factors,
            # By number, so that a picture has the same split at each size.
            np.array([SPLITS.index("train")] * 8 + [1, 2], np.uint8)[np.arange(n) % 10],
            channels=drawing.channels,
        )

    # Stores that an earlier version painted otherwise are not taken for these.
    painted = digest(drawing.render(BATCH, image_size=16)[0]).hex()
    return Origin(drawing.name, [n, painted], open_source)


def _celeba(root: Path, *_) -> Origin:
    folders = [folder for folder in (root, root / "celeba") if folder.is_dir()]
    for folder in folders:
        if origin := _celeba_in(folder):
            return origin
    if origin := _celeba_in(download_celeba(root / "celeba")):
        return origin
    raise DataError(f"CelebA was downloaded to {root / 'celeba'}, and its images are not there")


def _celeba_in(folder: Path) -> Origin | None:
    """Return CelebA as torchvision lays it out, its images in a folder or an archive, or None."""
    places = [folder / f"img_align_celeba{suffix}" for suffix in ("", *ARCHIVES)]
    images = next((path for path in places if path.exists()), None)
    if images is None:
        return None
    tables = sorted(path for path in folder.iterdir() if path.is_file() and is_table(path.name))

    def open_source(scratch: Path) -> Source:
        texts = {path.name: text_of(path.read_bytes()) for path in tables}
        others = [p.name for p in folder.iterdir() if p not in (images, *tables) and p.name[0] != "."]
        source = arrange("celeba", _listing(images, scratch), texts)
        return replace(source, notes=[*source.notes, *ignored(sorted(others))])

    return Origin("celeba", fingerprint(images, *tables), open_source)


def _lego(root: Path, *_) -> Origin:
    for path in (root / "lego", *(root / f"lego{suffix}" for suffix in ARCHIVES)):
        if path.exists():
            found = _folder(path) if path.is_dir() else _file(path)
            return Origin("lego", found.fingerprint, found.open)
    raise DataError(
        f"there are no LEGO heads in {root}: put the pictures ([LEGO] has 128×128) into {root / 'lego'}, "
        "or a lego.zip beside it, or name the folder above as the data root"
    )


def _mnist(name: str, folders: Sequence[str], class_names: Sequence[str], root: Path, *_) -> Origin:
    for folder in (root, *(root / folder for folder in folders)):
        if files := idx_files(folder):
            break
    else:
        files = idx_files(download_mnist(name, root))
    return Origin(
        name, fingerprint(*files.values()), lambda scratch: open_idx(name, files, class_names, scratch)
    )


def _folder(path: Path) -> Origin:
    name = path.resolve().name or "root"
    if not (path / "img_align_celeba").is_dir() and (celeba := _celeba_in(path)):
        return celeba
    return Origin(name, fingerprint(path), lambda scratch: _open_folder(name, path, scratch))


def _open_folder(name: str, path: Path, scratch: Path) -> Source:
    """Open a folder as what it holds: idx files, Parquet files with images, or else images."""
    listing = list_folder(path)
    if idx := idx_files(path):
        source, taken = open_idx(name, idx, (), scratch), set(idx.values())
    elif (parquet := parquet_files(path, listing.names)) and holds_images(parquet[0]):
        source, taken = open_parquet(name, parquet), set(parquet)
    elif shards := _shards(listing.names):
        source, taken = arrange(str(path), list_shards(path, shards, scratch)), {path / tar for tar in shards}
    else:
        return arrange(str(path), listing)
    others = ignored((file for file in listing.names if path / file not in taken), listing.hidden)
    rejects = [*listing.rejects, *source.rejects]
    return replace(source, rejects=rejects, notes=[*source.notes, *others])


def _shards(names: Sequence[str]) -> list[str]:
    """Return the tars among a folder's files, where no images lie beside them."""
    if any(is_image(name) for name in names):
        return []
    return [name for name in names if name.lower().endswith(TARS)]


def _file(path: Path) -> Origin:
    endings = {
        ARCHIVES: lambda scratch: arrange(str(path), _listing(path, scratch)),
        (".parquet",): lambda _: open_parquet(path.name, [path]),
        (".npy",): lambda scratch: open_npy(path, scratch),
        (".npz",): lambda scratch: open_npz(path, scratch),
    }
    for ending, open_source in endings.items():
        if path.name.lower().endswith(ending):
            return Origin(path.name.split(".")[0], fingerprint(path), open_source)
    known = ", ".join(ending for ending in sum(endings, ()))
    raise DataError(f"{path} is of no kind that can be read; give a folder, or a file ending in {known}")


def _listing(path: Path, scratch: Path):
    if path.is_dir():
        return list_folder(path)
    return list_zip(path) if path.name.lower().endswith(".zip") else list_tar(path, scratch)


def fingerprint(*paths: Path) -> list[Any]:
    """Return what only these files, in this version, have; of a folder, all files below it count.

    Names, sizes and times of modification may be the same for other content: copies keep them, and so do
    archives that are unpacked. So a file is also told by where it lies and by the time of its last change of
    any kind, which no program can set.
    """
    return [
        [str(path.resolve()), _digest_of(path) if path.is_dir() else [_state(path.name, path.stat())]]
        for path in paths
    ]


def _digest_of(folder: Path) -> str:
    """Return a hash of the states of all files below a folder, of which there may be millions."""
    found = hashlib.sha256()
    for name, status in walk(folder):
        found.update(json.dumps(_state(name, status)).encode())
    return found.hexdigest()


def _state(name: str, status: os.stat_result) -> list[Any]:
    return [name, status.st_size, status.st_mtime_ns, status.st_ctime_ns]


NAMES: dict[str, Callable[[Path, int, int | None], Origin]] = {
    "faces": lambda *a: _drawn(FACES, *a),
    "minifigures": lambda *a: _drawn(MINIFIGURES, *a),
    "drawn-digits": lambda *a: _drawn(DRAWN_DIGITS, *a),
    "celeba": _celeba,
    "lego": _lego,
    "mnist": lambda *a: _mnist("mnist", ("mnist", "MNIST/raw"), DIGITS, *a),
    "fashion-mnist": lambda *a: _mnist("fashion-mnist", ("fashion-mnist", "FashionMNIST/raw"), CLOTHES, *a),
    "digits": lambda *_: Origin("digits", None, open_digits),
}
