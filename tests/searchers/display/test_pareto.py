"""Several objectives: what of a sweep is on the front, how it is told, drawn and recorded."""

import json
import math
from types import SimpleNamespace

import pytest
from PIL import Image
from ray import tune

from searchers.bayesopt.searcher import BayesOptSearch
from searchers.beta_vaegan import main
from searchers.display.pareto import FIGURE, ParetoFigure, describe, draw, front
from searchers.record.ledger import Ledger
from searchers.record.schema import FRONT_TAG
from searchers.record.trials import TrialRecord
from tests.fixtures.command import refusal
from tests.searchers.test_beta_vaegan import TINY, mlflow_runs, run

VALUES = {10.0: (5.0, 0.1), 60.0: (7.0, 0.3), 110.0: (8.0, 0.2), 140.0: (9.0, 0.4), 150.0: (6.0, math.nan)}
STUDY = SimpleNamespace(
    metric="fd", mode="min", objectives={"mig": "max"}, space={"beta": tune.uniform(1, 150)}
)


@pytest.fixture
def ended(tmp_path):
    """Four trials of two scores each, one of them beaten in both by another, and one without a score."""
    search = BayesOptSearch(STUDY.space, "fd", "min", objectives=STUDY.objectives)
    recorder = SimpleNamespace(records={}, folder=tmp_path, ledger=Ledger(tmp_path / "ledger.jsonl"))
    for number, (beta, (fd, mig)) in enumerate(VALUES.items(), start=1):
        trial = str(number)
        search.suggest(trial)
        search.on_trial_complete(trial, {"fd": fd, "mig": mig, "training_iteration": 2})
        record = TrialRecord(trial, number, {"beta": beta}, {2: {"fd": fd, "mig": mig}}, "finished")
        recorder.records[trial] = record
    return search, recorder


def test_the_front_is_told_by_the_first_score_without_what_is_beaten(ended):
    search, recorder = ended
    on_front = front(STUDY, search, [r for r in recorder.records.values() if r.number != 5])
    assert [record.number for record in on_front] == [1, 2, 4]
    told = describe(STUDY, on_front).splitlines()
    assert told[0] == "Pareto front of fd and mig:"
    assert told[2].strip() == "trial 2, beta = 60: 7, 0.3"


def test_the_front_is_drawn_and_recorded(ended):
    search, recorder = ended
    woken = []
    delivery = SimpleNamespace(wake=lambda: woken.append(True))
    ParetoFigure(STUDY, search, recorder, delivery).draw()
    with Image.open(recorder.folder / FIGURE) as drawn:
        assert drawn.size[0] > 500
    events = [json.loads(line) for line in (recorder.folder / "ledger.jsonl").read_text().splitlines()]
    assert [event["event"] for event in events] == ["figure", "note"]
    assert events[1]["tags"] == {FRONT_TAG: "1, 2, 4"}
    assert woken


@pytest.mark.parametrize(
    ("space", "names"), [(STUDY.space, {"β = 10"}), ({**STUDY.space, "penalty": 1}, {"trial 1"})]
)
def test_a_point_of_the_front_is_named_by_its_setting_or_where_that_is_long_by_its_number(
    ended, space, names
):
    _, recorder = ended
    records = [record for record in recorder.records.values() if record.number != 5]
    figure = draw(SimpleNamespace(**{**vars(STUDY), "space": space}), records, records[:1])
    assert {text.get_text() for text in figure.axes[0].texts} >= names


def test_nothing_is_drawn_before_a_trial_has_ended(tmp_path):
    search = BayesOptSearch(STUDY.space, "fd", "min", objectives=STUDY.objectives)
    recorder = SimpleNamespace(records={}, folder=tmp_path)
    ParetoFigure(STUDY, search, recorder, None).draw()
    assert not (tmp_path / FIGURE).exists()


@pytest.mark.slow
def test_a_sweep_for_image_quality_and_disentanglement(tmp_path):
    done = run(
        tmp_path,
        tmp_path / "cache",
        *TINY.split(),
        *("--objectives", "fd", "mig", "--num-samples", "5", "--epochs", "1", "--name", "both"),
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Pareto front of fd_random and disentanglement/mig:" in done.stdout
    assert "results/both/pareto.png" in done.stdout
    client, (parent,), trials = mlflow_runs(tmp_path)
    assert all(math.isfinite(trial.data.metrics["disentanglement/mig"]) for trial in trials)
    assert "disentanglement/sap" not in trials[0].data.metrics
    assert json.loads(parent.data.tags["latentune.objectives"]) == {
        "fd_random": "min",
        "disentanglement/mig": "max",
    }
    values = {
        trial.data.tags["latentune.number"]: (
            trial.data.metrics["fd_random"],
            -trial.data.metrics["disentanglement/mig"],
        )
        for trial in trials
    }
    unbeaten = {
        number
        for number, value in values.items()
        if not any(o != value and o[0] <= value[0] and o[1] <= value[1] for o in values.values())
    }
    assert set(parent.data.tags[FRONT_TAG].split(", ")) == unbeaten
    assert "pareto.png" in {file.path for file in client.list_artifacts(parent.info.run_id)}


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--objectives", "mig", "mig"], "--objectives is mig mig; it must be one or more, each once"),
        (["--objectives", "fid"], "--objectives"),
        (["--objectives", "mig", "--dataset", "pictures"], "needs data whose factors are known"),
        (["--objectives", "fd", "mig", "--warm-start", "x"], "--warm-start knows one score of a trial"),
    ],
)
def test_bad_input_gets_a_sentence(tmp_path, arguments, sentence, monkeypatch, capsys):
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for i in range(40):
        Image.new("RGB", (16, 16), (6 * i, 90, 200 - i)).save(pictures / f"{i}.png")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert sentence in refusal(main, capsys, *TINY.split(), *arguments)
