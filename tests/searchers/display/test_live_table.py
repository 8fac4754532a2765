"""What a person sees while a sweep of 40 trials runs, on real pseudo-terminals of several sizes."""

import contextlib
import io
import math
import re
from pathlib import Path
from types import SimpleNamespace

import pytest
from ray import tune
from ray.tune.search import Searcher
from rich.console import Console

from searchers.display import live_table
from searchers.display.forecast import SECONDS
from searchers.display.layout import MARKS
from searchers.display.live_table import LiveTable
from searchers.display.snapshot import Told
from searchers.record.ledger import Ledger
from searchers.record.ledger_callback import LedgerCallback
from searchers.record.schema import FAILED
from searchers.record.trials import TrialRecord
from searchers.scheduling.rule import PauseRule
from searchers.scheduling.tune_scheduler import PauseScheduler
from tests.fixtures.embedded import embedded_ray
from tests.fixtures.screen import Screen

EPOCHS, TRIALS = 9, 40
SPACE = {
    "beta": tune.uniform(1, 150),
    "learning_rate": tune.loguniform(1e-5, 1e-2),
    "latent_dim": tune.randint(8, 128),
    "gamma": tune.uniform(0, 1),
}
SIZES = [(width, dimensions) for width in (40, 80, 200) for dimensions in (1, 4)]
REFERENCES = {"grey": 206.0, "mean image": 100.3, "real images": 1.553}
METRIC = "fd_efficientnet_lite0"


class Curve(tune.Trainable):
    """A curve that falls to a bowl over β; every eighth model draws one image only."""

    def setup(self, config):
        self.floor, self.at = 40 + ((config["beta"] - 75) / 10) ** 2, 0

    def step(self):
        self.at += 1
        flags = "collapsed" if int(self.floor * 1000) % 8 == 0 else ""
        return {METRIC: self.floor + 60 / self.at, f"{METRIC}_std": 1.25, "flags": flags}

    def save_checkpoint(self, folder):
        Path(folder, "at").write_text(str(self.at))

    def load_checkpoint(self, folder):
        self.at = int(Path(folder, "at").read_text())

    def reset_config(self, config):
        self.setup(config)
        return True


class Draws(Searcher):
    """Any searcher of Tune: it draws from the space."""

    def set_search_properties(self, metric, mode, config, **spec):
        return True

    def suggest(self, trial_id):
        return {name: domain.sample() for name, domain in SPACE.items()}

    def on_trial_complete(self, trial_id, result=None, error=False):
        pass


class Photographer(tune.Callback):
    """Keeps what is on the screens once nearly all trials have begun, and what is known then."""

    def __init__(self, tables, screens, rule):
        self.tables, self.screens, self.rule, self.taken = tables, screens, rule, {}

    def on_step_end(self, iteration, trials, **info):
        running = [trial for trial in trials if trial.status == "RUNNING"]
        if self.taken or len(self.rule.trials) < TRIALS - 2 or not running:
            return
        for size, table in self.tables.items():
            table.live.update(table.snapshot(), refresh=True)
            self.taken[size] = self.screens[size].text()
        table = self.tables[200, 4]
        self.running = {table.records[t].number for t in table.running}
        self.best = next(row.number for row in table.snapshot().rows if row.best)


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    """A sweep of 40 trials on two workers, shown on six terminals at once."""
    folder = tmp_path_factory.mktemp("sweep")
    ledger = Ledger(folder / "ledger.jsonl")
    recorder = LedgerCallback(ledger, folder, EPOCHS)
    rule = PauseRule(EPOCHS, 1, first_trials=4, budget=16 * EPOCHS, max_trials=TRIALS)
    scheduler = PauseScheduler(rule)
    screens = {size: Screen(size[0]) for size in SIZES}
    tables = {}
    for size, screen in screens.items():
        told = Told(METRIC, "min", list(SPACE)[: size[1]], EPOCHS, references=REFERENCES)
        tables[size] = LiveTable(
            recorder.records, told, num_samples=TRIALS, console=screen.console, rule=rule
        )
    photographer = Photographer(tables, screens, rule)
    with embedded_ray(num_cpus=2), contextlib.ExitStack() as shown:
        for table in tables.values():
            shown.enter_context(table)
        tune.run(
            Curve,
            name="sweep",
            config=SPACE,
            metric=METRIC,
            mode="min",
            storage_path=str(folder),
            search_alg=scheduler.gate(Draws(METRIC, "min")),
            scheduler=scheduler,
            stop={"training_iteration": EPOCHS},
            num_samples=-1,
            reuse_actors=True,
            checkpoint_config=tune.CheckpointConfig(checkpoint_frequency=1, num_to_keep=2),
            raise_on_failed_trial=False,
            callbacks=[recorder, *tables.values(), photographer],
            verbose=0,
        )
    ledger.close()
    yield SimpleNamespace(photographer=photographer, screens=screens, tables=tables)
    for screen in screens.values():
        screen.close()


@pytest.mark.parametrize("size", SIZES)
def test_what_matters_is_on_a_screen_of_any_size(sweep, size, pictures):
    width, dimensions = size
    said = sweep.photographer.taken[size]
    (pictures / f"live_table_{width}_{dimensions}.txt").write_text(said + "\n")
    lines = [line.rstrip() for line in said.splitlines()]
    assert len(lines) <= 24 and max(map(len, lines)) <= width
    words = " ".join(said.split())
    assert re.match(rf"\d+ of {TRIALS} trials ended, .* so far, .*left", words)
    assert re.search(r"CPU .* spent, .* saved by stopping", words)
    assert "What no model made scores: grey 206, mean image 100.3, real images 1.553" in words
    head = next(k for k, line in enumerate(lines) if "FD" in line.split())
    rows = [line.split() for line in lines[head + 1 :] if re.match(r"\s*★?\d+ (?!more: )", line)]
    assert rows[0][0] == f"★{sweep.photographer.best}"
    shown = [int(row[0].strip("★")) for row in rows]
    running = [n for n in sweep.photographer.running if n != sweep.photographer.best]
    assert sorted(shown[1 : 1 + len(running)]) == sorted(running)
    numbers = 1 + dimensions + 2  # number, settings, epoch, score
    assert all(len(row) > numbers and "…" not in "".join(row[:numbers]) for row in rows)
    assert any(re.search(r"\d+ more: ", line) for line in lines)
    state = {row[numbers].rstrip("!") for row in rows[1 : 1 + len(running)]}
    assert state <= {"running", MARKS["running"], "±"}


@pytest.mark.parametrize("size", SIZES)
def test_why_a_trial_waits_is_told_on_every_screen(sweep, size):
    words = " ".join(sweep.photographer.taken[size].split())
    assert re.search(r"epoch \d: [\d.]+, \d+(st|nd|rd|th) of \d+(, cut [\d.]+|, the first ones wait|)", words)
    if size[0] == 200:  # in each row of a trial that waits, however many have room
        waiting = re.findall(
            r"^ *\d+ (?!more).*(?:waiting|stopped)(.*)$", sweep.photographer.taken[size], re.M
        )
        assert waiting and all(re.search(r"epoch \d: |all samples alike", rest) for rest in waiting)


def test_nothing_of_the_table_stays_when_all_trials_are_told_next(sweep):
    assert all(not screen.text().strip() for screen in sweep.screens.values())


def test_time_left_ends_with_the_sweep(sweep):
    table = sweep.tables[200, 4]
    assert table.time_left() == "ending"
    assert math.isclose(table.rule.spent, sum(r.epoch for r in table.records.values()))


def test_what_starts_and_pauses_take_counts_in_the_time_left(monkeypatch):
    """An epoch of 2 s that comes after 10 s: with one worker, three further ones take 30 s."""
    now = [0.0]
    monkeypatch.setattr(live_table, "time", SimpleNamespace(monotonic=lambda: now[0]))
    record = TrialRecord("a", 1, {"beta": 1.0})
    console = Console(file=io.StringIO())
    table = LiveTable({"a": record}, Told("fid", "min", ["beta"], 2), num_samples=2, console=console)
    trial = SimpleNamespace(trial_id="a", status="RUNNING")
    assert table.time_left() == "time left is known after the first result"
    table.on_trial_start(0, [], trial)
    now[0], record.metrics[1] = 10.0, {SECONDS: 2.0, "fid": 1.0}
    table.on_trial_result(0, [], trial, {SECONDS: 2.0})
    table.on_step_end(0, [trial])
    assert table.time_left() == "about 30 s left"
    now[0] = 14.0
    assert table.time_left() == "about 26 s left"


def test_a_trial_that_ends_is_a_line_where_there_is_no_terminal():
    record = TrialRecord("a", 1, {"beta": 1.0}, {1: {"fid": 7.5}}, FAILED, "RuntimeError: out of memory")
    console = Console(file=io.StringIO(), width=40)
    table = LiveTable({}, Told("fid", "min", ["beta"], 2), num_samples=2, console=console)
    table.records["a"] = record
    for _ in range(2):
        table.on_step_end(0, [])
    said = console.file.getvalue()
    assert said.startswith("trial 1/2: beta 1, epoch 1/2, fid 7.5, failed (RuntimeError: out of memory); ")
    assert said.count("\n") == 1
