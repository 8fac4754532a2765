"""Sampling settings tried on a recorded model: the table, the figure, the errors."""

import pandas as pd
import pytest

from analysis import sampling
from analysis.judgement.evaluation import Evaluation
from analysis.record.store import AnalysisError
from analysis.record.tables import load
from analysis.record.trained_model import TrainedModel
from searchers.record.schema import WEIGHTS_FOLDER
from tests.fixtures.recorded import Imagined, record
from trainables.data import sources
from trainables.metrics.extractors.features import load_extractor
from trainables.models.edm import EDM
from trainables.models.flow import Flow
from trainables.models.storage import save_model


@pytest.fixture(scope="module")
def evaluation(tmp_path_factory):
    """A real one, of few small images."""
    cache = tmp_path_factory.mktemp("data")
    store = sources.load("faces", image_size=16, limit=60, cache_dir=cache)
    extractor = load_extractor("random")
    row = {"params.dataset": "faces", "params.dataset_limit": 60, "params.image_size": 16}
    row |= {"params.cache_dir": str(cache), "params.features": str(extractor.identity)}
    row |= {"params.data_hash": store.content_hash, "metrics.evaluated_images": 20.0}
    return Evaluation.of(pd.Series(row, dtype=object))


@pytest.fixture(scope="module")
def name(folder, client, tmp_path_factory):
    """A sweep whose best trial has the weights of a flow on record."""
    weights, name = tmp_path_factory.mktemp("weights"), "flows"
    model = Flow(Flow.configure({"image_size": 16, "width": 0.25}))
    save_model(weights, Flow, model.hyperparameters(), model.state_dict(), epoch=9)
    record(Imagined(name, trials=3, images=False, stopping=False), folder / name, client.tracking_uri)
    best = load(client, name).best_first()["run_id"].iloc[0]
    client.log_artifacts(best, str(weights), WEIGHTS_FOLDER)
    return name


@pytest.fixture
def run(client, tmp_path, monkeypatch, evaluation):
    monkeypatch.setattr(Evaluation, "of", lambda *_: evaluation)
    shared = ["--tracking-uri", client.tracking_uri, "--output", str(tmp_path)]
    return lambda *arguments: sampling.main([*arguments, *shared])


def test_every_combination_is_scored_and_the_front_is_marked(run, name, tmp_path, capsys):
    assert run("--sweep", name, "--values", "steps=1,2,1", "sampler=euler,midpoint") == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    rows = [line for line in lines if "euler" in line or "midpoint" in line]
    found = [(row[5], row[1], row[3]) for row in rows]  # network evaluations, steps, sampler
    assert sorted(found) == [
        ("1", "1", "euler"),
        ("2", "1", "midpoint"),
        ("2", "2", "euler"),
        ("4", "2", "midpoint"),
    ]
    assert [cost for cost, *_ in found] == ["1", "2", "2", "4"]
    assert "front" in rows[0]  # nothing is cheaper
    assert (tmp_path / name / "sampling.png").stat().st_size > 10_000


def test_numbers_that_sampling_leaves_are_one_sentence(evaluation):
    model = TrainedModel(EDM(EDM.configure({"image_size": 16, "width": 0.25})).eval(), {})
    with pytest.raises(AnalysisError, match=r"With rho = 0\.001 no images can be drawn: .+"):
        sampling.measured(model, {"rho": 0.001}, evaluation)  # its levels of noise are beyond all floats


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--sweep", "empty"], "has no"),
        (["--sweep", "flows", "--values", "steps"], "--values steps: it takes NAME=VALUE,VALUE"),
        (["--sweep", "flows", "--values", "steps=2", "steps=5"], "--values steps=5: steps is given twice"),
        (["--sweep", "flows", "--values", "stps=3"], "stps is no setting of sampling of Flow"),
    ],
)
def test_bad_input_is_one_sentence_and_exit_code_2(run, name, capsys, arguments, words):
    assert run(*arguments) == 2
    captured = capsys.readouterr()
    assert words in " ".join(captured.err.split()) and not captured.out
