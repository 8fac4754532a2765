"""The input pipeline against torchvision's: `python -m benchmarks.data [PART …]`.

The same images for both sides, side by side in one run: 10 000 CelebA faces of `celeba10k.tar` in the folder
LATENTUNE_DATA where it is there, else as many synthetic faces; as they are, and enlarged to CelebA's own
178×218. Ratios are medians over rounds in which both sides take turns: the peer's time over ours, and its CPU
time, all processes together, over ours. Where other work disturbs both, `steps` compares the CPU time of the
cheapest single batches and images of one process each. Needs nothing that the project does not install.
"""

import argparse
import functools
import io
import multiprocessing
import os
import shutil
import statistics
import tarfile
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from rich.console import Console
from rich.table import Table

import trainables.torchvision_shim  # noqa: F401

# isort: split
from torch.utils.data import DataLoader, TensorDataset
from torchvision.datasets import ImageFolder
from torchvision.transforms import Compose, Normalize, Resize, ToTensor

from benchmarks import records
from tests.fixtures.real_data import REAL
from trainables.data.batches import Batches, to_float
from trainables.data.decoding import Preprocessing, convert_chunk
from trainables.data.formats.readers import FileReader
from trainables.data.sources import load
from trainables.data.store import ImageStore
from trainables.data.synthetic.faces import FACES

ARCHIVE = REAL / "celeba10k.tar"
CELEBA_SIZE = (178, 218)
SIZE, BATCH, COPIES = 64, 256, 4
CORES = len(os.sched_getaffinity(0))


def image_folder(root: Path, size: tuple[int, int] | None) -> Path:
    """Write the images as JPEG files into root/all, of `size` where it is given; return root."""
    if root.exists():
        return root
    partial = root.with_name(f"{root.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    (partial / "all").mkdir(parents=True)
    for i, (data, image) in enumerate(encoded()):
        path = partial / "all" / f"{i:06}.jpg"
        if size is None and data is not None:
            path.write_bytes(data)
        else:
            image().resize(size or CELEBA_SIZE, Image.Resampling.BICUBIC).save(path, quality=85)
    return partial.rename(root)


def encoded() -> Iterator[tuple[bytes | None, Callable[[], Image.Image]]]:
    if ARCHIVE.exists():
        with tarfile.open(ARCHIVE) as archive:
            for member in archive:
                if member.name.endswith(".jpg"):
                    data = archive.extractfile(member).read()
                    yield data, lambda data=data: Image.open(io.BytesIO(data))
        return
    for first in range(0, 10_000, 100):
        for face in FACES.render(100, image_size=128, first=first)[0]:
            yield None, lambda face=face: Image.fromarray(face)


def clocks() -> np.ndarray:
    """Return the time, and the CPU seconds of this process and its children, those that have ended, too."""
    ticks = sum(cpu_ticks(pid) for pid in family(os.getpid()))
    return np.array([time.perf_counter(), ticks / os.sysconf("SC_CLK_TCK")])


def seconds_a_batch(loader: Callable[[], Iterator], at_least: float) -> np.ndarray:
    """Run whole epochs for at least that many seconds; return the time and the CPU time of a batch."""
    batches, start = 0, clocks()
    while time.perf_counter() - start[0] < at_least:
        for _ in loader():
            batches += 1
    return (clocks() - start) / batches


def serving(folder: Path, cache: Path, rounds: int) -> list[tuple[str, float, np.ndarray]]:
    """Return for each peer its name, its batches a second, and how often our time and CPU time fit in its."""
    torch.set_num_threads(1)  # what a trial with one CPU has; the peers have a worker a core
    store = load(folder, image_size=SIZE, channels=3, cache_dir=cache)
    batches, epoch = Batches(store, "train", BATCH), iter(range(10**9))
    transform = Compose([Resize((SIZE, SIZE)), ToTensor(), Normalize([0.5] * 3, [0.5] * 3)])
    options = {"batch_size": BATCH, "shuffle": True, "drop_last": True}
    parallel = {"num_workers": CORES, "persistent_workers": True}
    tensors = TensorDataset(to_float(store.images).contiguous())
    loaders = {
        f"ImageFolder, DataLoader, {CORES} workers": DataLoader(
            ImageFolder(folder, transform), **options, **parallel
        ),
        f"float tensors, DataLoader, {CORES} workers": DataLoader(tensors, **options, **parallel),
        "float tensors, DataLoader, no workers": DataLoader(tensors, **options),
    }
    for loader in loaders.values():
        next(iter(loader))  # start the workers
    peers: dict[str, list[float]] = {name: [] for name in loaders}
    ratios: dict[str, list[np.ndarray]] = {name: [] for name in loaders}
    for _ in range(rounds):
        for name, loader in loaders.items():
            ours = seconds_a_batch(lambda: batches.epoch(next(epoch)), 1.0)
            peer = seconds_a_batch(lambda loader=loader: iter(loader), 1.0)
            ours = (ours + seconds_a_batch(lambda: batches.epoch(next(epoch)), 1.0)) / 2
            peers[name].append(1 / peer[0])
            ratios[name].append(peer / ours)
    return [(name, statistics.median(peers[name]), np.median(ratios[name], axis=0)) for name in loaders]


def trial(path: Path, ready, stop) -> None:
    """Do what a trial does with its data, and wait with it in memory."""
    torch.set_num_threads(1)
    batches = Batches(ImageStore(path), "train", BATCH)
    for _ in batches.epoch(0):
        pass
    ready.put(os.getpid())
    stop.wait()


def memory(store: ImageStore, trials: int) -> tuple[float, float]:
    """Return the MB that the store's pages take in so many processes, and that all their pages take.

    Proportional set sizes: a page that k processes share counts 1/k in each.
    """
    context = multiprocessing.get_context("spawn")
    ready, stop = context.Queue(), context.Event()
    processes = [context.Process(target=trial, args=(store.path, ready, stop)) for _ in range(trials)]
    for process in processes:
        process.start()
    pids = [ready.get() for _ in processes]
    sizes = [proportional(pid, store.path) for pid in pids]
    stop.set()
    for process in processes:
        process.join()
    return sum(size[0] for size in sizes) / 1e3, sum(size[1] for size in sizes) / 1e3


def proportional(pid: int, path: Path) -> tuple[int, int]:
    """Return the kB of a process's share of a file's pages, and of all its pages."""
    of_file = of_all = 0
    inside = False
    with open(f"/proc/{pid}/smaps") as smaps:
        for line in smaps:
            if not line.split()[0].endswith(":"):
                inside = line.rstrip().endswith(str(path))
            elif line.startswith("Pss:"):
                size = int(line.split()[1])
                of_all += size
                of_file += size * inside
    return of_file, of_all


def plain_loop(paths: list[Path], target: Path) -> None:
    """Convert with Pillow, as one writes it down; the result lies in a .npy file."""
    images = np.lib.format.open_memmap(target, "w+", np.uint8, (len(paths), SIZE, SIZE, 3))
    for i, path in enumerate(paths):
        images[i] = np.asarray(
            Image.open(path).convert("RGB").resize((SIZE, SIZE), Image.Resampling.BILINEAR)
        )
    images.flush()


class Peak:
    """The anonymous memory that this process and its children took while in the context, at most, in MB."""

    def __enter__(self):
        self.megabytes, self._stop = 0.0, threading.Event()
        self._before = sum(anonymous(pid) for pid in family(os.getpid())) / 1e3
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        self._thread.join()

    def _watch(self):
        while not self._stop.wait(0.5):
            now = sum(anonymous(pid) for pid in family(os.getpid())) / 1e3
            self.megabytes = max(self.megabytes, now - self._before)


def family(pid: int) -> list[int]:
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return []
    return [pid, *(member for child in children for member in family(int(child)))]


def cpu_ticks(pid: int) -> int:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0
    return sum(int(field) for field in fields[11:15])  # user, system, and those of children waited for


def anonymous(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) for line in lines if line.startswith("RssAnon"))


def conversion(folder: Path, scratch: Path, rounds: int, copies: int):
    """Return the number of images, the loop's images a second, how often our time and CPU time fit in the
    loop's, and our peak MB.
    """
    many = scratch / f"{folder.name}-{copies}"
    if not many.exists():
        many.mkdir()
        for path in sorted((folder / "all").iterdir()):
            for copy in range(copies):
                os.link(path, many / f"{path.stem}-{copy}.jpg")
    paths, speeds, ratios, peak = sorted(many.iterdir()), [], [], 0.0
    for _ in range(rounds):
        start = clocks()
        plain_loop(paths, scratch / "loop.npy")
        loop = clocks() - start
        with tempfile.TemporaryDirectory(dir=scratch) as cache, Peak() as watch:
            start = clocks()
            store = load(many, image_size=SIZE, channels=3, cache_dir=Path(cache))
            ours = clocks() - start
            same = np.load(scratch / "loop.npy", mmap_mode="r")
            if not np.array_equal(store.images[::97], same[::97]):
                raise RuntimeError("the two conversions differ")
        speeds.append(len(paths) / loop[0])
        ratios.append(loop / ours)
        peak = max(peak, watch.megabytes)
    return len(paths), statistics.median(speeds), np.median(ratios, axis=0), peak


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", help=f"some of {', '.join(PARTS)}; all by default; or table")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--scratch", type=Path, help="keep the images there for the next run")
    args = parser.parse_args()
    if args.parts == ["table"]:
        table()
        return
    shown = Table("what", "images", "peer", "time", "CPU time", title=f"{SIZE}×{SIZE}, batches of {BATCH}")
    with tempfile.TemporaryDirectory() as temporary:
        scratch = args.scratch or Path(temporary)
        for part in args.parts or PARTS:
            for row in PARTS[part](scratch, args.rounds):
                shown.add_row(*row)
    Console(width=130).print(shown)


def folder_of(size: str, scratch: Path) -> Path:
    return image_folder(scratch / size.replace(" ", "-"), None if size == OWN else CELEBA_SIZE)


def serving_rows(size: str, scratch: Path, rounds: int) -> Iterator[tuple[str, ...]]:
    for name, speed, ratio in serving(folder_of(size, scratch), scratch / "cache", rounds):
        yield f"batches/s: {name}", size, f"{speed:.1f}", *(f"{r:.1f}×" for r in ratio)


def conversion_rows(size: str, copies: int, scratch: Path, rounds: int) -> Iterator[tuple[str, ...]]:
    n, speed, ratio, peak = conversion(folder_of(size, scratch), scratch, rounds, copies)
    what = f"converted images/s: Pillow loop, {n} images (ours took at most {peak:.0f} MB)"
    yield what, size, f"{speed:.0f}", *(f"{r:.2f}×" for r in ratio)


def steps(folder: Path, cache: Path, n: int) -> Iterator[tuple[str, float, float]]:
    """Yield what is done, the peer's CPU milliseconds in one process, and ours."""
    torch.set_num_threads(1)
    store = load(folder, image_size=SIZE, channels=3, cache_dir=cache)
    batches = Batches(store, "train", BATCH)
    transform = Compose([Resize((SIZE, SIZE)), ToTensor(), Normalize([0.5] * 3, [0.5] * 3)])
    options = {"batch_size": BATCH, "shuffle": True, "drop_last": True}
    tensors = TensorDataset(to_float(store.images).contiguous())
    ours = min(fastest(batches.epoch(number), 100) for number in range(20))
    yield (
        "a batch, `ImageFolder` + `DataLoader`",
        fastest(DataLoader(ImageFolder(folder, transform), **options), n),
        ours,
    )
    yield "a batch, float tensors in memory + `DataLoader`", fastest(DataLoader(tensors, **options), n), ours
    paths = sorted((folder / "all").iterdir())
    reader, some = FileReader(folder / "all", [path.name for path in paths]), 64
    preprocessing = Preprocessing(SIZE)
    target = cache / "loop.npy"
    loop = fastest((plain_loop(paths[i * some :][:some], target) for i in range(n)), n)
    chunks = (convert_chunk(reader.part(range(i * some, (i + 1) * some)), preprocessing) for i in range(n))
    yield f"{some} images converted, plain Pillow loop", loop, fastest(chunks, n)


def fastest(steps: Iterable, n: int) -> float:
    """Return the CPU time of the cheapest of the first n steps, in milliseconds."""
    iterator, best = iter(steps), float("inf")
    for _ in range(n):
        start = time.process_time()
        if next(iterator, steps) is steps:
            break
        best = min(best, time.process_time() - start)
    return best * 1e3


def step_rows(size: str, scratch: Path, rounds: int) -> Iterator[tuple[str, ...]]:
    rows = []
    for what, peer, ours in steps(folder_of(size, scratch), scratch / "cache", 6 * rounds):
        rows.append({"step": what, "images": size, "peer_ms": peer, "ours_ms": ours})
        yield f"CPU ms, one process: {what} (ours {ours:.2f})", size, f"{peer:.2f}", "", f"{peer / ours:.2f}×"
    records.renew("data", f"steps, {size}", rows)


def table() -> None:
    """Print what is on record of `steps` and `steps-full`."""
    rows = []
    for row in records.read("data"):
        cells = [row["step"], row["images"], f"{row['peer_ms']:.3g}", f"{row['ours_ms']:.3g}"]
        rows.append([*cells, f"{row['peer_ms'] / row['ours_ms']:.3g}×"])
    records.table(["step", "images", "peer", "ours", "ratio"], rows)


def memory_rows(scratch: Path, _: int) -> Iterator[tuple[str, ...]]:
    store = load(folder_of(OWN, scratch), image_size=SIZE, channels=3, cache_dir=scratch / "cache")
    one, four = memory(store, 1), memory(store, 4)
    for what, a, b in zip(("the data's memory", "all memory"), one, four, strict=True):
        yield f"{what}, MB: 1 trial; 4 trials against it", f"{len(store)}", f"{a:.1f}", f"{b / a:.2f}×"


OWN, FULL = "as they are", "178×218"
PARTS: dict[str, Callable[[Path, int], Iterator[tuple[str, ...]]]] = {
    "serving": functools.partial(serving_rows, OWN),
    "serving-full": functools.partial(serving_rows, FULL),
    "steps": functools.partial(step_rows, OWN),
    "steps-full": functools.partial(step_rows, FULL),
    "memory": memory_rows,
    "conversion": functools.partial(conversion_rows, OWN, 1),
    "conversion-40k": functools.partial(conversion_rows, OWN, COPIES),
    "conversion-full": functools.partial(conversion_rows, FULL, 1),
}

if __name__ == "__main__":
    main()
