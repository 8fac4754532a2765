"""Fetch CelebA and MNIST with torchvision, which knows their addresses and checksums."""

import contextlib
import importlib
import importlib.util
import sys
from pathlib import Path

from filelock import FileLock

from trainables.data.store import DataError, first_line

CELEBA_FILES = ("img_align_celeba.zip", "list_attr_celeba.txt", "list_eval_partition.txt")
MNIST_FILES = (
    "train-images-idx3-ubyte, train-labels-idx1-ubyte, t10k-images-idx3-ubyte, t10k-labels-idx1-ubyte"
)


def download_celeba(folder: Path) -> Path:
    """Download CelebA's aligned images, attributes and split into a folder, and return it.

    Raises DataError, with the files to put there by hand, where that fails.
    """
    try:
        if importlib.util.find_spec("gdown") is None:
            raise RuntimeError("its download needs the package gdown")
        datasets = _torchvision_datasets()
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / ".lock"), contextlib.redirect_stdout(sys.stderr):
            for file_id, md5, file in datasets.CelebA.file_list:
                if file in CELEBA_FILES:
                    datasets.utils.download_file_from_google_drive(file_id, str(folder), file, md5)
    except Exception as error:  # no network, a quota, no right to write, …: any error is reported
        raise DataError(
            f"CelebA is not in {folder} and was not downloaded ({first_line(error)}): put "
            f"{', '.join(CELEBA_FILES)} from https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html there, or "
            "name the folder that has them as the data root"
        ) from error
    return folder


def download_mnist(name: str, root: Path) -> Path:
    """Download MNIST or Fashion-MNIST below `root`, and return the folder of its files.

    Raises DataError, with the files to put there by hand, where that fails.
    """
    try:
        datasets = _torchvision_datasets()
        root.mkdir(parents=True, exist_ok=True)
        with FileLock(root / f".{name}.lock"), contextlib.redirect_stdout(sys.stderr):
            data = {"mnist": datasets.MNIST, "fashion-mnist": datasets.FashionMNIST}[name](
                str(root), download=True
            )
        return Path(data.raw_folder)
    except Exception as error:  # no network, no right to write, …: any error is reported
        raise DataError(
            f"{name} is not in {root} and was not downloaded ({first_line(error)}): put {MNIST_FILES}, "
            f"gzipped or not, into {root / name}, or name the folder that has them as the data root"
        ) from error


def _torchvision_datasets():
    importlib.import_module("trainables.torchvision_shim")  # torchvision may not import without it
    return importlib.import_module("torchvision.datasets")
