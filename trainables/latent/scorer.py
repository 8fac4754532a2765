"""The objective: how much a face smiles, as a classifier's probability-weighted mean over degrees 0 to 5."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from filelock import FileLock
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from scipy.stats import spearmanr
from torch import Tensor, nn

from trainables.data.batches import to_float
from trainables.data.sources import cache_of
from trainables.data.store import DataError, ImageStore

BATCH = 64
JUDGE = 1  # the seed of the second scorer, which judges what the search found and is never searched by
FORMAT = 1  # of the cached files; raise it when the same data would give another scorer
NUMBERED = frozenset("012345")
DEGREES_OF_SMILES = {"not smiling": 0.0, "not_smiling": 0.0, "smiling": 5.0}


class ImageRows(Protocol):
    """Images, uint8 (n, H, W, C), in memory or read where they are asked for."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: slice) -> NDArray[np.uint8]: ...


@dataclass(frozen=True)
class ScorerQuality:
    """Quality on the validation split: the share of right classes and Spearman's ρ of the degrees."""

    accuracy: float
    rank_correlation: float
    images: int


class SmileScorer(nn.Module):
    """Four strided convolutions and a linear classifier over `degrees`, for images of any size from 16 on."""

    def __init__(self, channels: int, degrees: Sequence[float]):
        super().__init__()
        self.channels, self.degrees = channels, tuple(float(d) for d in degrees)
        widths = [channels, 32, 64, 128, 128]
        layers: list[nn.Module] = []
        for inputs, outputs in pairwise(widths):
            convolution = nn.Conv2d(inputs, outputs, 3, stride=2, padding=1, bias=False)
            layers += [convolution, nn.BatchNorm2d(outputs), nn.ReLU()]
        self.trunk = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(2), nn.Flatten())
        self.classify = nn.Sequential(nn.Dropout(0.3), nn.Linear(4 * widths[-1], len(self.degrees)))

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits of images in [−1, 1]: (B, C, H, W) -> (B, degrees)."""
        return self.classify(self.trunk(x))

    @torch.no_grad()
    def probabilities(self, images: ImageRows) -> NDArray[np.float64]:
        """Return each image's distribution over `degrees`: (n, H, W, C) -> (n, degrees)."""
        self.eval()
        device = next(self.parameters()).device
        slabs = (images[first : first + 256] for first in range(0, len(images), 256))
        logits = [self(to_float(np.ascontiguousarray(slab), device)).double().cpu() for slab in slabs]
        return torch.cat(logits).softmax(1).numpy()

    def score(self, images: ImageRows) -> NDArray[np.float64]:
        """Return the expected degree of each image: uint8 (n, H, W, C) -> (n,)."""
        return self.probabilities(images) @ np.array(self.degrees)

    def to_bytes(self, quality: ScorerQuality) -> bytes:
        """Return the scorer and its quality as a safetensors file."""
        about = {"channels": self.channels, "degrees": self.degrees, "quality": vars(quality)}
        tensors = {name: tensor.contiguous() for name, tensor in self.state_dict().items()}
        return save_tensors(tensors, {"latentune-scorer": json.dumps(about)})

    @classmethod
    def from_bytes(cls, content: bytes) -> tuple["SmileScorer", ScorerQuality]:
        """Read a file of `to_bytes`. Raises ValueError where it is none."""
        try:
            size = int.from_bytes(content[:8], "little")
            about = json.loads(json.loads(content[8 : 8 + size])["__metadata__"]["latentune-scorer"])
            scorer = cls(about["channels"], about["degrees"])
            scorer.load_state_dict(load_tensors(content))
        except (KeyError, TypeError, ValueError, RuntimeError, SafetensorError) as error:
            raise ValueError(f"no smile scorer's file ({str(error).splitlines()[0]})") from error
        return scorer.eval(), ScorerQuality(**about["quality"])


def smile_degrees(store: ImageStore) -> NDArray[np.float64]:
    """Return the smile degree of each image, (N,), NaN where unknown.

    Classes named 0 to 5 are degrees, as in the synthetic faces and CelebA-Dialog. "not smiling" and
    "smiling", as in CelebA's attribute or in class folders, are 0 and 5. Raises DataError where the data set
    has neither.
    """
    names = list(store.manifest["class_names"])
    if names and all(name in DEGREES_OF_SMILES for name in names):
        degrees = [DEGREES_OF_SMILES[name] for name in names]
    elif names and NUMBERED.issuperset(names):
        degrees = [float(name) for name in names]
    else:
        raise DataError(
            f"{store.name} has the classes {names or 'none'}; smile degrees are classes named 0 to 5, or "
            "'not smiling' and 'smiling'"
        )
    return np.array([*degrees, np.nan])[store.labels]  # the label −1 means unknown


def labels_hash(store: ImageStore) -> str:
    """Return a hash of the images, their labels and what these are called, by which they are degrees."""
    names = json.dumps(store.manifest["class_names"])
    return hashlib.sha256(f"{store.content_hash}{names}".encode()).hexdigest()


def degrees_of(store: ImageStore, split: str) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return the rows of a split whose smile degree is known, and these degrees. Raises as `train_scorer`."""
    degrees, rows = smile_degrees(store), store.split(split)
    rows = rows[~np.isnan(degrees[rows])]
    if (levels := len(np.unique(degrees[rows]))) < 2:
        raise DataError(
            f"the split {split!r} of {store.name} has {levels} smile degrees; a scorer needs two or more, in "
            "training and in validation"
        )
    return rows, degrees[rows]


def quality_on(scorer: SmileScorer, store: ImageStore) -> ScorerQuality:
    """Judge a scorer by the validation split. Raises as `train_scorer`."""
    rows, degrees = degrees_of(store, "validation")
    levels = np.array(scorer.degrees)
    probabilities = scorer.probabilities(store.images[rows])
    return ScorerQuality(
        accuracy=float((levels[probabilities.argmax(1)] == degrees).mean()),
        rank_correlation=float(spearmanr(probabilities @ levels, degrees).statistic),
        images=len(rows),
    )


def train_scorer(store: ImageStore, *, epochs: int, seed: int = 0) -> tuple[SmileScorer, ScorerQuality]:
    """Train on the training split, with all degrees and mirrored images, and judge on the validation split.

    Raises DataError where the splits hold fewer than two degrees.
    """
    rows, degrees = degrees_of(store, "train")
    degrees_of(store, "validation")
    known = smile_degrees(store)
    levels = np.unique(known[~np.isnan(known)])
    targets = np.searchsorted(levels, degrees)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    rng = np.random.default_rng([seed, 7])
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        scorer = SmileScorer(store.manifest["channels"], levels.tolist()).to(device)
        optimizer = torch.optim.Adam(scorer.parameters(), lr=2e-3)
        batches = max(1, len(rows) // BATCH)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, epochs * batches)
        for _ in range(epochs):
            scorer.train()
            order = rng.permutation(len(rows))
            for part in np.array_split(order, batches):
                x = to_float(store.images[rows[part]], device)
                mirrored = torch.from_numpy(rng.random(len(part)) < 0.5).to(device)
                x = torch.where(mirrored[:, None, None, None], x.flip(3), x)
                loss = nn.functional.cross_entropy(scorer(x), torch.from_numpy(targets[part]).to(device))
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
    quality = quality_on(scorer, store)
    return scorer.cpu().eval(), quality


def load_scorer(
    store: ImageStore,
    *,
    weights: Path | None = None,
    cache_dir: Path | None = None,
    epochs: int = 8,
    seed: int = 0,
) -> bytes:
    """Return the scorer's file at `weights` or, without it, one trained on the store or found in the cache.

    Raises DataError where the file holds no scorer, or one for images of another number of channels, or that
    lacks a degree of the store's.
    """
    if weights is not None:
        try:
            content = weights.read_bytes()
            scorer, _ = SmileScorer.from_bytes(content)
        except (OSError, ValueError) as error:
            raise DataError(f"{weights} can't be used as the scorer: {error}") from error
        if scorer.channels != store.manifest["channels"]:
            raise DataError(
                f"the scorer {weights} takes images of {scorer.channels} channels; {store.name} has "
                f"{store.manifest['channels']}"
            )
        known = smile_degrees(store)
        if missing := set(known[~np.isnan(known)]) - set(scorer.degrees):
            raise DataError(
                f"the scorer {weights} knows the degrees {', '.join(f'{d:g}' for d in scorer.degrees)}; "
                f"{store.name} has degree {min(missing):g}"
            )
        return content
    folder = cache_of(store, cache_dir)
    path = folder / f"scorer-{labels_hash(store)[:16]}-{epochs}-{seed}-{FORMAT}.safetensors"
    with FileLock(f"{path}.lock"):
        if not path.exists():
            scorer, quality = train_scorer(store, epochs=epochs, seed=seed)
            partial = path.with_suffix(".partial")
            partial.write_bytes(scorer.to_bytes(quality))
            partial.replace(path)
    return path.read_bytes()
