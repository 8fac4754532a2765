"""Images and archives that the tests write."""

import io
import tarfile
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image

REAL = Path(__file__).parents[2].parent / "shared" / "data"


def picture(seed, size=(20, 16), mode="RGB"):
    shape = (size[1], size[0]) + ((3,) if mode == "RGB" else ())
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, shape, np.uint8))


def encoded(image, kind="PNG", **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def write(root, files):
    for name, data in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)
    return root


def classes(n=40):
    return {f"{('cats', 'dogs')[i % 2]}/{i:03}.png": encoded(picture(i)) for i in range(n)}


def celeba(n=30):
    files = {f"img_align_celeba/{i:06}.jpg": encoded(picture(i), "JPEG") for i in range(1, n + 1)}
    rows = [f"{i:06}.jpg {1 if i % 3 == 0 else -1:2d} {-1 if i % 2 else 1:2d}" for i in range(1, n + 1)]
    files["list_attr_celeba.txt"] = "\n".join([str(n), "Smiling Young ", *rows]).encode()
    return files


def pack_tar(path, files, mode="w"):
    with tarfile.open(path, mode) as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return path


def pack_zip(path, files):
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return path
