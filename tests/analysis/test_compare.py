"""Sweeps beside each other: the best fully trained trial over the epochs spent, by hand and from MLflow."""

import math
import re
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from analysis.compare import at, best_so_far, main
from analysis.record.sweeps import find, sweeps
from analysis.record.tables import Tables


def tables(rows, mode="min", complete=("0", "1", "2")):
    """Return a sweep's tables of rows (trial, epoch, value), in the order in which they were reported."""
    history = pd.DataFrame(rows, columns=["number", "epoch", "value"]).assign(metric="fd")
    history["time"] = range(len(history))
    numbers = sorted({row[0] for row in rows})
    last = history.groupby("number")["epoch"].max()
    trials = pd.DataFrame({"number": numbers, "epoch": last[numbers].to_numpy()})
    trials["status"] = ["finished" if str(n) in complete else "stopped" for n in numbers]
    sign = 1 if mode == "min" else -1
    sweep = SimpleNamespace(metric="fd", mode=mode, sign=sign, epochs=4)
    return Tables(sweep, trials, history)


def test_epochs_of_all_trials_add_up_and_only_whole_trainings_count():
    # 0: epochs 2, 4; 1: stopped at 2 with a value that beats all; 2: epochs 2, 4, in between.
    rows = [(0, 2, 9.0), (1, 2, 1.0), (2, 2, 8.0), (0, 4, 7.0), (2, 4, 5.0)]
    curve = best_so_far(tables(rows, complete=("0", "2")))
    assert list(curve.index) == [2, 4, 6, 8, 10]
    np.testing.assert_equal(curve.to_numpy(), [math.nan, math.nan, math.nan, 7.0, 5.0])


def test_the_greatest_counts_where_more_is_better():
    rows = [(0, 4, 3.0), (1, 4, 5.0), (2, 4, 4.0)]
    assert list(best_so_far(tables(rows, mode="max"))) == [3.0, 5.0, 5.0]


def test_a_diverged_last_epoch_is_no_best():
    rows = [(0, 4, 3.0), (1, 4, math.nan), (2, 4, -math.inf)]
    assert list(best_so_far(tables(rows))) == [3.0, 3.0, 3.0]


def test_a_curve_holds_its_value_until_the_next_and_no_longer():
    curve = pd.Series([7.0, 5.0], index=[4, 8])
    np.testing.assert_equal(at(curve, [2, 4, 6, 8, 9]), [math.nan, 7.0, 7.0, 5.0, math.nan])


def test_the_command_draws_and_tells(tracking_uri, tmp_path, capsys):
    figure = tmp_path / "new" / "paid.png"
    arguments = ["one", "going-on", "--tracking-uri", tracking_uri, "--output", str(figure)]
    assert main(arguments) == 0
    said = capsys.readouterr().out
    assert "one" in said and "going-on" in said and "epochs to" in said
    with Image.open(figure) as drawn:
        assert drawn.size[0] > 1000


def test_two_sweeps_of_one_name_are_two_lines(client, tracking_uri, tmp_path, capsys):
    ids = [sweep.sweep_id for sweep in sweeps(client) if sweep.name == "twin"]
    command = ["--tracking-uri", tracking_uri, "--output", str(tmp_path / "twins.png")]
    assert main([*ids, *command]) == 0
    said = capsys.readouterr().out
    assert all(f"twin ({sweep_id})" in said for sweep_id in ids) and "±" not in said
    assert main([ids[0], "one", "one", *command, "--by", "epochs"]) == 0
    assert re.search(r"│ 9 +│ +2 │", capsys.readouterr().out)


def test_a_sweep_by_its_name_and_by_its_id_is_one(client, tracking_uri, capsys):
    assert main(["one", find(client, "one").sweep_id, "--tracking-uri", tracking_uri]) == 2
    assert "Name two sweeps or more." in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["one"], "Name two sweeps"),
        (["one", "one"], "Name two sweeps"),
        (["one", "nothing"], "no sweep 'nothing'"),
        (["one", "empty"], "has no trial"),
        (["one", "inception"], "not comparable"),
        (["one", "going-on", "--by", "colour"], "has no setting 'colour'"),
        (["one", "going-on", "--output", "figure.gif"], "its name ends in .png"),
    ],
)
def test_what_cannot_be_compared_is_said(arguments, sentence, tracking_uri, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main([*arguments, "--tracking-uri", tracking_uri]) == 2
    assert sentence in " ".join(capsys.readouterr().err.split())
    assert not list(tmp_path.glob("*.*"))
