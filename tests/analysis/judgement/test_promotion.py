"""What becomes champion: a package that loads, of the right trial, with nothing unsaid against it."""

import json
import shlex
from dataclasses import replace
from pathlib import Path

import pytest
from mlflow.exceptions import MlflowException

from analysis import winners
from analysis.judgement import promotion
from analysis.record.sweeps import find
from analysis.record.tables import Tables, load
from searchers.record.schema import FLAGS_TAG, RETRAINS_TAG, WEIGHTS_FOLDER
from tests.fixtures.recorded import METRIC, Imagined, record
from trainables.models.storage import save_model
from trainables.models.vaegan import VAEGAN

SETTINGS = {"image_size": 16, "width": 0.1, "latent_dim": 5}
REFERENCES = (400.0, 300.0, 10.0)  # the made-up scores are below the mean image's


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    folder = tmp_path_factory.mktemp("weights")
    model = VAEGAN(VAEGAN.configure(SETTINGS), seed=3)
    save_model(folder, VAEGAN, model.hyperparameters(), model.state_dict(), epoch=9)
    return folder


@pytest.fixture
def sweep(folder, client, weights, request):
    """A sweep whose best trial has its weights on record, named after the test."""
    name = request.node.name.replace("[", "-").replace("]", "")
    imagined = Imagined(name, trials=3, images=False, stopping=False, references=REFERENCES)
    record(imagined, folder / name, client.tracking_uri)
    tables = load(client, name)
    client.log_artifacts(tables.best_first()["run_id"].iloc[0], str(weights), WEIGHTS_FOLDER)
    return tables


@pytest.fixture
def loads(monkeypatch):
    """The check takes seconds, and has its own test."""
    monkeypatch.setattr(promotion, "why_not_loaded", lambda *_: None)


def promote(client, name, *arguments):
    command = ["--tracking-uri", client.tracking_uri, "--sweep", name, "--promote", *arguments]
    return winners.main([*command, "--model-name", f"model-{name}"])


def champion(client, name):
    return client.get_model_version_by_alias(f"model-{name}", "champion")


def packaged(client, name):
    """Return the description of the model in the champion's package."""
    source = client.get_model_version_download_uri(f"model-{name}", champion(client, name).version)
    (description,) = Path(source).rglob("model.json")
    return description.read_text()


def nothing_registered(client, name):
    return not [m for m in client.search_registered_models() if m.name == f"model-{name}"]


def test_what_cannot_be_loaded_does_not_become_champion(client, sweep, monkeypatch, tmp_path, capsys):
    """The alias stays where it was, and what was registered for the trial goes again."""
    name, run_id = sweep.sweep.name, sweep.best_first()["run_id"].iloc[0]
    with monkeypatch.context() as patched:
        patched.setattr(promotion, "why_not_loaded", lambda *_: None)
        assert promote(client, name) == 0
    before = packaged(client, name)
    (tmp_path / "model.json").write_text(json.dumps({"model": "trainables.models.none:None", "config": {}}))
    client.log_artifacts(run_id, str(tmp_path), WEIGHTS_FOLDER)
    assert promote(client, name) == 2
    error = " ".join(capsys.readouterr().err.split())
    assert "is not promoted: its package cannot be loaded: " in error and "Traceback" not in error
    assert str(champion(client, name).version) == "1"
    assert packaged(client, name) == before and "VAEGAN" in before  # what is served is not written over
    assert [str(v.version) for v in client.search_model_versions(f"name = 'model-{name}'")] == ["1"]
    client.delete_registered_model(f"model-{name}")
    monkeypatch.setattr(promotion, "why_not_loaded", lambda *_: "it is broken")
    assert promote(client, name) == 2
    assert nothing_registered(client, name)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("stopped", "it is stopped at epoch 3 of 12"),
        ("collapsed", "it has collapsed: its images are all but one picture"),
        ("poor", "it does not beat the mean training image, which scores 300"),
    ],
    ids=("stopped", "collapsed", "poor"),
)
def test_what_speaks_against_a_trial_is_said_and_overruled_by_name(
    client, sweep, loads, capsys, change, words, monkeypatch
):
    name, best = sweep.sweep.name, sweep.best_first().iloc[0]
    if change == "stopped":  # of a longer sweep, in which no trial came to its end
        changed = sweep.trials.assign(status="stopped", epoch=3)
        changed[f"metrics.{METRIC}"] = [sweep.curves(METRIC).loc[3, n] for n in changed["number"]]
        history = sweep.history[sweep.history["epoch"] <= 3]
        longer = replace(sweep.sweep, params=sweep.sweep.params | {"epochs": "12"})
        monkeypatch.setattr(winners, "load", lambda *_: Tables(longer, changed, history))
        best = changed.loc[changed[f"metrics.{METRIC}"].idxmin()]
        source = sweep.best_first()["run_id"].iloc[0]
        if best["run_id"] != source:
            path = client.download_artifacts(source, WEIGHTS_FOLDER)
            client.log_artifacts(best["run_id"], path, WEIGHTS_FOLDER)
    elif change == "collapsed":
        client.set_tag(best["run_id"], FLAGS_TAG, "discriminator_wins,collapsed")
    else:
        for k, run_id in enumerate(sweep.best_first()["run_id"]):
            client.log_metric(run_id, METRIC, 301.0 + 10 * k, step=9, timestamp=9_000_000_000_000)
    assert promote(client, name) == 2
    said = capsys.readouterr()
    assert f"is not promoted: {words}; --anyway does it." in said.err
    assert f"But {words}." in said.out.splitlines()[0]
    assert nothing_registered(client, name)
    assert promote(client, name, "--anyway") == 0
    assert champion(client, name).tags["objections"] == words


def test_a_flag_that_was_cleared_speaks_against_nobody(client, sweep, loads):
    run_id = sweep.best_first()["run_id"].iloc[0]
    client.set_tag(run_id, FLAGS_TAG, "collapsed")
    client.set_tag(run_id, FLAGS_TAG, "")
    assert promote(client, sweep.sweep.name) == 0
    assert "objections" not in champion(client, sweep.sweep.name).tags


def test_after_retraining_the_best_training_of_the_best_setting_is_promoted(
    folder, client, sweep, weights, loads
):
    name, best = sweep.sweep.name, sweep.best_first().iloc[0]
    points = tuple({"beta": best["params.beta"], "seed": seed} for seed in (1000, 1001, 1002))
    again = Imagined(
        f"{name}-seeds",
        trials=3,
        images=False,
        stopping=False,
        points=points,
        tags=((RETRAINS_TAG, sweep.sweep.sweep_id),),
        references=REFERENCES,
    )
    record(again, folder / again.name, client.tracking_uri)
    trained = load(client, again.name).best_first()
    assert promote(client, name) == 0
    assert champion(client, name).run_id == best["run_id"]  # no other weights are on record
    for run_id in trained["run_id"]:
        client.log_artifacts(run_id, str(weights), WEIGHTS_FOLDER)
    assert promote(client, name) == 0
    version = champion(client, name)
    assert version.run_id == trained["run_id"].iloc[0] and version.tags["sweep"] == again.name
    assert float(version.tags["value"]) == trained[f"metrics.{METRIC}"].iloc[0]


def test_names_that_the_registry_refuses_are_a_sentence(client, sweep, loads, capsys):
    command = ["--tracking-uri", client.tracking_uri, "--sweep", sweep.sweep.name, "--promote"]
    assert winners.main([*command, "--model-name", "a/b:c"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("python -m analysis.winners: MLflow refused: ") and error.count("\n") == 1


def test_the_commands_can_be_pasted_whatever_the_names():
    words = promotion.how_to_use("sqlite:////tmp/it's here/mlflow.db", "a 'model'")
    served = next(line for line in words.splitlines() if "mlflow models serve" in line)
    parsed = shlex.split(served)
    assert "MLFLOW_TRACKING_URI=sqlite:////tmp/it's here/mlflow.db" in parsed
    assert parsed[parsed.index("-m") + 1] == "models:/a 'model'@champion"
    python = "\n".join(line.strip() for line in words.splitlines()[1:5])
    compile(python, "<said>", "exec")


def test_the_commands_run_from_any_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = promotion.how_to_use("sqlite:///mlflow.db", "faces")
    assert words.count(f"sqlite:///{tmp_path}/mlflow.db") == 2 and "import mlflow" in words


def test_a_version_says_what_it_draws_and_scores(client):
    tables = load(client, "one")
    best = tables.best_first().iloc[0]
    said = promotion.described(client, tables, best)
    assert said.startswith("![what it draws](get-artifact?path=images%2Fsamples%2Bstep%2B9%2B")
    assert f"run_uuid={best['run_id']}" in said
    assert f"Best: trial {best['number']}" in said and "- hash of the images: 0123abcd" in said


def test_a_failing_command_leaves_no_alias(client, sweep, loads, monkeypatch):
    def refuse(*_, **__):
        raise MlflowException("no space left. The rest is a traceback")

    monkeypatch.setattr(type(client), "log_artifacts", refuse)
    assert promote(client, sweep.sweep.name) == 2
    assert nothing_registered(client, sweep.sweep.name)
    assert find(client, sweep.sweep.name).state == "finished"
