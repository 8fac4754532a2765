"""One trial: what it is, trained again or longer, drawn from, taken along.

    latentune trial SWEEP N                            its card, and the command that trains it again
    latentune trial SWEEP N --reproduce                trained again: are the scores the same?
    latentune trial SWEEP N --epochs 90                trained again, longer
    latentune trial SWEEP N --samples 64 --seed 3      images, drawn with that seed
    latentune trial SWEEP N --explore                  a page of sliders over the units of its latents
    latentune trial SWEEP N --export FOLDER            card, configuration, command, weights and program

Flags can stand together: what is drawn and exported is then of the new training.
"""

import json
import shlex
import shutil
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
import tyro
import yaml
from rich.console import Console

from analysis.charts.text import file_name, number, value_of
from analysis.command import Record, run_command
from analysis.figures import subject_of
from analysis.judgement.card import card
from analysis.judgement.retraining import flags_of, program_of, train_points
from analysis.judgement.seeds import setting_of
from analysis.record.store import AnalysisError, connect
from analysis.record.tables import SEED, Tables, load
from analysis.record.weights import download_weights
from latentune import words_of

if TYPE_CHECKING:
    from mlflow import MlflowClient

PROGRAM = "python -m analysis.trial"
COLUMNS = 8  # of drawn images


@dataclass(frozen=True, kw_only=True)
class TrialConfig(Record):
    """Options of `analysis.trial`."""

    sweep: tyro.conf.Positional[str]
    """name or id of the sweep"""
    number: tyro.conf.Positional[int]
    """the trial's number"""
    reproduce: bool = False
    """train it again, with its settings and its seed, and compare the scores"""
    epochs: int | None = None
    """train it again, from its beginning, for so many epochs"""
    samples: int | None = None
    """draw so many images"""
    seed: int = 0
    """of the noise of --samples"""
    explore: bool = False
    """serve a page of sliders over the units of its latents to this machine, until Ctrl-C"""
    export: Path | None = None
    """folder for its card, configuration, command and, where the record has its weights, the model"""
    form: Literal["pt2", "onnx"] = "pt2"
    """of the exported program, which runs without latentune: torch.export's pt2, or onnx"""

    def __post_init__(self) -> None:
        for name, value in (("epochs", self.epochs), ("samples", self.samples)):
            if value is not None and value < 1:
                raise AnalysisError(f"--{name} is {value}; it must be 1 or more")
        if not 0 <= self.seed < 2**63:
            raise AnalysisError(f"--seed is {self.seed}; it must be between 0 and {2**63 - 1}")


def trial(config: TrialConfig, console: Console) -> int:
    """Show a trial of a sweep; train it again, draw from it, or export it."""
    client = connect(config.tracking_uri)
    tables, n = load(client, config.sweep), config.number
    if n not in set(tables.trials["number"]):
        raise AnalysisError(f"Sweep {tables.sweep.name!r} has no trial {n}; it has {len(tables.trials)}.")
    if config.reproduce or config.epochs:
        again = train_again(client, tables, n, config.epochs)
        console.print(compared(tables, n, again), soft_wrap=True)
        tables, n = again, int(again.trials["number"].iloc[0])
    elif not (config.samples or config.export or config.explore):
        parts = training_of(client, tables, n, Path("points.json"))
        about = card(tables, row_of(tables, n), *parts)
        console.print(about, soft_wrap=True, highlight=False, markup=False)
    if config.samples:
        draw(client, tables, n, config, console)
    if config.export:
        export(client, tables, n, config, console)
    if config.explore:
        from analysis.explorer import explore  # imports PyTorch

        explore(subject_of(client, tables, n), console)
    return 0


def row_of(tables: Tables, n: int) -> pd.Series:
    """Return a trial's row."""
    return tables.trials.set_index("number", drop=False).loc[n]


def settings_of(client: "MlflowClient", tables: Tables, n: int) -> dict[str, Any]:
    """Return all settings of a trial that the record has, with the types that they had."""
    texts = client.get_run(row_of(tables, n)["run_id"]).data.params
    return {name: value_of(text) for name, text in (tables.sweep.shared | texts).items()}


def point_of(tables: Tables, n: int) -> dict[str, Any]:
    """Return what tells a trial from the others of its sweep: its setting and its seed."""
    return setting_of(row_of(tables, n), tables, (*tables.settings, SEED))


def train_again(client: "MlflowClient", tables: Tables, n: int, epochs: int | None) -> Tables:
    """Train a trial again with its settings and its seed, as a sweep of its own; return that.

    Raises AnalysisError where the record does not say how, and where the training fails.
    """
    suffix = f"trial{n}" + (f"-{epochs}" if epochs else "")
    changed = {"epochs": epochs} if epochs else {}
    points = {"points": [point_of(tables, n)]}
    return load(client, train_points(client, tables.sweep, points, suffix, **changed))


def compared(tables: Tables, n: int, again: Tables) -> str:
    """Say how far a second training of a trial scores what the first one did."""
    metric, name = tables.sweep.metric, again.sweep.name
    first = tables.curves(metric).reindex(columns=[n])[n].dropna()
    trial = again.trials.iloc[0]
    second = again.curves(metric).reindex(columns=again.trials["number"]).iloc[:, 0].dropna()
    if second.empty:
        return f"Trained again as {name}: {trial['status']} before its first {metric}."
    epoch = second.index.max()
    words = f"Trained again as {name}: {metric} {number(float(second[epoch]))} at epoch {epoch}"
    if first.empty:
        return f"{words}; the recorded training has reported none."
    both = first.index.intersection(second.index)
    if both.empty:
        return f"{words}."
    apart = np.abs(first[both] - second[both])
    if not apart.any():
        return f"{words}. That is the recorded training, digit by digit, at all {len(both)} common epochs."
    at = both[int(np.argmax(apart > 0))]
    recorded = f"the recorded training had {number(float(first[both[-1]]))} at epoch {both[-1]}"
    return (
        f"{words}; {recorded}. They differ from epoch {at} on, by {apart.max():.2g} at most: other hardware, "
        "packages or settings."
    )


def training_of(client: "MlflowClient", tables: Tables, n: int, points: Path) -> tuple[str, ...]:
    """Return the card's part on training: the settings, and the command, which reads the file `points`."""
    parts = ("## Configuration", f"```yaml\n{as_yaml(settings_of(client, tables, n))}```")
    try:
        command = command_of(tables, points)
    except AnalysisError:
        return parts
    point = json.dumps([point_of(tables, n)])
    return (*parts, "## To train it again", f"```\necho {shlex.quote(point)} > {points.name}\n{command}\n```")


def as_yaml(settings: dict[str, Any]) -> str:
    """Return settings as YAML, in their order."""
    return str(yaml.safe_dump(settings, sort_keys=False, allow_unicode=True))


def command_of(tables: Tables, points: Path) -> str:
    """Return the command that trains the settings in a file as the sweep did. Raises as `program_of`."""
    program, *words = words_of(program_of(tables.sweep), *flags_of(tables.sweep), "--points", str(points))
    return shlex.join([Path(program).name, *words])  # as it is called on any machine


def draw(client: "MlflowClient", tables: Tables, n: int, config: TrialConfig, console: Console) -> None:
    """Write images of a trial's model as one PNG."""
    from analysis.charts.latent import grid  # imports PyTorch
    from analysis.record.trained_model import load_trained

    images = load_trained(client, tables, n).sample(config.samples or 0, config.seed)
    folder = config.export or Path()
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{file_name(tables.sweep.name)}-trial{n}-seed{config.seed}.png"
    grid(images, min(COLUMNS, len(images))).save(path)
    console.print(f"Wrote {path}", soft_wrap=True)


def export(client: "MlflowClient", tables: Tables, n: int, config: TrialConfig, console: Console) -> None:
    """Write what another person needs of a trial into a folder."""
    folder = config.export or Path()
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "trial.yaml").write_text(as_yaml(settings_of(client, tables, n)), encoding="utf-8")
    (folder / "points.json").write_text(json.dumps([point_of(tables, n)]), encoding="utf-8")
    parts = training_of(client, tables, n, Path("points.json"))
    try:
        parts = (*model_files(client, tables, n, folder, config.form), *parts)
    except AnalysisError as error:
        console.print(f"Without its program: {error}", soft_wrap=True)
    (folder / "README.md").write_text(card(tables, row_of(tables, n), *parts), encoding="utf-8")
    names = ", ".join(sorted(path.name for path in folder.iterdir()))
    console.print(f"Wrote {folder}: {names}", soft_wrap=True)


def model_files(client: "MlflowClient", tables: Tables, n: int, folder: Path, form: str) -> tuple[str, ...]:
    """Write a trial's weights and its program; return the card's part on drawing.

    Raises AnalysisError where the record has no weights of it, or they cannot be exported.
    """
    from analysis.judgement import portable  # imports PyTorch
    from analysis.record.trained_model import read_trained

    with tempfile.TemporaryDirectory() as temporary:
        weights = download_weights(client, tables, n, Path(temporary))
        for path in weights.iterdir():
            shutil.copy(path, folder)
    network = read_trained(folder, n).network
    path = folder / f"model.{form}"
    portable.export(network, path)
    lines = portable.how_to_draw(path, network.config.latent_dim)
    return ("## To draw from it", f"```python\n{lines}\n```")


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return its exit code."""
    return run_command(PROGRAM, TrialConfig, trial, arguments)


if __name__ == "__main__":
    sys.exit(main())
