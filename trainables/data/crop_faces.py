"""Crop the largest face of each image with MTCNN, keeping folders and names.

A step before conversion, in an environment of its own: `pip install facenet-pytorch` pins an old torch;
then `python crop_faces.py IMAGES CROPS`. Nothing of this project is imported. Crops are square, a margin of a
fifth around the detector's box, at their own resolution: the conversion resizes them. What is done already is
not done again. Images without a face, and those that can't be read, are named at the end with the reason.
"""

import sys
from collections import Counter
from pathlib import Path

MARGIN = 0.2
NAMED = 20  # images left out that are named
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
    left_out = crop_all(source, target, MTCNN(select_largest=True, post_process=False))
    print(f"{len(left_out)} images left out")
    for name, why in left_out[:NAMED]:
        print(f"{name}: {why}")
    return 0


def crop_all(source: Path, target: Path, detector) -> list[tuple[Path, str]]:
    """Write the crops of all images below `source`; return names and reasons of those that have none.

    Of two images that differ in their endings alone each keeps its own before the crop's: a.jpg.png.
    """
    from PIL import Image, ImageOps

    found = [path.relative_to(source) for path in source.rglob("*") if path.suffix.lower() in SUFFIXES]
    names = sorted(name for name in found if not any(part.startswith(".") for part in name.parts))
    alike = Counter(name.with_suffix("") for name in names)
    left_out = []
    for name in names:
        crop = target / (name.with_suffix(".png") if alike[name.with_suffix("")] == 1 else f"{name}.png")
        if crop.exists():
            continue
        try:
            image = ImageOps.exif_transpose(Image.open(source / name)).convert("RGB")
        except Exception as error:  # decoders raise anything: OSError, SyntaxError, struct.error, …
            left_out.append((name, str(error) or type(error).__name__))
            continue
        boxes, _ = detector.detect(image)
        if boxes is None:
            left_out.append((name, "no face"))
            continue
        crop.parent.mkdir(parents=True, exist_ok=True)
        partial = crop.with_suffix(".partial")
        image.crop(square(boxes[0])).save(partial, "PNG")
        partial.rename(crop)
    return left_out


def square(box) -> tuple[int, int, int, int]:
    """Return the square around a box (left, upper, right, lower), in pixels, with its margin."""
    left, upper, right, lower = (float(edge) for edge in box)
    half = max(right - left, lower - upper) * (1 + MARGIN) / 2
    x, y = (left + right) / 2, (upper + lower) / 2
    return round(x - half), round(y - half), round(x + half), round(y + half)


if __name__ == "__main__":
    sys.exit(main())
