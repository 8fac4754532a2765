"""Learning curves that others recorded, as tables of configurations: what a search over partial training is
run on.

The data are not in the repository: LATENTUNE_CURVES names their folder, or they lie in ../shared/data/curves.
TaskSet: Adam on small recurrent language models, 1000 configurations of eight dimensions, 50 epochs (Metz et
al. 2020, from machinelearningnuremberg/DPL). LCBench: YAHPO's surrogate (Pfisterer et al. 2022, slds-
lmu/yahpo_data) of 34 data sets, seven dimensions, 52 epochs; needs onnxruntime. Our own: `curves.py`.
"""

import json
import os
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.searchers import curves

FOLDER = Path(os.environ.get("LATENTUNE_CURVES", Path(__file__).parents[2] / "../shared/data/curves"))
WORST = 20.0  # regrets, in units of the median's, from which training has diverged


class MissingCurvesError(RuntimeError):
    """The recorded curves, or what reads them, are not there; the message says what is missing."""


class Table:
    """Curves over the unit cube of `d` dimensions, `epochs` long; `levels` (d,): values of a discrete one, or
    0.

    `noise`: standard deviation that is added to every value a searcher sees.
    """

    name: str
    d: int
    epochs: int
    levels: tuple[int, ...]
    best: float
    median: float
    noise: float = 0.0

    @property
    def worst(self) -> float:
        """The value at which a trial has diverged."""
        return self.best + WORST * (self.median - self.best)

    def regret(self, final: float) -> float:
        """Return a final value's regret in units of a random configuration's median, at most 1.5."""
        return min(max((final - self.best) / (self.median - self.best), 0.0), 1.5)

    def snap(self, u: np.ndarray) -> np.ndarray:
        """Return the point that a discrete table holds nearest to u (d,)."""
        u = np.clip(np.asarray(u, dtype=float), 0.0, 1.0)
        for j, count in enumerate(self.levels):
            if count:
                u[j] = (min(int(u[j] * count), count - 1) + 0.5) / count
        return u

    def take(self, u: np.ndarray, taken: set[int]) -> np.ndarray:
        """Return the configuration to be trained when a searcher asks for u (d,)."""
        return self.snap(u)

    def curve(self, u: np.ndarray) -> np.ndarray:
        """Return the loss after each epoch, (epochs,)."""
        raise NotImplementedError


class Recorded(Table):
    """A table of configurations (n, d) and their curves (n, epochs); nan where one diverged.

    It hands out the nearest configuration that this search has not had yet: otherwise a searcher buys one
    curve again and again.
    """

    def __init__(self, name: str, U: np.ndarray, Y: np.ndarray, levels: tuple[int, ...] | None = None):
        self.name, self.U, self.levels = name, U, levels or (0,) * U.shape[1]
        self.d, self.epochs = U.shape[1], Y.shape[1]
        finals = np.where(np.isfinite(Y[:, -1]), Y[:, -1], np.inf)
        self.best, self.median = float(finals.min()), float(np.median(finals))
        self.Y = np.minimum(np.where(np.isfinite(Y), Y, np.inf), self.worst)

    def take(self, u: np.ndarray, taken: set[int]) -> np.ndarray:
        distance = np.sum((self.U - u) ** 2, axis=1)
        if len(taken) < len(self.U):
            distance[list(taken)] = np.inf
        nearest = int(np.argmin(distance))
        taken.add(nearest)
        return self.U[nearest].copy()

    def curve(self, u: np.ndarray) -> np.ndarray:
        return self.Y[int(np.argmin(np.sum((self.U - u) ** 2, axis=1)))]


class LCBench(Table):
    """One data set's curves by YAHPO's network; `noisy` ones get a tenth of the median's regret as noise."""

    d, epochs, levels = 7, 52, (0, 0, 0, 0, 5, 0, 0)

    def __init__(self, index: int, metric: str, noisy: bool = False):
        self.session, self.codes, tasks = _lcbench()
        self.task, self.metric = tasks[index], metric
        self.name = f"lcbench-{self.task}-{metric}" + ("-noisy" if noisy else "")
        self.best, self.median = self._extent()
        if noisy:
            self.noise = 0.1 * (self.median - self.best)

    def _extent(self) -> tuple[float, float]:
        """Return the best final value that a long search finds and the median of random ones; kept in a
        file."""
        path = Path(tempfile.gettempdir()) / f"latentune-lcbench-{self.task}-{self.metric}.json"
        if not path.exists():
            rng = np.random.default_rng(1)
            U = np.array([self.snap(u) for u in rng.random((20000, 7))])
            finals = self._evaluate(U, np.array([52]))[:, 0]
            best, top = finals.min(), U[np.argsort(finals)[:30]]
            for scale in (0.1, 0.05, 0.02, 0.01):
                moved = rng.standard_normal((1800, 7)) * (rng.random((1800, 7)) < 0.5) * scale
                U = np.vstack([top, [self.snap(u) for u in np.repeat(top, 60, axis=0) + moved]])
                near = self._evaluate(U, np.array([52]))[:, 0]
                best, top = min(best, near.min()), U[np.argsort(near)[:30]]
            path.write_text(json.dumps([float(best), float(np.median(finals))]))
        best, median = json.loads(path.read_text())
        return best, median

    def _evaluate(self, U: np.ndarray, epochs: np.ndarray) -> np.ndarray:
        """Return losses, (n, epochs); dimensions as in YAHPO's `config_space.json`."""
        n, m = len(U), len(epochs)
        log = lambda u, low, high: np.exp(np.log(low) + u * np.log(high / low))  # noqa: E731
        settings = np.stack(
            [
                np.round(log(U[:, 0], 16, 512)),  # batch size
                log(U[:, 1], 1e-4, 1e-1),  # learning rate
                0.1 + 0.89 * U[:, 2],  # momentum
                1e-5 + U[:, 3] * (0.1 - 1e-5),  # weight decay
                np.floor(np.minimum(U[:, 4] * 5, 4.999)) + 1,  # layers
                np.round(log(U[:, 5], 64, 1024)),  # units
                U[:, 6],  # dropout
            ],
            axis=1,
        )
        rows = np.hstack([np.tile(epochs, n)[:, None], np.repeat(settings, m, axis=0)]).astype(np.float32)
        task = np.full((n * m, 1), self.codes[self.task], dtype=np.int32)
        out = self.session.run(None, {"x_cat": task, "x_cont": rows})[0]
        loss = 100 - out[:, 1] if self.metric == "accuracy" else out[:, 2]
        return loss.reshape(n, m).astype(float)

    def curve(self, u: np.ndarray) -> np.ndarray:
        return self._evaluate(np.asarray(u)[None], np.arange(1, 53))[0]


@cache
def _lcbench() -> tuple[Any, dict[str, int], list[str]]:
    try:
        import onnxruntime
    except ImportError:
        raise MissingCurvesError("LCBench's surrogate needs onnxruntime") from None
    if not (FOLDER / "lcbench/model.onnx").exists():
        raise MissingCurvesError(f"There are no curves in {FOLDER}; LATENTUNE_CURVES names their folder")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(FOLDER / "lcbench/model.onnx", options)
    codes = json.loads((FOLDER / "lcbench/encoding.json").read_text())["OpenML_task_id"]
    space = json.loads((FOLDER / "lcbench/config_space.json").read_text())
    return session, codes, space["hyperparameters"][0]["choices"]


def taskset(index: int) -> Recorded:
    """Return one of the TaskSet tables, in the order of their names."""
    files = sorted(FOLDER.glob("taskset_*.npz"))
    if not files:
        raise MissingCurvesError(f"There are no curves in {FOLDER}; LATENTUNE_CURVES names their folder")
    stored = np.load(files[index])
    return Recorded(files[index].stem, stored["U"], stored["Y"][:, 1:])


def own(model: str) -> Recorded:
    """Return the recorded curves of one of our models, a grid of β and learning rate."""
    values, _ = curves.load(model)
    grid = values.shape[:2]
    index = np.stack(np.meshgrid(*map(np.arange, grid), indexing="ij"), axis=-1).reshape(-1, 2)
    return Recorded(f"own-{model}", (index + 0.5) / grid, values.reshape(-1, values.shape[2]), grid)


# Written down before any run of this benchmark. The method's settings may be chosen on the first tables
# alone; the second ones are run once it is settled. (The priors of `curve_gp.py` were chosen earlier, on all
# TaskSet tables and on every third LCBench task, 0, 3, …: of the judging ones, the TaskSet tables are not new
# to them.)
DESIGN = {
    "taskset-0": lambda: taskset(0),
    "taskset-2": lambda: taskset(2),
    "lcbench-0": lambda: LCBench(0, "accuracy"),
    "lcbench-9": lambda: LCBench(9, "cross_entropy"),
    "lcbench-18": lambda: LCBench(18, "accuracy", noisy=True),
    "lcbench-27": lambda: LCBench(27, "cross_entropy"),
    "own-VAE": lambda: own("VAE"),
    "own-BetaVAEGAN": lambda: own("BetaVAEGAN"),
}
JUDGE = {
    "lcbench-1": lambda: LCBench(1, "accuracy"),
    "lcbench-4": lambda: LCBench(4, "cross_entropy"),
    "lcbench-7": lambda: LCBench(7, "accuracy"),
    "lcbench-13": lambda: LCBench(13, "cross_entropy"),
    "lcbench-19": lambda: LCBench(19, "accuracy", noisy=True),
    "lcbench-22": lambda: LCBench(22, "cross_entropy"),
    "lcbench-25": lambda: LCBench(25, "accuracy"),
    "lcbench-31": lambda: LCBench(31, "cross_entropy", noisy=True),
    "taskset-1": lambda: taskset(1),
    "taskset-3": lambda: taskset(3),
    "taskset-5": lambda: taskset(5),
    "taskset-7": lambda: taskset(7),
}
