"""The images that trials have recorded, as a page of HTML holds them."""

import base64
import io
import re
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from PIL import Image

from analysis.record.tables import Tables
from searchers.record.schema import IMAGES_FOLDER

if TYPE_CHECKING:
    from mlflow import MlflowClient

IMAGE_BYTES = 9_000_000  # of all trials' images together; base64 adds a third
REFUSALS = 5  # images in a row that have no room: none of the rest is fetched
# MLflow's own name of an image: key, "step", epoch, "timestamp", …; its separator depends on the version.
IMAGE_NAME = re.compile(r"(?P<key>.+?)[+%]step[+%](?P<epoch>\d+)[+%].*\.png")


def images_of(
    client: "MlflowClient", tables: Tables, best_first: list[int]
) -> dict[int, dict[str, dict[int, str]]]:
    """Return images by trial, key and epoch as data URIs: every trial's last, then the best ones' earlier.

    The last are PNG, as they were recorded, unless they are large; those and the earlier ones are WebP. What
    has no room in IMAGE_BYTES is left out.
    """
    run_ids = dict(zip(tables.trials["number"], tables.trials["run_id"], strict=True))
    order = best_first + [n for n in run_ids if n not in best_first]
    wanted: list[tuple[bool, int, int, bool, str, str]] = []
    for rank, n in enumerate(order):
        names = named_images(client, run_ids[n])
        last = max((int(match["epoch"]) for match, _ in names), default=0)
        for match, path in names:
            earlier = int(match["epoch"]) < last
            other = match["key"] != "samples"  # what a person looks for first
            wanted.append((earlier, rank, -int(match["epoch"]), other, match["key"], path))
    images: dict[int, dict[str, dict[int, str]]] = {}
    left, refused = IMAGE_BYTES, 0
    with tempfile.TemporaryDirectory() as folder:
        for earlier, rank, epoch, _, key, path in sorted(wanted):
            local = Path(client.download_artifacts(run_ids[order[rank]], path, folder))
            small = earlier or local.stat().st_size > IMAGE_BYTES // 20
            uri, size = encoded(local, "WEBP" if small else "PNG")
            local.unlink()
            if size > left:
                refused += 1
                if earlier and refused >= REFUSALS:
                    break
                continue
            left, refused = left - size, 0
            images.setdefault(order[rank], {}).setdefault(key, {})[-epoch] = uri
    return images


def latest_samples(client: "MlflowClient", run_id: str) -> str | None:
    """Return the path, among a run's artifacts, of the samples that it recorded last; None without any."""
    _, path = last_images(client, run_id).get("samples", (0, None))
    return path


def named_images(client: "MlflowClient", run_id: str) -> list[tuple[re.Match[str], str]]:
    """Return a trial's images: the parts of each one's name, and its path in the record."""
    found = [file.path for file in client.list_artifacts(run_id, IMAGES_FOLDER)]
    return [(match, path) for path in found if (match := IMAGE_NAME.fullmatch(Path(path).name))]


def last_images(client: "MlflowClient", run_id: str) -> dict[str, tuple[int, str]]:
    """Return epoch and path of the last image of each key of a trial."""
    names = sorted(named_images(client, run_id), key=lambda named: int(named[0]["epoch"]))
    return {match["key"]: (int(match["epoch"]), path) for match, path in names}


def encoded(path: Path, form: Literal["PNG", "WEBP"]) -> tuple[str, int]:
    """Return an image as a data URI, and how many bytes it has."""
    file = io.BytesIO()
    with Image.open(path) as image:
        options: dict[str, Any] = {"quality": 82, "method": 4} if form == "WEBP" else {"optimize": True}
        image.save(file, form, **options)
    return data_uri(file.getvalue(), form.lower()), len(file.getvalue())


def data_uri(content: bytes, form: str) -> str:
    """Return an image's file as a page holds it; form: its media type, such as svg+xml."""
    return f"data:image/{form};base64,{base64.b64encode(content).decode()}"
