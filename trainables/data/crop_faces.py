"""Crop the largest face of each image with MTCNN, keeping folders and names.

A step before conversion, in an environment of its own: `pip install facenet-pytorch` pins an old torch;
then `python crop_faces.py IMAGES CROPS`. Nothing of this project is imported. Crops are square, a margin of a
fifth around the detector's box, at their own resolution: the conversion resizes them. What is done already is
not done again, and images without a face are named at the end.
"""

import sys
from pathlib import Path

MARGIN = 0.2
SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp"}


def main(arguments: list[str] | None = None) -> int:
    """Crop; return the exit code, 2 where the arguments or the package are missing."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if len(arguments) != 2 or not Path(arguments[0]).is_dir():
        print("crop_faces: give the folder of the images and a folder for the crops", file=sys.stderr)
        return 2
    try:
        from facenet_pytorch import MTCNN
    except ImportError:
        print("crop_faces: there is no facenet-pytorch; install it into a venv of its own", file=sys.stderr)
        return 2
    source, target = Path(arguments[0]), Path(arguments[1])
    without = crop_all(source, target, MTCNN(select_largest=True, post_process=False))
    print(f"{len(without)} images have no face{': ' if without else ''}{', '.join(map(str, without[:20]))}")
    return 0


def crop_all(source: Path, target: Path, detector) -> list[Path]:
    """Write the crops of all images below `source`; return the names of those without a face."""
    from PIL import Image

    without = []
    for path in sorted(path for path in source.rglob("*") if path.suffix.lower() in SUFFIXES):
        name = path.relative_to(source)
        crop = (target / name).with_suffix(".png")
        if crop.exists():
            continue
        image = Image.open(path).convert("RGB")
        boxes, _ = detector.detect(image)
        if boxes is None:
            without.append(name)
            continue
        crop.parent.mkdir(parents=True, exist_ok=True)
        partial = crop.with_suffix(".partial")
        image.crop(square(boxes[0])).save(partial, "PNG")
        partial.rename(crop)
    return without


def square(box) -> tuple[int, int, int, int]:
    """Return the square around a box (left, upper, right, lower), in pixels, with its margin."""
    left, upper, right, lower = (float(edge) for edge in box)
    half = max(right - left, lower - upper) * (1 + MARGIN) / 2
    x, y = (left + right) / 2, (upper + lower) / 2
    return round(x - half), round(y - half), round(x + half), round(y + half)


if __name__ == "__main__":
    sys.exit(main())
